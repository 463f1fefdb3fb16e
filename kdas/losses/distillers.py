"""Distillation losses as functions of a batch. The mean over the batch is the published loss, without its weight."""

from kdas.losses.dhkd import dhkd
from kdas.losses.dist import dist
from kdas.losses.entropy import entropy_adaptive_weights
from kdas.losses.ofa import ofa

__all__ = ["dhkd", "dist", "entropy_adaptive_weights", "ofa"]
