"""Quotas of containers and batch systems, read below a folder that looks like /."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kdas.data import decoding, memory
from kdas.files import control_groups
from kdas.files.control_groups import cpu_quota, free_memory_bytes

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = (
    "33 31 0:30 {top} /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 {top} /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
)


def machine(root: Path, mounts: str, groups: str, files: Mapping[str, str]) -> Path:
    for name, text in {"proc/self/mountinfo": mounts, "proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return root


def test_a_machine_without_groups_has_no_limits(tmp_path: Path) -> None:
    assert (cpu_quota(tmp_path), free_memory_bytes(tmp_path)) == (None, None)


def test_version_2_takes_the_tightest_of_nested_groups(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        V2,
        "0::/user.slice/job",
        {
            "sys/fs/cgroup/user.slice/cpu.max": "150000 100000",
            "sys/fs/cgroup/user.slice/job/cpu.max": "max 100000",
            "sys/fs/cgroup/user.slice/memory.max": "max",
            "sys/fs/cgroup/user.slice/job/memory.max": "1000",
            "sys/fs/cgroup/user.slice/job/memory.current": "700",
            "sys/fs/cgroup/user.slice/job/memory.stat": "anon 500\ninactive_file 100",
        },
    )
    assert (cpu_quota(root), free_memory_bytes(root)) == (1.5, 400)


def test_version_2_in_a_container_is_its_own_root(tmp_path: Path) -> None:
    files = {"sys/fs/cgroup/cpu.max": "50000 100000", "sys/fs/cgroup/memory.max": "1000"}
    root = machine(tmp_path, V2, "0::/../../outside", files)
    assert (cpu_quota(root), free_memory_bytes(root)) == (0.5, 1000)


@pytest.mark.parametrize(
    ("top", "group", "below"),
    [("/", "/docker/abc", "/docker/abc"), ("/docker/abc", "/docker/abc", ""), ("/docker", "/docker/abc", "/abc")],
)
def test_version_1_finds_the_group_from_outside_and_from_inside(
    tmp_path: Path, top: str, group: str, below: str
) -> None:
    cpu, in_memory = f"sys/fs/cgroup/cpu,cpuacct{below}", f"sys/fs/cgroup/memory{below}"
    root = machine(
        tmp_path,
        V1.format(top=top),
        f"4:memory:{group}\n1:cpu,cpuacct:{group}\n0::/",
        {
            f"{cpu}/cpu.cfs_quota_us": "250000",
            f"{cpu}/cpu.cfs_period_us": "100000",
            f"{in_memory}/memory.limit_in_bytes": "1000",
            f"{in_memory}/memory.usage_in_bytes": "700",
            f"{in_memory}/memory.stat": "cache 400\ntotal_inactive_file 50",
        },
    )
    assert (cpu_quota(root), free_memory_bytes(root)) == (2.5, 350)


def test_version_1_writes_no_limit_as_a_huge_number(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        V1.format(top="/"),
        "4:memory:/\n1:cpu,cpuacct:/",
        {
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "700",
        },
    )
    assert (cpu_quota(root), free_memory_bytes(root)) == (None, None)


@pytest.mark.parametrize(("quota", "expected"), [(None, 8), (0.5, 1), (2.9, 2), (16.0, 8)])
def test_a_quota_limits_the_processors_that_are_counted_on(
    monkeypatch: pytest.MonkeyPatch, quota: float | None, expected: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(control_groups, "cpu_quota", lambda: quota)
    assert control_groups.num_cpus() == expected


def test_images_are_decoded_in_as_many_threads_as_the_quota_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def pool(most: int) -> ThreadPoolExecutor:
        threads.append(most)
        return ThreadPoolExecutor(most)

    monkeypatch.setattr(control_groups, "cpu_quota", lambda: 0.5)
    monkeypatch.setattr(decoding, "ThreadPoolExecutor", pool)
    assert list(decoding.mapped(abs, [-1, 2])) == [1, 2] and threads == [1]


def test_what_a_container_still_allows_limits_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory_bytes", lambda: 1000)
    assert memory.fits(500, "cpu") and not memory.fits(501, "cpu")
