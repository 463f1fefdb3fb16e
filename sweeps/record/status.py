"""The progress of a sweep, read only from its directory, so from any terminal or machine that sees it."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from rich.console import Console
from rich.table import Table

from kdas.command.progress import readable_s
from kdas.errors import make_command
from kdas.files.record import DamagedError, read_record
from kdas.records import FINAL_STATUSES, Measure, Status, is_searched
from sweeps.record.control import Requests, read_requests
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import has_finished, read_measure, time_to_target
from sweeps.record.paths import CONFIRM, SEARCH
from sweeps.record.trial import Recorded, TrialFolder

# A running trial counts as stale if its last row is older than this many of its usual intervals between rows.
STALE_INTERVALS = 10
SHOWN_CONFIGURATIONS = 5


@dataclass(frozen=True)
class UnderWay:
    """A trial that has not ended: its name, its last row, the age of that row in seconds.

    `may_stop`: whether a user may stop it early.
    """

    trial_id: str
    name: str
    last: Recorded | None
    age_s: float
    is_stale: bool
    may_stop: bool = False


@dataclass(frozen=True)
class Fast:
    """A configuration: its name, its mean time in reference seconds (a miss counts as the full budget), the number of
    its seeds, how many of them reached the target, and the id of the first of its trials.
    """

    name: str
    mean_s: float
    num_seeds: int
    num_reached: int
    trial_id: str


@dataclass(frozen=True)
class SweepStatus:
    """Counts by status; unfinished trials; configurations by mean time to the target over their finished seeds."""

    counts: Counter[Status]
    under_way: list[UnderWay]
    # The phase of `fastest`: the confirmation as soon as one of its trials has ended.
    phase: str
    fastest: list[Fast]
    measure: Measure | None
    holder: str
    # What is wrong with files of the record, a line each.
    damages: list[str]
    # What users have asked of the sweep.
    asked: Requests = field(default_factory=Requests)
    # Teacher, prices and the bank while it is filled, a sentence each; none while the sweep prepares them.
    prepared: Sequence[str] = ()
    # Seconds left at the pace so far; None if that is not known.
    left_s: float | None = None
    # The verdict of the report of a finished sweep; empty before.
    answer: str = ""

    @property
    def is_finished(self) -> bool:
        """Whether the sweep has come to its end."""
        return not self.holder and has_finished(self.measure)

    @property
    def state(self) -> str:
        """Who runs the sweep, or that nobody does, in words."""
        return self.holder or ("finished" if self.is_finished else "not running")


def read_status(directory: SweepDirectory, now: float | None = None) -> SweepStatus:
    """Read a sweep directory. Args: now: seconds since 1970, by default the current time."""
    now = time.time() if now is None else now
    damages: list[str] = []
    try:
        measure = read_measure(directory)
    except DamagedError as error:
        measure = None
        damages.append(str(error))
    try:
        asked = read_requests(directory)
    except DamagedError as error:
        asked = Requests()
        damages.append(str(error))
    counts: Counter[Status] = Counter()
    under_way: list[UnderWay] = []
    # By phase and configuration: the id of the first trial, and the times of all.
    times: dict[str, dict[str, tuple[str, list[float]]]] = {SEARCH: {}, CONFIRM: {}}
    for folder in directory.trials():
        if damage := folder.damage():
            damages.append(str(damage))
            continue
        status = folder.status
        counts[status] += 1
        if status is Status.RUNNING:
            under_way.append(_under_way(folder, now))
        elif status in FINAL_STATUSES and measure is not None:
            of_configuration = times[folder.description["phase"]].setdefault(_name(folder), (folder.path.name, []))
            of_configuration[1].append(time_to_target(folder.rows(), measure.target))
    phase = CONFIRM if times[CONFIRM] else SEARCH
    fastest = []
    if measure is not None:
        fastest = [
            Fast(
                name,
                statistics.fmean(min(each, measure.budget_ref_s) for each in of),
                len(of),
                sum(map(math.isfinite, of)),
                trial_id,
            )
            for name, (trial_id, of) in times[phase].items()
        ]
    fastest = sorted(fastest, key=lambda each: (each.mean_s, each.name))[:SHOWN_CONFIGURATIONS]
    holder = directory.holder()
    num_ended = sum(counts[each] for each in FINAL_STATUSES)
    left_s = _left_s(directory, num_ended, measure) if holder else None
    prepared = [*_prepared(directory), *(_filling(directory) if holder else [])]
    found = SweepStatus(counts, under_way, phase, fastest, measure, holder, damages, asked, prepared, left_s)
    return replace(found, answer=_verdict(directory)) if found.is_finished else found


def _verdict(directory: SweepDirectory) -> str:
    """The report's first sentence; empty if there is no report."""
    try:
        return str(json.loads(directory.answer_file.read_text(encoding="utf-8"))["verdict"])
    except (OSError, ValueError, TypeError, KeyError):
        return ""


def _left_s(directory: SweepDirectory, num_ended: int, measure: Measure | None) -> float | None:
    """Seconds until the planned trials have ended, at the pace so far."""
    try:
        spent_s = read_record(directory.spent_file, "wall_s", remedy="")["wall_s"]
    except (FileNotFoundError, DamagedError):
        return None
    if measure is None or not num_ended or num_ended >= measure.num_planned_trials:
        return None
    return float(spent_s) / num_ended * (measure.num_planned_trials - num_ended)


def _prepared(directory: SweepDirectory) -> list[str]:
    """What is known of teacher and prices. Facts that are missing or damaged are left out: the next start has them."""
    try:
        facts = read_record(directory.environment_file, remedy="")
    except (FileNotFoundError, DamagedError):
        return []
    lines = []
    if "teacher" in facts:
        accuracy = f", accuracy {float(facts['teacher_accuracy']):.4f}" if "teacher_accuracy" in facts else ""
        lines.append(f"teacher {facts['teacher']}{accuracy}")
    if "prices_measured_at" in facts:
        busy = f"; meanwhile the machine was busy: {facts['prices_busy']}" if facts.get("prices_busy") else ""
        lines.append(f"prices of {facts['prices_measured_at']}, spread {float(facts['price_spread']):.1%}{busy}")
    return lines


def _filling(directory: SweepDirectory) -> list[str]:
    """How much of the teacher bank is filled, while the sweep fills it before its first trial."""
    try:
        told = read_record(directory.bank_file, "num_done", "num_views", remedy="")
    except (FileNotFoundError, DamagedError):
        return []
    return [f"filling the teacher bank: {told['num_done'] / told['num_views']:.0%} of {told['num_views']:,} views"]


def words_of(status: SweepStatus, name: str) -> list[str]:
    """Teacher, prices, the bank while it is filled, the time left, and what users have asked, a sentence each.

    Args: name: of the sweep, for commands.
    """
    lines = [f"answer: {status.answer}"] if status.answer else []
    lines += status.prepared
    if status.left_s is not None and not status.asked.is_paused:
        lines.append(f"about {readable_s(status.left_s)} left at the pace so far")
    if status.asked.is_paused and status.holder:  # a pause ends with the process
        lines.append(f"paused: no trial starts. Continue it: {make_command('resume', name)}")
    if status.asked.finishes:
        lines.append("the search was ended by request; raise budget.configurations to continue it")
    return lines


def num_crashed(directory: SweepDirectory) -> int:
    """Number of trials that ended with an exception or with their process, in all cells if there are any."""
    folders = [folder for each in directory.cells() or [directory] for folder in each.trials()]
    return sum(folder.status is Status.CRASHED for folder in folders)


def counts_of(directory: SweepDirectory, status: SweepStatus) -> str:
    """How many trials there are, and how they have ended, in a line."""
    total = sum(status.counts.values())
    # A search that a user has ended leaves out trials of the plan until the confirmation begins.
    is_cut = status.asked.finishes and status.phase == SEARCH and not status.is_finished
    planned = f" of {status.measure.num_planned_trials} planned" if status.measure and not is_cut else ""
    unfinished = "running" if status.holder else "interrupted"
    words = {**{each: each.value for each in Status}, Status.RUNNING: unfinished, Status.BUDGET: "complete"}
    parts = ", ".join(f"{count} {words[name]}" for name, count in sorted(status.counts.items()))
    return f"{directory.path}: {total} trials{planned}{': ' + parts if parts else ''}"


def print_status(directory: SweepDirectory, console: Console) -> None:
    """Print the status of a sweep."""
    status = read_status(directory)
    console.print(counts_of(directory, status), highlight=False, soft_wrap=True)
    console.print(f"  {status.state}", highlight=False)
    if status.measure is None and not status.damages:
        console.print("  the target is fixed once plain distillation has finished on every seed")
    elif status.measure is not None:
        console.print(f"  target {status.measure.target:.4f} ({status.measure.target_rule})", highlight=False)
    for line in words_of(status, directory.name):
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    for damage in status.damages:
        console.print(f"  {damage}", highlight=False, markup=False)
    if status.under_way:
        console.print(_running_table(status))
    for trial in status.under_way:
        if trial.may_stop and status.holder and trial.trial_id not in status.asked.stopped:
            command = f"{make_command('stop', directory.name)} TRIAL={trial.trial_id}"
            console.print(f"  to stop it: {command}", highlight=False, markup=False, soft_wrap=True)
    if status.fastest and status.measure is not None:
        seeds = "on fresh seeds" if status.phase == CONFIRM else "on the seeds of the search"
        table = Table(f"{fastest_word(status)}, {seeds}", "mean ref. s", "reached", box=None, padding=(0, 2, 0, 2))
        table.add_column("a trial of it", no_wrap=True)
        for each in status.fastest:
            at_least = "" if each.num_reached == each.num_seeds else "> "
            reached = f"{each.num_reached}/{each.num_seeds}"
            table.add_row(each.name, f"{at_least}{each.mean_s:.2f}", reached, each.trial_id)
        console.print(table)


def fastest_word(status: SweepStatus) -> str:
    """What the configurations with the least mean time are: of a sweep that may change, they are it so far."""
    return "fastest" if status.is_finished else "fastest so far"


def _running_table(status: SweepStatus) -> Table:
    measure = status.measure
    table = Table(
        "running" if status.holder else "interrupted",
        "of budget",
        "accuracy",
        "last row",
        box=None,
        padding=(0, 2, 0, 2),
    )
    table.add_column("trial", no_wrap=True)
    for trial in status.under_way:
        last = trial.last.row if trial.last else None
        share = f"{last.cost_ref_s / measure.budget_ref_s:.0%}" if last and measure else ""
        accuracy = f"{last.val_accuracy:.4f}" if last else ""
        heard = f"{readable_s(trial.age_s)} ago" + (", stopped?" if trial.is_stale else "")
        heard += ", to be stopped" if trial.trial_id in status.asked.stopped else ""
        table.add_row(trial.name, share, accuracy, heard, trial.trial_id)
    return table


def _under_way(folder: TrialFolder, now: float) -> UnderWay:
    rows = folder.rows()
    heard_at = rows[-1].recorded_at if rows else folder.path.stat().st_mtime
    intervals = [after.recorded_at - before.recorded_at for before, after in pairwise(rows)]
    usual_s = statistics.median(intervals) if intervals else 60.0
    age_s = max(0.0, now - heard_at)
    name = f"{_name(folder)} seed {folder.description['config']['seed']}"
    is_stale = age_s > max(60.0, STALE_INTERVALS * usual_s)
    may_stop = is_searched(folder.description["method"]) and folder.description["phase"] != CONFIRM
    return UnderWay(folder.path.name, name, rows[-1] if rows else None, age_s, is_stale, may_stop)


def _name(folder: TrialFolder) -> str:
    return f"{folder.description['method']} ({folder.description['configuration']})"
