"""Distillation losses. Each returns one value per sample; the trainer applies weights and takes the mean."""

from kdas.losses.decoupled import dkd
from kdas.losses.divergence import kd
from kdas.losses.interface import LOSSES, Loss, LossContext, LossNeed
from kdas.losses.terms import Distillation
from kdas.parts.registry import import_siblings

import_siblings(__name__, __path__)

__all__ = ["LOSSES", "Distillation", "Loss", "LossContext", "LossNeed", "dkd", "kd"]
