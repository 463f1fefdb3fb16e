"""Capping beside trials that crash or diverge: the winner is the one that a sweep without capping finds.

The agenda and the rule are the real ones. Trials are drawn at random, and the record is held in memory, so that
thousands of sweeps take seconds.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kdas.files.cache import content_id
from kdas.recipe.config import TrialConfig
from kdas.records import STOPPED_STATUSES, Measure, Status, is_searched
from sweeps.engine.agenda import Agenda, Terms
from sweeps.engine.objective import objective_of
from sweeps.engine.plan import Plan
from sweeps.engine.proposals import Asked
from sweeps.engine.spending import Spending
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of, rule_of
from sweeps.record.job import Job
from sweeps.record.paths import CONFIRM
from sweeps.space.space import Point

TARGET, BUDGET_S, STEP_S = 0.9, 10.0, 0.5
NUM_POINTS, NUM_SEEDS = 10, 3


@dataclass
class Folder:
    """A trial's folder, held in memory."""

    path: Path
    status: Status = Status.RUNNING
    curve: list[tuple[float, float]] = field(default_factory=list)
    rebuilds: None = None
    why: str = ""
    exists: bool = False

    @property
    def ended_at_target(self) -> bool:
        """Whether a rule has ended it because it reached the target, at that evaluation."""
        has_reached = [accuracy >= TARGET for _, accuracy in self.curve]
        return self.status is Status.STOPPED_EARLY and has_reached.count(True) == 1 and has_reached[-1]

    def begin(self, job: Job) -> None:
        self.status, self.exists = Status.RUNNING, True

    def end(self, status: Status, why: str = "") -> None:
        self.status, self.why = status, why

    def rows(self) -> list[Any]:
        return [
            SimpleNamespace(row=SimpleNamespace(cost_ref_s=cost, val_accuracy=accuracy))
            for cost, accuracy in self.curve
        ]


class Directory:
    """A sweep's directory, held in memory."""

    def __init__(self) -> None:
        self.folders: dict[str, Folder] = {}

    def trial(self, trial_id: str) -> Folder:
        return self.folders.setdefault(trial_id, Folder(Path(trial_id)))

    def trials(self) -> Iterator[Folder]:
        return iter(self.folders.values())


class Search:
    """Proposes the points of a list in their order."""

    def __init__(self, points: Sequence[Point], happened: list[str]) -> None:
        self._points, self._asked, self._happened = list(points), list[Asked](), happened

    def asked(self) -> list[Asked]:
        return list(self._asked)

    def ask(self) -> Asked | None:
        if len(self._asked) == len(self._points):
            return None
        number = len(self._asked)
        self._happened.append(f"ask {number}")
        self._asked.append(Asked(number, self._points[number], {}))
        return self._asked[-1]

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        self._happened.append(f"tell {number} {values}")


@dataclass(frozen=True)
class Fate:
    """What a trial does if nothing stops it: it reaches the target at `time_s`, and ends with `status` at `end_s`."""

    time_s: float
    status: Status
    end_s: float

    @property
    def reaches(self) -> bool:
        """Whether it reaches the target, which decides the best accuracy here, and so between equal times."""
        return self.time_s <= self.end_s

    @property
    def restricted_s(self) -> float:
        """Its time to the target, the budget for a miss; NaN if it crashes before."""
        if self.time_s <= self.end_s:
            return min(self.time_s, BUDGET_S)
        return math.nan if self.status is Status.CRASHED else BUDGET_S


def _identity(config: TrialConfig) -> str:
    """Ids that stay when recipes get a new key: where configurations tie, their ids decide."""
    return content_id({"sampler": config.sampler})


def fates_of(draw: random.Random, num_configurations: int, num_seeds: int) -> list[list[Fate]]:
    """Trials of random configurations: 5% crash and 5% diverge, at a random time."""

    def fate(middle: float) -> Fate:
        time_s = STEP_S * math.ceil(draw.lognormvariate(middle, 0.8) / STEP_S)
        luck = draw.random()
        if luck < 0.1:
            end_s = STEP_S * math.ceil(draw.uniform(0, BUDGET_S) / STEP_S)
            return Fate(time_s, Status.CRASHED if luck < 0.05 else Status.DIVERGED, max(STEP_S, end_s))
        return Fate(time_s, Status.BUDGET, BUDGET_S)

    middles = [draw.gauss(2.2, 0.3) for _ in range(num_configurations)]
    return [[fate(middle) for _ in range(num_seeds)] for middle in middles]


@cache
def plan_and_points(
    num_configurations: int, num_seeds: int, top: int, scheduler: str
) -> tuple[SweepSpec, Plan, list[Point]]:
    rates = [round(0.05 + 0.9 * number / NUM_POINTS, 4) for number in range(num_configurations)]
    spec = SweepSpec.model_validate(
        {
            "dataset": "digits",
            "teacher": {"model": "resnet8"},
            "student": "resnet8",
            "baselines": {"plain_kd": "full"},
            "search": {"start_rate": {"low": 0.01, "high": 0.99}},
            "seeds": num_seeds,
            "target": TARGET,
            "confirm": {"top": top, "seeds": 1},
            "budget": {"configurations": num_configurations},
            "scheduler": scheduler,
        }
    )
    plan = plan_of(spec, _identity)
    jobs = {rate: plan.searched({"start_rate": rate}) for rate in rates}
    remembered = SimpleNamespace(
        **{
            name: getattr(plan, name)
            for name in ("methods", "seeds", "num_configurations", "confirm", "baselines", "looks")
        },
        plain=plan.plain,
        num_trials=plan.num_trials,
        confirmation=plan.confirmation,
        searched=lambda point, search=None: jobs[point["start_rate"]],
    )
    return spec, remembered, [{"start_rate": rate} for rate in rates]


class Sweep:
    """A sweep of random trials, several at a time. `happened` is what it did, in order."""

    def __init__(self, seed: int, scheduler: str = "capping") -> None:
        self.happened: list[str] = []
        self.draw = random.Random(seed)
        num_configurations, num_seeds = self.draw.randint(2, NUM_POINTS), self.draw.randint(2, NUM_SEEDS)
        self.top, self.slots = self.draw.randint(1, 3), self.draw.randint(1, 8)
        self.spec, self.plan, points = plan_and_points(num_configurations, num_seeds, self.top, scheduler)
        self.fates = fates_of(self.draw, num_configurations, num_seeds)
        self.jobs = [job for point in points for job in self.plan.searched(point)]
        self.ids = [self.plan.searched(point)[0].config_id for point in points]
        self.search, self.directory = Search(points, self.happened), Directory()
        self.confirmed: list[str] = []
        self.num_again = 0
        # Every third sweep is killed and started again.
        self.kill_at = self.draw.randint(1, 200) if seed % 3 == 0 else 0

    def truth(self) -> list[str]:
        """The best complete configurations of a sweep that stops nothing, the best first."""
        totals = {
            config_id: (math.fsum(fate.restricted_s for fate in fates), -sum(fate.reaches for fate in fates))
            for config_id, fates in zip(self.ids, self.fates, strict=True)
            if not any(math.isnan(fate.restricted_s) for fate in fates)
        }
        return sorted(totals, key=lambda config_id: (totals[config_id], config_id))[: self.top]

    def agenda(self) -> Agenda:
        measure = Measure("x", TARGET, "given", BUDGET_S, "plain_kd", "validation", "", "", tuple(self.plan.seeds), 9)
        terms = Terms(
            measure, lambda plain: measure, partial(rule_of, self.spec), objective_of(self.spec.objective, BUDGET_S)
        )
        spending = Spending(self.spec.budget, 1.0, None, lambda: 0.0)
        directory: Any = self.directory
        search: Any = self.search
        return Agenda(
            self.plan, directory, lambda _: search, terms, spending, lambda job: self.is_complete(job.trial_id)
        )

    def is_complete(self, trial_id: str) -> bool:
        return self.directory.trial(trial_id).status in (Status.BUDGET, Status.DIVERGED)

    def fate(self, job: Job) -> Fate:
        if job.config_id not in self.ids or job.phase == CONFIRM:
            return Fate(5.0, Status.BUDGET, BUDGET_S)
        return self.fates[self.ids.index(job.config_id)][self.plan.seeds.index(job.config.seed)]

    def run(self) -> None:
        """Play the sweep: each event is the next evaluation of a random running trial."""
        agenda = self.agenda()
        running: list[Job] = []
        for number in itertools.count(1):
            if number == self.kill_at:
                agenda, running, self.confirmed = self.agenda(), [], []
            self.disturb(number, agenda, running)
            while len(running) < self.slots and (job := agenda.next_job()) is not None:
                self.start(job)
                if job.phase == CONFIRM:
                    self.directory.trial(job.trial_id).end(Status.BUDGET)
                    agenda.ended(job)
                else:
                    running.append(job)
            if not running:
                assert agenda.is_finished
                return
            job = self.draw.choice(running)
            folder, fate = self.directory.trial(job.trial_id), self.fate(job)
            cost_s = STEP_S * (len(folder.curve) + 1)
            folder.curve.append((cost_s, 1.0 if cost_s >= fate.time_s else 0.5))
            stopped = agenda.evaluated(job, *folder.curve[-1])
            ended = fate.status if cost_s >= fate.end_s else stopped
            if ended is not None:
                folder.end(ended, why=agenda.why(job) if ended is stopped else "")
                running.remove(job)
                agenda.ended(job)

    def disturb(self, number: int, agenda: Agenda, running: Sequence[Job]) -> None:
        """Called before each event."""

    def start(self, job: Job) -> None:
        self.happened.append(f"start {job.trial_id}")
        folder = self.directory.trial(job.trial_id)
        if job.phase == CONFIRM:
            if is_searched(job.method):
                self.confirmed.append(job.config_id)
            return
        self.num_again += folder.status is Status.CAPPED
        folder.begin(job)
        folder.curve.clear()

    def stopped(self) -> set[str]:
        """The configurations of which a trial was stopped for good, other than at the target."""
        return {
            trial_id.rpartition("-")[0]
            for trial_id, folder in self.directory.folders.items()
            if folder.status in STOPPED_STATUSES and not folder.ended_at_target
        }


@pytest.mark.parametrize(
    "seeds",
    [pytest.param(range(1300, 1600), id="300"), pytest.param(range(3000), id="3000", marks=pytest.mark.slow)],
)
def test_crashes_and_divergence_cost_capping_no_winner(seeds: range, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweeps.engine.agenda.write_measure", lambda directory, measure: None)
    num_stopped = num_again = 0
    for seed in seeds:
        sweep = Sweep(seed)
        sweep.run()
        best = sweep.truth()
        assert sweep.confirmed == best, seed
        assert not sweep.stopped() & set(best), seed
        num_stopped += len(sweep.stopped())
        num_again += sweep.num_again
    # Otherwise the sweeps would test little.
    assert num_stopped > 2 * len(seeds)
    assert num_again > 0
