"""Which trials of a sweep share prices: those whose loss, batch size, precision and update take the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdas.clock import Calibration
from kdas.errors import UserError
from kdas.files.cache import content_id
from kdas.files.prices import read_calibration, write_calibration
from kdas.files.record import DamagedError
from kdas.recipe.config import TrialConfig
from kdas.samplers import SAMPLERS
from kdas.training.calibrate import calibration_for, kept_calibration, priced_by
from kdas.training.proxy import proxy_name
from kdas.training.trial import Inputs
from sweeps.file.methods import Methods
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import read_measure
from sweeps.space.space import Parameter

# The prices of a trial, as `calibration_for` returns them.
Measured = Callable[[TrialConfig, Inputs], Calibration]


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
        """Write them into the sweep directory, twice: nothing can replace lost prices."""
        for key, calibration in self.calibrations.items():
            for file in _files(directory, key, is_base=calibration is self.base):
                if read_calibration(file) is None:
                    file.parent.mkdir(parents=True, exist_ok=True)
                    write_calibration(file, calibration)


def prices_for(
    methods: Methods,
    inputs: Inputs,
    directory: SweepDirectory,
    measured: Measured = calibration_for,
) -> Prices:
    """The prices stored with the sweep; missing ones are taken from this machine's cache, or measured now.

    Args: measured: returns prices that the sweep does not have, as when more is searched than when it began.
    Raises: UserError: if a sweep that has trials has lost their prices. Other prices would be another unit.
    """
    variants = {price_key(config): config for config in priced_variants(methods)}
    files = {key: _files(directory, key, is_base=not place) for place, key in enumerate(variants)}
    charged, found = charged_by(directory), dict[str, Calibration]()
    for key, config in variants.items():
        frozen = next((kept for kept in map(read_calibration, files[key]) if kept and charged.may_hold(kept)), None)
        if frozen is None and charged.ids:
            kept = kept_calibration(config, inputs)
            frozen = kept if kept is not None and kept.calibration_id in charged.ids else None
        if frozen is not None:
            found[key] = frozen
    missing = [key for key in variants if key not in found]
    if missing and (lost := charged.ids - {each.calibration_id for each in found.values()}):
        raise UserError(
            f"{files[missing[0]][0]}: is damaged, missing, or not the prices that the trials were charged by"
            f" ({', '.join(sorted(lost))}). Restore it from a copy, or start the sweep under another name."
        )
    return Prices({key: found.get(key) or measured(config, inputs) for key, config in variants.items()})


@dataclass(frozen=True)
class Charged:
    """Ids of the prices by which the trials of a sweep were charged, none before the first evaluation.

    `are_all`: whether the ids are those of all prices of the sweep.
    """

    ids: frozenset[str]
    are_all: bool

    def may_hold(self, calibration: Calibration) -> bool:
        return not self.are_all or calibration.calibration_id in self.ids


def charged_by(directory: SweepDirectory) -> Charged:
    """By what the trials were charged, as the measure says, or else their rows."""
    with suppress(DamagedError):
        if (measure := read_measure(directory)) is not None:
            return Charged(frozenset([measure.calibration_id, *measure.calibration_ids]), bool(measure.calibration_ids))
    ids: set[str] = set()
    for folder in directory.trials():
        with suppress(DamagedError):
            ids |= {recorded.row.calibration_id for recorded in folder.rows()}
    return Charged(frozenset(ids), are_all=False)


def _files(directory: SweepDirectory, key: str, *, is_base: bool) -> tuple[Path, Path]:
    """Where prices are kept, and where their copy is."""
    folder = directory.path / "calibrations"
    return directory.calibration_file if is_base else folder / f"{key}.json", folder / f"{key}.copy.json"


_DECIDING = ("loss", "batch_size", "accumulate", "precision", "proxy", "optimizer.name", "optimizer.nesterov")
# Only whether they are set matters, not their value.
_DECIDING_IF_SET = ("ema_decay", "optimizer.clip_norm")


def price_key(config: TrialConfig) -> str:
    """The key of a trial's prices: those measured for the member of `priced_variants` with the same key."""
    return content_id(priced_by(config))


def priced_variants(methods: Methods) -> list[TrialConfig]:
    """One trial for each set of prices that a sweep needs, that of plain distillation first.

    Only the recipe of these trials matters and a sampler's proxy, not other samplers or the seed.
    """
    contents = [{**methods.content, "sampler": "full"}, *(each.content for each in methods.baselines.values())]
    for search in methods.searches:
        space = search.space
        deciding = {parameter.name: values for parameter in space.parameters if (values := _values(parameter))}
        contents.append(search.content)
        contents += [space.applied(search.content, point) for point in space.combinations(deciding) if point]
    variants: dict[str, TrialConfig] = {}
    for each in contents:
        config = TrialConfig(**{**each, "sampler": each["sampler"] if _has_proxy(each["sampler"]) else "full"})
        variants.setdefault(price_key(config), config)
    return list(variants.values())


def _values(parameter: Parameter) -> list[Any]:
    """Values of a parameter that may change prices; only one of those that share prices."""
    if parameter.name == "sampler":
        proxies = [choice for choice in parameter.values.choices or [] if _has_proxy(choice)]
        others = [choice for choice in parameter.values.choices or [] if not _has_proxy(choice)]
        return [*proxies, *others[:1]] if proxies else []
    if parameter.name in _DECIDING or (parameter.path[0] == "loss" and parameter.values.choices is not None):
        return list(parameter.values.choices or [])
    if parameter.name in _DECIDING_IF_SET:
        ends = parameter.values.extremes(parameter.kind)
        return [next(each for each in ends if (each is None) is unset) for unset in {end is None for end in ends}]
    return []


def _has_proxy(sampler: Any) -> bool:
    return bool(proxy_name(SAMPLERS.checked(sampler)))
