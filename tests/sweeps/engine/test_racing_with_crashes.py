"""Racing in the real agenda, beside trials that crash or diverge, with kills and several slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from kdas.records import COMPLETE_STATUSES, Status, is_searched
from sweeps.engine.agenda import Agenda
from sweeps.record.control import Requests
from sweeps.record.job import Job
from tests.sweeps.engine.test_capping_with_crashes import TARGET, Sweep, plan_and_points


@pytest.fixture(autouse=True)
def _no_measure_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.engine.agenda.write_measure", lambda directory, measure: None)


def run(seed: int, slots: int | None = None, kill_at: int | None = None) -> Sweep:
    sweep = Sweep(seed, "racing")
    sweep.slots = slots or sweep.slots
    sweep.kill_at = sweep.kill_at if kill_at is None else kill_at
    sweep.run()
    return sweep


def test_sweeps_end_and_confirm_only_what_was_trained_on_every_seed() -> None:
    num_as_without, num_stopped, num_at_target = 0, 0, 0
    for seed in range(60):
        sweep = run(seed)
        best = sweep.truth()
        assert len(sweep.confirmed) == len(best), seed
        assert not sweep.stopped() & set(sweep.confirmed), seed
        assert run(seed).happened == sweep.happened, "it is determined by its seed"
        num_as_without += sweep.confirmed[:1] == best[:1]
        num_stopped += len(sweep.stopped())
        folders = sweep.directory.folders
        crashed = {trial_id[:16] for trial_id, folder in folders.items() if folder.status is Status.CRASHED}
        for trial_id, folder in folders.items():
            # A configuration that cannot be chosen is not ended, nor does it end others.
            if trial_id[:16] in {*sweep.ids} - crashed:
                assert sum(accuracy >= TARGET for _, accuracy in folder.curve) <= 1, seed
                num_at_target += folder.ended_at_target
        whys = [folder.why for folder in sweep.directory.folders.values() if folder.status is Status.CAPPED]
        assert all(whys), seed
    assert num_as_without >= 57
    assert num_stopped > 120
    assert num_at_target > 200


def told(sweep: Sweep) -> dict[str, str]:
    """What the search was told first of each proposal: a real one hears nothing else later."""
    lines = [each.split(maxsplit=2) for each in sweep.happened if each.startswith("tell ")]
    return {number: values for _, number, values in reversed(lines)}


@pytest.mark.parametrize("kill_at", [30, 60, 120])
def test_a_resumed_sweep_is_that_of_an_uninterrupted_one(kill_at: int) -> None:
    """Without crashes, which a new start retries."""
    num_compared = 0
    for seed in range(100, 140):
        whole = run(seed, slots=1, kill_at=0)
        if any(fate.status is Status.CRASHED for fates in whole.fates for fate in fates):
            continue
        resumed = run(seed, slots=1, kill_at=kill_at)
        assert told(resumed) == told(whole), seed
        assert resumed.confirmed == whole.confirmed, seed
        num_compared += 1
    assert num_compared > 5


def test_a_finished_sweep_may_get_another_seed() -> None:
    """What was dropped is compared again, and the finalists have run on every seed."""
    num_extended = num_as_without = 0
    for seed in range(60):
        sweep = Sweep(seed, "racing")
        if len(sweep.plan.seeds) != 3:
            continue
        with_three = sweep.spec, sweep.plan
        sweep.kill_at = 0
        sweep.spec, sweep.plan, _ = plan_and_points(len(sweep.fates), 2, sweep.top, "racing")
        sweep.run()
        sweep.spec, sweep.plan = with_three
        confirmed, sweep.confirmed = sweep.confirmed, []
        sweep.run()
        assert not sweep.stopped() & set(sweep.confirmed), seed
        num_extended += 1
        # What was confirmed before is not confirmed again.
        num_as_without += set(sweep.truth()[:1]) <= {*confirmed, *sweep.confirmed}
    assert num_extended > 20
    assert num_as_without >= 0.9 * num_extended


class Disturbed(Sweep):
    """A sweep in which a user pauses, stops trials, or ends the search, at random."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, "racing")
        self.asked = Requests()
        self.finish_at = self.draw.randint(1, 150) if seed % 2 else 0

    def disturb(self, number: int, agenda: Agenda, running: Sequence[Job]) -> None:
        before, luck = self.asked, self.draw.random()
        searched = [job for job in running if is_searched(job.method)]
        if number == self.finish_at:
            self.asked = replace(self.asked, finishes=True, finished_at=self.plan.num_configurations)
        if luck < 0.005 and searched:
            self.asked = replace(self.asked, stopped=(*self.asked.stopped, self.draw.choice(searched).trial_id))
        elif luck < 0.1:
            self.asked = replace(self.asked, is_paused=bool(running) and not self.asked.is_paused)
        if not running:  # nobody would end the pause
            self.asked = replace(self.asked, is_paused=False)
        if self.asked != before or number == self.kill_at:
            agenda.heed(self.asked)

    def has_whole_result(self, job: Job) -> bool:
        """Whether a job's time to the target, or that it misses it, is known."""
        folder = self.directory.folders.get(job.trial_id)
        if folder is None or not folder.exists:
            return False
        return folder.status in COMPLETE_STATUSES or any(accuracy >= TARGET for _, accuracy in folder.curve)


def test_pauses_stops_and_an_early_end_leave_only_whole_configurations_to_confirm() -> None:
    num_confirmed = num_stopped = num_short = 0
    for seed in range(100):
        sweep = Disturbed(seed)
        sweep.run()
        lacking = {job.config_id for job in sweep.jobs if not sweep.has_whole_result(job)}
        whole = [config_id for config_id in sweep.ids if config_id not in lacking]
        assert set(sweep.confirmed) <= {*whole}, seed
        assert len(sweep.confirmed) == min(sweep.top, len(whole)), seed
        num_confirmed += len(sweep.confirmed)
        num_stopped += len(sweep.asked.stopped)
        num_short += len(whole) < sweep.top
    assert num_confirmed > 135 and num_stopped > 50 and num_short > 0
