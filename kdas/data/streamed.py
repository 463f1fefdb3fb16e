"""Images that stay on disk: worker processes read them ahead, in the order of training."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.multiprocessing import get_context
from torch.utils import data

from kdas.data.corrupt import Unreadable
from kdas.data.files import ImageFiles
from kdas.data.pixels import read_image
from kdas.data.splits import Drawn
from kdas.views import Views

# Batches that each worker reads ahead. They limit the memory, whatever the size of the set.
_BATCHES_AHEAD = 2


class Request(NamedTuple):
    """A batch to read: numbers of its files [B], indices of its samples [B], what decides its crops [B, 3]."""

    numbers: NDArray[np.int64]
    indices: NDArray[np.int64]
    drawn: Drawn | None


class ReadBatch(NamedTuple):
    """Indices of the samples that could be read [b], their images uint8 [b, 3, H, W], the files that could not."""

    indices: Tensor
    images: Tensor
    unreadable: list[int]


@dataclass(frozen=True)
class FileReader(data.Dataset[ReadBatch]):
    """Reads batches in a worker process."""

    files: ImageFiles
    views: Views

    def __getitem__(self, index: int) -> ReadBatch:
        number = np.array([index])
        return self.__getitems__(Request(number, number, None))

    def __getitems__(self, request: Request) -> ReadBatch:
        indices, images, unreadable = [], [], []
        drawn = [None] * len(request.numbers) if request.drawn is None else request.drawn.tolist()
        for number, index, each in zip(request.numbers.tolist(), request.indices.tolist(), drawn, strict=True):
            pixels = read_image(self.files.path(number), self.views, each)
            if pixels is None:
                unreadable.append(number)
            else:
                indices.append(index)
                images.append(pixels)
        size = self.views.size
        stacked = np.stack(images) if images else np.empty((0, size, size, 3), np.uint8)
        laid_out = torch.from_numpy(stacked).permute(0, 3, 1, 2)
        return ReadBatch(torch.tensor(indices, dtype=torch.int64), laid_out, unreadable)


class _Requests:
    """The loader's batch sampler. Its requests are replaced before each pass, so that the workers stay alive."""

    def __init__(self) -> None:
        self.coming: Iterable[Request] = ()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.coming)


class Readers:
    """Worker processes that read the files of a set, started at first use. One pass at a time."""

    def __init__(self, reader: FileReader, num_workers: int, device: str) -> None:
        self._requests = _Requests()
        self._passes = 0
        # The loader limits each worker to one thread, and ends its workers when it is garbage collected.
        self._loader = data.DataLoader(
            reader,
            batch_sampler=self._requests,
            collate_fn=_as_read,
            worker_init_fn=_end_with_the_program,
            num_workers=num_workers,
            prefetch_factor=_BATCHES_AHEAD,
            persistent_workers=True,
            pin_memory=device == "cuda",
            multiprocessing_context=_context(),
            # Otherwise the loader draws from the global generator.
            generator=torch.Generator(),
        )

    def read(self, requests: Iterable[Request]) -> Iterator[ReadBatch]:
        """The batches, in the order of the requests. An earlier, unfinished pass ends here."""
        self._requests.coming = requests
        self._passes += 1
        this_pass = self._passes
        for batch in self._loader:
            yield batch
            assert self._passes == this_pass, "another pass has taken over the workers"


@dataclass(frozen=True, eq=False)
class Streams:
    """Readers of a set of files: some workers for training, others for evaluation.

    Both are needed because evaluation happens in the middle of an epoch's pass.
    """

    training: Readers
    evaluation: Readers
    files: ImageFiles
    unreadable: Unreadable

    def report(self, numbers: Iterable[int]) -> None:
        """Count files that could not be read. Raises: UserError: once there are too many."""
        for number in numbers:
            name = str(self.files.path(number))
            if self.unreadable.add(number, name):
                self.unreadable.warn_of(name)
            self.unreadable.check()


@dataclass(frozen=True, eq=False)
class StreamedSplit:
    """A part whose images stay on disk: labels [N] on the device; numbers [N] of their files, on the CPU."""

    labels: Tensor
    numbers: Tensor
    streams: Streams

    def __len__(self) -> int:
        return len(self.labels)

    def read(
        self, batches: Iterable[Tensor], drawn: Iterable[Drawn] | None = None, *, aside: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Split`. Raises: UserError: once too many images could not be read."""
        readers = self.streams.evaluation if aside else self.streams.training
        device, is_cuda = self.labels.device, self.labels.is_cuda
        for batch in readers.read(self._requests(batches, drawn)):
            self.streams.report(batch.unreadable)
            yield batch.indices.to(device, non_blocking=is_cuda), batch.images.to(device, non_blocking=is_cuda)

    def _requests(self, batches: Iterable[Tensor], drawn: Iterable[Drawn] | None) -> Iterator[Request]:
        for batch, each in zip(batches, repeat(None) if drawn is None else drawn, strict=False):
            yield Request(self.numbers[batch].numpy(), batch.numpy(), each)


def streams_of(files: ImageFiles, views: Views, origin: str, num_workers: int, device: str) -> Streams:
    """Readers of a set of files; their processes start with the first batch."""
    reader = FileReader(files, views)
    training, evaluation = (Readers(reader, num_workers, device) for _ in range(2))
    return Streams(training, evaluation, files, Unreadable(origin, files.train_labels, files.test_labels))


def _as_read(batch: Any) -> Any:
    return batch


def _end_with_the_program(worker_id: int) -> None:
    """End a worker when the program ends, even if the program is killed and cannot end its workers.

    The loader's workers watch the process they are forked from, but that outlives the program for as long as they run.
    """
    threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(program: multiprocessing.process.BaseProcess) -> None:
    program.join()
    os._exit(1)


def _context() -> Any:
    """How workers start: never by a plain fork, which would copy a process that has threads or a CUDA context."""
    if not sys.platform.startswith("linux"):
        return get_context("spawn")
    context = get_context("forkserver")
    # Modules are loaded once and forked from then on: a worker starts in a tenth of the time.
    context.set_forkserver_preload(["torch", "torchvision.transforms.v2"])
    return context
