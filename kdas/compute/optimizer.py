"""The optimizer of a student or teacher, by its name, and its learning rate."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from kdas import schedules
from kdas.compute.dot import Dot
from kdas.compute.muon import MuonAndAdamW
from kdas.compute.torch_optimizers import SGD, AdamW
from kdas.recipe.optimizer import OptimizerConfig


def optimizer_of(
    model: nn.Module, config: OptimizerConfig, others: Iterable[nn.Parameter] = (), *, is_recorded: bool = False
) -> torch.optim.Optimizer:
    """The optimizer of a model's parameters and of others that are trained with them.

    Args: is_recorded: whether a GPU records and replays its steps, so that it must count them on the GPU.
    """
    trained = [*model.parameters(), *others]
    match config.name:
        case "adamw":
            first, second = config.betas
            return AdamW(
                trained,
                lr=config.learning_rate,
                betas=(first, second),
                weight_decay=config.weight_decay,
                capturable=is_recorded,
            )
        case "muon":
            return MuonAndAdamW(model, trained, config, is_recorded=is_recorded)
        case "dot":
            return Dot(trained, config)
        case _:
            return SGD(
                trained,
                lr=config.learning_rate,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
                nesterov=config.nesterov,
            )


def set_learning_rate(optimizer: torch.optim.Optimizer, config: OptimizerConfig, epoch: int, epochs: int) -> float:
    """Set the optimizer's learning rate for an epoch, counted from 1. Returns: that rate."""
    rate = schedules.learning_rate(
        epoch,
        epochs,
        base=config.learning_rate,
        schedule=config.schedule,
        final=config.final_learning_rate,
        warmup_epochs=config.warmup_epochs,
        decay_share=config.decay_share,
        milestones=config.milestones,
    )
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("rate_share", 1.0)
    return rate
