"""Where a result comes from: code, packages and machine."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import torch

from kdas.compute.device import hardware_name
from kdas.files.cache import content_id, file_id

_HERE = Path(__file__).parent
_PACKAGES = ("kdas-sweeps", "torch", "torchvision", "numpy")


@functools.cache
def provenance(device: str) -> dict[str, str]:
    """What a curve may depend on beside its settings and data, as flat facts.

    `git_commit` is that of this checkout, with `+changes` if tracked files differ from it, and `git_diff` a hash of
    the difference; `lock` a hash of the file of locked packages. They are empty outside a checkout, except that an
    image names its commit in `KDAS_COMMIT`.
    """
    diff = uncommitted()
    commit = _git("rev-parse", "HEAD") or os.environ.get("KDAS_COMMIT", "")
    lock = _HERE.parents[1] / "requirements.lock"
    return {
        "git_commit": f"{commit}+changes" if diff else commit,
        "git_diff": content_id(diff) if diff else "",
        "lock": file_id(lock)[:16] if lock.is_file() else "",
        "python": platform.python_version(),
        **{package: package_version(package) for package in _PACKAGES},
        "platform": platform.platform(),
        "hardware": hardware_name(device),
        "driver": _driver() if device == "cuda" else "",
        "cuda": str(torch.version.cuda or "") if device == "cuda" else "",
        "device": device,
        "host": platform.node(),
    }


def package_version(package: str) -> str:
    """The version of an installed package."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # this project, where it runs from its source tree alone
        return "not installed"


def uncommitted() -> str:
    """What tracked files of this checkout differ in from its commit, as git shows it; empty outside a checkout."""
    return _git("diff", "--no-ext-diff", "--binary", "HEAD")


def _git(*words: str) -> str:
    """What git says of this project's checkout; empty if this code lies in none, or in one of another project."""
    top = _output("git", "-C", str(_HERE), "rev-parse", "--show-toplevel")
    return _output("git", "-C", str(_HERE), *words) if top and Path(top) == _HERE.parents[1].resolve() else ""


def _driver() -> str:
    """Version of NVIDIA's driver."""
    return _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader").partition("\n")[0]


def _output(*command: str) -> str:
    """What a program prints; empty if it fails or is not installed."""
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
