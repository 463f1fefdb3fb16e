"""Archives of checkpoints in the layout of the field's shared teachers: `<model>_vanilla/ckpt_epoch_240.pth`."""

from __future__ import annotations

import io
import re
import tarfile
import zlib
from pathlib import Path

from kdas.errors import UserError

_MEMBER = re.compile(r"(?:.*/)?(?P<model>[^/]+)_vanilla/ckpt_epoch_(?P<epoch>\d+)\.pth")


def is_archive(path: Path) -> bool:
    """Whether a file is a tar, plain or compressed; false if it is missing or cannot be read."""
    try:
        return tarfile.is_tarfile(path)
    except (OSError, EOFError, zlib.error):
        return False


def read_member(path: Path, model: str) -> tuple[str, io.BytesIO]:
    """Name and bytes of the checkpoint of `model` with the highest epoch in a tar. Nothing is unpacked to disk.

    Raises: UserError: if the tar is damaged or has no checkpoint of that model; names the models it has.
    """
    try:
        with tarfile.open(path) as archive:
            found = [(match, member) for member in archive if (match := _MEMBER.fullmatch(member.name))]
            of_model = [(int(match["epoch"]), member) for match, member in found if match["model"] == model]
            if not of_model:
                raise UserError(f"{path}: {_none_of(model, {match['model'] for match, _ in found})}")
            _, member = max(of_model, key=lambda pair: pair[0])
            file = archive.extractfile(member)
            # Into memory: a compressed tar can only be read forwards, and torch.load seeks back and forth.
            content = file.read() if file else b""
    except (OSError, EOFError, zlib.error, tarfile.TarError, KeyError) as error:
        raise UserError(f"{path}: the archive is damaged ({error}). Copy it again.") from error
    return member.name, io.BytesIO(content)


def _none_of(model: str, known: set[str]) -> str:
    wanted = f"contains no {model}_vanilla/ckpt_epoch_<number>.pth"
    if not known:
        return f"{wanted}, nor one of another model. Give an archive with this layout, or a .pth file."
    return f"{wanted}. Choose a model that it contains: {', '.join(sorted(known))}."
