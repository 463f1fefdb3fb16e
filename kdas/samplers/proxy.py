"""Samples that are hard for a small network, which is trained along and costs little."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, Field
from torch import Tensor

from kdas.parts.known import checked_model
from kdas.samplers.interface import SAMPLERS, EpochPlan, SamplerContext, SamplerNeed
from kdas.samplers.subsets import Unselective, permutation


@SAMPLERS.register(
    "proxy",
    source="Jordan, 2024 (airbench96_faster, the speed record on CIFAR-10 at 96%); Coleman et al., ICLR 2020",
    needs=[SamplerNeed.PROXY_LOSSES],
)
class ByProxy(Unselective):
    """The part of each batch with the highest cross-entropies of a proxy, which is trained on what is chosen."""

    def __init__(
        self,
        context: SamplerContext,
        *,
        proxy: Annotated[
            str, AfterValidator(checked_model), Field(description="Name of a small model, for example resnet8.")
        ] = "resnet8",
        rate: Annotated[
            float, Field(gt=0, le=1, description="Fraction of each fetched batch that is trained on.")
        ] = 0.5,
        proxy_period: Annotated[
            int,
            Field(ge=1, le=1_000_000, description="The proxy takes a step on every n-th trained batch; airbench: 4."),
        ] = 4,
    ) -> None:
        super().__init__(context)
        self.rate, self.proxy_period = rate, proxy_period

    def plan(self, epoch: int) -> EpochPlan:
        context = self.context
        order = permutation(context.num_samples, context.seed, "order", epoch)
        fetched = math.ceil(context.batch_size / self.rate)
        return EpochPlan(order, fetched, self.rate, selects=True, proxy_period=self.proxy_period)

    def select(self, epoch: int, indices: Tensor, *, proxy_losses: Tensor) -> Tensor:
        keep = min(self.context.batch_size, math.ceil(self.rate * len(indices)))
        return proxy_losses.argsort(descending=True, stable=True)[:keep]
