"""Times each kind of work alone, on the code that trials run.

Rounds are interleaved: all kinds in the first, then all in the second. So a machine that gets slower slows all kinds.
Within a round the kinds take turns.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from kdas import seeding
from kdas.clock import PriceTable, Work
from kdas.compute.device import synchronize
from kdas.data import Draw, ImageSplits
from kdas.penalty import penalty_weights
from kdas.recipe.config import TrialConfig
from kdas.samplers import SAMPLERS, SamplerContext, knowledge_scores, select
from kdas.samplers.scored import tracked
from kdas.samplers.scores import error_norm
from kdas.teacher.bank.answers import WINDOW_BYTES
from kdas.teacher.bank.store import BankStore, Shape, create
from kdas.training.batch import Batch
from kdas.training.distiller import Distiller
from kdas.training.proxy import Proxy, proxy_name

ROUNDS = 5
WARM_UP_RUNS = 3
# Work that has run for longer than this is warm.
WARM_UP_SECONDS = 0.5
# In each round. Slow work is timed less often, but at least once.
TIMED_RUNS = 5
SECONDS_PER_PRICE = 1.0

# A kind of work at a batch size.
Key = tuple[Work, int]
# What is timed, created again for each round.
Job = Callable[[], Callable[[], object]]


@dataclass(frozen=True)
class Timed:
    """The prices of each round, and the share of the time in which this process waited for a processor."""

    rounds: tuple[PriceTable, ...]
    waited: float


def timed(config: TrialConfig, distiller: Distiller) -> Timed:
    """Time all kinds of work in `ROUNDS` rounds. The distiller's student is trained for a few steps."""
    stopwatch = _Stopwatch(distiller.device)
    rounds: list[dict[Key, float]] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        jobs = _jobs(config, distiller, Path(folder))
        # By size, then in the order of a trial: a batch is fetched, scored, trained on.
        keys = sorted(jobs, key=lambda key: (key[1], list(Work).index(key[0])))
        # Reading ahead must not go on beside other work.
        apart = [key for key in keys if key[0] is Work.AUGMENT and distiller.splits.reading]
        groups = [[key] for key in apart] + [[key for key in keys if key not in apart]]
        for _ in range(ROUNDS):
            before = rounds[-1] if rounds else {}
            seconds: dict[Key, float] = {}
            for group in groups:
                seconds |= stopwatch.medians_s({key: jobs[key]() for key in group}, before)
            rounds.append({key: seconds[key] for key in jobs})
    return Timed(tuple(map(_table, rounds)), stopwatch.waited)


def median_of(rounds: tuple[PriceTable, ...]) -> PriceTable:
    """The median price over the rounds."""
    return {
        kind: tuple(
            (size, statistics.median(each[kind][position][1] for each in rounds))
            for position, (size, _) in enumerate(points)
        )
        for kind, points in rounds[0].items()
    }


def _table(seconds: Mapping[Key, float]) -> PriceTable:
    kinds = dict.fromkeys(kind for kind, _ in seconds)
    return {kind: tuple((size, each) for (of, size), each in seconds.items() if of is kind) for kind in kinds}


class _Stopwatch:
    """Times work, and adds up how much of that time this process's threads ran."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._wall_s = self._processor_s = 0.0

    def medians_s(self, works: Mapping[Key, Callable[[], object]], before: Mapping[Key, float]) -> dict[Key, float]:
        """The median seconds of a few runs of each. Args: before: the medians of the round before, {} in the first.

        The works take turns, as in a trial: run again at once, small work finds everything in the processor's caches.
        """
        for key, work in works.items():
            self._warm_up(work, before.get(key))
        seconds: dict[Key, list[float]] = {key: [] for key in works}
        for _ in range(TIMED_RUNS):
            for key, work in works.items():
                if not seconds[key] or sum(seconds[key]) < SECONDS_PER_PRICE / ROUNDS:
                    seconds[key].append(self._seconds(work, key[0]))
        return {key: statistics.median(each) for key, each in seconds.items()}

    def _seconds(self, work: Callable[[], object], kind: Work) -> float:
        began, processor_began = time.perf_counter(), time.process_time()
        work()
        synchronize(self._device)
        took = time.perf_counter() - began
        if kind is not Work.AUGMENT:  # other processes may read the images
            self._wall_s += took
            self._processor_s += time.process_time() - processor_began
        return took

    def _warm_up(self, work: Callable[[], object], before_s: float | None) -> None:
        runs = WARM_UP_RUNS if before_s is None else 1 if before_s < WARM_UP_SECONDS else 0
        began = time.perf_counter()
        for _ in range(runs):
            work()
            synchronize(self._device)
            if time.perf_counter() - began > WARM_UP_SECONDS:
                break

    @property
    def waited(self) -> float:
        """The share of the time in which no thread of this process ran; 0 where another device does the work."""
        return max(0.0, 1 - self._processor_s / self._wall_s) if self._device == "cpu" else 0.0


def _jobs(config: TrialConfig, distiller: Distiller, folder: Path) -> dict[Key, Job]:
    """Measured sizes: half a batch, one batch, and scoring batches at rates of a half and a quarter."""
    splits, size = distiller.splits, config.batch_size
    total = len(splits.train)
    sizes = sorted({min(wanted, total) for wanted in (math.ceil(size / 2), size, 2 * size, 4 * size)})
    draw = Draw(seed=0, epoch=1)
    drawn = splits.training_batches([torch.arange(n) for n in sizes], draw)
    batches = {n: distiller.asked(distiller.batch(*views, draw)) for n, views in zip(sizes, drawn, strict=True)}

    def on_batches(work: Callable[[Batch], object], which: list[int]) -> dict[int, Job]:
        return {n: lambda n=n: lambda: work(batches[n]) for n in which}  # type: ignore[misc]

    last_losses, last_statistics = torch.zeros(total), torch.zeros(2, total)

    def score(batch: Batch) -> object:
        assert batch.answer is not None
        scores = knowledge_scores(distiller.scoring_logits(batch, epoch=1), batch.answer.logits)
        return batch.rows(select(scores, size, 0.05))

    def weigh(batch: Batch) -> object:
        assert batch.answer is not None
        return penalty_weights(batch.answer.logits, batch.targets, 0.2, 1000.0, 0.5)

    def observe(batch: Batch) -> object:
        assert batch.answer is not None
        last_losses[batch.indices] = batch.answer.logits[:, 0].to(last_losses)
        return last_losses

    def track(batch: Batch) -> object:
        assert batch.answer is not None
        values = tracked(error_norm, batch.answer.logits, batch.targets)
        last_statistics[:, batch.indices] = values.to(last_statistics)
        return last_statistics

    trained_on = [n for n in sizes if n <= size]
    kinds: dict[Work, dict[int, Job]] = {
        Work.TEACHER: on_batches(distiller.asked, sizes),
        Work.SCORE: on_batches(score, sizes),
        Work.WEIGH: on_batches(weigh, trained_on),
        Work.STEP: on_batches(lambda batch: distiller.step(batch, epoch=1), trained_on),
        Work.OBSERVE: on_batches(observe, trained_on),
        Work.TRACK: on_batches(track, trained_on),
        Work.AUGMENT: {n: lambda n=n: _fetching(distiller, n) for n in sizes},  # type: ignore[misc]
        Work.EPOCH: _epochs(config, splits, distiller.device, folder),
    }
    if proxy_name(config.sampler):
        proxy = Proxy(config, splits, distiller.device)
        kinds[Work.PROXY_SCORE] = on_batches(lambda batch: batch.rows(select(proxy.losses(batch, 1), size, 0.0)), sizes)
        kinds[Work.PROXY_STEP] = on_batches(lambda batch: proxy.step(batch, 1), trained_on)
    return {(kind, n): job for kind, of_sizes in kinds.items() for n, job in of_sizes.items()}


def _fetching(distiller: Distiller, batch_size: int) -> Callable[[], object]:
    """From one batch to the next within an epoch: if images stream, time hidden by reading ahead is free."""
    splits = distiller.splits
    # In random order, as in a trial: images that lie side by side in memory are read faster.
    order = torch.randperm(len(splits.train), generator=seeding.generator(0, "order of timing"))
    runs = torch.arange((WARM_UP_RUNS + TIMED_RUNS) * batch_size) % len(order)
    draw = Draw(seed=0, epoch=1)
    views = splits.training_batches(torch.split(order[runs], batch_size), draw)
    return lambda: distiller.batch(*next(views), draw)


def _epochs(config: TrialConfig, splits: ImageSplits, device: str, folder: Path) -> dict[int, Job]:
    """What an epoch does before its first batch: plan, draw views, read the teacher's answers."""
    # A larger set is read window by window, and its epochs take hours.
    largest = min(len(splits.train), WINDOW_BYTES // (4 * splits.num_classes))
    draw = Draw(config.seed, epoch=1)
    shape = Shape(largest, 1, splits.num_classes, "float16")
    create(folder / "bank", shape, {})
    bank = BankStore(folder / "bank", shape)

    def begin(num_samples: int) -> object:
        context = SamplerContext(num_samples, config.batch_size, config.epochs, config.seed)
        plan = SAMPLERS.build({"name": "full"}, context).plan(1)
        batches = plan.batches()
        if not splits.reading:
            # Two samples come first, because fetching a whole batch has a price of its own.
            next(splits.training_batches([plan.order[:2], *batches], draw))
        if splits.view_ids(draw) is None:
            return batches
        logits, _ = bank.read(plan.order.numpy(), np.zeros(num_samples, np.int64))
        return torch.from_numpy(logits).to(device)

    sizes = sorted({max(2, largest // 4), largest})
    return {n: lambda n=n: lambda: begin(n) for n in sizes}  # type: ignore[misc]
