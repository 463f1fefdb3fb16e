"""Users' own parts are tried before any compute is spent: a mistake in them is one line, not a crash hours later."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch

from kdas import seeding
from kdas.data import Draw
from kdas.errors import UserError
from kdas.losses import LOSSES
from kdas.parts.registry import Registry
from kdas.parts.terms import as_terms
from kdas.recipe.config import TrialConfig
from kdas.samplers import SAMPLERS, SamplerNeed
from kdas.students.start import reference_id
from kdas.training.estimate import rehearse
from kdas.training.own_loss import try_loss
from kdas.training.proxy import check_proxy
from kdas.training.trial import find_dataset
from kdas.transforms import TRANSFORMS, TransformContext, ViewBatch

# Of what a transform is tried on.
_SAMPLES, _SIDE = 4, 8


def check_own_parts(config: TrialConfig) -> None:
    """Build the sampler, losses and transforms that come from plug-ins, and use them once on drawn numbers.

    A sampler's networks are the user's choice as well: its reference and its proxy are checked, too.

    Raises: UserError: a line for each part, with its file and the cause, if its code fails; or if the reference is no
        student like this one, or the proxy cannot take the images, if their size is known before they are decoded.
    """
    if {SamplerNeed.REFERENCE_LOGITS, SamplerNeed.PROXY_LOSSES} & {*SAMPLERS[config.sampler["name"]].needs}:
        dataset = find_dataset(config)
        reference_id(config, dataset.num_classes)
        if dataset.size is not None:
            check_proxy(config.sampler, dataset.num_classes, dataset.size)
    told: list[str] = []
    with seeding.global_draws(config.seed, "check of own parts"):
        for attempt in _attempts(config):
            try:
                attempt()
            except UserError as error:
                told += map(str, error.args)
    if told:
        raise UserError(*dict.fromkeys(told))


def _attempts(config: TrialConfig) -> Iterator[Callable[[], None]]:
    """A function for each part of a user's own, which tries it."""
    if SAMPLERS[config.sampler["name"]].is_own:
        yield partial(rehearse, config)
    for _, part in as_terms(config.loss):
        if LOSSES[part["name"]].is_own:
            yield partial(_blamed, LOSSES, try_loss, part)
    for part in config.transforms:
        if TRANSFORMS[part["name"]].is_own:
            yield partial(_blamed, TRANSFORMS, _try_transform, part)


def _blamed(registry: Registry[Any], attempt: Callable[[dict[str, Any]], None], part: dict[str, Any]) -> None:
    with registry.blamed(part["name"]):
        attempt(part)


def _try_transform(part: dict[str, Any]) -> None:
    """Apply a transform once. Raises: UserError: if it changes more than the images' content and the labels."""
    images = torch.randn(_SAMPLES, 3, _SIDE, _SIDE)
    context = TransformContext(
        _SAMPLES, _SIDE, pixels=lambda given: given.clamp(0, 1).mul(255).byte(), normalized=_scaled
    )
    batch = ViewBatch(images, torch.arange(_SAMPLES), torch.arange(_SAMPLES))
    changed = TRANSFORMS.build(part, context)(batch, Draw(seed=0, epoch=1))
    if changed.images.shape != images.shape or changed.images.dtype != images.dtype:
        raise UserError(
            f"transform {part['name']}: makes {list(changed.images.shape)} of type {changed.images.dtype} of images"
            f" {list(images.shape)} of type {images.dtype}. Return as many images, of the same size and type."
        )


def _scaled(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float() / 255
