"""Transforms that mix images of a batch, and their labels in the same shares."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from kdas.data import Draw
from kdas.transforms.draws import OfEpoch
from kdas.transforms.interface import TRANSFORMS, Mixed, TransformContext, ViewBatch

Alpha = Annotated[float, Field(gt=0, le=1000, description="Both parameters of the Beta distribution of the shares.")]
Probability = Annotated[float, Field(ge=0, le=1, description="Probability that an image is changed.")]


class _Mixing(ABC):
    """Mixes each image with its partner: the next sample of the batch by a number that each has in an epoch.

    So partners are a function of seed, epoch and the samples of the batch, whatever their order.
    """

    def __init__(self, context: TransformContext, alpha: float, probability: float) -> None:
        self._size, self._probability = context.image_size, probability

        def drawing(generator: np.random.Generator, num_samples: int) -> NDArray[np.float64]:
            shares = generator.beta(alpha, alpha, num_samples)
            return np.column_stack([shares, generator.random((num_samples, 4))])

        self._numbers = OfEpoch(type(self).__name__, context.num_samples, drawing)

    def __call__(self, batch: ViewBatch, draw: Draw) -> ViewBatch:
        share, is_changed, key, *corner = self._numbers(draw, batch.indices).unbind(dim=1)
        own = torch.where(is_changed < self._probability, share, 1.0)
        order = torch.argsort(key)
        partner = torch.empty_like(order)
        partner[order] = order.roll(-1)
        images, own = self._mixture(batch.images, batch.images[partner], own, *corner)
        theirs = batch.targets[partner]
        is_mine = own >= 0.5
        return replace(
            batch,
            images=images,
            targets=torch.where(is_mine, batch.targets, theirs),
            mixed=Mixed(torch.where(is_mine, theirs, batch.targets), torch.where(is_mine, 1 - own, own)),
        )

    @abstractmethod
    def _mixture(
        self, images: Tensor, others: Tensor, own: Tensor, across: Tensor, down: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Args: images, others [B, 3, H, W]; own [B]: the wanted share of the first; across, down [B] in [0, 1).

        Returns: mixtures [B, 3, H, W], and the share [B] that the first really have.
        """


@TRANSFORMS.register("mixup", source="Zhang et al., ICLR 2018 (mixup)", needs=("live_teacher", "partners"))
class Mixup(_Mixing):
    """A weighted mean of an image and its partner."""

    def __init__(self, context: TransformContext, *, alpha: Alpha = 1.0, probability: Probability = 1.0) -> None:
        super().__init__(context, alpha, probability)

    def _mixture(
        self, images: Tensor, others: Tensor, own: Tensor, across: Tensor, down: Tensor
    ) -> tuple[Tensor, Tensor]:
        weight = own[:, None, None, None]
        return weight * images + (1 - weight) * others, own


@TRANSFORMS.register("cutmix", source="Yun et al., ICCV 2019 (CutMix)", needs=("live_teacher", "partners"))
class CutMix(_Mixing):
    """A rectangle of the partner in the place of the image's own; its area is the partner's share."""

    def __init__(self, context: TransformContext, *, alpha: Alpha = 1.0, probability: Probability = 1.0) -> None:
        super().__init__(context, alpha, probability)

    def _mixture(
        self, images: Tensor, others: Tensor, own: Tensor, across: Tensor, down: Tensor
    ) -> tuple[Tensor, Tensor]:
        size = self._size
        half = (size * (1 - own).sqrt()).floor()[:, None] / 2
        places = torch.arange(size, device=images.device)
        columns, rows = ((places - (size * each).floor()[:, None] + half) for each in (across, down))
        is_within = ((rows >= 0) & (rows < 2 * half))[:, :, None] & ((columns >= 0) & (columns < 2 * half))[:, None, :]
        is_theirs = is_within[:, None]
        # At the edge a rectangle is cut off.
        share = 1 - is_theirs.float().mean(dim=(1, 2, 3))
        return torch.where(is_theirs, others, images), share
