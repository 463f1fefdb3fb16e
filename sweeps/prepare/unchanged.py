"""Checks that a sweep resumes with the file, the data and the code that it began with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from kdas.data.survey import Survey
from kdas.errors import UserError
from kdas.files.record import DamagedError, read_record, write_record
from kdas.parts.plugins import plugin_ids
from kdas.parts.reading import explain
from kdas.parts.yaml_file import dump_yaml, parse_yaml
from kdas.recipe.config import TrialConfig
from kdas.recipe.teacher import members_of
from kdas.students.start import reference_weights, start_id
from kdas.training.trial import Inputs, config_id, priced_code
from sweeps.file.methods import Search
from sweeps.file.spec import SweepSpec
from sweeps.prepare.own_copies import with_references
from sweeps.record.directory import SweepDirectory
from sweeps.record.spec_file import read_spec, write_spec_text
from sweeps.space.ranges import RangeConfig

# In place of a value that is not there; a value is shown up to this length.
_MISSING, _MOST_SHOWN = "missing", 200
_REFERENCES = "sampler references"
# Keys that may differ between two starts of a sweep. More seeds, configurations or finalists extend it, plug-ins are
# compared by their content, and the others change no result. `known_points` and what is searched may grow, see below.
_MAY_CHANGE = {
    "seeds",
    "budget",
    "confirm",
    "plugins",
    "preset",
    "resources",
    "data_workers",
    "faults",
    "keep_students",
}


def spec_text(spec: SweepSpec) -> str:
    """The resolved sweep, every default written out, as YAML."""
    return dump_yaml(spec.model_dump(mode="json"))


def keep_spec(spec: SweepSpec, directory: SweepDirectory) -> None:
    """Record the resolved sweep that later starts are compared with."""
    write_spec_text(directory.spec_file, spec_text(spec))


def check_spec(spec: SweepSpec, directory: SweepDirectory) -> bool:
    """Compare the sweep file with the recorded one. Of cells, only the names are compared.

    Returns: whether more values are searched than recorded.
    Raises: UserError: if the file contradicts the recorded one.
    """
    if not directory.spec_file.exists():
        return False
    now = parse_yaml(spec_text(spec))
    recorded = read_spec(directory.spec_file)
    if spec.cells or recorded.get("cells"):
        _check_cells(recorded.get("cells") or {}, spec, directory)
        return False
    before = _with_later_keys(recorded, now, directory)
    for content in (before, now):
        _forget_places(content)
    points = before.pop("known_points"), now.pop("known_points")
    is_wider = [_take_over_wider(_searched(before, each), _searched(now, each), each) for each in spec.methods.searches]
    if "sampler" in before["search"]:  # otherwise only the first of those that are searched
        before["sampler"] = now["sampler"]
    for key, value in now.items():
        if key not in _MAY_CHANGE and before.get(key) != value:
            changed, then, given = _innermost_change(key, before.get(key), value)
            allowed = " Wider ranges and more choices are allowed." if "search." in changed else ""
            raise UserError(
                f"{directory.spec_file}: {changed} was {_shown(then)} when this sweep began and is {_shown(given)} now."
                f"{allowed} Save the changed file under another name, or move that folder away."
            )
    _check_known_points(*points, directory)
    if before["budget"]["ref_s_per_trial"] != now["budget"]["ref_s_per_trial"]:
        raise UserError(
            f"{directory.spec_file}: budget.ref_s_per_trial was {before['budget']['ref_s_per_trial']} when this sweep"
            f" began and is {now['budget']['ref_s_per_trial']} now. All times depend on it. Save the changed file under"
            " another name."
        )
    # A confirmation may end before it has used all of its seeds, and only it has trials on other seeds.
    have_run = {folder.path.name.rpartition("-s")[2] for folder in directory.trials()}
    if used := [seed for seed in now["seeds"] if str(seed) in have_run and seed not in before["seeds"]]:
        raise UserError(
            f"{directory.spec_file}: seeds: {used} were used for the confirmation, so the search cannot use them. Use"
            " other seeds."
        )
    missing = [seed for seed in before["seeds"] if seed not in now["seeds"]]
    if missing:
        raise UserError(
            f"{directory.spec_file}: seeds: {missing} have run but are missing from the file. Restore them, or give"
            f' SET="seeds={str(before["seeds"]).replace(" ", "")}"; you may add others.'
        )
    return any(is_wider)


def _searched(content: Mapping[str, Any], search: Search) -> dict[str, Any]:
    """The parameters of a search with their values, by name. Args: content: of a resolved file."""
    method = content["baselines"].get(search.name) if search.name else content
    found: dict[str, Any] = method.get("search", {}) if method else {}
    return found


def _take_over_wider(before: dict[str, Any], now: Mapping[str, Any], search: Search) -> bool:
    """Replace recorded values by those that contain them, so that only other changes are left.

    Of a range that does not, an end that has only moved outwards is replaced too: it is not what is wrong.

    Args: before, now: the parameters of the search, as `_searched` returns them.
    Returns: whether any were replaced by more values.
    """
    is_wider = False
    for name in before.keys() & now.keys():
        then, given = before[name], now[name]
        if then == given:
            continue
        values, recorded = (RangeConfig.model_construct(**each) for each in (given, then))
        if then["when"] == given["when"] and values.contains(recorded, search.space[name].kind):
            before[name], is_wider = given, True
            continue
        outwards = {"low": _is_below(given["low"], then["low"]), "high": _is_below(then["high"], given["high"])}
        with_moved = {**then, **{end: given[end] for end, is_moved in outwards.items() if is_moved}}
        before[name] = with_moved if with_moved != given else then
    return is_wider


def _is_below(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and one < other


def _forget_places(content: dict[str, Any]) -> None:
    """Remove where data and weights are: they may have moved. `check_inputs` compares what is in them."""
    for key in ("path", "keep"):
        content["dataset"].pop(key, None)
    of_methods = [each["teacher"] for each in content["baselines"].values() if "teacher" in each]
    for teacher in (member for each in (content["teacher"], *of_methods) for member in members_of(each)):
        teacher["checkpoint"] = bool(teacher.get("checkpoint"))
    content["student_checkpoint"] = bool(content["student_checkpoint"])
    content.update(with_references(content, bool))


def _innermost_change(key: str, before: Any, now: Any) -> tuple[str, Any, Any]:
    """The path of the first key that differs, and both values. A part with another name differs as a whole."""
    if not (isinstance(before, Mapping) and isinstance(now, Mapping)) or before.get("name") != now.get("name"):
        return key, before, now
    every = dict.fromkeys([*now, *before])
    changed = next(each for each in every if before.get(each, _MISSING) != now.get(each, _MISSING))
    return _innermost_change(f"{key}.{changed}", before.get(changed, _MISSING), now.get(changed, _MISSING))


def _shown(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _check_known_points(before: list[Any], now: list[Any], directory: SweepDirectory) -> None:
    """Raises: UserError: if one is missing. More extend a sweep."""
    missing = [point for point in before if point not in now]
    if missing:
        raise UserError(
            f"{directory.spec_file}: known_points: {missing[0]} was there when this sweep began and is missing from the"
            " file. Restore it; you may add others."
        )


def _check_cells(recorded: dict[str, Any], spec: SweepSpec, directory: SweepDirectory) -> None:
    """Raises: UserError: if a cell is missing, or only one of the two files has cells. More cells extend a sweep."""
    if not (recorded and spec.cells):
        now, then = ("cells", "none") if spec.cells else ("no cells", "some")
        raise UserError(
            f"{directory.spec_file}: cells: this sweep has {now} now and had {then} when it began."
            " Save the changed file under another name, or move that folder away."
        )
    missing = ", ".join(sorted(set(recorded) - set(spec.cells)))
    if missing:
        raise UserError(
            f"{directory.spec_file}: cells: {missing} has started but is missing from the file. Restore it; you may"
            " add others."
        )


def _with_later_keys(before: dict[str, Any], now: dict[str, Any], directory: SweepDirectory) -> dict[str, Any]:
    """The recorded file, plus the defaults of keys that did not exist when the sweep began."""
    # Plug-ins may have moved; `check_inputs` compares their content.
    recorded = {**before, "plugins": now["plugins"]}
    try:
        completed: dict[str, Any] = parse_yaml(spec_text(SweepSpec.model_validate(recorded)))
    except ValidationError as error:
        raise UserError(
            f"{directory.spec_file}: {explain(error, SweepSpec)} Another version of this program wrote it."
            " Move that folder away."
        ) from error
    return completed


def keep_inputs(directory: SweepDirectory, inputs: Inputs, recipe: TrialConfig, references: Sequence[str] = ()) -> None:
    """Record what later starts must match. Args: references: of the samplers, in the order of the file."""
    write_record(directory.inputs_file, _facts(inputs, recipe, references))


def check_inputs(
    directory: SweepDirectory, inputs: Inputs, recipe: TrialConfig, references: Sequence[str] = ()
) -> None:
    """Compare what a sweep began with. Args: as for `keep_inputs`.

    Raises: UserError: if data, given weights, device or user code differ from those that the sweep began with.
    """
    try:
        before = read_record(directory.inputs_file, remedy="")
    except (FileNotFoundError, DamagedError):
        _rebuild_inputs(directory, inputs, recipe, references)
        return
    facts = _facts(inputs, recipe, references)
    for key, value in facts.items():
        known = str(before.get(key, ""))
        # More of them may be searched by now, and sweeps of before did not record them.
        has_grown = key == _REFERENCES and set(known.split()) <= set(value.split())
        if known != value and not has_grown:
            raise UserError(f"{directory.path}: {_what_changed(key, str(before.get(key)), value)}")
    if _REFERENCES in facts and facts[_REFERENCES] != before.get(_REFERENCES):
        keep_inputs(directory, inputs, recipe, references)


def _what_changed(key: str, before: str, now: str) -> str:
    """Which of the facts that this sweep began with has changed, and what to do."""
    another = "or start the sweep under another name."
    if key == "dataset" and Survey(is_plain=False).fingerprint(before) == now:
        return (
            "some of its images are turned, transparent or of 16 bits. This version decodes them otherwise than the one"
            f" that began this sweep. Finish it with that version (see environment.json), {another}"
        )
    if key == "dataset":
        return (
            f"the images or labels have changed since this sweep began: their fingerprint was {before} and is {now}."
            f" Restore the data, {another}"
        )
    if key == "device":
        return f"this sweep began on {before}, and {now} is used now. Run it on {before}, {another}"
    if key.startswith("teacher weights"):
        return (
            f"the teacher's weights have changed since this sweep began: their hash was {before} and is {now}. Restore"
            f" its checkpoint, {another}"
        )
    if key == "student start":
        return (
            f"the weights that the student starts from have changed since this sweep began: their hash was {before} and"
            f" is {now}. Restore its checkpoint, {another}"
        )
    if key == _REFERENCES:
        return (
            f"the weights of a sampler's reference have changed since this sweep began: their hash was {before} and is"
            f" {now}. Restore the file under sampler.reference, {another}"
        )
    return f"the {key} has changed since this sweep began. Restore your files, {another}"


def _rebuild_inputs(directory: SweepDirectory, inputs: Inputs, recipe: TrialConfig, references: Sequence[str]) -> None:
    """Write the facts again. A trial's name tells whether it was trained with these inputs."""
    same = TrialConfig(**{**recipe.model_dump(mode="json"), "sampler": "full"})
    known = {folder.path.name.rpartition("-s")[0] for folder in directory.trials()}
    if known and config_id(same, inputs) not in known:
        raise UserError(
            f"{directory.inputs_file}: is damaged or missing, and the data or the teacher are not those of the trials"
            " that have run. Restore data and teacher, or start the sweep under another name."
        )
    keep_inputs(directory, inputs, recipe, references)


def _facts(inputs: Inputs, recipe: TrialConfig, references: Sequence[str]) -> dict[str, str]:
    ids = [reference_weights(recipe.student, each, inputs.splits.num_classes)[1] for each in references]
    return {
        **({_REFERENCES: " ".join(ids)} if ids else {}),
        "dataset": inputs.dataset.fingerprint,
        "teacher weights": inputs.teacher.weights_id,
        **{f"teacher weights {n}": each.weights_id for n, each in enumerate(inputs.others.values(), start=2)},
        "device": inputs.device,
        "student start": start_id(recipe, inputs.splits.num_classes),
        "code of your own": " ".join([*priced_code(recipe), *plugin_ids(recipe.plugins)]),
    }
