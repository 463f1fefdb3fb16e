"""A trial that is ready to run: its file, data, teacher and device brought together, and its name."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

from kdas import device as devices
from kdas import teacher as teachers
from kdas.cache import content_id
from kdas.config import TrialConfig
from kdas.data import DATASETS, Dataset, ImageSplits, load_splits
from kdas.distiller import Distiller
from kdas.teacher import Progress, Teacher


@dataclass(frozen=True)
class Inputs:
    """What all trials of a sweep have in common, loaded once per process."""

    dataset: Dataset
    splits: ImageSplits
    teacher: Teacher
    device: str


@dataclass(frozen=True)
class Trial:
    """One configuration with one seed. `config_id` names the configuration, `trial_id` it and the seed."""

    config: TrialConfig
    inputs: Inputs

    @property
    def config_id(self) -> str:
        return config_id(self.config, self.inputs)

    @property
    def trial_id(self) -> str:
        return f"{self.config_id}-s{self.config.seed}"

    @property
    def pair(self) -> str:
        return f"{self.config.teacher.model}->{self.config.student}"

    def distiller(self) -> Distiller:
        return Distiller(self.config, self.inputs.splits, self.inputs.teacher.model, self.inputs.device)


def config_id(config: TrialConfig, inputs: Inputs) -> str:
    """A hash of all that decides the curve but the seed. Data and teacher count by content, never by path."""
    content: dict[str, Any] = config.model_dump(mode="json", exclude={"seed", "dataset", "teacher", "device"})
    dataset = inputs.dataset
    return content_id(
        {
            **content,
            "dataset": [dataset.fingerprint, dataset.padding, dataset.flip],
            "teacher": inputs.teacher.weights_id,
            "device": inputs.device,
        }
    )


def find_dataset(config: TrialConfig) -> Dataset:
    """The dataset, found and fingerprinted but not decoded.

    Raises: UserError: if it is not there and cannot be downloaded, or is damaged.
    """
    return _found(json.dumps(config.dataset))


@functools.lru_cache(maxsize=4)
def _found(part: str) -> Dataset:
    # Reading a large set once to fingerprint it is enough for a process.
    return DATASETS.build(json.loads(part))


def load_inputs(config: TrialConfig, progress: Progress = lambda epoch, epochs, accuracy: None) -> Inputs:
    """Data on the device and the teacher, trained if nobody has. Raises: UserError."""
    device = devices.resolve(config.device)
    dataset = find_dataset(config)
    splits = load_splits(dataset, config.validation, device)
    teacher = teachers.obtain(config.teacher, dataset, config.validation, splits, device, progress)
    return Inputs(dataset, splits, teacher, device)
