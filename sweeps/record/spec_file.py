"""`sweep.yaml`: the resolved sweep as it first started, with a checksum in its last line."""

from __future__ import annotations

import re
import zlib
from pathlib import Path
from typing import Any

from kdas.files.cache import write_text
from kdas.files.record import DamagedError, record_bytes
from kdas.parts.yaml_file import parse_yaml

_CHECK_LINE = re.compile(r"^# check: ([0-9a-f]{8})$", re.MULTILINE)
_REMEDY = "Restore it from a copy. If you have none, delete it: the sweep then takes the file that you give it."


def write_spec_text(path: Path, text: str) -> None:
    """Write the text of a resolved sweep, with its checksum."""
    write_text(path, f"{text}# check: {_check_of(text)}\n")


def read_spec(path: Path) -> dict[str, Any]:
    """The parsed content. Raises: as `read_spec_text`; DamagedError: if it is not a YAML mapping."""
    try:
        content = parse_yaml(read_spec_text(path))
    except ValueError as error:
        raise DamagedError(path, "is damaged (not valid YAML)", _REMEDY) from error
    if not isinstance(content, dict):
        raise DamagedError(path, "is damaged (not a mapping)", _REMEDY)
    return content


def read_spec_text(path: Path) -> str:
    """What `write_spec_text` wrote, without the checksum, which files of earlier versions lack.

    Raises: as `record_bytes`; DamagedError: if the content is not as it was written.
    """
    try:
        text = record_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise DamagedError(path, "is damaged (not UTF-8 text)", _REMEDY) from error
    found = _CHECK_LINE.search(text)
    if found is None:
        if not text.strip("\0 \n"):
            raise DamagedError(path, "is damaged (empty)", _REMEDY)
        return text
    content = text[: found.start()]
    if _check_of(content) != found.group(1) or text[found.end() :].strip():
        raise DamagedError(path, "is damaged", _REMEDY)
    return content


def _check_of(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
