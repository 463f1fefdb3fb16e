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
    "text", ["on", "1:30", "010", "0o10", "1e-3", "1_000", "2026-01-31", "null", "true", "", "-", "a: b", " x", "é"]
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
        ("a: *b", r"found undefined alias 'b'"),
        ("a: 1\na: 2", r"line 2, column 1: the key 'a' is given twice"),
        ("010: a\n10: b", r"the key 10 is given twice"),
        ("? [a]\n: 1", r"keys must be plain words"),
        ("a: !!python/name:os.system x", r"line 1, column 4: the tag !!python/name:os\.system, which no setting needs"),
        ("a: !!set {b}", r"the tag !!set"),
        ("a: !mine b", r"the tag !mine"),
        ("a: !!bool x", r"the tag !!bool"),
        ("a:\n\tb: 1", r"line 2, column 1: a tab, where only spaces may indent"),
        ("a: \x01", r"contains the control character '\\x01'\. Remove it"),
        ("a: 1\n---\nb: 1", r"line 2, column 1: a second document"),
        ("a: [1", r"line 1, column \d+: .*Fix the YAML there"),
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
