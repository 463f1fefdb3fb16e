"""Trials in threads of one process do not disturb each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import on_streams
from benchmarks.bench import Bench, run
from benchmarks.on_streams import fill_bank, train_at_once
from benchmarks.recorded_steps import of_the_trial
from kdas.training.trainer import Training
from kdas.training.trial import Trial

KDAS = {"name": "kdas", "sampling_period": (1, 3)}


@pytest.fixture
def trials(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Trial]:
    monkeypatch.setenv("KDAS_CACHE", str(tmp_path))  # an empty bank
    first = bench.trial("resnet8", "resnet8", 120, 40, epochs=3, sampler=KDAS, batch_size=16, evaluations=4)
    second = first.config.model_copy(update={"seed": first.config.seed + 1, "sampler": {"name": "full"}})
    return [first, Trial(second, first.inputs)]


@pytest.mark.parametrize("prepare", [lambda trial: None, fill_bank], ids=["empty bank", "filled bank"])
def test_trials_in_threads_have_the_curves_that_they_have_alone(
    trials: list[Trial], prepare: Callable[[Trial], None]
) -> None:
    for trial in trials:
        prepare(trial)
    together = [of_the_trial(rows) for rows in train_at_once(trials)]
    alone = [of_the_trial(run(trial).rows) for trial in trials]
    assert len(together[0]) >= 3 and together[0] != together[1]
    assert together == alone


def test_a_filled_bank_leaves_the_teacher_nothing_to_answer(trials: list[Trial]) -> None:
    assert run(trials[0]).bank_hit_rate < 1
    fill_bank(trials[1])
    assert run(trials[1]).bank_hit_rate == 1


def test_a_failing_trial_is_told(trials: list[Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(Training):
        def rows(self):  # type: ignore[no-untyped-def]
            if self.trial.config.seed == trials[1].config.seed:
                raise MemoryError("no room for the second")
            return super().rows()

    monkeypatch.setattr(on_streams, "Training", Failing)
    with pytest.raises(MemoryError, match="no room for the second"):
        train_at_once(trials)


def test_the_first_curve_is_compared_with_the_one_it_has_alone(
    trials: list[Trial], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial_file = tmp_path / "trial.yaml"
    trial_file.write_text(json.dumps(trials[0].config.model_dump(mode="json", exclude_none=True)))
    assert on_streams.main(trial_file, 2, ["epochs=1"])
    printed = capsys.readouterr().out
    assert printed.startswith("2 at once: ") and "its curve is equal bit for bit" in printed
