"""The distillation loss of a trial: one loss, or the weighted sum of several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from torch import Tensor, nn

from kdas.errors import UserError
from kdas.losses.entropy import entropy_adaptive_weights
from kdas.losses.interface import AT_BUILDING, LOSSES, STRONG, Loss, LossContext, LossNeed
from kdas.parts.terms import as_terms


def needs_of(loss: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> frozenset[LossNeed]:
    """What the losses need beyond logits and targets."""
    return frozenset(LossNeed(need) for _, part in as_terms(loss) for need in LOSSES[part["name"]].needs)


def keywords_of(needs: Iterable[StrEnum]) -> list[str]:
    """The keywords with which a loss is called."""
    at_call = [need for need in needs if need not in AT_BUILDING]
    return [name for need in at_call for name in (STRONG if need == LossNeed.STRONG_VIEW else (need.value,))]


class Distillation(nn.Module):
    """The weighted sum of the losses; holds their parameters, if any."""

    def __init__(
        self, loss: Mapping[str, Any] | Sequence[Mapping[str, Any]], context: LossContext | None = None
    ) -> None:
        super().__init__()
        self.needs = needs_of(loss)
        self._terms: list[tuple[str, float, bool, Loss, list[str]]] = []
        for weight, part in as_terms(loss):
            built = LOSSES.build(part, context)
            if isinstance(built, nn.Module):
                self.add_module(f"term{len(self._terms)}", built)
            at_call = keywords_of(LOSSES[part["name"]].needs)
            self._terms.append((part["name"], weight, part.get("entropy_adaptive", False), built, at_call))

    @property
    def losses(self) -> list[Loss]:
        """The losses that are summed, in their order."""
        return [loss for *_, loss, _ in self._terms]

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, **needed: Any) -> Tensor:
        """Args: as for a `Loss`, with everything that any of them needs. Returns: loss [B]."""
        values = []
        for name, weight, is_entropy_adaptive, loss, needs in self._terms:
            value = loss(student_logits, teacher_logits, targets, **{need: needed[need] for need in needs})
            if value.shape != targets.shape:
                raise UserError(
                    f"loss {name}: returns shape {list(value.shape)} for a batch of {len(targets)}. Return one value"
                    " per sample; the trainer applies weights and takes the mean."
                )
            if is_entropy_adaptive:
                value = entropy_adaptive_weights(student_logits, teacher_logits) * value
            values.append(weight * value)
        total: Tensor = sum(values[1:], start=values[0])
        return total
