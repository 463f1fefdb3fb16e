"""What a sweep measures: target, budget, baseline and deciding split. Read from measure.json."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

from kdas.errors import UserError
from kdas.records import CHECK, MEASURE_KEYS, Measure, is_intact

_OPTIONAL = {field.name for field in fields(Measure) if field.default is not MISSING}
_TEXTS = ("sweep", "target_rule", "baseline", "calibration_id", "data_source")


def load_measure(sweep_directory: Path | str) -> Measure:
    """What the sweep measures.

    Raises: UserError: if measure.json is missing, is not a JSON object, lacks a key, or has a value out of range.
    """
    path = Path(sweep_directory) / "measure.json"
    content = _json_object(path)
    keys = [MEASURE_KEYS.get(name, name) for name in Measure.__dataclass_fields__ if name not in _OPTIONAL]
    missing = [key for key in keys if key not in content]
    if missing:
        raise UserError(f"{path}: missing keys: {', '.join(missing)}. Run the sweep again to rebuild it.")
    for name in _TEXTS:
        _require(isinstance(content[name], str), path, name, content[name], "text")
    split = content["split"]
    target, budget_ref_s = _number(content, "target", path), _number(content, "tau_ref_s", path)
    level = _number(content, "confirm_level", path) if "confirm_level" in content else Measure.confirm_level
    _require(0 < level < 1, path, "confirm_level", level, "a level in (0, 1)")
    _require(0 < target <= 1, path, "target", target, "a fraction in (0, 1]")
    _require(budget_ref_s > 0, path, "tau_ref_s", budget_ref_s, "reference seconds above 0")
    _require(split in ("validation", "test"), path, "split", split, "validation or test")
    return Measure(
        sweep=str(content["sweep"]),
        target=target,
        target_rule=str(content["target_rule"]),
        budget_ref_s=budget_ref_s,
        baseline=str(content["baseline"]),
        split="test" if split == "test" else "validation",
        calibration_id=str(content["calibration_id"]),
        data_source=str(content["data_source"]),
        seeds=_seeds(content["seeds"], path, "seeds"),
        num_planned_trials=int(_number(content, "num_planned_trials", path)),
        calibration_ids=_texts(content.get("calibration_ids", []), path, "calibration_ids"),
        algorithm=str(content.get("algorithm", "")),
        objective=str(content.get("objective", "tta")),
        log_parameters=_texts(content.get("log_parameters", []), path, "log_parameters"),
        confirm_configs=_texts(content.get("confirm_configs", []), path, "confirm_configs"),
        confirm_seeds=_seeds(content.get("confirm_seeds", []), path, "confirm_seeds"),
        confirm_level=level,
        plain_methods=_texts(content.get("plain_methods", []), path, "plain_methods"),
        last_look=int(_number(content, "last_look", path)) if "last_look" in content else 0,
        untried=_texts(content.get("untried", []), path, "untried"),
    )


def load_environment(sweep_directory: Path | str) -> dict[str, str]:
    """Where the sweep ran (commit, versions, device, threads, data hash), {} if nothing was recorded.

    Raises: UserError: if environment.json exists but is not a JSON object.
    """
    path = Path(sweep_directory) / "environment.json"
    return {str(key): str(value) for key, value in _json_object(path).items()} if path.is_file() else {}


@dataclass(frozen=True)
class ByHand:
    """What users have asked of a sweep that changes what it shows.

    `ended_at`: how many configurations each search was to try when a user ended it; 0 if none did. `stopped`: ids of
    trials that a user asked to stop; some may have ended otherwise before.
    """

    ended_at: int = 0
    stopped: tuple[str, ...] = ()


def load_by_hand(sweep_directory: Path | str) -> ByHand:
    """What users have asked of the sweep, as control.json says it. Raises: UserError: if that file is damaged."""
    path = Path(sweep_directory) / "control.json"
    if not path.is_file():
        return ByHand()
    content = _json_object(path)
    stopped = [trial_id for key in ("stopped", "were_stopped") for trial_id in _texts(content.get(key, []), path, key)]
    is_ended = bool(content.get("finish")) and content.get("finished_at") is not None
    return ByHand(int(_number(content, "finished_at", path)) if is_ended else 0, tuple(dict.fromkeys(stopped)))


def teacher_accuracy(environment: Mapping[str, str]) -> tuple[float, float]:
    """The teacher's accuracy on the split that decides, and the least that is clearly above chance; NaN if unknown."""
    names = ("teacher_accuracy", "teacher_accuracy_clear_from")
    try:
        accuracy, clear_from = (float(environment[name]) for name in names)
    except (KeyError, ValueError):
        return math.nan, math.nan
    return accuracy, clear_from


def price_facts(environment: Mapping[str, str]) -> tuple[float, str, str]:
    """How much rounds of measuring prices differed, NaN if unknown; when they were; and what else ran meanwhile."""
    try:
        spread = float(environment["price_spread"])
    except (KeyError, ValueError):
        return math.nan, "", ""
    return spread, environment.get("prices_measured_at", ""), environment.get("prices_busy", "")


def _json_object(path: Path) -> dict[str, object]:
    if not path.is_file():
        raise UserError(f"{path}: missing file. Run the sweep again: it resumes and writes the file.")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}). Delete it and run the sweep again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected an object, got {type(content).__name__}. Delete it and run the sweep again.")
    if not is_intact(content):
        raise UserError(f"{path}: is damaged. Run the sweep again to rebuild it.")
    content.pop(CHECK, None)
    return content


def _number(content: Mapping[str, object], name: str, path: Path) -> float:
    value = content[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{path}: {name}: expected a number, got {value!r}. Run the sweep again.")
    return float(value)


def _seeds(value: object, path: Path, name: str) -> tuple[int, ...]:
    if isinstance(value, list) and all(isinstance(seed, int) for seed in value):
        return tuple(value)
    raise UserError(f"{path}: {name}: expected a list of whole numbers, got {value!r}. Run the sweep again.")


def _texts(value: object, path: Path, name: str) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(text, str) for text in value):
        return tuple(value)
    raise UserError(f"{path}: {name}: expected a list of strings, got {value!r}. Run the sweep again.")


def _require(holds: bool, path: Path, name: str, value: object, expected: str) -> None:
    if not holds:
        raise UserError(f"{path}: {name}: expected {expected}, got {value!r}. Run the sweep again.")
