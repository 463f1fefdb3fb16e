"""What all parts share: options, a temporary folder, trials on small sets, and the timing of one of our trials."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from benchmarks.images import write_subset
from kdas import models, seeding
from kdas.clock import Calibration, Work
from kdas.data import DATASETS, Draw, load_splits
from kdas.files.prices import calibration_of
from kdas.recipe.config import TrialConfig
from kdas.records import CurveRow, Status
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial, load_inputs

Figures = dict[str, float]

# Fixed prices of realistic magnitude. They place the evaluations, which must not depend on a measurement.
_PRICES = {Work.AUGMENT: 1e-4, Work.TEACHER: 1e-3, Work.SCORE: 1e-3, Work.WEIGH: 1e-5, Work.STEP: 3e-3}
_FURTHER_PRICE = 1e-6


def prices() -> Calibration:
    """Prices at which each kind of work costs a fixed number of seconds per sample, whatever the batch size."""
    return calibration_of({"by": "hand"}, {work: ((1, _PRICES.get(work, _FURTHER_PRICE)),) for work in Work})


@dataclass(frozen=True)
class Bench:
    """The options of a run of the benchmarks. `data` is None if the digits replace photographs."""

    folder: Path
    quick: bool
    precision: str
    device: str
    threads: int
    data: Path | None
    progress: Callable[[str], None] = field(default=lambda doing: None)

    def trial(
        self, teacher: str, student: str, num_train: int, num_test: int, *, epochs: int, sampler: Any, **further: Any
    ) -> Trial:
        """A trial on the first images of the set, with a teacher of random weights and no validation split."""
        images = self.folder / f"images-{num_train}-{num_test}"
        if not images.exists():
            write_subset(images, self.data, num_train, num_test)
        content = {
            "dataset": {"name": "parquet", "path": str(images)},
            "validation": 0,
            "teacher": {"model": teacher, "checkpoint": str(self._teacher(teacher, images))},
            "student": student,
            "epochs": epochs,
            "evaluations": 1,
            "sampler": sampler,
            "precision": self.precision,
            "threads": self.threads,
            "device": self.device,
            **further,
        }
        config = TrialConfig.model_validate(content)
        return Trial(config, load_inputs(config))

    def _teacher(self, name: str, images: Path) -> Path:
        """A checkpoint with random weights, written once: the time does not depend on what a teacher has learnt."""
        path = self.folder / f"{name}.pth"
        if not path.exists():
            splits = load_splits(DATASETS.build(DATASETS.checked({"name": "parquet", "path": str(images)})), 0, "cpu")
            with seeding.global_draws(0, "teacher of the benchmarks"):
                model = models.create(name, splits.num_classes)
            # Otherwise activations grow from layer to layer, and the student's loss with them.
            _settle_batch_norm(model, next(splits.training_batches([torch.arange(64)], Draw(0, 1)))[1])
            torch.save({"model": model.state_dict()}, path)
        return path


@torch.no_grad()
def _settle_batch_norm(model: torch.nn.Module, images: torch.Tensor) -> None:
    """Set the statistics of batch norm to those of these images, float32 [B, 3, H, W]."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches seen
    model.train()(images)


@dataclass(frozen=True)
class Run:
    """One of our trials, trained to its end. Seconds: of the whole trial, of training, of evaluation.

    `bank_hit_rate` is the share of the teacher's answers for which the teacher did not have to run.
    """

    whole_s: float
    train_s: float
    eval_s: float
    steps: int
    rows: list[CurveRow]
    budget_ref_s: float
    bank_hit_rate: float


def run(trial: Trial) -> Run:
    """Train a trial. The times exclude its set-up, which happens before the first step."""
    training = Training(trial, Surroundings(prices()))
    began = time.perf_counter()
    rows = list(training.rows())
    whole_s = time.perf_counter() - began
    last = rows[-1]
    assert training.status is Status.BUDGET and last.epoch == trial.config.epochs, "the trial must reach its last epoch"
    asked, needed = (training.clock.samples(work) for work in (Work.ASKED, Work.TEACHER))
    # The teacher is asked in full batches, some of them padded with copies.
    bank_hit_rate = max(0.0, 1 - asked / needed)
    return Run(whole_s, last.wall_s, last.eval_s, last.step, rows, training.budget_ref_s, bank_hit_rate)


def evaluations_for(wanted: int, once: Run) -> int:
    """The value of `evaluations` with which a trial that spends as much as `once` is evaluated `wanted` times.

    The grid of evaluations spans the cost of plain distillation, of which a trial may need only a part. Its last step
    is always evaluated.
    """
    share = once.rows[-1].cost_ref_s / once.budget_ref_s
    return math.floor(wanted / share + 1e-9)


def as_figures(prefix: str, values: Mapping[str, float]) -> Figures:
    """Figures with a prefix before their names."""
    return {f"{prefix}_{name}": value for name, value in values.items()}
