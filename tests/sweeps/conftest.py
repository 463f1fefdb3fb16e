from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from kdas.clock import Calibration, Work
from kdas.config import TrialConfig
from kdas.records import CurveRow, Status
from kdas.trial import Inputs, config_id, load_inputs
from sweeps.plan import Identify, Job
from sweeps.spec import SweepSpec, load_spec
from sweeps.store import SweepDirectory

TINY = Path(__file__).parent / "tiny.yaml"
# Round prices, so that costs can be told by hand.
PRICES = dict.fromkeys(Work, ((32, 0.5), (64, 1.0), (128, 2.0)))
CALIBRATION = Calibration("by-hand", {"hardware": "none"}, PRICES)


@pytest.fixture
def spec() -> SweepSpec:
    return load_spec(TINY)


@pytest.fixture(scope="session")
def inputs(cache_of_the_tests: Path) -> Inputs:
    """Digits and a teacher of one epoch."""
    teacher = {"model": "resnet8", "epochs": 1}
    return load_inputs(TrialConfig(dataset={"name": "digits"}, teacher=teacher, student="resnet8"))


def identify_by(inputs: Inputs) -> Identify:
    """How a sweep with these inputs names its configurations."""
    return partial(config_id, inputs=inputs)


@pytest.fixture
def directory(tmp_path: Path) -> SweepDirectory:
    path = tmp_path / "runs" / "tiny"
    path.mkdir(parents=True)
    return SweepDirectory(path)


def curve_row(job: Job, number: int, accuracy: float, calibration_id: str = "by-hand") -> CurveRow:
    """The `number`th evaluation of a job, at `number` reference seconds, after `number` batches of 64."""
    return CurveRow(
        trial_id=job.trial_id,
        config_id=job.config_id,
        dataset="digits",
        pair="resnet8->resnet8",
        seed=job.config.seed,
        epoch=number,
        step=number,
        samples_trained=64 * number,
        samples_scored=0,
        teacher_forwards=0,
        flops=1e6 * number,
        cost_ref_s=float(number),
        cost_as_run_s=float(number),
        wall_s=1.5 * number,
        eval_s=0.1 * number,
        data_s=0.2,
        num_cotenants=1,
        calibration_id=calibration_id,
        device="cpu",
        train_loss=1.0 / number,
        val_accuracy=accuracy,
        test_accuracy=accuracy - 0.01,
        sampling_rate=1.0,
        learning_rate=0.05,
    )


def train_on_paper(
    directory: SweepDirectory, job: Job, accuracies: list[float], status: Status = Status.BUDGET
) -> None:
    """Leave in a trial's folder what a worker would."""
    folder = directory.trial(job.trial_id)
    folder.begin(job)
    for number, accuracy in enumerate(accuracies, start=1):
        folder.append(curve_row(job, number, accuracy), [["step", 64, number]])
    folder.end(status, "ValueError: as told" if status is Status.CRASHED else "")


@dataclass(frozen=True)
class Swept:
    """A sweep that was really run: its directory, what it printed, and how to run a command beside it."""

    directory: SweepDirectory
    printed: str
    run: Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory, cache_of_the_tests: Path) -> Swept:
    runs = tmp_path_factory.mktemp("runs")
    environment = {**os.environ, "RUNS_DIR": str(runs), "KDAS_CACHE": str(cache_of_the_tests)}
    environment.pop("MLFLOW_TRACKING_URI", None)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sweeps.front", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800, check=False)

    done = run("sweep", str(TINY))
    assert done.returncode == 0, done.stdout + done.stderr
    return Swept(SweepDirectory(runs / "tiny"), done.stdout, run)
