"""The samplers that a claim about adaptive sampling must beat."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdas.samplers import SamplerContext
from kdas.samplers.ablations import KdasRandomChoice, TopLoss
from kdas.samplers.by_loss import InfoBatch, SelectiveBackprop
from kdas.samplers.kdas import Kdas
from kdas.samplers.subsets import StaticRandom


def context(num_samples: int = 400, batch_size: int = 16, epochs: int = 16, seed: int = 1) -> SamplerContext:
    return SamplerContext(num_samples, batch_size, epochs, seed)


def confident(losses: Tensor) -> Tensor:
    """Logits of two classes with the given cross-entropy on class 0, up to 1e-3."""
    return torch.stack([torch.zeros_like(losses), torch.expm1(losses).clamp(min=1e-6).log()], dim=1)


def test_static_random_keeps_one_subset_and_reshuffles_it() -> None:
    sampler = StaticRandom(context(), fraction=0.3)
    first, second = sampler.plan(1), sampler.plan(2)
    assert len(first.order) == len(first.order.unique()) == 120 and first.rate == 0.3
    assert torch.equal(first.order.sort().values, second.order.sort().values)
    assert not torch.equal(first.order, second.order)
    other = StaticRandom(context(seed=2), fraction=0.3).plan(1)
    assert not torch.equal(first.order.sort().values, other.order.sort().values)


def test_infobatch_skips_half_of_the_easy_samples_and_doubles_the_weight_of_the_others() -> None:
    sampler = InfoBatch(context())
    assert len(sampler.plan(1).order) == 400
    losses = torch.cat([torch.full((300,), 0.1), torch.full((100,), 5.0)])
    sampler.observe(torch.arange(400), losses)
    plan = sampler.plan(2)
    weights = plan.loss_weights
    assert weights is not None and weights.tolist() == [2.0] * 300 + [1.0] * 100
    kept = torch.zeros(400, dtype=torch.bool)
    kept[plan.order] = True
    assert kept[300:].all()
    assert 120 <= kept[:300].sum() <= 180
    assert plan.rate == pytest.approx(float(kept.float().mean()))
    # Every epoch draws which samples it skips, so the weighted sum is right on average over epochs.
    sums = [(losses * weights)[sampler.plan(epoch).order].sum() for epoch in range(2, 14)]
    assert torch.stack(sums).mean().item() == pytest.approx(losses.sum().item(), rel=0.02)


def test_infobatch_goes_by_the_last_loss_of_each_sample_and_ends_with_the_whole_set() -> None:
    sampler = InfoBatch(context())
    sampler.observe(torch.arange(400), torch.linspace(0, 1, 400))
    sampler.observe(torch.arange(100), torch.full((100,), 9.0))
    weights = sampler.plan(3).loss_weights
    assert weights is not None and (weights[:100] == 1).all() and weights[100:].max() == 2
    for epoch in (15, 16):  # the last eighth of 16
        plan = sampler.plan(epoch)
        assert len(plan.order) == 400 and plan.loss_weights is None


def test_infobatch_counts_a_sample_without_a_loss_as_hard() -> None:
    sampler = InfoBatch(context())
    sampler.observe(torch.arange(200), torch.linspace(0, 1, 200))
    plan = sampler.plan(2)
    assert set(range(200, 400)) <= set(plan.order.tolist())


def test_selective_backprop_keeps_samples_by_the_rank_of_their_loss() -> None:
    sampler = SelectiveBackprop(context(num_samples=4000, batch_size=1000))
    losses = torch.rand(4000, generator=torch.Generator().manual_seed(0)) * 3
    logits, targets = confident(losses), torch.zeros(4000, dtype=torch.int64)
    kept = []
    for indices in sampler.plan(1).batches():
        positions = sampler.select(1, indices, student_logits=logits[indices], targets=targets[indices])
        kept.append(indices[positions])
    chosen = torch.zeros(4000)
    chosen[torch.cat(kept)] = 1
    assert chosen.mean().item() == pytest.approx(0.25, abs=0.03)
    by_rank = chosen[losses.argsort()].reshape(4, 1000).mean(dim=1).tolist()
    expected = [(((quarter + 1) / 4) ** 4 - (quarter / 4) ** 4) for quarter in range(4)]
    assert by_rank == pytest.approx(expected, abs=0.05)


def test_selective_backprop_ranks_among_recent_losses_only() -> None:
    sampler = SelectiveBackprop(context(), history=20)
    sampler.plan(1)
    high, low = confident(torch.full((20,), 4.0)), confident(torch.full((20,), 0.5))
    targets, indices = torch.zeros(20, dtype=torch.int64), torch.arange(20)
    sampler.select(1, indices, student_logits=high, targets=targets)
    # The history now holds these twenty low losses only, so each of them has the highest rank.
    assert len(sampler.select(1, indices, student_logits=low, targets=targets)) == 20


def test_top_loss_trains_on_the_highest_cross_entropies_whatever_the_teacher_says() -> None:
    sampler = TopLoss(context(), exclusion_rate=0.0)
    plan = sampler.plan(1)
    indices = plan.batches()[0]
    losses = torch.rand(len(indices), generator=torch.Generator().manual_seed(0))
    targets = torch.zeros(len(indices), dtype=torch.int64)
    positions = sampler.select(1, indices, student_logits=confident(losses), targets=targets)
    assert positions.tolist() == losses.argsort(descending=True)[:16].tolist()
    assert sampler.distillation_weights(1, confident(losses), targets) is None


def test_random_choice_has_the_rhythm_and_the_penalty_of_kdas_and_scores_nothing() -> None:
    ours, kdas = KdasRandomChoice(context()), Kdas(context())
    logits, targets = 3 * torch.randn(16, 10, generator=torch.Generator().manual_seed(0)), torch.arange(16) % 10
    chosen: list[Tensor] = []
    for epoch in range(1, 17):
        plan, theirs = ours.plan(epoch), kdas.plan(epoch)
        assert not plan.selects and plan.rate == theirs.rate
        if theirs.selects:
            sizes = [min(len(batch), 16) for batch in theirs.batches()]
            assert len(plan.order) == sum(sizes)
            assert set(plan.batches()[0].tolist()) <= set(theirs.batches()[0].tolist())
            chosen.append(plan.order)
            kdas.rhythm.remember(plan.order)
        else:
            assert set(plan.order.tolist()) == set(chosen[-1].tolist())
        weights, expected = (sampler.distillation_weights(epoch, logits, targets) for sampler in (ours, kdas))
        assert weights is not None and expected is not None and torch.equal(weights, expected)
    assert not torch.equal(chosen[0].sort().values, chosen[1].sort().values)
