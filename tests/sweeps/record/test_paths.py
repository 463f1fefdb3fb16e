"""Where a sweep is, and what its cells are called."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kdas.errors import UserError
from sweeps.file.layers import spec_path
from sweeps.record.paths import names_of_cells, runs_root, sweep_path


@pytest.fixture(autouse=True)
def _runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("digits_kd", "digits_kd"),
        ("some/where/mine.yaml", "mine"),
        ("mine.v2.yml", "mine.v2"),
        ("both/small", "both/cells/small"),
    ],
)
def test_a_sweep_has_the_folder_of_its_name(name: str, path: str, tmp_path: Path) -> None:
    assert sweep_path(name) == tmp_path / path


def test_a_name_is_asked_for() -> None:
    with pytest.raises(UserError, match="NAME is not given"):
        sweep_path(" ")


@pytest.mark.parametrize(
    "name",
    [
        *("..yaml", "...yaml", "some/where/..yaml", ".yaml", "..", ".", "../x", "x/..", "x/../../y", "a/b/c", "/etc/x"),
        *("-x", "x/-y", "-x.yaml", "a\nb", "a\nb.yaml", "a\rb", "a\x00b", "a\\b", ".hidden", "a\udc80b"),
        *("mlflow.db", "mlflow.db.yaml", "MLflow.db.yaml", "mlflow.db-journal", "mlflow-artifacts", "compare"),
        "x" * 300,
    ],
)
def test_a_name_never_leads_out_of_the_folder_of_sweeps_or_to_what_else_is_in_it(name: str) -> None:
    with pytest.raises(
        UserError,
        match=r"^NAME=.*(Rename the sweep file|Give the name of a sweep, or the path of a file that ends in \.yaml)\.$",
    ):
        sweep_path(name)


@pytest.mark.parametrize("name", ["Größe", "a b", "a,b=c", "[b]", "mlflow", "v1.2-rc", "comparing", "$x", "'x'"])
def test_other_names_are_taken_as_they_are(name: str, tmp_path: Path) -> None:
    assert sweep_path(name) == tmp_path / name


def test_recorded_file_names_the_sweep_that_recorded_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path.parent)
    for name in (str(tmp_path / "mine" / "sweep.yaml"), f"{tmp_path.name}/mine/sweep.yaml"):
        assert sweep_path(name) == tmp_path / "mine"
    assert sweep_path("elsewhere/sweep.yaml") == tmp_path / "sweep"


def test_folder_of_a_sweep_is_told_the_name_to_give(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in (f"{tmp_path}/mine", f"{tmp_path}/mine/"):
        with pytest.raises(UserError, match=rf"^NAME='{re.escape(name)}': is a folder\. Give NAME=mine\.$"):
            sweep_path(name)


def test_folder_of_a_sweep_or_cell_below_the_working_directory_is_told_the_name_to_give(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = tmp_path / "mine" / "cells" / "small"
    cell.mkdir(parents=True)
    monkeypatch.chdir(tmp_path.parent)
    for name, given in (
        (f"{tmp_path.name}/mine", "mine"),
        (f"../{tmp_path.parent.name}/{tmp_path.name}/mine", "mine"),
        (f"{tmp_path.name}/mine/cells/small", "mine/small"),
    ):
        with pytest.raises(UserError, match=rf"^NAME='{re.escape(name)}': is a folder\. Give NAME={given}\.$"):
            sweep_path(name)
    monkeypatch.chdir(tmp_path)
    assert sweep_path("mine") == tmp_path / "mine" and sweep_path("mine/small") == cell


def test_recorded_file_of_a_cell_names_that_cell(tmp_path: Path) -> None:
    file = tmp_path / "mine" / "cells" / "small" / "sweep.yaml"
    assert sweep_path(str(file)) == file.parent
    file.parent.mkdir(parents=True)
    file.write_text("")
    with pytest.raises(UserError, match=r"is the file of a cell, which runs with its sweep\. Give NAME=mine\.$"):
        spec_path(str(file))


def test_sweeps_are_in_runs_by_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for nothing in ("", None):
        monkeypatch.setenv("RUNS_DIR", nothing) if nothing is not None else monkeypatch.delenv("RUNS_DIR")
        assert runs_root() == tmp_path / "runs"


def test_a_sweep_consists_of_its_cells_or_of_itself(tmp_path: Path) -> None:
    (tmp_path / "alone").mkdir()
    for cell in ("small", "large"):
        (tmp_path / "both" / "cells" / cell).mkdir(parents=True)
    (tmp_path / "both" / "cells" / "notes.txt").write_text("no cell")
    assert names_of_cells("both") == ["both/large", "both/small"]
    assert names_of_cells("alone") == ["alone"] and names_of_cells("never_begun") == ["never_begun"]


def test_hidden_folders_are_not_cells(tmp_path: Path) -> None:
    for name in ("small", ".ipynb_checkpoints"):
        (tmp_path / "both" / "cells" / name).mkdir(parents=True)
    assert names_of_cells("both") == ["both/small"]


@pytest.mark.parametrize("address", ["s3://bucket/runs", "gs://bucket/runs"])
def test_runs_dir_on_a_store_without_a_file_system_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RUNS_DIR", address)
    with pytest.raises(UserError, match=rf"RUNS_DIR={address}: expected a folder on a file system with locks, got an"):
        sweep_path("digits_kd")
