"""What a sweep compares: all that its trials are made of except the search and the seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kdas.recipe.config import TrialConfig


@dataclass(frozen=True)
class Methods:
    """What is compared.

    `content`: the content of a trial file with what all trials share, and the sampler whose parameters are searched;
    `baselines`: samplers by the user's names; `plain`: the baseline that ratios and the target refer to, the first one
    that trains on every sample.
    """

    content: Mapping[str, Any]
    baselines: Mapping[str, Mapping[str, Any]]
    plain: str

    @cached_property
    def recipe(self) -> TrialConfig:
        """What all trials share, as a trial that trains on every sample."""
        return TrialConfig(**{**self.content, "sampler": "full"})
