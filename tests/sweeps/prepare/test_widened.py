"""A sweep that has run is asked to search a wider space."""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import pytest

from kdas.errors import UserError
from sweeps.file.loading import recorded_spec
from sweeps.file.spec import SweepSpec
from sweeps.prepare.unchanged import check_spec, keep_spec
from sweeps.record.directory import SweepDirectory
from sweeps.space.space import Point
from tests.sweeps.conftest import search_of
from tests.sweeps.searches import Load

RATE = {"low": 0.3, "high": 0.9}
STEPS = {"low": 0.2, "high": 0.6, "step": 0.2}
EPOCHS = {"low": 4, "high": 8}
LAMBDA = {"low": 0.1, "high": 100, "log": True}


def of(content: Any) -> dict[str, Any]:
    return content if isinstance(content, dict) else {"choices": content}


@pytest.mark.parametrize(
    ("name", "before", "now"),
    [
        ("start_rate", RATE, {"low": 0.1, "high": 0.9}),
        ("start_rate", RATE, {"low": 0.1, "high": 0.95}),
        ("start_rate", STEPS, {"low": 0.2, "high": 0.8, "step": 0.2}),
        ("start_rate", STEPS, {"low": 0.1, "high": 0.7, "step": 0.1}),
        ("penalty_lambda", LAMBDA, {"low": 0.01, "high": 1000, "log": True}),
        ("epochs", EPOCHS, {"low": 2, "high": 9}),
        ("epochs", {**EPOCHS, "step": 2}, EPOCHS),
        ("epochs", EPOCHS, {**EPOCHS, "step": 1}),
        ("sampling_period", [[1, 3, 5, 10], 1], [1, 2, [1, 3, 5, 10]]),
        ("sampler", ["kdas"], ["random", "kdas"]),
        ("loss", ["kd", {"name": "kd", "temperature": 2}], ["dkd", "kd", {"name": "kd", "temperature": 2}]),
    ],
    ids=str,
)
def test_values_that_contain_the_recorded_ones_are_searched_from_now_on(
    load: Load, directory: SweepDirectory, name: str, before: Any, now: Any
) -> None:
    keep_spec(load({name: before, "end_rate": RATE}), directory)
    assert not check_spec(load({name: before, "end_rate": RATE}), directory)
    assert check_spec(load({name: now, "end_rate": RATE}, budget={"configurations": 9}), directory)
    keep_spec(load({name: now, "end_rate": RATE}), directory)
    if of(now).get("step") != 1:  # which means the same
        with pytest.raises(UserError, match=rf"search\.{name}\."):
            check_spec(load({name: before, "end_rate": RATE}), directory)


@pytest.mark.parametrize(
    ("name", "before", "now", "said"),
    [
        ("start_rate", RATE, {"low": 0.4, "high": 0.95}, r"search\.start_rate\.low was 0\.3 .* and is 0\.4"),
        ("start_rate", RATE, {"low": 0.1, "high": 0.8}, r"search\.start_rate\.high was 0\.9 .* and is 0\.8"),
        ("start_rate", RATE, {"low": 0.2, "high": 1, "log": True}, r"search\.start_rate\.log was False .* is True"),
        ("start_rate", RATE, {**RATE, "step": 0.1}, r"search\.start_rate\.step was None .* and is 0\.1"),
        ("start_rate", STEPS, {"low": 0.1, "high": 0.7, "step": 0.2}, r"search\.start_rate\.low was 0\.2 .* is 0\.1"),
        ("start_rate", STEPS, {"low": 0.2, "high": 0.8, "step": 0.3}, r"search\.start_rate\.step was 0\.2 .* is 0\.3"),
        # A proposal of 0.12344 stands for the end, and would be 0.1234 in a wider range.
        ("start_rate", {"low": 0.12345, "high": 0.9}, {"low": 0.1, "high": 0.9}, r"start_rate\.low was 0\.12345"),
        ("start_rate", {"low": 0.2, "high": 0.6}, [0.2, 0.6], r"search\.start_rate\.low was 0\.2 .* is None"),
        ("sampling_period", [[1, 3, 5, 10], 1], [1, 3], r"search\.sampling_period\.choices was \[\[1, 3, 5, 10\], 1\]"),
        (
            "threshold",
            {"low": 0.1, "high": 0.3, "when": {"start_rate": 0.5}},
            {"low": 0.1, "high": 0.4, "when": {"start_rate": 0.6}},
            r"search\.threshold\.when\.start_rate was 0\.5",
        ),
    ],
    ids=str,
)
def test_other_changes_are_refused_by_the_key_that_loses_values(
    load: Load, directory: SweepDirectory, name: str, before: Any, now: Any, said: str
) -> None:
    other = {"start_rate": [0.5, 0.6]} if name == "threshold" else {"end_rate": RATE}
    keep_spec(load({name: before, **other}), directory)
    with pytest.raises(UserError, match=rf"{said}.* now\. Wider ranges and more choices are allowed\. ") as refused:
        check_spec(load({name: now, **other}), directory)
    assert "\n" not in str(refused.value)


def test_parameters_stay_the_same(load: Load, directory: SweepDirectory) -> None:
    keep_spec(load({"start_rate": RATE}), directory)
    with pytest.raises(UserError, match=r"search\.end_rate was missing when this sweep began"):
        check_spec(load({"start_rate": {"low": 0.1, "high": 0.9}, "end_rate": RATE}), directory)


def test_the_search_of_a_method_may_widen(load: Load, directory: SweepDirectory) -> None:
    def tuned(high: float) -> SweepSpec:
        search = {"optimizer.learning_rate": {"low": 0.01, "high": high, "log": True}}
        return load({"start_rate": RATE}, baselines={"plain_kd": "full", "t": {"sampler": "full", "search": search}})

    keep_spec(tuned(0.1), directory)
    assert check_spec(tuned(0.2), directory)
    with pytest.raises(UserError, match=r"baselines\.t\.search\.optimizer\.learning_rate\.high was 0\.1 .* Wider"):
        check_spec(tuned(0.05), directory)


SPACES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ranges": (
        {"start_rate": RATE, "penalty_lambda": LAMBDA},
        {"start_rate": {"low": 0.1, "high": 0.95}, "penalty_lambda": {**LAMBDA, "high": 1000}},
    ),
    "values": (
        {"start_rate": STEPS, "sampling_period": [[1, 3, 5, 10], 1]},
        {"start_rate": {"low": 0.1, "high": 0.7, "step": 0.1}, "sampling_period": [1, 2, [1, 3, 5, 10]]},
    ),
    "conditions": (
        {"sampler": ["kdas", "random"], "start_rate": STEPS, "threshold": [0.1, 0.2]},
        {
            "sampler": ["static_random", "kdas", "random"],
            "start_rate": {**STEPS, "high": 0.8},
            "threshold": [0.3, 0.1, 0.2],
        },
    ),
}
RUNS = [
    *((algorithm, "ranges") for algorithm in ("tpe", "random", "gp", "cmaes", "nsga2")),
    *((algorithm, "values") for algorithm in ("tpe", "random", "gp", "nsga2", "grid", "brute_force")),
    *((algorithm, "conditions") for algorithm in ("tpe", "random", "nsga2", "brute_force")),
]


@pytest.mark.parametrize(("algorithm", "space"), RUNS)
def test_a_widened_search_resumes_as_one_that_was_not_interrupted(
    load: Load, directory: SweepDirectory, tmp_path: Path, algorithm: str, space: str
) -> None:
    narrow, wide = (
        load(search, algorithm={"name": algorithm, "startup": 3}, budget={"configurations": 40})
        for search in SPACES[space]
    )

    def go_on(spec: SweepSpec, journal: Path, until: int, *, is_interrupted: bool = False) -> list[Point]:
        study = search_of(journal, spec)
        while len(study.asked()) < until and (asked := study.ask()) is not None:
            study.tell(asked.number, [_result(asked.point)])
            if is_interrupted:
                study = search_of(journal, spec)
        return [each.point for each in study.asked()]

    count = 6 if algorithm in ("grid", "brute_force") else 14
    before = go_on(narrow, directory.study_file, count)
    keep_spec(narrow, directory)
    assert check_spec(wide, directory)
    keep_spec(wide, directory)
    copy = tmp_path / "copy.journal"
    copy.write_bytes(directory.study_file.read_bytes())
    after = go_on(wide, directory.study_file, count + 14)
    assert after[:count] == before
    assert go_on(recorded_spec(directory.spec_file), copy, count + 14, is_interrupted=True) == after
    new = after[count:]
    assert any(not narrow.space[name].values.holds(value) for point in new for name, value in point.items())
    if algorithm in ("grid", "brute_force"):
        every = go_on(wide, directory.study_file, 10**6)
        names = {parameter.name: parameter.values.values(parameter.kind) or [] for parameter in wide.space.parameters}
        combinations = wide.space.combinations(names)
        assert len(every) == len(combinations) and all(point in every for point in combinations)


def test_an_algorithm_with_a_state_goes_on_from_what_it_has_learned(load: Load, directory: SweepDirectory) -> None:
    narrow, wide = (load(search, algorithm={"name": "cmaes", "startup": 3}) for search in SPACES["ranges"])
    values: list[float] = []
    for spec, count in ((narrow, 48), (wide, 60)):
        study = search_of(directory.study_file, spec)
        while len(study.asked()) < count and (asked := study.ask()) is not None:
            rate, strength = asked.point["start_rate"], asked.point["penalty_lambda"]
            values.append((rate - 0.6) ** 2 + ((math.log10(strength) - 1) / 4) ** 2)
            study.tell(asked.number, values[-1:])
    assert statistics.fmean(values[48:]) < statistics.fmean(values[:12]) / 2, "a state that is lost begins at random"


def _result(point: Point) -> float:
    """Best outside the narrow spaces."""
    return float(sum((value - 0.75) ** 2 for name, value in point.items() if name == "start_rate"))
