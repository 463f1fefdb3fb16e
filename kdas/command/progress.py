"""Progress of long work."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn


def readable_s(seconds: float) -> str:
    """`42 s`, `3 min 10 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class LongWork:
    """A progress bar with the time left on a terminal, lines elsewhere.

    Args: what: name of the work; ended: printed at the end, before the last state.
    """

    def __init__(self, console: Console, what: str, ended: str) -> None:
        self._console, self._what, self._ended = console, what, ended
        self._began: float | None = None
        self._done_before = 0.0
        columns = (TextColumn(what), BarColumn(30), TextColumn("{task.description}"), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("")

    def show(self, done: float, total: float, state: str) -> None:
        """Args: done, total: in any unit; work done before the first call is left out of the time estimate."""
        if self._began is None:
            self._began, self._done_before = time.monotonic(), done
        if self._console.is_terminal:
            self._bar.start()
            self._bar.update(self._task, completed=done, total=total, description=state)
            if done == total:
                self._bar.stop()
                self._console.print(f"{self._ended}: {state}", highlight=False)
            return
        since = done - self._done_before
        left_s = (time.monotonic() - self._began) / since * (total - done) if since else 0.0
        line = f"{self._what}: {state}" + (f", {readable_s(left_s)} left" if left_s else "")
        self._console.print(line, highlight=False)


class TeacherProgress:
    """The training of a teacher, epoch by epoch."""

    def __init__(self, console: Console) -> None:
        self._work = LongWork(console, "teacher", "teacher trained")

    def __call__(self, epoch: int, epochs: int, accuracy: float) -> None:
        """Epoch 0 announces the work; accuracy is on the validation split."""
        state = f"epoch {epoch} of {epochs}, validation accuracy {accuracy:.4f}" if epoch else f"{epochs} epochs"
        self._work.show(epoch, epochs, state)


class BankProgress:
    """Progress of filling a teacher bank, in percent. Args: num_views: views in all."""

    def __init__(self, console: Console, num_views: int) -> None:
        self._work = LongWork(console, "teacher bank", "teacher bank built")
        # A line for every percent would fill a log.
        self._total, self._step = num_views, 1 if console.is_terminal else 10
        self._next = 0

    def __call__(self, num_done: int) -> None:
        percent = 100 * num_done // self._total
        if percent >= self._next:
            self._work.show(num_done, self._total, f"{percent}% of {self._total:,} views")
            self._next = percent - percent % self._step + self._step
