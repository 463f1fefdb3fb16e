"""The configuration of a sweep that does best, as far as its own measure can tell. The report says how sure that is."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kdas.errors import UserError
from kdas.files.home import expanded
from kdas.parts.yaml_file import dump_yaml
from kdas.recipe.teacher import members_of
from kdas.records import COMPLETE_STATUSES, Measure
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import best_accuracy, read_measure, time_to_target
from sweeps.record.spec_file import read_spec
from sweeps.record.trial import TrialFolder


@dataclass(frozen=True)
class Winner:
    """A configuration and its complete trials, those of the confirmation if there was one, in order of seeds.

    `mean_ref_s`: mean time to the target in reference seconds, a miss counting as the budget. `mean_accuracy`: mean of
    the best accuracies on the split that decides, for the objective accuracy_at_cost within its cost.
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
    """The best configuration of a sweep, by its objective: that with the least mean time to the target, or the highest
    mean best accuracy, for accuracy_at_cost that within the cost. Of a Pareto front it is the end with the highest
    accuracy.

    Of equals in one search it is the one that the search ranks first, whose students are kept; between others,
    accuracy decides after time, and time after accuracy.

    Args: method: only configurations of this method.
    Raises: UserError: if none has ended on every seed, or there is no such method.
    """
    measure = read_measure(directory)
    if measure is None:
        raise UserError(
            f"{directory.path}: the target is not known before the baseline has ended. {_remedy(directory)}"
        )
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
    cost_ref_s = _cost_of_objective(directory, measure)
    ranked = [_measured(folders, measure, cost_ref_s) for folders in found.values() if len(folders) == len(seeds)]
    ranked = [each for each in ranked if method in (None, each.description["method"])]
    if not ranked:
        of_confirmation = " of the confirmation" if measure.confirm_seeds else ""
        raise UserError(
            f"{directory.path}: no configuration has ended on every seed{of_confirmation}. {_remedy(directory)}"
        )
    firsts: dict[str, Winner] = {}
    for each in sorted(ranked, key=_as_its_search):
        firsts.setdefault(_lane(each), each)
    return min(firsts.values(), key=_between_searches)


def _remedy(directory: SweepDirectory) -> str:
    return "The sweep is still running: try again later." if directory.holder() else "Run the sweep to its end."


def _lane(winner: Winner) -> str:
    """The search that ranks a configuration among others; of a baseline, and in a confirmation, itself."""
    what = winner.description
    return f"search {what['proposal'].get('search', '')}" if "proposal" in what else str(what["config_id"])


def _as_its_search(winner: Winner) -> tuple[float, float, str]:
    cost = winner.mean_ref_s if winner.measure.objective == "pareto" else 0.0
    first = -winner.mean_accuracy if _is_by_accuracy(winner.measure) else winner.mean_ref_s
    return first, cost, winner.description["config_id"]


def _between_searches(winner: Winner) -> tuple[float, float, str]:
    of_time, of_accuracy = winner.mean_ref_s, -winner.mean_accuracy
    first, second = (of_accuracy, of_time) if _is_by_accuracy(winner.measure) else (of_time, of_accuracy)
    return first, second, winner.description["config_id"]


def _is_by_accuracy(measure: Measure) -> bool:
    return measure.objective != "tta"


def _cost_of_objective(directory: SweepDirectory, measure: Measure) -> float:
    """Up to which cost accuracies count. Raises: UserError: if that is recorded in a damaged file."""
    if measure.objective != "accuracy_at_cost":
        return math.inf
    try:
        objective = read_spec(directory.spec_file)["objective"]
    except FileNotFoundError as error:
        raise UserError(f"{directory.spec_file}: is missing. Run the sweep again.") from error
    if objective.get("cost_ref_s") is not None:
        return float(objective["cost_ref_s"])
    return float(objective["share_of_budget"]) * measure.budget_ref_s


def _measured(folders: Sequence[TrialFolder], measure: Measure, cost_ref_s: float) -> Winner:
    curves = [folder.rows() for folder in folders]
    accuracies = [best_accuracy([each for each in rows if each.row.cost_ref_s <= cost_ref_s]) for rows in curves]
    times = [min(time_to_target(rows, measure.target), measure.budget_ref_s) for rows in curves]
    reached = [time_to_target(rows, measure.target) <= measure.budget_ref_s for rows in curves]
    return Winner(
        sorted(folders, key=lambda folder: int(folder.description["config"]["seed"])),
        statistics.fmean(times),
        statistics.fmean(0.0 if math.isnan(each) else each for each in accuracies),
        sum(reached),
        measure,
    )


def trial_file(winner: Winner, directory: SweepDirectory) -> str:
    """The trial file of its first seed, as YAML, with a comment that says where it comes from.

    A teacher whose checkpoint is gone is the copy that the sweep keeps.
    """
    # Of a sweep's trial, the budget is that of the sweep. Alone, it follows the number of epochs.
    config = {
        key: value
        for key, value in winner.description["config"].items()
        if value is not None and key not in ("budget_epochs", "budget_ref_s")
    }
    members = [_from_copy(member, directory) for member in members_of(config["teacher"])]
    config["teacher"] = {**config["teacher"], "of": members} if "of" in config["teacher"] else members[0]
    return f"# {winner.summary()}.\n{dump_yaml(config)}"


def _from_copy(teacher: dict[str, Any], directory: SweepDirectory) -> dict[str, Any]:
    """The teacher with the sweep's copy as its checkpoint, if that of the file is gone."""
    kept, given = directory.teacher_file_of(teacher), teacher.get("checkpoint")
    if not given or not kept.exists() or expanded(given).exists():
        return teacher
    return {**teacher, "checkpoint": str(kept.absolute())}
