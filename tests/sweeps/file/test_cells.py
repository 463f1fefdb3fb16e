"""Several pairs, datasets or settings side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pydantic_core import PydanticCustomError

from kdas.parts.yaml_file import read_yaml
from sweeps.file.cells import cell_contents
from sweeps.file.loading import load_spec
from sweeps.file.spec import SweepSpec
from sweeps.prepare.unchanged import spec_text
from tests.sweeps.conftest import TINY, written


def test_sweep_without_cells_has_none() -> None:
    assert load_spec(TINY).cells == {}


def test_each_cell_is_a_sweep_of_its_own(tmp_path: Path) -> None:
    cells = {
        "small": {"student": "resnet14", "target": 0.9},
        "long": {"pair": "resnet14 -> resnet20", "epochs": 5, "teacher": {"seed": 3}, "loss": "dkd"},
    }
    spec = load_spec(written(tmp_path, "mine.yaml", extends=str(TINY), cells=cells))
    alone = load_spec(TINY)
    small, long = spec.cells.values()
    assert list(spec.cells) == ["small", "long"]
    assert small == alone.model_copy(update={"student": "resnet14", "target": small.target})
    assert small.target.accuracy == 0.9
    assert (long.teacher.model, long.teacher.epochs, long.teacher.seed, long.student) == ("resnet14", 2, 3, "resnet20")
    # The weights are the defaults of the cell's own loss.
    assert (long.epochs, long.ce_weight, long.kd_weight) == (5, 1, 1)
    assert not long.cells and not small.cells


def test_grid_has_a_cell_for_each_combination_under_a_name_for_a_folder(tmp_path: Path) -> None:
    content = {key: value for key, value in read_yaml(TINY).items() if key not in ("dataset", "teacher", "student")}
    grid = {
        "dataset": ["digits", {"name": "cifar10", "path": "/data/c"}],
        "pair": ["vgg13 -> vgg8", "resnet20->torchvision/resnet18"],
        "epochs": [2, 3],
    }
    cells = load_spec(written(tmp_path, "mine.yaml", **content, cells=grid)).cells
    assert list(cells)[:3] == [
        "digits_vgg13-vgg8_epochs-2",
        "digits_vgg13-vgg8_epochs-3",
        "digits_resnet20-torchvision-resnet18_epochs-2",
    ]
    assert len(cells) == 8
    last = cells["cifar10_resnet20-torchvision-resnet18_epochs-3"]
    assert (last.dataset["path"], last.teacher.model, last.student, last.epochs) == (
        "/data/c",
        "resnet20",
        "torchvision/resnet18",
        3,
    )


def test_settings_reach_all_cells_and_what_was_recorded_is_the_same_sweep(tmp_path: Path) -> None:
    path = written(tmp_path, "mine.yaml", extends=str(TINY), cells={"a": {"epochs": 2}, "b": {"student": "resnet14"}})
    spec = load_spec(path, settings=["seeds=4", "cells.a.seeds=[9]"])
    assert [cell.seeds for cell in spec.cells.values()] == [[9], [1, 2, 3, 4]]
    for cell in (spec, *spec.cells.values()):
        assert SweepSpec.model_validate(yaml.safe_load(spec_text(cell))) == cell


def test_data_reach_every_cell_that_has_no_dataset_of_its_own(tmp_path: Path) -> None:
    path = written(tmp_path, "mine.yaml", extends=str(TINY), dataset="cifar10", cells={"a": {}, "b": {"epochs": 2}})
    assert [cell.dataset["path"] for cell in load_spec(path, "/data").cells.values()] == ["/data", "/data"]


def test_a_cell_has_its_changes_and_its_complete_content() -> None:
    content = {"epochs": 3, "teacher": {"epochs": 2}, "cells": {"a": {"pair": "vgg13 -> vgg8"}, "b": {"epochs": 4}}}
    cells = cell_contents(content, ["epochs", "teacher", "student", "cells"])
    pair = {"teacher": {"model": "vgg13"}, "student": "vgg8"}
    assert cells["a"] == (pair, {"epochs": 3, "teacher": {"epochs": 2, "model": "vgg13"}, "student": "vgg8"})
    assert cells["b"] == ({"epochs": 4}, {"epochs": 4, "teacher": {"epochs": 2}})


def test_each_cell_has_the_official_settings_of_its_pair(tmp_path: Path) -> None:
    path = tmp_path / "pairs.yaml"
    pairs = {
        "same": {"teacher": {"model": "resnet32x4"}, "student": "resnet8x4"},
        "other": {"teacher": {"model": "resnet32x4"}, "student": "ShuffleV2"},
    }
    content = {**read_yaml(TINY), "preset": "official", "loss": "reviewkd", "cells": pairs}
    for key in ("epochs", "optimizer", "ce_weight", "kd_weight"):
        content.pop(key, None)
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    cells = load_spec(path).cells
    assert {name: (cell.kd_weight, cell.optimizer.learning_rate) for name, cell in cells.items()} == {
        "same": (5, 0.05),
        "other": (8, 0.01),
    }


def test_two_cells_of_a_grid_under_one_name_are_refused() -> None:
    with pytest.raises(PydanticCustomError, match=r"^cells: two cells would be called digits"):
        cell_contents({"cells": {"dataset": ["digits", {"name": "digits"}]}}, ["dataset"])
