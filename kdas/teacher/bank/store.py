"""The file of a teacher bank: one record for each view of each image, each with its own checksum.

Layout: a header of one page, JSON that says what the records answer; then records of 32-bit words in the order of
(image, view). The first word of a record is a checksum of the others and of the record's place. A checksum is never
zero, so the holes of a sparse file are empty records. A record that a kill, a full disk or a second writer left half
written fails its checksum and counts as missing, so writing needs neither locks nor flushes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdas.files.cache import replaced_whole

HEADER_BYTES = 4096
FORMAT = 1
_RECORDS_AT_ONCE = 50_000
_PRECISIONS = {"float16": np.float16, "float32": np.float32}

Numbers = NDArray[np.int64]
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """The numbers of images, views and classes that a bank has room for, and the precision of its logits."""

    num_images: int
    num_views: int
    num_classes: int
    precision: str

    @property
    def num_records(self) -> int:
        return self.num_images * self.num_views

    @property
    def words_per_record(self) -> int:
        itemsize = np.dtype(_PRECISIONS[self.precision]).itemsize
        return 1 + -(-self.num_classes * itemsize // 4)

    @property
    def num_bytes(self) -> int:
        """Size of the file once every answer is in it."""
        return HEADER_BYTES + self.num_records * self.words_per_record * 4


class BankStore:
    """An open bank file. Reading maps it, so that all processes of a machine share one copy in memory."""

    def __init__(self, path: Path, shape: Shape) -> None:
        self.path, self.shape = path, shape
        size = (shape.num_records, shape.words_per_record)
        self._words = np.memmap(path, np.uint32, "r", HEADER_BYTES, size)
        # Random odd factors: about one in four billion changes to a record's words leaves its checksum the same.
        random = np.random.default_rng(0)
        self._factors = random.integers(2**63, size=shape.words_per_record, dtype=np.uint64) * np.uint64(2) + np.uint64(
            1
        )

    def read(self, images: Numbers, views: Numbers) -> tuple[Logits, NDArray[np.bool_]]:
        """Answers to (image, view) pairs.

        Args: images, views: int64 [n].
        Returns: logits float32 [n, C], and whether each is valid, bool [n]; invalid logits are meaningless.
        """
        return self._decoded(self._records(images, views))

    def counted(self) -> tuple[int, int]:
        """Number of valid records, and of records that are neither valid nor empty; reads the whole file."""
        num_valid = num_damaged = 0
        for first in range(0, self.shape.num_records, _RECORDS_AT_ONCE):
            records = np.arange(first, min(first + _RECORDS_AT_ONCE, self.shape.num_records))
            is_valid = self._decoded(records)[1]
            num_valid += int(is_valid.sum())
            num_damaged += int((~is_valid & self._words[records].any(axis=1)).sum())
        return num_valid, num_damaged

    def write(self, images: Numbers, views: Numbers, logits: Logits) -> None:
        """Keep answers; a kill leaves each one complete or missing.

        Raises: OSError: if the disk is full or read-only; ValueError: if a logit is beyond the precision's range.
        """
        records = self._records(images, views)
        order = np.argsort(records, kind="stable")
        records, words = records[order], self._encoded(records[order], logits[order])
        # Adjacent records are written together.
        firsts = np.flatnonzero(np.diff(records, prepend=-2) != 1)
        handle = os.open(self.path, os.O_WRONLY)
        try:
            for record, run in zip(records[firsts].tolist(), np.split(words, firsts)[1:], strict=True):
                _write_whole(handle, run.tobytes(), HEADER_BYTES + record * self.shape.words_per_record * 4)
        finally:
            os.close(handle)

    def share_filled(self, images: Numbers) -> float:
        """Share of the views of these images that is answered, estimated from a thousand drawn at random."""
        random = np.random.default_rng(0)
        views = random.integers(self.shape.num_views, size=1000)
        return float(self.read(random.choice(images, size=1000), views)[1].mean())

    def rounded(self, logits: Logits) -> Logits:
        """The logits as they would be read back."""
        return logits.astype(_PRECISIONS[self.shape.precision]).astype(np.float32)

    def _records(self, images: Numbers, views: Numbers) -> Numbers:
        return images * self.shape.num_views + views

    def _decoded(self, records: Numbers) -> tuple[Logits, NDArray[np.bool_]]:
        words: NDArray[np.uint32] = np.asarray(self._words[records])
        is_there = words[:, 0] == self._checks(records, words[:, 1:])
        kept = np.ascontiguousarray(words[:, 1:]).view(_PRECISIONS[self.shape.precision])
        return kept[:, : self.shape.num_classes].astype(np.float32), is_there

    def _encoded(self, records: Numbers, logits: Logits) -> NDArray[np.uint32]:
        shape = self.shape
        with np.errstate(over="ignore"):
            kept = logits.astype(_PRECISIONS[shape.precision])
        if not np.isfinite(kept).all():
            raise ValueError(
                f"the teacher gives a logit of {np.abs(logits).max():.3g}, which {shape.precision} cannot hold"
            )
        words = np.zeros((len(records), shape.words_per_record), np.uint32)
        words[:, 1:].view(kept.dtype)[:, : shape.num_classes] = kept
        words[:, 0] = self._checks(records, words[:, 1:])
        return words

    def _checks(self, records: Numbers, words: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """The checksum of each record [n], never zero. Args: words [n, W - 1] without the checksum."""
        # The place counts too, so that a record at a wrong place is found. Sums wrap around.
        places = (records.astype(np.uint64) + np.uint64(1)) * self._factors[0]
        sums = words.astype(np.uint64) @ self._factors[1:] + places
        checks: NDArray[np.uint32] = (sums >> np.uint64(32)).astype(np.uint32)
        return np.maximum(checks, np.uint32(1))


def create(path: Path, shape: Shape, identity: Mapping[str, Any]) -> None:
    """Create an empty bank. It takes no disk space until something is written.

    Raises: UserError: if the folder cannot be written to.
    """
    header = json.dumps(_header(shape, identity)).encode()
    assert len(header) < HEADER_BYTES
    with replaced_whole(path) as temporary, temporary.open("r+b") as file:
        file.write(header.ljust(HEADER_BYTES))
        file.truncate(shape.num_bytes)


def read_header(path: Path) -> tuple[Shape, dict[str, Any]] | None:
    """The shape and identity that a file claims; None if the file is not a bank, or its size is wrong."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(HEADER_BYTES))
        if header.pop("format") != FORMAT:
            return None
        shape = Shape(**header["shape"])
        return (shape, header["identity"]) if path.stat().st_size == shape.num_bytes else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _header(shape: Shape, identity: Mapping[str, Any]) -> dict[str, Any]:
    return {"format": FORMAT, "shape": vars(shape), "identity": dict(identity)}


def _write_whole(handle: int, content: bytes, offset: int) -> None:
    while content:
        num_written = os.pwrite(handle, content, offset)
        content, offset = content[num_written:], offset + num_written
