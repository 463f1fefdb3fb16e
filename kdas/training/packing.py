"""How many trials share a GPU: measured by training in several processes at once, and kept in the cache.

A small student leaves most of a GPU idle, so several trials on it finish sooner than one after another. The number
changes no curve: it is not part of a trial.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import IO, Any

import torch

from kdas.compute.device import hardware_name, resolve
from kdas.data import Dataset
from kdas.files.cache import cache_root, content_id, write_text
from kdas.files.control_groups import num_cpus
from kdas.files.full import going_without
from kdas.files.record import record_bytes
from kdas.parts.plugins import SEARCHED_FOLDERS
from kdas.recipe.config import TrialConfig
from kdas.records import MEASURE_VERSION
from kdas.training.calibrate import priced_by

# How many trials are tried on one GPU, each twice the number before.
TRIED = (1, 2, 4, 8)
# The rest of a device's memory is left for what a step does not need, such as evaluation.
MEMORY_SHARE = 0.9
# Twice the trials must raise the throughput by this factor, or no more are tried.
GROWTH = 1.05
# The fewest trials with this share of the best throughput are chosen.
GOOD_ENOUGH = 0.95
# What each process trains for, once all are ready.
MEASURED_S = 2.0
# A process may have to read a large set and compile its models before it is ready.
READY_WITHIN_S = 900.0
DONE_WITHIN_S = 120.0
_ENDS_WITHIN_S = 10.0

_COMMAND = (sys.executable, "-m", "kdas.training.packing_process")
# The free and the total memory of a device, in bytes.
FreeAndTotal = Callable[[], tuple[int, int]]


class PackingError(Exception):
    """A process that trained for the measurement has failed; the message is its last words."""


@dataclass(frozen=True)
class Shared:
    """Trials that trained on one device at the same time.

    `steps_per_s`: of all together; `used_bytes`: of the device's memory that all of them held.
    """

    num_trials: int
    steps_per_s: float
    used_bytes: int


@dataclass(frozen=True)
class Packing:
    """What was measured, in rising numbers of trials, and why no more were tried; "" if more were not faster.

    Nothing is measured if even one trial failed.
    """

    measured: tuple[Shared, ...]
    ending: str = ""

    @property
    def trials_per_gpu(self) -> int:
        """The fewest trials whose throughput is close to the best."""
        best = max((each.steps_per_s for each in self.measured), default=0.0)
        enough = (each.num_trials for each in self.measured if each.steps_per_s >= GOOD_ENOUGH * best)
        return next(enough, 1)

    def in_words(self) -> str:
        """What was found, in one line."""
        if not self.measured:
            return f"One trial per GPU, since the measurement failed: {self.ending}"
        times = {each.num_trials: each.steps_per_s / self.measured[0].steps_per_s for each in self.measured}
        listed = ", ".join(f"{number}: {factor:.1f}" for number, factor in times.items())
        chosen = self.trials_per_gpu
        found = (
            f"{chosen} trials share a GPU: {times[chosen]:.1f} times the throughput of one ({listed})."
            if chosen > 1
            else f"One trial per GPU; relative throughput by number of trials: {listed}."
        )
        return f"{found} {self.ending}".rstrip()


def packing_for(
    config: TrialConfig,
    dataset: Dataset,
    tell: Callable[[str], None] = lambda line: None,
    neighbours: Callable[[], Sequence[str]] = lambda: (),
    free_and_total: FreeAndTotal = torch.cuda.mem_get_info,
) -> Packing:
    """The cached packing of this recipe, measured now if there is none. Call it while nothing else runs.

    Args: tell: called with each line that the user should read;
        neighbours: the names of other sweeps that train on this machine; with one, the result is not kept.
    """
    measured_on = subject(config, dataset, free_and_total()[1])
    path = kept_path(measured_on)
    if (kept := read_packing(path)) is not None:
        return kept
    tell("Measuring how many trials share a GPU. Run nothing else on it meanwhile.")
    found = measured_packing(config, free_and_total)
    tell(found.in_words())
    if others := neighbours():
        tell(f"This was measured while {others[0]} trained on the same machine, so the next start measures again.")
    elif found.measured:
        with going_without(path):
            write_packing(path, measured_on, found)
    return found


def measured_packing(config: TrialConfig, free_and_total: FreeAndTotal = torch.cuda.mem_get_info) -> Packing:
    """Measure with 1, 2, 4 and 8 processes on one device, as far as that makes sense."""
    free_before, total = free_and_total()

    def measure(num_trials: int) -> Shared:
        return trained_together(config, num_trials, lambda: free_before - free_and_total()[0])

    return packing_of(measure, total - free_before, total)


def packing_of(measure: Callable[[int], Shared], held_bytes: int, total_bytes: int) -> Packing:
    """Double the trials while they fit and get faster.

    Args: measure: a number of trials; raises `PackingError` if one of them fails; held_bytes: of the device's memory,
        by others, before; total_bytes: of its memory.
    """
    measured: list[Shared] = []
    for num_trials in TRIED:
        if measured:
            needed = held_bytes + _bytes_of(num_trials, measured[-1])
            if not _still_grows(measured):
                break
            if needed > MEMORY_SHARE * total_bytes:
                return Packing(
                    tuple(measured),
                    f"{num_trials} would need {needed / total_bytes:.0%} of its memory, expected at most"
                    f" {MEMORY_SHARE:.0%}.",
                )
        try:
            measured.append(measure(num_trials))
        except PackingError as error:
            return Packing(tuple(measured), f"Training with {num_trials} at once failed: {error}")
    return Packing(tuple(measured))


def _bytes_of(num_trials: int, measured: Shared) -> float:
    """What this number of trials would hold, with the process that runs the sweep, which holds about as much as one."""
    return (num_trials + 1) * measured.used_bytes / measured.num_trials


def _still_grows(measured: Sequence[Shared]) -> bool:
    return len(measured) < 2 or measured[-1].steps_per_s >= GROWTH * measured[-2].steps_per_s


def trained_together(config: TrialConfig, num_trials: int, used_bytes: Callable[[], int]) -> Shared:
    """Train the same trial in several processes for about `MEASURED_S` seconds. All have ended when this returns.

    Args: used_bytes: of the device's memory, by these processes, while all of them still hold theirs.
    Raises: PackingError: if one of them fails or does not answer in time.
    """
    content = {
        "config": config.model_dump(mode="json"),
        "module_folders": SEARCHED_FOLDERS,
        "seconds": MEASURED_S,
    }
    with ExitStack() as until_end:
        processes = [until_end.enter_context(_started()) for _ in range(num_trials)]
        with _killed_after(READY_WITHIN_S, processes):
            for process in processes:
                process.say(json.dumps(content))
            for process in processes:
                process.answer()
        with _killed_after(DONE_WITHIN_S, processes):
            for process in processes:
                process.say("go")
            done = [json.loads(process.answer()) for process in processes]
        used = used_bytes()
    return Shared(num_trials, sum(each["num_steps"] / each["seconds"] for each in done), used)


class _Process:
    """A process that trains, and the file of its standard error."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process, self._errors = process, errors

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; its answer tells why
            self._process.stdin.write(f"{line}\n")
            self._process.stdin.flush()

    def answer(self) -> str:
        """Its next line. Raises: PackingError: if it has ended instead."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            said = self._errors.read().strip().splitlines()
            raise PackingError(said[-1][:300] if said else f"it ended with exit code {code} and no message.")
        return line

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        """Let it end by itself, which is kinder to a device that others share, or else kill it."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()


@contextmanager
def _started() -> Iterator[_Process]:
    """A process that waits for its trial. It has ended when the block does."""
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors,
        subprocess.Popen(
            _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, encoding="utf-8"
        ) as started,
    ):
        process = _Process(started, errors)
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        finally:
            process.end()


@contextmanager
def _killed_after(seconds: float, processes: Sequence[_Process]) -> Iterator[None]:
    """Kill the processes if the block takes longer, so that no answer is waited for in vain."""

    def kill() -> None:
        for process in processes:
            process.kill()

    timer = threading.Timer(seconds, kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def subject(config: TrialConfig, dataset: Dataset, memory_bytes: int) -> dict[str, Any]:
    """What a packing depends on; sweeps with the same subject share one. Args: memory_bytes: of the device, in all."""
    return {
        "hardware": hardware_name(resolve(config.device)),
        "memory_bytes": memory_bytes,
        "cores": num_cpus(),
        "torch": torch.__version__,
        "measure_version": MEASURE_VERSION,
        "dataset": [dataset.identity, config.dataset],
        "validation": config.validation,
        "bank": config.bank,
        "data_workers": config.data_workers,
        **priced_by(config),
    }


def kept_path(measured_on: Mapping[str, Any]) -> Path:
    """Where the cache keeps the packing of this subject."""
    return cache_root() / "packings" / f"{content_id(measured_on)}.json"


def write_packing(path: Path, measured_on: Mapping[str, Any], packing: Packing) -> None:
    """Write a packing; a kill leaves the old file or the new one."""
    content = {"measured_on": measured_on, "measured": list(map(astuple, packing.measured)), "ending": packing.ending}
    write_text(path, json.dumps({**content, "id": content_id(content)}, indent=1))


def read_packing(path: Path) -> Packing | None:
    """A stored packing; None if it is missing or damaged, which its id shows. Raises: UnreadableError."""
    try:
        content = json.loads(record_bytes(path))
        if content.pop("id") != content_id(content):
            return None
        return Packing(tuple(Shared(*each) for each in content["measured"]), content["ending"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
