"""What is wrong with a text that is not YAML, in plain words, at the line that has the mistake."""

from __future__ import annotations

import re
from typing import Any

import yaml

from kdas.errors import brief
from kdas.parts.hints import invisible_in

_COLON = re.compile(r":([ \t]|$)")
_NEEDS_QUOTES = "text that begins with '{sign}' needs quotes. Put it in quotes"
# A part of what the parser says, and what it means. `sign`: the first character of what it was reading; `found`: the
# token at which it stopped. The first that fits is told.
_MEANINGS = (
    (r"'\\t' that cannot start", "a tab, where only spaces may indent. Replace it with spaces"),
    (r"cannot start any token", _NEEDS_QUOTES),
    (r"mapping keys are not allowed", _NEEDS_QUOTES),
    (r"(anchor|alias): expected", _NEEDS_QUOTES),
    (r"tag", "text that begins with '!' needs quotes. Put it in quotes"),
    (
        r"undefined alias",
        "the alias *{found} has no anchor &{found} above it. Add the anchor, or put the text in quotes",
    ),
    (
        r"sequence entries are not",
        "a list entry after a colon. Write the list as [a, b], or each entry on its own line",
    ),
    (r"another document|document start", "a second document begins here. Keep one of them"),
    (r"block scalar", "text after '{sign}', which must end its line. Begin the text on the next line"),
    (r"escape", "a backslash in double quotes that YAML does not know. Use single quotes, or write it twice"),
    (r"for merging", "<< takes a block of keys, or an alias of one. Give one of them"),
    (r"node content.* '<", "missing value, or a bracket that is not closed. Add it"),
    (r"node content", "missing value before '{found}'. Give one, or remove '{found}'"),
    (r"block end.* '[\]}]", "a '{found}' that closes nothing. Remove it"),
    (r"block end.* '-", "a list entry among keys. Indent the list below its key, or remove the dash"),
    (r"block end.* '\?", "a key among list entries. Begin it with a dash, or indent it as the keys before the list"),
    (
        r"block end.* '<scalar",
        "text after a closing quote. Use one pair of quotes for the whole value, of a kind that it does not contain",
    ),
    (
        r"block end.* '<block",
        "is indented less than the line above and more than the block around it. Indent it as one of them",
    ),
    (r"", "is not valid YAML. Fix it there"),
)


class RefusedError(yaml.constructor.ConstructorError):
    """Valid YAML that no file of settings needs. Its problem is in plain words, with the remedy."""


def problem_in(text: str, error: yaml.YAMLError) -> str:
    """`line N: what is wrong. Remedy`. Args: error: what the parser raised for `text`."""
    if isinstance(error, yaml.reader.ReaderError):
        return f"contains the control character {chr(int(error.character))!r}. Remove it"
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return "is not valid YAML. Fix the file"
    lines, mark, problem = lines_of(text), error.problem_mark, error.problem or ""
    if isinstance(error, RefusedError):
        return f"{_at(mark)}: {problem}"
    return _misplaced_colon(lines, error, mark) or _not_closed(lines, error, mark) or _in_words(lines, error, mark)


def lines_of(text: str) -> list[str]:
    """The lines of a text, as YAML counts them."""
    return re.split("\r\n|[\n\r\x85\u2028\u2029]", text)


def without_colon(lines: list[str], number: int) -> str:
    """The message for a line that should be `key: value`. Args: number: of the line, from 0."""
    written = lines[number].strip()
    if invisible := invisible_in(written):
        return f"line {number + 1}: contains {invisible}. Replace it with a plain space"
    key, sign, value = [*re.split(r"\s*([:=]|\s)\s*", written, maxsplit=1), "", ""][:3]
    lacks = "space after the colon" if sign == ":" else "colon"
    remedy = f"Write {key}: {value or 'and its value'}" if key and len(written) <= 80 else "Write key: value"
    return f"line {number + 1}: missing {lacks} in {brief(written)}. {remedy}"


def without_comment(line: str) -> str:
    """A line without its comment, and without blanks at its ends."""
    return re.sub(r"(^|\s)#.*", "", line).strip()


def _misplaced_colon(lines: list[str], error: yaml.MarkedYAMLError, mark: Any) -> str:
    """The message where a colon is missing, which the parser notices in a later line, or too many; else empty."""
    problem, before = error.problem or "", error.context_mark
    if problem == "could not find expected ':'" and before is not None:
        return without_colon(lines, before.line)
    is_within_value = problem == "mapping values are not allowed here"
    if not is_within_value and "but found '<block mapping" not in problem:
        return ""
    if is_within_value and _COLON.search(lines[mark.line][: mark.column]):
        return f"{_at(mark)}: a second colon in one line. Put the value in quotes, or begin a new line"
    above = [number for number in range(mark.line) if without_comment(lines[number])]
    if above and _lacks_colon(without_comment(lines[above[-1]])):
        return without_colon(lines, above[-1])
    if above and is_within_value:
        return (
            f"line {mark.line + 1}: is indented below line {above[-1] + 1}, which has a value already. Indent both"
            " alike, or remove that value"
        )
    return ""


def _lacks_colon(written: str) -> bool:
    """Whether a line is no key, entry of a list, directive or end of a document."""
    return not _COLON.search(written) and not written.startswith(("- ", "---", "...", "%"))


def _not_closed(lines: list[str], error: yaml.MarkedYAMLError, mark: Any) -> str:
    """The message for a bracket or quote that is not closed, at its place; else empty."""
    problem, begin = error.problem or "", error.context_mark
    if "but got" in problem and begin is not None:
        sign = lines[begin.line][begin.column]
        closing = "}" if sign == "{" else "]"
        end = "the end of the file" if "stream end" in problem else f"line {mark.line + 1}, column {mark.column + 1}"
        return f"{_at(begin)}: missing '{closing}' for this '{sign}', or a comma, before {end}. Add it"
    if "unexpected end of stream" in problem or "unexpected document separator" in problem:
        return f"{_at(begin or mark)}: this quote is not closed. Add the closing quote"
    return ""


def _in_words(lines: list[str], error: yaml.MarkedYAMLError, mark: Any) -> str:
    problem, begin = error.problem or "", error.context_mark or mark
    if "<document start>" in problem and any(line.startswith("%") for line in lines):
        return f"{_at(mark)}: the line before it begins with %, as no setting does. Remove that line"
    meaning = next(text for pattern, text in _MEANINGS if re.search(pattern, f"{error.context}: {problem}"))
    found = problem.rpartition(" ")[2].strip("'")
    return f"{_at(mark)}: {meaning.format(sign=lines[begin.line][begin.column : begin.column + 1], found=found)}"


def _at(mark: Any) -> str:
    return f"line {mark.line + 1}, column {mark.column + 1}"
