"""What every room agrees on: the curve row, the statuses, and when a target counts as reached.

Standard library only, so that a report can be built where torch is absent.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Literal


class Status(StrEnum):
    """How a trial ended. `REACHED` and `BUDGET` both mean that it ran to its planned end."""

    RUNNING = "running"
    REACHED = "reached"
    BUDGET = "budget"
    DIVERGED = "diverged"
    CRASHED = "crashed"
    STOPPED_EARLY = "stopped_early"
    CAPPED = "capped"


# A trial with one of these has run to its end: nothing is left to train.
COMPLETE_STATUSES = frozenset({Status.REACHED, Status.BUDGET, Status.DIVERGED})
# The search has stopped it; it may resume if the sweep is extended.
STOPPED_STATUSES = frozenset({Status.STOPPED_EARLY, Status.CAPPED})
# What a trial ends with when nothing went wrong.
FINAL_STATUSES = COMPLETE_STATUSES | STOPPED_STATUSES


@dataclass(frozen=True)
class CurveRow:
    """One evaluation of one trial. Counts and costs are totals since the trial's first step.

    Accuracies are fractions; `*_s` are seconds. `cost_ref_s` is counted work times calibrated price. It charges every
    teacher forward pass that the method needs, which `teacher_forwards` counts. `cost_as_run_s` charges only those that
    really ran, so it depends on what the bank already held. The columns from `test_top5` on tell more of the test
    split, see `kdas.compute.evaluate.Quality`; None in rows of earlier versions.
    """

    trial_id: str
    config_id: str
    dataset: str
    pair: str
    seed: int
    epoch: int
    step: int
    samples_trained: int
    samples_scored: int
    teacher_forwards: int
    flops: float
    cost_ref_s: float
    cost_as_run_s: float
    wall_s: float
    eval_s: float
    data_s: float
    num_cotenants: int
    calibration_id: str
    device: str
    train_loss: float
    val_accuracy: float
    test_accuracy: float
    sampling_rate: float
    learning_rate: float
    test_top5: float | None = None
    test_nll: float | None = None
    test_calibration_error: float | None = None
    test_agreement: float | None = None

    def as_dict(self) -> dict[str, object]:
        return dict(vars(self))  # asdict would copy every value, at ten times the cost


_SEARCHED = "_search"


def searched_method(sampler: str) -> str:
    """Name in tables of the configurations that a search over this sampler proposes."""
    return f"{sampler}{_SEARCHED}"


def is_searched(method: str) -> bool:
    """Whether a method's configurations were proposed by a search."""
    return method.endswith(_SEARCHED)


# Edges of the ten bins of a teacher's confidence, from [0, 0.3) to [0.999, 1]. Bins are narrower near 1, where most
# confidences on a training set lie. A value that equals an edge belongs to the bin above it.
CONFIDENCE_EDGES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999)


@dataclass(frozen=True)
class PicksWindow:
    """The samples that a trial trained on, from the end of the previous window to the end of `epoch`.

    A sample counts each time it is trained on. `by_class` has a count for each class, `by_confidence` for each bin of
    `CONFIDENCE_EDGES`.
    """

    epoch: int
    by_class: list[int]
    by_confidence: list[int]

    def as_dict(self) -> dict[str, object]:
        return dict(vars(self))


# Fields of a measure that have another name in measure.json.
MEASURE_KEYS = {"budget_ref_s": "tau_ref_s"}


@dataclass(frozen=True)
class Measure:
    """The terms that a sweep is measured by, fixed before its search begins and kept for every resume (`measure.json`).

    `target` is an accuracy, as a fraction, on the `split` that decides; `budget_ref_s` the reference seconds that a
    trial may spend; `baseline` the method that all others are compared with.
    """

    sweep: str
    target: float
    target_rule: str
    budget_ref_s: float
    baseline: str
    split: Literal["validation", "test"]
    # The prices of the baselines.
    calibration_id: str
    data_source: str
    seeds: tuple[int, ...]
    num_planned_trials: int
    # All prices frozen with the sweep, if its search changes what a step costs.
    calibration_ids: tuple[str, ...] = ()
    # What proposed the searched configurations, and for which objective; "" in tables from elsewhere.
    algorithm: str = ""
    objective: str = "tta"
    # The searched parameters that were drawn on a logarithmic scale.
    log_parameters: tuple[str, ...] = ()
    # What is confirmed: finalists and baselines, each on these seeds. Empty before that, and in tables from elsewhere.
    confirm_configs: tuple[str, ...] = ()
    confirm_seeds: tuple[int, ...] = ()
    # The two-sided level at which the confirmation's last look is read: below 0.05 if there could be several looks.
    confirm_level: float = 0.05
    # The methods that train on every sample, `baseline` among them. Empty in sweeps of earlier versions.
    plain_methods: tuple[str, ...] = ()
    # Once the sweep has ended, the number of its trials: from then on none may be missing. 0 before.
    num_ended_trials: int = 0
    # While a look of the confirmation runs that is not its first: how many of `confirm_seeds` the look before had.
    last_look: int = 0
    # The searched methods of which nothing was tried, although the sweep has ended: what was to be compared is missing.
    untried: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """The content of `measure.json`, where the budget is called tau, as in the statistics."""
        return {MEASURE_KEYS.get(name, name): value for name, value in vars(self).items()}

    @property
    def deciding_column(self) -> str:
        """The column of the curve table that is compared with the target."""
        return "test_accuracy" if self.split == "test" else "val_accuracy"


# Raised with every changelog line marked [Measure]: a trial measured by other rules is another trial. It stays if
# recorded curves can be priced by the new rules, as `kdas.clock.with_epochs` does.
MEASURE_VERSION = 2

# The columns of curves.parquet: sweep, method and phase, then the row itself.
SWEEP_COLUMNS = ("sweep", "method", "phase")
CURVE_COLUMNS = (*SWEEP_COLUMNS, *(field.name for field in fields(CurveRow)))
# Their kinds, and those that tables of earlier versions lack.
CURVE_KINDS: Mapping[str, str] = {
    **dict.fromkeys(SWEEP_COLUMNS, "str"),
    **{field.name: str(field.type).removesuffix(" | None") for field in fields(CurveRow)},
}
LATER_COLUMNS = tuple(field.name for field in fields(CurveRow) if field.default is None)
# Then, in tables of sweeps whose prices are known, the cost with a cached teacher.
WITHOUT_TEACHER = "cost_without_teacher_s"
# The columns of trials.parquet that every sweep has, with their kinds; columns of settings follow.
TRIAL_KINDS: Mapping[str, Literal["str", "int", "float"]] = {
    "sweep": "str",
    "trial_id": "str",
    "config_id": "str",
    "method": "str",
    "phase": "str",
    "seed": "int",
    "dataset": "str",
    "pair": "str",
    "configuration": "str",
    "status": "str",
    "tta_ref_s": "float",
    "last_cost_ref_s": "float",
    "best_val_accuracy": "float",
    "wall_s": "float",
    "num_evaluations": "int",
    "ended_at": "float",
    "threads": "int",
    "device": "str",
    "calibration_id": "str",
    "error": "str",
}
TRIAL_COLUMNS = tuple(TRIAL_KINDS)
# Then, for each round of measuring prices, what the trial costs at that round's prices alone, divided by its cost.
PRICE_ROUND = "price_round_"
# The columns of picks.parquet: whose window, then the window itself.
PICKS_COLUMNS = (*SWEEP_COLUMNS, "trial_id", "config_id", "seed", *(field.name for field in fields(PicksWindow)))


# The key under which a JSON object of the record holds its own check.
CHECK = "check"


def with_check(content: Mapping[str, object]) -> dict[str, object]:
    """A JSON object with the check by which `is_intact` recognises it."""
    return {**content, CHECK: _check_of(content)}


def is_intact(content: Mapping[str, object]) -> bool:
    """Whether an object is as `with_check` gave it. Objects of earlier versions have no check and pass."""
    return content.get(CHECK) in (None, _check_of({key: value for key, value in content.items() if key != CHECK}))


def _check_of(content: Mapping[str, object]) -> str:
    return f"{zlib.crc32(json.dumps(content, sort_keys=True).encode()):08x}"


def reached(accuracy: float, target: float) -> bool:
    """The one rule for "the target is reached": equality counts, NaN does not."""
    return accuracy >= target


def first_reached(costs: Iterable[float], accuracies: Iterable[float], target: float) -> float:
    """Cost of the first evaluation that reaches the target, `math.inf` if none does."""
    return next(
        (cost for cost, accuracy in zip(costs, accuracies, strict=True) if reached(accuracy, target)),
        math.inf,
    )
