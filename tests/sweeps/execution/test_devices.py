"""Workers of several sweeps on one machine spread over its GPUs. The lists of devices are made up."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kdas.files.locks import locked
from sweeps.execution.devices import VISIBLE, Lease, visible_gpus

FOUR = ["0", "1", "2", "3"]
Chosen = Callable[..., str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KDAS_CACHE", str(tmp_path))
    folder = tmp_path / "running" / platform.node() / "gpus"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def chosen(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Chosen]:
    """What the next worker gets; it keeps that until the test ends. Each Ray numbers GPUs from 0."""
    leases: list[Lease] = []

    def choose(of_ray: str = "0", gpus: float = 1.0, devices: list[str] = FOUR) -> str:
        monkeypatch.setenv(VISIBLE, of_ray)
        leases.append(Lease(f"worker-{len(leases)}"))
        leases[-1].take(gpus, devices)
        return os.environ[VISIBLE]

    yield choose
    for each in leases:
        each.give_back()


def test_two_sweeps_use_different_gpus_while_there_are_some(chosen: Chosen) -> None:
    of_both = [chosen("0"), chosen("1"), chosen("0"), chosen("1")]
    assert sorted(of_both) == FOUR
    assert chosen("2") == "2", "all have one worker, so Ray's choice stays"


def test_shares_of_a_gpu_and_several_gpus_count_as_workers(chosen: Chosen) -> None:
    assert [chosen("0", 0.5, ["0", "1"]) for _ in range(4)] == ["0", "1", "0", "1"]
    assert chosen("0,1", 2.0) == "2,3"


def test_the_gpu_of_a_worker_that_is_gone_is_free(folder: Path, chosen: Chosen) -> None:
    left, held = folder / "0.7.lock", folder / "1.8.lock"
    left.touch()
    with locked(held):
        assert chosen("1", devices=["0", "1"]) == "0"
    assert not left.exists() and chosen("0", devices=["0", "1"]) == "1"


def test_names_of_any_kind_are_kept(chosen: Chosen) -> None:
    parts = ["MIG-GPU-8a/1/0", "MIG-GPU-8a/2/0"]
    assert [chosen(parts[0], devices=parts) for _ in range(2)] == parts


def test_a_worker_that_runs_another_trial_keeps_its_gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "0")
    lease = Lease("ours")
    with ExitStack() as others:
        lease.take(1.0, FOUR)
        others.enter_context(locked(folder / "0.8.lock"))
        lease.take(1.0, FOUR)
        assert os.environ[VISIBLE] == "0"
    lease.give_back()


@pytest.mark.parametrize(("gpus", "devices"), [(0.0, []), (1.0, ["0"]), (0.0, FOUR), (4.0, FOUR)])
def test_where_there_is_no_choice_ray_s_stays(chosen: Chosen, folder: Path, gpus: float, devices: list[str]) -> None:
    assert chosen("0", gpus, devices) == "0"
    assert not list(folder.iterdir())


def test_without_locks_ray_s_choice_stays(chosen: Chosen, folder: Path) -> None:
    folder.rmdir()
    folder.touch()
    assert chosen("0") == "0"


def test_visible_gpus_are_those_that_the_user_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "2, GPU-8a")
    assert visible_gpus() == ["2", "GPU-8a"]
    monkeypatch.delenv(VISIBLE)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert visible_gpus() == ["0", "1"]
