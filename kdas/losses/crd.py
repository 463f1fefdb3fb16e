"""Contrastive distillation: student and teacher embed one sample alike, and samples of other classes apart."""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from kdas.losses.interface import LOSSES, LossContext, LossNeed

# Of the authors' code: added to the denominator of both probabilities.
EPS = 1e-7
# If other classes have this many times the negatives, drawing again what came twice is cheaper than a key for each.
REDRAWN_FROM = 8


def nce(ratios: Tensor, counts: Tensor | float, num_negatives: int, num_samples: int) -> Tensor:
    """Noise-contrastive estimation: is a pair from one sample, or drawn among `num_samples` at random?

    Args: ratios [B, 1 + M]: the estimated probability of each pair, the positive one first; counts [B, M]: how often
        each of the others counts; num_negatives: the sum of each row's counts.
    Returns: loss [B].
    Source: Tian et al., ICLR 2020, equation 12, and their code.
    """
    noise = num_negatives / num_samples
    positive, negatives = ratios[:, 0], ratios[:, 1:]
    of_positive = (positive / (positive + noise + EPS)).log()
    of_negatives = (counts * (noise / (negatives + noise + EPS)).log()).sum(dim=1)
    return -(of_positive + of_negatives)


def draw_negatives(same_class: Tensor, num_negatives: int, generator: torch.Generator) -> Tensor:
    """Different samples of other classes for each sample of a batch.

    Args: same_class [B, N]: whether samples of batch and training set share a class; num_negatives: K, at most the
        number of samples of other classes.
    Returns: places in the training set [B, K], int64.
    """
    keys = torch.rand(same_class.shape, generator=generator, device=same_class.device)
    return keys.masked_fill_(same_class, -1).topk(num_negatives, dim=1, sorted=False).indices


def draw_distinct(limits: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Different whole numbers for each row, each set of them as likely as any other.

    The first `count` different ones among draws with repetition. The work grows with `count`, not with the limits.

    Args: limits int64 [B]: the numbers are in [0, limit), and far more than `count`.
    Returns: int64 [B, count].
    """
    device, num_draws = limits.device, count * (1 + count / int(limits.min()))
    missing = math.ceil(num_draws + 2 * num_draws**0.5)
    drawn = torch.empty((len(limits), 0), dtype=torch.int64, device=device)
    while True:
        more = torch.randint(2**62, (len(limits), missing), generator=generator, device=device)
        drawn = torch.cat([drawn, more % limits[:, None]], dim=1)
        ordered, places = drawn.sort(dim=1, stable=True)
        is_new = torch.ones_like(drawn, dtype=torch.bool)
        is_new.scatter_(1, places[:, 1:], ordered.diff(dim=1) > 0)
        number = is_new.cumsum(dim=1)
        if bool((number[:, -1] >= count).all()):
            return drawn[is_new & (number <= count)].view(-1, count)
        missing = count


@LOSSES.register(
    "crd",
    source="Tian et al., ICLR 2020",
    needs=[LossNeed.INDICES, LossNeed.GENERATOR, LossNeed.STUDENT_FEATURES, LossNeed.TEACHER_FEATURES],
    usual={"ce_weight": 1.0, "kd_weight": 0.8},
    priced=["num_negatives"],
)
class Contrastive(nn.Module):
    """Contrast of each sample with a memory of samples of other classes, in learned embeddings of the features."""

    def __init__(
        self,
        context: LossContext,
        *,
        num_negatives: Annotated[
            int, Field(ge=1, le=1_000_000, description="Samples of other classes per sample; the paper uses 16384.")
        ] = 16384,
        width: Annotated[int, Field(ge=1, le=65536, description="Width of the embeddings; the paper uses 128.")] = 128,
        temperature: Annotated[
            float, Field(ge=0.02, le=1000, description="Temperature of the similarities; the paper uses 0.07.")
        ] = 0.07,
        memory_momentum: Annotated[
            float, Field(ge=0, lt=1, description="Share of a memory that an update keeps; the paper uses 0.5.")
        ] = 0.5,
    ) -> None:
        super().__init__()
        self.num_negatives, self.temperature, self.momentum = num_negatives, temperature, memory_momentum
        assert context.labels is not None
        sizes = context.labels.bincount()
        num_others = context.num_samples - int(sizes.max())
        self.is_drawn, self.is_redrawn = num_negatives <= num_others, REDRAWN_FROM * num_negatives <= num_others
        self.student_embedding = nn.Linear(context.student_width, width)
        self.teacher_embedding = nn.Linear(context.teacher_width, width)
        # Not in checkpoints: they are the data set's.
        self.register_buffer("labels", context.labels, persistent=False)
        # Samples sorted by class, and where each class begins and ends among them.
        self.register_buffer("by_class", context.labels.argsort(stable=True), persistent=False)
        self.register_buffer("ends", sizes.cumsum(0), persistent=False)
        self.register_buffer("begins", sizes.cumsum(0) - sizes, persistent=False)
        bound = (3 / width) ** 0.5
        for name in ("student_memory", "teacher_memory"):
            self.register_buffer(name, torch.empty(context.num_samples, width).uniform_(-bound, bound))
        # Of the student's and of the teacher's probabilities; unknown until the first batch.
        self.register_buffer("normalizers", torch.full((2,), -1.0))
        self.labels: Tensor
        self.by_class: Tensor
        self.ends: Tensor
        self.begins: Tensor
        self.student_memory: Tensor
        self.teacher_memory: Tensor
        self.normalizers: Tensor

    def forward(
        self,
        student_logits: Tensor,
        teacher_logits: Tensor,
        targets: Tensor,
        *,
        indices: Tensor,
        generator: torch.Generator,
        student_features: Tensor,
        teacher_features: Tensor,
    ) -> Tensor:
        if self.is_redrawn:
            negatives = self._redrawn(self.labels[indices], generator)
            return self.contrast(student_features, teacher_features, indices, negatives)
        same_class = self.labels[indices][:, None] == self.labels
        if self.is_drawn:
            negatives = draw_negatives(same_class, self.num_negatives, generator)
            return self.contrast(student_features, teacher_features, indices, negatives)
        # The authors draw some more than once. What that amounts to on average needs no draws.
        everything = torch.arange(len(self.labels), device=indices.device).expand(len(indices), -1)
        counts = ~same_class * (self.num_negatives / (~same_class).sum(dim=1, keepdim=True))
        return self.contrast(student_features, teacher_features, indices, everything, counts)

    def _redrawn(self, classes: Tensor, generator: torch.Generator) -> Tensor:
        """Like `draw_negatives`, for samples of these classes [B], without a key for each training sample."""
        begins, sizes = self.begins[classes], self.ends[classes] - self.begins[classes]
        drawn = draw_distinct(len(self.labels) - sizes, self.num_negatives, generator)
        # Skip the sample's own class.
        return self.by_class[torch.where(drawn < begins[:, None], drawn, drawn + sizes[:, None])]

    def contrast(
        self,
        student_features: Tensor,
        teacher_features: Tensor,
        indices: Tensor,
        negatives: Tensor,
        counts: Tensor | float = 1.0,
    ) -> Tensor:
        """Loss of a batch against the memories, which then learn the batch.

        Args: student_features [B, D], teacher_features [B, E]; indices [B], the samples' places in the training set;
            negatives [B, M], places of different samples to contrast each with; counts [B, M], how often each counts,
            `num_negatives` together.
        Returns: loss [B], of the student's embedding and of the teacher's.
        """
        student = functional.normalize(self.student_embedding(student_features), dim=1)
        teacher = functional.normalize(self.teacher_embedding(teacher_features.detach()), dim=1)
        compared = torch.cat([indices[:, None], negatives], dim=1)
        losses = self._loss(student, self.teacher_memory, compared, counts, side=0)
        losses = losses + self._loss(teacher, self.student_memory, compared, counts, side=1)
        with torch.no_grad():
            self._learn(self.student_memory, student, indices)
            self._learn(self.teacher_memory, teacher, indices)
        return losses

    def _loss(self, embeddings: Tensor, memory: Tensor, compared: Tensor, counts: Tensor | float, side: int) -> Tensor:
        """Loss [B] of the student's (side 0) or teacher's (side 1) embeddings [B, D], against the other's memory."""
        # Similarities to all of the memory need less space than the compared memories [B, 1 + K, D].
        similarities = (embeddings @ memory.T.clone()).gather(1, compared)
        scores = (similarities / self.temperature).exp()
        with torch.no_grad():
            mean = (scores[:, 0] + (counts * scores[:, 1:]).sum(dim=1)).mean() / (1 + self.num_negatives)
            first = mean * len(memory)
            self.normalizers[side] = torch.where(self.normalizers[side] < 0, first, self.normalizers[side])
            normalizer = self.normalizers[side].clone()
        return nce(scores / normalizer, counts, self.num_negatives, len(memory))

    def _learn(self, memory: Tensor, embeddings: Tensor, indices: Tensor) -> None:
        """Move the memories of a batch towards its embeddings, in place."""
        mixed = self.momentum * memory[indices] + (1 - self.momentum) * embeddings
        # A sample that is in the batch twice gets its last value, on every device.
        last = ((indices[:, None] == indices) * torch.arange(len(indices), device=indices.device)).amax(dim=1)
        memory[indices] = functional.normalize(mixed, dim=1)[last]
