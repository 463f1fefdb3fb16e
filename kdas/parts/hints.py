"""What a user probably meant: a key at another level, a value that is written in another way."""

from __future__ import annotations

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
# At most this many keys are listed if none is similar to the given one.
_LISTED = 12
# What YAML 1.1 reads as true and false, and YAML 1.2 as text.
_WORDS = {
    **dict.fromkeys(("on", "yes", "y"), "true"),
    **dict.fromkeys(("off", "no", "n"), "false"),
}


def written_out(name: str) -> str:
    """A key in small letters, an abbreviation of the field written out."""
    return _ABBREVIATIONS.get(name.lower(), name.lower())


def unknown_key(key: str, known: Sequence[str], places: Iterable[str] = ()) -> str:
    """The message for a key that its block does not have.

    Args: key: the full path of the key; known: the keys of its block; places: full paths of all keys of the file.
    """
    block, _, name = key.rpartition(".")
    if invisible := _invisible(name):
        return f"contains {invisible}. Write {_visible(name)}."
    meant = written_out(name)
    if meant in known and meant != name:
        return f"unknown key. Did you mean {meant}?"
    elsewhere = _elsewhere(meant, block, (place for place in places if place != key.lower()))
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
    """The keys of that name in other blocks: those below the same block, else the outermost."""
    found = [place for place in places if place.rpartition(".")[2].lower() == name]
    below = [place for place in found if block and place.startswith(f"{block}.")]
    depths = [place.count(".") for place in below or found]
    return [place for place in dict.fromkeys(below or found) if place.count(".") == min(depths)]


def _is_slip(name: str, near: str) -> bool:
    """Whether two names differ in a letter or two."""
    return bool(alike(name, [near])) and abs(len(name) - len(near)) <= 1


def meant_value(value: object, expected: str) -> str:
    """How to write the value that was probably meant; empty where there is no telling.

    Args: expected: what is allowed, in words: a number, a whole number, true or false.
    """
    if not isinstance(value, str):
        return ""
    if invisible := _invisible(value):
        return f"It contains {invisible}; write {_visible(value)}."
    text = value.strip().lower()
    if "true" in expected:
        return f"{value} is text; write {_WORDS[text]}." if text in _WORDS else ""
    if "number" in expected:
        return _meant_number(value, is_whole="whole" in expected)
    return ""


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
    return ""


def _visible(text: str) -> str:
    """Text with plain blanks and no invisible characters."""
    return "".join(each for each in unicodedata.normalize("NFKC", text) if unicodedata.category(each) != "Cf").strip()


def _invisible(text: str) -> str:
    """The name of the first character of a text that looks like a blank, or like nothing, and is something else."""
    for each in text:
        if each != " " and (unicodedata.category(each) in ("Cf", "Zs", "Zl", "Zp")):
            return f"an invisible character ({unicodedata.name(each, 'unnamed').lower()})"
    return ""
