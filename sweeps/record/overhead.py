"""What a sweep takes besides its trials' training: measured by each sweep that ends, and read by later estimates."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from kdas.errors import UserError
from kdas.files.cache import cache_root
from kdas.files.record import read_record, write_record

_OF_RUN, _AFTER = ("around_s", "per_trial_s"), "after_s"


@dataclass(frozen=True)
class Overhead:
    """`around_s`: seconds before the first trial and after the last one: Ray's start and end, tables, the report, and
    what trackers still lack. `per_trial_s`: seconds for which a trial holds its slot without training or evaluating.
    """

    around_s: float
    per_trial_s: float


def known_overhead() -> Overhead | None:
    """As the last sweep with this cache took it; None before any has ended."""
    try:
        kept = read_record(_file(), *_OF_RUN, _AFTER, remedy="")
        return Overhead(float(kept["around_s"]) + float(kept[_AFTER]), float(kept["per_trial_s"]))
    except (FileNotFoundError, UserError, TypeError, ValueError):
        return None


def keep_of_run(around_s: float, per_trial_s: float) -> None:
    """Record what the process of a sweep took."""
    _keep({"around_s": around_s, "per_trial_s": per_trial_s})


def keep_after(after_s: float) -> None:
    """Record what the report and the last upload took."""
    _keep({_AFTER: after_s})


def _keep(found: dict[str, float]) -> None:
    try:
        before = read_record(_file(), remedy="")
    except (FileNotFoundError, UserError):
        before = {}
    known = {name: before[name] for name in (*_OF_RUN, _AFTER) if name in before}
    # Only estimates miss it, and whatever is wrong with the cache is told by those who need it.
    with suppress(OSError, UserError):
        write_record(_file(), {**known, **found})


def _file() -> Path:
    return cache_root() / "overhead.json"
