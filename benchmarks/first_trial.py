"""How long a user waits until the first trial trains: from the command to its first step, with everything in the cache.

A sweep of the digits is started by the front door, as `make sweep` does it, and ended once its first trial has been
evaluated. The first start trains the teacher, measures prices and is not counted. Each start has a `RUNS_DIR` of its
own, so that none resumes another. Prices from a busy machine are measured again at each start, which takes half a
minute: run this on an idle one.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.bench import Bench, Figures
from benchmarks.processes import processor_s
from kdas.files.record import DamagedError
from sweeps.record.directory import SweepDirectory

SWEEP = "digits_kd"
REPETITIONS, QUICK_REPETITIONS = 5, 2
_LOOKS_EVERY_S = 0.05
# A start that takes longer has gone wrong.
_MOST_S = 1800


def first_trial(bench: Bench) -> Figures:
    """Median seconds from the command to the first step, and processor seconds until the first evaluation."""
    bench.progress("a first start, which fills the cache")
    _start(bench.folder, "cold")
    found = []
    for number in range(QUICK_REPETITIONS if bench.quick else REPETITIONS):
        bench.progress(f"start {number + 1}")
        found.append(_start(bench.folder, f"warm-{number}"))
    seconds, processor = zip(*found, strict=True)
    return {"first_trial_s": statistics.median(seconds), "first_trial_processor_s": statistics.median(processor)}


def _start(folder: Path, name: str) -> tuple[float, float]:
    """Start the sweep, and end it after its first evaluation. Returns: seconds to the first step, processor seconds."""
    directory = SweepDirectory(folder / f"first-trial-{name}" / SWEEP)
    environment = {**os.environ, "RUNS_DIR": str(directory.path.parent)}
    command = [sys.executable, "-m", "sweeps", "sweep", "--yes", SWEEP]
    log = folder / f"first-trial-{name}.log"
    with log.open("wb") as output:
        began = time.time()
        # A session of its own: what Ray starts belongs to it too.
        front = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        while (first := first_step_at(directory)) is None:
            if front.poll() is not None or time.time() - began > _MOST_S:
                raise RuntimeError(f"{SWEEP} did not come to its first evaluation:\n{log.read_text(errors='replace')}")
            time.sleep(_LOOKS_EVERY_S)
        used = processor_s(front.pid)
    finally:
        front.terminate()
        front.wait()
    return first - began, used


def first_step_at(directory: SweepDirectory) -> float | None:
    """When the first trial with an evaluation took its first step, as `time.time`; None before there is one."""
    found = []
    for trial in directory.trials():
        try:
            rows = trial.rows()
        except DamagedError:  # being written
            continue
        if rows:
            found.append(rows[0].recorded_at - rows[0].row.wall_s - rows[0].row.eval_s)
    return min(found, default=None)
