"""The clock's prices on this machine: measured when they are needed, kept in the cache, doubted if they vary."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from kdas.clock import Calibration
from kdas.compute.device import hardware_name, repeatable
from kdas.files.cache import cache_root, content_id
from kdas.files.full import going_without
from kdas.files.prices import calibration_of, read_calibration, write_calibration
from kdas.losses import LOSSES
from kdas.parts.terms import as_terms
from kdas.recipe.config import TrialConfig
from kdas.recipe.optimizer import OptimizerConfig
from kdas.records import MEASURE_VERSION
from kdas.training.distiller import Distiller
from kdas.training.proxy import proxy_name
from kdas.training.timing import median_of, timed
from kdas.training.trial import Inputs, Trial, priced_code

# Prices are measured this often, if rounds differ or the machine does other work.
ATTEMPTS = 3
# Rounds that differ by less than this fraction of a cost are steady.
STEADY = 0.03
# On an idle machine a process waits for its processor less than this share of the time.
IDLE = 0.05
# Before another attempt on a busy machine.
PAUSE_S = 10.0

_REMEDY = (
    "Comparisons of methods may be wrong. Stop other work and start again; once a trial has run, under another name."
)

# Busy calibrations that this process measured: it uses them for all its sweeps, others measure again.
_measured_here: set[str] = set()


def priced_by(config: TrialConfig) -> dict[str, Any]:
    """The settings of a trial that its prices depend on. Of its sampler, that is a proxy alone."""
    return {
        "threads": config.threads,
        "precision": [config.precision, config.channels_last, config.compile, config.accumulate],
        "teacher": config.teacher.model,
        "student": config.student,
        "loss": [_without_numbers(LOSSES.identity(part)) for _, part in as_terms(config.loss)],
        "update": [config.optimizer.clip_norm is not None, config.ema_decay is not None],
        "batch_size": config.batch_size,
        **({"cuda_graphs": True} if config.cuda_graphs else {}),  # as before there was this key, if it is off
        **({"proxy": proxy} if (proxy := proxy_name(config.sampler)) else {}),
        **_optimizer_unless_sgd(config.optimizer),
        **({"transforms": config.transforms} if config.transforms else {}),
        **({"code": code} if (code := priced_code(config)) else {}),
        **{key: layers for key in ("student_layers", "teacher_layers") if (layers := getattr(config, key)) is not None},
    }


def _optimizer_unless_sgd(optimizer: OptimizerConfig) -> dict[str, Any]:
    """What a step's update depends on; nothing for SGD, so that prices from before there was a choice stay valid."""
    kind = [optimizer.name, *(["nesterov"] if optimizer.nesterov else [])]
    return {} if kind == ["sgd"] else {"optimizer": kind}


def _without_numbers(part: dict[str, Any]) -> dict[str, Any]:
    """A loss costs the same whatever its numbers are, but for those that it names."""
    priced = LOSSES[part["name"]].priced
    return {key: value for key, value in part.items() if key in priced or type(value) not in (int, float)}


def subject(config: TrialConfig, inputs: Inputs) -> dict[str, Any]:
    """What prices depend on; trials with the same subject share one calibration."""
    splits = inputs.splits
    return {
        "hardware": hardware_name(inputs.device),
        "device": inputs.device,
        "torch": torch.__version__,
        "measure_version": MEASURE_VERSION,
        "image_size": splits.image_size,
        # A small set cannot fill the larger batches.
        "largest_batch": min(len(splits.train), 4 * config.batch_size),
        "num_classes": splits.num_classes,
        **priced_by(config),
        **splits.reading,
    }


def calibration_for(
    config: TrialConfig,
    inputs: Inputs,
    tell: Callable[[str], None] = lambda line: None,
    neighbours: Callable[[], Sequence[str]] = lambda: (),
) -> Calibration:
    """The cached calibration of this subject, measured now if there is none. Call it while nothing else runs.

    Calibrations from a busy machine are not used again.

    Args: tell: called with each line that the user should read; neighbours: the names of other sweeps that train on
        this machine.
    """
    kept = kept_calibration(config, inputs)
    if kept is not None and kept.rounds and (not kept.busy or kept.calibration_id in _measured_here):
        return kept
    return measured_calibration(config, inputs, tell, neighbours)


def measured_calibration(
    config: TrialConfig,
    inputs: Inputs,
    tell: Callable[[str], None] = lambda line: None,
    neighbours: Callable[[], Sequence[str]] = lambda: (),
) -> Calibration:
    """The steadiest of a few calibrations, measured now and kept in the cache. Args: as `calibration_for`."""
    tell("Measuring the cost of a step on this machine. Run nothing else on it meanwhile.")
    repeatable(config.threads)
    distiller = Trial(config, inputs).distiller()
    attempts: list[Calibration] = []
    while not attempts or (len(attempts) < ATTEMPTS and doubts(attempts[-1])):
        if attempts:
            tell(f"{doubts(attempts[-1])} Measuring again.")
            time.sleep(PAUSE_S if attempts[-1].busy else 0)
        attempts.append(_measured(config, inputs, distiller, neighbours))
    best = min(attempts, key=lambda each: (bool(each.busy), each.spread))
    if doubts(best):
        tell(f"WARNING: {doubts(best)} {_REMEDY}")
    _measured_here.add(best.calibration_id)
    path = kept_path(best.measured_on)
    with going_without(path):
        write_calibration(path, best)
    return best


def doubts(calibration: Calibration) -> str:
    """Why these prices may be wrong, in a sentence or two; "" if nothing is known against them."""
    said = []
    if calibration.busy:
        said.append(f"The machine was busy while prices were measured: {calibration.busy}.")
    if calibration.spread > STEADY:
        said.append(f"Prices differ by {calibration.spread:.1%} between rounds, expected at most {STEADY:.0%}.")
    return " ".join(said)


def kept_calibration(config: TrialConfig, inputs: Inputs) -> Calibration | None:
    """The calibration that this machine keeps for this subject; None if it has none."""
    return read_calibration(kept_path(subject(config, inputs)))


def kept_path(measured_on: Mapping[str, Any]) -> Path:
    """Where the cache keeps prices of this subject."""
    return cache_root() / "calibrations" / f"{content_id(measured_on)}.json"


def _measured(
    config: TrialConfig, inputs: Inputs, distiller: Distiller, neighbours: Callable[[], Sequence[str]]
) -> Calibration:
    found = timed(config, distiller)
    busy = "; ".join(_signs_of_other_work(found.waited, neighbours()))
    return calibration_of(subject(config, inputs), median_of(found.rounds), found.rounds, time.time(), busy)


def _signs_of_other_work(waited: float, neighbours: Sequence[str]) -> list[str]:
    signs = [f"{name} trains on it" for name in neighbours]
    if waited > IDLE:
        signs.append(f"other work had the processor for {waited:.0%} of the time")
    load, present = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0, os.cpu_count() or 1
    # One more than the processors: before this, the sweep itself may have used all of them.
    if load > present + 1:
        signs.append(f"{load:.1f} processes wanted {present} processors")
    return signs
