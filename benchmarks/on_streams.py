"""Trials per hour of several trials in one process, each in a thread and, on a GPU, on a CUDA stream of its own.

python -m benchmarks.on_streams TRIAL.yaml NUMBER [KEY=VALUE ...]

Compares them with one at a time in the same process, by the clock of each trial. The trials differ in their seeds. The
curve of the first must be equal bit for bit to the one that it has alone: a difference would show state that threads
share. So no step may draw from PyTorch's global generator (dropout, `randaugment`), read images from disk, or take
features or maps by hooks (models of libraries, `teacher_layers`) from the teacher, which all trials share. On a CPU
there are threads and no streams.

A trial waits for its own stream where the trainer waits for the device; otherwise every trial would wait for all.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import numpy as np
import torch

from benchmarks.bench import prices
from benchmarks.recorded_steps import of_the_trial
from kdas.compute.device import synchronize
from kdas.data import Draw
from kdas.recipe.config import load_trial_config
from kdas.records import CurveRow
from kdas.training import distiller
from kdas.training.recorded import CudaGraphs
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial, load_inputs

Result = TypeVar("Result")


def main(trial_file: Path, number: int, settings: Sequence[str]) -> bool:
    """Measure and print. Returns: whether the curves are equal bit for bit."""
    config = load_trial_config(trial_file, list(settings))
    inputs = load_inputs(config)
    trials = [Trial(config.model_copy(update={"seed": config.seed + index}), inputs) for index in range(number)]
    _trained_alone(trials[0])  # libraries set themselves up
    for trial in trials:
        fill_bank(trial)
    alone = _trained_alone(trials[0])
    together = train_at_once(trials)
    rate_alone, rate = _per_hour(alone), sum(map(_per_hour, together))
    equal = of_the_trial(alone) == of_the_trial(together[0])
    verdict = "its curve is equal bit for bit" if equal else "ITS CURVE DIFFERS"
    print(
        f"{number} at once: {rate:.1f} trials per hour, {rate / rate_alone:.2f} times one at a time in the same process"
        f" ({rate_alone:.1f}); the first against itself alone: {verdict} ({len(alone)} evaluations)"
    )
    return equal


def fill_bank(trial: Trial) -> None:
    """Have the teacher answer to all views that a trial will see, so that it asks no more than one that ran before."""
    bank, splits = trial.inputs.bank(trial.config), trial.inputs.splits
    if bank is None:
        return
    for epoch in range(1, trial.config.epochs + 1):
        view_ids = splits.view_ids(Draw(trial.config.seed, epoch))
        assert view_ids is not None
        bank.answers(np.arange(len(splits.train)), view_ids.numpy(), lambda size: None)


def train_at_once(trials: Sequence[Trial]) -> list[list[CurveRow]]:
    """Set trials with the same inputs up one after another, and train each in its own thread; all start together.

    Returns: the rows of each trial.
    Raises: whatever the first trial that fails raises, when all have ended.
    """
    device = trials[0].inputs.device
    with patch.object(distiller, "CudaGraphs", _GraphsInTurn):
        trainings = [Training(trial, Surroundings(prices())) for trial in trials]
    # Of 32: PyTorch hands out the same streams again after that many.
    streams = [_own_stream(device) for _ in trials]
    synchronize(device)  # the set-up ran on another stream
    start = threading.Barrier(len(trials))

    def trained(training: Training, stream: AbstractContextManager[object]) -> list[CurveRow]:
        start.wait()
        with stream:
            return list(training.rows())

    with patch.object(torch.cuda, "synchronize", _wait_for_own_stream), ThreadPoolExecutor(len(trials)) as threads:
        return list(threads.map(trained, trainings, streams))


class _GraphsInTurn(CudaGraphs):
    """CUDA graphs of several threads: in a process, PyTorch records only one at a time."""

    _turn = threading.Lock()

    def run_aside(self, work: Callable[[], Result]) -> tuple[Result, bool]:
        # PyTorch tells of waits process by process, so another trial's would be taken for this one's. A function that
        # waits is found nevertheless: recording it fails.
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            result = work()
        torch.cuda.current_stream().wait_stream(self._stream)
        return result, False

    def record(self, work: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        with self._turn:
            return super().record(work)


def _own_stream(device: str) -> AbstractContextManager[object]:
    return torch.cuda.stream(torch.cuda.Stream()) if device == "cuda" else nullcontext()  # type: ignore[no-untyped-call]


def _wait_for_own_stream() -> None:
    """In place of waiting for the device, which is also an error while another thread records."""
    torch.cuda.current_stream().synchronize()


def _trained_alone(trial: Trial) -> list[CurveRow]:
    return list(Training(trial, Surroundings(prices())).rows())


def _per_hour(rows: list[CurveRow]) -> float:
    return 3600 / (rows[-1].wall_s + rows[-1].eval_s)


if __name__ == "__main__":
    sys.exit(not main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
