"""The seam of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from kdas.registry import Registry


class Model(nn.Module, ABC):
    """An image classifier."""

    @abstractmethod
    def forward_with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Args: images [B, 3, H, W], normalised. Returns: logits [B, C] and the features [B, D] they are made from."""

    def forward(self, images: Tensor) -> Tensor:
        """Args: images [B, 3, H, W], normalised. Returns: logits [B, C]."""
        return self.forward_with_features(images)[0]


MODELS: Registry[Model] = Registry("model")


def check_name(name: str) -> str:
    """`name`, if a model is registered under it.

    Raises: ValueError: if none is; the message names the nearest one.
    """
    try:
        MODELS[name]
    except KeyError as error:
        raise ValueError(error.args[0]) from error
    return name


def create(name: str, num_classes: int = 100) -> Model:
    """A freshly initialised model, drawn from torch's global generator (see `seeding.global_draws`)."""
    return MODELS.build({"name": check_name(name)}, num_classes)
