"""Samplers and losses that a search chooses from, as a file writes them."""

from __future__ import annotations

import pytest
from pydantic_core import PydanticCustomError

from kdas.parts.terms import checked_terms
from kdas.samplers import SAMPLERS
from sweeps.file.choices import checked_choices, first_searched
from tests.sweeps.searches import Load


def test_preset_reaches_the_searched_sampler(load: Load) -> None:
    spec = load({"sampler": ["random", "kdas"]}, preset="official", validation=0.2)
    assert [choice.get("score_mode") for choice in spec.search["sampler"].choices or []] == [None, "train"]


def test_first_searched_sampler_is_found_however_the_search_is_written() -> None:
    assert first_searched({"start_rate": [0.5], "SAMPLER": ["random", "kdas"]}) == "random"
    assert first_searched({"sampler": {"choices": [{"name": "kdas"}], "when": {}}}) == {"name": "kdas"}
    assert first_searched({"start_rate": [0.5]}) is None
    assert first_searched({"sampler": {"low": 0, "high": 1}}) is None and first_searched(5) is None


def test_choices_of_parts_are_written_out_and_other_values_stay() -> None:
    written = checked_choices("sampler", {"choices": ["random"], "when": {"kd_weight": 1}})
    assert written == {"choices": [SAMPLERS.checked("random")], "when": {"kd_weight": 1}}
    assert checked_choices("loss", ["dkd"]) == [checked_terms("dkd")]
    assert checked_choices("start_rate", [0.5]) == [0.5]


def test_a_mistake_names_the_choice() -> None:
    with pytest.raises(PydanticCustomError, match=r"^sampler\.1\.name: no sampler is called 'kdass'"):
        checked_choices("sampler", ["kdas", "kdass"])
