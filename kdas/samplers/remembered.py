"""The rhythm of KDAS: epochs that choose samples, and epochs that train on the last choice."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from kdas import schedules, seeding
from kdas.samplers.interface import EpochPlan, SamplerContext
from kdas.samplers.subsets import permutation

Period = Annotated[
    int,
    Field(
        ge=1, le=1_000_000, description="Epochs from one scoring of the set to the next; the paper uses 1, 3, 5, 10."
    ),
]
# One period and a list of one period are the same setting, so both are stored the same way.
Periods = Annotated[
    tuple[Period, ...],
    BeforeValidator(
        lambda given: (given,) if type(given) is int else given, json_schema_input_type=Period | tuple[Period, ...]
    ),
    Field(min_length=1),
]
WarmupEpochs = Annotated[int, Field(ge=0, le=1_000_000, description="Epochs on the full set before sampling starts.")]


class RememberedSubset:
    """Plans epochs by KDAS's schedules and remembers what a sampling epoch has chosen."""

    def __init__(
        self,
        context: SamplerContext,
        start_rate: float,
        end_rate: float,
        sampling_period: tuple[int, ...],
        warmup_epochs: int,
        score_mode: str = "eval",
    ) -> None:
        self.context = context
        self.start_rate, self.end_rate = start_rate, end_rate
        self.sampling_period, self.warmup_epochs, self.score_mode = sampling_period, warmup_epochs, score_mode
        self._chosen: list[Tensor] = []

    def plan(self, epoch: int) -> EpochPlan:
        """Warm-up: the whole set. Sampling epoch: the whole set, in larger batches to choose from. Else: the choice."""
        context = self.context
        rate = schedules.sampling_rate(epoch, context.epochs, self.start_rate, self.end_rate, self.warmup_epochs)
        if epoch <= self.warmup_epochs:
            return EpochPlan(self._shuffled_set(epoch), context.batch_size, rate)
        if schedules.is_sampling_epoch(epoch, context.epochs, self.sampling_period, self.warmup_epochs):
            self._chosen = []
            batch_size = math.ceil(context.batch_size / rate)
            return EpochPlan(self._shuffled_set(epoch), batch_size, rate, selects=True, score_mode=self.score_mode)
        remembered = torch.cat(self._chosen).cpu().unique()  # type: ignore[no-untyped-call]
        shuffle = torch.randperm(len(remembered), generator=seeding.generator(context.seed, "cached order", epoch))
        return EpochPlan(remembered[shuffle], context.batch_size, rate)

    def remember(self, indices: Tensor) -> None:
        """Args: indices: of chosen samples. They stay on the device until the epoch ends: reading makes it wait."""
        self._chosen.append(indices)

    def state_dict(self) -> dict[str, Any]:
        return {"chosen": torch.cat(self._chosen).cpu() if self._chosen else torch.empty(0, dtype=torch.int64)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._chosen = [state["chosen"]]

    def _shuffled_set(self, epoch: int) -> Tensor:
        return permutation(self.context.num_samples, self.context.seed, "order", epoch)
