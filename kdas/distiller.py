"""The work on one batch: cut views, ask the teacher, score, take a training step. Prices are measured on this code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdas import models, seeding
from kdas.config import TrialConfig
from kdas.data import ImageSplits
from kdas.losses import LOSSES


@dataclass(frozen=True)
class Batch:
    """images float32 [B, 3, H, W], normalised; targets [B]; teacher_logits [B, C]; indices [B], on the CPU."""

    images: Tensor
    targets: Tensor
    teacher_logits: Tensor
    indices: Tensor

    def __len__(self) -> int:
        return len(self.indices)

    def rows(self, positions: Tensor) -> Batch:
        """The samples at these positions; the teacher is not asked again."""
        chosen = (self.images[positions], self.targets[positions], self.teacher_logits[positions])
        return Batch(*chosen, self.indices[positions.to(self.indices.device)])


class Distiller:
    """A student, its optimizer and the frozen teacher, on resident images."""

    def __init__(self, config: TrialConfig, splits: ImageSplits, teacher: nn.Module, device: str) -> None:
        self.splits, self.teacher, self.device = splits, teacher, device
        with seeding.global_draws(config.seed, "student"):
            student = models.create(config.student, splits.num_classes)
        self.student = student.to(device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(
            self.student.parameters(),
            lr=config.optimizer.learning_rate,
            momentum=config.optimizer.momentum,
            weight_decay=config.optimizer.weight_decay,
        )
        self.distill = LOSSES.build(config.loss)
        self.ce_weight, self.kd_weight = config.ce_weight, config.kd_weight

    def fetch(self, indices: Tensor, view_ids: Tensor) -> Batch:
        """A batch of augmented samples with the teacher's logits.

        Args: indices [B], on the CPU; view_ids [N], the view that every sample shows this epoch.
        """
        images = self.cut(indices, view_ids)
        targets = self.splits.train.labels[indices.to(self.device)]
        return Batch(images, targets, self.ask_teacher(images), indices)

    def cut(self, indices: Tensor, view_ids: Tensor) -> Tensor:
        """The views of these samples: float32 [B, 3, H, W], normalised."""
        images = self.splits.train.images[indices.to(self.device)]
        return self.splits.normalized(self.splits.views.apply(images, view_ids[indices].to(self.device)))

    @torch.no_grad()
    def ask_teacher(self, images: Tensor) -> Tensor:
        """Teacher logits [B, C]."""
        logits: Tensor = self.teacher(images)
        return logits

    @torch.no_grad()
    def scoring_logits(self, batch: Batch) -> Tensor:
        """Student logits [B, C] in eval mode: batch statistics move once a step, when it trains."""
        self.student.eval()
        logits: Tensor = self.student(batch.images)
        self.student.train()
        return logits

    def step(self, batch: Batch, weights: Tensor | None) -> Tensor:
        """One update. Args: weights [B] of the distillation term. Returns: the loss, a scalar, detached."""
        logits = self.student(batch.images)
        distillation = self.distill(logits, batch.teacher_logits, batch.targets)
        if weights is not None:
            distillation = weights * distillation
        label_loss = functional.cross_entropy(logits, batch.targets, reduction="none")
        loss = (self.ce_weight * label_loss + self.kd_weight * distillation).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        return loss.detach()

    def flops(self) -> tuple[float, float, float]:
        """Floating point operations per sample: student forward, student forward and backward, teacher forward."""
        images = self.splits.normalized(self.splits.train.images[:2])
        student_forward = _counted(partial(_no_grad, self.student.eval(), images))
        student_step = _counted(lambda: self.student(images).sum().backward())
        teacher_forward = _counted(partial(_no_grad, self.teacher, images))
        self.student.train()
        self.optimizer.zero_grad(set_to_none=True)
        return student_forward / 2, student_step / 2, teacher_forward / 2


@torch.no_grad()
def _no_grad(model: nn.Module, images: Tensor) -> None:
    model(images)


def _counted(work: Callable[[], object]) -> float:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())
