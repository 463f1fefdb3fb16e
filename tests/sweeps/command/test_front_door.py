"""What the Makefile, the command line and the README promise."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT, STORED_SWEEP

TARGETS = ["setup", "sweep", "preview", "calibrate", "status", "simulate", "report", "ui", "sync", "notebooks"]
TARGETS += ["table", "compare", "best", "export", "reproduce", "watch", "test", "test-floor", "torture", "check"]
TARGETS += ["finish", "pause", "resume", "stop", "bench"]


def make(*words: str) -> subprocess.CompletedProcess[str]:
    # Under `make test`, this make would inherit flags that make it print the folders it enters.
    env = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(["make", *words], cwd=ROOT, env=env, capture_output=True, text=True, check=False)


def test_help_is_the_default_and_lists_every_target() -> None:
    done = make()
    assert done.returncode == 0
    listed = re.findall(r"^  make ([\w-]+)", done.stdout, re.MULTILINE)
    assert set(TARGETS) <= set(listed)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seeds=5", 'seeds: no such variable. Did you mean SET="seeds=5"?'),
        ("METHODS=kdas_search", "METHODS: no such variable. Known: NAME DATA SET "),
        ("a'b=1", "a'b: no such variable. Did you mean"),
    ],
)
def test_a_variable_that_nothing_reads_is_refused(word: str, said: str) -> None:
    done = make("best", "NAME=x", word)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1


def test_every_variable_that_a_recipe_reads_may_be_given() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    read = set(re.findall(r"\$\(if \$\(([A-Z_]+)\)", text)) - {"LOWER"}
    known = set(re.findall(r"^KNOWN := (.*)$", text, re.MULTILINE)[0].split())
    assert read <= known and {"NAME", "METHOD", "TRIAL", "OUT"} <= read | {"NAME"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sweep", ""], "NAME is not given. Name a sweep:"),
        (["sweep", "digit_kd"], "Did you mean digits_kd?"),
        (["report", "never_run"], "no sweep has run here"),
        (["table", "never_run"], "no sweep has run here"),
        (["reproduce", "--", "digits_kd", ""], "TRIAL is not given."),
        (["report", "../x"], "NAME='../x': expected the name of a sweep, got '..'."),
        (["sweep", "...yaml"], "NAME='...yaml': expected the name of a sweep, got '..'."),
        (["sweep", "--", "-x.yaml"], "NAME='-x.yaml': expected the name of a sweep, got '-x'."),
        (["sweep", "a\nb.yaml"], r"NAME='a\nb.yaml': expected the name of a sweep"),
        (["reproduce", "digits_kd", ""], "TRIAL is not given. Give a trial's id"),
        (["stop", "digits_kd", " "], "TRIAL is not given. Give a trial's id"),
        (["watch", "compare"], "NAME='compare': compare is reserved in RUNS_DIR."),
        (["sweep", "digits_kd", "--set", "seed=3"], "SET seed=3: seed: unknown key. Did you mean seeds?"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sweeps", *arguments],
        env={"RUNS_DIR": str(tmp_path), "KDAS_CACHE": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_make_passes_settings_on_as_they_are_written(tmp_path: Path) -> None:
    program = tmp_path / "kdas-sweeps"
    program.write_text('#!/bin/sh\nfor word in "$@"; do echo "<$word>"; done\n')
    program.chmod(0o755)
    settings = """seeds=5 loss={"name": 'dkd', beta: 6} sampler=$kdas"""
    words = ("-o", ".venv/.ready", "sweep", f"BIN={tmp_path}", "NAME=digits_kd")
    done = make(*words, f"SET={settings.replace('$', '$$')}")
    assert done.stdout.splitlines() == ["<sweep>", "<--set>", f"<{settings}>", "<-->", "<digits_kd>"], done.stderr
    assert make(*words).stdout.splitlines() == ["<sweep>", "<-->", "<digits_kd>"]


def hostile(marker: Path) -> list[str]:
    """What make or a shell would run if it read them, each of which creates `marker`."""
    run = f"touch {marker}"
    return [
        f"`{run}`",
        f"$$({run})",
        f"$(shell {run})",
        f"${{shell {run}}}",
        f"a; {run}",
        f'a"; {run}; "',
        f"a'; {run}; '",
        f"a\n{run}",
        f"a && {run}",
        f"a | {run}",
        f"a > {marker}",
        f"a $$(>{marker})",
        f'"`{run}`"',
        f"$(eval X := $$(shell {run}))",
        f"\\`{run}`\\",
        f"$(file >{marker},x)",
        f"$$`{run}`",
    ]


@pytest.mark.parametrize(
    ("target", "variables"),
    [
        ("sweep", ["NAME", "DATA", "SET", "ADD", "CLUSTER", "YES"]),
        ("finish", ["NAME", "DATA", "SET", "CLUSTER", "YES"]),
        ("preview", ["NAME", "DATA", "SET"]),
        ("calibrate", ["NAME", "DATA", "SET"]),
        ("status", ["NAME"]),
        ("simulate", ["NAME", "SEARCH", "SCHEDULER", "SLOTS", "REPLAYS", "SURROGATE", "WARM"]),
        ("report", ["NAME", "TARGET"]),
        ("table", ["NAME", "FORMAT"]),
        ("compare", ["NAMES"]),
        ("watch", ["NAME", "PORT"]),
        ("ui", ["NAME", "PORT", "RUNS_DIR"]),
        ("sync", ["NAME"]),
        ("bench", ["NAME", "DATA", "QUICK"]),
    ],
)
def test_make_runs_nothing_that_a_variable_holds(tmp_path: Path, target: str, variables: list[str]) -> None:
    for name in ("kdas-sweeps", "python"):
        program = tmp_path / name
        program.write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
        program.chmod(0o755)
    marker = tmp_path / "was_run"
    for value in hostile(marker):
        done = make("-o", ".venv/.ready", target, f"BIN={tmp_path}", *(f"{name}={value}" for name in variables))
        assert not marker.exists(), value
        assert done.returncode == 0, done.stderr
        passed_on = set(variables) - {"YES", "SURROGATE", "QUICK", "RUNS_DIR"}
        assert done.stdout.count(f"<{value.replace('$$', '$')}>") == len(passed_on), done.stdout


def test_make_takes_variables_of_the_environment_as_they_are(tmp_path: Path) -> None:
    program, marker = tmp_path / "kdas-sweeps", tmp_path / "was_run"
    program.write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    program.chmod(0o755)
    value = f"$(shell touch {marker})`touch {marker}`"
    environment = {name: text for name, text in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    done = subprocess.run(
        ["make", "-o", ".venv/.ready", "report", f"BIN={tmp_path}"],
        cwd=ROOT, env=environment | {"NAME": value}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == f"<report><--><{value}>" and not marker.exists()


def commands_of_the_readme() -> list[str]:
    blocks = re.findall(r"```(?:sh|bash|console)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def test_the_readmes_quick_start_is_two_commands() -> None:
    assert {"make sweep NAME=digits_kd", "make test"} <= set(commands_of_the_readme())


@pytest.mark.parametrize("command", [c for c in commands_of_the_readme() if re.match(r"(\w+=\S+ )*make ", c)])
def test_every_make_command_of_the_readme_is_a_target(command: str) -> None:
    words = [word for word in command.split() if "=" not in word and word != "make"]
    assert len(words) <= 1
    assert set(words) <= {*TARGETS, "lock", "format"}


@pytest.mark.parametrize("command", [c for c in commands_of_the_readme() if ".venv/bin/" in c])
def test_every_other_command_of_the_readme_exists(command: str) -> None:
    program = command.split(".venv/bin/")[1].split()
    assert shutil.which(program[0], path=str(Path(sys.executable).parent))
    if program[:2] == ["python", "-m"]:
        done = subprocess.run([sys.executable, *program[1:4], "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0


def moved(tmp_path: Path, interpreter: str, told: str) -> str:
    """What make says in a folder whose .venv has this interpreter, and programs that were made in the folder `told`."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", tmp_path)
    for name in ("requirements.lock", "pyproject.toml"):
        (tmp_path / name).touch()
    (tmp_path / ".venv" / ".ready").touch()
    (programs / "python").symlink_to(interpreter)
    (programs / "kdas-sweeps").write_text(f"#!{told}/python3\n", encoding="utf-8")
    done = make("-C", str(tmp_path), "--no-print-directory", "status", "NAME=mine")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    return done.stderr


def test_a_folder_that_was_moved_is_told_in_one_line(tmp_path: Path) -> None:
    assert f"{tmp_path}/.venv: it was made for /elsewhere/.venv/bin. Remove" in moved(
        tmp_path, sys.executable, "/elsewhere/.venv/bin"
    )


def test_a_python_that_is_gone_is_told_in_one_line(tmp_path: Path) -> None:
    assert f"{tmp_path}/.venv: its Python is gone. Remove this folder, then run make setup" in moved(
        tmp_path, "/nowhere/python3", str(tmp_path / ".venv" / "bin")
    )


def test_table_of_a_paper_is_printed_alone(tmp_path: Path) -> None:
    shutil.copytree(STORED_SWEEP, tmp_path / "stored")
    (tmp_path / "stored" / "sweep.yaml").unlink()  # its trials are not stored
    env = {**os.environ, "RUNS_DIR": str(tmp_path), "KDAS_CACHE": str(tmp_path / "cache")}

    def front(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sweeps", *words]
        return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)

    done = front("table", "--format", "csv", "stored")
    assert done.returncode == 0 and done.stdout.startswith("method,tuned,test accuracy,"), done.stderr
    refused = front("table", "--format", "pdf", "stored")
    assert refused.returncode == 2
    assert refused.stderr == "format: expected one of latex, markdown, csv, got 'pdf'. Write FORMAT=latex.\n"
