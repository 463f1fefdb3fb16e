"""Racing in the real agenda, beside trials that crash or diverge, with kills and several slots."""

from __future__ import annotations

import pytest

from kdas.records import Status
from tests.sweeps.engine.test_capping_with_crashes import Sweep, plan_and_points


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
    num_as_without, num_stopped = 0, 0
    for seed in range(60):
        sweep = run(seed)
        best = sweep.truth()
        assert len(sweep.confirmed) == len(best), seed
        assert not sweep.stopped() & set(sweep.confirmed), seed
        assert run(seed).happened == sweep.happened, "it is determined by its seed"
        num_as_without += sweep.confirmed[:1] == best[:1]
        num_stopped += len(sweep.stopped())
        whys = [folder.why for folder in sweep.directory.folders.values() if folder.status is Status.CAPPED]
        assert all(whys), seed
    assert num_as_without >= 57
    assert num_stopped > 120


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
