"""Optuna proposes configurations and gets the result of each once all its seeds have ended.

Proposals and results are stored as lines of JSON, from which every start rebuilds a study in memory. So a sweep
directory contains no pickles, which some of Optuna's samplers would write into Optuna's own storages.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState, create_trial

from kdas.files.journal import Journal
from kdas.seeding import derived_seed
from sweeps.engine.objective import Direction
from sweeps.file.blocks import AlgorithmConfig
from sweeps.space.space import Point, Space

optuna.logging.set_verbosity(optuna.logging.WARNING)

# These keep state between proposals, which is rebuilt by asking again.
_STATEFUL = ("cmaes", "nsga2")
# These try every combination once.
_EXHAUSTIVE = ("grid", "brute_force")
# Most sweeps are smaller than one generation of Optuna's default size.
_POPULATION = 12


@dataclass(frozen=True)
class Asked:
    """A proposal: its number, its settings, whether the study has its result, and whether that was a failure.

    `params` are the settings in Optuna's form, not rounded: what it learns from must not change with a restart.
    """

    number: int
    point: Point
    params: dict[str, Any]
    is_told: bool = False
    has_failed: bool = False


@dataclass(frozen=True)
class Drawn:
    """A proposal in the study: the number of its trial there, and the settings in Optuna's form."""

    trial: int
    params: dict[str, Any]


class ConfigurationSearch:
    """Optuna's ask-and-tell interface with its history on disk: a restart resumes where the search stopped."""

    def __init__(
        self, journal: Path, space: Space, algorithm: AlgorithmConfig, directions: Sequence[Direction]
    ) -> None:
        self._journal, self._space, self._algorithm = Journal(journal), space, algorithm
        self._study = optuna.create_study(directions=list(directions))
        self._proposals: list[Asked] = []
        # Trial numbers in the study. A proposal that failed and later succeeded has a second trial there.
        self._trials: list[int] = []
        self._first = list(map(space.to_optuna, space.first))
        order = _exhaustive_order(space, algorithm)
        # What is proposed without asking the study, in Optuna's form: every combination, or the points tried first.
        self._listed = self._first if order is None else list(map(space.to_optuna, order))
        self._is_exhaustive, self._place = order is not None, 0
        self._proposed: set[frozenset[tuple[str, Any]]] = set()
        for event in self._journal.read():
            self._take_in(event)

    def asked(self) -> list[Asked]:
        """Every proposal so far."""
        return list(self._proposals)

    def ask(self) -> Asked | None:
        """The next proposal; None if every combination has been proposed."""
        number = len(self._proposals)
        listed = self._next_listed()
        if self._is_exhaustive and listed is None:
            return None
        drawn = self._propose(number, listed)
        if listed is not None:  # a replay proposes something else instead
            self._proposed.add(frozenset(listed.items()))
        self._journal.append([{"asked": number, "params": drawn.params}])
        return self._keep(drawn)

    @property
    def num_untried(self) -> int:
        """Number of the points that are tried first that have not been proposed."""
        return sum(frozenset(params.items()) not in self._proposed for params in self._first)

    def _next_listed(self) -> Point | None:
        """The first of the listed points that has not been proposed. The file may have got more of them since."""
        while self._place < len(self._listed) and frozenset(self._listed[self._place].items()) in self._proposed:
            self._place += 1
        return self._listed[self._place] if self._place < len(self._listed) else None

    def tell(self, number: int, values: Sequence[float] | None) -> None:
        """Report the result of a proposal, one value for each direction; None if a seed crashed."""
        before = self._proposals[number]
        if before.is_told and (values is None or not before.has_failed):
            return
        self._journal.append([{"told": number, "values": None if values is None else list(values)}])
        self._hear(number, values)

    def _take_in(self, event: dict[str, Any]) -> None:
        """Repeat an event of an earlier start in the study; events come in their original order."""
        if "told" in event:
            self._hear(event["told"], event["values"])
        else:
            self._keep(self._drawn_before(event["asked"], event["params"]))

    def _drawn_before(self, number: int, params: dict[str, Any]) -> Drawn:
        """Add a proposal of an earlier start to the study."""
        if self._algorithm.name in _STATEFUL:
            again = self._propose(number, params if params in self._first else None)
            if again.params == params:
                return again
            # Proposed from a narrower space: the state of asking then, with the result of what was proposed.
            state = self._study.get_trials(deepcopy=False)[again.trial].system_attrs
            self._study.tell(again.trial, state=TrialState.FAIL)
            return Drawn(self._add(params, TrialState.RUNNING, system_attrs=state), params)
        return Drawn(self._add(params, TrialState.RUNNING), params)

    def _keep(self, drawn: Drawn) -> Asked:
        self._proposals.append(self._asked(len(self._proposals), drawn.params))
        self._trials.append(drawn.trial)
        self._proposed.add(frozenset(drawn.params.items()))
        return self._proposals[-1]

    def _asked(self, number: int, params: dict[str, Any]) -> Asked:
        point = self._space.from_optuna(params)
        assert point is not None
        return Asked(number, point, params)

    def _propose(self, number: int, listed: Point | None) -> Drawn:
        """Have the study ask for a proposal. Args: listed: what it must be, if anything."""
        if self._is_exhaustive and listed is not None:
            return Drawn(self._add(listed, TrialState.RUNNING), listed)
        # With a new sampler each time, a proposal depends on seed, number and reported results, but not on how often
        # the sweep was restarted.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.sampler = _sampler(
                self._algorithm, derived_seed(self._algorithm.seed, "proposal", number) % 2**31
            )
        if listed is not None:
            self._study.enqueue_trial(listed)
        trial = self._study.ask()
        self._space.drawn(trial)
        return Drawn(trial.number, dict(trial.params))

    def _hear(self, number: int, values: Sequence[float] | None) -> None:
        before = self._proposals[number]
        self._proposals[number] = replace(before, is_told=True, has_failed=values is None)
        if before.has_failed and values is not None:  # crashed, then retried: a study accepts no second result
            self._trials[number] = self._add(before.params, TrialState.COMPLETE, values)
        elif values is None:
            self._study.tell(self._trials[number], state=TrialState.FAIL)
        else:
            self._study.tell(self._trials[number], list(values))

    def _add(
        self,
        params: dict[str, Any],
        state: TrialState,
        values: Sequence[float] | None = None,
        system_attrs: dict[str, Any] | None = None,
    ) -> int:
        """Add a trial to the study without asking for one. Returns: its number there."""
        number = len(self._study.get_trials(deepcopy=False))
        self._study.add_trial(
            create_trial(
                state=state,
                params=params,
                distributions={name: self._space[name].values.distribution(self._space[name].kind) for name in params},
                values=None if values is None else list(values),
                system_attrs=system_attrs,
            )
        )
        return number


def _exhaustive_order(space: Space, algorithm: AlgorithmConfig) -> list[Point] | None:
    """All combinations: the points that are tried first, then the others in the file's order or shuffled."""
    if algorithm.name not in _EXHAUSTIVE:
        return None
    points = space.combinations({each.name: each.values.values(each.kind) or [] for each in space.parameters})
    if algorithm.name == "brute_force":
        random = np.random.default_rng(derived_seed(algorithm.seed, "order") % 2**31)
        points = [points[place] for place in random.permutation(len(points))]
    return [*space.first, *(point for point in points if point not in space.first)]


def _sampler(algorithm: AlgorithmConfig, seed: int) -> optuna.samplers.BaseSampler:
    match algorithm.name:
        case "random":
            return optuna.samplers.RandomSampler(seed=seed)
        case "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=algorithm.startup)
        case "cmaes":
            return optuna.samplers.CmaEsSampler(seed=seed, n_startup_trials=algorithm.startup)
        case "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=_POPULATION)
        case _:
            return optuna.samplers.TPESampler(seed=seed, n_startup_trials=algorithm.startup)
