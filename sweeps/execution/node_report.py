"""What a machine of a cluster says of itself: whether it can train for a sweep, and of which kind it is.

It runs on each machine, and imports torch only where a mistake needs no such wait.
"""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import kdas
from kdas.files.locks import is_held


@dataclass(frozen=True)
class Needs:
    """What a machine needs to train for a sweep.

    `folder`: that of the sweep; `lock`: a file in it that this process holds; `paths`: files and folders that trials
    read; `device`: where they train; `code`: `code_here()` of the driver.
    """

    folder: str
    lock: str
    paths: tuple[str, ...]
    device: str
    code: str


@dataclass(frozen=True)
class Report:
    """`problem`: what keeps the machine from training, with the remedy, empty if nothing; `kind`: its processor."""

    problem: str
    kind: str = ""


def report(needs: Needs) -> Report:
    """Look at this machine."""
    if problem := _problem_of_files(needs):
        return Report(problem)
    if (code := code_here()) != needs.code:
        return Report(f"has different code or versions ({code}; the driver: {needs.code}). Install the same ones")
    from kdas.compute.device import hardware_name

    if needs.device == "cuda":
        import torch

        if not torch.cuda.is_available():
            return Report("has no CUDA device. Remove it from the cluster, or set device: cpu")
    return Report("", hardware_name(needs.device))


def _problem_of_files(needs: Needs) -> str:
    if not Path(needs.folder).is_dir():
        return f"cannot see {needs.folder}. Set RUNS_DIR to a path that all machines share"
    for path in needs.paths:
        if not Path(path).exists():
            return f"cannot see {path}. Put a copy there, or use a path that all machines share"
    if not is_held(Path(needs.lock)):
        return (
            f"does not see the lock on {needs.lock}. Set RUNS_DIR to a file system whose locks reach all machines,"
            " such as NFS 4, or fix its mount options"
        )
    return ""


def code_here() -> str:
    """The versions that a trial's numbers depend on, and a hash of the trainer."""
    digest = hashlib.blake2b(digest_size=4)
    root = Path(kdas.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return f"kdas {digest.hexdigest()}, torch {version('torch')}, Python {platform.python_version()}"
