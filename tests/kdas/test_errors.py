"""What ends a program in one line, and how warnings are told."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdas.errors import UserError, run_command_line
from tests.places import ROOT

SAYS = f"""
import sys, warnings
sys.path.insert(0, {str(ROOT)!r})
from kdas import errors

def app(standalone_mode):
    warnings.warn_explicit("a set: said in one line.", UserWarning, errors.__file__, 1)
    warnings.warn_explicit("of a library", UserWarning, "library.py", 7)
    raise errors.UserError("a mistake\\nof two lines")

errors.run_command_line(app)
"""


def test_mistakes_and_warnings_are_one_line_each() -> None:
    ended = subprocess.run([sys.executable, "-c", SAYS], capture_output=True, text=True, check=False)
    ours, theirs, mistake = ended.stderr.splitlines()
    assert ours == "a set: said in one line." and mistake == "a mistake of two lines"
    assert theirs == "library.py:7: UserWarning: of a library" and ended.returncode == 2


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("mine.yaml: seeds:\n3 too many."), "mine.yaml: seeds: 3 too many."),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/runs/mine/sweep.yaml"),
            "/runs/mine/sweep.yaml: No space left on device. Free some space, and start again.",
        ),
        (
            OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), "/data/x"),
            "/data/x: File name too long. Give another path, or change this one.",
        ),
        (UserError(f"{'a' * 2_000}{'b' * 2_000}."), f"{'a' * 1_000} ... {'b' * 999}."),
        (UserError("mine.yaml: seeds: got '\x1b[31m3\0'."), r"mine.yaml: seeds: got '\x1b[31m3\x00'."),
        (OSError(errno.EDQUOT, "Quota exceeded"), "Quota exceeded. Free some space, and start again."),
    ],
)
def test_a_mistake_or_a_full_disk_is_one_line(error: Exception, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    def app(*, standalone_mode: bool) -> None:
        raise error

    with pytest.raises(SystemExit, match=r"^2$"):
        run_command_line(app)
    assert capsys.readouterr().err.splitlines() == [line]


def test_other_errors_keep_their_traceback() -> None:
    def app(*, standalone_mode: bool) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    with pytest.raises(PermissionError, match="denied"):
        run_command_line(app)


@pytest.mark.parametrize("module", ["sweeps", "kdas"])
def test_a_python_without_the_packages_is_told_in_one_line(module: str, tmp_path: Path) -> None:
    # -I and -S leave out the installed packages; the folder of the source tree is put back by hand.
    code = f"import sys, runpy; sys.path.insert(0, {str(ROOT)!r}); runpy.run_module({module!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{sys.executable} is Python ")
    assert "lacks what this program needs" in line


# Ctrl-C at the worst moment: within an import.
INTERRUPTED = """
import os, runpy, signal, sys

class Finder:
    def find_spec(self, name, *rest):
        if name == sys.argv[0]:
            os.kill(os.getpid(), signal.SIGINT)

module, sys.argv = sys.argv[1], sys.argv[2:]
sys.meta_path.insert(0, Finder())
runpy.run_module(module, run_name="__main__", alter_sys=False)
"""


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("analysis", ["pandas", "report", "x"]),
        ("analysis", ["pandas", "table", "x"]),
        ("analysis", ["pandas", "compare", "x", "y", "--out", "z"]),
        ("kdas", ["torch", "evaluate", "x"]),
        ("kdas", ["torch", "bank", "info"]),
        ("sweeps", ["pydantic", "preview", "digits_kd"]),
    ],
)
def test_ctrl_c_during_an_import_leaves_no_traceback(module: str, words: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, module, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (130, -signal.SIGINT) and "Traceback" not in done.stderr


USAGE = [
    ("sweeps", ["bogus"], ": no such command 'bogus'. Known: best, calibrate, check, compare,"),
    ("sweeps", ["sweeep", "a"], ": no such command 'sweeep'. Did you mean sweep?"),
    ("sweeps", ["sweep", "a", "--dta", "b"], " sweep: no such option --dta. Did you mean --data?"),
    (
        "sweeps",
        ["sweep", "digits_kd", "--set", "epochs", "3"],
        " sweep: unexpected '3'. Put words that belong together in quotes. Write a setting as --set KEY=VALUE.",
    ),
    ("sweeps", ["sweep"], " sweep: missing argument"),
    ("sweeps", ["sweep", "a", "--data"], "Option '--data' requires an argument. See --help."),
    ("sweeps", ["statsu", "a"], "python -m sweeps: no such command 'statsu'. Did you mean status?"),
    ("sweeps", ["simulate", "a", "--replays", "many"], "python -m sweeps simulate: invalid value for '--replays': "),
    ("kdas", ["bank", "infoo"], "python -m kdas bank: no such command 'infoo'. Did you mean info?"),
    ("analysis", ["comprae"], "python -m analysis: no such command 'comprae'. Did you mean compare?"),
]


@pytest.mark.parametrize(("module", "words", "line"), USAGE, ids=[" ".join(words) for _, words, _ in USAGE])
def test_wrong_words_of_a_command_are_one_line(module: str, words: list[str], line: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2 and ended.stdout == ""
    assert line in ended.stderr and len(ended.stderr.splitlines()) == 1 and "Input should" not in ended.stderr


def test_help_is_shown_as_before() -> None:
    for words, code in ([], 2), (["--help"], 0):
        ended = subprocess.run(
            [sys.executable, "-m", "analysis", *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert ended.returncode == code and "Usage: python -m analysis" in ended.stdout + ended.stderr
