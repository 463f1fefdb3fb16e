"""The distillation loss of a trial: one loss, or the weighted sum of several."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from pydantic_core import PydanticCustomError
from torch import Tensor, nn

from kdas.errors import UserError
from kdas.losses.interface import LOSSES, Loss, LossContext, LossNeed

FEATURES = frozenset({LossNeed.STUDENT_FEATURES, LossNeed.TEACHER_FEATURES})


def checked_terms(given: Any) -> Any:
    """The key `loss` of a file: one loss, or a list of losses each with a `weight`; every default is filled in.

    Raises: PydanticCustomError: for the first mistake.
    """
    if not isinstance(given, list):
        return LOSSES.checked(given)
    if not given:
        raise PydanticCustomError(
            "nested", "{text}", {"key": "", "text": "expected a loss, got an empty list. Name one."}
        )
    return [_checked_term(number, term) for number, term in enumerate(given)]


def _checked_term(number: int, given: Any) -> dict[str, Any]:
    try:
        name, parameters = LOSSES.named(given)
        weight = parameters.pop("weight", None)
        if type(weight) not in (int, float) or not 0 <= weight < math.inf:
            text = f"expected a weight of at least 0, got {weight!r}. Give each loss of a list a weight."
            raise PydanticCustomError("nested", "{text}", {"key": "weight", "text": text})
        return {**LOSSES.checked({"name": name, **parameters}), "weight": float(weight)}
    except PydanticCustomError as error:
        context = error.context or {}
        raise PydanticCustomError(
            "nested", "{key}: {text}", {"key": f"{number}.{context['key']}", "text": context["text"]}
        ) from error


def as_terms(loss: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> list[tuple[float, dict[str, Any]]]:
    """(weight, checked part) of each loss under the key `loss` of a file."""
    if isinstance(loss, Mapping):
        return [(1.0, dict(loss))]
    return [(term["weight"], {key: value for key, value in term.items() if key != "weight"}) for term in loss]


def needs_of(loss: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> frozenset[LossNeed]:
    """What the losses need beyond logits and targets."""
    return frozenset(LossNeed(need) for _, part in as_terms(loss) for need in LOSSES[part["name"]].needs)


class Distillation(nn.Module):
    """The weighted sum of the losses; holds their parameters, if any."""

    def __init__(
        self, loss: Mapping[str, Any] | Sequence[Mapping[str, Any]], context: LossContext | None = None
    ) -> None:
        super().__init__()
        self.needs = needs_of(loss)
        self._terms: list[tuple[str, float, Loss, list[StrEnum]]] = []
        for weight, part in as_terms(loss):
            built = LOSSES.build(part, context)
            if isinstance(built, nn.Module):
                self.add_module(f"term{len(self._terms)}", built)
            at_call = [need for need in LOSSES[part["name"]].needs if need is not LossNeed.CLASS_MEANS]
            self._terms.append((part["name"], weight, built, at_call))

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, **needed: Any) -> Tensor:
        """Args: as for a `Loss`, with everything that any of them needs. Returns: loss [B]."""
        values = []
        for name, weight, loss, needs in self._terms:
            value = loss(student_logits, teacher_logits, targets, **{need: needed[need] for need in needs})
            if value.shape != targets.shape:
                raise UserError(
                    f"loss {name}: returns shape {list(value.shape)} for a batch of {len(targets)}. Return one value"
                    " per sample; the trainer applies weights and takes the mean."
                )
            values.append(weight * value)
        total: Tensor = sum(values[1:], start=values[0])
        return total
