"""How many trials share a GPU. No GPU is needed: the device's memory is made up, and the processes train on the CPU."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kdas.data import DATASETS, Dataset
from kdas.recipe.config import TrialConfig
from kdas.training import packing, packing_process
from kdas.training.packing import Packing, PackingError, Shared, packing_for, packing_of, read_packing

GB = 2**30
GROWS = {1: 1.0, 2: 1.9, 4: 3.6, 8: 6.9}
ConfigOf = Callable[..., TrialConfig]


@pytest.fixture
def digits() -> Dataset:
    return DATASETS.build(DATASETS.checked("digits"))


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[str]]:
    """The processes that a measurement has started."""
    processes: list[subprocess.Popen[str]] = []
    start = subprocess.Popen.__init__

    def remembered(process: subprocess.Popen[str], *args: object, **options: object) -> None:
        processes.append(process)
        start(process, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(subprocess.Popen, "__init__", remembered)
    return processes


def plenty() -> tuple[int, int]:
    return 90 * GB, 100 * GB


def measuring(speeds: dict[int, float], gb_each: float, fails_at: int = 0) -> Callable[[int], Shared]:
    def measure(num_trials: int) -> Shared:
        if num_trials == fails_at:
            raise PackingError("torch.OutOfMemoryError: CUDA out of memory.")
        return Shared(num_trials, speeds[num_trials], int(num_trials * gb_each * GB))

    return measure


@pytest.mark.parametrize(
    ("speeds", "gb_each", "fails_at", "tried", "chosen"),
    [
        (GROWS, 1, 0, [1, 2, 4, 8], 8),
        # The fewest with 95% of the best: 4, not 8.
        ({1: 1.0, 2: 1.8, 4: 2.9, 8: 2.95}, 1, 0, [1, 2, 4, 8], 4),
        ({1: 1.0, 2: 1.04}, 1, 0, [1, 2], 1),
        ({1: 1.0, 2: 1.6, 4: 1.65}, 1, 0, [1, 2, 4], 2),
        ({1: 1.0, 2: 1.6, 4: 1.2}, 1, 0, [1, 2, 4], 2),
        # 100 GB, of which others hold 10. 4 trials and the sweep's own process need 75 GB, 8 would need 127 GB.
        (GROWS, 13, 0, [1, 2, 4], 4),
        (GROWS, 16.5, 0, [1, 2], 2),
        (GROWS, 50, 0, [1], 1),
        (GROWS, 1, 4, [1, 2], 2),
        (GROWS, 1, 2, [1], 1),
        (GROWS, 1, 1, [], 1),
    ],
)
def test_trials_are_doubled_while_they_fit_and_get_faster(
    speeds: dict[int, float], gb_each: float, fails_at: int, tried: Sequence[int], chosen: int
) -> None:
    found = packing_of(measuring(speeds, gb_each, fails_at), held_bytes=10 * GB, total_bytes=100 * GB)
    assert [each.num_trials for each in found.measured] == tried
    assert found.trials_per_gpu == chosen


def test_what_was_found_is_told_in_one_line() -> None:
    def told(speeds: dict[int, float], gb_each: float = 1, fails_at: int = 0) -> str:
        return packing_of(measuring(speeds, gb_each, fails_at), 10 * GB, 100 * GB).in_words()

    assert told({1: 1.0, 2: 1.8, 4: 2.9, 8: 2.9}) == (
        "4 trials share a GPU: 2.9 times the throughput of one (1: 1.0, 2: 1.8, 4: 2.9, 8: 2.9)."
    )
    assert told({1: 50.0, 2: 40.0}) == "One trial per GPU; relative throughput by number of trials: 1: 1.0, 2: 0.8."
    assert told(GROWS, 20) == (
        "2 trials share a GPU: 1.9 times the throughput of one (1: 1.0, 2: 1.9)."
        " 4 would need 110% of its memory, expected at most 90%."
    )
    assert told(GROWS, fails_at=2) == (
        "One trial per GPU; relative throughput by number of trials: 1: 1.0."
        " Training with 2 at once failed: torch.OutOfMemoryError: CUDA out of memory."
    )
    assert told(GROWS, fails_at=1) == (
        "One trial per GPU, since the measurement failed: Training with 1 at once failed:"
        " torch.OutOfMemoryError: CUDA out of memory."
    )


STAND_IN = """
import json, sys
sys.stdin.readline()
print("ready", flush=True)
sys.stdin.readline()
print(json.dumps({"num_steps": 30, "seconds": 2.0}), flush=True)
sys.stdin.read()
"""


def test_steps_of_all_processes_count_and_the_cache_is_used_the_second_time(
    empty_cache: Path,
    config_of: ConfigOf,
    digits: Dataset,
    monkeypatch: pytest.MonkeyPatch,
    started: list[subprocess.Popen[str]],
) -> None:
    monkeypatch.setattr(packing, "TRIED", (1, 2))
    monkeypatch.setattr(packing, "_COMMAND", (sys.executable, "-c", STAND_IN))
    lines: list[str] = []
    found = packing_for(config_of(), digits, lines.append, free_and_total=plenty)
    assert found == Packing((Shared(1, 15.0, 0), Shared(2, 30.0, 0)))
    assert lines[1:] == [found.in_words()]
    assert [process.returncode for process in started] == [0, 0, 0]

    assert packing_for(config_of(), digits, lines.append, free_and_total=plenty) == found
    assert len(started) == 3 and len(lines) == 2
    (kept,) = (empty_cache / "packings").glob("*.json")
    kept.write_text(kept.read_text(encoding="utf-8").replace('"ending": ""', '"ending": "x"'), encoding="utf-8")
    assert read_packing(kept) is None, "a change is noticed"


def test_process_trains_on_real_batches_until_it_is_told_to_end(
    empty_cache: Path, config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    request = {"config": config_of().model_dump(mode="json"), "module_folders": [], "seconds": 0.05}
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{json.dumps(request)}\ngo\n"))
    monkeypatch.setattr(sys, "stdout", sys.stdout)  # restores it: the process sends what else is printed elsewhere
    packing_process.main()
    ready, done = capsys.readouterr().out.splitlines()
    assert ready == "ready"
    assert json.loads(done)["num_steps"] >= 1 and json.loads(done)["seconds"] >= 0.05


@pytest.mark.slow
def test_real_processes_train_together(
    empty_cache: Path, config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch, started: list[subprocess.Popen[str]]
) -> None:
    monkeypatch.setattr(packing, "TRIED", (1, 2))
    monkeypatch.setattr(packing, "MEASURED_S", 0.3)
    found = packing.measured_packing(config_of(), plenty)
    assert [each.num_trials for each in found.measured] == [1, 2]
    assert all(each.steps_per_s > 0 for each in found.measured) and found.ending == ""
    assert [process.returncode for process in started] == [0, 0, 0]


def test_packing_depends_on_the_device_and_on_what_a_step_does(config_of: ConfigOf, digits: Dataset) -> None:
    plain = packing.subject(config_of(), digits, 80 * GB)
    assert plain == packing.subject(config_of(seed=7, epochs=9), digits, 80 * GB)
    others = [
        packing.subject(config_of(), digits, 40 * GB),
        packing.subject(config_of(batch_size=32), digits, 80 * GB),
        packing.subject(config_of(student="resnet14"), digits, 80 * GB),
        packing.subject(config_of(threads=2), digits, 80 * GB),
    ]
    assert plain not in others
    assert "hardware" in plain


def test_packing_is_not_kept_if_it_failed_or_if_another_sweep_trains(
    empty_cache: Path, config_of: ConfigOf, digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_one = Packing((Shared(1, 50.0, GB),))
    results = [Packing((), "no memory"), of_one, of_one]
    monkeypatch.setattr(packing, "measured_packing", lambda config, memory: results.pop(0))
    lines: list[str] = []
    for busy in ([], ["other_sweep"], []):
        packing_for(config_of(), digits, lines.append, lambda busy=busy: busy, plenty)  # type: ignore[misc]
    assert results == []
    assert [line for line in lines if "other_sweep" in line] == [
        "This was measured while other_sweep trained on the same machine, so the next start measures again."
    ]


FAILING = '''"""A loss that needs too much memory; it also prints, which must not disturb the measurement."""
from kdas.losses import LOSSES

print("loaded")

def build():
    def loss(student_logits, teacher_logits, targets):
        raise MemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
    return loss

LOSSES.register("too_large", source="a test")(build)
'''


def test_process_that_fails_ends_the_measurement_with_its_message(
    empty_cache: Path,
    config_of: ConfigOf,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    started: list[subprocess.Popen[str]],
) -> None:
    (tmp_path / "too_large.py").write_text(FAILING, encoding="utf-8")
    config = config_of(plugins=[str(tmp_path / "too_large.py")], loss="too_large")
    found = packing.measured_packing(config, plenty)
    assert found == Packing(
        (), "Training with 1 at once failed: MemoryError: CUDA out of memory. Tried to allocate 20.00 GiB."
    )
    assert found.trials_per_gpu == 1
    assert len(started) == 1 and started[0].returncode == 1


def test_processes_that_do_not_answer_are_killed(
    config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch, started: list[subprocess.Popen[str]]
) -> None:
    monkeypatch.setattr(packing, "_COMMAND", (sys.executable, "-c", "import time; time.sleep(60)"))
    monkeypatch.setattr(packing, "READY_WITHIN_S", 0.5)
    with pytest.raises(PackingError, match="it ended with exit code -9 and no message"):
        packing.trained_together(config_of(), 2, lambda: 0)
    assert [process.returncode for process in started] == [-9, -9]
