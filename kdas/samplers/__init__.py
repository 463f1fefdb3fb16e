"""Samplers: which samples an epoch trains on, and with what weight."""

from kdas.parts.registry import import_siblings
from kdas.samplers.interface import SAMPLERS, EpochPlan, Sampler, SamplerContext, SamplerNeed
from kdas.samplers.kdas import knowledge_scores, select
from kdas.samplers.subsets import Full, RandomSubset

import_siblings(__name__, __path__)

__all__ = [
    "SAMPLERS",
    "EpochPlan",
    "Full",
    "RandomSubset",
    "Sampler",
    "SamplerContext",
    "SamplerNeed",
    "knowledge_scores",
    "select",
]
