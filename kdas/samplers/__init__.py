"""Samplers: which samples an epoch trains on, and with what weight."""

from kdas.samplers.kdas import knowledge_scores, select
from kdas.samplers.plugin import SAMPLERS, EpochPlan, Sampler, SamplerContext
from kdas.samplers.subsets import Full, RandomSubset

__all__ = [
    "SAMPLERS",
    "EpochPlan",
    "Full",
    "RandomSubset",
    "Sampler",
    "SamplerContext",
    "knowledge_scores",
    "select",
]
