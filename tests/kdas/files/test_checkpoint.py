"""A checkpoint that the system cannot read is not a damaged one."""

from __future__ import annotations

import errno
import io
from pathlib import Path
from typing import Any

import pytest
import torch

from kdas.errors import UnreadableError
from kdas.files import checkpoint


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A checkpoint and the one before it."""
    for step in (1, 2):
        checkpoint.save_and_keep_previous(tmp_path / "a.pt", {"step": step, "weights": torch.zeros(1_000)})
    return tmp_path / "a.pt"


class FailingDisk(io.BytesIO):
    """Opens, and fails when it is read, as a disk with a broken sector does."""

    def read(self, size: int | None = -1, /) -> bytes:
        raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("is_opened", [False, True])
def test_the_previous_checkpoint_does_not_replace_one_that_cannot_be_read(
    two: Path, monkeypatch: pytest.MonkeyPatch, is_opened: bool
) -> None:
    opened = Path.open

    def failing(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path != two:
            return opened(path, *args, **kwargs)
        if is_opened:
            return FailingDisk()
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", failing)
    reason = "Input/output error" if is_opened else "Permission denied"
    for look in (checkpoint.load_newest_intact, checkpoint.is_intact):
        with pytest.raises(UnreadableError, match=rf"a\.pt: cannot be read: {reason}\. Check its permissions"):
            look(two)
