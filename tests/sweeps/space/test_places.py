"""Where a searched parameter is in a trial file."""

from __future__ import annotations

from typing import Any

import pytest

from kdas.parts.terms import checked_terms
from kdas.recipe.config import Recipe
from kdas.recipe.optimizer import OptimizerConfig
from kdas.samplers import SAMPLERS
from sweeps.space.places import RECIPE_PARAMETERS, Place, places_of

KDAS, RANDOM = SAMPLERS.checked("kdas"), SAMPLERS.checked("random")
KD, DKD = checked_terms("kd"), checked_terms("dkd")


def test_parameters_of_parts_that_all_trials_share_have_no_owner() -> None:
    places = places_of([KDAS], [KD])
    assert [(place.path, place.owner) for place in places["start_rate"]] == [(("sampler", "start_rate"), None)]
    assert [(place.path, place.owner) for place in places["loss.temperature"]] == [(("loss", "temperature"), None)]
    assert {*RECIPE_PARAMETERS, "optimizer.learning_rate"} <= set(places)
    assert "fraction" not in places and "loss.beta" not in places


def test_parameters_of_parts_between_which_trials_choose_belong_to_their_choice() -> None:
    places = places_of([KDAS, RANDOM], [KD, DKD])
    assert [place.owner for place in places["start_rate"]] == [KDAS, RANDOM]
    assert [place.owner for place in places["threshold"]] == [KDAS]
    assert [place.owner for place in places["loss.beta"]] == [DKD]
    assert [place.owner for place in places["kd_weight"]] == [None]
    assert {place.part for place in places["start_rate"]} == {"sampler"}


def test_one_of_several_losses_is_named_by_its_number() -> None:
    several = checked_terms([{"name": "kd", "weight": 9}, {"name": "dkd", "weight": 1}])
    places = places_of([KDAS], [several])
    assert [place.path for place in places["loss.1.beta"]] == [("loss", 1, "beta")]
    assert places["loss.0.weight"][0].kind is float


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("start_rate", float),
        ("penalty_warmup", int),
        ("sampling_period", None),  # a number or a list of them
        ("kd_weight", float),
        ("ema_decay", float),
        ("precision", None),
        ("batch_size", None),  # each value has its own prices
        ("optimizer.warmup_epochs", int),
    ],
)
def test_a_range_makes_sense_for_numbers_whose_values_share_their_prices(name: str, kind: type | None) -> None:
    assert {place.kind for place in places_of([KDAS], [KD])[name]} == {kind}


@pytest.mark.parametrize("value", [True, "a", 1.5])
def test_a_value_that_a_trial_file_would_refuse_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^here: expected .*, got "):
        Place(("batch_size",), Recipe).check("here", value)


def test_a_whole_number_of_a_range_fits_a_parameter_that_takes_only_those() -> None:
    Place(("warmup_epochs",), OptimizerConfig).check("here", 2.0)
