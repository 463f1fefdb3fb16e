"""DOT, the distillation-oriented trainer: SGD with a larger momentum for the distillation gradient."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from kdas.compute.torch_optimizers import Optimizer
from kdas.recipe.optimizer import OptimizerConfig


class Dot(Optimizer):
    """SGD that keeps task and distillation gradients apart, each with a momentum of its own.

    With momentum m and delta d these are m - d and m + d. A weight that only one of the two gradients reaches has
    momentum m. Weight decay counts once, with the task gradient where there is one.

    The distillation gradient is that of a twin of each weight, a tensor that shares its storage. So whatever is done to
    the gradients of an optimizer's parameters, such as undoing float16's loss scale, is done to both.

    Source: Zhao et al., CVPR 2023 (DOT).
    """

    def __init__(self, trained: Iterable[nn.Parameter], config: OptimizerConfig) -> None:
        self._weights = list(trained)
        self._twins = [weight.detach() for weight in self._weights]
        defaults = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
        super().__init__([*self._weights, *self._twins], defaults)
        self._momentum, self._delta = config.momentum, config.delta

    @contextmanager
    def distilling(self) -> Iterator[None]:
        """Gradients that are computed inside the block add to the distillation gradient."""
        self._exchange()
        yield
        self._exchange()

    def _exchange(self) -> None:
        for weight, twin in zip(self._weights, self._twins, strict=True):
            weight.grad, twin.grad = twin.grad, weight.grad

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update once both gradients are there."""
        (group,) = self.param_groups
        alike: defaultdict[tuple[float, float], list[Tensor]] = defaultdict(list)
        for weight, twin in zip(self._weights, self._twins, strict=True):
            if weight.grad is not None and twin.grad is not None:
                alike[self._momentum - self._delta, group["weight_decay"]].append(weight)
                alike[self._momentum + self._delta, 0.0].append(twin)
            elif weight.grad is not None or twin.grad is not None:
                alike[self._momentum, group["weight_decay"]].append(twin if weight.grad is None else weight)
        # First all momenta, then all updates: a weight and its twin share their values.
        updates = [(tensors, self._moved(tensors, *each)) for each, tensors in alike.items()]
        for tensors, velocities in updates:
            torch._foreach_add_(tensors, velocities, alpha=-group["lr"])

    def _moved(self, tensors: list[Tensor], momentum: float, weight_decay: float) -> list[Tensor]:
        """The velocities of some tensors after their gradients have acted on them."""
        gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
        if weight_decay:
            gradients = list(torch._foreach_add(gradients, tensors, alpha=weight_decay))
        for tensor in tensors:
            if "velocity" not in self.state[tensor]:
                self.state[tensor]["velocity"] = torch.zeros_like(tensor)
        velocities = [self.state[tensor]["velocity"] for tensor in tensors]
        torch._foreach_mul_(velocities, momentum)
        torch._foreach_add_(velocities, gradients)
        return velocities
