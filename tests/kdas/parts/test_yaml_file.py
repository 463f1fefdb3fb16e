"""YAML as files of settings are read: by the core schema of YAML 1.2, and within bounds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdas.errors import UserError
from kdas.parts import yaml_file
from kdas.parts.yaml_file import dump_yaml, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("010", 10),
        ("-007", -7),
        ("+3", 3),
        ("0o10", 8),
        ("0x1F", 31),
        ("1e-3", 0.001),
        ("1E3", 1000.0),
        ("5.", 5.0),
        (".5", 0.5),
        ("-1.5e+2", -150.0),
        (".inf", math.inf),
        ("-.Inf", -math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        # Text here, something else in YAML 1.1.
        ("1:30", "1:30"),
        ("190:20:30", "190:20:30"),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        ("on", "on"),
        ("Off", "Off"),
        ("yes", "yes"),
        ("NO", "NO"),
        ("y", "y"),
        ("2026-01-31", "2026-01-31"),
        ("=", "="),
        # Text in both.
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        ("0,3", "0,3"),
        ('"10"', "10"),
        ("!!str 10", "10"),
    ],
)
def test_plain_value_is_read_as_the_core_schema_has_it(text: str, value: Any) -> None:
    read = parse_yaml(f"key: {text}\n")["key"]
    assert read == value and type(read) is type(value)


def test_not_a_number_is_read() -> None:
    assert math.isnan(parse_yaml("[.nan]")[0])


def test_words_may_be_keys() -> None:
    assert list(parse_yaml("{on: 1, off: 2, yes: 3, no: 4, y: 5}")) == ["on", "off", "yes", "no", "y"]


@pytest.mark.parametrize(
    "text",
    [
        "on",
        "1:30",
        "010",
        "0o10",
        "1e-3",
        "1_000",
        "2026-01-31",
        "null",
        "true",
        "",
        "-",
        "a: b",
        " x",
        "é",
        "\u00a03",
        "a\u00a0b",
    ],
)
def test_text_that_is_written_is_text_again_for_both_versions(text: str) -> None:
    written = dump_yaml({"key": [text, {text: text}]})
    assert parse_yaml(written) == yaml.safe_load(written) == {"key": [text, {text: text}]}


@pytest.mark.parametrize("value", [1e-5, 1e300, 0.1, -3, 10**17, True, None, [], {}, [[1, 3], 1], math.inf])
def test_value_that_is_written_is_the_same_again(value: Any) -> None:
    assert parse_yaml(dump_yaml({"key": value})) == {"key": value}
    assert parse_yaml(yaml.safe_dump({"key": value})) == {"key": value}


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "seeds: " + "[" * 20_000,
            r"line 1, column \d+: more than 50 levels of brackets or indentation\. Fix the YAML",
        ),
        ("a: " + "{a: " * 20_000, r"more than 50 levels"),
        ("".join(f"{' ' * n}a:\n" for n in range(60)), r"line 50, column \d+: more than 50 levels"),
        ("- " * 20_000, r"more than 50 levels"),
        (LAUGHS, r"more than 100,000 values"),
        ("epochs: " + "9" * 5000, r"line 1, column 9: a number of 5000 digits"),
        ("epochs: 0x" + "f" * 5000, r"a number of 5002 digits"),
        ("a: &a [*a]", r"the alias \*a stands for a block that contains it"),
        ("a: *b", r"the alias \*b has no anchor &b above it\. Add the anchor"),
        ("a: 1\na: 2", r"line 2, column 1: the key 'a' is given twice"),
        ("010: a\n10: b", r"the key 10 is given twice"),
        ("? [a]\n: 1", r"keys must be plain words"),
        ("a: !!python/name:os.system x", r"line 1, column 4: the tag !!python/name:os\.system, which no setting needs"),
        ("a: !!set {b}", r"the tag !!set"),
        ("a: !mine b", r"the tag !mine"),
        ("a: !!bool x", r"the tag !!bool"),
        ("a:\n\tb: 1", r"line 2, column 1: a tab, where only spaces may indent"),
        ("a: \x01", r"contains the control character '\\x01'\. Remove it"),
        ("a: 1\n---\nb: 1", r"line 2, column 1: a second document begins here"),
        ("a: [1", r"line 1, column 4: missing '\]' for this '\['.* before the end of the file"),
    ],
    ids=lambda value: value[:24],
)
def test_what_is_no_file_of_settings_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_values_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_file, "MAX_VALUES", 1000)
    assert len(parse_yaml("[" + "1," * 999 + "]")) == 999
    with pytest.raises(ValueError, match=r"more than 1,000 values"):
        parse_yaml("[" + "1," * 1000 + "]")


def test_file_is_read_with_a_byte_order_mark_and_within_a_megabyte(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfepochs: 3\n")
    assert read_yaml(path) == {"epochs": 3}
    path.write_bytes(b"# " + b"x" * 2**20)
    with pytest.raises(UserError, match=r"a\.yaml: expected at most 1 MB of YAML, got more\. Give the path"):
        read_yaml(path)


def test_merge_keys_and_aliases_are_read() -> None:
    content = parse_yaml("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: [*a, *a]\n")
    assert content["b"] == {"x": 1, "y": 3} and content["c"] == [content["a"]] * 2


def test_alias_means_the_last_anchor_of_its_name_above_it() -> None:
    assert parse_yaml("a: &x 1\nb: *x\nc: &x [2]\nd: *x\n") == {"a": 1, "b": 1, "c": [2], "d": [2]}
    with pytest.raises(ValueError, match=r"the alias \*x stands for a block that contains it"):
        parse_yaml("a: &x 1\nb: &x [*x]\n")


# (what a text of YAML says, the line that it is refused with)
UNREADABLE = [
    # A missing colon is told with its own line, though the parser notices it in the next one.
    ("a: 1\nepochs 3\nseeds: 2\n", "line 2: missing colon in 'epochs 3'. Write epochs: 3"),
    ("epochs 3\nseeds: 2\n", "line 1: missing colon in 'epochs 3'. Write epochs: 3"),
    ("a: 1\nepochs 3\n", "line 2: missing colon in 'epochs 3'. Write epochs: 3"),
    ("a:\n  epochs 3\n\n  # why\n  b: 2\n", "line 2: missing colon in 'epochs 3'. Write epochs: 3"),
    ("a:\n  b: [1, 2]\n  c\n  d: 2\n", "line 3: missing colon in 'c'. Write c: and its value"),
    ("search\n  start_rate: [1]\n", "line 1: missing colon in 'search'. Write search: and its value"),
    ("a: 1\nepochs=3\n", "line 2: missing colon in 'epochs=3'. Write epochs: 3"),
    ("a: 1\nepochs:3\n", "line 2: missing space after the colon in 'epochs:3'. Write epochs: 3"),
    (f"a: 1\nb {'x' * 100}\n", f"line 2: missing colon in 'b {'x' * 74}.... Write key: value"),
    ("a:\u00a03\nb: 2\n", "line 1: contains an invisible character (no-break space). Replace it with a plain space"),
    (
        "a:\n  b: 1\n   c: 2\n",
        "line 3: is indented below line 2, which has a value already. Indent both alike, or remove that value",
    ),
    (
        "a:\n  b: 1\n c: 2\n",
        "line 3, column 2: is indented less than the line above and more than the block around it. Indent it as one of"
        " them",
    ),
    ("a: [1, 2\nb: 3\n", "line 1, column 4: missing ']' for this '[', or a comma, before line 2, column 2. Add it"),
    (
        "a: {low: 1 high: 2}\n",
        "line 1, column 4: missing '}' for this '{', or a comma, before line 1, column 16. Add it",
    ),
    ("a: x: 3\n", "line 1, column 5: a second colon in one line. Put the value in quotes, or begin a new line"),
    ('a: 1\n"b: 2\n', "line 2, column 1: this quote is not closed. Add the closing quote"),
    (
        "a: 'it's'\n",
        "line 1, column 8: text after a closing quote. Use one pair of quotes for the whole value, of a kind that it"
        " does not contain",
    ),
    (
        "- a\nb: 1\n",
        "line 2, column 1: a key among list entries. Begin it with a dash, or indent it as the keys before the list",
    ),
    (
        "a: 1\n- b\n",
        "line 2, column 1: a list entry among keys. Indent the list below its key, or remove the dash",
    ),
    (
        "a: - b\n",
        "line 1, column 4: a list entry after a colon. Write the list as [a, b], or each entry on its own line",
    ),
    ("a: @x\n", "line 1, column 4: text that begins with '@' needs quotes. Put it in quotes"),
    ("a: ? x\n", "line 1, column 4: text that begins with '?' needs quotes. Put it in quotes"),
    ("a: *.png\n", "line 1, column 5: text that begins with '*' needs quotes. Put it in quotes"),
    ("a: !x!foo 1\n", "line 1, column 4: text that begins with '!' needs quotes. Put it in quotes"),
    ("%x\na: 1\n", "line 2, column 1: the line before it begins with %, as no setting does. Remove that line"),
    ("a: 1\n...\nb: 2\n", "line 3, column 1: a second document begins here. Keep one of them"),
    ("...\na: 1\n", "line 1, column 1: missing value, or a bracket that is not closed. Add it"),
    ("a: [1,, 2]\n", "line 1, column 7: missing value before ','. Give one, or remove ','"),
    ("a: {b: 1}}\n", "line 1, column 10: a '}' that closes nothing. Remove it"),
    (
        'a: "C:\\qux"\n',
        "line 1, column 8: a backslash in double quotes that YAML does not know. Use single quotes, or write it twice",
    ),
    ("a: > x\n b\n", "line 1, column 6: text after '>', which must end its line. Begin the text on the next line"),
    (
        "a: 1\r\nb: 3\u2028c: 4\rd: [2\n",
        "line 4, column 4: missing ']' for this '[', or a comma, before the end of the file. Add it",
    ),
    ("<<: 3\na: 1\n", "line 1, column 5: << takes a block of keys, or an alias of one. Give one of them"),
]


@pytest.mark.parametrize(("text", "line"), UNREADABLE, ids=[text[:30] for text, _ in UNREADABLE])
def test_what_is_not_yaml_is_told_in_plain_words_at_its_line(text: str, line: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_yaml(text)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\n\u00a0\u00a0b: 2\n", "line 2, column 1: contains an invisible character (no-break space)."),
        ("a: \u00a03\n", "line 1, column 4: contains an invisible character (no-break space)."),
        ("a: 3\u00a0# comment\n", "line 1, column 4: contains an invisible character (no-break space)."),
        ("learning\u00a0rate: 3\n", "line 1, column 1: contains an invisible character (no-break space)."),
        ("\u200ba: 3\n", "line 1, column 1: contains an invisible character (zero width space)."),
    ],
)
def test_invisible_character_around_a_value_or_in_a_key_is_told_with_its_line(text: str, place: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_yaml(text)
    assert str(caught.value) == f"{place} Replace it with a plain space, or remove it"


def test_invisible_characters_within_a_value_or_in_quotes_are_kept() -> None:
    assert parse_yaml("a: shot\u202f1.png\nb: '\u00a03'\n") == {"a": "shot\u202f1.png", "b": "\u00a03"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("# a sweep\nepochs 3\n", "line 2: missing colon in 'epochs 3'. Write epochs: 3."),
        ("- epochs: 3\n", "expected a mapping of keys to values, got a list. Write key: value on each line."),
        ("3\n", "expected a mapping of keys to values, got 3. Write key: value on each line."),
    ],
)
def test_file_without_keys_is_told_how_to_write_them(tmp_path: Path, text: str, line: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r".") as caught:
        read_yaml(path)
    assert str(caught.value) == f"{path}: {line}"
