"""Which trial Ray is told to place on a warm worker."""

from __future__ import annotations

from ray.tune.schedulers import FIFOScheduler

from sweeps.launch import NewestFirst


def test_warm_worker_goes_to_the_trial_that_has_none_and_each_trial_is_placed_once() -> None:
    scheduler: FIFOScheduler = NewestFirst()
    scheduler.on_trial_add(None, "first")
    assert scheduler.choose_trial_to_run(None) == "first"
    # The worker of the first is still starting; it keeps it.
    assert scheduler.choose_trial_to_run(None) is None
    scheduler.on_trial_add(None, "second")
    assert scheduler.choose_trial_to_run(None) == "second"
    assert scheduler.choose_trial_to_run(None) is None
