"""SGD and its learning rate, for students and teachers."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from kdas import schedules
from kdas.recipe.config import OptimizerConfig


def sgd(trained: Iterable[Tensor], config: OptimizerConfig) -> torch.optim.SGD:
    """Stochastic gradient descent with momentum over the given parameters."""
    return torch.optim.SGD(trained, lr=config.learning_rate, momentum=config.momentum, weight_decay=config.weight_decay)


def set_learning_rate(optimizer: torch.optim.Optimizer, config: OptimizerConfig, epoch: int, epochs: int) -> float:
    """Set the optimizer's learning rate for an epoch, counted from 1. Returns: that rate."""
    rate = schedules.learning_rate(
        epoch,
        epochs,
        base=config.learning_rate,
        schedule=config.schedule,
        final=config.final_learning_rate,
        warmup_epochs=config.warmup_epochs,
    )
    for group in optimizer.param_groups:
        group["lr"] = rate
    return rate
