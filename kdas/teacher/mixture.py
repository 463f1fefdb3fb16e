"""Several teachers that answer as one network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kdas.models import Model


class Mixture(Model):
    """Gives the logarithm of the weighted mean of its members' probabilities as logits [B, C].

    Probabilities are taken at temperature 1, so the softmax of these logits is the mean, and a loss softens the mean.

    Args: members: classifiers of the same classes; shares: the weight of each, all together 1.
    """

    def __init__(self, members: Sequence[Model], shares: Sequence[float]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.register_buffer("log_shares", torch.tensor(shares, dtype=torch.float64).log().float())

    def forward(self, images: Tensor) -> Tensor:
        return self._mean([member(images) for member in self.members])

    def forward_with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features are those of all members side by side [B, sum of D]."""
        answers = [member.forward_with_features(images) for member in self.members]  # type: ignore[operator]
        return self._mean([logits for logits, _ in answers]), torch.cat([features for _, features in answers], dim=1)

    def _mean(self, logits: Sequence[Tensor]) -> Tensor:
        # In float32 also under autocast: differences of logarithms are what losses compare.
        assert isinstance(self.log_shares, Tensor)
        log_probabilities = torch.stack([each.float().log_softmax(dim=1) for each in logits])
        return (log_probabilities + self.log_shares[:, None, None]).logsumexp(dim=0)
