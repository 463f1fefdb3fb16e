"""The teacher: trained once and cached, or loaded from a checkpoint that must fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kdas import models
from kdas.errors import UserError
from kdas.files import checkpoint
from kdas.recipe.config import TeacherConfig
from kdas.teacher.obtain import Teacher, check_checkpoint, obtain, teacher_path
from kdas.training.trial import Inputs

Obtain = Callable[..., Teacher]


@pytest.fixture
def obtained(empty_cache: Path, small_inputs: Inputs) -> Obtain:
    """Gets the teacher of a small recipe, or of the file named by `checkpoint`."""

    def get(progress: Any = lambda *_: None, **changed: Any) -> Teacher:
        recipe = {"model": "resnet8", "epochs": 2, "batch_size": 32, **changed}
        config = TeacherConfig.model_validate(recipe)
        return obtain(config, small_inputs.dataset, 0.1, small_inputs.splits, "cpu", progress)

    return get


def weights_of(name: str = "resnet8", num_classes: int = 10) -> dict[str, torch.Tensor]:
    return models.create(name, num_classes).state_dict()


def test_teacher_is_trained_once_and_then_reused(obtained: Obtain) -> None:
    reported: list[tuple[int, int]] = []
    first = obtained(lambda epoch, epochs, accuracy: reported.append((epoch, epochs)))
    assert first.was_trained and reported == [(0, 2), (1, 2), (2, 2)]
    again = obtained(lambda *_: pytest.fail("trained a second time"))
    assert not again.was_trained
    assert (again.weights_id, again.path) == (first.weights_id, first.path)


def test_teacher_trained_again_from_nothing_has_the_same_weights(obtained: Obtain) -> None:
    first = obtained()
    first.path.unlink()
    again = obtained()
    assert again.was_trained and again.weights_id == first.weights_id


def test_teacher_is_frozen_and_in_eval_mode(obtained: Obtain) -> None:
    model = obtained(epochs=1).model
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.parametrize("changed", [{"seed": 1}, {"epochs": 3}, {"optimizer": {"learning_rate": 0.01}}])
def test_another_recipe_is_another_teacher(small_inputs: Inputs, changed: dict[str, Any]) -> None:
    recipe = {"model": "resnet8", "epochs": 2}
    usual, other = (TeacherConfig.model_validate({**recipe, **extra}) for extra in ({}, changed))
    dataset = small_inputs.dataset
    assert teacher_path(usual, dataset, 0.1) != teacher_path(other, dataset, 0.1)
    assert teacher_path(usual, dataset, 0.1) != teacher_path(usual, dataset, 0.2)
    assert teacher_path(usual, dataset, 0.1) != teacher_path(usual, replace(dataset, fingerprint="others"), 0.1)


@pytest.mark.parametrize("wrap", [lambda weights: {"model": weights}, lambda weights: weights], ids=["peers", "bare"])
def test_checkpoint_in_the_layout_of_peers_is_loaded_as_it_is(
    obtained: Obtain, tmp_path: Path, empty_cache: Path, wrap: Callable[[Any], Any]
) -> None:
    weights = weights_of()
    path = tmp_path / "peer.pth"
    torch.save(wrap(weights), path)
    teacher = obtained(checkpoint=str(path))
    assert not teacher.was_trained and teacher.path == path
    assert all(torch.equal(tensor, weights[key]) for key, tensor in teacher.model.state_dict().items())
    assert not (empty_cache / "teachers").exists()


def test_weights_are_identified_by_content_not_by_file(obtained: Obtain, tmp_path: Path) -> None:
    weights = weights_of()
    paths = [tmp_path / name for name in ("one.pth", "two.pth", "three.pth")]
    torch.save(weights, paths[0])
    torch.save({"model": weights, "epoch": 240}, paths[1])
    torch.save(weights_of(), paths[2])
    one, two, three = (obtained(checkpoint=str(path)).weights_id for path in paths)
    assert one == two != three


@pytest.mark.parametrize(
    ("weights", "difference"),
    [
        (weights_of("resnet14"), r"expected a checkpoint of resnet8, got one of resnet14"),
        (weights_of("resnet8x4"), r"expected a checkpoint of resnet8, got one of resnet8x4"),
        (weights_of(num_classes=100), r"expected 10 classes, got 100: fc\.weight has shape \[100, 64\]"),
        ({"fc.weight": torch.zeros(10, 64)}, r"does not fit resnet8: conv1\.weight is missing"),
    ],
    ids=["deeper", "wider", "more classes", "part"],
)
def test_checkpoint_of_another_architecture_is_refused_by_its_name_or_first_difference(
    obtained: Obtain, small_inputs: Inputs, tmp_path: Path, weights: dict[str, torch.Tensor], difference: str
) -> None:
    path = tmp_path / "other.pth"
    torch.save({"model": weights}, path)
    message = rf"^teacher\.checkpoint: [^\n]*other\.pth: {difference}\.[^\n]*$"
    with pytest.raises(UserError, match=message):
        obtained(checkpoint=str(path))
    with pytest.raises(UserError, match=message):
        check_checkpoint(TeacherConfig(model="resnet8", checkpoint=str(path)), small_inputs.dataset)


def saved(content: Any, tmp_path: Path) -> bytes:
    torch.save(content, tmp_path / "whole.pth")
    return (tmp_path / "whole.pth").read_bytes()


@pytest.mark.parametrize("damage", ["truncated", "changed", "cut in its zip's end"])
def test_damaged_checkpoint_is_refused_in_one_line(obtained: Obtain, tmp_path: Path, damage: str) -> None:
    whole = saved({"model": weights_of()}, tmp_path)
    middle = len(whole) // 2
    content = {
        "truncated": whole[:middle],
        "changed": whole[:middle] + bytes(255 - byte for byte in whole[middle : middle + 9]) + whole[middle + 9 :],
        "cut in its zip's end": whole[:-9],
    }[damage]
    path = tmp_path / "teacher.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^[^\n]*teacher\.pth: is damaged or cut short \([^\n]*\)\. Copy it again\.$"):
        obtained(checkpoint=str(path))


def test_teacher_that_is_not_finite_is_refused_before_anything_is_computed(
    obtained: Obtain, small_inputs: Inputs, tmp_path: Path
) -> None:
    torch.save({**weights_of(), "fc.bias": torch.full((10,), torch.nan)}, tmp_path / "teacher.pth")
    config = TeacherConfig(model="resnet8", checkpoint=str(tmp_path / "teacher.pth"))
    with pytest.raises(UserError, match=r"^teacher\.checkpoint: [^\n]*teacher\.pth: fc\.bias holds NaN\."):
        check_checkpoint(config, small_inputs.dataset)


def test_teacher_whose_training_diverged_is_not_kept(obtained: Obtain, empty_cache: Path) -> None:
    with pytest.raises(
        UserError, match=r"^teacher: its training diverged\. Lower teacher\.optimizer\.learning_rate\.$"
    ):
        obtained(epochs=1, optimizer={"learning_rate": 1e15})
    assert not list((empty_cache / "teachers").glob("*.pth"))


@pytest.mark.parametrize("content", [[1, 2], {"model": 3}, {"epoch": 3}], ids=str)
def test_file_without_weights_is_refused_in_one_line(obtained: Obtain, tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "teacher.pth")
    with pytest.raises(UserError, match=r"^[^\n]*teacher\.pth: contains no weights[^\n]*$"):
        obtained(checkpoint=str(tmp_path / "teacher.pth"))


def test_missing_checkpoint_is_refused_in_one_line(obtained: Obtain, tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"^[^\n]*none\.pth: no such checkpoint\. Give a \.pth or \.safetensors file, or the folder of a kept",
    ):
        obtained(checkpoint=str(tmp_path / "none.pth"))


def test_saved_file_comes_back_as_it_was(tmp_path: Path) -> None:
    content = {"step": 3, "weights": torch.arange(4.0), "counts": [["step", 16, 2]], "name": "a"}
    checkpoint.save(tmp_path / "deeper" / "file.pt", content)
    loaded = checkpoint.load(tmp_path / "deeper" / "file.pt")
    assert torch.equal(loaded.pop("weights"), content.pop("weights"))
    assert loaded == content


def test_error_of_a_damaged_cached_teacher_says_how_to_replace_it(obtained: Obtain) -> None:
    path = obtained().path
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match=rf"^{path}: the cached teacher is damaged\. Remove this file"):
        obtained()
    path.unlink()
    assert obtained().was_trained
