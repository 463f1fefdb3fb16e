"""The quality half of KDAS: samples whose teacher is unusually close to, or far from, the label count less."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from kdas import schedules

PenaltyFactor = Annotated[float, Field(ge=0, le=1, description="Smallest weight of a sample.")]
PenaltyLambda = Annotated[
    float, Field(ge=0, le=1_000_000_000, description="Weight lost per nat; 0 turns the penalty off.")
]
PenaltyWarmup = Annotated[int, Field(ge=0, le=1_000_000, description="Epochs over which the penalty ramps up.")]
Threshold = Annotated[
    float,
    Field(gt=0, lt=0.5, description="Quantile beyond which samples are penalized; the paper uses 0.2."),
]

# The official release takes this much from the label and spreads it over the other classes.
LABEL_SMOOTHING = 1e-6


def label_divergence(teacher_logits: Tensor, targets: Tensor) -> Tensor:
    """KL(smoothed one-hot label || teacher), which is nearly the teacher's cross-entropy on the label.

    Args: teacher_logits [B, C], raw; targets [B].
    Returns: divergence [B], in nats.
    """
    log_teacher = teacher_logits.log_softmax(dim=1)
    num_classes = teacher_logits.shape[1]
    on, off = 1 - LABEL_SMOOTHING, LABEL_SMOOTHING / (num_classes - 1)
    negative_entropy = on * math.log(on) + (num_classes - 1) * off * math.log(off)
    at_label = log_teacher.gather(1, targets[:, None]).squeeze(1)
    return negative_entropy - (on - off) * at_label - off * log_teacher.sum(dim=1)


def penalty_weights(
    teacher_logits: Tensor, targets: Tensor, threshold: float, penalty_lambda: float, penalty_factor: float
) -> Tensor:
    """Down-weight samples whose teacher is unusually close to, or far from, the label.

    Args: teacher_logits [B, C], raw; targets [B]; threshold: quantile in (0, 0.5) that bounds the middle on
        either side; penalty_lambda: weight lost per nat outside it; penalty_factor: the smallest weight.
    Returns: weights [B] in [penalty_factor, 1].
    Raises: ValueError: if threshold is outside (0, 0.5).
    Source: Chae & Heo, ICCV 2025; official release, where LAMBDA = 1000 makes the weight nearly binary.
    """
    if not 0 < threshold < 0.5:
        raise ValueError(f"threshold: expected a value in (0, 0.5), got {threshold}. The paper uses 0.2.")
    divergence = label_divergence(teacher_logits, targets)
    ascending = divergence.sort().values
    low, high = _quantile(ascending, threshold), _quantile(ascending, 1 - threshold)
    distance = (low - divergence).clamp(min=0) + (divergence - high).clamp(min=0)
    weights: Tensor = 1 - penalty_lambda * distance
    return weights.clamp(min=penalty_factor, max=1.0)


def _quantile(ascending: Tensor, share: float) -> Tensor:
    """Quantile by linear interpolation. torch.quantile needs the share on the device, which makes the device wait."""
    position = share * (len(ascending) - 1)
    below = math.floor(position)
    return torch.lerp(ascending[below], ascending[min(below + 1, len(ascending) - 1)], position - below)


@dataclass(frozen=True)
class Penalty:
    """The settings of the penalty over a trial."""

    factor: float
    strength: float
    warmup_epochs: int
    threshold: float

    def weights(self, epoch: int, teacher_logits: Tensor, targets: Tensor) -> Tensor | None:
        """Weights [B] in an epoch, counted from 1; None if the penalty is off, so that it costs nothing."""
        strength = schedules.penalty_lambda(epoch, self.strength, self.warmup_epochs)
        if strength == 0:
            return None
        return penalty_weights(teacher_logits, targets, self.threshold, strength, self.factor)
