"""Fixtures of the kdas tests: a small real trial, hand-made prices, small images."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from kdas import models, seeding
from kdas.clock import Calibration, Work
from kdas.data import DATASETS, ResidentSplit, load_splits
from kdas.losses import LOSSES
from kdas.models import MODELS
from kdas.recipe.config import TrialConfig
from kdas.samplers import SAMPLERS
from kdas.teacher.obtain import Teacher
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Inputs, Trial
from kdas.transforms import TRANSFORMS

ConfigOf = Callable[..., TrialConfig]
TrialOf = Callable[..., Trial]
WriteImages = Callable[..., Path]
WriteFolders = Callable[..., Path]

NUM_TRAIN = 100


@pytest.fixture(autouse=True, scope="module")
def _registries_as_before() -> Iterator[None]:
    """Remove the parts that a test module registered, so that no test depends on the modules that ran before."""
    with pytest.MonkeyPatch.context() as patch:
        for registry in (DATASETS, LOSSES, MODELS, SAMPLERS, TRANSFORMS):
            patch.setattr(registry, "_parts", dict(registry._parts))
        yield


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("KDAS_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def config_of() -> ConfigOf:
    """A small trial on digits; keyword arguments replace whole keys of its file."""

    def build(**changed: Any) -> TrialConfig:
        content = {
            "dataset": "digits",
            "teacher": {"model": "resnet8", "epochs": 1, "batch_size": 32},
            "student": "resnet8",
            "optimizer": {"learning_rate": 0.02},
            "batch_size": 16,
            "epochs": 3,
            "evaluations": 6,
            "device": "cpu",
            "seed": 1,
        }
        return TrialConfig.model_validate({**content, **changed})

    return build


@pytest.fixture(scope="session")
def small_inputs() -> Inputs:
    """100 digits for training, 60 for validation, 60 for testing, and a teacher with random weights."""
    dataset = DATASETS.build(DATASETS.checked("digits"))
    whole = load_splits(dataset, 0.1, "cpu")

    def first(split: Any, count: int) -> ResidentSplit:
        if split.rows is None:
            return ResidentSplit(split.images[:count], split.labels[:count])
        return replace(split, labels=split.labels[:count], rows=split.rows[:count])

    splits = replace(
        whole, train=first(whole.train, NUM_TRAIN), validation=first(whole.validation, 60), test=first(whole.test, 60)
    )
    with seeding.global_draws(7, "teacher of the tests"):
        model = models.create("resnet8", 10)
    return Inputs(dataset, splits, Teacher(model.requires_grad_(False).eval(), "drawn", Path("drawn"), False), "cpu")


@pytest.fixture(scope="session")
def trial_of(config_of: ConfigOf, small_inputs: Inputs) -> TrialOf:
    """The small trial with some keys of its file replaced."""
    return lambda **changed: Trial(config_of(**changed), small_inputs)


@pytest.fixture(scope="session")
def sampler_part(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    """A sampler as a file gives it, by its name, with values of the parameters that have no default."""
    reference = tmp_path_factory.mktemp("reference") / "resnet8.pth"
    with seeding.global_draws(11, "reference of the tests"):
        torch.save(models.create("resnet8", 10).state_dict(), reference)
    required = {"reference_gap": {"reference": str(reference)}}
    return lambda name: {"name": name, **required.get(name, {})}


@pytest.fixture(scope="session")
def calibration() -> Calibration:
    """Prices in realistic proportion: a step costs most, a teacher's forward pass less, everything else little."""
    seconds_per_sample = {
        Work.AUGMENT: 1e-4,
        Work.TEACHER: 1e-3,
        Work.SCORE: 5e-4,
        Work.WEIGH: 1e-5,
        Work.STEP: 3e-3,
        Work.OBSERVE: 1e-6,
        Work.TRACK: 2e-6,
        Work.PROXY_SCORE: 3e-4,
        Work.PROXY_STEP: 1e-3,
    }
    sizes = (8, 16, 32, 64)
    prices = {work: tuple((n, 1e-4 + n * seconds) for n in sizes) for work, seconds in seconds_per_sample.items()}
    prices[Work.EPOCH] = ((25, 6e-3), (100, 9e-3))
    return Calibration("by-hand", {"hardware": "none"}, prices)


@pytest.fixture(scope="session")
def finished(trial_of: TrialOf, calibration: Calibration) -> Callable[..., tuple[Training, list[Any]]]:
    """Trains the small trial to its end; returns its training and its rows."""

    def run(surroundings: Surroundings | None = None, **changed: Any) -> tuple[Training, list[Any]]:
        training = Training(trial_of(**changed), surroundings or Surroundings(calibration))
        return training, list(training.rows())

    return run


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Pixels [H, W, 3] as a PNG file, which is lossless."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def encode() -> Callable[[NDArray[np.uint8]], bytes]:
    return png


@pytest.fixture(scope="session")
def write_images() -> WriteImages:
    """Writes a parquet file in the layout of dataset hubs, with random images unless `encoded` gives their bytes."""

    def write(
        path: Path,
        labels: Sequence[Any],
        *,
        seed: int = 0,
        size: int = 8,
        names: Sequence[str] | None = None,
        image_column: str = "img",
        label_column: str = "label",
        encoded: Sequence[bytes | None] | None = None,
    ) -> Path:
        if encoded is None:
            pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), size, size, 3), dtype=np.uint8)
            encoded = [png(image) for image in pixels]
        cells = [{"bytes": content, "path": f"{row}.png"} for row, content in enumerate(encoded)]
        images = pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        table = pa.table({image_column: images, label_column: pa.array(labels)})
        if names is not None:
            features = {label_column: {"names": list(names), "_type": "ClassLabel"}}
            table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        return path

    return write


@pytest.fixture(scope="session")
def write_folders() -> WriteFolders:
    """Writes PNG files of random pixels as FOLDER/PART/CLASS/NUMBER.png; `numbers`: images per class in each part."""

    def write(
        folder: Path,
        numbers: Mapping[str, int],
        classes: Sequence[str] = ("ant", "bee", "cow"),
        *,
        width: int = 12,
        height: int = 10,
        below: str = "",
    ) -> Path:
        random = np.random.default_rng(0)
        for part, number in numbers.items():
            for label, name in enumerate(classes):
                inner = folder / part / name / below
                inner.mkdir(parents=True, exist_ok=True)
                for each in range(number):
                    # Classes differ in brightness, so that something can be learnt.
                    pixels = random.integers(70 * label, 70 * label + 100, (height, width, 3), dtype=np.uint8)
                    (inner / f"{each}.png").write_bytes(png(pixels))
        return folder

    return write
