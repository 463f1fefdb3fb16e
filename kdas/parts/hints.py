"""Guesses what a user meant: a key at another level, or a value in another notation."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence

from kdas.errors import alike, nearest

# Abbreviations that the field uses for keys of ours.
_ABBREVIATIONS = {
    "lr": "learning_rate",
    "wd": "weight_decay",
    "bs": "batch_size",
    "tau": "temperature",
    "t": "temperature",
}
# What other programs call the keys of a range.
_OF_RANGES = {
    **dict.fromkeys(("min", "minimum", "lower"), "low"),
    **dict.fromkeys(("max", "maximum", "upper"), "high"),
    **dict.fromkeys(("values", "options", "categories"), "choices"),
}
# Keys that mean something else in each block, so one of another block is no hint.
_OF_EACH_BLOCK = ("name", "direction")
# Keys by which other programs choose an optimizer.
_CHOOSES = ("type", "optimizer", "algorithm", "kind")
# At most this many keys are listed if none is similar to the given one.
_LISTED = 12
_WITHOUT_UNIT = "Write a number without a unit."
# What YAML 1.1 reads as true and false, and YAML 1.2 as text.
_WORDS = {
    **dict.fromkeys(("on", "yes", "y"), "true"),
    **dict.fromkeys(("off", "no", "n"), "false"),
}


def written_out(name: str) -> str:
    """A key in lower case, with the field's usual abbreviations written out."""
    return _ABBREVIATIONS.get(name.lower(), name.lower())


def unknown_key(key: str, known: Sequence[str], places: Iterable[str] = ()) -> str:
    """The message for an unknown key.

    Args: key: the full path of the key; known: the keys of its block; places: full paths of all keys of the file.
    """
    block, _, name = key.rpartition(".")
    if invisible := invisible_in(name):
        return f"contains {invisible}. Write {_visible(name)}."
    if name.lower() in _CHOOSES and block.rpartition(".")[2] == "optimizer":
        return "unknown key. Did you mean name?"
    meant = written_out(name)
    if _OF_RANGES.get(meant) in known:
        return f"unknown key. Did you mean {_OF_RANGES[meant]}?"
    if meant in known and meant != name:
        return f"unknown key. Did you mean {meant}?"
    other_places = () if block and meant in _OF_EACH_BLOCK else (place for place in places if place != key.lower())
    elsewhere = _elsewhere(meant, block, other_places)
    near = alike(name, known)
    if elsewhere and near and _is_slip(name, near[0]):
        return f"unknown key. Did you mean {near[0]}? Or write it as {' or '.join(elsewhere)}."
    if len(elsewhere) == 1:
        under = elsewhere[0].rpartition(".")[0]
        return f"unknown key. Write it {f'under {under}' if under else 'at the top level'}: {elsewhere[0]}."
    if elsewhere:
        return f"unknown key. Write it as {' or '.join(elsewhere)}."
    if near or len(known) <= _LISTED:
        return f"unknown key. {nearest(name, known)}"
    return "unknown key. Remove it; docs/sweep-file.md lists all keys."


def _elsewhere(name: str, block: str, places: Iterable[str]) -> list[str]:
    """Keys of that name in other blocks: those below the same block, or else the outermost."""
    found = [place for place in places if place.rpartition(".")[2].lower() == name]
    below = [place for place in found if block and place.startswith(f"{block}.")]
    depths = [place.count(".") for place in below or found]
    return [place for place in dict.fromkeys(below or found) if place.count(".") == min(depths)]


def _is_slip(name: str, near: str) -> bool:
    """Whether two names differ in one or two letters."""
    return difflib.SequenceMatcher(None, name.lower(), near).ratio() >= 0.8 and abs(len(name) - len(near)) <= 1


def meant_value(value: object, expected: str) -> str:
    """How to write the value that was probably meant; "" if that is unknown.

    Args: expected: what is allowed, in words: a number, a whole number, a list, true or false.
    """
    if not isinstance(value, str):
        return ""
    if invisible := invisible_in(value):
        return f"It contains {invisible}; write {_visible(value)}."
    text = value.strip().lower()
    if "true" in expected:
        return f"{value} is text; write {_WORDS[text]}." if text in _WORDS else ""
    number = _meant_number(value, is_whole="whole" in expected) if "number" in expected else ""
    if not number and "list" in expected and re.fullmatch(r"[-\d.]+(\s*,\s*[-\d.]+)+", text):
        return f"Write [{', '.join(re.split(r'[ ,]+', text))}]."
    return number


def _meant_number(value: str, *, is_whole: bool) -> str:
    text = value.strip()
    if is_whole and re.fullmatch(r"[-+]?\d{1,3}([, .']000)+", text):  # other digits may be a list
        return f"Write {re.sub('[^-0-9]', '', text)}."
    if is_whole and "," in text:
        return ""
    if re.fullmatch(r"[-+]?\d+,\d+", text):
        return f"Write {text.replace(',', '.')}, with a point."
    if re.fullmatch(r"[-+]?\d{1,3}([_ ']\d{3})+", text):
        return f"Write {re.sub(r'[^-+0-9]', '', text)}."
    if re.fullmatch(r"\d+(:[0-5]?\d)+", text):
        hours, minutes = (int(part) for part in text.split(":")[:2])
        return f"{text} is text, not a time; in hours it is {hours + minutes / 60:g}."
    if re.fullmatch(r"\d{4}-\d\d?-\d\d?.*", text):
        return f"{text} is text, not a date."
    if text.endswith("%") and text[:-1].isdigit():
        return f"Write {int(text[:-1]) / 100:g}."
    return _WITHOUT_UNIT if re.fullmatch(r"[-+]?\d+(\.\d+)?\s*[A-Za-z]{1,8}", text) else ""


def with_hint(meant: str, hint: str) -> str:
    """The remedy for a value: how to write it, else what the key is for; both if only the key tells the unit."""
    return f"{meant} {hint}".rstrip() if meant == _WITHOUT_UNIT else meant or hint


def _visible(text: str) -> str:
    """The text with plain blanks and without invisible characters."""
    return "".join(each for each in unicodedata.normalize("NFKC", text) if unicodedata.category(each) != "Cf").strip()


def invisible_in(text: str) -> str:
    """The name of the first character that is invisible, or only looks like a blank."""
    for each in text:
        if each != " " and (unicodedata.category(each) in ("Cf", "Zs", "Zl", "Zp")):
            return f"an invisible character ({unicodedata.name(each, 'unnamed').lower()})"
    return ""


def invisible_around(text: str) -> str:
    """The same for a character at either end of a text, or before the sign of a comment."""
    ends = [text[:1], text[-1:], *(text[place - 1] for place in range(1, len(text)) if text[place] == "#")]
    return invisible_in("".join(ends))
