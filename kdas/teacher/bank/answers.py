"""The teacher's answers to views: read from the bank, or computed once and kept there."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdas.compute.precision import Precision
from kdas.data import Draw, ImageSplits
from kdas.errors import UserError
from kdas.models import Model
from kdas.teacher.bank.store import BankStore, Logits, Numbers

# Answers that are on the device at a time: those of an epoch of a small set, or of a part of an epoch of a large one.
WINDOW_BYTES = 64_000_000
# Images of one build step, whose views are looked up together.
_IMAGES_AT_ONCE = 64


def fill_batch_size(image_size: int, device: str) -> int:
    """Batch size of the teacher's forward passes: 64 on a CPU, else 256; smaller for images over 64 pixels.

    The size is fixed, so with the same number of threads an answer does not depend on which others are computed with
    it, nor on when. In batches of other sizes, as a live teacher gets, it may differ in its last bits. Incomplete
    batches are padded, so the size is no larger than a device needs to be busy.
    """
    most = 64 if device == "cpu" else 256
    return min(most, max(16, most * 64**2 // image_size**2))


class TeacherBank:
    """A teacher that computes each view's answer at most once. Args: precision: what the teacher computes in."""

    def __init__(self, store: BankStore, teacher: Model, splits: ImageSplits, precision: Precision) -> None:
        self.store, self._teacher, self._splits, self._precision = store, teacher, splits, precision
        self.batch_size = fill_batch_size(splits.image_size, precision.device)
        self._numbers = splits.train.numbers.numpy()
        self._keeps = True

    def epoch(self, batches: Sequence[Tensor], draw: Draw, on_forward: Callable[[int], None]) -> EpochAnswers:
        """The answers of an epoch. Args: batches: indices [B] of each, on the CPU; on_forward: see `answers`."""
        view_ids = self._splits.view_ids(draw)
        assert view_ids is not None
        return EpochAnswers(self, batches, view_ids, on_forward)

    def answers(self, indices: Numbers, view_ids: Numbers, on_forward: Callable[[int], None]) -> Logits:
        """Logits float32 [n, C] of views of training images; the teacher computes those that are missing.

        Args: indices, view_ids: int64 [n]; on_forward: called with the batch size of each forward pass of the teacher.
        Raises: UserError: if a logit is beyond the range of the bank's precision.
        """
        logits, is_there = self.store.read(self._numbers[indices], view_ids)
        missing = np.flatnonzero(~is_there)
        for positions, computed in self._asked(indices[missing], view_ids[missing], on_forward):
            logits[missing[positions]] = computed
        return logits

    def build(self, on_views: Callable[[int], None]) -> None:
        """Compute the missing answers of all views of all training images; `on_views` gets the number done so far."""
        views = np.arange(self.store.shape.num_views)
        waiting: list[tuple[Numbers, Numbers]] = []
        num_done = 0
        for indices in np.array_split(np.arange(len(self._numbers)), -(-len(self._numbers) // _IMAGES_AT_ONCE)):
            pairs = np.repeat(indices, len(views)), np.tile(views, len(indices))
            is_there = self.store.read(self._numbers[pairs[0]], pairs[1])[1]
            num_done += int(is_there.sum())
            waiting.append((pairs[0][~is_there], pairs[1][~is_there]))
            is_last = indices[-1] == len(self._numbers) - 1
            num_done += self._fill(waiting, all_of_them=bool(is_last))
            on_views(num_done)

    def _fill(self, waiting: list[tuple[Numbers, Numbers]], all_of_them: bool) -> int:
        """Compute answers for waiting views, in whole batches unless `all_of_them`. Returns: number of views."""
        indices, view_ids = (np.concatenate(part) for part in zip(*waiting, strict=True))
        count = len(indices) if all_of_them else len(indices) - len(indices) % self.batch_size
        for _ in self._asked(indices[:count], view_ids[:count], lambda size: None):
            if not self._keeps:
                raise UserError(f"{self.store.path}: the bank cannot be written. Free some space on its disk.")
        waiting[:] = [(indices[count:], view_ids[count:])]
        return count

    def agrees(self) -> bool:
        """Whether a few of the stored answers agree with the teacher's."""
        random = np.random.default_rng()
        indices = random.integers(len(self._numbers), size=512)
        view_ids = random.integers(self.store.shape.num_views, size=512)
        kept, is_there = self.store.read(self._numbers[indices], view_ids)
        found = np.flatnonzero(is_there)[:8]
        for positions, logits in self._forward(indices[found], view_ids[found], batch_size=8):
            # Another batch size or another machine may change the last bits.
            if not np.allclose(kept[found[positions]], logits, rtol=0, atol=0.02 * max(1.0, np.abs(logits).max())):
                return False
        return True

    def share_filled(self) -> float:
        """Approximate share of the training images' views that is answered."""
        return self.store.share_filled(self._numbers)

    @property
    def num_images(self) -> int:
        """Number of training images. A bank is built for all their views; it has room for validation images too."""
        return len(self._numbers)

    def _asked(
        self, indices: Numbers, view_ids: Numbers, on_forward: Callable[[int], None]
    ) -> Iterator[tuple[Numbers, Logits]]:
        """Compute answers and keep them. Yields: positions [b] and their logits [b, C], as kept."""
        for positions, logits in self._forward(indices, view_ids, self.batch_size):
            on_forward(self.batch_size)
            self._keep(indices[positions], view_ids[positions], logits)
            yield positions, self.store.rounded(logits)

    def _forward(self, indices: Numbers, view_ids: Numbers, batch_size: int) -> Iterator[tuple[Numbers, Logits]]:
        """Run the teacher, always on batches of `batch_size` images.

        Yields: positions [b] of those whose images could be read, and their logits [b, C].
        """
        if not len(indices):
            return
        batches, views = (torch.from_numpy(each).split(batch_size) for each in (indices, view_ids))  # type: ignore[no-untyped-call]
        fetched = self._splits.view_batches(batches, views, aside=True)
        for first, (read, images) in zip(range(0, len(indices), batch_size), fetched, strict=True):
            is_read = np.isin(indices[first : first + batch_size], read.cpu().numpy())
            positions = first + np.flatnonzero(is_read)
            if len(positions):
                yield positions, self._logits(_filled_up(images, batch_size))[: len(positions)]

    @torch.no_grad()
    def _logits(self, images: Tensor) -> Logits:
        with self._precision.autocast():
            logits = self._teacher(images)
        result: Logits = logits.float().cpu().numpy()
        return result

    def _keep(self, indices: Numbers, view_ids: Numbers, logits: Logits) -> None:
        try:
            self.store.write(self._numbers[indices], view_ids, logits)
        except ValueError as error:
            remedy = "Set bank: live" if self.store.shape.precision == "float32" else "Set bank: float32"
            raise UserError(f"bank: {error}. {remedy}.") from error
        except OSError as error:
            if self._keeps:
                warnings.warn(
                    f"{self.store.path}: cannot be written ({error.strerror}). Answers are not kept.", stacklevel=2
                )
            self._keeps = False


def _filled_up(images: Tensor, batch_size: int) -> Tensor:
    """Images [batch_size, ...]: the given ones, and copies of the last."""
    if len(images) == batch_size:
        return images
    # Indexing keeps the memory layout; another layout changes the last bits of the answers.
    return images[torch.arange(batch_size, device=images.device).clamp(max=len(images) - 1)]


@dataclass
class EpochAnswers:
    """The answers of an epoch, moved to the device window by window."""

    bank: TeacherBank
    batches: Sequence[Tensor]
    view_ids: Tensor
    on_forward: Callable[[int], None]
    _end: int = 0

    def of(self, position: int, indices: Tensor) -> Tensor:
        """Logits float32 [b, C] on the device. Args: indices [b], on the device, out of the batch at `position`."""
        if position >= self._end:
            self._load(position, indices.device)
        return self._logits[self._rows[indices]]

    def _load(self, first: int, device: torch.device) -> None:
        """Move the answers for the batches from `first` on: as many as a window holds, at least one batch."""
        room = WINDOW_BYTES // (4 * self.bank.store.shape.num_classes)
        self._end = first + 1
        count = len(self.batches[first])
        while self._end < len(self.batches) and count + len(self.batches[self._end]) <= room:
            count += len(self.batches[self._end])
            self._end += 1
        indices = torch.cat(list(self.batches[first : self._end]))
        logits = self.bank.answers(indices.numpy(), self.view_ids[indices].numpy(), self.on_forward)
        rows = torch.empty(len(self.view_ids), dtype=torch.int64)
        rows[indices] = torch.arange(len(indices))
        self._rows, self._logits = rows.to(device), torch.from_numpy(logits).to(device)
