"""Small JSON files with a checksum that reveals damage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdas.errors import UnreadableError, UserError
from kdas.files.cache import write_text
from kdas.records import CHECK, is_intact, with_check


class DamagedError(UserError):
    """A file of the record differs from what was written. `path` is the file, `reason` says what is wrong."""

    def __init__(self, path: Path, reason: str, remedy: str) -> None:
        super().__init__(f"{path}: {reason}. {remedy}")
        self.path, self.reason = path, reason


def write_record(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object with its checksum; a kill leaves the old file or the new one."""
    write_text(path, json.dumps(with_check(content), indent=1))


def record_bytes(path: Path) -> bytes:
    """The content of a file of the record.

    Raises: FileNotFoundError; UnreadableError.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnreadableError(path, error) from error


def read_record(path: Path, *needed: str, remedy: str) -> dict[str, Any]:
    """What `write_record` wrote, without the checksum. Files of earlier versions have no checksum to compare.

    Args: needed: keys that the file must contain.
    Raises: as `record_bytes`; DamagedError: if the content is not as it was written.
    """
    try:
        content = json.loads(record_bytes(path).decode())
    except (ValueError, RecursionError) as error:
        raise DamagedError(path, "is damaged (not valid JSON)", remedy) from error
    if not isinstance(content, dict) or not is_intact(content) or not content.keys() >= set(needed):
        raise DamagedError(path, "is damaged", remedy)
    content.pop(CHECK, None)
    return content
