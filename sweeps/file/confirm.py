"""The block `confirm` of a sweep file: how many finalists run again, and on how many fresh seeds."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, WrapSerializer, model_serializer, model_validator

from kdas.parts.reading import refused
from kdas.recipe.strict import Strict
from sweeps.file.blocks import MOST_CONFIGURATIONS, MOST_SEEDS, Seed, seeds_counted_from, seeds_from
from sweeps.space.forms import short_form

# Fresh seeds start here, so that a search may get more seeds without running into them.
FIRST_FRESH_SEED = 1001


class ConfirmConfig(Strict):
    """Run finalists and baselines again on fresh seeds: a search favours settings that were lucky on its own seeds."""

    top: int = Field(3, ge=1, le=MOST_CONFIGURATIONS, description="Number of finalists: the best searched settings.")
    seeds: Annotated[list[Seed], seeds_counted_from(FIRST_FRESH_SEED)] = Field(
        default_factory=lambda: seeds_from(FIRST_FRESH_SEED, 10),
        min_length=1,
        max_length=MOST_SEEDS,
        description=f"Number of fresh seeds, counted from {FIRST_FRESH_SEED}, or a list of seeds.",
    )
    until: Literal["decided"] | None = Field(
        None,
        description="decided adds seeds until the answer is decided, or not worth deciding; replaces `seeds`.",
    )
    least: int = Field(5, ge=2, le=MOST_SEEDS, description="Fewest fresh seeds with until: decided.")
    most: int = Field(30, ge=2, le=MOST_SEEDS, description="Most fresh seeds with until: decided.")

    @model_validator(mode="after")
    def _one_way_to_end(self) -> ConfirmConfig:
        given = self.model_fields_set
        if self.until is None:
            for name in sorted({"least", "most"} & given):
                raise refused("expected until: decided beside it. Add until, or give seeds instead.", name)
        elif "seeds" in given:
            remedy = "Remove seeds or until; where this file extends another, write seeds: null."
            raise refused(f"expected none beside until: decided. {remedy}", "seeds")
        elif self.least > self.most:
            raise refused(
                f"expected at most {self.most}, the value of most, got {self.least}. Lower it, or raise most.", "least"
            )
        return self

    @property
    def fresh_seeds(self) -> list[int]:
        """All seeds that may be used."""
        return self.seeds if self.until is None else seeds_from(FIRST_FRESH_SEED, self.most)

    @model_serializer(mode="wrap")
    def _as_given(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys of the other way to end, so that it can be read again."""
        unused = ("until", "least", "most") if self.until is None else ("seeds",)
        return {name: value for name, value in write(self).items() if name not in unused}


def _confirm(given: Any) -> Any:
    return {True: {}, False: None}[given] if isinstance(given, bool) else given


Confirm = Annotated[
    ConfirmConfig | None,
    short_form(_confirm, "true, false or a mapping", Mapping, ConfirmConfig, NoneType, schema=ConfirmConfig | bool),
    # Written as false: in a file that extends another, null would remove the key.
    WrapSerializer(lambda value, write: False if value is None else write(value)),
]
