"""Refuses, by the run's name, what a store holds and what would give wrong times without a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analysis.mlflow_store.database import Run
from analysis.mlflow_store.sources import ELAPSED, MEASURED, StoreRuns
from kdas.errors import UserError

if TYPE_CHECKING:
    from analysis.mlflow_store.evaluations import Evaluations

# A pause: this multiple of the run's usual time per step, and this share of its whole time.
_PAUSE_FACTOR, _PAUSE_SHARE, _FEWEST_INTERVALS = 10, 0.2, 3
# Up to here every whole number is one in floating point, as metrics are stored.
_LARGEST_COUNT = 2**53
_ACCURACIES = ("val_accuracy", "test_accuracy")


def refuse_unusable_steps(
    store: StoreRuns, runs: list[Run], trials: NDArray[np.int64], steps: NDArray[np.int64]
) -> None:
    """Check the steps at which the accuracies were logged.

    Args: trials: positions in `runs`, -1 for runs that are no trials; both in the order of logging.
    Raises: UserError: if a run logged all of them at step 0, or starts over at its first step, or if the steps are too
        far apart.
    """
    order = np.argsort(trials, kind="stable")
    order = order[trials[order] >= 0]
    trials, steps = trials[order], steps[order]
    firsts = np.flatnonzero(np.diff(trials, prepend=-1))
    counts = np.diff(np.append(firsts, len(trials)))
    source = store.sources["val_accuracy"]
    low, high = (int(steps.min()), int(steps.max())) if len(steps) else (0, 0)
    if (high - low + 1) * len(runs) > np.iinfo(np.int64).max:  # trial and step are joined in one number
        raise UserError(
            f"val_accuracy: expected steps that are closer together, got {low} to {high} ({source}). Log the number of"
            " the epoch or of the batch as the step."
        )
    for first, count in zip(firsts, counts, strict=True) if len(firsts) else ():
        mine, run = steps[first : first + count], runs[trials[first]]
        if count > 1 and not mine.any():
            raise UserError(
                f"val_accuracy: expected a step with each value, got {count} values at step 0 ({source} of"
                f" {named(run)}). Log them with their steps, or delete the run in MLflow."
            )
        starts_over = np.flatnonzero((np.diff(mine) < 0) & (mine[1:] <= mine[0]))
        if len(starts_over):
            at = starts_over[0]
            raise UserError(
                f"val_accuracy: expected steps that grow, got step {mine[at + 1]} again after step {mine[at]} ({source}"
                f" of {named(run)}): the run starts over, and its earlier values would be lost. Log steps that"
                " continue after a restart, or delete the run in MLflow."
            )


def refuse_unusable(store: StoreRuns, rows: Evaluations) -> None:
    """Check accuracies and costs.

    Raises: UserError: if an accuracy is not a fraction, an evaluation has no cost, the cost of a run does not grow, or
        a count is too large.
    """
    for column in _ACCURACIES:
        values = rows.columns[column]
        lowest, best = float(np.fmin.reduce(values, initial=0.0)), float(np.fmax.reduce(values, initial=0.0))
        if lowest < 0 or best > 1:
            got = best if best > 1 else lowest
            raise UserError(
                f"{column}: expected fractions in [0, 1], got {got:g} ({store.sources[column]}). Log 0.95 for 95%."
            )
    costless = np.flatnonzero(np.isnan(rows.columns["cost_ref_s"]))
    if len(costless):
        run, step = rows.runs[rows.trials[costless[0]]], rows.steps[costless[0]]
        accuracy, cost = (store.sources[column] for column in ("val_accuracy", "cost_ref_s"))
        raise UserError(
            f"cost_ref_s: {len(costless)} of {len(rows.trials)} evaluations have no {cost}, the first at step"
            f" {step} of run {run.uuid}. Log it at the steps of {accuracy}, or use the time of logging:"
            f" --name cost_ref_s={ELAPSED}"
        )
    _refuse_cost(store, rows)
    for column in (name for name, kind in MEASURED.items() if kind == "int"):
        values = np.abs(rows.columns[column])
        if np.fmax.reduce(values, initial=0.0) > _LARGEST_COUNT:
            raise UserError(
                f"{column}: expected at most {_LARGEST_COUNT}, got {np.fmax.reduce(values):g}"
                f" ({store.sources[column]}). Use another metric: --name {column}=metrics.<key>"
            )


def _refuse_cost(store: StoreRuns, rows: Evaluations) -> None:
    cost = rows.columns["cost_ref_s"]
    if len(cost) and not (cost.min() >= 0 and 0 < cost.max() < np.inf):
        raise UserError(
            f"cost_ref_s: expected totals that grow from 0, got {cost.min():g} to {cost.max():g}"
            f" ({store.sources['cost_ref_s']}). Use another metric, or the time of logging: --name cost_ref_s={ELAPSED}"
        )
    is_within = np.diff(rows.trials) == 0
    falls = np.flatnonzero(is_within & (np.diff(cost) < 0))
    if len(falls):
        at = falls[0]
        raise UserError(
            f"cost_ref_s: expected totals that grow, got {cost[at + 1]:g} after {cost[at]:g} at step"
            f" {rows.steps[at + 1]} of {named(rows.runs[rows.trials[at]])} ({store.sources['cost_ref_s']})."
            f" {_remedy(store)}"
        )
    lasts = np.flatnonzero(np.append(~is_within, np.ones(min(len(cost), 1), bool)))
    firsts = np.append(0, lasts[:-1] + 1)[: len(lasts)]
    flat = np.flatnonzero((lasts > firsts) & (cost[lasts] == cost[firsts])) if len(lasts) else lasts
    if len(flat):
        at = firsts[flat[0]]
        raise UserError(
            f"cost_ref_s: expected totals that grow, got {cost[at]:g} at every step of"
            f" {named(rows.runs[rows.trials[at]])} ({store.sources['cost_ref_s']}). {_remedy(store)}"
        )
    if store.sources["cost_ref_s"] == ELAPSED:
        _refuse_pauses(store, rows)


@dataclass(frozen=True)
class Pause:
    """A run's evaluation whose cost is far higher above the one before than is usual in the run."""

    run: Run
    step: int
    taken: float
    usual: float


def pauses(rows: Evaluations) -> list[Pause]:
    """The longest pause of every run that has one: the time of logging runs on while a run is paused or waits to
    restart, and so does a clock that the run logs."""
    cost = rows.columns["cost_ref_s"]
    bounds = np.searchsorted(rows.trials, np.arange(len(rows.runs) + 1))
    found: list[Pause] = []
    for run, first, end in zip(rows.runs, bounds[:-1], bounds[1:], strict=True):
        taken, num_steps = np.diff(cost[first:end]), np.diff(rows.steps[first:end])
        if len(taken) < _FEWEST_INTERVALS:
            continue
        at = int(np.argmax(taken))
        usual = float(np.median(taken / num_steps)) * int(num_steps[at])
        if taken[at] > _PAUSE_FACTOR * usual > 0 and taken[at] > _PAUSE_SHARE * cost[end - 1]:
            found.append(Pause(run, int(rows.steps[first + at + 1]), float(taken[at]), usual))
    return found


def _refuse_pauses(store: StoreRuns, rows: Evaluations) -> None:
    for pause in pauses(rows)[:1]:
        raise UserError(
            f"cost_ref_s: expected steady progress, got {pause.taken:.0f} s before step {pause.step} of"
            f" {named(pause.run)} where {pause.usual:.0f} s are usual: it was paused. {_remedy(store)}"
        )


def named(run: Run) -> str:
    """A run in a message."""
    return f"run {run.uuid} ({run.name})"


def _remedy(store: StoreRuns) -> str:
    if store.sources["cost_ref_s"] == ELAPSED:
        return "Use a metric, or delete the run in MLflow."
    return f"Use another metric, the time of logging (--name cost_ref_s={ELAPSED}), or delete the run in MLflow."
