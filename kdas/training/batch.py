"""Batches of views with the teacher's answers, and how they are split and joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from kdas.data import batches_of
from kdas.transforms import Mixed

# Weights [B] of the distillation term; or what gives them for a part of the batch: from the positions [b] of the part,
# and the student's logits [b, C] there, to weights [b], None for 1.
Weights = Tensor | Callable[[Tensor, Tensor], Tensor | None]


@dataclass(frozen=True)
class Answer:
    """The teacher's answer to a batch: logits [B, C].

    If a loss needs them, features [B, D], maps [B, C, H, W] after and before the activation, and logits [B, C] of the
    strong view.
    """

    logits: Tensor
    features: Tensor | None = None
    maps: tuple[Tensor, ...] = ()
    preact_maps: tuple[Tensor, ...] = ()
    strong_logits: Tensor | None = None

    def rows(self, positions: Tensor) -> Answer:
        """The answer to the samples at these positions."""
        return self.each(lambda tensor: tensor[positions])

    def each(self, change: Callable[[Tensor], Tensor]) -> Answer:
        """The answer with every tensor changed, one that stands in both places only once."""
        changed: dict[int, Tensor] = {}

        def once(tensor: Tensor) -> Tensor:
            if id(tensor) not in changed:
                changed[id(tensor)] = change(tensor)
            return changed[id(tensor)]

        features, strong_logits = (None if one is None else once(one) for one in (self.features, self.strong_logits))
        maps, preact_maps = tuple(map(once, self.maps)), tuple(map(once, self.preact_maps))
        return Answer(once(self.logits), features, maps, preact_maps, strong_logits)


def joined_answers(answers: Sequence[Answer]) -> Answer:
    """One answer made of several."""
    first, *others = answers
    following = {id(own): [own, *theirs] for own, *theirs in zip(_tensors(first), *map(_tensors, others), strict=True)}
    return first.each(lambda tensor: torch.cat(following[id(tensor)]))


def _tensors(answer: Answer) -> list[Tensor]:
    perhaps = [tensor for tensor in (answer.features, answer.strong_logits) if tensor is not None]
    return [answer.logits, *perhaps, *answer.maps, *answer.preact_maps]


@dataclass(frozen=True)
class Batch:
    """images float32 [B, 3, H, W], normalised; targets [B]; indices [B]; the teacher's answer, if it is known.

    All of it is on the device. `mixed` has the second labels, if images are mixtures; `strong_images` the same views
    strongly augmented, if a loss needs them.
    """

    images: Tensor
    targets: Tensor
    indices: Tensor
    answer: Answer | None = None
    mixed: Mixed | None = None
    strong_images: Tensor | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def rows(self, positions: Tensor) -> Batch:
        """The samples at these positions, with the teacher's answer to them."""
        return self.each(lambda tensor: tensor[positions])

    def each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """The batch with every tensor changed; of the answer as in `Answer.each`."""
        answer = None if self.answer is None else self.answer.each(change)
        mixed = None if self.mixed is None else self.mixed.each(change)
        strong_images = None if self.strong_images is None else change(self.strong_images)
        return Batch(change(self.images), change(self.targets), change(self.indices), answer, mixed, strong_images)


@dataclass(frozen=True)
class Views:
    """What a model answers to: images [B, 3, H, W] and, if a loss needs them, the same strongly augmented."""

    images: Tensor
    strong_images: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> Views:
        return Views(change(self.images), None if self.strong_images is None else change(self.strong_images))


@dataclass(frozen=True)
class StepInputs:
    """What a step is given, with weights [B] of the distillation term and of the whole loss."""

    batch: Batch
    weights: Weights | None = None
    loss_weights: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> StepInputs:
        weights = change(self.weights) if isinstance(self.weights, Tensor) else self.weights
        loss_weights = None if self.loss_weights is None else change(self.loss_weights)
        return StepInputs(self.batch.each(change), weights, loss_weights)


@dataclass(frozen=True)
class StepOutputs:
    """The loss that was minimised, a scalar, the unweighted losses [B], and logits [b, C] of each part of the batch."""

    loss: Tensor
    losses: Tensor
    logits: tuple[Tensor, ...]

    def each(self, change: Callable[[Tensor], Tensor]) -> StepOutputs:
        return StepOutputs(change(self.loss), change(self.losses), tuple(map(change, self.logits)))


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    """The cross-entropy [B] on the labels; of mixtures on both, in their shares. Args: logits [B, C]."""
    losses = functional.cross_entropy(logits, batch.targets, reduction="none")
    if batch.mixed is None:
        return losses
    of_others = functional.cross_entropy(logits, batch.mixed.targets, reduction="none")
    return torch.lerp(losses, of_others, batch.mixed.shares)


def joined(batches: Sequence[Batch]) -> Batch:
    """One batch made of several, of which all or none have the teacher's answer."""
    if len(batches) == 1:
        return batches[0]
    answers = [batch.answer for batch in batches if batch.answer is not None]
    answer = joined_answers(answers) if answers else None
    images = torch.cat([batch.images for batch in batches])
    targets = torch.cat([batch.targets for batch in batches])
    seconds = [batch.mixed for batch in batches if batch.mixed is not None]
    mixed = (
        Mixed(*(torch.cat([getattr(each, key) for each in seconds]) for key in ("targets", "shares")))
        if seconds
        else None
    )
    strong = [batch.strong_images for batch in batches if batch.strong_images is not None]
    indices = torch.cat([batch.indices for batch in batches])
    return Batch(images, targets, indices, answer, mixed, torch.cat(strong) if strong else None)


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
