"""A trained student is kept, loads again, and does what was recorded."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import kdas
from kdas.clock import Calibration
from kdas.compute.evaluate import accuracy, calibration_error, predictions, quality
from kdas.errors import UserError
from kdas.files import checkpoint
from kdas.models import create
from kdas.models.weights import load_weights
from kdas.records import CurveRow
from kdas.students.about import ABOUT, BEST, LAST, read_about
from kdas.students.export import export
from kdas.students.kept import BestWeights
from kdas.teacher.obtain import untrained
from kdas.training.trainer import CheckpointError, Surroundings, Training
from kdas.training.trial import Inputs, Trial
from tests.kdas.conftest import TrialOf


@pytest.fixture(scope="module")
def kept(
    tmp_path_factory: pytest.TempPathFactory, trial_of: TrialOf, calibration: Calibration
) -> tuple[Path, list[CurveRow]]:
    """The folder of a student whose best evaluation is not its last one, and its curve."""
    folder = tmp_path_factory.mktemp("kept") / "student"
    # The learning rate makes it fall back in the end.
    trial = trial_of(epochs=4, evaluations=8, optimizer={"learning_rate": 0.05, "schedule": "step"})
    training = Training(trial, Surroundings(calibration, keeps_student=True))
    rows = list(training.rows())
    training.write_student(folder)
    return folder, rows


def best_of(rows: list[CurveRow]) -> CurveRow:
    return max(rows, key=lambda row: row.val_accuracy)


def test_best_and_last_weights_have_the_recorded_accuracies(
    kept: tuple[Path, list[CurveRow]], small_inputs: Inputs
) -> None:
    folder, rows = kept
    about, splits = read_about(folder), small_inputs.splits
    assert best_of(rows).step < rows[-1].step and best_of(rows).val_accuracy > rows[-1].val_accuracy
    for row, told, is_last in ((best_of(rows), about.best, False), (rows[-1], about.last, True)):
        student = kdas.load_student(folder, last=is_last)
        assert accuracy(student.model, splits.validation, splits) == row.val_accuracy == told["val_accuracy"]
        assert accuracy(student.model, splits.test, splits) == row.test_accuracy == told["test_accuracy"]
        assert (told["step"], told["epoch"]) == (row.step, row.epoch)


def test_it_takes_images_as_they_are_decoded_or_normalised(
    kept: tuple[Path, list[CurveRow]], small_inputs: Inputs
) -> None:
    student, splits = kdas.load_student(kept[0]), small_inputs.splits
    images = splits.test.images[:9]  # type: ignore[attr-defined]
    with torch.no_grad():
        assert torch.equal(student(images), student(splits.normalized(images)))
    assert student(images).shape == (9, 10) and not student.training
    assert student.class_names == list("0123456789")


def test_pair_with_inputs_of_their_own_trains_on_the_banks_answers_and_is_kept(
    trial_of: TrialOf, small_inputs: Inputs, calibration: Calibration, tmp_path: Path, empty_cache: Path
) -> None:
    # Teacher and student see the same 8x8 digits at 160x160 pixels, each normalised as it expects.
    own = {"student": "timm/test_resnet@own", "teacher": {"model": "timm/test_vit@own"}}
    trial = trial_of(epochs=1, evaluations=1, **own)
    inputs = replace(small_inputs, teacher=untrained(trial.config.teacher, small_inputs.splits, "cpu"))
    trial = replace(trial, inputs=inputs)
    training = Training(trial, Surroundings(calibration, keeps_student=True))
    assert training.bank is not None
    *_, row = training.rows()
    training.write_student(tmp_path / "student")
    student = kdas.load_student(tmp_path / "student")
    assert accuracy(student.model, inputs.splits.test, inputs.splits) == row.test_accuracy
    export(student, tmp_path / "student.pt2", "pt2")
    images = inputs.splits.normalized(inputs.splits.test.images[:3])  # type: ignore[attr-defined]
    with torch.no_grad():
        exported = torch.export.load(tmp_path / "student.pt2").module()(images)
        torch.testing.assert_close(exported, student(images), rtol=1e-4, atol=1e-5)


def test_loading_one_leaves_the_callers_draws_alone(kept: tuple[Path, list[CurveRow]]) -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    kdas.load_student(kept[0])
    assert torch.equal(torch.rand(1), expected)


def test_the_description_holds_what_is_needed_to_use_and_to_repeat_it(
    kept: tuple[Path, list[CurveRow]], trial_of: TrialOf, small_inputs: Inputs
) -> None:
    folder, rows = kept
    content = json.loads((folder / ABOUT).read_text())
    assert (content["student"], content["num_classes"], content["image_size"]) == ("resnet8", 10, 8)
    assert content["trial_id"] == rows[0].trial_id and content["decided_by"] == "validation"
    assert content["teacher"] == {"model": "resnet8", "weights": "drawn"}
    assert content["data"]["identity"] == small_inputs.dataset.identity
    assert content["recipe"]["optimizer"]["schedule"] == "step"
    assert torch.__version__.startswith(content["provenance"]["torch"])
    assert trial_of(**content["recipe"]).trial_id == rows[0].trial_id
    assert sorted(path.name for path in folder.iterdir()) == sorted([ABOUT, BEST, LAST])


def test_its_folder_and_its_file_are_checkpoints_of_a_teacher(kept: tuple[Path, list[CurveRow]]) -> None:
    student = kdas.load_student(kept[0])
    for path in (kept[0], kept[0] / BEST):
        model = create("resnet8", 10)
        load_weights(model, path, "resnet8")
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, student.model.state_dict()[name])


def killed_after_its_best(trial: Trial, surroundings: Surroundings, best: CurveRow) -> None:
    """Train until after the best evaluation and the next two checkpoints."""
    for row in Training(trial, surroundings).rows():
        if row.epoch == best.epoch + 2:
            return
    raise AssertionError("the best evaluation must be followed by two checkpoints")


@pytest.mark.parametrize("changed", [{}, {"ema_decay": 0.5}, {"channels_last": False}], ids=str)
@pytest.mark.parametrize("lost", ["nothing", "the newest checkpoint", "the newest checkpoint was torn"])
def test_a_resumed_trial_keeps_the_student_of_an_uninterrupted_one(
    tmp_path: Path, trial_of: TrialOf, calibration: Calibration, changed: dict[str, Any], lost: str
) -> None:
    trial = trial_of(epochs=7, evaluations=10, optimizer={"learning_rate": 0.1, "schedule": "step"}, **changed)
    whole = Training(trial, Surroundings(calibration, keeps_student=True))
    best = best_of(list(whole.rows()))
    whole.write_student(tmp_path / "whole")
    path = tmp_path / "c.pt"
    surroundings = Surroundings(calibration, path, checkpoint_every_s=0.0, keeps_student=True)
    killed_after_its_best(trial, surroundings, best)
    if lost == "the newest checkpoint":  # as if killed before the new one took the place of the old one
        path.unlink()
    elif lost == "the newest checkpoint was torn":
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.warns(UserWarning, match="is damaged") if "torn" in lost else nullcontext():
        resumed = Training(trial, surroundings)
    assert resumed.best is not None and resumed.best.row is not None and resumed.best.row.step == best.step
    list(resumed.rows())
    resumed.write_student(tmp_path / "resumed")
    for name in (BEST, LAST):
        assert (tmp_path / "resumed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_best_weights_add_only_their_bytes_to_a_checkpoint(
    tmp_path: Path, trial_of: TrialOf, calibration: Calibration
) -> None:
    """A record for each tensor would take longer than the bytes of a small network."""
    records, sizes = {}, {}
    for keeps in (False, True):
        path = tmp_path / f"{keeps}.pt"
        surroundings = Surroundings(calibration, path, checkpoint_every_s=0.0, keeps_student=keeps)
        training = Training(trial_of(epochs=2), surroundings)
        list(training.rows())
        with zipfile.ZipFile(path) as file:
            records[keeps] = len(file.namelist())
        sizes[keeps] = path.stat().st_size
    weights = training.distiller.evaluated.state_dict().values()
    assert len(weights) > 50 and records[True] - records[False] == len({tensor.dtype for tensor in weights}) == 2
    assert sizes[True] - sizes[False] < 1.02 * sum(tensor.nbytes for tensor in weights)


def test_a_checkpoint_without_the_best_weights_cannot_be_resumed_from(
    tmp_path: Path, trial_of: TrialOf, calibration: Calibration
) -> None:
    surroundings = Surroundings(calibration, tmp_path / "c.pt", checkpoint_every_s=0.0)
    for row in Training(trial_of(), surroundings).rows():
        if row.epoch == 2:
            break
    with pytest.raises(CheckpointError, match="kept no student"):
        Training(trial_of(), replace(surroundings, keeps_student=True))


def test_keeping_a_student_changes_no_curve(
    finished: Callable[..., tuple[Training, list[Any]]], calibration: Calibration
) -> None:
    def curve(keeps: bool) -> list[tuple[float, ...]]:
        rows = finished(Surroundings(calibration, keeps_student=keeps))[1]
        return [(row.cost_ref_s, row.train_loss, row.val_accuracy, row.test_accuracy) for row in rows]

    assert curve(True) == curve(False)


def test_the_first_of_equal_evaluations_is_kept(finished: Callable[..., tuple[Training, list[Any]]]) -> None:
    row = finished()[1][0]
    model = nn.Linear(1, 1)
    best = BestWeights(model)
    for step, accuracy_then in ((1, 0.5), (2, 0.5), (3, 0.4), (4, 0.6), (5, 0.6)):
        nn.init.constant_(model.weight, step)
        best.observe(model, replace(row, step=step, val_accuracy=accuracy_then))
    assert best.row is not None and best.row.step == 4 == best.weights["weight"].item()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / ABOUT).unlink(), "holds no student.json"),
        (lambda folder: (folder / ABOUT).write_text("{"), "is damaged"),
        (lambda folder: (folder / ABOUT).write_text("[]"), "is damaged"),
        (lambda folder: (folder / ABOUT).write_text('{"form": 1}'), "is damaged"),
        (lambda folder: (folder / ABOUT).write_text('{"form": 9}'), "later version"),
        (lambda folder: (folder / BEST).write_bytes((folder / LAST).read_bytes()), "is not the file that"),
        (lambda folder: (folder / BEST).unlink(), "cannot be read"),
    ],
)
def test_a_damaged_one_is_refused_in_one_line(
    kept: tuple[Path, list[CurveRow]], tmp_path: Path, damage: Callable[[Path], Any], said: str
) -> None:
    folder = tmp_path / "student"
    folder.mkdir()
    for name in (ABOUT, BEST, LAST):
        (folder / name).write_bytes((kept[0] / name).read_bytes())
    damage(folder)
    with pytest.raises(UserError, match=said) as refused:
        kdas.load_student(folder)
    assert "\n" not in str(refused.value)


def with_about(kept: Path, folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of a student with another description."""
    folder.mkdir()
    for name in (BEST, LAST):
        (folder / name).write_bytes((kept / name).read_bytes())
    content = json.loads((kept / ABOUT).read_text())
    change(content)
    (folder / ABOUT).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(num_classes=9_000_000),
        lambda content: content.update(num_classes="10"),
        lambda content: content.update(image_size=10**9),
        lambda content: content.update(trial_id="../../elsewhere"),
        lambda content: content.update(pixel_mean=[0.0]),
        lambda content: content.update(pixel_std=[float("nan")] * 3),
        lambda content: content.update(best={}),
        lambda content: content.update(last=[1]),
        lambda content: content.update(recipe=3),
        lambda content: content["recipe"].update(plugins="evil.py"),
        lambda content: content["recipe"].pop("seed"),
        lambda content: content["recipe"].update(dataset="digits"),
        lambda content: content["best"].pop("device"),
        lambda content: content.update(data={}),
        lambda content: content.update(data=[]),
        lambda content: content["data"].pop("identity"),
        lambda content: content["data"].update(identity="digits"),
        lambda content: content["data"].update(name=3),
        lambda content: content["data"].update(origin=None),
        lambda content: content["teacher"].pop("weights"),
        lambda content: content.update(sweep={"name": 3}),
        lambda content: content.update(sweep={"name": "s"}),
        lambda content: content.update(class_names={}),
        lambda content: content.pop("teacher"),
    ],
)
def test_a_description_that_cannot_be_true_is_refused_in_one_line(
    kept: tuple[Path, list[CurveRow]], tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    with pytest.raises(UserError, match=r"student\.json: (is damaged|9000000 classes are more than)") as refused:
        kdas.load_student(with_about(kept[0], tmp_path / "student", change))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(student="evil:Net"),
        lambda content: content["recipe"].update(student="evil:Net"),
        lambda content: content["recipe"]["teacher"].update(model="evil:Net"),
    ],
)
def test_a_network_that_is_named_by_its_module_is_code_too(
    kept: tuple[Path, list[CurveRow]], tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    with pytest.raises(UserError, match=r"runs code of its own \(evil:Net\)"):
        kdas.load_student(with_about(kept[0], tmp_path / "student", change))


def test_code_of_its_own_runs_only_if_that_is_allowed(kept: tuple[Path, list[CurveRow]], tmp_path: Path) -> None:
    folder, ran = tmp_path / "student", tmp_path / "ran"
    folder.mkdir()
    for name in (BEST, LAST):
        (folder / name).write_bytes((kept[0] / name).read_bytes())
    plugin = tmp_path / "own_plugin_of_a_student.py"
    plugin.write_text(f"from pathlib import Path\nPath({str(ran)!r}).touch()\n")
    content = json.loads((kept[0] / ABOUT).read_text())
    content["recipe"]["plugins"] = [str(plugin)]
    (folder / ABOUT).write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"runs code of its own .*own_plugin_of_a_student\.py.*--own-code"):
        kdas.load_student(folder)
    assert not ran.exists()
    kdas.load_student(folder, own_code=True)
    assert ran.exists()


class Answers(nn.Module):
    """Gives these logits [N, C], batch after batch."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits, self.given = torch.tensor(logits), 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        first, self.given = self.given, self.given + len(images)
        return self.logits[first : self.given]


def test_quality_by_hand(small_inputs: Inputs) -> None:
    splits = small_inputs.splits
    test = replace(splits.test, images=splits.test.images[:3], labels=torch.tensor([0, 1, 6]))  # type: ignore[type-var, attr-defined]
    logs = np.log([[0.7, 0.1, 0.05, 0.05, 0.05, 0.03, 0.02], [0.5, 0.3, 0.1, 0.05, 0.02, 0.02, 0.01]])
    last = np.log([0.4, 0.2, 0.15, 0.1, 0.08, 0.06, 0.01])
    model = Answers([*logs.tolist(), last.tolist()])
    teacher = Answers([[9.0] + [0.0] * 6, [0.0, 9.0] + [0.0] * 5, [9.0] + [0.0] * 6])
    found = quality(model, test, splits, of_teacher=predictions(teacher, test, splits))
    assert (found.num_images, found.accuracy, found.top5, found.agreement) == (3, 1 / 3, 2 / 3, 2 / 3)
    assert found.nll == pytest.approx(-(np.log(0.7) + np.log(0.3) + np.log(0.01)) / 3, rel=1e-6)
    # Confidences 0.7, 0.5 and 0.4 lie in bins of their own: |1 - 0.7|, |0 - 0.5|, |0 - 0.4|.
    assert found.calibration_error == pytest.approx((0.3 + 0.5 + 0.4) / 3, rel=1e-6)


def test_calibration_error_averages_within_a_bin() -> None:
    """Two of four answers of confidence 0.9 are right, and the one of confidence 1 is."""
    confidences, hits = torch.tensor([0.9] * 4 + [1.0]), torch.tensor([True, True, False, False, True])
    assert calibration_error(confidences, hits) == pytest.approx(4 / 5 * 0.4, rel=1e-6)


def test_quality_over_several_crops_has_the_accuracy_of_the_trial(
    kept: tuple[Path, list[CurveRow]], small_inputs: Inputs
) -> None:
    model, splits = kdas.load_student(kept[0]).model, small_inputs.splits
    found = quality(model, splits.test, splits, multi_crop=True)
    assert found.accuracy == accuracy(model, splits.test, splits, multi_crop=True)
    (labels, crops), *_ = splits.evaluation_batches(splits.test, True)
    with torch.no_grad():
        likelihood = torch.stack([model(crop).softmax(1) for crop in crops]).double().mean(0)[range(60), labels]
    assert len(crops) > 1 and found.nll == pytest.approx(-likelihood.log().mean().item(), rel=1e-5)


def test_a_file_of_the_fields_layout_is_a_plain_checkpoint(kept: tuple[Path, list[CurveRow]], tmp_path: Path) -> None:
    export(kdas.load_student(kept[0]), tmp_path / "s.pth", "pth")
    content = checkpoint.load(tmp_path / "s.pth")
    model = create("resnet8", 10)
    assert model.load_state_dict(content["model"]) == ([], [])
    assert content["best_acc"] == 100 * best_of(kept[1]).test_accuracy and content["class_names"] == list("0123456789")


def test_a_file_of_the_last_weights_tells_of_their_evaluation(
    kept: tuple[Path, list[CurveRow]], tmp_path: Path
) -> None:
    export(kdas.load_student(kept[0], last=True), tmp_path / "s.pth", "pth")
    content, row = checkpoint.load(tmp_path / "s.pth"), kept[1][-1]
    assert (content["epoch"], content["best_acc"]) == (row.epoch, 100 * row.test_accuracy)
