"""Every sample, distilled the more the worse the student knows its label than the teacher does."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from kdas.samplers.interface import SAMPLERS, SamplerNeed
from kdas.samplers.subsets import Full

# Keeps the ratio finite where the teacher is sure of the label; the official code has the same.
_EPSILON = 1e-7


def soft_label_weights(student_logits: Tensor, teacher_logits: Tensor, targets: Tensor) -> Tensor:
    """Weights of soft labels that balance their bias and variance for each sample.

    Args: student_logits, teacher_logits [B, C], raw; targets [B].
    Returns: weights [B] in [0, 1]: 1 - exp(-CE(student) / CE(teacher)), at temperature 1.
    Source: Zhou et al., ICLR 2021; official code.
    """
    of_student, of_teacher = (
        functional.cross_entropy(logits, targets, reduction="none") for logits in (student_logits, teacher_logits)
    )
    return 1 - (-of_student / (of_teacher + _EPSILON)).exp()


@SAMPLERS.register("wsld", source="Zhou et al., ICLR 2021 (weighted soft labels)", needs=[SamplerNeed.WEIGHED_LOGITS])
class WeightedSoftLabels(Full):
    """Every sample, every epoch; distillation counts less where the student already knows the label better."""

    def distillation_weights(  # type: ignore[override]
        self, epoch: int, teacher_logits: Tensor, targets: Tensor, weighed_logits: Tensor
    ) -> Tensor | None:
        return soft_label_weights(weighed_logits, teacher_logits, targets)
