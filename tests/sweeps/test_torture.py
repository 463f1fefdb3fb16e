"""A sweep whose driver is killed repeatedly ends with the same results as an undisturbed one.

`make torture` kills it 20 times, in a sweep of 30 trials and in one whose search learns from results. By default the
driver is killed twice.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import pytest

from kdas.records import Status
from sweeps.record.directory import SweepDirectory

KILLS = int(os.environ.get("TORTURE_KILLS", "2"))
CONFIGURATIONS = int(os.environ.get("TORTURE_CONFIGURATIONS", "2"))
SPEC = Path(__file__).with_name("torture.yaml")
# Columns in which two runs of a trial may differ: wall times, and what depends on the state of the bank.
NOT_REPEATED = ["wall_s", "eval_s", "data_s", "num_cotenants", "cost_as_run_s", "sweep"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for orphans in /proc"),
    pytest.mark.timeout(900 if KILLS < 5 else 7200),
]


def command(runs: Path, *settings: str) -> list[str]:
    words = [f"--set={each}" for each in (f"budget.configurations={CONFIGURATIONS}", *settings)]
    return [sys.executable, "-m", "sweeps", "sweep", str(SPEC), *words]


def environment(runs: Path, cache: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    return {**kept, "RUNS_DIR": str(runs), "KDAS_CACHE": str(cache)}


def processes_of(runs: Path) -> list[int]:
    """All processes that a sweep in this folder has started, directly or not."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and f"RUNS_DIR={runs}\0".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # gone, or another user's
            continue
    return found


# Ray starts them beside its workers. They try for a minute to tell a Ray that was killed that it is gone.
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")


def process_name(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:  # it has ended
        return ""


def wait_until_gone(runs: Path, *, but: tuple[str, ...] = AGENTS) -> list[int]:
    """Wait for the processes of a killed sweep to end; returns those that are left after three minutes.

    Workers that train end at once. Ray processes that were just starting give up after a minute, or after two on a
    busy machine. Args: but: beginnings of the names of those that may stay.
    """
    until = time.monotonic() + 180
    while (left := [each for each in processes_of(runs) if not process_name(each).startswith(but)]) and (
        time.monotonic() < until
    ):
        time.sleep(0.2)
    return left


def run_whole(runs: Path, cache: Path, *settings: str) -> str:
    done = subprocess.run(
        command(runs, *settings), env=environment(runs, cache), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def num_rows(runs: Path) -> int:
    """Number of evaluations that are recorded."""
    return sum(path.read_bytes().count(b"\n") for path in (runs / "torture").glob("trials/*/*/curve.jsonl"))


def wait_for_a_moment(started: subprocess.Popen[bytes], runs: Path, draw: random.Random) -> None:
    """Wait until a random moment of the start-up, or until a random number of new evaluations.

    All kills together leave work to do, however fast the machine is.
    """
    num_trials = 2 * (3 + CONFIGURATIONS)
    # Some more come while this looks and waits.
    most = 6 * num_trials // (KILLS + 1) - 3
    is_start_up = draw.random() < 1 / 3
    wanted = num_rows(runs) + (1 if is_start_up else draw.randint(1, most))
    until = time.monotonic() + (draw.uniform(1.0, 15.0) if is_start_up else 600.0)
    while started.poll() is None and num_rows(runs) < wanted and time.monotonic() < until:
        time.sleep(0.02)
    time.sleep(draw.uniform(0.0, 0.2))


def run_and_kill(runs: Path, cache: Path, draw: random.Random, *settings: str) -> bool:
    """Kill the driver and its front alone, so that nothing tells the other processes that they are gone.

    Returns: whether the driver still ran. One that did not must have completed the sweep.
    """
    started = subprocess.Popen(
        command(runs, *settings), env=environment(runs, cache), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for_a_moment(started, runs, draw)
    is_killed = False
    for process in processes_of(runs):
        with suppress(OSError):  # it has ended by itself meanwhile
            words = Path(f"/proc/{process}/cmdline").read_bytes()
            is_driver = b"\0sweeps\0run\0" in words
            if is_driver or process == started.pid:
                os.kill(process, signal.SIGKILL)
            is_killed |= is_driver
    code = started.wait()
    assert is_killed or code in (0, -signal.SIGKILL), f"the driver had failed by itself ({code})"
    return is_killed


def curves(runs: Path) -> pd.DataFrame:
    table = pd.read_parquet(runs / "torture" / "curves.parquet").drop(columns=NOT_REPEATED)
    return table.sort_values(["trial_id", "step"], ignore_index=True)


def picks(runs: Path) -> pd.DataFrame:
    table = pd.read_parquet(runs / "torture" / "picks.parquet").drop(columns="sweep")
    return table.sort_values(["trial_id", "epoch"], ignore_index=True)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cache_of_the_tests: Path) -> Path:
    runs = tmp_path_factory.mktemp("undisturbed")
    run_whole(runs, cache_of_the_tests)
    return runs


def test_a_sweep_that_is_killed_again_and_again_ends_the_same(
    undisturbed: Path, tmp_path: Path, cache_of_the_tests: Path
) -> None:
    tortured(tmp_path, cache_of_the_tests)
    pd.testing.assert_frame_equal(curves(tmp_path), curves(undisturbed), check_exact=True)
    pd.testing.assert_frame_equal(picks(tmp_path), picks(undisturbed), check_exact=True)
    directory = SweepDirectory(tmp_path / "torture")
    before = {folder.path.name: folder.curve_bytes for folder in directory.trials()}
    run_whole(tmp_path, cache_of_the_tests)
    assert {folder.path.name: folder.curve_bytes for folder in directory.trials()} == before


# Only under `make torture`, since it takes as long as the other test.
if KILLS > 2:

    def test_each_trial_of_a_search_that_learns_is_as_undisturbed(tmp_path: Path, cache_of_the_tests: Path) -> None:
        """What the search proposes depends on the order of results, but the curve of each trial does not."""
        tortured(tmp_path / "killed", cache_of_the_tests, "algorithm=tpe")
        run_whole(tmp_path / "whole", cache_of_the_tests, "algorithm=tpe")
        killed, whole = curves(tmp_path / "killed"), curves(tmp_path / "whole")
        common = set(killed["trial_id"]) & set(whole["trial_id"])
        assert len(common) >= 6, "the baselines at least"
        pd.testing.assert_frame_equal(of(killed, common), of(whole, common), check_exact=True)


def tortured(runs: Path, cache: Path, *settings: str) -> None:
    """Kill a sweep's driver at random moments, then run the sweep to its end."""
    draw = random.Random(KILLS)
    for number in range(1, KILLS + 1):
        is_killed = run_and_kill(runs, cache, draw, *settings)
        assert is_killed, f"nothing ran any more at kill {number} of {KILLS}: the sweep is too short"
        assert wait_until_gone(runs) == [], "no worker outlives its driver"
    run_whole(runs, cache, *settings)
    assert wait_until_gone(runs, but=()) == []
    check_tracking(runs)


def of(table: pd.DataFrame, trial_ids: set[str]) -> pd.DataFrame:
    return table[table["trial_id"].isin(trial_ids)].reset_index(drop=True)


def check_tracking(runs: Path) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{runs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("kdas-sweeps")
    found = client.search_runs([experiment.experiment_id], max_results=5000)
    children = [run.data.tags["kdas.trial_id"] for run in found if "mlflow.parentRunId" in run.data.tags]
    trials = {folder.path.name: folder.status for folder in SweepDirectory(runs / "torture").trials()}
    assert sorted(children) == sorted(trials), "one run a trial"
    assert {run.info.status for run in found} == {"FINISHED"}
    assert set(trials.values()) == {Status.BUDGET}
