"""Reads files of torch.save without importing or calling anything that they name."""

from __future__ import annotations

import argparse
import io
import itertools
import pickle
import pickletools
import re
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from typing import Any, BinaryIO

import numpy as np
import torch

from kdas.errors import UserError
from kdas.files.limits import check_growth


def _empty_array(*_: Any) -> np.ndarray[Any, Any]:
    """An array before its state, which brings shape and values: the shape in the call could claim any memory."""
    return np.empty(0)


# Besides the weights, peers store an accuracy, which may be a NumPy scalar, and command-line options. Some store
# weights as NumPy arrays. All of this is plain data. NumPy 1 wrote some of it under another module's name.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    (np.ndarray, ""),  # without a name none can be called, but its state can be set
    (_empty_array, "numpy.ndarray"),
    np.dtype,
    *{type(np.dtype(code)) for code in "?bhilqBHILQefd"},
    *((np.float64(0).__reduce__()[0], f"numpy.{package}.multiarray.scalar") for package in ("core", "_core")),
    *((_empty_array, f"numpy.{package}.multiarray._reconstruct") for package in ("core", "_core")),
]
_HARMLESS_NAMES = {
    each[1] if isinstance(each, tuple) else f"{each.__module__}.{each.__qualname__}" for each in _HARMLESS
}
# A call takes as much memory as its argument says, and weights need none.
_UNBOUNDED = frozenset({"builtins.bytearray"})
# The largest models with their optimizers have some hundred thousand. More would take minutes to read.
_MOST_OPERATIONS = 2_000_000
# The pickle of the magic number that the old format begins with: protocol, number, end.
_OPERATIONS_OF_MAGIC = 3
_SAVE_AGAIN = "Save its weights instead: torch.save(model.state_dict(), FILE)."
_PICKLE, _ZIP = b"\x80", b"PK"


class Skipped:
    """Replaces an object of any other class, which is neither imported nor called.

    `of` is the class's full name.
    """

    of = ""

    def __new__(cls, *_: Any, **__: Any) -> Skipped:
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None: ...


class SkippedMapping:
    """Takes the place of an object of a class made from dict: its items are kept, its class is not."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return OrderedDict()  # of which PyTorch also sets the attributes


class SkippedList:
    """Takes the place of an object of a class made from list."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return []


# What PyTorch says when it comes to the items of an object that is not known as a container.
_USED_AS_CONTAINER = re.compile(
    r"Can only (?P<use>SETITEM|append|extend)[^\n]* but got <class '[\w.]*torch_file\.(?P<of>[^']+)'>"
)


def begins(head: bytes) -> bool:
    """Whether a file with these first bytes may be one that torch.save wrote."""
    return head.startswith((_PICKLE, _ZIP))


def read(file: BinaryIO, where: str) -> Any:
    """Read a file from anyone. Objects that are neither tensors nor plain values become `Skipped`.

    Args: file: open at its beginning; where: names it in messages.
    Raises: UserError: if the file is damaged, or cannot be read without executing what it contains.
    """
    is_zip = file.read(len(_ZIP)) == _ZIP
    file.seek(0)
    try:
        names = _names_in_zip(file, where) if is_zip else _names_in_old_format(file, where)
        file.seek(0)
        return _loaded_whole(file, names)
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(f"{where}: asks for more memory than is free. {_SAVE_AGAIN}") from error
    except (zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"{where}: is damaged or cut short ({_short(error)}). Copy it again.") from error
    except Exception as error:
        raise UserError(f"{where}: {_refusal(error)}") from error


def read_ours(file: BinaryIO, where: str) -> Any:
    """Read a file of our own: tensors and plain values, in any number.

    Args: as `read`.
    Raises: UserError: if the file is damaged or contains anything else.
    """
    try:
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as records:
                _check_sums(records)
        file.seek(0)
        return _loaded(file, [])
    except MemoryError:
        raise  # the file may be intact
    except Exception as error:
        raise UserError(f"{where}: is damaged, or contains more than tensors and plain values.") from error


def _loaded_whole(file: BinaryIO, names: Collection[str]) -> Any:
    """As `_loaded`. Objects that turn out to be mappings or lists, of classes made from dict or list, become those."""
    containers: dict[str, Any] = {}
    while True:
        try:
            return _loaded(file, _stand_ins(names, containers))
        except pickle.UnpicklingError as error:
            found = _USED_AS_CONTAINER.search(str(error))
            if not found or found["of"] in containers:
                raise
            containers[found["of"]] = SkippedMapping if found["use"] == "SETITEM" else SkippedList
            file.seek(0)


def _loaded(file: BinaryIO, stand_ins: list[Any]) -> Any:
    with torch.serialization.safe_globals([*_HARMLESS, *stand_ins]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of sparse tensors and of old pickles; what matters is refused elsewhere
        return torch.load(file, map_location="cpu", weights_only=True)


def _check_sums(records: zipfile.ZipFile) -> None:
    """Verify the checksums of records, which PyTorch ignores. Raises: BadZipFile: if one is wrong."""
    damaged = records.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"the record {damaged} is damaged")


def _names_in_zip(file: BinaryIO, where: str) -> set[str]:
    """The names that the pickle in a zip would import."""
    with zipfile.ZipFile(file) as records:
        names = records.namelist()
        check_growth(sum(each.file_size for each in records.infolist()), file, where)
        if any(name.endswith("/constants.pkl") for name in names):
            raise UserError(
                f"{where}: is a TorchScript archive, which contains code. Save its weights instead:"
                " torch.save(torch.jit.load(FILE).state_dict(), OTHER_FILE)."
            )
        _check_sums(records)
        pickled = next((name for name in names if name.endswith("/data.pkl")), None)
        if pickled is None:
            raise UserError(f"{where}: is a zip archive that torch.save did not write. Give the checkpoint in it.")
        return _names_in(io.BytesIO(records.read(pickled)), where)


def _names_in_old_format(file: BinaryIO, where: str) -> set[str]:
    """The names that the pickles of the format before PyTorch 1.6 would import: magic number, versions, object."""
    first = list(itertools.islice(pickletools.genops(file), _OPERATIONS_OF_MAGIC))
    if torch.serialization.MAGIC_NUMBER not in [argument for _, argument, _ in first]:
        raise UserError(
            f"{where}: is a pickle that torch.save did not write, and to read it could run any code. {_SAVE_AGAIN}"
        )
    return set().union(*(_names_in(file, where) for _ in ("version", "system", "object", "keys of storages")))


def _names_in(pickled: BinaryIO, where: str) -> set[str]:
    """The classes and functions that a pickle names, found without running it."""
    names: set[str] = set()
    for number, (opcode, argument, _) in enumerate(pickletools.genops(pickled)):
        if number >= _MOST_OPERATIONS:
            raise UserError(f"{where}: contains over {_MOST_OPERATIONS:,} objects beside its tensors. {_SAVE_AGAIN}")
        if opcode.name == "GLOBAL":
            name = _full_name(*str(argument).split(" ", 1))
            if name in _UNBOUNDED:
                raise UserError(
                    f"{where}: contains a {name.rpartition('.')[2]}, which may be of any size. {_SAVE_AGAIN}"
                )
            names.add(name)
        elif opcode.proto > 3:
            raise UserError(f"{where}: was saved with pickle protocol 4. Save it again without pickle_protocol.")
    return names


def _full_name(module: str, name: str) -> str:
    """The Python 3 name of a class or function. Pickles may still use the name of Python 2."""
    module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
    return f"{module}.{name}"


def _stand_ins(names: Iterable[str], containers: Mapping[str, Any]) -> list[Any]:
    """A `Skipped` for each name that is not known to be harmless; PyTorch prefers what it knows itself.

    Args: containers: stand-ins of classes that are known to be mappings or lists.
    """
    containers = {"collections.defaultdict": _empty_mapping, "collections.deque": _empty_list, **containers}
    return [
        (containers.get(name) or type(name, (Skipped,), {"of": name}), name)
        for name in sorted(set(names) - _HARMLESS_NAMES)
    ]


def _empty_mapping(*_: Any) -> dict[Any, Any]:
    return {}


def _empty_list(*_: Any) -> list[Any]:
    return []


def _refusal(error: Exception) -> str:
    blocked = re.search(r"GLOBAL (\S+) whose module \S+ is blocked", str(error))
    if blocked:
        return f"calls {blocked[1]} when it is read, which could run any program. Do not use this file."
    is_of_pickle = isinstance(error, (pickle.UnpicklingError, ValueError, UnicodeDecodeError))
    cause = "it is damaged, or contains more than tensors and plain values" if is_of_pickle else _short(error)
    return f"cannot be read: {cause}. Copy it again if it was changed on its way, or save the weights alone."


def _short(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return (text if len(text) <= 120 else f"{text[:117]}...").rstrip(".")
