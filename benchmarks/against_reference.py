"""Whole trials, ours against the field's usual trainer: same images, teacher, student, epochs and evaluations.

The two sides take turns, each in its own process. Neither side's clock includes the set-up before the first step.
Our trial first runs once before the timed repetitions, so that the teacher bank holds what a sweep finds from its
second configuration on; the time of that first run is also a figure. The usual trainer first takes a few untimed steps,
so that both sides start with warm kernels.

The official schedule has 240 epochs of 50,000 images. Here a few epochs of hundreds of images are trained, with as
similar a share of sampling epochs as that allows. On such small sets, starting the reference's worker processes weighs
more than on a full set: about 0.1 s per epoch of several seconds.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.bench import Bench, Figures, Run, as_figures, evaluations_for, run
from benchmarks.reference_process import ReferenceProcess, ReferenceRun, reference_process
from kdas import schedules
from kdas.training.trial import Trial

PAIRS = (("kdas", "vgg13", "vgg8"), ("kdas", "resnet32x4", "resnet8x4"))
WHEN_THERE_IS_TIME = (("plain_kd", "vgg13", "vgg8"),)
# As in CIFAR.
_TEST_SHARE = 0.2
OFFICIAL_EPOCHS, OFFICIAL_PERIODS = 240, (1, 3, 5, 10)


@dataclass(frozen=True)
class Size:
    """How much is trained.

    `num_train` is close to a multiple of the scoring batch, ceil(64 / rate): a tail smaller than 64 is kept whole.
    """

    num_train: int
    epochs: int
    periods: tuple[int, ...]
    repetitions: int


FULL = Size(num_train=1280, epochs=10, periods=OFFICIAL_PERIODS, repetitions=3)
QUICK = Size(num_train=210, epochs=5, periods=(1, 10), repetitions=1)


@dataclass(frozen=True)
class Comparison:
    """Both sides' times of one trial, one entry per repetition."""

    ours: list[Run]
    reference: list[ReferenceRun]
    first: Run

    def figures(self) -> Figures:
        """Medians in seconds, and ratios: of whole trials, of training alone, and of our first trial."""
        ours_s = statistics.median(each.whole_s for each in self.ours)
        ours_train_s = statistics.median(each.train_s for each in self.ours)
        # Our first trial was evaluated only once; its evaluation time is taken from the others.
        first_s = self.first.train_s + statistics.median(each.eval_s for each in self.ours)
        reference_s = statistics.median(each.whole_s for each in self.reference)
        reference_train_s = statistics.median(each.train_s for each in self.reference)
        return {
            "ours_s": ours_s,
            "reference_s": reference_s,
            "ours_train_s": ours_train_s,
            "reference_train_s": reference_train_s,
            "speedup": reference_s / ours_s,
            "speedup_train_alone": reference_train_s / ours_train_s,
            "speedup_first_trial": reference_s / first_s,
            "bank_hit_rate": statistics.median(each.bank_hit_rate for each in self.ours),
        }


def against_reference(bench: Bench) -> Figures:
    """KDAS for two pairs of the paper and, unless quick, plain KD for one."""
    size = QUICK if bench.quick else FULL
    figures: Figures = {
        "sampling_share_official": sampling_share(OFFICIAL_EPOCHS, OFFICIAL_PERIODS),
        "sampling_share_here": sampling_share(size.epochs, size.periods),
    }
    samplers: dict[str, Any] = {"kdas": {"name": "kdas", "sampling_period": size.periods}, "plain_kd": "full"}
    for method, teacher, student in PAIRS if bench.quick else (*PAIRS, *WHEN_THERE_IS_TIME):
        name = f"{method}_{teacher}_{student}"
        with reference_process() as reference:
            values = _compared(bench, reference, size, samplers[method], teacher, student, name).figures()
        # The headline figure comes first in its own name: speedup_kdas_vgg13_vgg8.
        figures |= {f"speedup_{name}": values.pop("speedup")} | as_figures(name, values)
    return figures


def sampling_share(epochs: int, periods: Sequence[int]) -> float:
    """The fraction of epochs that are sampling epochs."""
    return sum(schedules.is_sampling_epoch(epoch, epochs, periods) for epoch in range(1, epochs + 1)) / epochs


def _compared(
    bench: Bench, reference: ReferenceProcess, size: Size, sampler: Any, teacher: str, student: str, name: str
) -> Comparison:
    num_test = round(_TEST_SHARE * size.num_train)
    trial = bench.trial(teacher, student, size.num_train, num_test, epochs=size.epochs, sampler=sampler)
    bench.progress(f"{name}: our first trial")
    first = run(trial)
    # The reference is evaluated once an epoch.
    trial = _changed(trial, evaluations=evaluations_for(size.epochs, first))
    bench.progress(f"{name}: a few steps of the reference")
    reference.run(bench.trial(teacher, student, 128, 16, epochs=1, sampler="full").config)
    comparison = Comparison([], [], first)
    for number in range(1, size.repetitions + 1):
        bench.progress(f"{name}: reference, {number} of {size.repetitions}")
        comparison.reference.append(reference.run(trial.config))
        bench.progress(f"{name}: ours, {number} of {size.repetitions}")
        comparison.ours.append(run(trial))
        _check(comparison)
        reference_s, ours_s = comparison.reference[-1].whole_s, comparison.ours[-1].whole_s
        bench.progress(f"{name}: {reference_s:.1f} s against {ours_s:.1f} s, a ratio of {reference_s / ours_s:.1f}")
    return comparison


def _changed(trial: Trial, **changed: Any) -> Trial:
    return replace(trial, config=trial.config.model_copy(update=changed))


def _check(comparison: Comparison) -> None:
    """Check that the latest repetitions of both sides did the same work."""
    rows, epochs = comparison.ours[-1].rows, comparison.reference[-1].epochs
    assert rows[-1].samples_trained == sum(each.samples_trained for each in epochs), (
        "both sides train on equally many samples"
    )
    assert rows[-1].samples_scored == sum(each.samples_scored for each in epochs), (
        "both sides score equally many samples"
    )
    assert len(rows) == len(epochs), "both sides evaluate equally often"
    assert all(math.isfinite(each.train_loss) for each in epochs), "the loss stays finite"
