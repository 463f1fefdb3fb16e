"""What a sweep compares, as a small value: everything that its trials are made from but the search and the seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from kdas.recipe.config import TrialConfig


@dataclass(frozen=True)
class Methods:
    """What is compared.

    `content`: a trial file's content with all that the trials have in common, and the sampler whose parameters are
    searched; `baselines`: samplers by the names that the user gave them; `plain`: the baseline that ratios and the
    target refer to, the first that trains on every sample.
    """

    content: Mapping[str, Any]
    baselines: Mapping[str, Mapping[str, Any]]
    plain: str

    @cached_property
    def recipe(self) -> TrialConfig:
        """What all trials have in common, as the trial that trains on everything."""
        return TrialConfig(**{**self.content, "sampler": "full"})
