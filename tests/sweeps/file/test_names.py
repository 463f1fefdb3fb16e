"""What `NAME` and `DATA` may be, and what is said of something else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kdas.errors import UserError
from sweeps.__main__ import app
from sweeps.file.layers import directory_of, spec_path
from sweeps.file.spec import load_spec
from sweeps.prepare.unchanged import spec_text
from tests.sweeps.file.refusals import BASE, written


def test_folder_or_missing_file_as_a_name_is_told_what_to_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "runs"))
    (tmp_path / "here").mkdir()
    for name, message in (
        ("here", r"^NAME=here: is a folder\. Give the path of a \.yaml file\.$"),
        ("digit_kd", r"^sweeps/files/digit_kd\.yaml: no such sweep file\. Did you mean digits_kd\?$"),
        ("none.yaml", r"^none\.yaml: no such sweep file\. Known: cifar10_kd, cifar_kd, digits_kd\.$"),
    ):
        with pytest.raises(UserError, match=message):
            spec_path(name)
    written(tmp_path / "here", BASE, "b.yaml")
    with pytest.raises(UserError, match=r"^NAME=here: is a folder\. Give a file in it: b\.yaml\.$"):
        spec_path("here")


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
