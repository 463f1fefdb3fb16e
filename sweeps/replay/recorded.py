"""Recorded curves to replay: as they are, or through a model fitted to them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from optuna.trial import TrialState

from kdas.errors import UserError
from kdas.recipe.config import TrialConfig
from kdas.records import COMPLETE_STATUSES, Measure, Status
from sweeps.engine.objective import Direction, objective_of
from sweeps.engine.plan import Plan, identity
from sweeps.engine.proposals import Asked, ConfigurationSearch, Drawn
from sweeps.file.blocks import AlgorithmConfig
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import read_measure
from sweeps.record.trial import Recorded
from sweeps.space.ranges import RangeConfig
from sweeps.space.space import Parameter, Point, Space


@dataclass(frozen=True)
class Curve:
    """A trial that ran to its end."""

    rows: Sequence[Recorded]
    status: Status


@dataclass(frozen=True)
class Recording:
    """A finished sweep. `points` are the searched settings; `curves` are keyed by configuration and seed."""

    spec: SweepSpec
    plan: Plan
    measure: Measure
    points: list[Point]
    curves: Mapping[str, Mapping[int, Curve]]

    def curve(self, job: Job) -> Curve:
        """The recorded curve of the job's trial."""
        return self.curves[job.config_id][job.config.seed]

    def job_of(self, point: Point) -> Job:
        """The first job of a configuration."""
        return self.plan.searched(point)[0]


class TableSearch(ConfigurationSearch):
    """Replaces each proposal with the nearest recorded configuration that was not proposed before."""

    def __init__(
        self,
        journal: Path,
        space: Space,
        algorithm: AlgorithmConfig,
        directions: Sequence[Direction],
        points: Sequence[Point],
    ) -> None:
        self._left = list(points)
        super().__init__(journal, space, algorithm, directions)

    def ask(self) -> Asked | None:
        return super().ask() if self._left else None

    def _propose(self, number: int, listed: Point | None) -> Drawn:
        drawn = super()._propose(number, listed)
        wanted = self._asked(number, drawn.params).point
        self._study.tell(drawn.trial, state=TrialState.FAIL)
        nearest = min(self._left, key=lambda point: distance(self._space, wanted, point))
        self._left.remove(nearest)
        params = self._space.to_optuna(nearest)
        return Drawn(self._add(params, TrialState.RUNNING), params)


class SurrogateSearch(ConfigurationSearch):
    """Tells the surrogate the settings of the jobs whose curves it will be asked for."""

    def __init__(
        self,
        journal: Path,
        space: Space,
        algorithm: AlgorithmConfig,
        directions: Sequence[Direction],
        surrogate: Surrogate,
    ) -> None:
        self._surrogate = surrogate
        super().__init__(journal, space, algorithm, directions)

    def _propose(self, number: int, listed: Point | None) -> Drawn:
        drawn = super()._propose(number, listed)
        self._surrogate.know(self._asked(number, drawn.params).point)
        return drawn


def distance(space: Space, one: Point, other: Point) -> float:
    """The squared distance between two points of a space; each parameter contributes 0 to 1."""
    return sum(_apart(parameter, one, other) ** 2 for parameter in space.parameters)


def _apart(parameter: Parameter, one: Point, other: Point) -> float:
    name, values = parameter.name, parameter.values
    if name not in one or name not in other:
        return float((name in one) != (name in other))
    if values.choices is not None:
        return float(one[name] != other[name])
    return abs(_unit(values, one[name]) - _unit(values, other[name]))


def _unit(values: RangeConfig, value: float) -> float:
    assert values.low is not None and values.high is not None
    scale = math.log if values.log else float
    return (scale(value) - scale(values.low)) / (scale(values.high) - scale(values.low))


class Surrogate:
    """Predicts curves between the recorded ones, with trees fitted to the accuracies and the length of each curve.

    It replaces trials that were never run, so a result found with it is about the model and not about training.
    """

    def __init__(self, recording: Recording) -> None:
        from sklearn.ensemble import ExtraTreesRegressor

        self._recording, self._space = recording, recording.spec.space
        self._seeds = sorted(recording.spec.seeds)
        self._num_rows = max(len(curve.rows) for each in recording.curves.values() for curve in each.values())
        features, targets = [], []
        for point in recording.points:
            curves = recording.curves[recording.job_of(point).config_id]
            for seed in self._seeds:
                features.append(self._features(point, seed))
                targets.append(self._targets(curves[seed]))
        self._trees = ExtraTreesRegressor(100, random_state=0, min_samples_leaf=1).fit(features, targets)
        self._points: dict[str, Point] = {}

    def know(self, point: Point) -> None:
        """Remember a configuration whose jobs will be asked for."""
        self._points[self._recording.job_of(point).config_id] = point

    def curve(self, job: Job) -> Curve:
        """The curve of a job's trial: the recorded one, else the predicted one."""
        known = self._recording.curves.get(job.config_id, {}).get(job.config.seed)
        if known is not None:
            return known
        predicted = self._trees.predict([self._features(self._points[job.config_id], job.config.seed)])[0]
        template = next(iter(self._recording.curves.values()))[self._seeds[0]].rows[0]
        num_rows = max(1, round(float(predicted[0])))
        interval_s = self._recording.measure.budget_ref_s / self._recording.spec.evaluations
        rows = [
            replace(
                template,
                row=replace(
                    template.row,
                    seed=job.config.seed,
                    step=number + 1,
                    cost_ref_s=(number + 1) * interval_s,
                    val_accuracy=float(predicted[1 + number]),
                    test_accuracy=math.nan,
                ),
            )
            for number in range(num_rows)
        ]
        return Curve(rows, Status.BUDGET)

    def _features(self, point: Point, seed: int) -> list[float]:
        numbers: list[float] = [float(seed == each) for each in self._seeds]
        for parameter in self._space.parameters:
            values, value = parameter.values, point.get(parameter.name)
            if values.choices is not None:
                numbers += [float(value == choice) for choice in values.choices]
            else:
                numbers.append(-1.0 if value is None else _unit(values, value))
        return numbers

    def _targets(self, curve: Curve) -> list[float]:
        accuracies = [each.row.val_accuracy for each in curve.rows]
        held = np.nan_to_num(accuracies + [accuracies[-1]] * (self._num_rows - len(accuracies)))
        return [float(len(accuracies)), *held.tolist()]


def load_recording(spec: SweepSpec, directory: SweepDirectory) -> Recording:
    """The recording of a sweep. Raises: UserError: if it has not finished, or too few trials ran to their end."""
    measure = read_measure(directory)
    if measure is None:
        raise UserError(f"{directory.path}: the baselines have not finished. Finish the sweep first.")
    curves: dict[str, dict[int, Curve]] = {}
    for folder in directory.trials():
        if folder.status in COMPLETE_STATUSES:
            config = TrialConfig(**folder.description["config"])
            curves.setdefault(identity(config), {})[config.seed] = Curve(folder.rows(), folder.status)
    plan = plan_of(spec)
    directions = objective_of(spec.objective, measure.budget_ref_s).directions
    search = ConfigurationSearch(directory.study_file, spec.space, spec.algorithm, directions)
    points: dict[str, Point] = {}
    for asked in search.asked():
        job = plan.searched(asked.point)[0]
        if set(spec.seeds) <= set(curves.get(job.config_id, {})):
            points[job.config_id] = asked.point
    for job in plan.baselines:
        if job.config.seed not in curves.get(job.config_id, {}):
            raise UserError(
                f"{directory.path}: {job.method} has not finished on seed {job.config.seed}. Finish the sweep first."
            )
    if len(points) < 2:
        raise UserError(
            f"{directory.path}: searched configurations that have finished on all seeds: {len(points)}; a replay needs"
            " at least 2. Curves of stopped trials are incomplete: run a copy of the sweep file with scheduler: none."
        )
    return Recording(spec, plan, measure, list(points.values()), curves)
