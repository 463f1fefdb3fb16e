"""What a sweep will cost, before it starts: trials, device hours and wall hours with an interval, disk, memory."""

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
from kdas.training.estimate import estimated_cost_ref_s
from kdas.training.picks import window_ends
from kdas.training.trial import Inputs
from sweeps.engine.plan import baseline_jobs, identity, searched_jobs
from sweeps.engine.prices import Prices
from sweeps.engine.slots import Slots
from sweeps.file.blocks import NoScheduler
from sweeps.file.checks import trial_content
from sweeps.file.spec import SweepSpec
from sweeps.record.job import Job

# Proposals whose cost stands for those of the search.
DRAWN = 12
# Of what the searched trials would cost if none were stopped. Capping saved a quarter in simulated sweeps; how much it
# saves in one depends on how unlike its configurations are.
STOPPED_SHARES = (0.4, 0.75, 1.0)
# Trials that run beside each other take longer than alone. Between nothing, and half as long again.
SLOWER = (1.0, 1.2, 1.5)
SECONDS_PER_HOUR = 3600.0
# What a worker holds beside its share of the data: interpreter, libraries, models, activations of a batch.
WORKER_BYTES = 900_000_000
BYTES_PER_ROW, BYTES_PER_COUNT = 1_000, 7


@dataclass(frozen=True)
class Range:
    """An estimate with the ends between which it will probably lie."""

    low: float
    middle: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.middle + other.middle, self.high + other.high)

    def scaled(self, factors: Sequence[float]) -> Range:
        return Range(self.low * factors[0], self.middle * factors[1], self.high * factors[2])


@dataclass(frozen=True)
class Forecast:
    """`device_s`: seconds of whole devices, as budgets count them; `wall_s`: until the sweep ends."""

    num_baseline_trials: int
    num_searched_trials: int
    num_confirming_trials: int
    device_s: Range
    wall_s: Range
    disk_bytes: int
    memory_bytes: int

    @property
    def num_trials(self) -> int:
        return self.num_baseline_trials + self.num_searched_trials + self.num_confirming_trials


def forecast(spec: SweepSpec, inputs: Inputs, prices: Prices, budget_ref_s: float, slots: Slots) -> Forecast:
    """Args: budget_ref_s: what any trial may spend."""
    num_samples = len(inputs.splits.train)

    def cost_s(config: TrialConfig) -> float:
        return min(estimated_cost_ref_s(config, num_samples, prices.of(config)), budget_ref_s)

    num_seeds, num_fresh = len(spec.seeds), len(spec.confirm.seeds) if spec.confirm else 0
    baselines = {job.config_id: job.config for job in baseline_jobs(spec, identity)}
    baseline_s = sum(map(cost_s, baselines.values()))
    searched = [cost_s(config) for config in drawn_configs(spec, DRAWN)]
    searched_s = statistics.fmean(searched)
    finalists = min(spec.confirm.top, spec.num_configurations) if spec.confirm else 0
    fixed_s = baseline_s * (num_seeds + num_fresh) + searched_s * finalists * num_fresh
    shares = (1.0, 1.0, 1.0) if isinstance(spec.scheduler, NoScheduler) else STOPPED_SHARES
    whole_s = searched_s * spec.num_configurations * num_seeds
    training = Range(fixed_s, fixed_s, fixed_s) + Range(whole_s, whole_s, whole_s).scaled(shares)
    with_evaluation = training.scaled([1 + _evaluation_s(inputs, spec, prices.base) / budget_ref_s] * 3)
    slower = SLOWER if slots.num_cotenants else (1.0, 1.0, 1.2)
    trials_s = with_evaluation.scaled(slower)
    return Forecast(
        num_baseline_trials=len(baselines) * num_seeds,
        num_searched_trials=spec.num_configurations * num_seeds,
        num_confirming_trials=(len(baselines) + finalists) * num_fresh,
        device_s=trials_s.scaled([slots.share_of_device] * 3),
        wall_s=trials_s.scaled([1 / slots.trials_at_once] * 3),
        disk_bytes=_disk_bytes(spec, inputs, slots, len(baselines), finalists),
        memory_bytes=slots.trials_at_once * WORKER_BYTES + _image_bytes(inputs),
    )


def first_jobs(spec: SweepSpec) -> list[Job]:
    """The jobs that a sweep begins with: baselines, and the points that its search tries first."""
    baselines = baseline_jobs(spec, identity)
    searched = [job for point in spec.space.first for job in searched_jobs(spec, identity, point, baselines)]
    return list({(job.config_id, job.config.seed): job for job in [*baselines, *searched]}.values())


def drawn_configs(spec: SweepSpec, number: int) -> list[TrialConfig]:
    """What a search would be likely to propose: first the points that are tried first, then drawn ones."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=derived_seed(0, "forecast") % 2**31))
    points: list[dict[str, Any]] = list(spec.space.first)
    while len(points) < number:
        points.append(spec.space.drawn(study.ask()))
    baselines = baseline_jobs(spec, identity)
    return [searched_jobs(spec, identity, point, baselines)[0].config for point in points]


def _evaluation_s(inputs: Inputs, spec: SweepSpec, calibration: Calibration) -> float:
    """Seconds of all evaluations of a trial that spends its budget, by the price of scoring."""
    splits = inputs.splits
    num_images = len(splits.test) + (len(splits.validation) if splits.validation is not splits.test else 0)
    return spec.evaluations * calibration.pass_s(Work.SCORE, num_images, 4 * spec.batch_size)


def _disk_bytes(spec: SweepSpec, inputs: Inputs, slots: Slots, num_baselines: int, finalists: int) -> int:
    """Checkpoints at their most, curves, picks, tables and MLflow's copy."""
    config = TrialConfig(**{**trial_content(spec), "sampler": "full"})
    student = _student_bytes(config, inputs)
    # Weights and momentum, twice: the newest checkpoint and the one before it. Of trials that have ended none is kept.
    under_way = slots.trials_at_once * 4 * student
    num_fresh = len(spec.confirm.seeds) if spec.confirm else 0
    num_trials = (num_baselines + spec.num_configurations) * len(spec.seeds) + (num_baselines + finalists) * num_fresh
    rows = num_trials * spec.evaluations * BYTES_PER_ROW
    num_counts = len(window_ends(spec.epochs)) * (inputs.splits.num_classes + len(CONFIDENCE_EDGES) + 1)
    return under_way + 3 * (rows + num_trials * num_counts * BYTES_PER_COUNT)


def _student_bytes(config: TrialConfig, inputs: Inputs) -> int:
    state = models.create(config.student, inputs.splits.num_classes).state_dict()
    return sum(each.numel() * each.element_size() for each in state.values())


def _image_bytes(inputs: Inputs) -> int:
    splits = inputs.splits
    if splits.reading:
        return 0
    return (splits.num_images + len(splits.test)) * 3 * splits.image_size**2
