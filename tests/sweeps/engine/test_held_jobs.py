"""Jobs that a stopping rule holds back, and searches whose rule holds none."""

from __future__ import annotations

import itertools
import json
import zlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdas.records import Status
from sweeps.engine.plan import Plan
from sweeps.engine.queue import JobQueue
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.record.job import Job
from sweeps.stopping import STOPPING_RULES
from tests.places import ROOT
from tests.sweeps.engine.test_capping_with_crashes import Sweep

ORDERS = json.loads((ROOT / "tests" / "golden" / "search_order.json").read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _no_measure_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.engine.agenda.write_measure", lambda directory, measure: None)


@pytest.fixture(scope="module")
def plan() -> Plan:
    content = {"dataset": "digits", "teacher": {"model": "resnet8"}, "student": "resnet8", "seeds": 8}
    return plan_of(
        SweepSpec.model_validate({**content, "baselines": {"plain_kd": "full"}, "search": {"start_rate": [0.5]}})
    )


@pytest.mark.parametrize("scheduler", ORDERS)
def test_rules_that_hold_nothing_leave_the_search_as_it_was(scheduler: str) -> None:
    """Hashes of what was proposed, started and told, in order, before jobs could be held."""
    for seed, order in enumerate(ORDERS[scheduler]):
        sweep = Sweep(seed, scheduler)
        sweep.run()
        assert f"{zlib.crc32(chr(10).join(sweep.happened).encode()):08x}" == order, seed


@given(held=st.sets(st.integers(1, 8)), num_out=st.integers(0, 2))
def test_first_job_that_is_not_held_is_taken(plan: Plan, held: set[int], num_out: int) -> None:
    queue, jobs = JobQueue(), plan.baselines
    queue.add(jobs)
    for _ in range(num_out):
        assert queue.take(lambda job: False) is not None

    def is_held(job: Job) -> bool:
        return job.config.seed in held

    ready = [job for job in jobs[num_out:] if not is_held(job)]
    expected = ready[0] if ready else None if num_out else jobs[0]
    assert queue.next_ready(is_held) == queue.take(is_held) == expected
    assert queue.num_waiting == len(jobs) - num_out - (expected is not None)


class OneByOne:
    """Holds every seed until the one before has ended, and the third for ever."""

    status = Status.CAPPED
    only_for = None
    cost_shares = (1.0, 1.0, 1.0)

    def __init__(self) -> None:
        self._trials: dict[str, list[str]] = {}
        self._ended: set[str] = set()

    def add(self, config_id: str, trial_ids: Sequence[str]) -> None:
        self._trials[config_id] = list(trial_ids)

    def evaluated(self, trial_id: str, cost_ref_s: float, val_accuracy: float, *, again: bool = False) -> None:
        pass

    def ended(self, trial_id: str, status: Status) -> None:
        self._ended.add(trial_id)

    def stops(self, config_id: str, trial_id: str) -> bool:
        return False

    def holds(self, config_id: str, trial_id: str) -> bool:
        number = self._trials[config_id].index(trial_id)
        return number == 2 or not self._ended.issuperset(self._trials[config_id][:number])

    def is_done(self, config_id: str, trial_id: str) -> bool:
        return False

    def leading(self) -> frozenset[str]:
        return frozenset()

    def was_stopped(self, config_id: str) -> None:
        raise AssertionError("this rule stops nothing")

    def why(self, config_id: str) -> str:
        return ""

    def estimate_ref_s(self, config_id: str) -> float | None:
        return None


def test_held_jobs_wait_while_further_configurations_are_proposed_and_all_run_in_the_end() -> None:
    """The finalists are those of a sweep that holds nothing, also after a kill."""
    STOPPING_RULES.register("one_by_one", source="a test")(OneByOne)
    num_before_a_second_seed = 0
    for seed in range(40):
        sweep = Sweep(seed, "one_by_one")
        sweep.run()
        assert sweep.confirmed == sweep.truth(), seed
        started = [each.split()[1] for each in sweep.happened if each.startswith("start ")]
        of_search = {job.trial_id for job in sweep.jobs}
        searched = [each for each in started if each in of_search]
        assert of_search == set(searched)
        num_before_a_second_seed += sum(
            each.endswith("-s1") and not after.endswith("-s2") for each, after in itertools.pairwise(searched)
        )
    assert num_before_a_second_seed > 40
