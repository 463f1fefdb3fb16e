"""What `NAME` and `DATA` may be, and what is said of something else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kdas.errors import UserError, nearest
from sweeps.__main__ import app
from sweeps.command import front
from sweeps.file.layers import directory_of, spec_path
from sweeps.file.loading import load_spec
from sweeps.prepare.unchanged import spec_text
from sweeps.record.directory import SweepDirectory
from sweeps.record.paths import sweep_path
from tests.sweeps.file.refusals import BASE, written


def test_folder_or_missing_file_as_a_name_is_told_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "runs"))
    (tmp_path / "here").mkdir()
    for name, message in (
        ("here", r"^NAME=here: is a folder\. Give the path of a \.yaml file\.$"),
        ("digit_kd", r"^sweeps/files/digit_kd\.yaml: no such sweep file\. Did you mean digits_kd\?$"),
        (
            "agian",
            r"^sweeps/files/agian\.yaml: no such .*\. Known: .*digits_kd.*\. For your own file, NAME is its path\.$",
        ),
        ("none.yaml", r"^none\.yaml: no such sweep file\. Known: cifar10_kd, cifar_kd, digits_kd, methods_digits\.$"),
    ):
        with pytest.raises(UserError, match=message):
            spec_path(name)
    written(tmp_path / "here", BASE, "b.yaml")
    with pytest.raises(UserError, match=r"^NAME=here: is a folder\. Give a file in it: b\.yaml\.$"):
        spec_path("here")


def test_path_that_is_no_sweep_file_is_told_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "runs"))
    (tmp_path / "here").mkdir()
    remedy = "Give the name of a sweep, or the path of a file that ends in .yaml."
    for name, what in (
        ("/etc/passwd", "is not the name of a sweep"),
        (str(tmp_path), "is a folder"),
        (f"{tmp_path}/here/", "is a folder"),
        ("a/b/c", "is not the name of a sweep"),
    ):
        with pytest.raises(UserError, match=rf"^NAME={re.escape(repr(name))}: {what}\. {re.escape(remedy)}$"):
            sweep_path(name)
    with pytest.raises(UserError, match=r"^NAME=here/: is a folder\. Give the path of a \.yaml file\.$"):
        spec_path("here/")


def test_ending_of_a_sweep_file_may_be_in_capitals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "runs"))
    path = written(tmp_path, BASE, "UP.YAML")
    assert spec_path("UP.YAML") == path.relative_to(tmp_path) or spec_path("UP.YAML") == path
    assert directory_of(path) == sweep_path("UP.YAML") == tmp_path / "runs" / "UP"
    with pytest.raises(UserError, match=r"^Upp\.YML: no such sweep file\. Did you mean UP\.YAML\?$"):
        spec_path("Upp.YML")


def test_name_of_a_recorded_sweep_resumes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "runs"))
    spec = load_spec(written(tmp_path, BASE))
    runs = tmp_path / "runs" / "mine"
    runs.mkdir(parents=True)
    (runs / "sweep.yaml").write_text(spec_text(spec), encoding="utf-8")
    path = spec_path("mine")
    assert (path, directory_of(path)) == (runs / "sweep.yaml", runs)
    assert load_spec(path) == spec
    assert directory_of(tmp_path / "mine.yaml") == runs
    with pytest.raises(UserError, match=r"^NAME=runs/mine: is a folder\. To resume the sweep in it, give NAME=mine\.$"):
        spec_path("runs/mine")
    with pytest.raises(UserError, match=r"no such sweep file\. Did you mean mine\?$"):
        spec_path("minne")
    (tmp_path / "mine.yaml").unlink()
    with pytest.raises(
        UserError, match=r"^mine\.yaml: no such sweep file\..* NAME=mine resumes the sweep in runs/mine\.$"
    ):
        spec_path("mine.yaml")


def test_data_that_are_a_file_are_refused(tmp_path: Path) -> None:
    archive = tmp_path / "cifar.tar.gz"
    archive.touch()
    path = written(tmp_path, {**BASE, "dataset": "cifar10"})
    with pytest.raises(UserError, match=r"^DATA=.*cifar\.tar\.gz: is a file\. Unpack it if it is an archive, and give"):
        load_spec(path, str(archive))


def test_status_of_a_misspelt_name_is_told_the_nearest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "sweep.yaml").touch()
    for name, message in (
        ("digitskd", r"digitskd: no sweep has run here\. Did you mean NAME=digits_kd\?$"),
        ("mina", r"mina: no sweep has run here\. Did you mean NAME=mine\?$"),
        ("digits_kd", r"digits_kd: no sweep has run here\. Start one with make sweep NAME=digits_kd\."),
    ):
        result = CliRunner().invoke(app, ["status", name])
        assert re.search(message, str(result.exception)), result.exception


def test_sweep_without_its_file_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    SweepDirectory(tmp_path / "mine").trial("abc-s1").path.mkdir(parents=True)
    for command in ("status", "tables", "check", "sync"):
        said = str(CliRunner().invoke(app, [command, "mine"]).exception)
        assert said.startswith(
            f"{tmp_path}/mine/sweep.yaml: missing. Restore it from a copy, or run the sweep with its"
        )


def test_comparing_sweeps_that_never_ran_names_them_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    said = str(CliRunner().invoke(front.app, ["compare", "one two"]).exception)
    assert said == f'NAMES="one two": no sweep has run as one or two in {tmp_path}.'
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "sweep.yaml").touch()
    said = str(CliRunner().invoke(front.app, ["compare", "one mine"]).exception)
    assert said == f'NAMES="one mine": no sweep has run as one in {tmp_path}. Known: mine.'


def test_a_name_that_ships_and_has_run_is_offered_once() -> None:
    assert nearest("agian", ["digits_kd", "mine", "digits_kd"]) == "Known: digits_kd, mine."
