"""Compares searches, schedulers and numbers of slots by replaying recorded curves through the real engine."""

from __future__ import annotations

import itertools
import math
import shutil
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from kdas.errors import UserError
from kdas.parts.reading import validated
from kdas.records import is_searched
from sweeps.engine.agenda import Agenda, Terms
from sweeps.engine.objective import Direction, objective_of
from sweeps.engine.proposals import ConfigurationSearch
from sweeps.engine.spending import Spending
from sweeps.file.blocks import AlgorithmConfig, WarmPoint
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of, rule_of
from sweeps.prepare.warm_start import points_from, told
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import time_to_target
from sweeps.replay.recorded import Curve, Recording, Surrogate, SurrogateSearch, TableSearch
from sweeps.replay.replay import Replay, SimulatedClock
from sweeps.space.space import Space

WITHIN = 0.05
FEW_CONFIGURATIONS = 20
_RESAMPLES = 9_999
# A file system in memory, where it exists, so that flushing takes no time.
_IN_MEMORY = Path("/dev/shm")  # noqa: S108 (the folder in it is made by tempfile)
_ROOMY_BYTES = 1e9


@dataclass(frozen=True)
class Setting:
    """One of the compared combinations."""

    algorithm: str
    scheduler: str
    slots: int
    # Whether the search first tries the best settings of other sweeps.
    is_warm: bool = False


@dataclass(frozen=True)
class Replayed:
    """One replay: the cost of the searched trials when a configuration near the best was complete, and at the end.

    `found_ref_s` is inf if none was found; `wall_s` is read from the simulated clock. `regret`: by which part the
    configuration that would be confirmed is slower than the best recorded one, by the mean over all seeds.
    """

    found_ref_s: float
    search_ref_s: float
    wall_s: float
    regret: float


def settings_of(algorithms: str, schedulers: str, slots: str, *, is_warm: bool = False) -> list[Setting]:
    """Every combination of the entries of three lists, separated by commas or blanks.

    Args: is_warm: also each with a warm start.
    Raises: UserError: for an invalid number of slots.
    """
    parts = [*map(entries_of, (algorithms, schedulers, slots))]
    for each in parts[2]:
        if not each.isdigit() or not int(each):
            raise UserError(
                f"SLOTS={slots}: expected whole numbers of at least 1, got {each!r}. For example: SLOTS=2,8."
            )
    starts = (False, True) if is_warm else (False,)
    return [
        Setting(algorithm, scheduler, int(number), start)
        for algorithm, scheduler, number in itertools.product(*parts)
        for start in starts
    ]


def entries_of(text: str) -> list[str]:
    """The entries of a list, separated by commas or blanks."""
    return text.replace(",", " ").split()


class Simulation:
    """Replays of one recording.

    Args: surrogate: whether to predict curves between the recorded configurations; others: the sweeps whose best
        settings a warm start tries first, by name.
    Raises: UserError: if nothing can be taken from one of them.
    """

    def __init__(
        self, recording: Recording, surrogate: bool, others: Mapping[str, SweepDirectory] | None = None
    ) -> None:
        self._recording = recording
        self._surrogate = Surrogate(recording) if surrogate else None
        self._curve_of = recording.curve if self._surrogate is None else self._surrogate.curve
        times = {}
        for point in recording.points:
            curves = recording.curves[recording.job_of(point).config_id]
            times[recording.job_of(point).config_id] = self._mean_s([curves[seed] for seed in recording.spec.seeds])
        self._best_s = min(times.values())
        # A configuration counts as found if its mean is at most this.
        self.near_best_s = self._best_s * (1 + WITHIN)
        self.taken: Sequence[WarmPoint] = ()
        if others:
            self.taken = points_from(others, self.spec(Setting(recording.spec.algorithm.name, "none", 1), 0))

    def spec(self, setting: Setting, seed: int) -> SweepSpec:
        """The recorded sweep with another search. Raises: UserError: if the search or the scheduler is unknown."""
        spec = self._recording.spec
        number = len(self._recording.points) if self._surrogate is None else spec.num_configurations
        changed = {
            "algorithm": {"name": setting.algorithm, "seed": seed, "startup": spec.algorithm.startup},
            "scheduler": setting.scheduler,
            "confirm": False,
            "baselines": {spec.methods.plain: spec.baselines[spec.methods.plain]},
            "budget": {"configurations": number, "ref_s_per_trial": spec.budget.ref_s_per_trial},
            "warm_start": {"taken": [each.model_dump() for each in self.taken] if setting.is_warm else []},
        }
        return validated(
            SweepSpec,
            {**spec.model_dump(mode="json"), **changed},
            source=f"SEARCH={setting.algorithm} SCHEDULER={setting.scheduler}",
        )

    def outcome(self, setting: Setting, seed: int) -> Replayed:
        """One replay, with proposals drawn from this seed."""
        with tempfile.TemporaryDirectory(prefix="kdas-replay-", dir=_folder()) as folder:
            return self._played(self.spec(setting, seed), SweepDirectory(Path(folder)), setting.slots)

    def _played(self, spec: SweepSpec, directory: SweepDirectory, slots: int) -> Replayed:
        measure, clock = self._recording.measure, SimulatedClock()
        plan, objective = plan_of(spec), objective_of(spec.objective, measure.budget_ref_s)
        terms = Terms(measure, lambda plain: measure, partial(rule_of, spec, confirms=True), objective)
        search = self._search(directory.study_file, spec.space, spec.algorithm, objective.directions)
        spending = Spending(spec.budget, 1.0, None, clock)
        agenda = Agenda(plan, directory, lambda _: search, terms, spending, adopt=lambda job: False)
        waiting: dict[str, set[int]] = {}
        found = math.inf

        def ended(job: Job, searched_ref_s: float) -> None:
            nonlocal found
            if not is_searched(job.method):
                return
            left = waiting.setdefault(job.config_id, set(spec.seeds))
            left.discard(job.config.seed)
            if not left and self._mean_of(job) <= self.near_best_s:
                found = min(found, searched_ref_s)

        replay = Replay(agenda, directory, self._curve_of, slots, clock, ended)
        replay.run()
        confirmed_s = min(map(self._mean_of, agenda.leaders), default=math.inf)
        return Replayed(found, replay.searched_ref_s, clock.now_s, confirmed_s / self._best_s - 1)

    def _search(
        self, journal: Path, space: Space, algorithm: AlgorithmConfig, directions: Sequence[Direction]
    ) -> ConfigurationSearch:
        if self._surrogate is None:
            return TableSearch(journal, space, algorithm, directions, self._recording.points)
        return SurrogateSearch(journal, space, algorithm, directions, self._surrogate)

    def _mean_of(self, job: Job) -> float:
        """The mean time of a job's configuration over all seeds of the recording."""
        seeds = self._recording.spec.seeds
        return self._mean_s(
            [self._curve_of(replace(job, config=job.config.model_copy(update={"seed": seed}))) for seed in seeds]
        )

    def _mean_s(self, curves: Sequence[Curve]) -> float:
        measure = self._recording.measure
        return statistics.fmean(
            min(time_to_target(curve.rows, measure.target), measure.budget_ref_s) for curve in curves
        )


def simulate(
    recording: Recording,
    surrogate: bool,
    settings: Sequence[Setting],
    replays: int,
    console: Console,
    others: Mapping[str, SweepDirectory] | None = None,
) -> None:
    """Replay each setting with `replays` seeds of its proposals, and print the costs. Args: others: as `Simulation`."""
    simulation = Simulation(recording, surrogate, others)
    for setting in settings:
        simulation.spec(setting, 0)
    source = (
        "a model fitted to the recorded curves, so this says nothing about training" if surrogate else "recorded curves"
    )
    console.print(
        f"{len(recording.points)} recorded configurations on {len(recording.spec.seeds)} seeds; {source}."
        f" 'Near the best' means a mean of at most {simulation.near_best_s:.2f} reference s, {WITHIN:.0%} above that of"
        " the best recorded one (which looks too good, since it was chosen on these seeds).",
        highlight=False,
    )
    if len(recording.points) < FEW_CONFIGURATIONS:
        console.print(
            f"note: with {len(recording.points)} configurations almost any order soon finds the best one. Record at"
            f" least {FEW_CONFIGURATIONS} before you trust a difference.",
            highlight=False,
        )
    if simulation.taken:
        console.print(f"With a warm start, {told(simulation.taken)}.", highlight=False, soft_wrap=True)
    columns = (
        "search",
        "scheduler",
        "slots",
        "ref. s to near the best [95%]",
        "ref. s in all [95%]",
        "finalist slower by [95%]",
        "simulated wall s",
    )
    table = Table(*columns, box=None, padding=(0, 2, 0, 0))
    for setting in track(settings, "replaying", console=console, transient=True):
        outcomes = [simulation.outcome(setting, seed) for seed in range(replays)]
        table.add_row(
            f"{setting.algorithm}, warm start" if setting.is_warm else setting.algorithm,
            setting.scheduler,
            str(setting.slots),
            _interval([each.found_ref_s for each in outcomes]),
            _interval([each.search_ref_s for each in outcomes]),
            _interval([each.regret for each in outcomes], "{:.1%}"),
            f"{statistics.fmean(each.wall_s for each in outcomes):.1f}",
        )
    console.print(table)
    console.print(f"Means over {replays} replays; trials of plain distillation are not counted.", highlight=False)


def _folder() -> Path | None:
    """The folder to write replays to; None for the usual folder of temporary files."""
    has_room = _IN_MEMORY.is_dir() and shutil.disk_usage(_IN_MEMORY).free > _ROOMY_BYTES
    return _IN_MEMORY if has_room else None


def _interval(values: Sequence[float], form: str = "{:.1f}") -> str:
    """The mean with a bootstrap interval; if some replays found nothing, how many did."""
    finite = np.array([value for value in values if math.isfinite(value)])
    if len(finite) < len(values):
        return f"found in {len(finite)} of {len(values)}"
    random = np.random.default_rng(0)
    means = random.choice(finite, (_RESAMPLES, len(finite))).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    mean, low, high = map(form.format, (finite.mean(), low, high))
    return f"{mean} [{low}, {high}]"
