"""Every loss trains under every sampler: finite, repeatable, resumable, and charged for what it did."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kdas.clock import Calibration, Work
from kdas.losses import LOSSES
from kdas.records import CurveRow
from kdas.samplers import SAMPLERS
from kdas.training.batch import Batch
from kdas.training.distiller import Distiller
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial

TrialOf = Callable[..., Trial]
OF_THE_MACHINE = ("wall_s", "eval_s", "data_s", "cost_as_run_s")
# A loss or sampler that needs this has a pass over the training set before the first epoch.
PASSES = {"class_means": (Work.TEACHER, Work.ASKED)}
# Calls of the distiller that do the work.
CALLS = {"step": (Work.STEP,), "asked": (Work.TEACHER, Work.ASKED), "scoring_logits": (Work.SCORE,)}


def of_the_trial(rows: list[CurveRow]) -> list[dict[str, Any]]:
    return [{key: value for key, value in asdict(row).items() if key not in OF_THE_MACHINE} for row in rows]


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Counter[Work]:
    """Counts the samples on which the distiller works, at the calls that do it."""
    counted: Counter[Work] = Counter()

    def counting(name: str, kinds: tuple[Work, ...]) -> None:
        original = getattr(Distiller, name)

        def call(self: Distiller, batch: Batch, *arguments: Any, **named: Any) -> Any:
            counted.update(dict.fromkeys(kinds, len(batch)))
            return original(self, batch, *arguments, **named)

        monkeypatch.setattr(Distiller, name, call)

    for name, kinds in CALLS.items():
        counting(name, kinds)
    return counted


@pytest.mark.parametrize("sampler", SAMPLERS.names())
@pytest.mark.parametrize("loss", LOSSES.names())
def test_loss_trains_under_sampler(
    trial_of: TrialOf, calibration: Calibration, tmp_path: Path, done: Counter[Work], loss: str, sampler: str
) -> None:
    # Live, or a bank would answer for the teacher.
    trial = trial_of(loss=loss, sampler=sampler, epochs=2, evaluations=2, bank="live")
    training = Training(trial, Surroundings(calibration))
    num_samples = len(trial.inputs.splits.train)
    for need in {*LOSSES[loss].needs, *SAMPLERS[sampler].needs} & {*PASSES}:
        done.update(dict.fromkeys(PASSES[need], num_samples))
    rows = list(training.rows())
    assert all(math.isfinite(row.train_loss) for row in rows)

    charged = {kind: training.clock.samples(kind) for kinds in CALLS.values() for kind in kinds}
    assert charged == {kind: done[kind] for kind in charged}
    seconds = [
        count * calibration.price(work, size)
        for (work, size), count in training.clock.counts.items()
        if work is not Work.ASKED
    ]
    assert training.clock.cost_ref_s == pytest.approx(math.fsum(seconds))

    kept = Surroundings(calibration, checkpoint=tmp_path / "trial.pt", checkpoint_every_s=0)
    for row in Training(trial, kept).rows():
        if row.epoch == 2:
            break
    resumed = Training(trial, kept)
    after = [row for row in rows if row.epoch > resumed.epoch]
    assert resumed.epoch == 1 and after and of_the_trial(list(resumed.rows())) == of_the_trial(after)
