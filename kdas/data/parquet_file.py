"""Opening a parquet file and reading its columns: what is wrong with a file is said in one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from kdas.errors import UserError
from kdas.files.limits import MOST_GROWTH, most_unpacked_bytes

# All are decoded into memory; a few kilobytes may claim any number.
MOST_ROWS = 10_000_000


def open_parquet(file: Path, text: str | None = None) -> pq.ParquetFile:
    """A file of which parts are read as they are needed.

    Args: text: a column whose repeated strings are kept once.
    Raises: UserError: says why it cannot be read, or that it would take far more memory than its size suggests.
    """
    try:
        opened = pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20, read_dictionary=[text] if text else None)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{file}: {_true_cause(file, error)}") from error
    try:
        _check_size(file, opened)
    except UserError:
        opened.close()
        raise
    return opened


def _check_size(file: Path, opened: pq.ParquetFile) -> None:
    metadata = opened.metadata
    if metadata.num_rows > MOST_ROWS:
        raise UserError(
            f"{file}: has {metadata.num_rows:,} rows, and at most {MOST_ROWS:,} are read into memory. Store the images"
            " as files and use image_folder."
        )
    num_bytes = sum(metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
    with file.open("rb") as content:
        most = most_unpacked_bytes(content)
    if num_bytes > most:
        raise UserError(
            f"{file}: would take {num_bytes / 1e9:.1f} GB unpacked, over {MOST_GROWTH} times its size. Store images"
            " as PNG or JPEG, and labels as numbers or short names."
        )


def _true_cause(file: Path, error: Exception) -> str:
    begins_with = b""
    with suppress(OSError), file.open("rb") as opened:
        begins_with = opened.read(100).lstrip().lower()
    if begins_with.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS, not the data. Run `git lfs pull`, or download the file."
    if begins_with.startswith((b"<!doctype", b"<html")):
        return "is a web page, not the data. Download the file again."
    if "encrypted" in str(error):
        return "is encrypted. Save it without encryption."
    reason = str(error).split("\n", 1)[0].rstrip(".")
    return f"is damaged or not a parquet file: {reason}. Copy it again."


@contextmanager
def damage_named(file: Path, column: str) -> Iterator[None]:
    """Raises: UserError: for damage that shows while a column is read."""
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
        raise UserError(f"{file}: column {column!r} is damaged: {reason}. Copy the file again.") from error


def check_column(file: Path, schema: pa.Schema, column: str) -> None:
    """Raises: UserError: if a file has no such column."""
    if column not in schema.names:
        raise UserError(f"{file}: has no column {column!r}. Use one of: {', '.join(schema.names)}.")


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of this type holds strings."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_binary(kind: pa.DataType) -> bool:
    """Whether a column of this type holds bytes."""
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind))
