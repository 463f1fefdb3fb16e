"""What all blocks of a file have in common, and their largest numbers."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, model_validator

from kdas.parts.reading import refuse_booleans_for_numbers

# Far above all that makes sense: they catch slips, and what no generator, table or clock can take.
MAX_LEARNING_RATE, MAX_EPOCHS, MAX_BATCH, MAX_REF_S = 1e15, 1_000_000, 1_000_000, 1_000_000_000


class Strict(BaseModel):
    """A block of a file: unknown keys are refused, and values cannot be changed once read."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    _booleans_are_no_numbers = model_validator(mode="before")(refuse_booleans_for_numbers)
