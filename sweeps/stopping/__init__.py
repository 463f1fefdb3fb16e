"""Stopping rules: one file each, registered under the name that sweep files use."""

from kdas.parts.registry import import_siblings
from sweeps.stopping.interface import STOPPING_RULES, HoldsTrials, StoppingContext, StoppingRule

import_siblings(__name__, __path__)

__all__ = ["STOPPING_RULES", "HoldsTrials", "StoppingContext", "StoppingRule"]
