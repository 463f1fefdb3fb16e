"""Long work is shown as it goes on."""

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


class TeacherProgress:
    """The training of a teacher: a bar with the time left on a terminal, a line an epoch elsewhere."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        columns = (TextColumn("teacher"), BarColumn(30), TextColumn("{task.description}"), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("")

    def __call__(self, epoch: int, epochs: int, accuracy: float) -> None:
        """Epoch 0 announces the work; accuracy is that of the validation split."""
        state = f"epoch {epoch} of {epochs}, validation accuracy {accuracy:.4f}" if epoch else f"{epochs} epochs"
        if self._console.is_terminal:
            self._bar.start()
            self._bar.update(self._task, completed=epoch, total=epochs, description=state)
            if epoch == epochs:
                self._bar.stop()
                self._console.print(f"teacher trained: {state}", highlight=False)
            return
        left_s = (time.monotonic() - self._began) / epoch * (epochs - epoch) if epoch else 0.0
        self._console.print(f"teacher: {state}" + (f", {readable_s(left_s)} left" if left_s else ""), highlight=False)
