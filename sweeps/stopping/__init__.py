"""Stopping rules: each is one file here, registered by its name in a sweep file."""

from kdas.parts.registry import import_siblings
from sweeps.stopping.interface import STOPPING_RULES, StoppingContext, StoppingRule

import_siblings(__name__, __path__)

__all__ = ["STOPPING_RULES", "StoppingContext", "StoppingRule"]
