"""Sweep files found by name, files that extend others, and settings from the command line."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from kdas.data import DATASETS
from kdas.errors import UserError
from kdas.parts.settings import merged
from kdas.parts.yaml_file import read_yaml
from sweeps.file.layers import FILES, spec_path
from sweeps.file.loading import load_spec
from tests.sweeps.conftest import TINY, written


def test_file_that_extends_nothing_more_is_the_same_sweep(tmp_path: Path) -> None:
    assert load_spec(written(tmp_path, "mine.yaml", extends=str(TINY))) == load_spec(TINY)


def test_shipped_sweep_is_extended_by_its_name(tmp_path: Path) -> None:
    spec = load_spec(written(tmp_path, "mine.yaml", extends="digits_kd", epochs=6))
    assert spec == load_spec(FILES / "digits_kd.yaml").model_copy(update={"epochs": 6})


def test_blocks_are_merged_lists_are_replaced_and_null_takes_away(tmp_path: Path) -> None:
    written(
        tmp_path,
        "base.yaml",
        **{**read_yaml(TINY), "optimizer": {"momentum": 0.8, "clip_norm": 1}, "seeds": [4, 5], "known_points": []},
    )
    search = {"start_rate": {"low": 0.5}, "SAMPLING_PERIOD": None, "END_RATE": [0.4]}
    own = {"optimizer": {"learning_rate": 0.1, "clip_norm": None}, "seeds": [7], "search": search}
    spec = load_spec(written(tmp_path, "mine.yaml", extends="base.yaml", **own))
    assert (spec.optimizer.momentum, spec.optimizer.learning_rate, spec.optimizer.clip_norm) == (0.8, 0.1, None)
    assert spec.seeds == [7] and set(spec.search) == {"start_rate", "end_rate"}
    assert (spec.search["start_rate"].low, spec.search["start_rate"].high) == (0.5, 0.9)


def test_part_of_another_name_brings_none_of_the_parameters_of_the_first() -> None:
    base = {"loss": {"name": "kd", "temperature": 2}}
    assert merged(base, {"loss": {"name": "dkd"}}) == {"loss": {"name": "dkd"}}
    assert merged(base, {"loss": {"name": "kd", "standardize": True}})["loss"]["temperature"] == 2
    assert merged(base, {"loss": {"temperature": 3}}) == {"loss": {"name": "kd", "temperature": 3}}
    assert merged({"loss": "dkd"}, {"loss": {"beta": 6}}) == {"loss": {"name": "dkd", "beta": 6}}
    assert base == {"loss": {"name": "kd", "temperature": 2}}


def test_later_files_of_a_chain_win_and_each_finds_the_next_beside_itself(tmp_path: Path) -> None:
    written(tmp_path / "far", "deep.yaml", **{**read_yaml(TINY), "epochs": 4, "evaluations": 4, "seeds": 4})
    written(tmp_path / "far", "middle.yaml", extends="deep.yaml", epochs=5, seeds=5)
    spec = load_spec(written(tmp_path, "top.yaml", extends="far/middle.yaml", seeds=1))
    assert (spec.evaluations, spec.epochs, spec.seeds) == (4, 5, [1])


def test_plug_in_of_an_extended_file_lies_beside_that_file(tmp_path: Path) -> None:
    written(tmp_path / "far", "base.yaml", **{**read_yaml(TINY), "plugins": "mine_of_far.py"})
    (tmp_path / "far" / "mine_of_far.py").write_text("", encoding="utf-8")
    spec = load_spec(written(tmp_path, "mine.yaml", extends="far/base.yaml"))
    assert spec.plugins == [str(tmp_path / "far" / "mine_of_far.py")]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["seeds=5 budget.configurations=3"], {"seeds": [1, 2, 3, 4, 5], "budget": {"configurations": 3}}),
        (["seeds=[7, 8]", "epochs=2"], {"seeds": [7, 8], "epochs": 2}),
        (["epochs=2", "epochs=4"], {"epochs": 4}),
        (["loss.temperature=2"], {"loss": {"temperature": 2}}),
        (["loss={name: dkd, beta: 6} target=0.9"], {"loss": {"name": "dkd", "beta": 6}, "target": {"accuracy": 0.9}}),
        (["algorithm=random algorithm.seed=3"], {"algorithm": {"name": "random", "seed": 3}}),
        (["search.START_RATE.low=0.5"], {"search": {"start_rate": {"low": 0.5, "high": 0.9}}}),
        (["confirm=true confirm.top=2"], {"confirm": {"top": 2}}),
        (["teacher.optimizer.learning_rate=1e-2"], {"teacher": {"optimizer": {"learning_rate": 0.01}}}),
        (["ema_decay=0.9", "ema_decay=null"], {"ema_decay": None}),
    ],
    ids=str,
)
def test_settings_override_the_file(settings: list[str], expected: dict[str, Any]) -> None:
    def holds(content: Any, part: Any) -> bool:
        if isinstance(part, dict):
            return all(holds(content[key], value) for key, value in part.items())
        return bool(content == part)

    assert holds(load_spec(TINY, settings=settings).model_dump(mode="json"), expected)


@pytest.mark.parametrize("text", ["seeds=5 seeds=4", "search.START_RATE.low=0.5 epochs=3 search.start_rate.low=0.6"])
def test_a_key_that_one_text_gives_twice_is_refused(text: str) -> None:
    key = text.partition("=")[0].lower()
    with pytest.raises(UserError, match=rf"^SET {re.escape(text)}: {key} is given twice\. Give each key once\.$"):
        load_spec(TINY, settings=[text])


def test_setting_adds_a_searched_key_of_another_block() -> None:
    settings = ["known_points=[] search.loss.temperature={low: 1, high: 8} search.loss.temperature.step=1"]
    values = load_spec(TINY, settings=settings).search["loss.temperature"]
    assert (values.low, values.high, values.step) == (1, 8, 1)


def test_an_unknown_sweep_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"digit_kd.yaml: no such sweep file. Did you mean digits_kd\?"):
        spec_path("digit_kd")


def test_no_name_lists_the_sweeps_there_are() -> None:
    with pytest.raises(UserError, match=r"NAME is not given.*digits_kd"):
        spec_path("")


def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path) -> None:
    text = "search: {optimizer.learning_rate: [1e-3, 5E-2], penalty_lambda: {low: 1e-2, high: 1e3}}"
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"extends: digits_kd\nknown_points: [{{optimizer.learning_rate: 1e-3}}]\n{text}\n", encoding="utf-8"
    )
    spec = load_spec(path, settings=["known_points=[]", "search.start_rate=null", "optimizer.weight_decay=1e-3"])
    assert spec.search["optimizer.learning_rate"].choices == [0.001, 0.05]
    assert spec.optimizer.weight_decay == 0.001


PATHS = {"name": "parquet", "path": "data"}


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "data", tmp_path / "far" / "data"):
        folder.mkdir(parents=True)
    teacher = {"model": "resnet20", "checkpoint": "weights.pth"}
    written(tmp_path / "far", "base.yaml", **{**read_yaml(TINY), "dataset": PATHS, "teacher": teacher})
    spec = load_spec(written(tmp_path, "mine.yaml", extends="far/base.yaml"))
    assert spec.dataset["path"] == str(tmp_path / "far" / "data")
    assert spec.teacher.checkpoint == str(tmp_path / "far" / "weights.pth")
    spec = load_spec(written(tmp_path, "mine.yaml", extends="far/base.yaml", dataset={"PATH": "data"}))
    assert spec.dataset["path"] == str(tmp_path / "data")


def test_path_that_is_only_in_the_working_directory_is_found_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here" / "data").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    path = written(tmp_path / "far", "mine.yaml", **{**read_yaml(TINY), "dataset": {"parquet": {"path": "data"}}})
    assert load_spec(path).dataset["path"] == str(tmp_path / "here" / "data")


def test_paths_of_cells_are_relative_to_their_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path / "far", "grid.yaml", extends=str(TINY), cells={"dataset": ["digits", PATHS]})
    written(tmp_path / "far", "named.yaml", extends=str(TINY), cells={"a": {}, "b": {"dataset": PATHS}})
    for name in ("grid", "named"):
        *_, last = load_spec(tmp_path / "far" / f"{name}.yaml").cells.values()
        assert last.dataset["path"] == str(tmp_path / "far" / "data")


def test_file_that_is_nowhere_is_told_by_its_full_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    far = tmp_path / "far"
    path = written(far, "mine.yaml", **{**read_yaml(TINY), "dataset": PATHS})
    with pytest.raises(UserError, match=rf"^{far / 'data'}: no such folder\."):
        DATASETS.build(load_spec(path).dataset)
    path = written(far, "mine.yaml", **{**read_yaml(TINY), "plugins": "parts/mine.py"})
    with pytest.raises(UserError, match=rf"mine\.yaml: plugins: {far / 'parts' / 'mine.py'}: no such file\."):
        load_spec(path)
    (tmp_path / "here" / "parts").mkdir()
    (tmp_path / "here" / "parts" / "mine.py").touch()
    assert load_spec(path).plugins == [str(tmp_path / "here" / "parts" / "mine.py")]


@pytest.mark.parametrize("odd", ["x" * 300, "~nobody-of-this-name/data", "\0"])
def test_path_that_no_file_can_have_is_taken_as_it_is(tmp_path: Path, odd: str) -> None:
    path = written(tmp_path, "mine.yaml", **{**read_yaml(TINY), "dataset": {**PATHS, "path": odd}})
    assert load_spec(path).dataset["path"] == str(tmp_path / odd)
