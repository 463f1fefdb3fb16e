"""Reads YAML files by the core schema of YAML 1.2, within bounds that no file of settings exceeds.

YAML 1.1, which PyYAML reads by itself, takes `1:30` for 90, `010` for 8, and `on`, `off`, `yes` and `no` for true and
false. Here they are text, 10, and text.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from kdas.errors import UserError, brief
from kdas.parts.hints import invisible_around, invisible_in
from kdas.parts.yaml_words import RefusedError, lines_of, problem_in, without_colon, without_comment

# A file of settings has a few thousand of the last; one with a hundred cells stays below these too.
MAX_BYTES, MAX_DEPTH, MAX_DIGITS, MAX_VALUES = 2**20, 50, 100, 100_000
_TAG = "tag:yaml.org,2002:"
# None and "!" where a file names no tag; "!!str" is harmless.
_TAGS = (None, "!", f"{_TAG}str")
_NULL = re.compile(r"(?:~|null|Null|NULL|)$")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)$")
_INT = re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$")
_FLOAT = re.compile(
    r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
_MERGE = re.compile(r"<<$")
# In the order in which they are tried: an int would also be a float.
_CORE = (
    ("null", _NULL, ["~", "n", "N", ""]),
    ("bool", _BOOL, list("tTfF")),
    ("int", _INT, list("-+0123456789")),
    ("float", _FLOAT, list("-+.0123456789")),
    ("merge", _MERGE, ["<"]),
)


class _CoreLoader(yaml.SafeLoader):
    """A safe loader of the core schema that refuses duplicate keys and what would take too much time or memory."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (none of YAML 1.1; those of the core are added below)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._num_values = 0
        self._sizes: dict[Any, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Count the nodes of a file; an alias counts as all nodes that it stands for."""
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        before = self._num_values
        if getattr(event, "tag", None) not in _TAGS:
            raise _refused(f"the tag {event.tag.replace(_TAG, '!!')}, which no setting needs", event.start_mark)
        if isinstance(event, yaml.ScalarEvent) and not event.style:
            _check_visible(event, is_key=isinstance(parent, yaml.MappingNode) and index is None)
        if isinstance(event, yaml.AliasEvent):
            if event.anchor in self.anchors and event.anchor not in self._sizes:
                raise _refused(f"the alias *{event.anchor} stands for a block that contains it", event.start_mark)
            self._num_values += self._sizes.get(event.anchor, 0)
        else:
            self._num_values += 1
            # An anchor may be given again: an alias means the last one above it.
            for of_anchors in (self.anchors, self._sizes):
                of_anchors.pop(getattr(event, "anchor", None), None)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _refused(f"more than {MAX_DEPTH} levels of brackets or indentation", event.start_mark)
        if self._num_values > MAX_VALUES:
            raise _refused(f"more than {MAX_VALUES:,} values", event.start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if getattr(event, "anchor", None) and not isinstance(event, yaml.AliasEvent):
            self._sizes[event.anchor] = self._num_values - before
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue  # `<<` takes over another mapping's keys, which may then be given again
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _refused("keys must be plain words", key_node.start_mark)
            if key in seen:
                raise _refused(f"the key {key!r} is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)

    def construct_core_int(self, node: yaml.ScalarNode) -> int:
        """Read digits as decimal, even with a leading zero."""
        text = str(self.construct_scalar(node))
        if len(text) > MAX_DIGITS:
            raise _refused(f"a number of {len(text)} digits", node.start_mark)
        base = {"0o": 8, "0x": 16}.get(text[:2], 10)
        return int(text[2:] if base != 10 else text, base)

    def construct_core_float(self, node: yaml.ScalarNode) -> float:
        text = str(self.construct_scalar(node)).lower()
        return float(text.replace(".inf", "inf").replace(".nan", "nan"))


class _Dumper(yaml.SafeDumper):
    """Writes what YAML 1.1 and 1.2 read alike: text that either would take for another type gets quotes."""

    def analyze_scalar(self, scalar: str) -> Any:
        analysis = super().analyze_scalar(scalar)
        if invisible_in(scalar):
            analysis.allow_flow_plain = analysis.allow_block_plain = False
        return analysis


for _name, _pattern, _first in _CORE:
    _CoreLoader.add_implicit_resolver(f"{_TAG}{_name}", _pattern, _first)
    _Dumper.add_implicit_resolver(f"{_TAG}{_name}", _pattern, _first)
_CoreLoader.add_constructor(f"{_TAG}int", _CoreLoader.construct_core_int)
_CoreLoader.add_constructor(f"{_TAG}float", _CoreLoader.construct_core_float)


def _refused(problem: str, mark: Any, remedy: str = "Fix the YAML there") -> RefusedError:
    return RefusedError(None, None, f"{problem}. {remedy}", mark)


def _check_visible(event: yaml.ScalarEvent, *, is_key: bool) -> None:
    """Raises: RefusedError: for an unquoted text around which, or for a key in which, a character is invisible."""
    if found := invisible_in(event.value) if is_key else invisible_around(event.value):
        raise _refused(f"contains {found}", event.start_mark, "Replace it with a plain space, or remove it")


def parse_yaml(text: str) -> Any:
    """The value in a text of YAML. Raises: ValueError: in one line, for invalid YAML, a duplicate key or an excess."""
    try:
        return yaml.load(text, Loader=_CoreLoader)  # noqa: S506 (a SafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(problem_in(text, error)) from error


def dump_yaml(content: Any, *, in_line: bool = False) -> str:
    """`content` as YAML, keys in their order. Args: in_line: write the innermost blocks on one line."""
    return yaml.dump(
        content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None if in_line else False
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises: UserError: if the file is missing, unreadable, not YAML (with line and column) or not a mapping.
    """
    try:
        with path.open("rb") as file:
            written = file.read(MAX_BYTES + 1)
        if len(written) > MAX_BYTES:
            raise UserError(f"{path}: expected at most 1 MB of YAML, got more. Give the path of a YAML file.")
        text = written.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        if isinstance(error, UnicodeDecodeError):
            raise UserError(
                f"{path}: cannot be read: it is not UTF-8 text. Give a YAML file saved as UTF-8."
            ) from error
        raise UserError(f"{path}: cannot be read: {error.strerror}. Give the path of a YAML file.") from error
    try:
        content = parse_yaml(text)
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from error
    if content is None:
        raise UserError(f"{path}: is empty. Add keys and values.")
    if isinstance(content, str):
        lines = lines_of(text)
        raise UserError(
            f"{path}: {without_colon(lines, next(n for n, line in enumerate(lines) if without_comment(line)))}."
        )
    if not isinstance(content, dict):
        got = "a list" if isinstance(content, list) else brief(content)
        raise UserError(f"{path}: expected a mapping of keys to values, got {got}. Write key: value on each line.")
    return content
