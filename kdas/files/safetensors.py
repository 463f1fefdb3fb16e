"""Weights in the safetensors format: 8 bytes of length, that many bytes of JSON, then the tensors' own bytes.

Source: https://huggingface.co/docs/safetensors, section Format.
"""

from __future__ import annotations

import json
import math
import mmap
from typing import Any, BinaryIO

import torch
from torch import Tensor

from kdas.errors import UserError

# The format's own limit is 100 MB, which take gigabytes once read. A header takes some 100 bytes for each tensor, and
# the largest networks have a few thousand.
_MOST_HEADER_BYTES = 5_000_000
_LENGTH_BYTES, _MOST_DIMENSIONS = 8, 16
_KINDS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def begins(head: bytes) -> bool:
    """Whether a file with these first bytes is of this format."""
    return head[_LENGTH_BYTES : _LENGTH_BYTES + 1] == b"{" and _header_bytes(head) <= _MOST_HEADER_BYTES


def read(file: BinaryIO, where: str) -> dict[str, Tensor]:
    """The tensors of a file by their names.

    Raises: UserError: if the header contradicts itself or the file's length.
    """
    content = _mapped(file)
    first = _LENGTH_BYTES + _header_bytes(content)
    try:
        header = json.loads(content[_LENGTH_BYTES:first])
        header.pop("__metadata__", None)
        return {name: _tensor(content, first, described) for name, described in header.items()}
    except (ValueError, TypeError, KeyError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise UserError(
            f"{where}: is a damaged safetensors file: its header and its length do not agree. Copy it again."
        ) from error


def _mapped(file: BinaryIO) -> mmap.mmap | bytearray:
    """The file's bytes, mapped and read on demand: a sparse file may be larger than the memory."""
    try:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError):  # it is in memory already
        return bytearray(file.read())


def _header_bytes(content: bytes | bytearray | mmap.mmap) -> int:
    return int.from_bytes(content[:_LENGTH_BYTES], "little")


def _tensor(content: bytearray | mmap.mmap, first: int, described: dict[str, Any]) -> Tensor:
    """Raises: ValueError, TypeError, KeyError: if the description contradicts itself or the content."""
    kind, shape = _KINDS[described["dtype"]], described["shape"]
    begin, end = described["data_offsets"]
    if len(shape) > _MOST_DIMENSIONS:
        raise ValueError("a tensor of no network")
    count = math.prod(shape)
    if (
        not 0 <= begin <= end <= len(content) - first
        or end - begin != count * kind.itemsize
        or min(shape, default=0) < 0
    ):
        raise ValueError("a tensor that does not lie in the file")
    if not count:
        return torch.empty(shape, dtype=kind)
    return torch.frombuffer(content, dtype=kind, count=count, offset=first + begin).view(shape)
