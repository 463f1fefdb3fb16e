"""Recognizes a file by its first bytes: a checkpoint, or something else with a checkpoint's name."""

from __future__ import annotations

import re
from typing import Any, BinaryIO

from kdas.errors import UserError, make_command
from kdas.files import safetensors, torch_file

_SHOWN_BYTES = 512
_SAVE_AGAIN = "Save the weights with torch.save(model.state_dict(), FILE)."
# First bytes of files that are not checkpoints, with what they are and the remedy.
_OTHERS = (
    (
        b"version https://git-lfs.github.com/spec/",
        "is a Git LFS pointer, not the file that it stands for. Run `git lfs pull` in the repository that it is from.",
    ),
    (b"\x89HDF", f"is an HDF5 file. Load it with the library that wrote it. {_SAVE_AGAIN}"),
    (b"\x93NUMPY", f"is a single NumPy array. {_SAVE_AGAIN}"),
    (b"\x1f\x8b", "is compressed with gzip and contains no tar. Unpack it."),
    (b"BZh", "is compressed with bzip2 and contains no tar. Unpack it."),
    (b"\xfd7zXZ", "is compressed with xz and contains no tar. Unpack it."),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd. Unpack it."),
    (b"7z\xbc\xaf", "is a 7z archive. Unpack it."),
    (b"Rar!", "is a rar archive. Unpack it."),
)
# The first two fields of an ONNX file, as protobuf writes them: a small version, and its producer's name.
_ONNX = re.compile(rb"\x08[\x03-\x20]\x12")
_WEB_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml")


def content_of(file: BinaryIO, where: str) -> Any:
    """The content of a checkpoint file. Executes nothing in it.

    Args: file: open at its beginning; where: its name for messages.
    Raises: UserError: if it is damaged, has another format, or cannot be read without executing code; says which.
    """
    head = file.read(_SHOWN_BYTES)
    file.seek(0)
    if not head:
        raise UserError(f"{where}: is empty, 0 bytes long. Copy or download it again.")
    for first_bytes, problem in _OTHERS:
        if head.startswith(first_bytes):
            raise UserError(f"{where}: {problem}")
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_WEB_PAGE):
        raise UserError(f"{where}: is a web page, not a checkpoint. Download the file itself.")
    if safetensors.begins(head):
        return safetensors.read(file, where)
    if torch_file.begins(head):
        return torch_file.read(file, where)
    if _ONNX.match(head):
        raise UserError(
            f"{where}: is an ONNX network, not a checkpoint. Give its weights as a .pth or .safetensors file, which"
            f" {make_command('export')} FORMAT=pth writes for a student of a sweep."
        )
    raise UserError(
        f"{where}: is no checkpoint: expected what torch.save or safetensors writes, got {_described(head)}."
        " Give another file, or copy this one again if it was changed on its way."
    )


def _described(head: bytes) -> str:
    text = head[:20].decode("ascii", errors="replace")
    return f"text that begins with {text!r}" if text.isprintable() and text.isascii() else "an unknown format"
