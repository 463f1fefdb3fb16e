"""Samplers that go by the teacher's answers alone: what it gets right, and a curriculum by its doubt."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kdas.clock import Calibration, Work
from kdas.data import Draw
from kdas.samplers import SAMPLERS, SamplerContext
from kdas.samplers.curriculum import doubt, entropy
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial

Finished = Callable[..., tuple[Training, list[Any]]]
# Right about the first and the last sample.
TEACHER_LOGITS = torch.tensor([[2.0, 1.0], [1.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
TARGETS = torch.tensor([0, 1, 1, 1])


def built(part: dict[str, Any] | str, context: SamplerContext | None = None) -> Any:
    return SAMPLERS.build(SAMPLERS.checked(part), context or SamplerContext(100, 16, 4, seed=1))


def test_filter_keeps_the_views_that_the_teacher_gets_right() -> None:
    sampler = built("teacher_correct")
    assert sampler.plan(1).selects and sorted(sampler.plan(1).order.tolist()) == list(range(100))
    chosen = sampler.select(1, torch.arange(4), teacher_logits=TEACHER_LOGITS, targets=TARGETS)
    assert chosen.tolist() == [0, 3]
    assert sampler.distillation_weights(1, TEACHER_LOGITS, TARGETS) is None


def test_weight_keeps_all_views_and_distils_less_where_the_teacher_is_wrong() -> None:
    sampler = built({"name": "teacher_correct", "use": "weight", "wrong_weight": 0.25})
    assert not sampler.plan(1).selects
    assert sampler.distillation_weights(1, TEACHER_LOGITS, TARGETS).tolist() == [1.0, 0.25, 0.25, 1.0]


def test_filter_asks_the_teacher_once_about_all_and_trains_on_what_it_gets_right(
    finished: Finished, trial_of: Callable[..., Trial]
) -> None:
    training, rows = finished(sampler="teacher_correct", epochs=2, bank="live")
    splits, teacher = training.trial.inputs.splits, training.trial.inputs.teacher.model
    num_right = 0
    for epoch in (1, 2):
        views = splits.view_ids(Draw(seed=1, epoch=epoch))
        assert views is not None
        for indices, images in splits.view_batches([torch.arange(100)], [views]):
            num_right += int((teacher(images).argmax(dim=1) == splits.train.labels[indices]).sum())
    assert rows[-1].samples_trained == num_right
    assert rows[-1].teacher_forwards == 200 and training.clock.samples(Work.WEIGH) == 0


def test_weights_are_charged_and_the_teacher_is_asked_once(finished: Finished) -> None:
    training, rows = finished(sampler={"name": "teacher_correct", "use": "weight"}, epochs=2)
    assert rows[-1].samples_trained == rows[-1].teacher_forwards == training.clock.samples(Work.WEIGH) == 200


def test_trial_whose_teacher_is_never_right_ends_with_its_schedule(
    trial_of: Callable[..., Trial], calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(trial_of(sampler="teacher_correct", epochs=2), Surroundings(calibration))
    sampler: Any = training.sampler
    monkeypatch.setattr(sampler, "select", lambda epoch, indices, **needed: torch.empty(0, dtype=torch.int64))
    (row,) = training.rows()
    assert row.step == 0 and row.epoch == 2


def test_difficulties_are_entropy_and_lack_of_confidence() -> None:
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    assert entropy(logits, TARGETS[:2]).tolist() == pytest.approx([math.log(2), 0.5623351446], rel=1e-6)
    assert doubt(logits, torch.tensor([0, 0])).tolist() == pytest.approx([0.5, 0.25])


def context_of(difficulties: Tensor, epochs: int) -> tuple[SamplerContext, list[int]]:
    """A context whose teacher finds samples as difficult as this; the epochs of its passes are listed."""
    passes: list[int] = []

    def teacher_pass(epoch: int, statistic: Any) -> Tensor:
        passes.append(epoch)
        return difficulties

    return SamplerContext(len(difficulties), 8, epochs, seed=2, teacher_pass=teacher_pass), passes


SHUFFLED = torch.randperm(100, generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize(
    ("course", "firsts"),
    [
        ("there_and_back", [0, 40, 80, 40, 0]),
        ("easy_to_hard", [0, 12, 40, 68, 80]),
        ("hard_to_easy", [80, 68, 40, 12, 0]),
    ],
)
def test_share_goes_through_the_samples_in_the_order_of_difficulty(course: str, firsts: list[int]) -> None:
    context, passes = context_of(SHUFFLED, epochs=5)
    sampler = built({"name": "curriculum", "course": course, "start_rate": 0.2, "end_rate": 0.2}, context)
    for epoch, first in enumerate(firsts, start=1):
        plan = sampler.plan(epoch)
        assert SHUFFLED[plan.order].sort().values.tolist() == list(range(first, first + 20))
        assert plan.rate == pytest.approx(0.2)
    assert passes == [1]


def test_size_of_the_share_follows_the_cosine_of_the_rates_after_the_warmup() -> None:
    context, passes = context_of(SHUFFLED, epochs=6)
    sampler = built({"name": "curriculum", "start_rate": 0.8, "end_rate": 0.4, "warmup_epochs": 1}, context)
    # 0.4 + 0.4 * (1 + cos(pi * step / 4)) / 2
    assert [len(sampler.plan(epoch).order) for epoch in range(1, 7)] == [100, 80, 74, 60, 46, 40]
    assert passes == [2]


def test_curriculum_of_a_single_epoch_begins_with_the_easiest() -> None:
    context, _ = context_of(SHUFFLED, epochs=1)
    plan = built({"name": "curriculum", "start_rate": 0.1, "end_rate": 0.1}, context).plan(1)
    assert SHUFFLED[plan.order].max() == 9


def test_curriculum_pays_for_one_pass_of_the_teacher(finished: Finished) -> None:
    training, rows = finished(sampler={"name": "curriculum", "start_rate": 0.5, "end_rate": 0.5}, epochs=3, bank="live")
    assert rows[-1].samples_trained == 150
    assert (
        rows[-1].teacher_forwards == training.clock.samples(Work.AUGMENT) == training.clock.samples(Work.ASKED) == 250
    )
