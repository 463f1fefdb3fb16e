"""Samplers that choose by a sample's loss: InfoBatch between epochs, selective backpropagation within batches."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from kdas import seeding
from kdas.samplers.interface import SAMPLERS, EpochPlan, SamplerContext, SamplerNeed, ScoreMode
from kdas.samplers.subsets import permutation


@SAMPLERS.register("infobatch", source="Qin et al., ICLR 2024 (InfoBatch, lossless)", needs=[SamplerNeed.LOSSES])
class InfoBatch:
    """Skips some of the samples whose last loss was below the mean, and gives the rest of them more weight."""

    def __init__(
        self,
        context: SamplerContext,
        *,
        prune_rate: Annotated[
            float, Field(ge=0, lt=1, description="Probability that an easy sample is skipped.")
        ] = 0.5,
        whole_set_from: Annotated[
            float, Field(ge=0, le=1, description="Fraction of the epochs after which nothing is skipped.")
        ] = 0.875,
    ) -> None:
        self.context = context
        self.prune_rate, self.whole_set_from = prune_rate, whole_set_from
        # A sample that was never trained on counts as hard.
        self._last_losses = torch.full((context.num_samples,), torch.inf)
        self._observed: list[tuple[Tensor, Tensor]] = []

    def plan(self, epoch: int) -> EpochPlan:
        context = self.context
        self._take_in()
        order = permutation(context.num_samples, context.seed, "order", epoch)
        # In the first epoch no loss is known; the last epochs use every sample, as in the paper, against bias.
        if epoch == 1 or epoch > self.whole_set_from * context.epochs:
            return EpochPlan(order, context.batch_size, rate=1.0)
        easy = self._last_losses < self._last_losses[self._last_losses.isfinite()].mean()
        chance = torch.rand(context.num_samples, generator=seeding.generator(context.seed, "prune", epoch))
        is_kept = ~(easy & (chance < self.prune_rate))
        weights = torch.where(easy, 1 / (1 - self.prune_rate), 1.0)
        rate = float(is_kept.float().mean())
        return EpochPlan(order[is_kept[order]], context.batch_size, rate, loss_weights=weights)

    def distillation_weights(self, epoch: int, teacher_logits: Tensor, targets: Tensor) -> Tensor | None:
        return None

    def observe(self, indices: Tensor, losses: Tensor) -> None:
        # Kept on the device until the epoch ends: reading them every step would make the device wait.
        self._observed.append((indices, losses))

    def state_dict(self) -> dict[str, Any]:
        self._take_in()
        return {"last_losses": self._last_losses}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._last_losses = state["last_losses"]

    def _take_in(self) -> None:
        if self._observed:
            indices, losses = (torch.cat(parts) for parts in zip(*self._observed, strict=True))
            self._last_losses[indices.cpu()] = losses.to(self._last_losses)
        self._observed.clear()


@SAMPLERS.register(
    "selective_backprop",
    source="Jiang et al., 2019 (Selective-Backprop)",
    needs=[SamplerNeed.STUDENT_LOGITS, SamplerNeed.TARGETS],
)
class SelectiveBackprop:
    """Trains on a sample with a probability that grows with the rank of its cross-entropy among recent ones."""

    def __init__(
        self,
        context: SamplerContext,
        *,
        selectivity: Annotated[
            float, Field(ge=0, le=1000, description="Exponent s: a sample is kept with probability rank ** s.")
        ] = 3.0,
        history: Annotated[
            int, Field(ge=1, le=100_000_000, description="Number of recent losses that a loss is ranked among.")
        ] = 1024,
        score_mode: ScoreMode = "eval",
    ) -> None:
        self.context = context
        self.selectivity, self.history, self.score_mode = selectivity, history, score_mode
        self._recent, self._draws = torch.empty(0), torch.empty(0)

    def plan(self, epoch: int) -> EpochPlan:
        total, seed = self.context.num_samples, self.context.seed
        # A draw per sample, not per position, so that what is fetched before does not change it.
        self._draws = torch.rand(total, generator=seeding.generator(seed, "selective", epoch))
        # The mean of rank ** s over uniform ranks.
        rate = 1 / (self.selectivity + 1)
        order = permutation(total, seed, "order", epoch)
        return EpochPlan(order, self.context.batch_size, rate, selects=True, score_mode=self.score_mode)

    def select(self, epoch: int, indices: Tensor, *, student_logits: Tensor, targets: Tensor) -> Tensor:
        losses = functional.cross_entropy(student_logits, targets, reduction="none")
        self._recent = torch.cat([self._recent.to(losses), losses])[-self.history :]
        rank = torch.searchsorted(self._recent.sort().values, losses, right=True) / len(self._recent)
        self._draws = self._draws.to(rank)
        return (self._draws[indices] < rank**self.selectivity).nonzero().squeeze(1)

    def distillation_weights(self, epoch: int, teacher_logits: Tensor, targets: Tensor) -> Tensor | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return {"recent": self._recent}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._recent = state["recent"]
