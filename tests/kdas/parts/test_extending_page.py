"""The files of docs/extending.md, exactly as printed: each trains a trial and keeps the contract of its kind."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

from kdas.__main__ import app
from kdas.clock import Calibration
from kdas.data import DATASETS, Draw
from kdas.errors import UserError
from kdas.losses import LOSSES
from kdas.parts.plugins import code_id, load_plugins
from kdas.recipe.config import TrialConfig, load_trial_config
from kdas.records import CurveRow
from kdas.samplers import SAMPLERS
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Inputs, Trial, load_inputs
from tests.kdas.parts import test_parts_contract as contract
from tests.kdas.transforms import test_transforms_contract as of_transforms
from tests.places import ROOT

PAGE = ROOT / "docs" / "extending.md"
# The first line of a Python block is the file's name; the YAML block after it shows its lines in a trial or sweep file.
EXAMPLE = re.compile(r"```python\n# (?P<file>\w+\.py)\n(?P<code>.*?)```\n+```yaml\n(?P<lines>.*?)```", re.DOTALL)
EXAMPLES = {found["file"]: found for found in EXAMPLE.finditer(PAGE.read_text(encoding="utf-8"))}
# A stopping rule belongs to a sweep; tests/sweeps/stopping/ runs it. A tracker, which tests/sweeps/tracking/ runs, is
# switched on by a variable and has no lines of YAML.
OF_A_SWEEP, NUM_TRACKERS = "my_rule.py", 1
OF_A_TRIAL = [name for name in EXAMPLES if name != OF_A_SWEEP]
SMALL = {
    "dataset": "digits",
    "teacher": {"model": "resnet8", "epochs": 1, "batch_size": 32},
    "student": "resnet8",
    "optimizer": {"learning_rate": 0.02},
    "batch_size": 16,
    "epochs": 2,
    "evaluations": 2,
    "device": "cpu",
}
PER_CLASS = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page, and the data that its dataset reads: a few digits of each class."""
    folder = tmp_path_factory.mktemp("page")
    for name, example in EXAMPLES.items():
        (folder / name).write_text(f"# {name}\n{example['code']}", encoding="utf-8")
    digits = DATASETS.build(DATASETS.checked("digits")).decode()
    few = np.sort(np.concatenate([np.flatnonzero(digits.train_labels == label)[:PER_CLASS] for label in range(10)]))
    np.savez(
        folder / "digits.npz",
        train_images=digits.train_images[few, 0],
        train_labels=digits.train_labels[few, None],
        test_images=digits.test_images.transpose(0, 2, 3, 1),
        test_labels=digits.test_labels[:, None],
    )
    return folder


@pytest.fixture
def in_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return folder


@pytest.fixture
def load(in_folder: Path) -> Callable[..., TrialConfig]:
    def write_and_load(file: str, **changed: Any) -> TrialConfig:
        path = in_folder / "trial.yaml"
        path.write_text(
            yaml.safe_dump({**SMALL, **yaml.safe_load(EXAMPLES[file]["lines"]), **changed}), encoding="utf-8"
        )
        return load_trial_config(path)

    return write_and_load


@pytest.fixture
def train(small_inputs: Inputs, calibration: Calibration) -> Callable[[TrialConfig], list[CurveRow]]:
    def rows_of(config: TrialConfig) -> list[CurveRow]:
        inputs = small_inputs if config.dataset["name"] == "digits" else load_inputs(config)
        return list(Training(Trial(config, inputs), Surroundings(calibration)).rows())

    return rows_of


def test_every_python_block_of_the_page_is_a_file_with_its_lines_of_yaml() -> None:
    of_losses = ["my_loss.py", "my_relations.py", "my_maps.py"]
    others = ["my_sampler.py", "my_transform.py", "my_net.py", "my_dataset.py", OF_A_SWEEP]
    assert list(EXAMPLES) == [*of_losses, *others]
    assert PAGE.read_text(encoding="utf-8").count("```python") == len(EXAMPLES) + NUM_TRACKERS


@pytest.mark.parametrize("file", OF_A_TRIAL)
def test_trial_with_a_part_of_the_page_trains_and_repeats(
    file: str, load: Callable[..., TrialConfig], train: Callable[[TrialConfig], list[CurveRow]]
) -> None:
    config = load(file)
    first, again = train(config), train(config)
    assert first[-1].epoch == 2 and np.isfinite(first[-1].train_loss)
    assert [(row.train_loss, row.val_accuracy, row.samples_trained) for row in first] == [
        (row.train_loss, row.val_accuracy, row.samples_trained) for row in again
    ]


@pytest.mark.parametrize("file", ["my_loss.py", "my_sampler.py", "my_transform.py", "my_net.py"])
def test_edited_part_of_the_page_is_another_trial(
    file: str, load: Callable[..., TrialConfig], small_inputs: Inputs, in_folder: Path
) -> None:
    config, path = load(file), in_folder / file
    before, code = Trial(config, small_inputs).config_id, path.read_text(encoding="utf-8")
    path.write_text(code + "# edited\n", encoding="utf-8")
    assert Trial(config, small_inputs).config_id == before  # this process still runs the code that it imported
    code_id.cache_clear()  # the next process
    assert Trial(config, small_inputs).config_id != before
    path.write_text(code, encoding="utf-8")
    code_id.cache_clear()
    assert Trial(config, small_inputs).config_id == before


@pytest.mark.parametrize(
    ("file", "name"),
    [("my_loss.py", "correlation"), ("my_relations.py", "neighbourhood"), ("my_maps.py", "pixel_direction")],
)
def test_loss_of_the_page_keeps_the_contract(in_folder: Path, file: str, name: str) -> None:
    load_plugins([file])
    contract.test_loss_is_one_finite_value_a_sample_with_finite_gradients(name, torch.float32)
    if name != "neighbourhood":
        contract.test_loss_of_a_sample_does_not_depend_on_the_others(name)
    contract.test_loss_is_finite_for_a_teacher_that_is_certain(name)
    contract.test_loss_leaves_its_arguments_alone_and_gives_the_same_again(name)
    contract.test_loss_goes_through_state_and_back(name)


def test_relations_of_the_page_are_no_loss_for_a_student_that_sees_the_teachers_neighbours(in_folder: Path) -> None:
    load_plugins(["my_relations.py"])
    loss: Any = LOSSES.build(LOSSES.checked("neighbourhood"))
    logits, features = torch.zeros(5, 10), torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    targets = torch.zeros(5, dtype=torch.int64)
    turned = torch.linalg.qr(torch.randn(7, 7, generator=torch.Generator().manual_seed(1)))[0]
    same = loss(logits, logits, targets, student_features=3 * features @ turned, teacher_features=features)
    torch.testing.assert_close(same, torch.zeros(5), rtol=0, atol=1e-5)
    other = loss(logits, logits, targets, student_features=features.flip(0), teacher_features=features)
    assert (other > 0.01).all()


def test_loss_of_the_page_is_zero_for_the_teacher_s_own_logits_and_the_squared_temperature_for_opposite_ones(
    in_folder: Path,
) -> None:
    load_plugins(["my_loss.py"])
    loss = contract.LOSSES.build(contract.LOSSES.checked({"name": "correlation", "temperature": 2}))
    logits, targets = contract.random_logits(8, 1), torch.zeros(8, dtype=torch.int64)
    torch.testing.assert_close(loss(logits, logits, targets), torch.zeros(8), atol=1e-5, rtol=0)
    two_classes = logits[:, :2]
    torch.testing.assert_close(loss(two_classes, two_classes.flip(1), targets), torch.full((8,), 8.0))


def test_message_that_the_page_quotes_is_the_one_that_is_given(load: Callable[..., TrialConfig]) -> None:
    with pytest.raises(
        UserError, match=r"trial\.yaml: loss\.temperature: expected a value in \(0, inf\), got 0\."
    ) as refused:
        load("my_loss.py", loss={"name": "correlation", "temperature": 0})
    message = str(refused.value)
    assert message[message.index("trial.yaml") :] in PAGE.read_text(encoding="utf-8")


def test_list_shows_a_part_of_the_page_once_it_is_imported(in_folder: Path) -> None:
    load_plugins(["my_loss.py"])
    printed = CliRunner().invoke(app, ["list", "losses"]).output
    assert "correlation" in printed and "temperature (4.0)" in printed


def test_sampler_of_the_page_keeps_the_contract(in_folder: Path) -> None:
    load_plugins(["my_sampler.py"])
    contract.test_sampler_plans_known_samples_and_selects_positions_of_the_batch("uncertain_teacher")
    contract.test_sampler_trains_on_something_every_epoch("uncertain_teacher")
    contract.test_sampler_weights_are_none_or_one_per_sample_between_zero_and_one("uncertain_teacher")
    contract.test_sampler_restored_between_two_epochs_continues_the_same("uncertain_teacher")
    contract.test_sampler_draws_from_its_seed_alone("uncertain_teacher")


def test_sampler_of_the_page_prefers_samples_of_which_the_teacher_is_unsure(in_folder: Path) -> None:
    load_plugins(["my_sampler.py"])
    sampler: Any = SAMPLERS.build(SAMPLERS.checked("uncertain_teacher"), contract.CONTEXT)
    num_samples = contract.CONTEXT.num_samples
    is_sure = torch.arange(num_samples) % 2 == 0
    teacher_logits = torch.zeros(num_samples, 10)
    teacher_logits[is_sure, 0] = 200.0
    for indices in sampler.plan(1).batches():
        sampler.select(1, indices, teacher_logits=teacher_logits[indices])
    assert is_sure[sampler.plan(2).order].float().mean() < 0.1


def test_transform_of_the_page_dims_each_image_by_its_own_part(load: Callable[..., TrialConfig]) -> None:
    load("my_transform.py")
    batch, transform = of_transforms.batch_of([3, 8, 5]), of_transforms.built("dim", most=0.9)
    pixels = of_transforms.context().pixels
    before, after = pixels(batch.images).double(), pixels(transform(batch, Draw(1, 1)).images).double()
    kept = after.sum(dim=(1, 2, 3)) / before.sum(dim=(1, 2, 3))
    assert len({round(each, 3) for each in kept.tolist()}) == 3 and ((kept > 0.1) & (kept < 1)).all()
    for contract_of_one in (
        of_transforms.test_images_keep_shape_dtype_and_order,
        of_transforms.test_same_seed_epoch_and_batch_give_the_same_whatever_ran_before,
        of_transforms.test_order_of_a_batch_does_not_matter,
        of_transforms.test_transform_without_partners_does_not_look_at_the_rest_of_the_batch,
    ):
        contract_of_one("dim")


@pytest.mark.parametrize("image_size", [8, 64])
def test_model_of_the_page_takes_small_and_large_images(in_folder: Path, image_size: int) -> None:
    contract.test_model_takes_small_and_large_images("my_net:SmallConvNeXt", image_size)


def test_model_of_the_page_keeps_the_contract(in_folder: Path) -> None:
    contract.test_model_classifies_images_from_its_features("my_net:SmallConvNeXt")
    contract.test_model_drawn_from_the_same_seed_is_the_same("my_net:SmallConvNeXt")
    contract.test_model_has_finite_gradients_for_all_its_weights("my_net:SmallConvNeXt")


def test_dataset_of_the_page_decodes_what_its_file_holds(load: Callable[..., TrialConfig]) -> None:
    dataset = DATASETS.build(load("my_dataset.py").dataset)
    digits, decoded = DATASETS.build(DATASETS.checked("digits")).decode(), dataset.decode()
    assert (dataset.num_classes, dataset.padding, dataset.flip) == (10, 1, False)
    assert decoded.train_images.shape == (10 * PER_CLASS, 3, 8, 8) and decoded.train_images.dtype == np.uint8
    assert decoded.train_labels.dtype == np.int64 and decoded.train_labels.shape == (10 * PER_CLASS,)
    # Gray images and coloured ones come out alike.
    np.testing.assert_array_equal(decoded.test_images, digits.test_images)
    np.testing.assert_array_equal(np.bincount(decoded.train_labels), np.full(10, PER_CLASS))


def test_dataset_of_the_page_counts_by_content_and_names_what_is_missing(
    load: Callable[..., TrialConfig], in_folder: Path, tmp_path: Path
) -> None:
    dataset = DATASETS.build(load("my_dataset.py").dataset)
    moved = tmp_path / "moved.npz"
    moved.write_bytes((in_folder / "digits.npz").read_bytes())
    assert DATASETS.build(DATASETS.checked({"name": "npz", "path": str(moved)})).fingerprint == dataset.fingerprint
    np.savez(tmp_path / "half.npz", train_images=np.zeros((2, 8, 8), np.uint8), train_labels=np.zeros(2, np.int64))
    with pytest.raises(
        UserError, match=r"half\.npz: cannot be read: .*test_images.* Give a \.npz file with train_images, "
    ):
        DATASETS.build(DATASETS.checked({"name": "npz", "path": str(tmp_path / "half.npz")}))
    with pytest.raises(UserError, match=r"none\.npz: cannot be read: .*No such file"):
        DATASETS.build(DATASETS.checked({"name": "npz", "path": str(tmp_path / "none.npz")}))
