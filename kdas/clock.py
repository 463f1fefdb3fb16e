"""The cost clock: counts work as it is done and charges calibrated prices, so a busy machine does not change a cost."""

from __future__ import annotations

import statistics
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any


class Work(StrEnum):
    """Kinds of work. Each is charged per batch, an epoch's beginning by the number of samples that it plans."""

    EPOCH = "epoch"  # plan an epoch, draw its views, read its answers from the bank
    AUGMENT = "augment"  # cut the views of a batch and normalise them
    TEACHER = "teacher"  # teacher forward
    SCORE = "score"  # forward without gradients of the student, or of a reference that is like it; scores and choice
    WEIGH = "weigh"  # compute the weights of the distillation term
    STEP = "step"  # student forward, loss, backward, update
    OBSERVE = "observe"  # the sampler takes in the losses of a batch
    TRACK = "track"  # the sampler takes in the student's logits of a batch
    PROXY_SCORE = "proxy_score"  # forward of a proxy, its losses and the choice
    PROXY_STEP = "proxy_step"  # forward, loss, backward and update of a proxy
    ASKED = "asked"  # a teacher forward that really ran; TEACHER counts those that the method needs


def batch_sizes(num_samples: int, batch_size: int) -> list[int]:
    """Batch sizes of an epoch. A single leftover sample, too few for batch norm, joins the batch before it."""
    whole, rest = divmod(num_samples, batch_size)
    if rest == 1 and whole:
        return [batch_size] * (whole - 1) + [batch_size + 1]
    return [batch_size] * whole + [rest] * (rest > 0)


# Seconds of a batch of each kind of work, at increasing batch sizes.
PriceTable = Mapping[Work, tuple[tuple[int, float], ...]]
# Earlier versions did not charge for epochs, and only trials with a proxy have prices for it.
_FREE = dict.fromkeys((Work.EPOCH, Work.PROXY_SCORE, Work.PROXY_STEP), ((1, 0.0),))
# What has no price of its own: always, or in tables of earlier versions. Weights and tracking both take a softmax and a
# few numbers for each sample.
_PRICED_AS = {Work.ASKED: Work.TEACHER}
_ONCE_PRICED_AS = {Work.TRACK: Work.WEIGH}


@dataclass(frozen=True)
class Calibration:
    """Prices: median seconds of a batch of each kind of work, run alone, at a few batch sizes.

    `measured_on` is what the prices depend on; `calibration_id` is a hash of everything else. `rounds` are the prices
    of each round of measuring, whose medians `prices` are; earlier versions had no rounds. `measured_at` is in seconds
    since 1970. `busy` says what else the machine did meanwhile, "" if it did nothing else.
    """

    calibration_id: str
    measured_on: Mapping[str, Any]
    prices: PriceTable
    rounds: tuple[PriceTable, ...] = ()
    measured_at: float = 0.0
    busy: str = ""

    @cached_property
    def _known(self) -> dict[tuple[Work, int], float]:
        return {}

    def price(self, work: Work, batch_size: int) -> float:
        """Seconds of one batch: measured, or on the straight line through the two nearest measured sizes."""
        key = (work, batch_size)
        if key not in self._known:
            kind = _PRICED_AS.get(work, work)
            kind = kind if kind in self.prices else _ONCE_PRICED_AS.get(kind, kind)
            points = self.prices[kind] if kind in self.prices else _FREE[kind]
            self._known[key] = _on_line(points, batch_size)
        return self._known[key]

    def plain_run_s(self, num_samples: int, batch_size: int, epochs: int) -> float:
        """Reference seconds of plain distillation over all epochs."""
        kinds = (Work.AUGMENT, Work.TEACHER, Work.STEP)
        sizes = Counter(batch_sizes(num_samples, batch_size))
        batches = sum(count * self.price(kind, size) for size, count in sizes.items() for kind in kinds)
        return epochs * (batches + self.price(Work.EPOCH, num_samples))

    def pass_s(self, work: Work, num_samples: int, batch_size: int) -> float:
        """Reference seconds of one kind of work, once on every sample."""
        return sum(self.price(work, size) for size in batch_sizes(num_samples, batch_size))

    @cached_property
    def of_rounds(self) -> tuple[Calibration, ...]:
        """The prices of each round, to charge by them alone."""
        return tuple(Calibration("", self.measured_on, prices) for prices in self.rounds)

    @cached_property
    def spread(self) -> float:
        """How much rounds differ: the standard deviation of KDAS's cost in units of plain distillation's.

        It is a fraction of that cost, 0 where there are no rounds to compare. If a single kind of work varies more
        within the sum than the sum itself does, that counts.
        """
        if len(self.rounds) < 2:
            return 0.0
        parts = [each._parts_of_kdas() for each in self.of_rounds]
        sums = [sum(each.values()) for each in parts]
        columns = [sums, *([each[kind] for each in parts] for kind in parts[0])]
        return max(map(statistics.stdev, columns)) / statistics.fmean(sums)

    def _parts_of_kdas(self) -> Mapping[Work, float]:
        """Each kind's cost, in plain steps, in a scoring step at a rate of a half and a step on remembered samples.

        A step's share of beginning an epoch is that of the samples that it fetches.
        """
        size = self.prices[Work.STEP][-1][0]
        num_planned = self.prices.get(Work.EPOCH, _FREE[Work.EPOCH])[-1][0]
        share_s = size / num_planned * self.price(Work.EPOCH, num_planned)
        scoring = [(kind, 2 * size) for kind in (Work.AUGMENT, Work.TEACHER, Work.SCORE)]
        training = [(kind, size) for kind in (Work.WEIGH, Work.STEP)]
        remembered = [(kind, size) for kind in (Work.AUGMENT, Work.TEACHER)]
        plain_s = share_s + sum(self.price(kind, size) for kind in (Work.AUGMENT, Work.TEACHER, Work.STEP))
        parts: defaultdict[Work, float] = defaultdict(float)
        parts[Work.EPOCH] = 3 * share_s / plain_s
        for kind, number in (*scoring, *training, *remembered, *training):
            parts[kind] += self.price(kind, number) / plain_s
        return parts

    def as_dict(self) -> dict[str, Any]:
        content = {
            "calibration_id": self.calibration_id,
            "measured_on": dict(self.measured_on),
            "prices": _as_lists(self.prices),
        }
        if not self.rounds:
            return content
        return {**content, "rounds": [*map(_as_lists, self.rounds)], "measured_at": self.measured_at, "busy": self.busy}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibration:
        return cls(
            content["calibration_id"],
            content["measured_on"],
            _from_lists(content["prices"]),
            tuple(map(_from_lists, content.get("rounds", ()))),
            float(content.get("measured_at", 0.0)),
            str(content.get("busy", "")),
        )


def _as_lists(prices: PriceTable) -> dict[str, Any]:
    return {work.value: [list(pair) for pair in pairs] for work, pairs in prices.items()}


def _from_lists(content: Mapping[str, Any]) -> PriceTable:
    return {
        Work(work): tuple((int(size), float(seconds)) for size, seconds in pairs) for work, pairs in content.items()
    }


def _on_line(points: tuple[tuple[int, float], ...], batch_size: int) -> float:
    if len(points) == 1:
        return points[0][1] * batch_size / points[0][0]
    upper = min(max(bisect_left([size for size, _ in points], batch_size), 1), len(points) - 1)
    (size_a, price_a), (size_b, price_b) = points[upper - 1], points[upper]
    on_line = price_a + (price_b - price_a) * (batch_size - size_a) / (size_b - size_a)
    # Noise can tilt the line below zero for the smallest batches; work is never free.
    return max(on_line, min(price_a, price_b) * batch_size / size_b)


class Clock:
    """Totals of one trial: reference seconds from counted work, and wall seconds while it runs."""

    def __init__(
        self,
        calibration: Calibration,
        synchronize: Callable[[], None] = lambda: None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.calibration = calibration
        self.counts: Counter[tuple[Work, int]] = Counter()
        self.cost_ref_s = 0.0
        self.cost_as_run_s = 0.0
        self.wall_s = 0.0
        self.eval_s = 0.0
        self._synchronize, self._now = synchronize, now
        self._since: float | None = None

    def charge(self, work: Work, batch_size: int) -> None:
        """Count one batch of work."""
        self.counts[work, batch_size] += 1
        price = self.calibration.price(work, batch_size)
        if work is not Work.ASKED:
            self.cost_ref_s += price
        if work is not Work.TEACHER:
            self.cost_as_run_s += price

    def charge_all(self, work: Work, num_samples: int, batch_size: int) -> None:
        """Count work on `num_samples` samples, in batches."""
        for size in batch_sizes(num_samples, batch_size):
            self.charge(work, size)

    def samples(self, work: Work) -> int:
        """How many samples a kind of work has handled."""
        return sum(count * size for (kind, size), count in self.counts.items() if kind is work)

    def start(self) -> None:
        self._synchronize()
        self._since = self._now()

    def pause(self) -> None:
        """Stop the wall clock: what follows is not training."""
        if self._since is not None:
            self._synchronize()
            self.wall_s += self._now() - self._since
            self._since = None

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Count the seconds spent inside as `eval_s`, not as cost."""
        began = self._now()
        yield
        self._synchronize()
        self.eval_s += self._now() - began

    def ledger(self) -> list[list[Any]]:
        """The counted work as `[[work, batch size, count], ...]`, from which the cost can be computed at any prices."""
        return [[work.value, size, count] for (work, size), count in self.counts.items()]

    def state_dict(self) -> dict[str, Any]:
        return {"counts": self.ledger(), **{name: getattr(self, name) for name in _TOTALS}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.counts = Counter({(Work(work), size): count for work, size, count in state["counts"]})
        for name in _TOTALS:
            setattr(self, name, state[name])


_TOTALS = ("cost_ref_s", "cost_as_run_s", "wall_s", "eval_s")


def priced(counts: list[list[Any]], calibration: Calibration) -> tuple[float, float]:
    """`cost_ref_s` and `cost_as_run_s` of a recorded ledger `[[work, batch size, count], ...]` at other prices."""
    seconds = [(Work(work), count * calibration.price(Work(work), size)) for work, size, count in counts]
    alone = sum((each for work, each in seconds if work is not Work.ASKED), 0.0)
    return alone, sum((each for work, each in seconds if work is not Work.TEACHER), 0.0)


def without_teacher_s(counts: list[list[Any]], calibration: Calibration) -> float:
    """Reference seconds of a recorded ledger with a cached teacher: its forward passes cost nothing."""
    of_teacher = (Work.TEACHER, Work.ASKED)
    kinds = ((Work(work), size, count) for work, size, count in counts)
    return sum((count * calibration.price(work, size) for work, size, count in kinds if work not in of_teacher), 0.0)


def with_epochs(counts: list[list[Any]], num_epochs: int) -> list[list[Any]]:
    """A ledger with all epochs that had begun: earlier versions did not count them.

    An epoch's price is linear in the samples that it plans, so their mean prices each of the missing epochs.
    """
    missing = num_epochs - sum(count for work, _, count in counts if work == Work.EPOCH)
    if missing <= 0:
        return counts
    fetched = sum(size * count for work, size, count in counts if work == Work.AUGMENT)
    return [*counts, [Work.EPOCH.value, max(1, round(fetched / num_epochs)), missing]]
