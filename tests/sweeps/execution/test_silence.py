"""How long a trial may report nothing before its worker is ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kdas.training.trial import Inputs
from sweeps.execution import ray_setup
from sweeps.execution.silence import ENDS_WITHIN_S, LEAST_S, TIMES, Silence
from sweeps.execution.tuning import TuneCallback
from sweeps.file.spec import SweepSpec
from sweeps.record.directory import SweepDirectory
from tests.sweeps.execution.test_launch import Trial, searcher_of, suggested

EXPECTED_S = 1.0


class Time:
    """A clock that is looked at twice a second."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def pass_by(self, seconds: float, look: Callable[[], object]) -> None:
        for _ in range(round(2 * seconds)):
            self.now_s += 0.5
            look()


def fallen(silence: Silence, time: Time, seconds: float) -> dict[str, float]:
    found: dict[str, float] = {}
    time.pass_by(seconds, lambda: found.update(silence.look()))
    return found


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.mark.parametrize(("evaluation_s", "too_long_s"), [(2.0, LEAST_S), (500.0, TIMES * 500.0)])
def test_a_trial_is_given_up_once_after_many_times_what_an_evaluation_takes(
    time: Time, evaluation_s: float, too_long_s: float
) -> None:
    silence = Silence(EXPECTED_S, time)
    for trial_id in ("a", "b"):
        silence.started(trial_id)
    assert fallen(silence, time, evaluation_s) == {}
    silence.reported("a")
    silence.reported("b")
    time.pass_by(too_long_s / 2, silence.look)
    silence.reported("b")
    longest_s = max(evaluation_s, too_long_s / 2)
    assert fallen(silence, time, max(LEAST_S, TIMES * longest_s) - too_long_s / 2) == {}
    assert list(fallen(silence, time, 1)) == ["a"]
    silence.reported("b")
    assert fallen(silence, time, 30) == {}


@pytest.mark.parametrize(("expected_s", "too_long_s"), [(1.0, LEAST_S), (500.0, TIMES * 500.0)])
def test_before_the_first_report_the_prices_say_what_is_too_long(
    time: Time, expected_s: float, too_long_s: float
) -> None:
    silence = Silence(expected_s, time)
    silence.started("a")
    assert fallen(silence, time, too_long_s) == {}
    assert list(fallen(silence, time, 1)) == ["a"]


def test_the_sleep_of_a_machine_is_not_silence(time: Time) -> None:
    silence = Silence(EXPECTED_S, time)
    silence.started("a")
    fallen(silence, time, 2)
    silence.reported("a")
    for _ in range(20):
        time.now_s += LEAST_S
        assert silence.look() == {}


def test_a_silent_worker_is_ended_and_if_that_does_not_help_ray_tune_is(
    spec: SweepSpec,
    inputs: Inputs,
    directory: SweepDirectory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    time: Time,
) -> None:
    ended: list[Trial] = []
    monkeypatch.setattr(ray_setup, "end_worker", ended.append)
    searcher = searcher_of(spec, inputs, directory)
    callback = TuneCallback(searcher._progress, directory, searcher, lambda: None, Silence(EXPECTED_S, time))
    trials = [Trial("a"), Trial("b")]
    for trial in trials:
        suggested(searcher, trial.trial_id)
        callback.on_trial_start(0, trials, trial)
    lost = searcher.jobs["a"].trial_id

    def pass_by(seconds: float) -> None:
        time.pass_by(seconds, lambda: callback.on_step_begin(0, trials))

    pass_by(3)
    result = {"cost_ref_s": 0.1, "val_accuracy": 0.1, "done": False}
    for trial in trials:
        callback.on_trial_result(0, trials, trial, result)
    pass_by(LEAST_S - 1)
    assert ended == []
    pass_by(2)
    assert ended == trials
    assert f"{lost} has reported nothing for 10 min" in capsys.readouterr().out.replace("\n", " ")
    with pytest.raises(ray_setup.SilentWorkerError):
        pass_by(ENDS_WITHIN_S)
    callback.lose_all()
    assert searcher.jobs == {}
    pass_by(LEAST_S)
