"""Configurations that are added to a sweep that has run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kdas.errors import UserError
from sweeps.file.added import with_added, with_recorded
from sweeps.file.spec import SweepSpec
from sweeps.prepare.unchanged import check_spec, keep_spec
from sweeps.record.control import change_requests, keep_added, read_requests
from sweeps.record.directory import SweepDirectory


@pytest.fixture
def begun(spec: SweepSpec, directory: SweepDirectory) -> SweepDirectory:
    keep_spec(spec, directory)
    return directory


def test_an_added_configuration_is_kept_with_the_raised_number(spec: SweepSpec, begun: SweepDirectory) -> None:
    more, new = with_added(
        spec, ["start_rate=.5 SAMPLING_PERIOD=[1, 3, 5, 10]", "start_rate=0.8 sampling_period=3"], begun
    )
    assert new == [
        {"start_rate": 0.5, "sampling_period": [1, 3, 5, 10]},
        {"start_rate": 0.8, "sampling_period": 3},
    ]
    assert more.num_configurations == spec.num_configurations + 2 == 4
    assert more.space.first[-2:] == tuple(new)
    check_spec(more, begun)
    keep_added(begun, new, more.num_configurations)
    # A plain start has them, before and after a kill, from the file or from what the sweep has recorded.
    assert with_recorded(spec, begun) == more
    keep_spec(more, begun)
    assert with_recorded(spec, begun) == with_recorded(more, begun) == more
    check_spec(with_recorded(spec, begun), begun)
    # The same command again adds nothing.
    assert with_added(more, ["start_rate=0.5 sampling_period=[1,3,5,10]"], begun) == (more, [])
    with pytest.raises(UserError, match=r"known_points: \{'start_rate': 0\.5, .*\} was there .* and is missing"):
        check_spec(spec, begun)
    # Adding one takes back the end of a search, also of one that was to search more.
    change_requests(begun, lambda asked: replace(asked, finishes=True, finished_at=50))
    keep_added(begun, [], more.num_configurations)
    assert not read_requests(begun).finishes
    # The number of a file that asks for more holds.
    raised = SweepSpec.model_validate({**spec.model_dump(), "budget": {"configurations": 9}})
    assert with_recorded(raised, begun).num_configurations == 9
    assert len(read_requests(begun).added) == 2


def test_a_budget_of_trials_grows_by_a_configuration(spec: SweepSpec, begun: SweepDirectory) -> None:
    of_trials = SweepSpec.model_validate({**spec.model_dump(), "budget": {"trials": 11}})
    more, _ = with_added(of_trials, ["start_rate=.5 sampling_period=3"], begun)
    assert (of_trials.num_configurations, more.num_configurations, more.budget.trials) == (2, 3, 12)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "start_rate=7 sampling_period=3",
            r"ADD\.start_rate: expected 0\.3 to 0\.9, as in search\.start_rate, got 7\.",
        ),
        ("start_rate=.5 sampling_periods=3", "ADD: expected a value for every key of search, and no other. Add or rem"),
        ("start_rate=.5", "ADD: expected a value for every key of search, and no other. Add or remove sampling_period"),
        ("start_rate", "ADD start_rate: expected key=value for every key of search. For example"),
        ("=1", "ADD =1: expected key=value"),
        ("start_rate=", "ADD start_rate=: expected key=value"),
        ("start_rate=.5 START_RATE=.6 sampling_period=3", "START_RATE is given twice"),
        ("start_rate={ sampling_period=3", "the value of start_rate is not valid YAML"),
    ],
)
def test_a_configuration_outside_the_space_is_one_line(
    spec: SweepSpec, begun: SweepDirectory, text: str, said: str
) -> None:
    with pytest.raises(UserError, match=said) as refused:
        with_added(spec, [text], begun)
    assert "\n" not in str(refused.value)


def test_nothing_is_added_to_a_sweep_that_has_not_run(spec: SweepSpec, directory: SweepDirectory) -> None:
    with pytest.raises(UserError, match=r"tiny has not run yet\. Add the configuration to known_points in its file"):
        with_added(spec, ["start_rate=.5 sampling_period=3"], directory)


def test_a_sweep_with_cells_names_the_other_way(load: Callable[..., SweepSpec], begun: SweepDirectory) -> None:
    rate: dict[str, Any] = {"start_rate": {"low": 0.3, "high": 0.9}}
    cells = load(rate, cells={"a": {"epochs": 3}, "b": {"epochs": 4}})
    with pytest.raises(UserError, match=r"this sweep has cells\. Add the configuration to known_points"):
        with_added(cells, ["start_rate=.5"], begun)


def test_a_recorded_configuration_outside_a_changed_space_is_one_line(spec: SweepSpec, begun: SweepDirectory) -> None:
    more, new = with_added(spec, ["start_rate=.35 sampling_period=3"], begun)
    keep_added(begun, new, more.num_configurations)
    search = {"START_RATE": {"low": 0.5, "high": 0.9}, "SAMPLING_PERIOD": [[1, 3, 5, 10], 1, 3]}
    changed = SweepSpec.model_validate({**spec.model_dump(), "search": search})
    with pytest.raises(
        UserError, match=r"control\.json: known_points\.1\.start_rate: expected 0\.5 to 0\.9"
    ) as refused:
        with_recorded(changed, begun)
    assert "\n" not in str(refused.value)
