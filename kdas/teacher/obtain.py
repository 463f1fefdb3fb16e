"""The teacher: loaded from a checkpoint, or trained once on the labels and kept by content hash."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdas import models, seeding
from kdas.compute.device import repeatable
from kdas.compute.evaluate import accuracy
from kdas.compute.optimizer import optimizer_of, set_learning_rate
from kdas.data import Dataset, Draw, ImageSplits, batches_of
from kdas.errors import UserError
from kdas.files import checkpoint
from kdas.files.cache import cache_root, content_id, writable_folder
from kdas.files.control_groups import num_cpus
from kdas.files.full import check_room
from kdas.files.home import expanded
from kdas.files.locks import locked
from kdas.models import Model
from kdas.models.weights import check_finite, load_weights
from kdas.models.weights import weights_id as weights_id_of
from kdas.recipe.teacher import AnyTeacher, TeacherConfig
from kdas.records import MEASURE_VERSION
from kdas.teacher.mixture import Mixture

# Epochs done (0 before the first), epochs in all, validation accuracy so far; of each teacher, one after the other.
OnEpoch = Callable[[int, int, float], None]
# The `weights_id` of a teacher with initial weights.
UNTRAINED = "untrained"


@dataclass(frozen=True)
class Teacher:
    """A frozen teacher. `weights_id` is a hash of its weights: trials are identified by it, not by a recipe.

    `choice`: which network of its checkpoint was taken, and which were not; empty if only one fits. `members`: of
    several teachers that answer as one, each of them.
    """

    model: Model
    weights_id: str
    path: Path
    was_trained: bool
    choice: str = ""
    members: tuple[Teacher, ...] = ()


def code_of(config: AnyTeacher) -> str:
    """A hash of the code of a teacher's networks that are the user's own; empty if none is."""
    codes = [models.source_id(member.model) for member in config.members]
    return "+".join(codes) if any(codes) else ""


def teacher_path(config: TeacherConfig, dataset: Dataset, validation: float) -> Path:
    """Where the weights are, or will be once trained."""
    if config.checkpoint:
        return expanded(config.checkpoint)
    recipe = config.model_dump(mode="json", exclude={"checkpoint"}) | {
        "code": models.source_id(config.model),
        "measure_version": MEASURE_VERSION,
    }
    identity = content_id([*dataset.identity, validation, recipe])
    return cache_root() / "teachers" / f"{dataset.name}-{models.file_name(config.model)}-{identity}.pth"


def is_kept(config: AnyTeacher, dataset: Dataset, validation: float) -> bool:
    """Whether the weights of all its networks are there, so that none must be trained."""
    return all(member.checkpoint or teacher_path(member, dataset, validation).exists() for member in config.members)


def check_checkpoint(config: AnyTeacher, dataset: Dataset) -> None:
    """Refuse a checkpoint that is missing, damaged, of another architecture or not finite, before any compute is spent.

    Raises: UserError: says which.
    """
    for key, member in zip(config.keys, config.members, strict=True):
        if member.checkpoint:
            _load_given(models.create(member.model, dataset.num_classes), member, key)


def obtain(
    config: AnyTeacher,
    dataset: Dataset,
    validation: float,
    splits: ImageSplits,
    device: str,
    progress: OnEpoch = lambda epoch, epochs, accuracy: None,
) -> Teacher:
    """The teacher in eval mode on the device; trained first if the cache does not have it.

    Raises: UserError: if its checkpoint is missing, damaged, of another architecture or not finite, or if its training
        diverged.
    """
    each = [
        _obtained(member, key, dataset, validation, splits, device, progress)
        for key, member in zip(config.keys, config.members, strict=True)
    ]
    return each[0] if isinstance(config, TeacherConfig) else _as_one(each, config, device)


def _as_one(members: Sequence[Teacher], config: AnyTeacher, device: str) -> Teacher:
    """Several teachers as one. Of `teacher: self`, whose network belongs to the trial, it is empty."""
    mixture = Mixture([member.model for member in members], config.shares).requires_grad_(False).eval().to(device)
    ids = [member.weights_id for member in members]
    weights_id = UNTRAINED if UNTRAINED in ids else content_id({"of": ids, "shares": config.shares})
    return Teacher(mixture, weights_id, Path(), any(member.was_trained for member in members), "", tuple(members))


def _obtained(
    config: TeacherConfig,
    key: str,
    dataset: Dataset,
    validation: float,
    splits: ImageSplits,
    device: str,
    progress: OnEpoch,
) -> Teacher:
    path = teacher_path(config, dataset, validation)
    was_trained = False
    if not config.checkpoint:
        was_trained = not path.exists() and _train_and_keep(path, config, splits, device, progress)
    with seeding.global_draws(config.seed, "teacher"):
        model = models.create(config.model, splits.num_classes)
    choice = ""
    if config.checkpoint:
        choice = _load_given(model, config, key)
    else:
        try:
            load_weights(model, path, config.model)
        except UserError as error:
            raise UserError(f"{path}: the cached teacher is damaged. Remove this file to train it again.") from error
    weights_id = weights_id_of(model)
    model.take_pixels(splits.mean, splits.std)
    model.requires_grad_(False).eval().to(device).to(memory_format=torch.channels_last)
    return Teacher(model, weights_id, path, was_trained, choice)


def _load_given(model: Model, config: TeacherConfig, key: str) -> str:
    """`load_weights` from the checkpoint that the file names. Raises: UserError: as that does, with the key."""
    assert config.checkpoint
    try:
        return load_weights(model, expanded(config.checkpoint), config.model)
    except UserError as error:
        raise UserError(f"{key}.checkpoint: {error}") from error


def _train_and_keep(path: Path, config: TeacherConfig, splits: ImageSplits, device: str, progress: OnEpoch) -> bool:
    """Train a teacher, unless another process has meanwhile. Returns: whether it was trained here."""
    writable_folder(path.parent)
    # Two sweeps that start at the same time train it only once.
    with locked(path.with_name(f"{path.name}.lock")):
        if path.exists():
            return False
        check_room(path.parent, _num_bytes(config, splits), "the teacher")
        model = _trained(config, splits, device, progress).cpu()
        try:
            check_finite(model)
        except UserError as error:
            raise UserError("teacher: its training diverged. Lower teacher.optimizer.learning_rate.") from error
        checkpoint.save(path, {"model": model.state_dict()})
        return True


def _num_bytes(config: TeacherConfig, splits: ImageSplits) -> int:
    with seeding.global_draws(config.seed, "teacher"):
        state = models.create(config.model, splits.num_classes).state_dict()
    return sum(tensor.numel() * tensor.element_size() for tensor in state.values())


def untrained(config: AnyTeacher, splits: ImageSplits, device: str) -> Teacher:
    """A teacher with initial weights, whose forward passes cost what the trained teacher's would."""
    each = []
    for member in config.members:
        with seeding.global_draws(member.seed, "teacher"):
            model = models.create(member.model, splits.num_classes)
        model.take_pixels(splits.mean, splits.std)
        model.requires_grad_(False).eval().to(device).to(memory_format=torch.channels_last)
        each.append(Teacher(model, UNTRAINED, Path(), False))
    return each[0] if isinstance(config, TeacherConfig) else _as_one(each, config, device)


@torch.no_grad()
def class_means(model: Model, splits: ImageSplits) -> Tensor:
    """Mean features [C, D] of the training images of each class, without augmentation."""
    total: Tensor | float = 0.0
    count: Tensor | float = 0.0
    for labels, (images,) in splits.evaluation_batches(splits.train):
        features = model.forward_with_features(images)[1]
        # A matrix product, because adding by index is not deterministic on a GPU.
        of_class = functional.one_hot(labels, splits.num_classes).to(features.dtype)
        total = total + of_class.T @ features
        count = count + of_class.sum(dim=0)
    assert isinstance(total, Tensor) and isinstance(count, Tensor)
    return total / count.clamp(min=1)[:, None]


def _trained(config: TeacherConfig, splits: ImageSplits, device: str, progress: OnEpoch) -> Model:
    """Cross-entropy on the labels, with the views and schedules of a trial."""
    # Nothing else runs while a teacher is trained, so it may use all cores.
    repeatable(num_cpus())
    with seeding.global_draws(config.seed, "teacher"):
        model = models.create(config.model, splits.num_classes)
    model.take_pixels(splits.mean, splits.std)
    model = model.to(device).to(memory_format=torch.channels_last)
    with seeding.global_draws(config.seed, "teacher dropout", device=device):
        _train(model, config, splits, progress)
    return model


def _train(model: Model, config: TeacherConfig, splits: ImageSplits, progress: OnEpoch) -> None:
    settings, train = config.optimizer, splits.train
    optimizer = optimizer_of(model, settings)
    progress(0, config.epochs, 0.0)
    for epoch in range(1, config.epochs + 1):
        set_learning_rate(optimizer, settings, epoch, config.epochs)
        order = torch.randperm(len(train), generator=seeding.generator(config.seed, "teacher order", epoch))
        batches = batches_of(order, config.batch_size)
        for indices, images in splits.training_batches(batches, Draw(config.seed, epoch)):
            if len(indices) < 2:
                continue  # the others could not be read, and batch norm needs two
            labels = train.labels[indices]
            loss = functional.cross_entropy(model(images), labels, label_smoothing=config.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            if settings.clip_norm is not None:
                nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
            optimizer.step()
        progress(epoch, config.epochs, accuracy(model, splits.validation, splits))
