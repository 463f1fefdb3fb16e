"""Which trials of a sweep share prices: those whose loss, batch size, precision and update take the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdas.clock import Calibration
from kdas.files.cache import content_id
from kdas.recipe.config import TrialConfig
from kdas.training.calibrate import calibration_for, priced_by, read_calibration, write_calibration
from kdas.training.trial import Inputs, Trial
from sweeps.record.directory import SweepDirectory
from sweeps.space.space import Parameter, Space


@dataclass(frozen=True)
class Prices:
    """The prices of the trials of a sweep, by `price_key`; those of the baselines come first."""

    calibrations: Mapping[str, Calibration]

    @property
    def base(self) -> Calibration:
        return next(iter(self.calibrations.values()))

    def of(self, config: TrialConfig) -> Calibration:
        return self.calibrations[price_key(config)]

    def freeze(self, directory: SweepDirectory) -> None:
        """Write them into the sweep directory, unless they are there."""
        for key, calibration in self.calibrations.items():
            file = _file(directory, key, is_base=calibration is self.base)
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                write_calibration(file, calibration)


def prices_for(
    content: Mapping[str, Any],
    space: Space,
    inputs: Inputs,
    directory: SweepDirectory,
    announce: Callable[[], None] = lambda: None,
) -> Prices:
    """The prices stored with the sweep; missing ones are taken from this machine's cache, or measured now.

    Args: content: what all trials share; announce: called before anything is measured.
    """
    found: dict[str, Calibration] = {}
    for config in priced_variants(content, space):
        key = price_key(config)
        frozen = read_calibration(_file(directory, key, is_base=not found))
        found[key] = frozen or calibration_for(config, Trial(config, inputs).distiller(), announce)
    return Prices(found)


def _file(directory: SweepDirectory, key: str, *, is_base: bool) -> Path:
    return directory.calibration_file if is_base else directory.path / "calibrations" / f"{key}.json"


_DECIDING = ("loss", "batch_size", "accumulate", "precision")
# Only whether they are set matters, not their value.
_DECIDING_IF_SET = ("ema_decay", "optimizer.clip_norm")


def price_key(config: TrialConfig) -> str:
    """The key of a trial's prices: those measured for the member of `priced_variants` with the same key."""
    return content_id(priced_by(config))


def priced_variants(content: Mapping[str, Any], space: Space) -> list[TrialConfig]:
    """One trial for each set of prices that a sweep needs, that of the baselines first.

    Only the recipe of these trials matters, not the sampler or the seed.
    """
    deciding = {parameter.name: values for parameter in space.parameters if (values := _values(parameter))}
    contents = [content, *(space.applied(content, point) for point in space.combinations(deciding) if point)]
    variants: dict[str, TrialConfig] = {}
    for each in contents:
        config = TrialConfig(**{**each, "sampler": "full"})
        variants.setdefault(price_key(config), config)
    return list(variants.values())


def _values(parameter: Parameter) -> list[Any]:
    """Values of a parameter that may change prices; only one of those that share prices."""
    if parameter.name in _DECIDING or (parameter.path[0] == "loss" and parameter.values.choices is not None):
        return list(parameter.values.choices or [])
    if parameter.name in _DECIDING_IF_SET:
        ends = parameter.values.extremes(parameter.kind)
        return [next(each for each in ends if (each is None) is unset) for unset in {end is None for end in ends}]
    return []
