"""A trial to run, and its settings in one line."""

from __future__ import annotations

from typing import Any

import pytest

from kdas.recipe.config import TrialConfig
from sweeps.record.job import Job


def job(searched: dict[str, Any] | None = None, of_sampler: tuple[str, ...] = (), **content: Any) -> Job:
    recipe = {"dataset": {"name": "digits"}, "teacher": {"model": "resnet8", "epochs": 1}, "student": "resnet8"}
    config = TrialConfig(**{**recipe, "seed": 7, **content})
    return Job("some_method", "search", config, "some-config", tuple((searched or {}).items()), of_sampler)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (job(sampler="full"), "every sample"),
        (job(sampler="kdas"), "defaults"),
        (
            job(sampler={"name": "kdas", "start_rate": 0.7, "sampling_period": [1, 4]}),
            "start_rate 0.7 · sampling_period 1, 4",
        ),
        (job(sampler="kdas", of_sampler=("start_rate",)), "start_rate 0.6"),
        (job(sampler="full", kd_weight=4), "kd_weight 4"),
        (job({"kd_weight": 9, "batch_size": 32}, sampler="full", batch_size=32), "batch_size 32"),
        (job({"loss": {"name": "dkd"}}, sampler="full", loss="dkd"), "loss dkd"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_settings_in_a_line_say_what_was_searched_or_is_unusual(given: Job, shown: str) -> None:
    assert given.configuration == shown


def test_a_trial_is_called_by_its_configuration_and_its_seed() -> None:
    assert job(sampler="full").trial_id == "some-config-s7"
