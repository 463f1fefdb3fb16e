"""Estimates a sweep before it starts: trials, device hours and wall hours with intervals, disk, memory."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from kdas import models
from kdas.clock import Calibration, Work
from kdas.recipe.config import TrialConfig
from kdas.records import CONFIDENCE_EDGES
from kdas.seeding import derived_seed
from kdas.training.estimate import estimated_cost_ref_s, is_chosen_by_teacher
from kdas.training.picks import window_ends
from kdas.training.trial import Inputs
from sweeps.engine.plan import Plan
from sweeps.engine.prices import Prices
from sweeps.engine.slots import Slots
from sweeps.file.blocks import KeepStudents
from sweeps.record.job import Job
from sweeps.record.overhead import Overhead

# The search's cost is estimated from this many proposals.
DRAWN = 12
# Factors for trials that share a machine, and for trials alone on one: at best, probably, at worst.
SLOWER, SLOWER_ALONE = (1.0, 1.2, 1.5), (1.0, 1.0, 1.2)
SECONDS_PER_HOUR = 3600.0
# Memory of a worker besides its share of the data: interpreter, libraries, models, activations of a batch.
WORKER_BYTES = 900_000_000
BYTES_PER_ROW, BYTES_PER_COUNT = 1_000, 7


@dataclass(frozen=True)
class Estimate:
    """A number of seconds with its likely range."""

    low: float
    middle: float
    high: float

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(self.low + other.low, self.middle + other.middle, self.high + other.high)

    def scaled(self, factors: Sequence[float]) -> Estimate:
        return Estimate(self.low * factors[0], self.middle * factors[1], self.high * factors[2])

    def times(self, factor: float) -> Estimate:
        return self.scaled([factor] * 3)


def _surely(seconds: float) -> Estimate:
    return Estimate(seconds, seconds, seconds)


@dataclass(frozen=True)
class Forecast:
    """`device_s`: seconds of whole devices, as budgets count them; `wall_s`: seconds until the sweep ends.

    A confirmation takes `num_confirming_trials` at least; `num_added_trials` may follow until its answer is decided.
    """

    num_baseline_trials: int
    num_searched_trials: int
    num_confirming_trials: int
    num_added_trials: int
    device_s: Estimate
    wall_s: Estimate
    disk_bytes: int
    memory_bytes: int
    # Whether the times include what a sweep takes besides training.
    has_overhead: bool = True

    @property
    def num_trials(self) -> int:
        return self.num_baseline_trials + self.num_searched_trials + self.num_confirming_trials


def forecast(
    plan: Plan,
    inputs: Inputs,
    prices: Prices,
    budget_ref_s: float,
    slots: Slots,
    cost_shares: Sequence[float] = (1.0, 1.0, 1.0),
    keep_students: KeepStudents = "none",
    overhead: Overhead | None = None,
) -> Forecast:
    """Estimate the cost of a sweep.

    Args: budget_ref_s: reference seconds that a trial may spend; cost_shares: the share of the search's cost that is
        still spent under early stopping: at least, probably, at most; keep_students: whose trained networks are kept;
        overhead: what a sweep takes besides training; None if that is not known, so that the estimate leaves it out.
    """
    num_baselines, num_seeds = len({job.config_id for job in plan.baselines}), len(plan.seeds)
    training = _training_s(plan, inputs, prices, budget_ref_s, cost_shares)
    evaluating = _evaluation_s(plan.methods.recipe, inputs, prices.base) / budget_ref_s
    trials_s = training.times(1 + evaluating).scaled(SLOWER if slots.num_cotenants else SLOWER_ALONE)
    num_confirmed = num_baselines + plan.num_finalists
    num_confirming, num_at_most = (num_confirmed * end(plan.looks, default=0) for end in (min, max))
    num_searched = plan.num_searched * num_seeds
    num_trials = num_baselines * num_seeds + num_searched + num_at_most
    around_s, per_trial_s = (overhead.around_s, overhead.per_trial_s) if overhead else (0.0, 0.0)
    num_added = num_at_most - num_confirming
    counts = Estimate(num_trials - num_added, num_trials - num_added / 2, num_trials)
    trials_s += counts.times(per_trial_s)
    return Forecast(
        num_baseline_trials=num_baselines * num_seeds,
        num_searched_trials=num_searched,
        num_confirming_trials=num_confirming,
        num_added_trials=num_added,
        device_s=trials_s.times(slots.share_of_device),
        wall_s=trials_s.times(1 / slots.trials_at_once) + _surely(around_s),
        disk_bytes=_disk_bytes(
            plan.methods.recipe, inputs, slots.trials_at_once, num_trials, num_students(plan, keep_students)
        ),
        memory_bytes=slots.trials_at_once * WORKER_BYTES + _image_bytes(inputs),
        has_overhead=overhead is not None,
    )


def _training_s(
    plan: Plan, inputs: Inputs, prices: Prices, budget_ref_s: float, cost_shares: Sequence[float]
) -> Estimate:
    """Reference seconds of all trials; only those of the search may be stopped."""
    num_samples = len(inputs.splits.train)

    def cost_s(config: TrialConfig) -> float:
        share_right = inputs.of(config).teacher_share_right(config) if is_chosen_by_teacher(config) else 1.0
        return min(estimated_cost_ref_s(config, num_samples, prices.of(config), share_right), budget_ref_s)

    baselines = {job.config_id: job.config for job in plan.baselines}
    baselines_s = sum(map(cost_s, baselines.values()))
    searched_s = statistics.fmean(map(cost_s, drawn_configs(plan, DRAWN)))
    looks = plan.looks or (0,)
    fresh_seed_s = baselines_s + searched_s * plan.num_finalists
    confirming = Estimate(*(fresh_seed_s * look for look in (looks[0], looks[len(looks) // 2], looks[-1])))
    searching = _surely(searched_s * plan.num_searched * len(plan.seeds)).scaled(cost_shares)
    return _surely(baselines_s * len(plan.seeds)) + confirming + searching


def first_jobs(plan: Plan) -> list[Job]:
    """The first jobs of a sweep: baselines, and the points that its searches try first."""
    searches = plan.methods.searches
    searched = [job for each in searches for point in each.space.first for job in plan.searched(point, each)]
    return list({(job.config_id, job.config.seed): job for job in [*plan.baselines, *searched]}.values())


def drawn_configs(plan: Plan, number: int) -> list[TrialConfig]:
    """Configurations like those that searches will propose: the points that are tried first, then random ones.

    Args: number: how many of each search, at least.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    configs: list[TrialConfig] = []
    for search in plan.methods.searches:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=derived_seed(0, "forecast") % 2**31))
        points: list[dict[str, Any]] = list(search.space.first)
        while len(points) < number:
            points.append(search.space.drawn(study.ask()))
        configs += [plan.searched(point, search)[0].config for point in points]
    return configs


def _evaluation_s(recipe: TrialConfig, inputs: Inputs, calibration: Calibration) -> float:
    """Seconds of all evaluations of a trial that spends its budget, by the price of scoring."""
    splits = inputs.splits
    num_images = len(splits.test) + (len(splits.validation) if splits.validation is not splits.test else 0)
    return recipe.evaluations * calibration.pass_s(Work.SCORE, num_images, 4 * recipe.batch_size)


def num_students(plan: Plan, keep: KeepStudents) -> int:
    """How many students a sweep keeps at most, while it runs and afterwards."""
    num_baselines, num_seeds = len({job.config_id for job in plan.baselines}), len(plan.seeds)
    num_confirming = (num_baselines + plan.num_finalists) * max(plan.looks, default=0)
    if keep == "none":
        return 0
    if keep == "all":
        return (num_baselines + plan.num_searched) * num_seeds + num_confirming
    # The best configuration of each search, and one in progress.
    of_search = 2 * len(plan.methods.searches) * num_seeds
    return of_search + (num_confirming or num_baselines * num_seeds)


def _disk_bytes(recipe: TrialConfig, inputs: Inputs, trials_at_once: int, num_trials: int, num_students: int) -> int:
    """Bytes of checkpoints at their peak, students, curves, picks, tables and MLflow's copy."""
    # Weights and momentum, and the best weights of students that are kept, in the newest checkpoint and the previous
    # one. Ended trials keep none. A student is kept twice: its best and its last weights.
    of_student = _student_bytes(recipe, inputs)
    under_way = trials_at_once * (6 if num_students else 4) * of_student + num_students * 2 * of_student
    rows = num_trials * recipe.evaluations * BYTES_PER_ROW
    num_counts = len(window_ends(recipe.epochs)) * (inputs.splits.num_classes + len(CONFIDENCE_EDGES) + 1)
    return under_way + 3 * (rows + num_trials * num_counts * BYTES_PER_COUNT)


def _student_bytes(config: TrialConfig, inputs: Inputs) -> int:
    state = models.create(config.student, inputs.splits.num_classes).state_dict()
    return sum(each.numel() * each.element_size() for each in state.values())


def _image_bytes(inputs: Inputs) -> int:
    splits = inputs.splits
    if splits.reading:
        return 0
    return (splits.num_images + len(splits.test)) * 3 * splits.image_size**2
