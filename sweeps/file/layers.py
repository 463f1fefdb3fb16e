"""A sweep file on top of the one that it extends, and settings of the command line on top of both."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdas.errors import UserError, alike, nearest
from kdas.files.home import expanded
from kdas.parts.paths import with_paths_found
from kdas.parts.plugins import with_plugins_found
from kdas.parts.settings import merged, setting, settings_once
from kdas.parts.yaml_file import read_yaml
from kdas.recipe.release import refuse_release_file
from sweeps.record.paths import SPEC, is_file_name, is_recorded, recorded_names, runs_root, sweep_path
from sweeps.record.spec_file import read_spec
from sweeps.space.ranges import RangeConfig

FILES = Path(__file__).parents[1] / "files"
# A setting may change the parameters of these parts even if the file does not name the part.
_DEFAULT_PARTS = {"sampler": "kdas", "loss": "kd"}
_MOST_EXTENDED = 20


@dataclass(frozen=True)
class Layer:
    """Some keys of a sweep, and the source that an error names."""

    source: str
    content: dict[str, Any]
    is_setting: bool = False


def spec_path(name: str) -> Path:
    """The file of a sweep: that of a shipped sweep, a path, or the file that a sweep of that name has recorded.

    Raises: UserError: if it does not exist; names the nearest one.
    """
    if not name.strip():
        raise UserError(f"NAME is not given. Name a sweep: {', '.join(shipped())}, or the path of a .yaml file.")
    path = _path(name, Path())
    if path.is_file():
        _check_is_no_cell(name, path)
        return path
    if expanded(name).is_file() and not is_file_name(name):
        raise UserError(
            f"NAME={name}: expected a file whose name ends in .yaml or .yml. Rename it if it is a sweep file."
        )
    is_folder = os.path.isdir(name)  # noqa: PTH112 (a name that no path can have)
    if is_folder and "/" in name:
        raise UserError(f"NAME={name}: is a folder. {_in_folder(Path(name))}")
    recorded = sweep_path(name) / SPEC
    if recorded.is_file() and not is_file_name(name) and "/" not in name:
        return recorded
    if is_folder:
        raise UserError(f"NAME={name}: is a folder. {_in_folder(Path(name))}")
    missing = name if is_file_name(name) else f"sweeps/files/{name}.yaml"
    resumed = f" NAME={Path(name).stem} resumes the sweep in {shown(recorded.parent)}." if recorded.is_file() else ""
    raise UserError(f"{missing}: no such sweep file. {_nearest_file(name, path)}{resumed}")


def _check_is_no_cell(name: str, path: Path) -> None:
    """Raises: UserError: if the file is that of a cell, which runs with its sweep."""
    if path.name == SPEC and not is_recorded(path) and (of := sweep_path(str(path)).relative_to(runs_root())).parts[1:]:
        raise UserError(f"NAME={name}: is the file of a cell, which runs with its sweep. Give NAME={of.parts[0]}.")


def directory_of(path: Path) -> Path:
    """The folder in which the sweep of a file runs. A recorded file belongs to the sweep that recorded it."""
    return sweep_path(str(path) if is_recorded(path) else path.name)


def _in_folder(folder: Path) -> str:
    """What to give instead of a folder."""
    if (folder / SPEC).is_file() and folder.absolute().parent == runs_root():
        return f"To resume the sweep in it, give NAME={folder.absolute().name}."
    files = sorted(each.name for each in folder.iterdir() if is_file_name(each.name))
    return f"Give a file in it: {', '.join(files[:5])}." if files else "Give the path of a .yaml file."


def shipped() -> list[str]:
    """Names of the sweep files that come with the project."""
    return sorted(path.stem for path in FILES.glob("*.yaml"))


def layers_of(path: Path, settings: Iterable[str] = ()) -> list[Layer]:
    """The layers of a sweep, the lowest first: the files that it extends, the file itself, then each setting.

    Args: settings: `key=value`, or several of them separated by blanks.
    Raises: UserError: for a file that cannot be read or extends itself, or an invalid setting.
    """
    return [*_files(path, ()), *map(_setting, settings_once(settings))]


def _files(path: Path, before: tuple[Path, ...]) -> list[Layer]:
    content = read_spec(path) if is_recorded(path) else read_yaml(path)
    refuse_release_file(content, shown(path))
    content = with_paths_found(with_plugins_found(content, path.parent), path.parent)
    base = content.pop("extends", None)
    own = Layer(shown(path), content)
    if base is None:
        return [own]
    if not isinstance(base, str) or not base.strip():
        raise UserError(f"{own.source}: extends: expected a sweep file or the name of a shipped sweep, got {base!r}.")
    extended = _path(base, path.parent)
    if not extended.is_file():
        raise UserError(f"{own.source}: extends: {base}: no such sweep file. {_nearest_file(base, extended)}")
    chain = [*before, path]
    if len(chain) > _MOST_EXTENDED:
        raise UserError(
            f"{own.source}: extends: expected a chain of at most {_MOST_EXTENDED} files. Merge some of them."
        )
    known = [each.resolve() for each in chain]
    if extended.resolve() in known:
        circle = [*chain[known.index(extended.resolve()) :], extended]
        raise UserError(
            f"{own.source}: extends: {' -> '.join(each.name for each in circle)} is circular. Remove one of these keys."
        )
    return [*_files(extended, tuple(chain)), own]


def _path(name: str, folder: Path) -> Path:
    return folder / expanded(name) if is_file_name(name) else FILES / f"{name}.yaml"


def _nearest_file(name: str, path: Path) -> str:
    if not is_file_name(name):
        known = [*shipped(), *recorded_names()]
        is_own = "" if alike(name, known) else " For your own file, NAME is its path."
        return f"{nearest(name, known)}{is_own}"
    close = alike(path.name, [each.name for each in path.parent.glob("*.*") if is_file_name(each.name)])
    return nearest(path.name, close or shipped())


def shown(path: Path) -> str:
    """A path relative to the working directory."""
    try:
        return os.path.relpath(path)
    except ValueError:  # on another drive
        return str(path)


def _setting(text: str) -> Layer:
    steps, value = setting(text)
    content: Any = value
    for step in reversed(_steps(steps)):
        content = {step: content}
    return Layer(f"SET {text}", content, is_setting=True)


def _steps(steps: list[str]) -> list[str]:
    """The keys of a path. A key of `search` may itself contain dots: it ends before a key of a range."""
    if steps[0] != "search" or len(steps) == 1:
        return steps
    last = next((n for n, step in enumerate(steps) if n > 1 and step in RangeConfig.model_fields), len(steps))
    return ["search", ".".join(steps[1:last]), *steps[last:]]


def content_of(layers: Sequence[Layer]) -> dict[str, Any]:
    """All layers merged into the content of one file."""
    content: dict[str, Any] = {}
    for layer in layers:
        if layer.is_setting:
            content = _with_default_parts(content, layer.content)
        content = merged(content, layer.content)
    return content


def _with_default_parts(content: dict[str, Any], setting: Mapping[str, Any]) -> dict[str, Any]:
    """`content`, with the default part written out if a setting changes its parameters and the file names no part."""
    unnamed = {key: name for key, name in _DEFAULT_PARTS.items() if key in setting and key not in content}
    return {**content, **unnamed}


def source_of(layers: Sequence[Layer], key: str) -> str:
    """The source of a key such as `a.b.c`: the topmost layer that contains most of its path."""
    steps = key.lower().split(".")
    return max(reversed(layers), key=lambda layer: _depth(layer.content, steps)).source


def _depth(content: Any, steps: Sequence[str]) -> int:
    """How many steps of a path exist. Text is the short form of a block, so it stands for all that are left."""
    if isinstance(content, str):
        return len(steps)
    if isinstance(content, list):
        content = dict(enumerate(content))
    if not isinstance(content, Mapping):
        return 0
    below = {str(key).lower(): value for key, value in content.items()}
    for length in range(len(steps), 0, -1):
        name = ".".join(steps[:length])
        if name in below:
            return length + _depth(below[name], steps[length:])
    return 0
