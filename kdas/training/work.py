"""The work of a trial on the batches of its epochs: its images, its student, and the teacher or the bank's answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from torch import Tensor

from kdas.clock import Clock, Work
from kdas.data import Draw
from kdas.teacher.bank import EpochAnswers, TeacherBank
from kdas.training.batch import Answer, Batch, Weights
from kdas.training.distiller import Distiller
from kdas.training.proxy import Proxy


class TrialWork:
    """The `EpochWork` of a real trial. It charges for the teacher's forward passes that really run."""

    def __init__(self, distiller: Distiller, bank: TeacherBank | None, clock: Clock, proxy: Proxy | None) -> None:
        self._distiller, self._bank, self._clock, self._proxy = distiller, bank, clock, proxy
        self._answers: EpochAnswers | None = None

    def fetched(self, epoch: int, batches: Sequence[Tensor]) -> Iterator[Batch]:
        draw = Draw(self._distiller.config.seed, epoch)
        if self._bank is not None:
            self._answers = self._bank.epoch(batches, draw, partial(self._clock.charge, Work.ASKED))
        for indices, images in self._distiller.splits.training_batches(batches, draw):
            yield self._distiller.batch(indices, images, draw)

    def looked_up(self, position: int, batch: Batch) -> Batch:
        if self._answers is None:
            return batch
        return replace(batch, answer=Answer(self._answers.of(position, batch.indices)))

    def asked(self, batch: Batch) -> Batch:
        if batch.answer is not None:
            return batch
        self._clock.charge(Work.ASKED, len(batch))
        return self._distiller.asked(batch)

    def teacher_logits(self, batch: Batch) -> Tensor:
        assert batch.answer is not None
        return batch.answer.logits

    def student_logits(self, batch: Batch, epoch: int, mode: str) -> Tensor:
        return self._distiller.scoring_logits(batch, epoch, mode)

    def reference_logits(self, batch: Batch) -> Tensor:
        return self._distiller.reference_logits(batch)

    def proxy_losses(self, batch: Batch, epoch: int) -> Tensor:
        assert self._proxy is not None
        return self._proxy.losses(batch, epoch)

    def proxy_step(self, batch: Batch, epoch: int) -> None:
        assert self._proxy is not None
        self._proxy.step(batch, epoch)

    def targets(self, batch: Batch) -> Tensor:
        return batch.targets

    def step(
        self, batch: Batch, epoch: int, weights: Weights | None, loss_weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        return self._distiller.step(batch, epoch, weights, loss_weights)

    def trained_logits(self) -> Tensor:
        return self._distiller.trained_logits
