"""Which trials of a sweep share prices: all but those whose loss, batches, precision or update cost another time."""

from __future__ import annotations

from typing import Any

from kdas.cache import content_id
from kdas.calibrate import priced_by
from kdas.config import TrialConfig
from sweeps.checks import trial_content
from sweeps.space import Parameter
from sweeps.spec import SweepSpec

_DECIDING = ("loss", "batch_size", "accumulate", "precision")
# It counts whether they are set, not to what.
_DECIDING_IF_SET = ("ema_decay", "optimizer.clip_norm")


def price_key(config: TrialConfig) -> str:
    """The name of the prices that a trial is charged by: those of `priced_variants` with the same key."""
    return content_id(priced_by(config))


def priced_variants(spec: SweepSpec) -> list[TrialConfig]:
    """One trial for each set of prices that a sweep needs, the baselines' own first. There is an end of them.

    Each is a recipe to measure: its sampler and seed do not matter.
    """
    space, content = spec.space, trial_content(spec)
    deciding = {parameter.name: values for parameter in space.parameters if (values := _values(parameter))}
    contents = [content, *(space.applied(content, point) for point in space.combinations(deciding) if point)]
    variants: dict[str, TrialConfig] = {}
    for each in contents:
        config = TrialConfig(**{**each, "sampler": "full"})
        variants.setdefault(price_key(config), config)
    return list(variants.values())


def _values(parameter: Parameter) -> list[Any]:
    """Values of a parameter that may decide prices; of those that cost the same, one."""
    if parameter.name in _DECIDING or (parameter.path[0] == "loss" and parameter.values.choices is not None):
        return list(parameter.values.choices or [])
    if parameter.name in _DECIDING_IF_SET:
        ends = parameter.values.extremes(parameter.kind)
        return [next(each for each in ends if (each is None) is unset) for unset in {end is None for end in ends}]
    return []
