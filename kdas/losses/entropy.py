"""EA-KD: samples weigh more where the teacher is unsure, most where the student is unsure too."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Added to the probabilities inside the logarithm, as in the official code.
ENTROPY_EPS = 1e-10


@torch.no_grad()
def entropy_adaptive_weights(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 3.0, max_entropy: float | None = None
) -> Tensor:
    """Weights for any loss per sample: H_t / 2 * (1 + H_s / max_entropy), with the entropies of both predictions.

    Args: student_logits, teacher_logits [B, C], raw; temperature: of both entropies; max_entropy: by default the
        largest entropy of C classes, log C. The official code has 100 there on CIFAR-100, which is C.
    Returns: weights [B] in [0, log C] with the default, without gradients.
    Source: Su et al., ICCV 2025 (EA-KD); official code.
    """
    if max_entropy is None:
        max_entropy = math.log(student_logits.shape[1])
    teacher, student = _entropy(teacher_logits / temperature), _entropy(student_logits / temperature)
    return teacher / 2 * (1 + student / max_entropy)


def _entropy(logits: Tensor) -> Tensor:
    """Entropy of the prediction of each row [B], in nats. Args: logits [B, C]."""
    probabilities = logits.softmax(dim=1)
    return -(probabilities * (probabilities + ENTROPY_EPS).log()).sum(dim=1)
