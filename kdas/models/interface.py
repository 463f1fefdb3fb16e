"""The interface of a model."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from kdas.parts.registry import Registry


class Model(nn.Module, ABC):
    """An image classifier."""

    @abstractmethod
    def forward_with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Args: images [B, 3, H, W], normalised. Returns: logits [B, C], and the features [B, D] they come from."""

    def forward(self, images: Tensor) -> Tensor:
        """Args: images [B, 3, H, W], normalised. Returns: logits [B, C]."""
        return self.forward_with_features(images)[0]


MODELS: Registry[Model] = Registry("model")
