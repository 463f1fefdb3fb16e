"""Several mistakes of one sweep file are told together, each in a line of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdas.errors import UserError
from sweeps.file.loading import load_spec
from tests.sweeps.file.refusals import BASE, RATE, search, written

MANY = {
    "epoch": 3,
    "learning_rate": 0.1,
    "seeds": 0,
    "baselines": ["full", "kdas"],
    "search": {"start_rate": {"low": "0,3", "high": 0.9}},
    "sampler": {"name": "kdas", "start_rat": 0.5, "threshold": 0.9},
    "loss": [{"name": "kdd", "weight": 1}, {"name": "kd"}],
    "optimizer": {"momentum": 2, "weight_decay": -1},
}


def test_all_mistakes_are_told_each_in_a_line_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    changes = {key: MANY[key] for key in ("epoch", "seeds", "sampler", "loss", "optimizer")}
    with pytest.raises(UserError, match=r".") as caught:
        load_spec(written(tmp_path, {**BASE, **changes}))
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        ["mine.yaml", "loss.0.name"],
        ["mine.yaml", "loss.1.weight"],
        ["mine.yaml", "optimizer.momentum"],
        ["mine.yaml", "optimizer.weight_decay"],
        ["mine.yaml", "sampler.threshold"],
        ["mine.yaml", "sampler.start_rat"],
        ["mine.yaml", "seeds"],
        ["mine.yaml", "epoch"],
    ]
    assert all(line.endswith((".", "?")) for line in lines)


def test_ten_mistakes_are_told_and_the_others_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r".") as caught:
        load_spec(written(tmp_path, {**BASE, **MANY, "known_point": 1}))
    lines = str(caught.value).splitlines()
    assert len(lines) == 11 and lines[-1] == "mine.yaml: and 2 more mistakes."


def test_mistakes_in_what_is_searched_and_between_blocks_are_told_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = {**search(start_rat=RATE, lr=[0.1], threshold=[0.1]), "seeds": [1, 1], "confirm": {"seeds": [7, 7]}}
    with pytest.raises(UserError, match=r".") as caught:
        load_spec(written(tmp_path, {**BASE, **changes}))
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [
        "search.start_rat",
        "search.lr",
        "seeds",
        "confirm.seeds",
    ]
    changes = search(start_rate={**RATE, "high": 7}, threshold=[0.1, 0.9], end_rate=[0.4])
    with pytest.raises(UserError, match=r".") as caught:
        load_spec(written(tmp_path, {**BASE, **changes}))
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["search.start_rate", "search.threshold"]


def test_mistakes_of_all_cells_are_told_and_a_common_one_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = {"a": {"epochs": 0}, "b": {"student": "resnt8"}, "c": {}}
    with pytest.raises(UserError, match=r".") as caught:
        load_spec(written(tmp_path, {**BASE, "kd_weight": -1, "cells": cells}))
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [
        "kd_weight",
        "cells.a.epochs",
        "cells.b.student",
    ]


def test_mistakes_of_several_layers_name_each_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, {**BASE, "epoch": 3}, "base.yaml")
    path = written(tmp_path, {"extends": "base.yaml", "lr": 0.1})
    with pytest.raises(UserError, match=r".") as caught:
        load_spec(path, settings=["seeds=0"])
    assert sorted(line.split(": ")[0] for line in str(caught.value).splitlines()) == [
        "SET seeds=0",
        "base.yaml",
        "mine.yaml",
    ]


def test_mistakes_of_single_keys_and_between_keys_are_told_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = {
        "epochs": True,
        "evaluations": "many",
        "epoch": 3,
        "seeds": [1, 1],
        "accumulate": 9,
        "batch_size": 8,
        "scheduler": "asha",
        "objective": "pareto",
        "algorithm": "cmaes",
        **search(start_rate=[0.4, 0.5]),
    }
    with pytest.raises(UserError, match=r".") as caught:
        load_spec(written(tmp_path, {**BASE, **changes}))
    assert sorted(line.split(": ")[1] for line in str(caught.value).splitlines()) == [
        "accumulate",
        "algorithm",
        "epoch",
        "epochs",
        "evaluations",
        "seeds",
    ]


def test_check_that_needs_a_key_with_a_mistake_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # With the default seeds, or without baselines, other numbers of trials would be too few.
    changes = {"seeds": 0, "budget": {"trials": 5}, "search": {"sampler": ["kdas", "randm"]}, "sampler": "infobatch"}
    with pytest.raises(UserError, match=r".") as caught:
        load_spec(written(tmp_path, {**BASE, **changes}))
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == ["search.sampler.1.name", "seeds"]


def test_mistakes_of_cells_of_both_kinds_are_told_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cells = {"a": {"evaluations": 0, "accumulate": 600}, "b": {"seeds": [3, 3]}}
    with pytest.raises(UserError, match=r".") as caught:
        load_spec(written(tmp_path, {**BASE, "cells": cells}))
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()] == [
        "cells.a.evaluations",
        "cells.a.accumulate",
        "cells.b.seeds",
    ]
