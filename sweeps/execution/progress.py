"""Live progress: a panel on a terminal, elsewhere one line for each event."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass, field, replace
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from kdas.command.progress import readable_s
from kdas.records import Status, is_searched
from sweeps.record.job import Job
from sweeps.record.measure import best_accuracy, time_to_target
from sweeps.record.overhead import keep_of_run
from sweeps.record.trial import TrialFolder


def short_settings(job: Job) -> str:
    """A job in a few words: method, rates, an id that tells searched ones apart, seed."""
    sampler = job.config.sampler
    rates = [f"{sampler[name]:g}" for name in ("start_rate", "end_rate") if name in sampler]
    # As in the name of its run in MLflow.
    mark = f" {job.config_id[:6]}" if is_searched(job.method) else ""
    return f"{job.method} {'->'.join(rates)}".rstrip() + f"{mark} seed {job.config.seed}"


@dataclass
class Running:
    """A running trial: reference seconds spent, and the latest accuracy."""

    job: Job
    began: float
    cost_ref_s: float = 0.0
    val_accuracy: float = 0.0
    resumes: bool = False


@dataclass
class Progress:
    """Trials that are done, running and failed; the best one; the time left.

    `num_to_come`: trials that have not started. Early stopping and budgets may drop some of them.
    `done`: ids of the trials that have ended. One that had been stopped may run again.
    `trains`: whether a trial has been evaluated since this start.
    """

    sweep: str
    num_to_come: int
    budget_ref_s: float
    trials_at_once: int
    console: Console
    done: set[str] = field(default_factory=set)
    target: float | None = None
    num_failed: int = 0
    running: dict[str, Running] = field(default_factory=dict)
    best: tuple[float, str] | None = None
    trains: bool = False

    def __post_init__(self) -> None:
        self._durations_s: list[float] = []
        # Of each trial, the seconds for which it held its slot without training or evaluating.
        self._beside_s: list[float] = []
        self._first_began = self._last_ended = 0.0
        self._live = Live(get_renderable=self._panel, console=self.console, refresh_per_second=4, transient=True)

    @property
    def num_done(self) -> int:
        return len(self.done)

    @property
    def num_planned(self) -> int:
        return self.num_done + self.num_failed + len(self.running) + self.num_to_come

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live.start()
        else:
            # How many are to come is known once the search has read its results.
            self.say(f"{self.sweep}: trials already done: {self.num_done}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def started(self, job: Job, *, resumes: bool = False) -> None:
        """Args: resumes: whether it starts from a checkpoint."""
        now = time.monotonic()
        self.running[job.trial_id] = Running(job, now, resumes=resumes)
        self._first_began = self._first_began or now
        self.done.discard(job.trial_id)
        self.num_to_come -= 1
        if not self.console.is_terminal:
            self.say(f"{'resumed' if resumes else 'started'} {short_settings(job)}")

    def evaluated(self, job: Job, cost_ref_s: float, val_accuracy: float) -> None:
        self.trains = True
        self.running[job.trial_id] = replace(
            self.running[job.trial_id], cost_ref_s=cost_ref_s, val_accuracy=val_accuracy
        )

    def ended(self, job: Job, folder: TrialFolder) -> None:
        trial = self.running.pop(job.trial_id, None)
        if trial is not None:
            self._last_ended = time.monotonic()
            self._durations_s.append(self._last_ended - trial.began)
            rows = [] if trial.resumes else folder.rows()
            if rows:
                self._beside_s.append(self._durations_s[-1] - rows[-1].row.wall_s - rows[-1].row.eval_s)
        outcome = self._outcome(job, folder)
        if not self.console.is_terminal:
            eta = self._eta()
            left = f", {readable_s(eta)} left" if eta is not None else ""
            self.say(f"[{self.num_done} of {self.num_planned}{left}] {short_settings(job)}: {outcome}")

    def keep_overhead(self, began: float) -> None:
        """Record what a sweep that has just ended took besides training. Args: began: when training was prepared."""
        if self._beside_s:
            around_s = self._first_began - began + time.monotonic() - self._last_ended
            keep_of_run(around_s, statistics.fmean(self._beside_s))

    def target_is(self, target: float, rule: str) -> None:
        self.target = target
        self.say(f"target: accuracy {target:.4f} ({rule})")

    def _outcome(self, job: Job, folder: TrialFolder) -> str:
        if folder.status is Status.RUNNING:
            return "paused, or its worker was lost; it will resume"
        if folder.status is Status.CRASHED:
            self.num_failed += 1
            # The first crash is printed in full; later ones usually have the same cause.
            text = folder.error.strip()
            self.say(f"crashed: {short_settings(job)}: {text if self.num_failed == 1 else text.splitlines()[-1]}")
            return "crashed"
        self.done.add(job.trial_id)
        rows = folder.rows()
        text = f"best accuracy {best_accuracy(rows):.4f}"
        if folder.status is Status.DIVERGED:
            return f"diverged, {text}"
        if folder.status is Status.CAPPED and self.target is not None:
            cost_ref_s, why = time_to_target(rows, self.target), folder.why
            if math.isfinite(cost_ref_s):
                return f"target after {cost_ref_s:.2f} ref s; {why or 'this setting can no longer win'}"
            why = why or "can no longer win"
            return f"{why}, stopped at {rows[-1].row.cost_ref_s:.2f} ref s" if rows else why
        is_certain = self.target is not None and math.isfinite(time_to_target(rows, self.target))
        if folder.status is Status.STOPPED_EARLY and not is_certain:
            return f"stopped early at {rows[-1].row.cost_ref_s:.2f} ref s, {text}"
        if self.target is None:
            return text
        cost_ref_s = time_to_target(rows, self.target)
        if self.best is None or cost_ref_s < self.best[0]:
            self.best = (cost_ref_s, short_settings(job))
        return f"target after {cost_ref_s:.2f} ref s" if cost_ref_s <= self.budget_ref_s else f"target missed, {text}"

    def _eta(self) -> float | None:
        """Seconds left, from the mean duration of trials; of a running trial only the rest counts."""
        if not self._durations_s:
            return None
        under_way = sum(1 - min(trial.cost_ref_s / self.budget_ref_s, 1) for trial in self.running.values())
        return statistics.fmean(self._durations_s) * (self.num_to_come + under_way) / self.trials_at_once

    def say(self, text: str) -> None:
        """Print a line above the panel."""
        self.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def _panel(self) -> RenderableType:
        total = Table.grid(padding=(0, 1))
        eta = self._eta()
        counts = f"{self.num_done} of {self.num_planned} done, {len(self.running)} running"
        failed = Text(f", {self.num_failed} failed", style="red") if self.num_failed else Text("")
        total.add_row(
            Text(self.sweep, style="bold"),
            ProgressBar(total=max(1, self.num_planned), completed=self.num_done, width=30),
            Text(counts) + failed,
            Text(f"about {readable_s(eta)} left" if eta is not None else "", style="cyan"),
        )
        running = Table.grid(padding=(0, 2))
        for trial in self.running.values():
            bar = ProgressBar(total=self.budget_ref_s, completed=min(trial.cost_ref_s, self.budget_ref_s), width=20)
            running.add_row("  ", short_settings(trial.job), bar, f"accuracy {trial.val_accuracy:.3f}")
        best = Text("")
        if self.best is not None:
            best = Text(f"  fastest trial so far: {self.best[1]}, {self.best[0]:.2f} ref s", style="green")
        return Group(total, running, best)
