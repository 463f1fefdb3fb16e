"""The trials of a sweep, and the names of their configurations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kdas.recipe.config import TrialConfig
from kdas.training.trial import Inputs, config_id
from sweeps.file.layers import FILES
from sweeps.file.loading import load_spec
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from tests.sweeps.conftest import identify_by


def test_the_same_setting_has_the_same_id_for_all_seeds(spec: SweepSpec, inputs: Inputs) -> None:
    first, second = plan_of(spec, identify_by(inputs)).baselines[:2]
    assert first.config_id == second.config_id
    assert (first.trial_id, second.trial_id) == (f"{first.config_id}-s1", f"{first.config_id}-s2")
    ids = {job.config_id for job in plan_of(spec, identify_by(inputs)).baselines}
    assert len(ids) == 3
    longer = spec.model_copy(update={"epochs": 4})
    assert plan_of(longer, identify_by(inputs)).baselines[0].config_id not in ids


def test_a_searched_setting_that_equals_a_baseline_is_that_baseline(spec: SweepSpec, inputs: Inputs) -> None:
    jobs = plan_of(spec, identify_by(inputs)).searched({"start_rate": 0.6, "sampling_period": [1, 3, 5, 10]})
    assert {job.method for job in jobs} == {"kdas_paper"}
    assert {job.method for job in plan_of(spec, identify_by(inputs)).searched({"start_rate": 0.61})} == {"kdas_search"}


def test_a_configuration_is_named_once_for_all_its_seeds(spec: SweepSpec, inputs: Inputs) -> None:
    named: list[int] = []

    def identify(config: TrialConfig) -> str:
        named.append(config.seed)
        return config_id(config, inputs)

    many = spec.model_copy(update={"seeds": [1, 2, 7, 8]})
    plan = plan_of(many, identify)
    assert {job.config.seed for job in plan.baselines} == {1, 2, 7, 8}
    assert len(named) == len(spec.baselines)
    jobs = plan.searched({"start_rate": 0.5, "sampling_period": [3]})
    assert len(named) == len(spec.baselines) + 1
    assert [job.config.seed for job in jobs] == [1, 2, 7, 8]
    assert {job.config_id for job in jobs} == {config_id(jobs[3].config, inputs)}


@pytest.fixture
def by_hand(inputs: Inputs) -> Inputs:
    """The digits with a fixed teacher id, since the id of trained weights differs between machines."""
    return replace(inputs, teacher=replace(inputs.teacher, weights_id="by-hand"), device="cpu")


def test_trials_of_a_shipped_sweep_keep_the_names_under_which_they_were_trained(
    by_hand: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdas.training.trial.MEASURE_VERSION", 2)
    # The file has more evaluations since, which makes other trials.
    spec = load_spec(FILES / "digits_kd.yaml", None, ["evaluations=90"])
    ids = {job.method: job.config_id for job in plan_of(spec, identify_by(by_hand)).baselines}
    assert {method: ids[method] for method in ("plain_kd", "rs2", "kdas_paper")} == {
        "plain_kd": "5ba4c21f83b6df04",
        "rs2": "6cc5f05113ad6a66",
        "kdas_paper": "373f1ba36311c40f",
    }
    point = {"start_rate": 0.7091, "end_rate": 0.4483, "penalty_lambda": 0.04767, "threshold": 0.05316}
    (searched, *_) = plan_of(spec, identify_by(by_hand)).searched({**point, "sampling_period": 4})
    assert (searched.method, searched.config_id) == ("kdas_search", "d5c200384c8928c0")
