"""The walk through an epoch: what it charges, in which order, and what it tells the sampler."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from kdas.clock import Calibration, Clock, Work
from kdas.errors import UserError
from kdas.samplers import EpochPlan, SamplerNeed
from kdas.samplers.subsets import Unselective
from kdas.training.batch import Batch
from kdas.training.epoch import EpochWalk, sampler_for, teacher_pass
from tests.kdas.conftest import ConfigOf


class ByHand:
    """Work that records what it is asked to do. Samples in `unreadable` are not fetched."""

    def __init__(self, unreadable: Sequence[int] = ()) -> None:
        self.done: list[str] = []
        self.unreadable = torch.tensor(unreadable, dtype=torch.int64)

    def fetched(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[Batch]:
        for indices in batches:
            kept = indices[~torch.isin(indices, self.unreadable)]
            self.done.append(f"fetch {len(kept)}")
            yield Batch(torch.empty(len(kept), 0), kept, kept)

    def looked_up(self, position: int, batch: Batch) -> Batch:
        return batch

    def asked(self, batch: Batch) -> Batch:
        self.done.append(f"ask {len(batch)}")
        return batch

    def teacher_logits(self, batch: Batch) -> Tensor:
        return torch.zeros(len(batch), 2)

    def student_logits(self, batch: Batch, epoch: int, mode: str) -> Tensor:
        self.done.append(f"score {len(batch)} in {mode}")
        return torch.zeros(len(batch), 2)

    def reference_logits(self, batch: Batch) -> Tensor:
        self.done.append(f"reference {len(batch)}")
        return torch.zeros(len(batch), 2)

    def proxy_losses(self, batch: Batch, epoch: int) -> Tensor:
        self.done.append(f"proxy {len(batch)}")
        return torch.zeros(len(batch))

    def proxy_step(self, batch: Batch, epoch: int) -> None:
        self.done.append(f"proxy step {batch.indices.tolist()}")

    def targets(self, batch: Batch) -> Tensor:
        return batch.targets

    def step(
        self, batch: Batch, epoch: int, weights: Tensor | None, loss_weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        weighted = "" if loss_weights is None else f" weighted {loss_weights.tolist()}"
        self.done.append(f"step {batch.indices.tolist()}{weighted}")
        return torch.tensor(1.5), batch.indices.float()

    def trained_logits(self) -> Tensor:
        return torch.tensor([[1.0, -1.0]])


class Halving(Unselective):
    """A sampler that chooses the first half of each fetched batch, and remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.losses: list[float] = []
        self.logits: list[list[float]] = []

    def plan(self, epoch: int) -> EpochPlan:
        raise NotImplementedError

    def select(self, epoch: int, indices: Tensor, **needed: Tensor) -> Tensor:
        self.given = [str(name) for name in needed]
        return torch.arange(len(indices) // 2)

    def observe(self, indices: Tensor, losses: Tensor | None = None, trained_logits: Tensor | None = None) -> None:
        self.losses += [] if losses is None else losses.tolist()
        self.logits += [] if trained_logits is None else trained_logits.tolist()


def walked(
    plan: EpochPlan, needs: Sequence[SamplerNeed] = (), batch_size: int = 2, work: ByHand | None = None
) -> tuple[ByHand, Halving, Clock, list[bool]]:
    prices = dict.fromkeys(Work, ((1, 1.0), (2, 2.0)))
    sampler, clock, work = Halving(), Clock(Calibration("by hand", {}, prices)), work or ByHand()
    walk = EpochWalk(sampler, needs, batch_size, clock, work)
    are_last = []
    for batch, is_last in walk.batches(1, plan):
        trained, loss = walk.train(1, plan, batch)
        assert len(trained) == len(batch) and float(loss) == 1.5
        are_last.append(is_last)
    return work, sampler, clock, are_last


def test_plan_that_chooses_nothing_is_trained_on_as_it_is_fetched() -> None:
    work, _, clock, are_last = walked(EpochPlan(torch.arange(4), 2, rate=1.0))
    assert work.done == ["fetch 2", "ask 2", "step [0, 1]", "fetch 2", "ask 2", "step [2, 3]"]
    assert are_last == [False, True]
    assert clock.ledger() == [["epoch", 4, 1], ["augment", 2, 2], ["teacher", 2, 2], ["step", 2, 2]]


def test_teacher_that_takes_no_part_in_the_choice_is_asked_about_the_chosen_alone() -> None:
    work, sampler, clock, _ = walked(
        EpochPlan(torch.arange(4), 4, rate=0.5, selects=True), needs=[SamplerNeed.STUDENT_LOGITS]
    )
    assert work.done == ["fetch 4", "score 4 in eval", "ask 2", "step [0, 1]"]
    assert sampler.given == ["student_logits"]
    assert clock.ledger() == [["epoch", 4, 1], ["augment", 4, 1], ["score", 4, 1], ["teacher", 2, 1], ["step", 2, 1]]


def test_teacher_that_takes_part_in_the_choice_is_asked_once_about_all_that_is_fetched() -> None:
    plan = EpochPlan(torch.arange(4), 4, rate=0.5, selects=True, score_mode="train")
    work, sampler, clock, _ = walked(plan, needs=list(SamplerNeed))
    assert work.done == [
        "fetch 4",
        "ask 4",
        "score 4 in train",
        "reference 4",
        "proxy 4",
        "step [0, 1]",
        "proxy step [0, 1]",
    ]
    assert sorted(sampler.given) == ["proxy_losses", "reference_logits", "student_logits", "targets", "teacher_logits"]
    assert clock.ledger() == [
        ["epoch", 4, 1],
        ["augment", 4, 1],
        ["teacher", 4, 1],
        ["score", 4, 2],
        ["proxy_score", 4, 1],
        ["step", 2, 1],
        ["proxy_step", 2, 1],
        ["observe", 2, 1],
        ["track", 2, 1],
    ]


def test_chosen_samples_wait_until_a_batch_is_full() -> None:
    work, _, _, are_last = walked(EpochPlan(torch.arange(12), 4, rate=0.5, selects=True), batch_size=3)
    steps = [each for each in work.done if each.startswith(("fetch", "step"))]
    assert steps == ["fetch 4", "fetch 4", "step [0, 1, 4]", "fetch 4", "step [5, 8, 9]"]
    assert are_last == [False, True]


def test_sampler_observes_the_losses_of_what_was_trained_on_if_it_needs_them() -> None:
    plan = EpochPlan(torch.tensor([3, 1, 0, 2]), 2, rate=1.0)
    _, sampler, clock, _ = walked(plan, needs=[SamplerNeed.LOSSES])
    assert sampler.losses == [3.0, 1.0, 0.0, 2.0]
    assert ["observe", 2, 2] in clock.ledger()
    assert walked(plan)[1].losses == []


def test_sampler_observes_the_students_logits_of_what_was_trained_on_if_it_needs_them() -> None:
    plan = EpochPlan(torch.arange(4), 2, rate=1.0)
    _, sampler, clock, _ = walked(plan, needs=[SamplerNeed.TRAINED_LOGITS])
    assert sampler.logits == [[1.0, -1.0]] * 2 and sampler.losses == []
    assert ["track", 2, 2] in clock.ledger() and ["observe", 2, 2] not in clock.ledger()


def test_sampler_neither_observes_nor_pays_in_an_epoch_whose_plan_says_so() -> None:
    plan = EpochPlan(torch.arange(4), 2, rate=1.0, observes=False)
    _, sampler, clock, _ = walked(plan, needs=[SamplerNeed.TRAINED_LOGITS, SamplerNeed.LOSSES])
    assert not sampler.logits and not sampler.losses
    assert clock.samples(Work.TRACK) == clock.samples(Work.OBSERVE) == 0


def pass_of(work: ByHand) -> tuple[Tensor, Clock]:
    prices = dict.fromkeys(Work, ((1, 1.0),))
    clock = Clock(Calibration("by hand", {}, prices))
    return teacher_pass(clock, work, 5, 2, 3, lambda logits, targets: logits.sum(dim=1) + targets), clock


def test_pass_of_the_teacher_is_charged_like_an_epoch_that_is_not_trained_on() -> None:
    work = ByHand()
    values, clock = pass_of(work)
    assert values.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    # A single sample left over joins the batch before it.
    assert work.done == ["fetch 2", "ask 2", "fetch 3", "ask 3"]
    assert clock.ledger() == [
        ["epoch", 5, 1],
        ["augment", 2, 1],
        ["teacher", 2, 1],
        ["augment", 3, 1],
        ["teacher", 3, 1],
    ]


def test_pass_of_the_teacher_leaves_out_what_cannot_be_read() -> None:
    for unreadable in ([1, 2, 3], [0, 1], [0, 1, 2, 3, 4]):
        work = ByHand(unreadable)
        values, _ = pass_of(work)
        assert values.isnan().nonzero().flatten().tolist() == unreadable
        assert "ask 0" not in work.done


def test_pass_of_the_teacher_that_was_not_declared_is_refused(config_of: ConfigOf) -> None:
    clock = Clock(Calibration("by hand", {}, dict.fromkeys(Work, ((1, 1.0),))))
    for name, is_given in (("curriculum", True), ("full", False)):
        sampler: Any = sampler_for(config_of(sampler=name), 4, torch.zeros(4), clock, ByHand())
        if is_given:
            assert len(sampler.context.teacher_pass(1, lambda logits, targets: targets)) == 4
            continue
        with pytest.raises(
            UserError, match=r"^sampler: asks for a pass of the teacher\. Add teacher_passes to its needs"
        ):
            sampler.context.teacher_pass(1, lambda logits, targets: targets)


def test_weights_of_the_whole_loss_are_those_of_the_samples_of_the_batch() -> None:
    plan = EpochPlan(torch.tensor([3, 1]), 2, rate=1.0, loss_weights=torch.tensor([0.0, 0.5, 1.0, 2.0]))
    assert walked(plan)[0].done[-1] == "step [3, 1] weighted [2.0, 0.5]"


@pytest.mark.parametrize("selects", [False, True])
def test_single_readable_sample_of_a_batch_is_left_out(selects: bool) -> None:
    plan = EpochPlan(torch.arange(8), 4, rate=1.0, selects=selects)
    work, _, clock, are_last = walked(plan, work=ByHand(unreadable=[4, 5, 6]))
    assert [each for each in work.done if each.startswith("step")] == [
        "step [0, 1]" if selects else "step [0, 1, 2, 3]"
    ]
    assert ["augment", 1, 1] in clock.ledger() and are_last == [False]
