"""How close our trainer comes to the cost of the student alone: efficiency is the ideal time over the real time.

The ideal step is forward, cross-entropy, backward and update on one prepared batch, in the trial's precision, memory
layout and number of threads: no data, no teacher, no distillation, no bookkeeping. No trainer can beat it.
A sampling epoch of KDAS also scores every batch, so its bound adds a forward pass without gradients for each.

Real epochs are timed by the trial's own clock, which runs only while it trains. Ideal and real steps take turns. The
trial first runs once untimed, so that the bank, if there is one, has the teacher's answers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.bench import Bench, Figures, run
from kdas import models, seeding
from kdas.compute.device import repeatable, synchronize
from kdas.compute.optimizer import optimizer_of
from kdas.compute.precision import Precision
from kdas.data import ImageSplits
from kdas.recipe.config import TrialConfig
from kdas.training.trial import Trial

# Students and teachers of the paper.
PAIRS = (("vgg8", "vgg13"), ("resnet8x4", "resnet32x4"), ("resnet20", "resnet56"))
# The middle of the official schedule. A scoring batch is then two training batches, and every batch is full.
_RATE = 0.5
KDAS = {"name": "kdas", "start_rate": _RATE, "end_rate": _RATE, "sampling_period": 1}
_WARM_UP_RUNS = 2


@dataclass(frozen=True)
class Size:
    """Images in an epoch, a multiple of the scoring batch of 128, and how often ideal and real take turns."""

    num_train: int
    rounds: int


FULL = Size(num_train=1280, rounds=7)
QUICK = Size(num_train=128, rounds=3)


class Ideal:
    """A separate student, and random batches that are ready on the device."""

    def __init__(self, config: TrialConfig, splits: ImageSplits, device: str) -> None:
        self.config, self.device, self.size = config, device, splits.image_size
        self.memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self.precision = Precision(config.precision, device)
        with seeding.global_draws(0, "ideal student"):
            student = models.create(config.student, splits.num_classes)
            self.scored = self._images(round(config.batch_size / _RATE))
            self.images = self._images(config.batch_size)
            self.targets = torch.randint(splits.num_classes, (config.batch_size,)).to(device)
        self.student = student.to(device).to(memory_format=self.memory_format)
        self.optimizer = optimizer_of(self.student, config.optimizer)

    def _images(self, number: int) -> Tensor:
        return torch.randn(number, 3, self.size, self.size).to(self.device).contiguous(memory_format=self.memory_format)

    def step(self) -> None:
        """One update, in train mode."""
        with self.precision.autocast():
            loss = functional.cross_entropy(self.student(self.images), self.targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()

    @torch.no_grad()
    def scoring_forward(self) -> None:
        """Logits of a scoring batch, in eval mode."""
        self.student.eval()
        with self.precision.autocast():
            self.student(self.scored)
        self.student.train()

    def scoring_step(self) -> None:
        """The least that a batch of a sampling epoch costs."""
        self.scoring_forward()
        self.step()

    def seconds(self, work: Callable[[], None], repeats: int) -> float:
        """Mean wall seconds of `work` over `repeats` calls."""
        repeatable(self.config.threads)
        for _ in range(_WARM_UP_RUNS):
            work()
        synchronize(self.device)
        began = time.perf_counter()
        for _ in range(repeats):
            work()
        synchronize(self.device)
        return (time.perf_counter() - began) / repeats


def limit(bench: Bench) -> Figures:
    """Efficiency of plain training steps and of KDAS's sampling epochs: by student, and the lowest of each."""
    size = QUICK if bench.quick else FULL
    figures: Figures = {}
    for kind, sampler in (("train", "full"), ("sampling_epoch", KDAS)):
        by_student = {}
        for student, teacher in PAIRS:
            bench.progress(f"{kind}: {teacher} -> {student}")
            ideal_s, real_s = _batch_seconds(bench, size, teacher, student, sampler)
            by_student[student] = ideal_s / real_s
            figures |= {f"ideal_{kind}_batch_{student}_s": ideal_s, f"real_{kind}_batch_{student}_s": real_s}
        figures[f"efficiency_{kind}"] = min(by_student.values())
        figures |= {f"efficiency_{kind}_{student}": value for student, value in by_student.items()}
    return figures


def _batch_seconds(bench: Bench, size: Size, teacher: str, student: str, sampler: Any) -> tuple[float, float]:
    """Median ideal and real seconds of a trained batch, including scoring if the sampler scores."""
    # Evaluation is not timed, so a few test images are enough.
    trial = bench.trial(teacher, student, size.num_train, 16, epochs=1, sampler=sampler)
    _check_batches_are_full(trial, size)
    ideal = Ideal(trial.config, trial.inputs.splits, bench.device)
    work = ideal.step if sampler == "full" else ideal.scoring_step
    run(trial)
    ideal_s, real_s = [], []
    for _ in range(size.rounds):
        real = run(trial)
        real_s.append(real.train_s / real.steps)
        ideal_s.append(ideal.seconds(work, real.steps))
    return statistics.median(ideal_s), statistics.median(real_s)


def _check_batches_are_full(trial: Trial, size: Size) -> None:
    scored_at_once = round(trial.config.batch_size / _RATE)
    assert size.num_train % scored_at_once == 0, "the ideal is valid only for full batches"
