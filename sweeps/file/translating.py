"""A configuration file of the release on its way into one of ours, with what became of each of its keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kdas.errors import brief
from sweeps.file.release_keys import DOT_TRAINERS


@dataclass
class Translation:
    """What has been translated so far.

    `kept` and `left_out`: key of the release -> key of ours, or the reason; `added`: key of ours -> its value and the
    reason; `lost`: a line for each key that is left out although it may matter.
    """

    given: dict[str, Any]
    content: dict[str, Any] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)

    @property
    def is_of_kdas(self) -> bool:
        """Whether the file is of the KDAS release itself; its relatives have the same layout."""
        named = ("EXPERIMENT.TAG", "EXPERIMENT.PROJECT", "EXPERIMENT.NAME", "SOLVER.TRAINER", "DISTILLER.TYPE")
        return any("kdas" in str(self.given.get(key, "")).lower() for key in named) or self.has_block("KDAS")

    @property
    def distiller(self) -> str:
        return str(self.given["DISTILLER.TYPE"]).lower()

    @property
    def has_dot(self) -> bool:
        return self.distiller == "dot" or str(self.given.get("SOLVER.TRAINER", "")).lower() in DOT_TRAINERS

    def has_block(self, name: str) -> bool:
        return any(key.startswith(f"{name}.") for key in self.given)

    def keep(self, key: str, path: str, value: Any = None) -> None:
        """Put a value of the release, or what stands for it here, at a dotted path."""
        self.put(path, self.given[key] if value is None else value)
        self.kept[key] = path

    def add(self, path: str, value: Any, reason: str) -> None:
        """Put a value that the file does not have at a dotted path."""
        self.put(path, value)
        self.added[path] = f"{brief(value)}: {reason}"

    def lose(self, key: str, reason: str) -> None:
        """Leave out a key that says something which a file of ours cannot say."""
        self.left_out[key] = reason
        self.lost.append(f"{key}: {brief(self.given[key])}: {reason}")

    def put(self, path: str, value: Any) -> None:
        block, _, name = path.rpartition(".")
        into = self.content.setdefault(block, {}) if block else self.content
        into[name] = value
