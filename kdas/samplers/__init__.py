"""Samplers: which samples an epoch trains on, and with what weight."""

from kdas.parts.registry import import_siblings
from kdas.samplers.interface import (
    SAMPLERS,
    EpochPlan,
    ObservingSampler,
    Sampler,
    SamplerContext,
    SamplerNeed,
    SelectingSampler,
    Statistic,
    network_of,
)
from kdas.samplers.kdas import knowledge_scores, select
from kdas.samplers.subsets import Full, RandomSubset

import_siblings(__name__, __path__)

__all__ = [
    "SAMPLERS",
    "EpochPlan",
    "Full",
    "ObservingSampler",
    "RandomSubset",
    "Sampler",
    "SamplerContext",
    "SamplerNeed",
    "SelectingSampler",
    "Statistic",
    "knowledge_scores",
    "network_of",
    "select",
]
