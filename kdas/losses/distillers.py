"""Distillation losses as functions of a batch. The mean over the batch is the published loss, without its weight."""

from kdas.losses.at import at
from kdas.losses.dhkd import dhkd
from kdas.losses.dist import dist
from kdas.losses.entropy import entropy_adaptive_weights
from kdas.losses.nst import nst
from kdas.losses.ofa import ofa
from kdas.losses.ofd import ofd
from kdas.losses.pkt import pkt
from kdas.losses.reviewkd import hcl
from kdas.losses.rkd import rkd
from kdas.losses.sp import sp

__all__ = ["at", "dhkd", "dist", "entropy_adaptive_weights", "hcl", "nst", "ofa", "ofd", "pkt", "rkd", "sp"]
