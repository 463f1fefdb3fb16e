"""The values of one searched parameter, and the conditions under which it exists."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from kdas.errors import brief
from kdas.parts.registry import lower_keys
from kdas.recipe.strict import Strict
from sweeps.space.forms import short_form

if TYPE_CHECKING:  # a file is checked without it
    from optuna.distributions import BaseDistribution

# Far above all that makes sense: lists of values that long take long, and memory.
MOST_CHOICES, MOST_LISTED = 1000, 100_000
# Tolerance for multiples of a step: 0.3 + 3 * 0.1 is not exactly 0.6.
_ROUNDING = 1e-9


def _lower_keys(given: Any) -> Any:
    return lower_keys(given) if isinstance(given, dict) else given


class RangeConfig(Strict):
    """Values of one parameter: from `low` to `high`, or one of `choices`."""

    low: float | None = Field(None, description="Smallest value.")
    high: float | None = Field(None, description="Largest value.")
    log: bool = Field(False, description="Whether to draw values evenly on a logarithmic scale.")
    step: float | None = Field(
        None, gt=0, description="Distance between neighbouring values; the last one is high. By default any value."
    )
    choices: list[Any] | None = Field(None, min_length=1, max_length=MOST_CHOICES, description="List of values.")
    when: Annotated[dict[str, Any], BeforeValidator(_lower_keys)] = Field(
        default_factory=dict,
        description="Conditions: other searched parameters, each with the values for which this one exists.",
    )

    @model_validator(mode="after")
    def _one_form(self) -> RangeConfig:
        if self.choices is not None:
            if (self.low, self.high, self.log, self.step) != (None, None, False, None):
                raise ValueError("has both choices and a range. Keep one of them")
            _check_choices(self.choices)
            return self
        if self.low is None or self.high is None:
            raise ValueError("expected low and high, or choices")
        if not self.low < self.high:
            raise ValueError(f"expected low below high, got {self.low:g} and {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs a low above 0, got {self.low:g}")
        if self.step is not None:
            if self.log:
                raise ValueError("has both step and log. Keep one of them")
            _check_step(self.low, self.high, self.step)
        return self

    def values(self, kind: type | None) -> list[Any] | None:
        """All values in order; None if there are infinitely many, or too many. Args: kind: int, float, or None."""
        if self.choices is not None:
            return list(self.choices)
        assert self.low is not None and self.high is not None
        step = self.step or (1.0 if kind is int else None)
        if step is None or (self.high - self.low) / step > MOST_LISTED:
            return None
        return [self._nth(number, step, kind) for number in range(round((self.high - self.low) / step) + 1)]

    def extremes(self, kind: type | None) -> list[Any]:
        """The choices, or the two ends of the range."""
        if self.choices is not None:
            return list(self.choices)
        assert self.low is not None and self.high is not None
        return [int(end) if kind is int else end for end in (self.low, self.high)]

    def holds(self, value: Any) -> bool:
        """Whether the value may be proposed."""
        if self.choices is not None:
            return value in self.choices
        assert self.low is not None and self.high is not None
        if not _is_number(value) or not self.low <= value <= self.high:
            return False
        return self.step is None or _is_whole((value - self.low) / self.step)

    def nearest(self, value: Any, kind: type | None) -> list[Any]:
        """The value itself, or the one closest to it; empty if there is none, as for a word that is no choice."""
        if self.choices is not None:
            numbers = [choice for choice in self.choices if _is_number(choice)] if _is_number(value) else []
            alike = [choice for choice in self.choices if choice == value] or sorted(
                numbers, key=lambda choice: abs(choice - value)
            )
            return alike[:1]
        if not _is_number(value):
            return []
        assert self.low is not None and self.high is not None
        inside = min(max(value, self.low), self.high)
        step = self.step or (1.0 if kind is int else None)
        return [inside if step is None else self._nth(round((inside - self.low) / step), step, kind)]

    def contains(self, other: RangeConfig, kind: type | None) -> bool:
        """Whether whatever is proposed from the other means the same value here. Args: kind: int, float, or None."""
        if self.choices is not None or other.choices is not None:
            return (self.choices is None) == (other.choices is None) and set(other._texts) <= set(self._texts)
        assert self.low is not None and self.high is not None and other.low is not None and other.high is not None
        if self.log != other.log or self.low > other.low or self.high < other.high:
            return False
        usual = 1.0 if kind is int else None
        step, others = self.step or usual, other.step or usual
        if step is not None and others is not None:
            return _is_whole(others / step) and _is_whole((other.low - self.low) / step)
        # A proposal that is rounded beyond an end means the end, so one with more digits cannot move.
        moved = [end for end, now in ((other.low, self.low), (other.high, self.high)) if end != now]
        return step is others and all(_rounded(end) == end for end in moved)

    def distribution(self, kind: type | None) -> BaseDistribution:
        """The values as a distribution of Optuna. Choices become JSON text, since Optuna stores only plain values."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices is not None:
            return CategoricalDistribution(self._texts)
        assert self.low is not None and self.high is not None
        if kind is int:
            return IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def to_optuna(self, value: Any) -> Any:
        # A trial file may contain 1000.0 for the choice 1000.
        return value if self.choices is None else self._texts[self.choices.index(value)]

    def from_optuna(self, value: Any) -> Any:
        """The value that is trained with: real numbers are rounded to four significant digits."""
        if self.choices is not None:
            texts = self._texts
            return copy.deepcopy(self.choices[texts.index(value)]) if value in texts else json.loads(value)
        if not isinstance(value, float):
            return value
        assert self.low is not None and self.high is not None
        if self.step is not None:
            return self._nth(round((value - self.low) / self.step), self.step, float)
        return min(max(_rounded(value), self.low), self.high)

    @property
    def _texts(self) -> list[str]:
        """The choices as JSON. Where a sampler's reference is does not count: the file may move during a sweep."""
        return [
            json.dumps(
                {**choice, "reference": number} if isinstance(choice, dict) and "reference" in choice else choice
            )
            for number, choice in enumerate(self.choices or [])
        ]

    def _nth(self, number: int, step: float, kind: type | None) -> float:
        assert self.low is not None
        value = float(f"{self.low + number * step:.12g}")
        return int(value) if kind is int else value

    def __str__(self) -> str:
        if self.choices is not None:
            return f"one of {brief(list(map(_named, self.choices)), limit=200)}"
        return f"{self.low:g} to {self.high:g}" + (f" in steps of {self.step:g}" if self.step else "")


def _named(choice: Any) -> Any:
    """The name of a part, or the choice itself."""
    return choice.get("name", choice) if isinstance(choice, dict) else choice


def _check_choices(choices: list[Any]) -> None:
    seen: set[str] = set()
    for choice in choices:
        written = json.dumps(choice, sort_keys=True, default=str)
        if written in seen:
            raise ValueError(f"choices: contains {_named(choice)!r} twice. Give each value once")
        seen.add(written)


def _check_step(low: float, high: float, step: float) -> None:
    steps = (high - low) / step
    if _is_whole(steps):
        return
    if steps < 1:
        raise ValueError(f"step {step:g} exceeds the range from {low:g} to {high:g}. Lower it")
    last = low + math.floor(steps) * step
    raise ValueError(f"high {high:g} is not a whole number of steps of {step:g} above {low:g}. Use high: {last:g}")


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_whole(number: float) -> bool:
    return abs(number - round(number)) <= _ROUNDING * max(1.0, abs(number))


def _as_range(given: Any) -> Any:
    return {"choices": given} if isinstance(given, list) else given


Range = Annotated[
    RangeConfig,
    short_form(_as_range, "a list or a mapping", Mapping, RangeConfig, schema=RangeConfig | list[Any]),
]
