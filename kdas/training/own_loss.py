"""Tries a user's own loss on drawn numbers, with a backward pass: what it would spoil silently is one line instead."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Collection, Iterator, Sequence
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

from kdas.errors import UserError
from kdas.losses import LOSSES, Distillation, Loss, LossContext, LossNeed
from kdas.losses.interface import FEATURES, MAPS, STRONG
from kdas.losses.terms import keywords_of
from kdas.models.own import refuse_lazy
from kdas.parts.registry import undeclared

# Of what a loss is tried on.
_SAMPLES, _CLASSES, _WIDTH = 4, 10, 64
_MAPS = ((8, 8, 8), (16, 8, 8), (32, 4, 4), (_WIDTH, 2, 2))


# The attributes of its context that a loss may read only with one of these needs.
_NEEDED_FOR = {
    **dict.fromkeys(("student_width", "teacher_width"), FEATURES | MAPS),
    **dict.fromkeys(
        ("student_maps", "student_preact_maps"), frozenset({LossNeed.STUDENT_MAPS, LossNeed.STUDENT_PREACT_MAPS})
    ),
    **dict.fromkeys(
        ("teacher_maps", "teacher_preact_maps"),
        frozenset({LossNeed.TEACHER_MAPS, LossNeed.TEACHER_PREACT_MAPS, LossNeed.TEACHER_BATCH_NORMS}),
    ),
    "class_means": frozenset({LossNeed.CLASS_MEANS}),
    "teacher_batch_norms": frozenset({LossNeed.TEACHER_BATCH_NORMS}),
}


def try_loss(part: dict[str, Any]) -> None:
    """Build a loss and train on it once.

    Raises: UserError: if it uses what its needs do not name, changes what it is given, returns no loss [B] that depends
        on the student, has gradients that are not finite, or trains what it does not name as its own.
    """
    name = part["name"]
    targets = torch.arange(_SAMPLES)
    student, teacher = _Drawn(), _Drawn()
    needs = LOSSES[name].needs
    context = _LossContext(
        _WIDTH,
        _WIDTH,
        lambda: torch.randn(_CLASSES, _WIDTH),
        num_classes=_CLASSES,
        num_samples=_SAMPLES,
        labels=targets,
        student_maps=_MAPS,
        teacher_maps=_MAPS,
        student_preact_maps=_MAPS,
        teacher_preact_maps=_MAPS,
        teacher_batch_norms=tuple((torch.ones(channels), torch.zeros(channels)) for channels, *_ in _MAPS[1:]),
    )
    context.watch(name, needs)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Lazy modules are a new feature")  # they are refused below
        distillation = Distillation(part, context)
    try:
        refuse_lazy(distillation, f"loss {name}")
    except ValueError as error:
        raise UserError(f"{error}.") from error
    _check_arguments(name, distillation.losses[0], needs)
    # As in training, the student's answers are results, not leaves.
    leaves = [each.requires_grad_() for each in student.tensors()]
    with torch.enable_grad():
        of_student = _Drawn(*(each.clone() for each in leaves))
    needed: dict[str, Any] = {LossNeed.EPOCH: 1, LossNeed.INDICES: targets, LossNeed.GENERATOR: torch.Generator()}
    needed |= dict(zip(STRONG, (of_student.strong_logits, teacher.strong_logits), strict=True))
    needed |= of_student.named("student") | teacher.named("teacher")
    given = [*of_student.tensors(), *teacher.tensors()]
    versions = [each._version for each in given]
    losses = distillation(of_student.logits, teacher.logits, targets, **needed)
    if versions != [each._version for each in given]:
        raise UserError(
            f"loss {name}: changes a tensor that it is given in place. Make a new one, x = x - y, not x -= y."
        )
    _check_gradients(name, losses, leaves, list(distillation.parameters()))


class _LossContext(LossContext):
    """A context that refuses what the loss has not declared: in a trial it would be empty, or not paid for."""

    def watch(self, name: str, needs: Collection[StrEnum]) -> None:
        object.__setattr__(self, "_watched", (name, needs))

    def __getattribute__(self, attribute: str) -> Any:
        watched, wanted = vars(self).get("_watched") if attribute in _NEEDED_FOR else None, _NEEDED_FOR.get(attribute)
        if watched and wanted and wanted.isdisjoint(watched[1]):
            what = undeclared(f"reads {attribute} of its context", [attribute.replace("_width", "_features")])
            raise UserError(f"loss {watched[0]}: {what} ({LOSSES[watched[0]].file}).")
        return super().__getattribute__(attribute)


def _check_arguments(name: str, loss: Loss, needs: Collection[StrEnum]) -> None:
    """Raises: UserError: if the loss has an argument for what it does not declare, which it would never get."""
    call = loss.forward if isinstance(loss, nn.Module) else loss
    try:
        taken = list(inspect.signature(call).parameters)
    except (TypeError, ValueError):  # of a builtin function
        return
    given = keywords_of(needs)
    every = {keyword: need for need in LossNeed for keyword in keywords_of([need])}
    if lacking := [each for each in taken[3:] if each in every and each not in given]:
        wanted = dict.fromkeys(every[each].value for each in lacking)
        what = f"takes {' and '.join(lacking)}"
        raise UserError(f"loss {name}: {undeclared(what, wanted)} ({LOSSES[name].file}).")


def _check_gradients(name: str, losses: Tensor, leaves: Sequence[Tensor], own: Sequence[Tensor]) -> None:
    strangers = [each for each in _trained(losses) if not any(each is known for known in (*leaves, *own))]
    if strangers:
        raise UserError(
            f"loss {name}: trains a tensor {list(strangers[0].shape)} that its module does not hold, so the optimizer"
            " never sees it. Make the loss an nn.Module, and keep modules in attributes or in nn.ModuleList."
        )
    trained = [each for each in own if each.requires_grad]
    found = torch.autograd.grad(losses.mean(), [*leaves, *trained], allow_unused=True) if losses.requires_grad else []
    if all(each is None for each in found[: len(leaves)]):
        raise UserError(
            f"loss {name}: does not depend on the student, so it teaches nothing. Leave out detach(), no_grad() and"
            " argmax() on the student's side."
        )
    if not all(each is None or each.isfinite().all() for each in found):
        raise UserError(
            f"loss {name}: has a gradient that is not finite. Often it is that of a root, a norm or a division at 0, as"
            " for the distance of a sample from itself: clamp before the root."
        )


class _Drawn:
    """What a model answers to a batch: drawn numbers, unless tensors are given in the order of `tensors`."""

    def __init__(self, *given: Tensor) -> None:
        answers = iter(given or self._draw())
        self.logits, self.strong_logits, self.features = next(answers), next(answers), next(answers)
        self.maps, self.preact_maps = (tuple(next(answers) for _ in _MAPS) for _ in range(2))

    def tensors(self) -> list[Tensor]:
        return [self.logits, self.strong_logits, self.features, *self.maps, *self.preact_maps]

    def named(self, who: str) -> dict[str, Any]:
        """The keywords of a loss, except those of the strong view. Args: who: student or teacher."""
        return {f"{who}_features": self.features, f"{who}_maps": self.maps, f"{who}_preact_maps": self.preact_maps}

    @staticmethod
    def _draw() -> Iterator[Tensor]:
        yield from torch.randn(2, _SAMPLES, _CLASSES)
        yield torch.randn(_SAMPLES, _WIDTH)
        for shape in (*_MAPS, *_MAPS):
            yield torch.randn(_SAMPLES, *shape)


def _trained(result: Tensor) -> list[Tensor]:
    """The leaves that a result would train: each is held by a node of the graph that adds to its gradient."""
    waiting, seen, leaves = [result.grad_fn], set[Any](), []
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            leaves.append(node.variable)
        waiting += [following for following, _ in node.next_functions]
    return leaves
