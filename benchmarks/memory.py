"""Memory of a process that runs a trial on a set of CIFAR's size: 50,000 + 10,000 generated images in 100 classes.

`memory()` runs `python -m benchmarks.memory prepare|measure` with a cache of its own (`KDAS_CACHE`). The first process
decodes the set into the cache; usually an earlier process has done that. The second is like a worker of a sweep: it
trains one short epoch, reads every image once, as full epochs would, and prints the memory that it holds.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.bench import Bench, Figures, prices
from kdas import models, seeding
from kdas.data import DATASETS, Dataset, Decoded, ResidentSplit
from kdas.data.interface import Images, Labels
from kdas.files.cache import cache_root
from kdas.recipe.config import TrialConfig
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial, load_inputs

NUM_CLASSES, NUM_TRAIN, NUM_TEST = 100, 50_000, 10_000
TEACHER = "resnet20"
# One epoch on this fraction of the set does everything that a longer one does.
FRACTION = 0.005
_ROLLUP, _STATUS = Path("/proc/self/smaps_rollup"), Path("/proc/self/status")


@DATASETS.register("generated", source="drawn pixels of CIFAR-100's shape, for this benchmark")
def generated() -> Dataset:
    """Random images of 32x32 pixels in 100 classes."""
    return Dataset("generated", "drawn", "generated", NUM_CLASSES, _draw)


def _draw() -> Decoded:
    random = np.random.default_rng(0)

    def part(number: int) -> tuple[Images, Labels]:
        pixels = random.integers(0, 256, (number, 3, 32, 32), dtype=np.uint8)
        return pixels, np.arange(number) % NUM_CLASSES

    return Decoded(*part(NUM_TRAIN), *part(NUM_TEST))


def memory(bench: Bench) -> Figures:
    """Peak and final memory in MB (10**6 bytes) of a process that runs a trial."""
    for task in ("prepare", "measure"):
        bench.progress(f"{task}: {NUM_TRAIN:,} generated images, {NUM_CLASSES} classes")
        command = [sys.executable, "-m", "benchmarks.memory", task, bench.precision, bench.device, str(bench.threads)]
        checkout = Path(__file__).parents[1]
        printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=checkout).stdout
    figures: Figures = json.loads(printed.splitlines()[-1])
    return figures


def _trial(precision: str, device: str, threads: int) -> Trial:
    teacher = cache_root() / f"{TEACHER}-{NUM_CLASSES}.pth"
    if not teacher.exists():
        with seeding.global_draws(0, "teacher of the benchmarks"):
            model = models.create(TEACHER, NUM_CLASSES)
        torch.save({"model": model.state_dict()}, teacher)
    content = {
        "dataset": "generated",
        "validation": 0,
        "teacher": {"model": TEACHER, "checkpoint": str(teacher)},
        "student": "resnet8",
        "epochs": 1,
        "evaluations": 1,
        "sampler": {"name": "static_random", "fraction": FRACTION},
        "optimizer": {"learning_rate": 1e-3},
        "precision": precision,
        "threads": threads,
        "device": device,
    }
    config = TrialConfig.model_validate(content)
    return Trial(config, load_inputs(config))


def measured() -> Figures:
    """Memory of this process in MB: the peak, and the current use, with anonymous and file-mapped pages separate."""
    if not _ROLLUP.exists():
        # macOS counts bytes, other systems units of 1,024 bytes.
        unit = 1 if sys.platform == "darwin" else 1024
        return {"peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6}
    # Not getrusage: a forked child starts with its parent's peak.
    now, peak = _megabytes(_ROLLUP), _megabytes(_STATUS)
    return {
        "peak_rss_mb": peak["VmHWM"],
        "final_rss_mb": now["Rss"],
        "final_anonymous_mb": now["Anonymous"],
        # Pages of files (libraries, decoded images, a bank), of which all processes share one copy.
        "final_mapped_mb": now["Rss"] - now["Anonymous"],
        "final_private_mb": now["Private_Clean"] + now["Private_Dirty"],
    }


def _megabytes(file: Path) -> Figures:
    """The values of a kernel file's lines `name: number kB`, in MB."""
    fields = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    return {field[0].rstrip(":"): int(field[1]) * 1024 / 1e6 for field in fields if field[-1] == "kB"}


def _main(task: str, precision: str, device: str, threads: str) -> None:
    imported_mb = measured()["peak_rss_mb"]
    trial = _trial(precision, device, int(threads))
    if task == "measure":
        list(Training(trial, Surroundings(prices())).rows())
        train = trial.inputs.splits.train
        assert isinstance(train, ResidentSplit)
        train.images.max()
        print(json.dumps({"imported_rss_mb": imported_mb} | measured()))


if __name__ == "__main__":
    _main(*sys.argv[1:])
