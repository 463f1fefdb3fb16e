"""Verifies a sweep directory: files against checksums, costs against prices, tables against trials."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kdas.clock import Calibration, priced
from kdas.errors import make_command
from kdas.files.cache import replaced_whole
from kdas.files.journal import Journal
from kdas.files.prices import read_calibration, write_calibration
from kdas.files.record import DamagedError, read_record
from kdas.records import is_searched
from sweeps.record.control import read_requests
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import known_measure, read_measure
from sweeps.record.paths import CONFIRM
from sweeps.record.spec_file import read_spec
from sweeps.record.students import damaged_students
from sweeps.record.tables import sweep_tables
from sweeps.record.trial import Recorded, TrialFolder

_COPY = ".copy.json"


@dataclass(frozen=True)
class Finding:
    """One fault, described in a sentence, and whether it has been repaired."""

    text: str
    is_repaired: bool = False


def check_sweep(directory: SweepDirectory) -> list[Finding]:
    """Find all faults of a sweep that is not running. Repair what has a copy (prices, statuses), and the tables.

    Tables are checked only if every other fault has been repaired.
    """
    found = [finding for each in directory.cells() or [directory] for finding in _of_the_record(each)]
    return found if any(not each.is_repaired for each in found) else [*found, *_of_the_tables(directory)]


def _of_the_record(directory: SweepDirectory) -> Iterator[Finding]:
    yield from _of_single_files(directory)
    yield from _of_prices(directory)
    known = directory.calibrations()
    num_ended = 0
    for folder in directory.trials():
        damage = folder.damage()
        if damage is not None:
            yield Finding(str(damage))
            continue
        num_ended += folder.is_final
        if folder.restore_status():
            yield Finding(f"{folder.path}: status.json or its copy was damaged or missing; restored.", is_repaired=True)
        if wrong := _wrong_in(folder, known):
            yield Finding(f"{folder.path}: {wrong}. Move that folder away and run the sweep again.")
    for damage_of_student in damaged_students(directory):
        yield Finding(damage_of_student)
    measure = known_measure(directory)
    if not directory.measure_file.exists() and _is_past_the_baselines(directory):
        yield Finding(f"{directory.measure_file}: is missing. Run the sweep again to rebuild it.")
    if measure is not None and num_ended < measure.num_ended_trials:
        yield Finding(
            f"{directory.path}: {num_ended} trials have ended, expected {measure.num_ended_trials} as when the sweep"
            " ended. Run the sweep again to train the missing ones."
        )


def _is_past_the_baselines(directory: SweepDirectory) -> bool:
    """Whether the target must have been fixed, since trials of a search or a confirmation start only after that."""
    intact = (folder.description for folder in directory.trials() if folder.damage() is None)
    return any(is_searched(each["method"]) or each["phase"] == CONFIRM for each in intact)


def _of_single_files(directory: SweepDirectory) -> Iterator[Finding]:
    rebuilt = "The next start rebuilds it."

    def record(path: Path) -> Callable[[], object]:
        return lambda: read_record(path, remedy=rebuilt)

    def journal(path: Path) -> Callable[[], object]:
        return lambda: Journal(path, remedy=rebuilt).read()

    for look in (
        lambda: read_spec(directory.spec_file),
        lambda: read_measure(directory),
        record(directory.inputs_file),
        record(directory.environment_file),
        record(directory.spent_file),
        lambda: read_requests(directory),
        *map(journal, directory.study_files()),
        journal(directory.tracking_file),
    ):
        try:
            look()
        except DamagedError as error:
            yield Finding(str(error))
        except FileNotFoundError:
            continue  # the sweep has not written it yet, or the next start rebuilds it


def _of_prices(directory: SweepDirectory) -> Iterator[Finding]:
    """Restore damaged or missing prices from their copy."""
    files = directory.price_files()
    intact = {path: kept for path in files if (kept := read_calibration(path)) is not None}
    measure = known_measure(directory)
    base = measure.calibration_id if measure is not None else None
    for path in files:
        if path in intact:
            continue
        is_copy = path.name.endswith(_COPY)
        other = path.with_name(path.name.removesuffix(_COPY) + ".json" if is_copy else path.stem + _COPY)
        of_base = (kept for kept in intact.values() if kept.calibration_id == base)
        copy = intact.get(other) or (next(of_base, None) if is_copy or path == directory.calibration_file else None)
        if copy is None:
            yield Finding(f"{path}: is damaged or missing, and has no copy. Restore it from a backup.")
        else:
            write_calibration(path, copy)
            yield Finding(f"{path}: was damaged or missing; restored from its copy.", is_repaired=True)


def _wrong_in(folder: TrialFolder, calibrations: Mapping[str, Calibration]) -> str:
    """What contradicts itself in a trial with intact files; "" if nothing does."""
    rows = folder.rows()
    if folder.path.name != f"{folder.description['config_id']}-s{folder.description['config']['seed']}":
        return f"trial.json describes another trial, {folder.description['config_id']}"
    if any(later.row.step <= row.row.step for row, later in pairwise(rows)):
        return "curve.jsonl has steps that do not grow"
    return next(filter(None, (_wrong_cost(recorded, calibrations) for recorded in rows)), "")


def _wrong_cost(recorded: Recorded, calibrations: Mapping[str, Calibration]) -> str:
    row = recorded.row
    calibration = calibrations.get(row.calibration_id)
    if calibration is None:
        return f"was charged by prices {row.calibration_id}, which the sweep does not have"
    expected = priced(recorded.ledger, calibration)
    costs = (row.cost_ref_s, row.cost_as_run_s)
    if all(math.isclose(*pair, rel_tol=1e-9, abs_tol=1e-12) for pair in zip(costs, expected, strict=True)):
        return ""
    return f"step {row.step} costs {row.cost_ref_s:g} reference seconds, expected {expected[0]:g} for its work"


def _of_the_tables(directory: SweepDirectory) -> Iterator[Finding]:
    """Rebuild tables that differ from the trials."""
    for each in [*directory.cells(), directory]:
        for name, table in sweep_tables(each).items():
            path = each.path / name
            if path.exists() and _holds(path, table):
                continue
            with replaced_whole(path) as temporary:
                pq.write_table(table, temporary)
            remedy = f"Run {make_command('report', directory.name)}."
            yield Finding(f"{path}: was not the table of these trials; rebuilt. {remedy}", is_repaired=True)


def _holds(path: Path, table: pa.Table) -> bool:
    """Whether a file equals, byte for byte, what we write for a table. Comparing values fails at NaN."""
    expected = io.BytesIO()
    pq.write_table(table, expected)
    return path.read_bytes() == expected.getvalue()
