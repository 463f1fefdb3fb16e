"""Which trials of a sweep share prices: all whose loss, batch size, precision and update take the same time."""

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
    """What the trials of a sweep are charged by, by their `price_key`; those of the baselines come first."""

    calibrations: Mapping[str, Calibration]

    @property
    def base(self) -> Calibration:
        return next(iter(self.calibrations.values()))

    def of(self, config: TrialConfig) -> Calibration:
        return self.calibrations[price_key(config)]

    def freeze(self, directory: SweepDirectory) -> None:
        """Keep them with the sweep."""
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
    """The prices kept with the sweep; missing ones are taken from this machine's cache, or measured now.

    Args: content: what all trials have in common; announce: called before anything is measured.
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
# Only whether they are set matters, not the value.
_DECIDING_IF_SET = ("ema_decay", "optimizer.clip_norm")


def price_key(config: TrialConfig) -> str:
    """The name of the prices that a trial is charged by: those of `priced_variants` with the same key."""
    return content_id(priced_by(config))


def priced_variants(content: Mapping[str, Any], space: Space) -> list[TrialConfig]:
    """One trial for each set of prices that a sweep needs, that of the baselines first.

    Each is a recipe to measure: its sampler and seed do not matter.
    """
    deciding = {parameter.name: values for parameter in space.parameters if (values := _values(parameter))}
    contents = [content, *(space.applied(content, point) for point in space.combinations(deciding) if point)]
    variants: dict[str, TrialConfig] = {}
    for each in contents:
        config = TrialConfig(**{**each, "sampler": "full"})
        variants.setdefault(price_key(config), config)
    return list(variants.values())


def _values(parameter: Parameter) -> list[Any]:
    """Values of a parameter that may change prices; of values with the same price, one."""
    if parameter.name in _DECIDING or (parameter.path[0] == "loss" and parameter.values.choices is not None):
        return list(parameter.values.choices or [])
    if parameter.name in _DECIDING_IF_SET:
        ends = parameter.values.extremes(parameter.kind)
        return [next(each for each in ends if (each is None) is unset) for unset in {end is None for end in ends}]
    return []
