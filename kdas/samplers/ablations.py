"""KDAS with one half removed. (KDAS without the penalty is `kdas` with `penalty_lambda: 0`.)"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from kdas import seeding
from kdas.penalty import Penalty, PenaltyFactor, PenaltyLambda, PenaltyWarmup, Threshold
from kdas.samplers.interface import SAMPLERS, EpochPlan, Rate, SamplerContext, SamplerNeed, ScoreMode
from kdas.samplers.kdas import Exclusion, ExclusionHold, HighestScored
from kdas.samplers.remembered import Periods, RememberedSubset, WarmupEpochs


@SAMPLERS.register(
    "top_loss", source="ablation of Chae & Heo, ICCV 2025", needs=[SamplerNeed.STUDENT_LOGITS, SamplerNeed.TARGETS]
)
class TopLoss:
    """Quantity without teacher or quality: the highest cross-entropies in KDAS's rhythm, and no penalty."""

    def __init__(
        self,
        context: SamplerContext,
        *,
        start_rate: Rate = 0.6,
        end_rate: Rate = 0.4,
        sampling_period: Periods = (1, 3, 5, 10),
        exclusion_rate: Exclusion = 0.05,
        exclusion_hold: ExclusionHold = 0.625,
        warmup_epochs: WarmupEpochs = 0,
        score_mode: ScoreMode = "eval",
    ) -> None:
        self.rhythm = RememberedSubset(context, start_rate, end_rate, sampling_period, warmup_epochs, score_mode)
        self.choice = HighestScored(context, exclusion_rate, exclusion_hold)

    def plan(self, epoch: int) -> EpochPlan:
        return self.rhythm.plan(epoch)

    def select(self, epoch: int, indices: Tensor, *, student_logits: Tensor, targets: Tensor) -> Tensor:
        losses = functional.cross_entropy(student_logits, targets, reduction="none")
        positions = self.choice.positions(epoch, losses)
        self.rhythm.remember(indices[positions])
        return positions

    def distillation_weights(self, epoch: int, teacher_logits: Tensor, targets: Tensor) -> Tensor | None:
        return None

    def state_dict(self) -> dict[str, Any]:
        return self.rhythm.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rhythm.load_state_dict(state)


@SAMPLERS.register("kdas_random_choice", source="ablation of Chae & Heo, ICCV 2025")
class KdasRandomChoice:
    """Quality without quantity: a random choice in KDAS's rhythm, distilled under KDAS's penalty; scores nothing."""

    def __init__(
        self,
        context: SamplerContext,
        *,
        start_rate: Rate = 0.6,
        end_rate: Rate = 0.4,
        sampling_period: Periods = (1, 3, 5, 10),
        penalty_factor: PenaltyFactor = 0.5,
        penalty_lambda: PenaltyLambda = 1000.0,
        penalty_warmup: PenaltyWarmup = 0,
        threshold: Threshold = 0.2,
        warmup_epochs: WarmupEpochs = 0,
    ) -> None:
        self.context = context
        self.rhythm = RememberedSubset(context, start_rate, end_rate, sampling_period, warmup_epochs)
        self.penalty = Penalty(penalty_factor, penalty_lambda, penalty_warmup, threshold)

    def plan(self, epoch: int) -> EpochPlan:
        plan = self.rhythm.plan(epoch)
        if not plan.selects:
            return plan
        # Nothing is scored, so only the chosen samples are fetched: as many of each batch as KDAS would keep.
        generator = seeding.generator(self.context.seed, "random choice", epoch)
        keep = self.context.batch_size
        chosen = torch.cat([batch[torch.randperm(len(batch), generator=generator)[:keep]] for batch in plan.batches()])
        self.rhythm.remember(chosen)
        return EpochPlan(chosen, keep, plan.rate)

    def distillation_weights(self, epoch: int, teacher_logits: Tensor, targets: Tensor) -> Tensor | None:
        return self.penalty.weights(epoch, teacher_logits, targets)

    def state_dict(self) -> dict[str, Any]:
        return self.rhythm.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.rhythm.load_state_dict(state)
