"""Samplers that score nothing: the whole set, a fixed subset, and repeated random subsets."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from kdas import schedules, seeding
from kdas.samplers.interface import SAMPLERS, EpochPlan, Rate, SamplerContext


class Unselective:
    """Base of samplers that only plan: every planned sample is trained on, with weight 1, and no state is kept."""

    def __init__(self, context: SamplerContext) -> None:
        self.context = context

    def distillation_weights(self, epoch: int, teacher_logits: Tensor, targets: Tensor) -> Tensor | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def permutation(num_samples: int, seed: int, purpose: str, number: int) -> Tensor:
    """A shuffled order of the set: int64 [num_samples]."""
    return torch.randperm(num_samples, generator=seeding.generator(seed, purpose, number))


@SAMPLERS.register("full", source="Hinton et al., 2015")
class Full(Unselective):
    """Every sample, every epoch: plain distillation."""

    def plan(self, epoch: int) -> EpochPlan:
        order = permutation(self.context.num_samples, self.context.seed, "order", epoch)
        return EpochPlan(order, self.context.batch_size, rate=1.0)


@SAMPLERS.register(
    "static_random", source="Ben-Baruch et al., 2024 (distilling the knowledge in data pruning, arXiv 2403.07854)"
)
class StaticRandom(Unselective):
    """One fixed random subset; which `kd_weight` is best depends on its size."""

    def __init__(
        self,
        context: SamplerContext,
        *,
        fraction: Annotated[
            float, Field(gt=0, le=1, description="Fraction of the training set that is kept for all epochs.")
        ] = 0.5,
    ) -> None:
        super().__init__(context)
        self.fraction = fraction
        size = max(2, round(fraction * context.num_samples))
        self.kept = permutation(context.num_samples, context.seed, "static subset", 0)[:size].sort().values

    def plan(self, epoch: int) -> EpochPlan:
        order = self.kept[permutation(len(self.kept), self.context.seed, "order", epoch)]
        return EpochPlan(order, self.context.batch_size, rate=self.fraction)


@SAMPLERS.register("random", source="Okanovic et al., 2023 (RS2, without replacement)")
class RandomSubset(Unselective):
    """Each epoch the next slice of one permutation, reshuffled when used up; no scoring (RS2)."""

    def __init__(self, context: SamplerContext, *, start_rate: Rate = 0.6, end_rate: Rate = 0.4) -> None:
        super().__init__(context)
        self.rates = [
            schedules.sampling_rate(epoch, context.epochs, start_rate, end_rate)
            for epoch in range(1, context.epochs + 1)
        ]
        self.sizes = [max(2, round(rate * context.num_samples)) for rate in self.rates]

    def plan(self, epoch: int) -> EpochPlan:
        first = sum(self.sizes[: epoch - 1])
        last = first + self.sizes[epoch - 1]
        total = self.context.num_samples
        rounds = [
            permutation(total, self.context.seed, "subsets", number)
            for number in range(first // total, (last - 1) // total + 1)
        ]
        skipped = first // total * total
        order = torch.cat(rounds)[first - skipped : last - skipped]
        return EpochPlan(order, self.context.batch_size, rate=self.rates[epoch - 1])
