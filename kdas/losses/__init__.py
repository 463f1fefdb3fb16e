"""Distillation losses. Each returns one value per sample; weights and the mean happen once, in the trainer."""

from kdas.losses.divergence import kd
from kdas.losses.plugin import LOSSES, Loss

__all__ = ["LOSSES", "Loss", "kd"]
