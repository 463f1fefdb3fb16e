"""What changes from epoch to epoch: learning rate, sampling rate, sampling epochs, exclusion. Epochs count from 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

# The field's step schedule divides by ten at epochs 150, 180 and 210 of 240.
STEP_MILESTONES = (0.625, 0.75, 0.875)


def sampling_rate(epoch: int, epochs: int, start_rate: float, end_rate: float, warmup_epochs: int = 0) -> float:
    """Fraction of each scoring batch that is trained on: a half cosine from `start_rate` to `end_rate`.

    Args: epoch in 1..epochs; rates in (0, 1].
    Returns: the rate in (0, 1]; 1 during warm-up.
    Source: Chae & Heo, ICCV 2025; official release.
    """
    if epoch <= warmup_epochs:
        return 1.0
    last = epochs - warmup_epochs - 1
    progress = (epoch - warmup_epochs - 1) / last if last > 0 else 0.0
    return end_rate + (start_rate - end_rate) * (1 + math.cos(math.pi * progress)) / 2


def is_sampling_epoch(epoch: int, epochs: int, sampling_period: int | Sequence[int], warmup_epochs: int = 0) -> bool:
    """Whether this epoch scores the set again; the others train on the remembered samples.

    Args: sampling_period: epochs from one scoring to the next, or one such period per equal segment of the epochs
        after warm-up (integer division; leftover epochs belong to the last segment).
    Source: Chae & Heo, ICCV 2025; official release.
    """
    if epoch <= warmup_epochs:
        return False
    periods = [sampling_period] if isinstance(sampling_period, int) else list(sampling_period)
    position = epoch - warmup_epochs - 1
    segment = max(1, (epochs - warmup_epochs) // len(periods))
    return position % periods[min(position // segment, len(periods) - 1)] == 0


def exclusion_rate(epoch: int, epochs: int, exclusion_rate: float, hold: float = 0.625) -> float:
    """Fraction of a scoring batch dropped as outliers: constant up to `hold * epochs`, then linear to 0.

    Source: official release, where the end of the hold is the constant 150 (of 240 epochs).
    """
    hold_epochs = hold * epochs
    if epoch <= hold_epochs:
        return exclusion_rate
    return exclusion_rate * (epochs - epoch) / (epochs - hold_epochs)


def penalty_lambda(epoch: int, penalty_lambda: float, penalty_warmup: int) -> float:
    """The penalty's strength, ramped linearly over the first `penalty_warmup` epochs."""
    return penalty_lambda * min(epoch / penalty_warmup, 1.0) if penalty_warmup > 0 else penalty_lambda


def learning_rate(
    epoch: int,
    epochs: int,
    *,
    base: float,
    schedule: str,
    final: float,
    warmup_epochs: int = 0,
    decay_share: float = 1.0,
    milestones: Sequence[float] = STEP_MILESTONES,
) -> float:
    """Learning rate of an epoch.

    Args: schedule: `cosine` (half cosine towards `final`, per epoch), `step` (a tenth at each milestone), `linear`
        (straight towards `final`) or `trapezoid` (constant, then straight towards `final`); warmup_epochs: over which
        the rate rises linearly to `base`; all schedules but `step` span the epochs after them; decay_share: part of
        those in which a trapezoid decays, in (0, 1]; milestones: of `step`, as fractions of the epochs.
    """
    if epoch <= warmup_epochs:
        return base * epoch / (warmup_epochs + 1)
    if schedule == "step":
        # 0.29 of 100 epochs is 28.999999999999996 in binary, and epoch 29 must not be after it.
        passed = sum(epoch > milestone * epochs + 1e-9 for milestone in milestones)
        return base * 0.1**passed
    progress = (epoch - warmup_epochs - 1) / (epochs - warmup_epochs)
    if schedule == "cosine":
        return final + (base - final) * (1 + math.cos(math.pi * progress)) / 2
    if schedule == "trapezoid":
        progress = max(0.0, progress - (1 - decay_share)) / decay_share
    return base + (final - base) * progress
