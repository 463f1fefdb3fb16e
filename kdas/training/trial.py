"""A trial that is ready to run: its settings, data, teacher, device and id."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from torch import Tensor

from kdas import models
from kdas.clock import Calibration, Work
from kdas.compute import device as devices
from kdas.compute.evaluate import predictions
from kdas.compute.precision import Precision
from kdas.data import DATASETS, Dataset, ImageSplits, load_splits
from kdas.errors import UserError
from kdas.files.cache import content_id
from kdas.losses import LOSSES, LossNeed
from kdas.losses.terms import needs_of
from kdas.parts.plugins import code_id
from kdas.parts.terms import as_terms, identity_of
from kdas.recipe.config import Recipe, TrialConfig
from kdas.recipe.teacher import SelfTeacher, key_of
from kdas.records import MEASURE_VERSION, CurveRow
from kdas.samplers import SAMPLERS
from kdas.students.about import OF_EVALUATION, About
from kdas.students.start import reference_id, start_id
from kdas.teacher import obtain as teachers
from kdas.teacher.bank import TeacherBank, bank_precision, open_bank
from kdas.teacher.obtain import UNTRAINED, OnEpoch, Teacher
from kdas.teacher.quality import TeacherQuality, member_qualities, share_right, teacher_quality
from kdas.training.answering import check_maps
from kdas.training.distiller import Distiller
from kdas.training.provenance import provenance
from kdas.training.proxy import check_proxy, proxy_name
from kdas.transforms import TRANSFORMS

NO_OTHERS: Mapping[str, TrialConfig] = MappingProxyType({})


@dataclass(frozen=True)
class Flops:
    """Floating point operations for each sample that is scored, trained on, or that the teacher answers for."""

    score: float
    step: float
    teacher: float


@dataclass(frozen=True)
class Inputs:
    """What all trials of a sweep have in common, loaded once per process.

    `others`: the teachers of methods that have their own, by `key_of` their block.
    """

    dataset: Dataset
    splits: ImageSplits
    teacher: Teacher
    device: str
    others: Mapping[str, Teacher] = field(default_factory=dict)

    def of(self, recipe: Recipe) -> Inputs:
        """The same data with the teacher of a recipe, if that is one of the others."""
        return self._with_others.get(key_of(recipe.teacher), self) if self.others else self

    @functools.cached_property
    def _with_others(self) -> dict[str, Inputs]:
        return {key: Inputs(self.dataset, self.splits, each, self.device) for key, each in self.others.items()}

    @functools.cached_property
    def flops(self) -> dict[str, Flops]:
        """Operations that were counted already, by what they depend on."""
        return {}

    @functools.cached_property
    def _banks(self) -> dict[tuple[str, str | None], TeacherBank | None]:
        return {}

    def bank(self, recipe: Recipe, *, check: bool = False) -> TeacherBank | None:
        """The teacher bank that trials of a recipe share, opened once; None if the teacher runs live.

        Args: check: also compare a few answers with the teacher's, and rebuild the bank if they differ.
        Raises: UserError: if the disk has no room for it.
        """
        known_by = (recipe.precision, bank_precision(recipe, self.dataset, self.splits))
        if known_by not in self._banks:
            self._banks[known_by] = open_bank(recipe, self.dataset, self.splits, self.teacher, self.device, check=check)
        return self._banks[known_by]

    def teacher_quality(self, recipe: Recipe, announce: Callable[[], None] = lambda: None) -> TeacherQuality:
        """How often the teacher is right on the split that decides; `announce` is called before it is evaluated."""
        return teacher_quality(recipe, self.dataset, self.splits, self.teacher, self.device, announce)

    def member_qualities(self, recipe: Recipe) -> dict[str, TeacherQuality]:
        """The same of each of several teachers, by name; none of a single one."""
        return member_qualities(recipe, self.dataset, self.splits, self.teacher, self.device)

    @functools.cached_property
    def _shares_right(self) -> dict[tuple[str, str], float]:
        return {}

    def teacher_share_right(self, recipe: Recipe) -> float:
        """The share of training views that the teacher classifies as their label; judged once for all like trials.

        1 for a teacher that is still to be trained, and for a student's own past: most learn nearly all of them.
        """
        if self.teacher.weights_id == UNTRAINED or isinstance(recipe.teacher, SelfTeacher):
            return 1.0
        known_by = (recipe.precision, json.dumps(recipe.transforms))
        if known_by not in self._shares_right:
            self._shares_right[known_by] = share_right(recipe, self.splits, self.teacher, self.device)
        return self._shares_right[known_by]

    @functools.cached_property
    def _predictions(self) -> dict[tuple[str, bool, int], Tensor]:
        return {}

    def teacher_predictions(self, recipe: Recipe) -> Tensor | None:
        """The class that the teacher gives each test image, int64 [N]; computed once for all trials of a recipe.

        None if the teacher is the student's own past, which changes.
        """
        if isinstance(recipe.teacher, SelfTeacher):
            return None
        known_by = (recipe.precision, recipe.multi_crop, recipe.threads)
        if known_by not in self._predictions:
            self._predictions[known_by] = predictions(
                self.teacher.model,
                self.splits.test,
                self.splits,
                recipe.multi_crop,
                Precision(recipe.precision, self.device),
            )
        return self._predictions[known_by]

    @functools.cached_property
    def class_means(self) -> Tensor:
        """The teacher's mean features [C, D] of the training images of each class, without augmentation."""
        return teachers.class_means(self.teacher.model, self.splits)


@dataclass(frozen=True)
class Trial:
    """One configuration with one seed. `config_id` identifies the configuration, `trial_id` also the seed."""

    config: TrialConfig
    inputs: Inputs

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", self.inputs.of(self.config))

    @functools.cached_property
    def config_id(self) -> str:
        return config_id(self.config, self.inputs)

    @property
    def trial_id(self) -> str:
        return f"{self.config_id}-s{self.config.seed}"

    @property
    def pair(self) -> str:
        return f"{self.config.teacher.model}->{self.config.student}"

    def budget_ref_s(self, calibration: Calibration) -> float:
        """What it may spend: the given budget, or the cost of plain distillation with its loss over `budget_epochs`."""
        if self.config.budget_ref_s is not None:
            return self.config.budget_ref_s
        num_samples, batch_size = len(self.inputs.splits.train), self.config.batch_size
        budget = calibration.plain_run_s(num_samples, batch_size, self.config.budget_epochs or self.config.epochs)
        if LossNeed.CLASS_MEANS in needs_of(self.config.loss):
            budget += calibration.pass_s(Work.TEACHER, num_samples, batch_size)
        if isinstance(self.config.teacher, SelfTeacher):  # there is none in the first epoch
            budget -= calibration.pass_s(Work.TEACHER, num_samples, batch_size)
        return budget

    def distiller(self) -> Distiller:
        inputs = self.inputs
        return Distiller(self.config, inputs.splits, inputs.teacher.model, inputs.device, lambda: inputs.class_means)

    def about(self, best: CurveRow, last: CurveRow) -> About:
        """The description of its student. Args: best, last: the evaluations of the weights that are kept."""
        config, inputs = self.config, self.inputs
        dataset, splits = inputs.dataset, inputs.splits
        return About(
            student=config.student,
            num_classes=splits.num_classes,
            class_names=list(dataset.class_names),
            image_size=splits.image_size,
            shorter_side=splits.views.shorter_side,
            pixel_mean=splits.mean.flatten().tolist(),
            pixel_std=splits.std.flatten().tolist(),
            trial_id=self.trial_id,
            decided_by="validation" if config.validation else "test",
            best={key: best.as_dict()[key] for key in OF_EVALUATION},
            last={key: last.as_dict()[key] for key in OF_EVALUATION},
            recipe=config.model_dump(mode="json"),
            data={"name": dataset.name, "origin": dataset.origin, "identity": dataset.identity},
            teacher={"model": config.teacher.model, "weights": inputs.teacher.weights_id},
            provenance=provenance(inputs.device),
            files={},
        )


def config_id(config: TrialConfig, inputs: Inputs) -> str:
    """A hash of everything that can change the curve, except the seed and the versions of packages.

    Data, teacher and other kept weights count by content, never by path.
    """
    inputs = inputs.of(config)
    # The names of data, teacher and preset do not count; what they stand for does.
    named = {"seed", "dataset", "teacher", "student_checkpoint", "device", "preset", "plugins", "data_workers", "bank"}
    content: dict[str, Any] = config.model_dump(mode="json", exclude=named)
    for key in ("budget_ref_s", "budget_epochs", "student_layers", "teacher_layers"):
        if content[key] is None:
            del content[key]  # keeps ids from before there was this key
    if not content["cuda_graphs"]:
        del content["cuda_graphs"]  # likewise
    content["loss"], content["sampler"] = identity_of(content["loss"]), SAMPLERS.identity(content["sampler"])
    if reference := reference_id(config, inputs.splits.num_classes):
        content["sampler"]["reference"] = reference
    if not content["transforms"]:
        del content["transforms"]
    return content_id(
        {
            **content,
            **({"student_start": start} if (start := start_id(config, inputs.splits.num_classes)) else {}),
            "measure_version": MEASURE_VERSION,
            "dataset": inputs.dataset.identity,
            "teacher": inputs.teacher.weights_id,
            "code": own_code(config),
            "device": inputs.device,
            "bank": bank_precision(config, inputs.dataset, inputs.splits),
        }
    )


def own_code(config: TrialConfig) -> list[str]:
    """Hashes of the files that define the user's own parts: edited files make another trial."""
    return sorted({*priced_code(config), code_id(SAMPLERS[config.sampler["name"]].module)} - {""})


def priced_code(config: TrialConfig) -> list[str]:
    """Hashes of the user's own files that can change what a step costs."""
    modules = {LOSSES[part["name"]].module for _, part in as_terms(config.loss)}
    modules |= {TRANSFORMS[part["name"]].module for part in config.transforms}
    of_teacher = [member.model for member in config.teacher.members]
    named = filter(None, (config.student, *of_teacher, proxy_name(config.sampler)))
    return sorted({*map(code_id, modules), *map(models.source_id, named)} - {""})


def find_dataset(config: TrialConfig) -> Dataset:
    """The dataset, found and fingerprinted but not decoded.

    Raises: UserError: if it is missing and cannot be downloaded, or is damaged.
    """
    return _found(json.dumps(config.dataset))


@functools.lru_cache(maxsize=4)
def _found(part: str) -> Dataset:
    # Fingerprinting reads a large set from beginning to end, so a process does it only once.
    dataset: Dataset = DATASETS.build(json.loads(part))
    if dataset.num_classes < 2:
        raise UserError(f"{dataset.origin}: expected at least 2 classes, got {dataset.num_classes}.")
    return dataset


def load_inputs(
    config: TrialConfig,
    progress: OnEpoch = lambda epoch, epochs, accuracy: None,
    others: Mapping[str, TrialConfig] = NO_OTHERS,
) -> Inputs:
    """Data on the device, and the teachers, each trained first if the cache does not have it.

    Args: others: trials with other teachers, by the keys of `Inputs.others`.
    Raises: UserError: if data or checkpoint are missing or damaged, or a model cannot take images of this size.
    """
    dataset, splits, device = _data(config, others)

    def obtained(of: TrialConfig) -> Teacher:
        return teachers.obtain(of.teacher, dataset, of.validation, splits, device, progress)

    return Inputs(dataset, splits, obtained(config), device, {key: obtained(each) for key, each in others.items()})


def untrained_inputs(config: TrialConfig, others: Mapping[str, TrialConfig] = NO_OTHERS) -> Inputs:
    """As `load_inputs`, but with untrained teachers, which are enough for prices."""
    dataset, splits, device = _data(config, others)
    untrained = {key: teachers.untrained(each.teacher, splits, device) for key, each in others.items()}
    return Inputs(dataset, splits, teachers.untrained(config.teacher, splits, device), device, untrained)


def _data(config: TrialConfig, others: Mapping[str, TrialConfig]) -> tuple[Dataset, ImageSplits, str]:
    device = devices.resolve(config.device)
    dataset = find_dataset(config)
    if config.compile and device == "cpu" and devices.compiler() is None:
        raise UserError(
            "compile: true needs a C++ compiler on a CPU, and none was found. Install g++, or set compile: false."
        )
    if config.cuda_graphs and device != "cuda":
        raise UserError(f"cuda_graphs: true needs a CUDA device, got {device}. Set cuda_graphs: false.")
    with DATASETS.blamed(config.dataset["name"]):
        splits = load_splits(dataset, config.validation, device, config.data_workers)
    models.check_image_size(config.student, splits.num_classes, splits.image_size, is_trained=True)
    for each in (config, *others.values()):
        _check_models(each, dataset, splits)
    return dataset, splits, device


def _check_models(config: TrialConfig, dataset: Dataset, splits: ImageSplits) -> None:
    for member in config.teacher.members:
        is_trained = not member.checkpoint
        models.check_image_size(member.model, splits.num_classes, splits.image_size, is_trained=is_trained)
    check_maps(config, splits.num_classes, splits.image_size)
    check_proxy(config.sampler, splits.num_classes, splits.image_size)
    for id_of in (start_id, reference_id):  # refuses weights that do not fit, before anything is trained
        id_of(config, splits.num_classes)
    bank_precision(config, dataset, splits)
