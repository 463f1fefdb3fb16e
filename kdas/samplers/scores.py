"""How hard samples are, from predictions over several epochs or views.

A score is a statistic of each prediction, summed up over epochs. So only the statistic has to be kept, not the logits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kdas.samplers.interface import Statistic

# DUAL and Dyn-Unc look at windows of this many epochs, and multiply deviations by ten.
WINDOW = 10
_SCALE = 10.0


def label_probability(logits: Tensor, targets: Tensor) -> Tensor:
    """The probability of the label. Args: logits [..., N, C]; targets [N]. Returns: [..., N]."""
    return _of_label(logits.softmax(dim=-1), targets)


def error_norm(logits: Tensor, targets: Tensor) -> Tensor:
    """The distance of the prediction from the label as a one-hot vector. Args, returns: as `label_probability`."""
    probabilities = logits.softmax(dim=-1)
    errors = probabilities - functional.one_hot(targets, logits.shape[-1])
    norms: Tensor = torch.linalg.vector_norm(errors, dim=-1)
    return norms


def margin(logits: Tensor, targets: Tensor) -> Tensor:
    """The label's logit minus the largest other one. Args, returns: as `label_probability`."""
    is_label = functional.one_hot(targets, logits.shape[-1]).bool()
    return _of_label(logits, targets) - logits.masked_fill(is_label, -torch.inf).amax(dim=-1)


def is_right(logits: Tensor, targets: Tensor) -> Tensor:
    """1 where the largest logit is the label's, else 0. Args, returns: as `label_probability`."""
    return (logits.argmax(dim=-1) == targets).to(logits.dtype)


def _of_label(values: Tensor, targets: Tensor) -> Tensor:
    index = targets.expand(values.shape[:-1]).unsqueeze(-1)
    return values.gather(-1, index).squeeze(-1)


@dataclass(frozen=True)
class Score:
    """A score of samples: `statistic` of each prediction, and `summary` [N] of the statistics [E, N] of E epochs.

    `hard_is_high`: whether harder samples have higher scores.
    """

    statistic: Statistic
    summary: Callable[[Tensor], Tensor]
    hard_is_high: bool

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Args: logits [E, N, C], raw, of E epochs or views; targets [N]. Returns: scores [N]."""
        return self.summary(self.statistic(logits, targets))

    def difficulty(self, statistics: Tensor) -> Tensor:
        """Args: statistics [E, N]. Returns: [N], higher for harder samples; NaN where a statistic is."""
        score = self.summary(statistics)
        score = score if self.hard_is_high else -score
        return score.masked_fill(statistics.isnan().any(dim=0), torch.nan)


def _last(values: Tensor) -> Tensor:
    return values[-1]


def _mean(values: Tensor) -> Tensor:
    return values.mean(dim=0)


def _deviation(values: Tensor) -> Tensor:
    """The sample standard deviation over epochs [N] of values [E, N]; 0 for a single epoch."""
    return values.std(dim=0) if len(values) > 1 else torch.zeros_like(values[0])


def _windows(values: Tensor) -> list[Tensor]:
    """All windows of `WINDOW` epochs, or a single one of fewer."""
    size = min(WINDOW, len(values))
    return [values[first : first + size] for first in range(len(values) - size + 1)]


def _uncertainty(values: Tensor) -> Tensor:
    return torch.stack([_SCALE * _deviation(window) for window in _windows(values)]).mean(dim=0)


def _difficulty_and_uncertainty(values: Tensor) -> Tensor:
    scores = [_SCALE * _deviation(window) * (1 - _mean(window)) for window in _windows(values)]
    return torch.stack(scores).mean(dim=0)


def _times_forgotten(values: Tensor) -> Tensor:
    """How often a sample turns from right to wrong; one that was never right counts as forgotten in every epoch."""
    forgotten = (values[:-1] - values[1:]).clamp(min=0).sum(dim=0)
    never = torch.full_like(forgotten, len(values))
    return torch.where(values.sum(dim=0) == 0, never, forgotten)


# By the student, in training.
OF_TRAINING = {
    # Paul et al., NeurIPS 2021
    "el2n": Score(error_norm, _last, hard_is_high=True),
    # Cho et al., ICML 2025, and official code
    "dual": Score(label_probability, _difficulty_and_uncertainty, hard_is_high=True),
    # He et al., CVPR 2024
    "dyn_unc": Score(label_probability, _uncertainty, hard_is_high=True),
    # Pleiss et al., NeurIPS 2020
    "aum": Score(margin, _mean, hard_is_high=False),
    # Toneva et al., ICLR 2019
    "forgetting": Score(is_right, _times_forgotten, hard_is_high=True),
}
# By the teacher, before training.
OF_TEACHER = {
    "teacher_confidence": Score(label_probability, _mean, hard_is_high=False),
    "dispersion": Score(label_probability, _deviation, hard_is_high=True),
}
SCORES = {**OF_TRAINING, **OF_TEACHER}
