"""Measures the clock's prices: the median time of each kind of work, run alone, on the code that trials run."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from kdas.clock import Calibration, Work
from kdas.compute.device import hardware_name, repeatable, synchronize
from kdas.data import Draw, ImageSplits
from kdas.files.cache import cache_root, content_id, write_text
from kdas.files.full import going_without
from kdas.parts.terms import as_terms
from kdas.penalty import penalty_weights
from kdas.recipe.config import TrialConfig
from kdas.records import MEASURE_VERSION
from kdas.samplers import knowledge_scores, select
from kdas.training.batch import Batch
from kdas.training.distiller import Distiller
from kdas.training.trial import priced_code

WARM_UP_RUNS = 3
# Work that has run for longer than this is warm.
WARM_UP_SECONDS = 0.5
TIMED_RUNS = 21
# Slow work is timed less often, but at least three times.
SECONDS_PER_PRICE = 1.0


def priced_by(config: TrialConfig) -> dict[str, Any]:
    """The settings of a trial that its prices depend on. A loss costs the same whatever its numbers are."""
    return {
        "threads": config.threads,
        "precision": [config.precision, config.channels_last, config.compile, config.accumulate],
        "teacher": config.teacher.model,
        "student": config.student,
        "loss": [_without_numbers(part) for _, part in as_terms(config.loss)],
        "update": [config.optimizer.clip_norm is not None, config.ema_decay is not None],
        "batch_size": config.batch_size,
        **({"code": code} if (code := priced_code(config)) else {}),
    }


def _without_numbers(part: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if type(value) not in (int, float)}


def subject(config: TrialConfig, distiller: Distiller) -> dict[str, Any]:
    """What prices depend on; trials with the same subject share one calibration."""
    return {
        "hardware": hardware_name(distiller.device),
        "device": distiller.device,
        "torch": torch.__version__,
        "measure_version": MEASURE_VERSION,
        "image_size": distiller.splits.image_size,
        # A small set cannot fill the larger batches.
        "largest_batch": min(len(distiller.splits.train), 4 * config.batch_size),
        "num_classes": distiller.splits.num_classes,
        **priced_by(config),
        **distiller.splits.reading,
    }


def calibration_for(
    config: TrialConfig, distiller: Distiller, announce: Callable[[], None] = lambda: None
) -> Calibration:
    """The cached calibration of this subject, measured now if there is none. Call it while nothing else runs.

    Args: distiller: to measure on; its student is trained for a few steps, so throw it away afterwards; announce:
        called before anything is measured.
    """
    measured_on = subject(config, distiller)
    path = _kept_path(measured_on)
    kept = read_calibration(path)
    if kept is not None:
        return kept
    announce()
    repeatable(config.threads)
    prices = _measure(config, distiller)
    calibration = calibration_of(measured_on, prices)
    with going_without(path):
        write_calibration(path, calibration)
    return calibration


def kept_calibration(config: TrialConfig, distiller: Distiller) -> Calibration | None:
    """The calibration that this machine keeps for this subject; None if it has none."""
    return read_calibration(_kept_path(subject(config, distiller)))


def _kept_path(measured_on: Mapping[str, Any]) -> Path:
    return cache_root() / "calibrations" / f"{content_id(measured_on)}.json"


def calibration_of(measured_on: Mapping[str, Any], prices: Mapping[Work, tuple[tuple[int, float], ...]]) -> Calibration:
    """Prices with the id that follows from them and from what they were measured on."""
    plain = {work.value: pairs for work, pairs in prices.items()}
    return Calibration(content_id([measured_on, plain]), measured_on, prices)


def read_calibration(path: Path) -> Calibration | None:
    """A stored calibration; None if it is missing or damaged, which its id shows."""
    try:
        kept = Calibration.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return kept if kept.calibration_id == calibration_of(kept.measured_on, kept.prices).calibration_id else None


def write_calibration(path: Path, calibration: Calibration) -> None:
    """Write a calibration; a kill leaves the old file or the new one."""
    write_text(path, json.dumps(calibration.as_dict(), indent=1))


def _measure(config: TrialConfig, distiller: Distiller) -> dict[Work, tuple[tuple[int, float], ...]]:
    """Measured sizes: half a batch, one batch, and scoring batches at rates of a half and a quarter."""
    splits, size = distiller.splits, config.batch_size
    total = len(splits.train)
    small = sorted({math.ceil(size / 2), size})
    sizes = sorted({min(wanted, total) for wanted in (*small, 2 * size, 4 * size)})
    drawn = splits.training_batches([torch.arange(n) for n in sizes], Draw(seed=0, epoch=1))
    batches = {n: distiller.asked(distiller.batch(*views)) for n, views in zip(sizes, drawn, strict=True)}
    last_losses = torch.zeros(total)

    def teach(batch: Batch) -> object:
        return distiller.asked(batch)

    def score(batch: Batch) -> object:
        assert batch.answer is not None
        scores = knowledge_scores(distiller.scoring_logits(batch, epoch=1), batch.answer.logits)
        return batch.rows(select(scores, size, 0.05))

    def weigh(batch: Batch) -> object:
        assert batch.answer is not None
        return penalty_weights(batch.answer.logits, batch.targets, 0.2, 1000.0, 0.5)

    def step(batch: Batch) -> object:
        return distiller.step(batch, epoch=1)

    def observe(batch: Batch) -> object:
        assert batch.answer is not None
        last_losses[batch.indices] = batch.answer.logits[:, 0].to(last_losses)
        return last_losses

    trained_on = [n for n in sizes if n <= size]
    kinds: dict[Work, tuple[Callable[[Batch], object], list[int]]] = {
        Work.TEACHER: (teach, sizes),
        Work.SCORE: (score, sizes),
        Work.WEIGH: (weigh, trained_on),
        Work.STEP: (step, trained_on),
        Work.OBSERVE: (observe, trained_on),
    }
    prices = {
        kind: tuple((n, _median_seconds(work, batches[n], distiller.device)) for n in which)
        for kind, (work, which) in kinds.items()
    }
    prices[Work.AUGMENT] = tuple((n, _seconds_to_fetch(splits, n, distiller.device)) for n in sizes)
    return prices


def _median_seconds(work: Callable[[Batch], object], batch: Batch, device: str) -> float:
    return _median(lambda: work(batch), device)


def _seconds_to_fetch(splits: ImageSplits, batch_size: int, device: str) -> float:
    """Time from one batch to the next within an epoch: if images stream, time hidden by reading ahead is free."""
    views = splits.training_batches([torch.arange(batch_size)] * (WARM_UP_RUNS + TIMED_RUNS), Draw(seed=0, epoch=1))
    return _median(lambda: next(views), device)


def _median(work: Callable[[], object], device: str) -> float:
    began = time.perf_counter()
    for _ in range(WARM_UP_RUNS):
        work()
        synchronize(device)
        if time.perf_counter() - began > WARM_UP_SECONDS:
            break
    seconds: list[float] = []
    while len(seconds) < TIMED_RUNS and (len(seconds) < 3 or sum(seconds) < SECONDS_PER_PRICE):
        began = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
