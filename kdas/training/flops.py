"""Floating point operations of a trial's work: student, losses and teacher."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import torch

from kdas import seeding
from kdas.compute.flops import counted
from kdas.files.cache import content_id
from kdas.training.batch import Batch
from kdas.training.calibrate import priced_by
from kdas.training.distiller import Distiller
from kdas.training.trial import Flops, Trial


def flops_of(trial: Trial) -> Flops:
    """The operations of a trial, counted once for all trials that share inputs and prices: counting takes a step."""
    known, known_by = trial.inputs.flops, content_id(priced_by(trial.config))
    if known_by not in known:
        known[known_by] = _counted(trial)
    return known[known_by]


def _counted(trial: Trial) -> Flops:
    # Not on the trial's own distiller, which a step would change. Compiled and recorded code hides its operations.
    plain = trial.config.model_copy(update={"compile": False, "cuda_graphs": False})
    distiller = Trial(plain, trial.inputs).distiller()
    batch = _batch(distiller)
    positions = torch.arange(len(batch), device=distiller.device)
    few = batch.rows(positions[:2])
    # The teacher answers to few, and its answers are repeated: large teachers are slow.
    answer = distiller.asked(few).answer
    assert answer is not None
    answered = replace(batch, answer=answer.rows(positions % len(few)))
    return Flops(
        score=counted(partial(distiller.scoring_logits, few, epoch=1)) / len(few),
        # A whole batch: some losses compare each of its samples with all others.
        step=counted(partial(distiller.step, answered, epoch=1)) / len(batch),
        teacher=counted(partial(distiller.asked, few)) / len(few),
    )


def _batch(distiller: Distiller) -> Batch:
    """A batch of drawn images: of constant ones some losses have no gradient."""
    splits, size = distiller.splits, distiller.splits.image_size
    num_samples = min(distiller.config.batch_size, len(splits.train))
    draws = seeding.generator(0, "images to count on")
    images = torch.randn((num_samples, 3, size, size), generator=draws).to(distiller.device)
    return distiller.batch(torch.arange(num_samples, device=distiller.device), images)
