"""The work on one batch: run the teacher, score, take a training step. Prices are measured on this code."""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kdas import models, seeding
from kdas.compute.average import MovingAverage
from kdas.compute.dot import Dot
from kdas.compute.optimizer import optimizer_of
from kdas.compute.precision import Precision
from kdas.data import Draw, ImageSplits
from kdas.losses import Distillation, LossNeed
from kdas.losses.interface import STRONG
from kdas.losses.terms import needs_of
from kdas.models import Model
from kdas.recipe.config import TrialConfig
from kdas.recipe.teacher import SelfTeacher
from kdas.students.start import load_start, reference_of
from kdas.training.answering import Answering, Asked, answering, asked_of, context_of
from kdas.training.batch import Answer, Batch, StepInputs, StepOutputs, Views, Weights, cross_entropy
from kdas.training.compiled import Compiler
from kdas.training.draws import StepDraws
from kdas.training.recorded import CudaGraphs, Recordings
from kdas.transforms import TRANSFORMS, Pipeline

# What makes the strong view of losses that compare two.
STRONG_VIEW = [TRANSFORMS.checked("randaugment")]


class Distiller:
    """A student, its optimizer and the frozen teacher, which may be the student's own past.

    Args: class_means: returns the teacher's mean features [C, D] of each class, called only if a loss needs them.
    """

    def __init__(
        self,
        config: TrialConfig,
        splits: ImageSplits,
        teacher: Model,
        device: str,
        class_means: Callable[[], Tensor],
    ) -> None:
        self.config, self.splits, self.device = config, splits, device
        self.memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self.precision = Precision(config.precision, device)
        self.transforms = Pipeline(config.transforms, splits)
        self._strengthen = Pipeline(STRONG_VIEW, splits) if LossNeed.STRONG_VIEW in needs_of(config.loss) else None
        with seeding.global_draws(config.seed, "student"):
            student = models.create(config.student, splits.num_classes)
        load_start(student, config, splits.num_classes)
        student.take_pixels(splits.mean, splits.std)
        self._draws = StepDraws(config.seed, device, student, splits.image_size)
        # The student's logits in the last step, one tensor for each part of the batch.
        self._trained_logits: tuple[Tensor, ...] = ()
        self.student = student.to(device).to(memory_format=self.memory_format)
        self._follows_student = isinstance(config.teacher, SelfTeacher)
        self.teacher = copy.deepcopy(self.student).requires_grad_(False).eval() if self._follows_student else teacher
        labels, size = splits.train.labels, splits.image_size
        context = context_of(config, self.student, self.teacher, labels, splits.num_classes, size, class_means)
        with seeding.global_draws(config.seed, "loss"):
            self.distillation = Distillation(config.loss, context).to(device)
        self.trained = [*self.student.parameters(), *self.distillation.parameters()]
        others, is_recorded = self.distillation.parameters(), config.cuda_graphs
        self.optimizer = optimizer_of(self.student, config.optimizer, others, is_recorded=is_recorded)
        self.average = MovingAverage(self.student, config.ema_decay) if config.ema_decay else None
        self._recordings = Recordings(CudaGraphs() if is_recorded else None)
        # A replay would draw what the recording drew.
        self._draws_in_steps = self._draws.student_draws or LossNeed.GENERATOR in self.distillation.needs
        self._compiler = Compiler(config, device)
        compiled = self._compiler.compiled
        of_student, of_teacher = asked_of(config, "student"), asked_of(config, "teacher")
        self._student_answers = compiled(answering(self.student, of_student, config.student_layers))
        self._teacher_answers = compiled(answering(self.teacher, of_teacher, config.teacher_layers))
        # Scores need logits only.
        self._scores = compiled(answering(self.student, Asked.LOGITS, None)) if of_student else self._student_answers
        self._reference_scores: Answering | None = None
        if (reference := reference_of(config, splits.num_classes)) is not None:
            reference.take_pixels(splits.mean, splits.std)
            reference = reference.to(device).to(memory_format=self.memory_format)
            self._reference_scores = compiled(answering(reference, Asked.LOGITS, None))

    @property
    def evaluated(self) -> nn.Module:
        """The model whose accuracy counts: the student, or the moving average of its weights."""
        return self.student if self.average is None else self.average.module

    def begin_epoch(self) -> None:
        """If the teacher is the student's past, let it catch up with the student. Between epochs they are equal.

        Recordings end with an epoch: they contain its learning rate, and what losses compute of its number.
        """
        self._recordings.forget()
        if self._follows_student:
            self.teacher.load_state_dict(self.student.state_dict())

    def batch(self, indices: Tensor, images: Tensor, draw: Draw | None = None) -> Batch:
        """Args: indices [B]; images float32 [B, 3, H, W]; both on the device; draw: for the transforms, if any."""
        targets, mixed, strong_images = self.splits.train.labels[indices], None, None
        if self._strengthen is not None:
            # Without a draw, as for prices, any second view will do.
            strong_images = images if draw is None else self._strengthen(images, targets, indices, draw).images
            strong_images = strong_images.contiguous(memory_format=self.memory_format)
        if draw is not None and self.config.transforms:
            views = self.transforms(images, targets, indices, draw)
            images, targets, mixed = views.images, views.targets, views.mixed
        images = images.contiguous(memory_format=self.memory_format)
        return Batch(images, targets, indices, mixed=mixed, strong_images=strong_images)

    @torch.no_grad()
    def asked(self, batch: Batch) -> Batch:
        """The batch with the teacher's answer."""
        views = Views(batch.images, batch.strong_images)
        return replace(batch, answer=self._recordings.run("the teacher", self._answer, views))

    def _answer(self, views: Views) -> Answer:
        with self.precision.autocast():
            answer = Answer(*self._teacher_answers(views.images))
            if views.strong_images is not None:
                answer = replace(answer, strong_logits=self._teacher_answers(views.strong_images)[0])
        return answer.each(Tensor.float)

    @torch.no_grad()
    def scoring_logits(self, batch: Batch, epoch: int, mode: str = "eval") -> Tensor:
        """Student logits [B, C].

        Args: mode: with `eval`, only training steps update the batch statistics; with `train`, as in the official
            release, scoring updates them too, and logits depend on the batch.
        """
        self.student.train(mode == "train")
        views = Views(self._compiler.padded(batch.images) if mode == "eval" else batch.images)
        score = partial(self._logits, self._scores)
        if mode == "eval" and not self._draws.student_draws:
            logits = self._recordings.run("scoring", score, views).logits
        else:
            with self._draws.of_student("score", epoch):
                logits = score(views).logits
        self.student.train()
        return logits[: len(batch)].float()

    @torch.no_grad()
    def reference_logits(self, batch: Batch) -> Tensor:
        """Logits [B, C] of the sampler's reference in eval mode. Only if the sampler needs them."""
        assert self._reference_scores is not None
        score, views = partial(self._logits, self._reference_scores), Views(self._compiler.padded(batch.images))
        return self._recordings.run("the reference", score, views).logits[: len(batch)].float()

    def _logits(self, scores: Answering, views: Views) -> Answer:
        with self.precision.autocast():
            logits, *_ = scores(views.images)
        return Answer(logits)

    def step(
        self, batch: Batch, epoch: int, weights: Weights | None = None, loss_weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One update.

        Without an answer of the teacher, as in the first epoch of `teacher: self`, it is on the cross-entropy alone.

        Args: batch, with the teacher's answer; epoch, counted from 1; weights [B] of the distillation term;
            loss_weights [B] of the whole loss.
        Returns: the loss that was minimised, a scalar, and the unweighted losses [B]; both detached.
        """
        inputs, update = StepInputs(batch, weights, loss_weights), partial(self._update, epoch=epoch)
        # A sampler's own code would run once an epoch only.
        is_recorded = not (callable(weights) or self._draws_in_steps)
        done = self._recordings.run("the training step", update, inputs) if is_recorded else update(inputs)
        if self.average is not None:
            self.average.update(self.student)
        self._trained_logits = done.logits
        return done.loss, done.losses

    def _update(self, inputs: StepInputs, epoch: int) -> StepOutputs:
        batch, weights, loss_weights = inputs.batch, inputs.weights, inputs.loss_weights
        self.optimizer.zero_grad(set_to_none=True)
        total, losses, logits = torch.zeros((), device=self.device), [], []
        for positions in torch.chunk(torch.arange(len(batch), device=self.device), self.config.accumulate):
            # Most trials take a batch in one part and need no copy of it.
            part = batch if len(positions) == len(batch) else batch.rows(positions)
            label_loss, distillation, logits_of_part = self._losses(part, epoch)
            logits.append(logits_of_part)
            unweighted = weighted = label_loss + distillation
            of_part = weights(positions, logits_of_part) if callable(weights) else weights
            if of_part is not None:
                distillation = (of_part if callable(weights) else of_part[positions]) * distillation
                weighted = label_loss + distillation
            if loss_weights is not None:
                weighted = loss_weights[positions] * weighted
            loss = weighted.sum() / len(batch)
            if isinstance(self.optimizer, Dot):
                shares = (1.0 if loss_weights is None else loss_weights[positions]) / len(batch)
                self._propagate_apart(self.optimizer, (shares * label_loss).sum(), (shares * distillation).sum())
            else:
                self.precision.backward(loss)
            total += loss.detach()
            losses.append(unweighted.detach())
        self.precision.step(self.optimizer, self.trained, self.config.optimizer.clip_norm)
        return StepOutputs(total, torch.cat(losses), tuple(logits))

    @property
    def trained_logits(self) -> Tensor:
        """The student's logits [B, C] in the last step, detached."""
        return torch.cat(self._trained_logits)

    def _propagate_apart(self, optimizer: Dot, label_loss: Tensor, distillation: Tensor) -> None:
        """Add the gradients of the two terms of the loss, scalars, each to its own."""
        with optimizer.distilling():
            self.precision.backward(distillation, retain_graph=True)
        self.precision.backward(label_loss)

    def _losses(self, batch: Batch, epoch: int) -> tuple[Tensor, Tensor, Tensor]:
        """The cross-entropy [B] and the distillation loss [B] of each sample, times `ce_weight` and `kd_weight`.

        The third are the student's logits [B, C], detached.
        """
        answer = batch.answer
        with self._draws.of_student("step", epoch), self.precision.autocast():
            of_student = Answer(*self._student_answers(batch.images))
            if batch.strong_images is not None and answer is not None:
                of_student = replace(of_student, strong_logits=self._scores(batch.strong_images)[0])
        of_student = of_student.each(Tensor.float)
        logits = of_student.logits
        if answer is None:
            label_loss = cross_entropy(logits, batch)
            return label_loss, 0 * label_loss, logits.detach()
        needed = self._needed(batch, of_student, answer, epoch)
        distillation = self.config.kd_weight * self.distillation(logits, answer.logits, batch.targets, **needed)
        return self.config.ce_weight * cross_entropy(logits, batch), distillation, logits.detach()

    def _needed(self, batch: Batch, of_student: Answer, of_teacher: Answer, epoch: int) -> dict[str, Any]:
        """What losses may need beside logits and targets, by the names in `LossNeed`."""
        needed: dict[str, Any] = {LossNeed.EPOCH: epoch, LossNeed.INDICES: batch.indices}
        for answer, needs in (
            (of_student, (LossNeed.STUDENT_FEATURES, LossNeed.STUDENT_MAPS, LossNeed.STUDENT_PREACT_MAPS)),
            (of_teacher, (LossNeed.TEACHER_FEATURES, LossNeed.TEACHER_MAPS, LossNeed.TEACHER_PREACT_MAPS)),
        ):
            needed |= zip(needs, (answer.features, answer.maps, answer.preact_maps), strict=True)
        needed |= zip(STRONG, (of_student.strong_logits, of_teacher.strong_logits), strict=True)
        if LossNeed.GENERATOR in self.distillation.needs:
            needed[LossNeed.GENERATOR] = self._draws.of_losses(epoch)
        return needed

    def translate(self) -> None:
        """Compile the models before the clock starts, on the smallest and the largest batches that will come."""
        total, size = len(self.splits.train), self.config.batch_size
        indices = [torch.arange(min(wanted, total)) for wanted in (max(2, total % size), size, 4 * size)]
        with self._unchanged():
            for chosen, images in self.splits.training_batches(indices, Draw(seed=0, epoch=1)):
                batch = self.asked(self.batch(chosen, images))
                for mode in ("eval", "train"):
                    self.scoring_logits(batch, epoch=1, mode=mode)
                if self._reference_scores is not None:
                    self.reference_logits(batch)
                self.step(batch, epoch=1)

    @contextmanager
    def _unchanged(self) -> Any:
        """Undo, at the end, whatever is trained inside the block."""
        before = copy.deepcopy(self.state_dict())
        yield
        self.load_state_dict(before)
        self.optimizer.zero_grad(set_to_none=True)
        self._draws.restart()

    def state_dict(self) -> dict[str, Any]:
        return {
            "student": self.student.state_dict(),
            "distillation": self.distillation.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "precision": self.precision.state_dict(),
            "average": None if self.average is None else self.average.module.state_dict(),
            "num_averaged": 0 if self.average is None else self.average.num_updates,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._recordings.forget()  # the optimizer's state gets other tensors
        self.student.load_state_dict(state["student"])
        self.distillation.load_state_dict(state["distillation"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.precision.load_state_dict(state["precision"])
        if self.average is not None:
            self.average.module.load_state_dict(state["average"])
            self.average.num_updates = state["num_averaged"]
