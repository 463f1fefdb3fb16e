"""The usual trainer in a separate process with torch's defaults, unaffected by the settings of our trials."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, get_start_method, set_start_method

from benchmarks.reference_loop import Epoch, ReferenceTraining
from kdas.recipe.config import TrialConfig
from kdas.training.trial import load_inputs

_LARGE_PAGES = "THP_MEM_ALLOC_ENABLE"


@dataclass(frozen=True)
class ReferenceRun:
    """One run. `whole_s`: seconds from its first step to its last evaluation."""

    whole_s: float
    epochs: list[Epoch]

    @property
    def train_s(self) -> float:
        return sum(each.train_s for each in self.epochs)


class ReferenceProcess:
    """Runs trials one at a time; from the second on, data, code and kernels are warm."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def run(self, config: TrialConfig) -> ReferenceRun:
        return self._pool.submit(_run, config).result()


@contextmanager
def reference_process() -> Iterator[ReferenceProcess]:
    """A process that lives as long as the block."""
    before = os.environ[_LARGE_PAGES]
    os.environ[_LARGE_PAGES] = "0"
    try:
        with ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_start_workers_by, initargs=(get_start_method(),)
        ) as pool:
            pool.submit(os.getpid).result()  # waits until it has started, with this environment
            os.environ[_LARGE_PAGES] = before
            yield ReferenceProcess(pool)
    finally:
        os.environ[_LARGE_PAGES] = before


def _start_workers_by(method: str) -> None:
    """Restore the usual start method: a spawned process spawns its loaders' workers too, which is 100 times slower."""
    set_start_method(method, force=True)


def _run(config: TrialConfig) -> ReferenceRun:
    training = ReferenceTraining(config, load_inputs(config))
    began = time.perf_counter()
    epochs = list(training.epochs())
    return ReferenceRun(time.perf_counter() - began, epochs)
