"""What each sampler plans, selects and remembers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError
from torch import Tensor

from kdas.penalty import penalty_weights
from kdas.samplers import SAMPLERS, Full, RandomSubset, Sampler, SamplerContext, knowledge_scores, select
from kdas.samplers.kdas import Kdas
from kdas.schedules import is_sampling_epoch, sampling_rate

quickly = settings(max_examples=60)
sizes = st.integers(1, 200)


def context(num_samples: int = 100, batch_size: int = 16, epochs: int = 6, seed: int = 1) -> SamplerContext:
    return SamplerContext(num_samples, batch_size, epochs, seed)


def random_logits(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, 10, generator=torch.Generator().manual_seed(seed))


def run_epoch(sampler: Sampler, epoch: int) -> list[Tensor]:
    """Run an epoch with logits that depend on the index alone; returns the indices of every trained batch."""
    student_logits, teacher_logits = random_logits(1000, seed=1), 3 * random_logits(1000, seed=2)
    trained = []
    plan = sampler.plan(epoch)
    for indices in plan.batches():
        chosen = indices
        if plan.selects:
            chosen = indices[
                sampler.select(
                    epoch, indices, student_logits=student_logits[indices], teacher_logits=teacher_logits[indices]
                )
            ]
        trained.append(chosen)
    return trained


@quickly
@given(st.lists(st.floats(0, 100), min_size=1, max_size=80), st.integers(1, 80), st.floats(0, 0.99))
def test_selection_keeps_what_was_asked_after_dropping_the_highest(
    values: list[float], keep: int, exclusion: float
) -> None:
    scores = torch.tensor(values, dtype=torch.float64)
    positions = select(scores, keep, exclusion)
    excluded = math.ceil(len(values) * exclusion)
    assert len(positions) == min(keep, len(values) - excluded)
    assert len(positions.unique()) == len(positions)
    ranked = sorted(values, reverse=True)
    assert scores[positions].tolist() == ranked[excluded : excluded + keep]


def test_selection_takes_equal_scores_in_the_order_of_the_batch() -> None:
    assert select(torch.tensor([1.0, 2.0, 1.0, 2.0, 1.0]), 3, 0.0).tolist() == [1, 3, 0]


def test_scores_are_the_forward_divergence_at_temperature_one() -> None:
    student_logits, teacher_logits = random_logits(5, 1), random_logits(5, 2)
    teacher, student = teacher_logits.softmax(dim=1), student_logits.softmax(dim=1)
    expected = (teacher * (teacher / student).log()).sum(dim=1)
    torch.testing.assert_close(knowledge_scores(student_logits, teacher_logits), expected)


@quickly
@given(sizes, st.integers(2, 64), st.integers(0, 5))
def test_full_trains_on_every_sample_once_an_epoch(num_samples: int, batch_size: int, seed: int) -> None:
    sampler = Full(context(num_samples, batch_size, seed=seed))
    for epoch in (1, 2):
        plan = sampler.plan(epoch)
        batches = list(plan.batches())
        assert torch.cat(batches).sort().values.tolist() == list(range(num_samples))
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        # A single sample that is left over joins the batch before it.
        assert len(batches[-1]) <= batch_size + 1 and (len(batches) == 1 or len(batches[-1]) > 1)
        assert plan.rate == 1 and not plan.selects


def test_full_reshuffles_every_epoch() -> None:
    sampler = Full(context())
    assert not torch.equal(sampler.plan(1).order, sampler.plan(2).order)


@quickly
@given(st.integers(5, 200), st.floats(0.05, 1), st.floats(0.05, 1), st.integers(1, 30))
def test_random_uses_up_a_permutation_before_it_repeats_a_sample(
    num_samples: int, start: float, end: float, epochs: int
) -> None:
    sampler = RandomSubset(context(num_samples, epochs=epochs), start_rate=start, end_rate=end)
    plans = [sampler.plan(epoch) for epoch in range(1, epochs + 1)]
    expected = [sampling_rate(epoch, epochs, start, end) for epoch in range(1, epochs + 1)]
    assert [plan.rate for plan in plans] == expected
    assert [len(plan.order) for plan in plans] == [max(2, round(rate * num_samples)) for rate in expected]
    for whole_round in torch.cat([plan.order for plan in plans]).split(num_samples):
        assert len(whole_round.unique()) == len(whole_round)


def test_random_reshuffles_when_the_permutation_is_used_up() -> None:
    sampler = RandomSubset(context(epochs=4), start_rate=0.5, end_rate=0.5)
    trained = torch.cat([sampler.plan(epoch).order for epoch in range(1, 5)])
    assert not torch.equal(trained[:100], trained[100:])


def test_kdas_sampling_epoch_scores_the_whole_set_in_large_batches() -> None:
    sampler = Kdas(context())
    plan = sampler.plan(1)
    assert plan.selects and plan.rate == 0.6
    assert plan.batch_size == math.ceil(16 / 0.6) == 27
    assert [len(batch) for batch in plan.batches()] == [27, 27, 27, 19]
    assert plan.order.sort().values.tolist() == list(range(100))


def test_kdas_trains_on_full_batches_of_the_highest_scores_without_the_very_highest() -> None:
    sampler = Kdas(context(), exclusion_rate=0.1)
    plan = sampler.plan(1)
    indices = plan.batches()[0]
    student_logits, teacher_logits = random_logits(27, 1), random_logits(27, 2)
    positions = sampler.select(1, indices, student_logits=student_logits, teacher_logits=teacher_logits)
    ranked = knowledge_scores(student_logits, teacher_logits).argsort(descending=True)
    assert positions.tolist() == ranked[3 : 3 + 16].tolist()  # the first ceil(27 * 0.1) = 3 are outliers


def test_kdas_keeps_a_tail_smaller_than_a_batch_whole() -> None:
    trained = run_epoch(Kdas(context(num_samples=27 + 15)), epoch=1)
    assert [len(batch) for batch in trained] == [16, 15]
    assert len(run_epoch(Kdas(context(num_samples=27 + 16)), epoch=1)[1]) < 16  # a full batch loses its outliers


def test_kdas_excludes_nothing_in_the_last_epoch() -> None:
    sampler = Kdas(context(num_samples=16), start_rate=1, end_rate=1, sampling_period=(1,), exclusion_rate=0.5)
    assert len(run_epoch(sampler, epoch=1)[0]) == 8
    assert len(run_epoch(sampler, epoch=6)[0]) == 16


def test_kdas_trains_the_other_epochs_on_what_was_chosen_reshuffled() -> None:
    sampler = Kdas(context(), sampling_period=(3,))
    chosen = torch.cat(run_epoch(sampler, epoch=1))
    second, third = sampler.plan(2), sampler.plan(3)
    for plan in (second, third):
        assert not plan.selects and plan.batch_size == 16
        assert plan.order.sort().values.tolist() == chosen.sort().values.tolist()
    assert not torch.equal(second.order, third.order)
    assert sampler.plan(4).selects


def test_kdas_forgets_what_an_earlier_sampling_epoch_chose() -> None:
    sampler = Kdas(context(epochs=8), sampling_period=(2,))
    first = torch.cat(run_epoch(sampler, epoch=1)).unique()
    third = torch.cat(run_epoch(sampler, epoch=3)).unique()
    assert not torch.equal(first, third)
    assert torch.equal(sampler.plan(4).order.unique(), third)


def test_kdas_warms_up_on_the_full_set() -> None:
    sampler = Kdas(context(), warmup_epochs=2)
    for epoch in (1, 2):
        plan = sampler.plan(epoch)
        assert plan.rate == 1 and plan.batch_size == 16 and not plan.selects
        assert plan.order.sort().values.tolist() == list(range(100))
    assert sampler.plan(3).selects and sampler.plan(3).rate == 0.6


def test_kdas_samples_in_the_epochs_of_its_schedule() -> None:
    sampler = Kdas(context(epochs=20), sampling_period=(1, 4))
    sampled = []
    for epoch in range(1, 21):
        if sampler.plan(epoch).selects:
            sampled.append(epoch)
            run_epoch(sampler, epoch)
    assert sampled == [epoch for epoch in range(1, 21) if is_sampling_epoch(epoch, 20, (1, 4))]


def test_kdas_weights_are_the_penalty_at_the_strength_of_the_epoch() -> None:
    sampler = Kdas(context(), penalty_lambda=0.4, penalty_warmup=4, penalty_factor=0.3, threshold=0.1)
    teacher_logits, targets = 5 * random_logits(16), torch.arange(16) % 10
    weights = sampler.distillation_weights(2, teacher_logits, targets)
    assert weights is not None
    torch.testing.assert_close(weights, penalty_weights(teacher_logits, targets, 0.1, 0.2, 0.3))
    assert weights.min() < 1


def test_kdas_without_a_penalty_asks_for_no_weights() -> None:
    sampler = Kdas(context(), penalty_lambda=0.0)
    assert sampler.distillation_weights(1, random_logits(16), torch.arange(16) % 10) is None


@pytest.mark.parametrize("exclusion", [0.05, 0.25, 0.5])
def test_kdas_never_trains_on_an_empty_batch(exclusion: float) -> None:
    given_parameters = {"start_rate": 1.0, "end_rate": 1.0, "exclusion_rate": exclusion}
    checked = SAMPLERS.checked({"name": "kdas", **given_parameters})
    trained = run_epoch(SAMPLERS.build(checked, context()), epoch=1)
    assert all(len(batch) > 0 for batch in trained)


def test_an_exclusion_that_might_leave_nothing_is_refused() -> None:
    with pytest.raises(PydanticCustomError, match=r"exclusion_rate: expected a value in \[0, 0\.5\], got 0\.6"):
        SAMPLERS.checked({"name": "kdas", "exclusion_rate": 0.6})


def test_kdas_state_goes_through_a_checkpoint_in_the_middle_of_a_period() -> None:
    sampler = Kdas(context(), sampling_period=(4,))
    run_epoch(sampler, epoch=1)
    restored = Kdas(context(), sampling_period=(4,))
    restored.load_state_dict(sampler.state_dict())
    for epoch in (2, 3, 4):
        assert torch.equal(restored.plan(epoch).order, sampler.plan(epoch).order)
