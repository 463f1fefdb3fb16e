"""One of the processes that train at the same time while `kdas.training.packing` measures how many share a GPU.

It reads a trial from standard input, a line of JSON, and prepares it. Then it prints `ready`, waits for a line, trains
for a while and prints how many steps it did in how many seconds. It keeps its memory until standard input is closed.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import torch

from kdas import seeding
from kdas.compute.device import repeatable, synchronize
from kdas.data import Draw, batches_of
from kdas.parts.plugins import search_also
from kdas.recipe.config import TrialConfig
from kdas.teacher.bank import bank_precision
from kdas.training.batch import Answer, Batch
from kdas.training.distiller import Distiller
from kdas.training.trial import Inputs, Trial, untrained_inputs

WARM_UP_STEPS = 5


def main() -> None:
    """Run the process, as the module says."""
    # What plug-ins print must not mix with the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    request = json.loads(sys.stdin.readline())
    search_also(request["module_folders"])
    config = TrialConfig(**request["config"])
    repeatable(config.threads)
    inputs = untrained_inputs(config)
    distiller = Trial(config, inputs).distiller()
    if config.compile:
        distiller.translate()
    steps = training_steps(config, inputs, distiller)
    for _ in range(WARM_UP_STEPS):
        next(steps)
    synchronize(inputs.device)
    print("ready", file=answers, flush=True)
    if not sys.stdin.readline():
        return  # the parent has ended
    num_steps, seconds = trained_for(request["seconds"], steps, inputs.device)
    print(json.dumps({"num_steps": num_steps, "seconds": seconds}), file=answers, flush=True)
    sys.stdin.read()


def trained_for(least_s: float, steps: Iterator[None], device: str) -> tuple[int, float]:
    """Train for at least `least_s` seconds. Returns: the steps done and the seconds that they took."""
    began, num_steps = time.perf_counter(), 0
    while time.perf_counter() - began < least_s:
        next(steps)
        num_steps += 1
    # Once, at the end: a trial does not wait for the device after each step either.
    synchronize(device)
    return num_steps, time.perf_counter() - began


def training_steps(config: TrialConfig, inputs: Inputs, distiller: Distiller) -> Iterator[None]:
    """Steps of plain distillation without end. Where a trial reads a bank, the teacher is asked once per batch size."""
    splits = inputs.splits
    has_bank = bank_precision(config, inputs.dataset, splits) is not None
    known: dict[int, Answer] = {}
    _score(config, distiller)
    for epoch in itertools.count(1):
        draw = Draw(config.seed, epoch)
        order = torch.randperm(len(splits.train), generator=seeding.generator(epoch, "order of packing"))
        batches = batches_of(order, config.batch_size)
        for indices, images in splits.training_batches(batches, draw):
            if len(indices) < 2:  # unreadable images are left out, and batch norm needs two
                continue
            batch = _answered(distiller, distiller.batch(indices, images, draw), known if has_bank else {})
            distiller.step(batch, epoch=1)
            yield


def _score(config: TrialConfig, distiller: Distiller) -> None:
    """Score the largest batch that a sampler may ask for, so that its memory counts."""
    largest = torch.arange(min(4 * config.batch_size, len(distiller.splits.train)))
    draw = Draw(config.seed, epoch=1)
    for indices, images in distiller.splits.training_batches([largest], draw):
        distiller.scoring_logits(distiller.batch(indices, images, draw), epoch=1)


def _answered(distiller: Distiller, batch: Batch, known: dict[int, Answer]) -> Batch:
    """The batch with an answer of the teacher. Args: known: answers to earlier batches, by their size."""
    if len(batch) not in known:
        asked = distiller.asked(batch)
        assert asked.answer is not None
        known[len(batch)] = asked.answer
    return replace(batch, answer=known[len(batch)])


if __name__ == "__main__":
    main()
