"""Keys of a sweep file that may be given in a short form, such as `seeds: 3` for a list of three seeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, BeforeValidator
from pydantic_core import PydanticCustomError

from kdas.errors import brief
from kdas.parts.hints import meant_value
from kdas.parts.reading import refused


def short_form(written_out: Callable[[Any], Any], expected: str, *long_forms: type, schema: Any) -> BeforeValidator:
    """A validator that writes out the short form of a key and refuses what is neither the short nor a long form.

    Args: written_out: returns the long form of a short one, and anything else unchanged; expected: all forms in words,
        for the error; long_forms: types of the long form; schema: the type of all forms, for the JSON schema.
    """
    blocks = [form for form in long_forms if issubclass(form, BaseModel)]

    def checked(given: Any) -> Any:
        content = written_out(given)
        if isinstance(content, long_forms):
            return content
        if not blocks:  # the reader adds the description of the key
            raise PydanticCustomError("form", "{expected}", {"expected": expected})
        known = ", ".join(blocks[0].model_fields)
        raise refused(
            f"expected {expected}, got {brief(given)}. {meant_value(given, expected) or f'Known keys: {known}.'}"
        )

    return BeforeValidator(checked, json_schema_input_type=schema)
