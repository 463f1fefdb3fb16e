"""What a trial costs besides its training: the real sweep engine runs trials that cost almost nothing.

Everything is real (sweep file, agenda, search, sweep directory, warm Ray workers, MLflow's follower) except the dataset
and the models, which are trivial. For a sweep of N trials on S slots

    orchestration_s_per_trial = (wall_s - compute_s / S) / N

- `wall_s`: from the first row that any trial recorded to the end of the last trial. It excludes the start of Ray and
  its workers, which a sweep pays for once;
- `compute_s`: the sum over trials of the seconds spent in training and evaluating, by the trial's own clock (`wall_s`
  and `eval_s` of its last row).

So the figure covers everything that a user waits for other than training: proposals, Ray's scheduling, setting up a
trial in its worker, writing and flushing rows, and the processor time that MLflow's follower takes from the trials.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import Bench, Figures
from sweeps.record.directory import SweepDirectory

SLOTS = 2
SEEDS = 5
_SPEC = """\
plugins: [benchmarks.trivial_parts]
dataset: trivial
validation: 0.25
teacher: {{model: "benchmarks.trivial_parts:TrivialModel", epochs: 1, batch_size: 8}}
student: benchmarks.trivial_parts:TrivialModel
batch_size: 8
epochs: 2
evaluations: 3
baselines: {{plain_kd: full}}
sampler: random
search:
  start_rate: {{low: 0.3, high: 0.9}}
  end_rate: {{low: 0.3, high: 0.9}}
  kd_weight: {{low: 0.1, high: 100, log: true}}
seeds: {seeds}
target: 0.9
budget: {{configurations: {configurations}}}
scheduler: none
confirm: false
resources: {{trials_at_once: {slots}}}
device: cpu
"""


@dataclass(frozen=True)
class Phase:
    """The time in which a sweep's trials ran, in seconds, without what came before and after."""

    num_trials: int
    wall_s: float
    compute_s: float

    @property
    def orchestration_s_per_trial(self) -> float:
        return (self.wall_s - self.compute_s / SLOTS) / self.num_trials


def orchestration(bench: Bench) -> Figures:
    """Seconds of orchestration per trial, in sweeps of 10, 200 and 1,000 trials; quick: only 200."""
    sizes = {"orchestration_s_per_trial": 200}
    if not bench.quick:
        sizes |= {"orchestration_s_per_trial_10": 10, "orchestration_s_per_trial_1000": 1000}
    figures = {}
    for figure, size in sizes.items():
        bench.progress(f"{size} trivial trials")
        figures[figure] = sweep_of(size, bench.folder).orchestration_s_per_trial
    return figures


def sweep_of(num_trials: int, folder: Path) -> Phase:
    """Run a sweep of `num_trials` trivial trials under `folder`, in separate processes.

    Raises: ValueError: if it is not a multiple of SEEDS of at least two configurations.
    """
    configurations, rest = divmod(num_trials, SEEDS)
    if rest or configurations < 2:
        raise ValueError(f"num_trials: expected a multiple of {SEEDS}, at least {2 * SEEDS}, got {num_trials}")
    runs = folder / f"runs-{num_trials}"  # a separate RUNS_DIR: otherwise trials of another sweep would be reused
    spec_file = folder / f"trivial_{num_trials}.yaml"
    text = _SPEC.format(seeds=SEEDS, configurations=configurations - 1, slots=SLOTS)
    spec_file.write_text(text, encoding="utf-8")
    environment = {**os.environ, "RUNS_DIR": str(runs), "KDAS_CACHE": str(folder / "cache")}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "sweeps", "run", str(spec_file)]
    # Workers use the current folder and find the trivial parts there.
    here = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the sweep of {num_trials} trivial trials failed:\n{done.stdout}\n{done.stderr}")
    return phase_of(SweepDirectory(runs / spec_file.stem))


def phase_of(directory: SweepDirectory) -> Phase:
    """The times in the record of a finished sweep."""
    folders = list(directory.trials())
    rows = [folder.rows() for folder in folders]
    began = min(curve[0].recorded_at for curve in rows)
    ended = max((folder.path / "status.json").stat().st_mtime for folder in folders)
    compute_s = sum(curve[-1].row.wall_s + curve[-1].row.eval_s for curve in rows)
    return Phase(len(folders), ended - began, compute_s)
