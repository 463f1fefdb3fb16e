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
from kdas.training.flops import flops_of
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial
from kdas.training.work import TrialWork

TrialOf = Callable[..., Trial]
OF_THE_MACHINE = ("wall_s", "eval_s", "data_s", "cost_as_run_s")
# A loss that needs these has the teacher pass over the training set once.
PASSES = {"class_means"}
OF_TEACHER = (Work.TEACHER, Work.ASKED)
# Calls that do the work: each takes a batch.
CALLS: list[tuple[type, str, tuple[Work, ...]]] = [
    (Distiller, "step", (Work.STEP,)),
    (Distiller, "asked", OF_TEACHER),
    (Distiller, "scoring_logits", (Work.SCORE,)),
    (Distiller, "reference_logits", (Work.SCORE,)),
    (TrialWork, "proxy_losses", (Work.PROXY_SCORE,)),
    (TrialWork, "proxy_step", (Work.PROXY_STEP,)),
]


def of_the_trial(rows: list[CurveRow]) -> list[dict[str, Any]]:
    return [{key: value for key, value in asdict(row).items() if key not in OF_THE_MACHINE} for row in rows]


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Counter[Work]:
    """Counts the samples on which the distiller works, at the calls that do it."""
    counted: Counter[Work] = Counter()

    def counting(of: type, name: str, kinds: tuple[Work, ...]) -> None:
        original = getattr(of, name)

        def call(self: Any, batch: Batch, *arguments: Any, **named: Any) -> Any:
            counted.update(dict.fromkeys(kinds, len(batch)))
            return original(self, batch, *arguments, **named)

        monkeypatch.setattr(of, name, call)

    for of, name, kinds in CALLS:
        counting(of, name, kinds)
    return counted


@pytest.mark.parametrize("sampler", SAMPLERS.names())
@pytest.mark.parametrize("loss", LOSSES.names())
def test_loss_trains_under_sampler(
    trial_of: TrialOf,
    sampler_part: Callable[[str], dict[str, Any]],
    calibration: Calibration,
    tmp_path: Path,
    done: Counter[Work],
    loss: str,
    sampler: str,
) -> None:
    # Live, or a bank would answer for the teacher.
    trial = trial_of(loss=loss, sampler=sampler_part(sampler), epochs=2, evaluations=2, bank="live")
    flops_of(trial)  # works on a batch, once for all trials alike, which is not charged
    done.clear()
    training = Training(trial, Surroundings(calibration))
    num_samples = len(trial.inputs.splits.train)
    if not PASSES.isdisjoint(LOSSES[loss].needs):
        done.update(dict.fromkeys(OF_TEACHER, num_samples))
    rows = list(training.rows())
    assert all(math.isfinite(row.train_loss) for row in rows)

    charged = {kind: training.clock.samples(kind) for _, _, kinds in CALLS for kind in kinds}
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
