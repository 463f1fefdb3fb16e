"""Checks settings against a schema; each mistake becomes one line that names file, key, value and remedy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import ErrorDetails, PydanticCustomError

from kdas.errors import UserError, brief
from kdas.parts.fields import description_at, fields_at, interval_at, places
from kdas.parts.hints import meant_value, unknown_key, with_hint

# What was expected, by pydantic's type of error; pydantic's other messages say it themselves.
_EXPECTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    "finite_number": "a finite number",
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    "string_type": "text",
    **dict.fromkeys(("list_type", "tuple_type"), "a list"),
}
_BOUNDS = {
    "greater_than": "a value over {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "a value below {lt}",
    "less_than_equal": "at most {le}",
}
# At most this many mistakes of one file are told.
MOST_TOLD = 10
Schema = TypeVar("Schema", bound=BaseModel)
Checks = Iterable[Callable[[], object]]


@dataclass(frozen=True)
class Mistake:
    """One mistake: the path of its key, and what is wrong with it. `known`: the keys of its block, if it is unknown."""

    key: str
    text: str = ""
    known: tuple[str, ...] | None = None

    def below(self, key: str) -> Mistake:
        """The same mistake in a block under `key`."""
        return Mistake(".".join(filter(None, (key, self.key))), self.text, self.known)

    def line(self, all_keys: Iterable[str] = ()) -> str:
        """Key and text. Args: all_keys: full paths of those of the file, to find where an unknown key belongs."""
        text = self.text if self.known is None else unknown_key(self.key, self.known, all_keys)
        return f"{self.key}: {text}" if self.key else text


def refusal(*mistakes: Mistake) -> PydanticCustomError:
    """The error that a validator raises for mistakes in the block that it checks."""
    told = " ".join(mistake.line() for mistake in mistakes)
    return PydanticCustomError("mistakes", "{told}", {"told": told, "mistakes": mistakes})


def refused(text: str, key: str = "") -> PydanticCustomError:
    """What a validator raises for one mistake. Args: key: its path, below the key that is checked."""
    return refusal(Mistake(key, text))


def told_by(error: ValueError) -> list[Mistake]:
    """The mistakes in a validator's error: those of a `refusal`, or a text that begins with the key."""
    if isinstance(error, PydanticCustomError):
        return list((error.context or {})["mistakes"])
    key, colon, text = str(error).partition(": ")
    return [Mistake(key, sentence(text)) if colon else Mistake("", sentence(key))]


def below(key: str, error: ValueError) -> PydanticCustomError:
    """The mistakes of a block under `key`, told by a validator's error, as a `refusal`."""
    return refusal(*(mistake.below(key) for mistake in told_by(error)))


def check_all(*checks: Callable[[], object]) -> None:
    """Run all checks. Raises: PydanticCustomError: names the mistakes of all that raised a ValueError."""
    found: list[Mistake] = []
    for check in checks:
        try:
            check()
        except ValueError as error:
            found += told_by(error)
    if found:
        raise refusal(*found)


def validated(model: type[Schema], content: Mapping[str, Any], *, source: str) -> Schema:
    """`content` as an instance of `model`.

    Args: source: file named in the message.
    Raises: UserError: for each mistake a line with file, key, value and remedy.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise user_error(error, model, lambda key: source) from error


def user_error(error: ValidationError, model: type[BaseModel], source_of: Callable[[str], str]) -> UserError:
    """All mistakes in `error`, a line each, up to `MOST_TOLD` of them. Args: source_of: the file that has a key."""
    mistakes, all_keys = mistakes_in(error, model), list(places(model))
    lines = [f"{source_of(mistake.key)}: {mistake.line(all_keys)}" for mistake in mistakes[:MOST_TOLD]]
    more = len(mistakes) - MOST_TOLD
    if more > 0:
        lines.append(f"{source_of(mistakes[MOST_TOLD].key)}: and {more} more mistake{'s' if more > 1 else ''}.")
    return UserError(*lines)


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first mistake in `error` as `key: expected what, got value. remedy`, and the number of others."""
    mistakes = mistakes_in(error, model)
    first, more = mistakes[0].line(), len(mistakes) - 1
    return first if not more else f"{first} (and {more} more mistake{'s' if more > 1 else ''})"


def mistakes_in(error: ValidationError, model: type[BaseModel]) -> list[Mistake]:
    """All mistakes in `error`, each once."""
    found = [mistake for detail in error.errors() for mistake in _mistakes(detail, model)]
    return list(dict.fromkeys(found))


def further_mistakes(
    model: type[Schema], content: Mapping[str, Any], found: Iterable[Mistake], checks_of: Callable[[Schema], Checks]
) -> list[Mistake]:
    """The mistakes that pydantic does not look for once it has found others: in other keys, and between keys.

    Args: checks_of: the checks of a whole block. One that needs a key with a mistake is left out.
    """
    wrong = {mistake.key.partition(".")[0] for mistake in found}
    further: list[Mistake] = []
    values: dict[str, Any] = {}
    for name in model.model_fields:
        if name in wrong or name not in content:
            continue
        try:
            values[name] = getattr(_alone(model, name).model_validate({name: content[name]}), name)
        except ValidationError as error:
            further += mistakes_in(error, model)
            wrong.add(name)
    known = tuple(model.model_fields)
    further += [Mistake(str(key), known=known) for key in content if str(key) not in {*known, *wrong}]
    partial = model.model_construct(**values)
    for name in wrong:  # which has a default, or nothing
        partial.__dict__.pop(name, None)
    for check in checks_of(partial):
        try:
            check()
        except AttributeError:
            continue
        except ValueError as error:
            further += told_by(error)
    return further


@functools.cache
def _alone(model: type[BaseModel], name: str) -> type[BaseModel]:
    """A block with one key of `model`."""
    field = model.model_fields[name]
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    alone: type[BaseModel] = create_model(name, __config__=config, **{name: (field.annotation, field)})  # type: ignore[call-overload]
    return alone


def _mistakes(detail: ErrorDetails, model: type[BaseModel]) -> list[Mistake]:
    keys = [str(key) for key in detail["loc"] if key != "[key]"]
    where = ".".join(keys)
    if detail["type"] == "mistakes":  # the block's own validator has said where and what
        return [mistake.below(where) for mistake in detail["ctx"]["mistakes"]]
    if detail["type"] == "value_error":  # our own validators name the value and the remedy themselves
        message = detail["msg"].removeprefix("Value error, ")
        return [Mistake(where, sentence(message))] if where else told_by(ValueError(message))
    if detail["type"] == "extra_forbidden":
        return [Mistake(where, known=tuple(fields_at(model, keys[:-1])))]
    return [Mistake(where, _text(detail, model, keys))]


def _text(detail: ErrorDetails, model: type[BaseModel], keys: list[str]) -> str:
    hint = description_at(model, keys)
    match detail["type"]:
        case "model_type" | "model_attributes_type" | "dict_type":
            known = fields_at(model, keys)
            listed = f" Known keys: {', '.join(known)}." if known else ""
            named = isinstance(detail["input"], str) and "name" in known
            meant = f" Write {keys[-1]}: {{name: {detail['input']}}}." if named else ""
            return f"expected a mapping, got {brief(detail['input'])}.{meant}{listed}"
        case "too_short" if not detail["input"]:
            return f"expected at least one entry, got none. {hint}".rstrip()
        case "string_too_short":
            return f"expected text, got {brief(detail['input'])}. {hint}".rstrip()
        case "too_long":
            return f"expected at most {detail['ctx']['max_length']} entries, got {len(detail['input'])}."
        case "missing":
            return f"missing. Add this key. {hint}".rstrip()
        case "invalid_key":
            return (
                f"expected a word as a key, got {brief(detail['input'])}. Write decimals with a point, words in quotes."
            )
    expected = _expected(detail, model, keys)
    meant = meant_value(detail["input"], expected)
    if detail["input"] is None:
        meant = "The key has no value: give one, or remove the key."
    return f"expected {expected}, got {brief(detail['input'])}. {with_hint(meant, hint)}".rstrip()


def _expected(detail: ErrorDetails, model: type[BaseModel], keys: list[str]) -> str:
    interval = interval_at(model, keys)
    if interval and detail["type"] in _BOUNDS:
        return f"a value in {interval}"
    bound = _BOUNDS.get(detail["type"], "").format(**detail.get("ctx", {}))
    message = detail["msg"].removeprefix("Input ").rstrip(".").removeprefix("should be ")
    return _EXPECTED.get(detail["type"]) or bound or message


def sentence(text: str) -> str:
    """The text with a full stop, unless it asks a question."""
    text = text.rstrip(".")
    return text if text.endswith("?") else f"{text}."


def refuse_booleans_for_numbers(cls: type[BaseModel], content: Any) -> Any:
    """A validator of a whole block: `epochs: true` is a mistake, although Python treats true as 1."""
    found = []
    for name, field in cls.model_fields.items() if isinstance(content, Mapping) else ():
        kinds = get_args(field.annotation) or (field.annotation,)
        if isinstance(content.get(name), bool) and bool not in kinds and (int in kinds or float in kinds):
            text = f"expected a number, got {brief(content[name])}. {field.description or ''}".rstrip()
            found.append(Mistake(name, text))
    if found:
        raise refusal(*found)
    return content


def nested_error(error: ValidationError, model: type[BaseModel]) -> PydanticCustomError:
    """The error of a part's own schema as a `refusal` below the part's key."""
    return refusal(*mistakes_in(error, model))
