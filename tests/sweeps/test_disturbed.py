"""Sweeps that are disturbed from outside end in good order, and then as if nothing had happened."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

import pandas as pd
import pytest

from kdas.records import Status
from sweeps.record.directory import SweepDirectory
from sweeps.record.trial import TrialFolder
from tests.sweeps.test_torture import NOT_REPEATED, environment, process_name, processes_of, wait_until_gone

# Few trials, and each long enough to be met in the middle.
SPEC = """
dataset: digits
validation: 0.2
teacher: {model: resnet8, epochs: 1}
student: resnet8
epochs: 30
evaluations: 30
baselines: {plain_kd: full}
search: {START_RATE: {low: 0.3, high: 0.9}}
seeds: 2
target: 0.05
algorithm: random
budget: {configurations: 1}
scheduler: none
confirm: false
"""
WAIT_S = 400

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc"),
    pytest.mark.timeout(1800),
]


def command(runs: Path) -> list[str]:
    return [sys.executable, "-m", "sweeps", "sweep", str(spec_in(runs))]


def spec_in(runs: Path) -> Path:
    spec = runs / "disturbed.yaml"
    spec.write_text(SPEC, encoding="utf-8")
    return spec


def run_whole(runs: Path, cache: Path) -> None:
    done = subprocess.run(
        command(runs), env=environment(runs, cache), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode == 0, done.stdout


def curves(runs: Path) -> pd.DataFrame:
    table = pd.read_parquet(runs / "disturbed" / "curves.parquet").drop(columns=NOT_REPEATED)
    return table.sort_values(["trial_id", "step"], ignore_index=True)


class Sweep:
    """A sweep that runs, with what it has printed so far."""

    started: ClassVar[list[Sweep]] = []

    def __init__(self, runs: Path, cache: Path, words: Sequence[str] = (), **variables: str) -> None:
        self.runs, self.directory = runs, SweepDirectory(runs / "disturbed")
        self.variables = {**environment(runs, cache), **variables}
        runs.mkdir(exist_ok=True)
        self._output = runs / "output.txt"
        with self._output.open("w") as output:
            self.front = subprocess.Popen(
                words or command(runs),
                env=self.variables,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(self)

    @property
    def printed(self) -> str:
        return self._output.read_text()

    @property
    def num_rows(self) -> int:
        return sum(len(folder.rows()) for folder in self.directory.trials())

    def until(self, what: str, is_there: Callable[[], bool]) -> None:
        end = time.monotonic() + WAIT_S
        while not is_there():
            assert time.monotonic() < end, f"{what} did not come:\n{self.printed}"
            assert self.front.poll() is None, f"ended before {what}:\n{self.printed}"
            time.sleep(0.1)

    def process(self, words: str) -> int:
        """The one whose command line has these words."""
        (found,) = (
            each
            for each in processes_of(self.runs)
            if words in Path(f"/proc/{each}/cmdline").read_text().replace("\0", " ")
        )
        return found

    def end(self) -> str:
        """Wait until it has ended. Returns: what it has printed."""
        self.front.wait(WAIT_S)
        assert wait_until_gone(self.runs) == []
        return self.printed

    def kill(self) -> None:
        for each in processes_of(self.runs):
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        self.front.wait()


@pytest.fixture(autouse=True)
def nothing_outlives_a_test() -> Iterator[None]:
    yield
    while Sweep.started:
        Sweep.started.pop().kill()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, cache_of_the_tests: Path) -> pd.DataFrame:
    runs = tmp_path_factory.mktemp("undisturbed")
    run_whole(runs, cache_of_the_tests)
    return curves(runs)


def test_a_sweep_that_is_ended_in_three_ways_resumes_to_the_same_curves(
    undisturbed: pd.DataFrame, tmp_path: Path, cache_of_the_tests: Path
) -> None:
    def met_in_the_middle() -> Sweep:
        sweep = Sweep(tmp_path, cache_of_the_tests)
        before = sweep.num_rows
        sweep.until("five rows", lambda: sweep.num_rows >= before + 5)
        return sweep

    tables = tmp_path / "disturbed" / "curves.parquet"
    sweep = met_in_the_middle()
    sweep.front.terminate()
    printed = sweep.end()
    assert sweep.front.returncode == 143, printed
    assert "Interrupted. Finished trials are kept. Resume with: make sweep NAME=" in printed
    assert "Traceback" not in printed and "SIGTERM" not in printed
    assert tables.exists()

    tables.unlink()
    sweep = met_in_the_middle()
    sweep.front.kill()
    printed = sweep.end()
    assert "Interrupted." in printed and "Traceback" not in printed
    assert tables.exists()

    tables.unlink()
    sweep = met_in_the_middle()
    os.kill(sweep.process("gcs_server"), signal.SIGKILL)
    printed = sweep.end()
    assert sweep.front.returncode == 4, printed
    assert printed.splitlines()[-1].startswith("Ray is gone (its gcs_server was killed). Finished trials are kept.")
    assert "Traceback" not in printed
    assert tables.exists()

    run_whole(tmp_path, cache_of_the_tests)
    pd.testing.assert_frame_equal(curves(tmp_path), undisturbed, check_exact=True)


def used_memory() -> tuple[float, int]:
    """Share and bytes of this machine's memory."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    sizes = {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}
    return 1 - sizes["MemAvailable"] / sizes["MemTotal"], sizes["MemTotal"]


LOST = "its worker was lost"


def test_rays_memory_monitor_kills_five_workers_and_the_sweep_ends_as_if_undisturbed(
    undisturbed: pd.DataFrame, tmp_path: Path, cache_of_the_tests: Path
) -> None:
    share, total = used_memory()
    threshold = share + 3e9 / total
    if threshold > 0.8:
        pytest.skip("needs 3 GB of free memory")
    monitored = {"RAY_memory_monitor_refresh_ms": "100", "RAY_memory_usage_threshold": f"{threshold:.3f}"}
    sweep = Sweep(tmp_path, cache_of_the_tests, **monitored)
    held: list[bytes] = []
    for num_kills in range(5):
        before = sweep.num_rows
        sweep.until("a row", lambda before=before: sweep.num_rows > before)
        while sweep.printed.count(LOST) <= num_kills:
            assert sweep.front.poll() is None, sweep.printed
            if used_memory()[0] < threshold + 0.01:
                held.append(b"\1" * 200_000_000)
            time.sleep(0.05)
        held.clear()
    printed = sweep.end()
    assert sweep.front.returncode == 0, printed
    assert "Traceback" not in printed
    assert printed.count(LOST) >= 5
    pd.testing.assert_frame_equal(curves(tmp_path), undisturbed, check_exact=True)


# Nobody waits for ten minutes here, only for longer than a worker takes to start beside another test.
HURRIED = """
import sys
from sweeps.execution import silence
silence.LEAST_S, silence.ENDS_WITHIN_S = 45.0, 10.0
from sweeps.__main__ import main
sys.argv = ["sweeps", "run", sys.argv[1]]
main()
"""


def test_a_worker_that_hangs_is_ended_and_its_trial_resumes(
    undisturbed: pd.DataFrame, tmp_path: Path, cache_of_the_tests: Path
) -> None:
    sweep = Sweep(tmp_path, cache_of_the_tests, [sys.executable, "-c", HURRIED, str(spec_in(tmp_path))])
    sweep.until("five rows", lambda: sweep.num_rows >= 5)
    # Its name within a step of Ray Tune's, and between two.
    names = ("ray::ResourceTrainable", "ray::TrialActor")
    hanging = next(each for each in processes_of(tmp_path) if process_name(each).startswith(names))
    os.kill(hanging, signal.SIGSTOP)
    sweep.until("the line", lambda: "has reported nothing for" in sweep.printed)
    printed = sweep.end()
    assert sweep.front.returncode == 0, printed
    assert "Traceback" not in printed
    pd.testing.assert_frame_equal(curves(tmp_path), undisturbed, check_exact=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 700 MB: trials only start while 500 are free."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=700m", "none", folder], check=False)
    if mounted.returncode != 0:
        pytest.skip("may not mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path: Path) -> None:
    """Write until the disk is full."""
    for num_bytes in (1_000_000, 1):
        with pytest.raises(OSError, match="No space left"), path.open("ab", buffering=0) as file:
            file.writelines(itertools.repeat(bytes(num_bytes)))


def test_a_disk_that_fills_up_pauses_a_sweep_until_there_is_room(
    undisturbed: pd.DataFrame, small_disk: Path, cache_of_the_tests: Path
) -> None:
    sweep = Sweep(small_disk / "runs", cache_of_the_tests)
    sweep.until("five rows", lambda: sweep.num_rows >= 5)
    in_the_way = small_disk / "filler"
    fill(in_the_way)
    sweep.until("the line", lambda: "The sweep resumes by itself." in sweep.printed)
    time.sleep(5)
    in_the_way.unlink()
    printed = sweep.end()
    assert sweep.front.returncode == 0, printed
    assert "Traceback" not in printed, printed
    assert printed.count("resumes by itself") <= 2
    pd.testing.assert_frame_equal(curves(small_disk / "runs"), undisturbed, check_exact=True)


def test_sweeps_that_start_at_once_beside_another_ray_end_well_and_hear_of_each_other(
    undisturbed: pd.DataFrame, tmp_path: Path, cache_of_the_tests: Path
) -> None:
    stale = tmp_path / "ray" / "ray_current_cluster"
    stale.parent.mkdir()
    stale.write_text("127.0.0.1:1")
    long = tmp_path / ("x" * 90)
    long.mkdir()
    first = Sweep(tmp_path / "first", cache_of_the_tests, RAY_TMPDIR=str(tmp_path))
    second = Sweep(tmp_path / "second", cache_of_the_tests, TMPDIR=str(long))
    for sweep in (first, second):
        printed = sweep.end()
        assert sweep.front.returncode == 0, printed
        assert "disturbed trains on this machine too (process " in printed
        pd.testing.assert_frame_equal(curves(sweep.runs), undisturbed, check_exact=True)


def ask(sweep: Sweep, *words: str) -> str:
    """Run a command that asks something of the sweep. Returns: what it says."""
    asked = [sys.executable, "-m", "sweeps", words[0], "disturbed", *words[1:]]
    done = subprocess.run(asked, env=sweep.variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def searched(sweep: Sweep) -> dict[str, TrialFolder]:
    """The trials of the search that have recorded an evaluation."""
    found = (folder for folder in sweep.directory.trials() if folder.curve_bytes)
    return {folder.path.name: folder for folder in found if folder.description["method"] == "kdas_search"}


def test_a_trial_that_is_stopped_ends_at_its_next_evaluation_and_the_sweep_goes_on(
    undisturbed: pd.DataFrame, tmp_path: Path, cache_of_the_tests: Path
) -> None:
    sweep = Sweep(tmp_path, cache_of_the_tests)
    sweep.until("two trials of the search", lambda: len(searched(sweep)) == 2)
    stopped, other = searched(sweep)
    assert "stops at its next evaluation" in ask(sweep, "stop", stopped)
    sweep.until("its end", lambda: sweep.directory.trial(stopped).is_final)
    printed = sweep.end()
    assert sweep.front.returncode == 0, printed
    assert f"{stopped} stops at its next evaluation, as you asked." in printed
    assert sweep.directory.trial(stopped).status is Status.STOPPED_EARLY
    assert sweep.directory.trial(other).status is Status.BUDGET
    trained = curves(tmp_path)
    num_rows = trained["trial_id"].value_counts()
    expected_rows = undisturbed["trial_id"].value_counts()
    assert 0 < num_rows[stopped] < expected_rows[stopped] and num_rows[other] == expected_rows[other]
    # What was trained is what would have been trained.
    is_trained = undisturbed.groupby("trial_id").cumcount() < undisturbed["trial_id"].map(num_rows)
    expected = undisturbed[is_trained]
    pd.testing.assert_frame_equal(trained, expected.reset_index(drop=True), check_exact=True)
    assert "1 trial of the search was stopped by hand" in (sweep.directory.path / "report.md").read_text()


@contextmanager
def killed_before_it_heeds(sweep: Sweep) -> Iterator[None]:
    """What is asked within the block is recorded, and the driver is killed before it looks."""
    driver = sweep.process("sweeps run")
    os.kill(driver, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(driver, signal.SIGKILL)
    printed = sweep.end()
    assert "as you asked" not in printed and sweep.front.returncode == 137, printed


def test_a_request_to_stop_a_trial_outlives_a_kill_of_the_driver(
    undisturbed: pd.DataFrame, tmp_path: Path, cache_of_the_tests: Path
) -> None:
    sweep = Sweep(tmp_path, cache_of_the_tests)
    sweep.until("two trials of the search", lambda: len(searched(sweep)) == 2)
    stopped, other = searched(sweep)
    with killed_before_it_heeds(sweep):
        assert "stops at its next evaluation" in ask(sweep, "stop", stopped)
    assert sweep.directory.trial(stopped).status is Status.RUNNING
    rows = len(sweep.directory.trial(stopped).rows())
    again = Sweep(tmp_path, cache_of_the_tests)
    printed = again.end()
    assert again.front.returncode == 0, printed
    assert f"{stopped} is stopped, as you asked." in printed
    assert again.directory.trial(stopped).status is Status.STOPPED_EARLY
    trained = curves(tmp_path)
    # It was not trained further, and the other one is as if nothing had happened.
    num_trained, num_whole = (int((frame["trial_id"] == stopped).sum()) for frame in (trained, undisturbed))
    assert num_trained == rows < num_whole
    whole = [frame[frame["trial_id"] == other].reset_index(drop=True) for frame in (trained, undisturbed)]
    pd.testing.assert_frame_equal(*whole, check_exact=True)


def test_a_request_to_finish_outlives_a_kill_of_the_driver(tmp_path: Path, cache_of_the_tests: Path) -> None:
    sweep = Sweep(tmp_path, cache_of_the_tests)
    sweep.until("a row of a baseline", lambda: sweep.num_rows > 0)
    with killed_before_it_heeds(sweep):
        assert "the search ends now" in ask(sweep, "finish")
    again = Sweep(tmp_path, cache_of_the_tests)
    printed = again.end()
    assert again.front.returncode == 0, printed
    assert "The search ends, as you asked." in printed and "The search ended early: as you asked" in printed
    assert set(curves(tmp_path)["method"]) == {"plain_kd"}
    report = (again.directory.path / "report.md").read_text()
    assert "The search was ended by hand after none of 1 configuration." in report
