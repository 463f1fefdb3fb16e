from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdas.clock import Calibration, PriceTable, Work
from kdas.data import DATASETS
from kdas.files.prices import calibration_of, write_calibration
from kdas.losses import LOSSES
from kdas.models import MODELS
from kdas.parts.yaml_file import read_yaml
from kdas.recipe.config import TrialConfig
from kdas.records import CurveRow, PicksWindow, Status
from kdas.samplers import SAMPLERS
from kdas.training.calibrate import kept_path, subject
from kdas.training.trial import Inputs, config_id, load_inputs, untrained_inputs
from sweeps.engine.objective import objective_of
from sweeps.engine.plan import Identify
from sweeps.engine.prices import prices_for
from sweeps.engine.proposals import ConfigurationSearch
from sweeps.file.loading import load_spec
from sweeps.file.methods import Search
from sweeps.file.spec import SweepSpec
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.stopping import STOPPING_RULES

TINY = Path(__file__).parent / "tiny.yaml"
# Round prices, so that costs can be computed by hand.
PRICES = dict.fromkeys(Work, ((32, 0.5), (64, 1.0), (128, 2.0)))
CALIBRATION = Calibration("by-hand", {"hardware": "none"}, PRICES)


@pytest.fixture(autouse=True, scope="module")
def _registries_as_before() -> Iterator[None]:
    """Remove the parts that a test module registered, so that no test depends on the modules that ran before."""
    with pytest.MonkeyPatch.context() as patch:
        for registry in (DATASETS, LOSSES, MODELS, SAMPLERS, STOPPING_RULES):
            patch.setattr(registry, "_parts", dict(registry._parts))
        yield


@pytest.fixture
def spec() -> SweepSpec:
    return load_spec(TINY)


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., SweepSpec]:
    """Loads the tiny sweep with another `search`, no known points, and other keys replaced."""

    def write_and_load(search: dict[str, Any], **content: Any) -> SweepSpec:
        path = tmp_path / "mine.yaml"
        whole = {**read_yaml(TINY), "known_points": [], "search": search, **content}
        path.write_text(yaml.safe_dump(whole, sort_keys=False), encoding="utf-8")
        return load_spec(path)

    return write_and_load


def _by_hand(config: TrialConfig, inputs: Inputs) -> Calibration:
    """Keep prices in realistic proportion in the cache: measured ones would differ with what else the machine does."""
    size = config.batch_size
    seconds_per_sample = {
        Work.TEACHER: 2e-5, Work.SCORE: 2e-5, Work.WEIGH: 1e-6, Work.STEP: 1e-4, Work.OBSERVE: 1e-7, Work.AUGMENT: 2e-6,
    }  # fmt: skip
    rounds: list[PriceTable] = []
    for step in (0.98, 0.99, 1.0, 1.01, 1.02):
        prices = {
            work: tuple(
                (n, (1e-4 + n * each) * (step if work is Work.STEP else 1)) for n in (size // 2, size, 4 * size)
            )
            for work, each in seconds_per_sample.items()
        }
        rounds.append({**prices, Work.EPOCH: ((100, 5e-4), (1000, 1e-3))})
    calibration = calibration_of(subject(config, inputs), rounds[2], tuple(rounds), measured_at=1.7e9)
    write_calibration(kept_path(calibration.measured_on), calibration)
    return calibration


@pytest.fixture(scope="session", autouse=True)
def prices_of_the_tests(cache_of_the_tests: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The prices of the tiny sweep: no test measures its own."""
    spec = load_spec(TINY)
    recipe, nowhere = spec.methods.recipe, SweepDirectory(tmp_path_factory.mktemp("nowhere"))
    prices_for(spec.methods, untrained_inputs(recipe), nowhere, _by_hand)


@pytest.fixture(scope="session")
def inputs(cache_of_the_tests: Path) -> Inputs:
    """Digits and a teacher of one epoch."""
    teacher = {"model": "resnet8", "epochs": 1}
    return load_inputs(TrialConfig(dataset={"name": "digits"}, teacher=teacher, student="resnet8"))


def identify_by(inputs: Inputs) -> Identify:
    """How a sweep with these inputs names its configurations."""
    return partial(config_id, inputs=inputs)


def searches_in(directory: SweepDirectory, spec: SweepSpec) -> Callable[[Search], ConfigurationSearch]:
    """The proposals of each search of a sweep, as `search_of`."""
    directions = objective_of(spec.objective, 1.0).directions

    def search_for(search: Search) -> ConfigurationSearch:
        journal = directory.study_file_of(search.name)
        return ConfigurationSearch(journal, search.space, spec.algorithm, directions)

    return search_for


def search_of(journal: Path, spec: SweepSpec) -> ConfigurationSearch:
    """The search that a sweep file asks for. It scores nothing, so the objective's budget does not matter."""
    directions = objective_of(spec.objective, 1.0).directions
    return ConfigurationSearch(journal, spec.space, spec.algorithm, directions)


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
    directory: SweepDirectory,
    job: Job,
    accuracies: list[float],
    status: Status = Status.BUDGET,
    windows: Sequence[PicksWindow] = (),
) -> None:
    """Write to a trial's folder what a worker would."""
    folder = directory.trial(job.trial_id)
    folder.begin(job)
    for number, accuracy in enumerate(accuracies, start=1):
        folder.append(curve_row(job, number, accuracy), [["step", 64, number]])
    folder.picks.append(windows)
    folder.end(status, "ValueError: as told" if status is Status.CRASHED else "")


def written(folder: Path, name: str, **content: Any) -> Path:
    """Write a sweep file with this content."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Swept:
    """A sweep that really ran: its directory, what it printed, and a function that runs commands on its folder."""

    directory: SweepDirectory
    printed: str
    run: Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def swept(tmp_path_factory: pytest.TempPathFactory, cache_of_the_tests: Path) -> Swept:
    runs = tmp_path_factory.mktemp("runs")
    environment = {**os.environ, "RUNS_DIR": str(runs), "KDAS_CACHE": str(cache_of_the_tests)}
    environment.pop("MLFLOW_TRACKING_URI", None)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "sweeps", *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800, check=False)

    done = run("sweep", str(TINY))
    assert done.returncode == 0, done.stdout + done.stderr
    return Swept(SweepDirectory(runs / "tiny"), done.stdout, run)
