"""Finds a model's checkpoint at a path: the file itself, or a member of a folder, tar or zip archive.

Teachers that the field shares have the layout `<model>_vanilla/ckpt_epoch_240.pth`.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from kdas.errors import UnreadableError, UserError, make_command
from kdas.files.limits import Bounded, TooLargeError, check_growth, check_not_sparse, most_unpacked_bytes

_OF_PEERS = re.compile(r"(?:.*/)?(?P<model>[^/]+)_vanilla/ckpt_epoch_(?P<epoch>\d{1,9})\.pth")
# What model hubs, and our own folders of students, call the weights to take.
_USUAL = "model.safetensors"
_LAYOUT = "<model>_vanilla/ckpt_epoch_<number>.pth"
_SUFFIXES = (".pth", ".pt", ".pth.tar", ".ckpt", ".bin", ".safetensors")
# Listing more takes minutes. No archive of checkpoints has that many.
_MOST_MEMBERS = 10_000
# What trainers write beside the weights, and how they name the parts of a checkpoint that they divide.
_BESIDE = re.compile(
    r"(?:optimizer|scheduler|scaler|random_states|rng_state|training_args)[\w-]*\.\w+|.*_optim_states\.pt"
)
_PART = re.compile(r".*-\d{5}-of-\d{5}\.\w+")
# How names in folders and archives of other kinds end, what these are, and the remedy.
_OF_OTHERS = (
    (
        ".distcp",
        "is a distributed checkpoint",
        "Convert it with python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.",
    ),
    (
        "/archive_format",
        "is a program of torch.export",
        f"Save its weights: torch.save(program.state_dict, FILE), or {make_command('export')} FORMAT=pth.",
    ),
)
_SHOWN = 5
_COMPRESSED: dict[bytes, Callable[[BinaryIO], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
_DAMAGE = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, KeyError, ValueError)


@contextmanager
def opened(path: Path, model: str) -> Iterator[tuple[str, BinaryIO]]:
    """Open the checkpoint of `model`. Unpacks nothing to disk and follows no link in an archive.

    Yields: its name for messages, and the open file.
    Raises: UserError: if there is no checkpoint, or several; lists what there is instead.
    """
    if path.is_dir():
        top = path.absolute()
        path = top.parent / _chosen(_names_in_folder(top), model, str(path))
    with open_file(path) as file:
        for member_of in (_tar_member, _zip_member):
            member = member_of(file, path, model)
            if member is not None:
                yield f"{path}: {member[0]}", io.BytesIO(member[1])
                return
            file.seek(0)
        yield str(path), file


@contextmanager
def open_file(path: Path) -> Iterator[BinaryIO]:
    """A file, open for reading.

    Raises: UnreadableError; UserError: if it is missing, not a regular file, or holds less than it claims.
    """
    try:
        if not path.exists():
            raise UserError(
                f"{path}: no such checkpoint. Give a .pth or .safetensors file, or the folder of a kept student."
            )
        if not path.is_file():
            raise UserError(f"{path}: expected a file, got {'a folder' if path.is_dir() else 'a device or a pipe'}.")
        file = path.open("rb")
    except OSError as error:
        raise UnreadableError(path, error) from error
    with file:
        check_not_sparse(file, str(path))
        yield file


def _names_in_folder(folder: Path) -> list[str]:
    """The files in a folder and below it, as paths that begin with the folder's own name."""
    names: list[str] = []
    for inner, folders, files in os.walk(folder):
        names += [(Path(inner) / name).relative_to(folder.parent).as_posix() for name in files]
        if len(names) + len(folders) > _MOST_MEMBERS:
            raise UserError(f"{folder}: contains over {_MOST_MEMBERS:,} files. Give the checkpoint's own path.")
    return names


def _tar_member(file: BinaryIO, path: Path, model: str) -> tuple[str, bytes] | None:
    """Name and bytes of the checkpoint in a tar, plain or compressed; None if the file is not a tar."""
    try:
        stream = _unpacked(file)
        archive = _opened_tar(stream)
        if archive is None:
            return None
        with archive:
            members = _regular_members(archive, path)
            if members is None:
                return None
            name = _chosen(list(members), model, str(path))
            check_growth(members[name].size, file, f"{path}: {name}")
            stream.allow_all()
            # Into memory: torch.load seeks, and seeking back in a compressed tar unpacks it again.
            unpacked = archive.extractfile(members[name])
            return name, unpacked.read() if unpacked else b""
    except TooLargeError as error:
        raise UserError(f"{path}: {error}") from error
    except (*_DAMAGE, RecursionError) as error:
        raise UserError(f"{path}: the archive is damaged ({error}). Copy it again.") from error


def _unpacked(file: BinaryIO) -> Bounded:
    """The bytes of a file, unpacked while they are read if it is compressed."""
    head = file.read(6)
    file.seek(0)
    unpacker = next((each for magic, each in _COMPRESSED.items() if head.startswith(magic)), None)
    return Bounded(file if unpacker is None else unpacker(file), most_unpacked_bytes(file))


def _opened_tar(stream: Any) -> tarfile.TarFile | None:
    try:
        return tarfile.open(fileobj=stream, mode="r:")
    except (*_DAMAGE, RecursionError):
        return None


def _regular_members(archive: tarfile.TarFile, path: Path) -> dict[str, tarfile.TarInfo] | None:
    """The regular files in a tar, by name; links are left out, since they may lead anywhere. None for an empty tar."""
    members: dict[str, tarfile.TarInfo] = {}
    number = 0
    for number, member in enumerate(archive, start=1):
        if number > _MOST_MEMBERS:
            raise UserError(f"{path}: contains over {_MOST_MEMBERS:,} members. Give the checkpoint itself.")
        if member.isreg():
            members[member.name] = member
    return members if number else None


def _zip_member(file: BinaryIO, path: Path, model: str) -> tuple[str, bytes] | None:
    """Name and bytes of the checkpoint in a zip; None if the file is not a zip, or is one that torch.save wrote."""
    try:
        archive = zipfile.ZipFile(file)
    except (*_DAMAGE, NotImplementedError):
        return None
    with archive:
        names = [each.filename for each in archive.infolist() if not each.is_dir()]
        if any(re.fullmatch(r"[^/]+/data\.pkl", name) for name in names):
            return None
        if len(names) > _MOST_MEMBERS:
            raise UserError(f"{path}: contains over {_MOST_MEMBERS:,} members. Give the checkpoint itself.")
        name = _chosen(names, model, str(path))
        check_growth(archive.getinfo(name).file_size, file, f"{path}: {name}")
        try:
            return name, archive.read(name)
        except NotImplementedError as error:
            raise UserError(f"{path}: {name}: is compressed in a way that is unknown here. Unpack it.") from error
        except RuntimeError as error:
            raise UserError(f"{path}: {name}: is encrypted. Unpack it.") from error
        except _DAMAGE as error:
            raise UserError(f"{path}: the archive is damaged ({error}). Copy it again.") from error


def _chosen(names: Sequence[str], model: str, where: str) -> str:
    """The name of a model's checkpoint: its highest epoch in the peers' layout, else the only or the usual one.

    Raises: UserError: if there is no checkpoint, or several.
    """
    names = [name for name in names if not _is_of_finder(name)]
    for ending, what, remedy in _OF_OTHERS:
        if any(f"/{name}".endswith(ending) for name in names):
            raise UserError(f"{where}: {what}. {remedy}")
    of_peers = [(match, name) for name in names if (match := _OF_PEERS.fullmatch(name))]
    of_model = [(int(match["epoch"]), name) for match, name in of_peers if match["model"] == model]
    if of_model:
        return max(of_model)[1]
    if of_peers:
        known = ", ".join(sorted({match["model"] for match, _ in of_peers}))
        wanted = _LAYOUT.replace("<model>", model)
        raise UserError(f"{where}: contains no {wanted}. Choose a model that it contains: {known}.")
    found = [name for name in names if name.lower().endswith(_SUFFIXES)]
    checkpoints = [name for name in found if not _BESIDE.fullmatch(name.rpartition("/")[2])] or found
    if len(checkpoints) == 1:
        return checkpoints[0]
    usual = [name for name in checkpoints if name.rpartition("/")[2] == _USUAL]
    if len(usual) == 1:
        return usual[0]
    if checkpoints and all(_PART.fullmatch(name) for name in checkpoints):
        raise UserError(
            f"{where}: contains one checkpoint in {len(checkpoints)} parts. Load it with the library that wrote it, and"
            " save the weights in one file."
        )
    if not checkpoints:
        raise UserError(f"{where}: contains no checkpoint ({', '.join(_SUFFIXES)}). Give the path of one.")
    shown = ", ".join(sorted(checkpoints)[:_SHOWN]) + (", ..." if len(checkpoints) > _SHOWN else "")
    raise UserError(f"{where}: contains {len(checkpoints):,} checkpoints ({shown}), and none as {_LAYOUT}. Give one.")


def _is_of_finder(name: str) -> bool:
    """Whether it is a file that macOS adds beside each real file."""
    return name.startswith("__MACOSX/") or name.rpartition("/")[2].startswith("._")
