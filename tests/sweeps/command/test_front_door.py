"""What the Makefile, the command line and the README promise."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.places import ROOT

TARGETS = ["setup", "sweep", "preview", "status", "simulate", "report", "ui", "notebooks"]
TARGETS += ["compare", "watch", "test", "test-floor", "torture", "check", "bench"]


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
    ("arguments", "message"),
    [
        (["sweep", ""], "NAME is not given. Name a sweep:"),
        (["sweep", "digit_kd"], "Did you mean digits_kd?"),
        (["report", "never_run"], "no sweep has run here"),
        (["sweep", "digits_kd", "--set", "seed=3"], "SET seed=3: seed: unknown key. Did you mean seeds?"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sweeps.command.front", *arguments],
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
    assert done.stdout.splitlines() == ["<sweep>", "<digits_kd>", "<--set>", f"<{settings}>"], done.stderr
    assert make(*words).stdout.splitlines() == ["<sweep>", "<digits_kd>"]


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
