"""The warm start: the best configurations of other sweeps, as points that the searches of this one try first.

They are taken when a sweep begins and recorded in its resolved file. Later starts need the other sweeps no longer.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from kdas.errors import UserError, nearest
from kdas.files.journal import Journal
from kdas.parts.paths import place
from kdas.records import Measure, is_searched
from sweeps.engine.objective import Objective, best_first, objective_of
from sweeps.engine.outcome import Outcome, outcome_of
from sweeps.file.blocks import ObjectiveConfig, TimeToAccuracy, WarmPoint
from sweeps.file.methods import Search
from sweeps.file.spec import SweepSpec
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import read_measure
from sweeps.record.paths import CELLS, SEARCH, SPEC, folders_in, recorded_names, runs_root
from sweeps.record.spec_file import read_spec
from sweeps.record.trial import TrialFolder
from sweeps.space.space import Point
from sweeps.space.transfer import transferred

# Points that a search takes at least, however few random proposals it would begin with: the best few of another task
# are a matter of luck. Chosen by replays, see docs/benchmarks.md.
_LEAST = 6
_OBJECTIVE: TypeAdapter[Any] = TypeAdapter(ObjectiveConfig)


def with_warm_start(spec: SweepSpec, directory: SweepDirectory, source: Path) -> SweepSpec:
    """The sweep with the points that it recorded when it began, or that it takes from other sweeps now.

    Args: source: the sweep file, named in messages; folders of other sweeps are relative to it.
    Raises: UserError: for a name that is not that of a sweep, or a sweep from which nothing can be taken.
    """
    recorded = read_spec(directory.spec_file) if directory.spec_file.exists() else None
    if not spec.cells:
        return _warmed(spec, recorded, source)
    of_cells = (recorded or {}).get("cells") or {}
    cells = {}
    for name, cell in spec.cells.items():
        file = directory.cell(name).spec_file
        cells[name] = _warmed(cell, read_spec(file) if file.exists() else of_cells.get(name), source)
    return next(iter(cells.values())).model_copy(update={"cells": cells})


def _warmed(spec: SweepSpec, recorded: Mapping[str, Any] | None, source: Path) -> SweepSpec:
    """Args: recorded: the resolved file of a sweep that has begun."""
    if recorded is None:
        if not spec.warm_start.sweeps:
            return spec
        try:
            return with_points(spec, points_from(others_of(spec.warm_start.sweeps, source.parent), spec))
        except UserError as error:
            raise error.of(f"{source}: warm_start") from error
    taken = (recorded.get("warm_start") or {}).get("taken") or []
    try:
        return with_points(spec, [WarmPoint.model_validate(each) for each in taken])
    except ValidationError:
        return spec  # what is searched has changed, which is refused by its own name


def with_points(spec: SweepSpec, points: Sequence[WarmPoint]) -> SweepSpec:
    """The sweep with these points. Raises: ValidationError: for a point outside its space."""
    if list(points) == spec.warm_start.taken:
        return spec
    warm = {"sweeps": spec.warm_start.sweeps, "taken": [each.model_dump() for each in points]}
    return SweepSpec.model_validate({**spec.model_dump(), "warm_start": warm})


def told(points: Sequence[WarmPoint]) -> str:
    """What was taken from where, in a line; empty if nothing was."""
    searches: dict[str, Counter[str]] = defaultdict(Counter)
    for each in points:
        searches[each.search][each.sweep] += 1
    lines = []
    for search, numbers in searches.items():
        of_sweeps = [f"{n} setting{'s' if n > 1 else ''} of {sweep}" for sweep, n in numbers.items()]
        are = "is" if numbers.total() == 1 else "are"
        lines.append(f"{f'{search}: ' if search else ''}{' and '.join(of_sweeps)} {are} tried first")
    return "; ".join(lines)


def points_from(others: Mapping[str, SweepDirectory], spec: SweepSpec) -> list[WarmPoint]:
    """The best configurations of other sweeps, as far as they fit, for each search of this one.

    They are taken in turn from the sweeps, the best first. Each search takes as many as `algorithm.startup` asks for
    random proposals, besides what it tries before them, and at least `_LEAST`.

    Args: others: the other sweeps, as the file names them.
    Raises: UserError: if a sweep has none that fits, or if there is no room for any.
    """
    ranked = {name: _ranked(directory) for name, directory in others.items()}
    taken: list[WarmPoint] = []
    fitting_somewhere: set[str] = set()
    reasons: dict[str, str] = {}
    for search in spec.methods.searches:
        fitting: dict[str, list[WarmPoint]] = {}
        for name, of_sweep in ranked.items():
            try:
                fitting[name] = _fitting(name, of_sweep, search)
            except ValueError as error:
                reasons.setdefault(name, str(error))
        first = search.space.first
        if len(first) >= spec.num_configurations and fitting:
            raise UserError(
                f"budget.configurations: {spec.num_configurations} leaves no room for other sweeps, since the authors'"
                " setting and known_points are tried first. Raise it."
            )
        number = max(spec.algorithm.startup - len(first), _LEAST, len(fitting))
        taken += _in_turn(list(fitting.values()), first, min(number, spec.num_configurations - len(first)))
        fitting_somewhere |= fitting.keys()
    for name in (each for each in others if each not in fitting_somewhere):
        raise UserError(f"{name}: none of its configurations fits `search`: {reasons[name]}. Leave that sweep out.")
    return taken


def _fitting(sweep: str, ranked: Mapping[str, Sequence[_Configuration]], search: Search) -> list[WarmPoint]:
    """The configurations that fit a search, the best first: those of the search with the same name, if any of these
    does, or else of the first search of which any does.

    Args: ranked: of the other sweep, by the names of its searches, the best first.
    Raises: ValueError: if none fits; says why the first one does not.
    """
    reason = ""
    for name in sorted(ranked, key=lambda name: name != search.name):
        found = []
        for each in ranked[name]:
            try:
                point = transferred(search.space, search.content, each.content)
            except ValueError as error:
                reason = reason or str(error)
            else:
                found.append(WarmPoint(sweep=sweep, config_id=each.config_id, search=search.name, point=point))
        if found:
            return found
    raise ValueError(reason)


def _in_turn(fitting: Sequence[Sequence[WarmPoint]], first: Sequence[Point], number: int) -> list[WarmPoint]:
    """The best of each sweep, then the second of each, and so on; equal points count once, at most `number`."""
    taken: list[WarmPoint] = []
    for each in chain.from_iterable(zip_longest(*fitting)):
        if each is not None and each.point not in (*first, *(other.point for other in taken)):
            taken.append(each)
    return taken[:number]


@dataclass(frozen=True)
class _Configuration:
    """A configuration of another sweep. `content`: that of its trials."""

    config_id: str
    content: Mapping[str, Any]


def _ranked(directory: SweepDirectory) -> dict[str, list[_Configuration]]:
    """The configurations of a sweep by the name of their search, the best first.

    Racing leaves few of them complete. The others are ranked by what their search was told to expect of them.

    Raises: UserError: if none is complete, or a file of the sweep is damaged.
    """
    measure = read_measure(directory)
    if measure is None:
        raise UserError(f"{directory.name}: none of its configurations is complete. Run that sweep, or leave it out.")
    objective = _objective_of(directory, measure)
    trials: dict[tuple[str, str], list[TrialFolder]] = defaultdict(list)
    for folder in directory.trials():
        if damage := folder.damage():
            raise damage
        what = folder.description
        if what["phase"] == SEARCH and is_searched(what["method"]) and what["config"]["seed"] in measure.seeds:
            trials[what.get("proposal", {}).get("search", ""), what["config_id"]].append(folder)
    outcomes: dict[str, dict[str, Outcome]] = defaultdict(dict)
    is_any_complete = False
    told_of = {search: _told_values(directory, search) for search in {search for search, _ in trials}}
    for (search, config_id), folders in trials.items():
        outcome = outcome_of(folders, objective, measure)
        if outcome is None:
            continue
        if outcome.is_known and len(folders) == len(measure.seeds):
            outcomes[search][config_id] = outcome
            is_any_complete = True
        elif values := told_of[search].get(folders[0].description.get("proposal", {}).get("number")):
            outcomes[search][config_id] = replace(outcome, values=values)
    if not is_any_complete:
        raise UserError(f"{directory.name}: none of its configurations is complete. Run that sweep, or leave it out.")
    return {
        search: [
            _Configuration(config_id, trials[search, config_id][0].description["config"])
            for config_id in best_first(
                {config_id: each.values for config_id, each in of_search.items()},
                objective.directions,
                {config_id: each.best_accuracy for config_id, each in of_search.items()},
            )
        ]
        for search, of_search in outcomes.items()
    }


def _objective_of(directory: SweepDirectory, measure: Measure) -> Objective:
    try:
        return objective_of(
            _OBJECTIVE.validate_python(read_spec(directory.spec_file).get("objective", TimeToAccuracy())),
            measure.budget_ref_s,
        )
    except ValidationError as error:
        raise UserError(f"{directory.spec_file}: objective: is of another version. Leave that sweep out.") from error


def _told_values(directory: SweepDirectory, search: str) -> dict[int, list[float]]:
    """What a search was told last of each of its proposals, by their numbers."""
    events = Journal(directory.study_file_of(search)).read()
    return {event["told"]: event["values"] for event in events if event.get("values") is not None}


def others_of(names: Sequence[str], folder: Path) -> dict[str, SweepDirectory]:
    """Other sweeps, by their names or the paths of their folders.

    Args: folder: to which paths are relative.
    Raises: UserError: if there is no such sweep, or it consists of cells.
    """
    return {name: _directory_of(name, folder) for name in names}


def _directory_of(name: str, folder: Path) -> SweepDirectory:
    known = list(_names())
    if name in known:
        sweep, _, cell = name.partition("/")
        directory = SweepDirectory(runs_root() / sweep)
        directory = directory.cell(cell) if cell else directory
    else:
        path = Path(place(name, folder))
        if not os.path.isdir(path):  # noqa: PTH112 (a name that no path can have)
            raise UserError(f"{name}: no sweep of this name has run in {runs_root()}. {nearest(name, known)}")
        if not (path / SPEC).is_file():
            raise UserError(f"{name}: no sweep has run in this folder. {nearest(path.name, known)}")
        directory = SweepDirectory(path)
    if cells := directory.cells():
        raise UserError(f"{name}: consists of cells. Name some of them: {', '.join(each.name for each in cells)}.")
    return directory


def _names() -> Iterator[str]:
    """The sweeps and cells that have started."""
    for sweep in recorded_names():
        yield sweep
        yield from (f"{sweep}/{cell.name}" for cell in folders_in(runs_root() / sweep / CELLS))
