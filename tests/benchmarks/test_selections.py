"""Choices by two measurements of the same scores are compared sample by sample."""

from __future__ import annotations

import pytest
import torch

from benchmarks.selections import Difference, difference


def test_equal_scores_give_equal_choices() -> None:
    scores = torch.arange(40.0)
    assert difference(scores, scores, 20) == Difference(20, 0, 0.0, 0.0)


def test_gap_is_between_samples_that_change_places_at_the_same_end() -> None:
    scores = torch.arange(40.0)
    # Two of the highest 5% are dropped: 37 to 18 are chosen. Exchange 38 with 37, and 18 with 17.
    others = scores.clone()
    others[[37, 38, 17, 18]] = torch.tensor([38.0, 37.5, 18.25, 17.5])
    found = difference(scores, others, 20)
    assert (found.num_chosen, found.num_differing) == (20, 2)
    assert found.gap == pytest.approx(0.75) and found.rounding == pytest.approx(1.25)
