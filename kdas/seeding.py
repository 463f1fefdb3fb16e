"""Every random draw is a function of the trial's seed and of its purpose: no state is carried on or shared."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. `derived_seed(3, "order", epoch)`."""
    text = "\x1f".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """A fresh CPU generator for one purpose; draws are made on the CPU so that they are the same on every device."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))


@contextmanager
def global_draws(seed: int, *purpose: str | int, device: str = "cpu") -> Iterator[None]:
    """Seed the global generators, of CPU and `device`, inside the block; outside they are untouched."""
    gpus = [torch.cuda.current_device()] if device == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        # Not torch.manual_seed: it seeds every accelerator, and takes as long as decoding a small image.
        torch.default_generator.manual_seed(derived_seed(seed, *purpose))
        if gpus:
            torch.cuda.manual_seed(derived_seed(seed, *purpose))
        elif device == "mps":
            torch.mps.manual_seed(derived_seed(seed, *purpose))
        yield
