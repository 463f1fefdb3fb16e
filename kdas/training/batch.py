"""Batches of views with the teacher's answers, and how they are split and joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdas.data import batches_of


@dataclass(frozen=True)
class TeacherAnswer:
    """The teacher's answer to a batch: logits [B, C]; features [B, D], if a loss needs them."""

    logits: Tensor
    features: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """images float32 [B, 3, H, W], normalised; targets [B]; indices [B]; the teacher's answer, if it is known.

    All of it is on the device.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    answer: TeacherAnswer | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def rows(self, positions: Tensor) -> Batch:
        """The samples at these positions, with the teacher's answer to them."""
        answer = self.answer
        if answer is not None:
            features = None if answer.features is None else answer.features[positions]
            answer = TeacherAnswer(answer.logits[positions], features)
        return Batch(self.images[positions], self.targets[positions], self.indices[positions], answer)


def joined(batches: Sequence[Batch]) -> Batch:
    """One batch made of several, of which all or none have the teacher's answer."""
    if len(batches) == 1:
        return batches[0]
    answers = [batch.answer for batch in batches if batch.answer is not None]
    answer = None
    if answers:
        features = [each.features for each in answers if each.features is not None]
        answer = TeacherAnswer(torch.cat([each.logits for each in answers]), torch.cat(features) if features else None)
    images = torch.cat([batch.images for batch in batches])
    targets = torch.cat([batch.targets for batch in batches])
    return Batch(images, targets, torch.cat([batch.indices for batch in batches]), answer)


def taken(waiting: list[Batch], batch_size: int, all_of_them: bool) -> list[Batch]:
    """Remove all full batches from the waiting samples, with `all_of_them` also the rest, and return them."""
    if not waiting or (not all_of_them and sum(map(len, waiting)) < batch_size):
        return []
    chosen = joined(waiting)
    waiting.clear()
    if len(chosen) == batch_size:
        return [chosen]
    num_taken = len(chosen) if all_of_them else len(chosen) - len(chosen) % batch_size
    positions = torch.arange(len(chosen), device=chosen.targets.device)
    if num_taken < len(chosen):
        waiting.append(chosen.rows(positions[num_taken:]))
    batches = [chosen.rows(each) for each in batches_of(positions[:num_taken], batch_size)]
    # At the end of an epoch a single sample may be left over, which batch norm cannot take.
    return [batch for batch in batches if len(batch) > 1]
