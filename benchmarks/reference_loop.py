"""The field's usual trainer for KD and KDAS, written plainly: the reference that our trainer is timed against.

Nothing in it is slow on purpose. It does what a careful researcher's script does today:

- Images are kept decoded in memory, as in torchvision's CIFAR classes, and pass one at a time through torchvision's
  transforms (PIL, RandomCrop, RandomHorizontalFlip, ToTensor, Normalize) in two worker processes of a DataLoader.
- A loader and its workers live as long as the images that they read: for the run over the full set and the test images,
  until the next subset over a remembered subset. Only each sampling epoch needs a new loader, since its batch size,
  ceil(batch size / rate), changes between epochs. The official script makes a new loader in every epoch.
- Models and images are NCHW, float32, on torch's default number of threads; on a GPU with pinned memory, cudnn's
  search for the fastest kernels, and TF32 where torch allows it by default.
- The teacher runs live on every batch, without gradients.
- A sampling epoch is that of the official release: teacher and student run on the whole scoring batch, the student in
  train mode with its graph, and both run again on the chosen samples.
- The loss is summed on the device and read once per epoch. The test images are evaluated at the end of each epoch, in
  batches of 64.

Models, losses, the penalty and the schedules are the project's own, so that both sides compute the same things.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset

from benchmarks.reference_images import image_sets
from kdas import models, schedules
from kdas.compute.device import synchronize
from kdas.compute.optimizer import set_learning_rate
from kdas.losses import kd
from kdas.penalty import penalty_weights
from kdas.recipe.config import TrialConfig
from kdas.samplers import knowledge_scores
from kdas.training.trial import Inputs

NUM_WORKERS = 2
# Read before one of our own trials changes the number for the process.
DEFAULT_THREADS = torch.get_num_threads()
TEST_BATCH_SIZE = 64


@dataclass(frozen=True)
class Epoch:
    """Results of one epoch. `train_s` and `eval_s` are wall seconds, including the start of worker processes."""

    epoch: int
    is_sampling: bool
    samples_scored: int
    samples_trained: int
    train_loss: float
    test_accuracy: float
    train_s: float
    eval_s: float


class ReferenceTraining:
    """One trial with the settings of our trial file, and the same data and teacher weights."""

    def __init__(self, config: TrialConfig, inputs: Inputs, num_workers: int = NUM_WORKERS) -> None:
        self.config, self.device, self.num_workers = config, inputs.device, num_workers
        assert config.sampler["name"] in ("full", "kdas"), "the usual trainer has only the samplers full and kdas"
        assert isinstance(config.loss, dict) and config.loss["name"] == "kd", "the usual trainer has only the loss kd"
        self.kd_settings = {key: value for key, value in config.loss.items() if key != "name"}
        self.train_set, self.test_set = image_sets(inputs)
        torch.manual_seed(config.seed)
        num_classes = inputs.splits.num_classes
        self.teacher = models.create(config.teacher.model, num_classes)
        self.teacher.load_state_dict(inputs.teacher.model.state_dict())
        self.teacher.to(self.device).eval()
        self.student = models.create(config.student, num_classes).to(self.device)
        settings = config.optimizer
        self.optimizer = torch.optim.SGD(
            self.student.parameters(),
            lr=settings.learning_rate,
            momentum=settings.momentum,
            weight_decay=settings.weight_decay,
        )
        self.whole_loader = self._loader(self.train_set, config.batch_size, shuffle=True)
        self.test_loader = self._loader(self.test_set, TEST_BATCH_SIZE, shuffle=False)
        self.subset_loader = self.whole_loader
        self.loss_sum = torch.zeros((), device=self.device)

    def epochs(self) -> Iterator[Epoch]:
        """Train and evaluate, epoch by epoch."""
        as_torch_comes()
        for epoch in range(1, self.config.epochs + 1):
            began = time.perf_counter()
            set_learning_rate(self.optimizer, self.config.optimizer, epoch, self.config.epochs)
            self.student.train()
            self.loss_sum.zero_()
            is_sampling = self._is_sampling(epoch)
            scored, trained = self._sampling_epoch(epoch) if is_sampling else self._training_epoch(epoch)
            train_loss = float(self.loss_sum) / trained
            synchronize(self.device)
            trained_at = time.perf_counter()
            test_accuracy = self._test_accuracy()
            eval_s = time.perf_counter() - trained_at
            yield Epoch(epoch, is_sampling, scored, trained, train_loss, test_accuracy, trained_at - began, eval_s)

    def _is_sampling(self, epoch: int) -> bool:
        sampler = self.config.sampler
        if sampler["name"] == "full":
            return False
        return schedules.is_sampling_epoch(
            epoch, self.config.epochs, sampler["sampling_period"], sampler["warmup_epochs"]
        )

    def _training_epoch(self, epoch: int) -> tuple[int, int]:
        """Train on every sample of the set, or of the remembered subset. Returns: samples scored, trained."""
        trained = 0
        for images, targets, _ in self.subset_loader:
            self._step(epoch, images.to(self.device, non_blocking=True), targets.to(self.device, non_blocking=True))
            trained += len(targets)
        return 0, trained

    def _sampling_epoch(self, epoch: int) -> tuple[int, int]:
        """Score the set in large batches, train on the chosen part of each, and remember it. Returns: as above."""
        config, sampler = self.config, self.config.sampler
        rate = schedules.sampling_rate(
            epoch, config.epochs, sampler["start_rate"], sampler["end_rate"], sampler["warmup_epochs"]
        )
        excluded = schedules.exclusion_rate(epoch, config.epochs, sampler["exclusion_rate"], sampler["exclusion_hold"])
        loader = self._loader(self.train_set, math.ceil(config.batch_size / rate), shuffle=True, is_kept=False)
        remembered: list[Tensor] = []
        for images, targets, indices in loader:
            images = images.to(self.device, non_blocking=True)
            targets = targets.to(self.device, non_blocking=True)
            chosen = torch.arange(len(targets), device=self.device)
            with torch.no_grad():
                teacher_logits = self.teacher(images)
            scores = knowledge_scores(self.student(images), teacher_logits)
            if len(targets) >= config.batch_size:
                first = math.ceil(len(targets) * excluded)
                chosen = scores.argsort(descending=True)[first : first + config.batch_size]
            self._step(epoch, images[chosen], targets[chosen])
            remembered.append(indices[chosen.cpu()])
        chosen_indices = torch.cat(remembered)
        self.subset_loader = self._loader(
            Subset(self.train_set, chosen_indices.unique().tolist()),  # type: ignore[no-untyped-call]
            config.batch_size,
            shuffle=True,
        )
        return len(self.train_set), len(chosen_indices)

    def _step(self, epoch: int, images: Tensor, targets: Tensor) -> None:
        config, sampler = self.config, self.config.sampler
        with torch.no_grad():
            teacher_logits = self.teacher(images)
        logits = self.student(images)
        distillation = kd(logits, teacher_logits, **self.kd_settings)
        if sampler["name"] == "kdas":
            strength = schedules.penalty_lambda(epoch, sampler["penalty_lambda"], sampler["penalty_warmup"])
            weights = penalty_weights(
                teacher_logits, targets, sampler["threshold"], strength, sampler["penalty_factor"]
            )
            distillation = weights * distillation
        label_loss = functional.cross_entropy(logits, targets)
        loss = config.ce_weight * label_loss + config.kd_weight * distillation.mean()
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.loss_sum += loss.detach() * len(targets)

    @torch.no_grad()
    def _test_accuracy(self) -> float:
        self.student.eval()
        correct = torch.zeros((), dtype=torch.int64, device=self.device)
        for images, targets, _ in self.test_loader:
            predictions = self.student(images.to(self.device, non_blocking=True)).argmax(dim=1)
            correct += (predictions == targets.to(self.device, non_blocking=True)).sum()
        return int(correct) / len(self.test_set)

    def _loader(self, images: Dataset[Any], batch_size: int, shuffle: bool, is_kept: bool = True) -> DataLoader[Any]:
        return DataLoader(
            images,
            batch_size,
            shuffle,
            num_workers=self.num_workers,
            persistent_workers=is_kept and self.num_workers > 0,
            pin_memory=self.device == "cuda",
        )


def as_torch_comes() -> None:
    """Set the process to torch's usual settings; those of our own trials are stricter."""
    torch.set_num_threads(DEFAULT_THREADS)
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.deterministic = False
    torch.backends.cudnn.allow_tf32 = True
