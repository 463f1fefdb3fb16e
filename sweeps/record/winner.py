"""The configuration of a sweep that does best, as far as its own measure can tell. The report says how sure that is."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kdas.errors import UserError
from kdas.parts.yaml_file import dump_yaml
from kdas.records import COMPLETE_STATUSES, Measure
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import best_accuracy, read_measure, time_to_target
from sweeps.record.trial import TrialFolder


@dataclass(frozen=True)
class Winner:
    """A configuration and its complete trials, those of the confirmation if there was one, in order of seeds.

    `mean_ref_s`: mean time to the target in reference seconds, a miss counting as the budget. `mean_accuracy`: mean of
    the best accuracies on the split that decides.
    """

    trials: Sequence[TrialFolder]
    mean_ref_s: float
    mean_accuracy: float
    num_reached: int
    measure: Measure

    @property
    def description(self) -> dict[str, Any]:
        return self.trials[0].description

    def summary(self) -> str:
        """What it is, and why it was chosen, in a sentence."""
        measure, what = self.measure, self.description
        phase = "confirmation" if measure.confirm_configs else "search"
        return (
            f"{what['method']} ({what['configuration']}) did best in the {phase} of {measure.sweep}:"
            f" {self.mean_ref_s:.4g} reference seconds on average to {measure.target:.4g} {measure.split} accuracy,"
            f" which {self.num_reached} of {len(self.trials)} seeds reached; mean best accuracy"
            f" {self.mean_accuracy:.4g}"
        )


def winner_of(directory: SweepDirectory, method: str | None = None) -> Winner:
    """The best configuration of a sweep: that with the least mean time to the target, or, if the sweep's objective is
    the accuracy, the highest mean best accuracy; the other one decides between equals.

    Args: method: only configurations of this method.
    Raises: UserError: if none has ended on every seed, or there is no such method.
    """
    measure = read_measure(directory)
    if measure is None:
        raise UserError(f"{directory.path}: the target is not known before the baseline has ended. Run the sweep.")
    seeds = set(measure.confirm_seeds or measure.seeds)
    found: dict[str, list[TrialFolder]] = defaultdict(list)
    methods = set()
    for folder in directory.trials():
        if folder.damage() is not None or folder.status not in COMPLETE_STATUSES:
            continue
        config_id, seed = folder.description["config_id"], folder.description["config"]["seed"]
        if seed in seeds and (not measure.confirm_configs or config_id in measure.confirm_configs):
            methods.add(folder.description["method"])
            found[config_id].append(folder)
    if method is not None and method not in methods:
        raise UserError(f"{directory.path}: no method {method!r} has ended here. Known: {', '.join(sorted(methods))}.")
    ranked = [_measured(folders, measure) for folders in found.values() if len(folders) == len(seeds)]
    ranked = [each for each in ranked if method in (None, each.description["method"])]
    if not ranked:
        raise UserError(f"{directory.path}: no configuration has ended on every seed. Run the sweep to its end.")
    by_accuracy = measure.objective in ("accuracy", "accuracy_at_cost")
    return min(
        ranked,
        key=lambda each: (
            (-each.mean_accuracy, each.mean_ref_s) if by_accuracy else (each.mean_ref_s, -each.mean_accuracy)
        ),
    )


def _measured(folders: Sequence[TrialFolder], measure: Measure) -> Winner:
    curves = [folder.rows() for folder in folders]
    times = [min(time_to_target(rows, measure.target), measure.budget_ref_s) for rows in curves]
    reached = [time_to_target(rows, measure.target) <= measure.budget_ref_s for rows in curves]
    return Winner(
        sorted(folders, key=lambda folder: int(folder.description["config"]["seed"])),
        statistics.fmean(times),
        statistics.fmean(map(best_accuracy, curves)),
        sum(reached),
        measure,
    )


def trial_file(winner: Winner) -> str:
    """The trial file of its first seed, as YAML, with a comment that says where it comes from."""
    # Of a sweep's trial, the budget is that of the sweep. Alone, it follows the number of epochs.
    config = {
        key: value
        for key, value in winner.description["config"].items()
        if value is not None and key not in ("budget_epochs", "budget_ref_s")
    }
    return f"# {winner.summary()}.\n{dump_yaml(config)}"
