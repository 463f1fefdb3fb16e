"""`python -m kdas train --student`, `evaluate` and `predict` as a user meets them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from kdas.models import create
from kdas.training import calibrate, timing
from tests.kdas.command.test_kdas_command import TRIAL, run
from tests.kdas.conftest import WriteFolders

# A set of colour images, which `predict` can be shown files of.
IMAGES = """
dataset: {{name: image_folder, path: {folder}, size: 8, mean: [0.5, 0.5, 0.5], std: [0.25, 0.25, 0.25]}}
teacher: {{model: resnet8, epochs: 1, batch_size: 8}}
student: resnet8
epochs: 2
evaluations: 4
optimizer: {{learning_rate: 0.005}}
batch_size: 8
validation: 0
device: cpu
"""


@pytest.fixture(autouse=True, scope="module")
def _prices_measured_in_a_moment() -> Iterator[None]:
    """No test here looks at costs, and on a busy machine prices are measured three times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "ATTEMPTS", 1)
        patch.setattr(timing, "TIMED_RUNS", 1)
        yield


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, write_folders: WriteFolders) -> Path:
    return write_folders(tmp_path_factory.mktemp("images"), {"train": 12, "test": 6})


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory, folders: Path) -> Path:
    """A student of the image folder, trained by the command. Its teacher is in a cache of this module."""
    base = tmp_path_factory.mktemp("trained")
    (base / "trial.yaml").write_text(IMAGES.format(folder=folders), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        assert run(patch, "train", str(base / "trial.yaml"), "--student", str(base / "student")) == 0
    return base / "student"


def test_evaluate_repeats_the_recorded_accuracy_and_measures_more(
    student: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    about = json.loads((student / "student.json").read_text())
    for options, told in (((), about["best"]), (("--last",), about["last"])):
        assert run(monkeypatch, "evaluate", str(student), *options) == 0
        printed = capsys.readouterr()
        (row,) = [line.split() for line in printed.out.splitlines() if line.startswith("test ")]
        assert row[1] == "18" and row[2] == row[3] == repr(told["test_accuracy"])
        assert row[4] == "1.0000" and all(re.fullmatch(r"\d\.\d{4}", cell) for cell in row[5:8]) and len(row) == 8
        assert "Differs" not in printed.out


def test_evaluate_on_other_data_compares_nothing(
    student: Path,
    tmp_path: Path,
    write_folders: WriteFolders,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = write_folders(tmp_path / "other", {"train": 5, "test": 4})
    assert run(monkeypatch, "evaluate", str(student), "--data", str(other)) == 0
    printed = capsys.readouterr().out
    assert "The data is not what the student was trained on" in printed and "teacher was not found at" in printed
    fewer = write_folders(tmp_path / "fewer", {"train": 5, "test": 4}, ("ant", "bee"))
    assert run(monkeypatch, "evaluate", str(student), "--data", str(fewer)) == 2
    assert "expected 3 classes of 8 pixels, got 2 of 8" in capsys.readouterr().err


def test_predict_names_the_classes_of_images(
    student: Path, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import kdas
    from kdas.data import DATASETS, load_splits

    images = sorted((folders / "test").glob("*/*.png"))
    assert run(monkeypatch, "predict", str(student), *map(str, images), "--top", "1") == 0
    lines = capsys.readouterr().out.splitlines()
    named = [line.rpartition(": ")[2].split()[0] for line in lines]
    # As the split's images are classified, which are decoded and cut elsewhere.
    network = kdas.load_student(student)
    part = {"name": "image_folder", "path": str(folders), "size": 8, "mean": [0.5] * 3, "std": [0.25] * 3}
    splits = load_splits(DATASETS.build(DATASETS.checked(part)), 0, "cpu")
    logits = network(splits.test.images)  # type: ignore[attr-defined]
    assert named == [["ant", "bee", "cow"][number] for number in logits.argmax(1).tolist()]
    assert lines[0].startswith(str(images[0])) and lines[0].endswith("%")
    (tmp_path / "text.png").write_text("no image")
    assert run(monkeypatch, "predict", str(student), str(tmp_path / "text.png")) == 2
    assert "text.png: not an image that Pillow reads" in capsys.readouterr().err
    Image.new("RGB", (1, 60_000)).save(tmp_path / "narrow.png")
    assert run(monkeypatch, "predict", str(student), str(tmp_path / "narrow.png")) == 2
    assert "is 1x60000, too narrow to be resized" in capsys.readouterr().err


def test_a_folder_without_a_student_is_one_line(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "evaluate", str(tmp_path)) == 2
    assert capsys.readouterr().err == (
        f"{tmp_path}: holds no student.json, so it is not a kept student. Give the folder of one.\n"
    )
    shutil.copytree(student, tmp_path / "student")
    content = json.loads((tmp_path / "student" / "student.json").read_text())
    content["recipe"]["epochs"] = "many"
    (tmp_path / "student" / "student.json").write_text(json.dumps(content))
    assert run(monkeypatch, "evaluate", str(tmp_path / "student")) == 2
    assert re.match(r".*student\.json: epochs", capsys.readouterr().err)


def test_a_student_is_the_teacher_of_another_trial(
    student: Path, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = IMAGES.format(folder=folders).replace("epochs: 1, batch_size: 8", f"checkpoint: {student}")
    (tmp_path / "trial.yaml").write_text(text, encoding="utf-8")
    assert run(monkeypatch, "train", str(tmp_path / "trial.yaml")) == 0
    about = json.loads((student / "student.json").read_text())
    assert f"Teacher resnet8: {about['best']['test_accuracy']:.1%} test accuracy" in capsys.readouterr().out


def test_a_student_that_diverges_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trial.yaml").write_text(f"{TRIAL}optimizer: {{learning_rate: 1.0e+12}}\n", encoding="utf-8")
    assert run(monkeypatch, "train", str(tmp_path / "trial.yaml"), "--student", str(tmp_path / "student")) == 0
    assert "The training diverged, so no student is kept." in capsys.readouterr().out
    assert not list((tmp_path / "student").iterdir())


def test_a_difference_that_rounding_does_not_explain_is_a_failure(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(student, tmp_path / "student")
    path = tmp_path / "student" / "student.json"
    content = json.loads(path.read_text())
    recorded = content["best"]["test_accuracy"]
    # Of 18 images.
    for images, code, said in (
        (1, 0, "another device, kind of processor or version rounds otherwise"),
        (6, 1, "by 33.3 points, more than rounding explains"),
    ):
        content["best"]["test_accuracy"] = recorded - images / 18 if recorded > 0.5 else recorded + images / 18
        path.write_text(json.dumps(content))
        assert run(monkeypatch, "evaluate", str(tmp_path / "student")) == code
        assert said in capsys.readouterr().out


def test_evaluate_tells_its_own_options(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(student, tmp_path / "student")
    content = json.loads((tmp_path / "student" / "student.json").read_text())
    content["recipe"]["dataset"] = {"name": "digits"}
    (tmp_path / "student" / "student.json").write_text(json.dumps(content))
    assert run(monkeypatch, "evaluate", str(tmp_path / "student"), "--data", str(tmp_path)) == 2
    assert capsys.readouterr().err == "--data: digits takes no path. Leave --data out.\n"
    other = create("resnet14", 3)
    torch.save({"model": other.state_dict()}, tmp_path / "other.pth")
    assert run(monkeypatch, "evaluate", str(student), "--teacher", str(tmp_path / "other.pth")) == 2
    told = capsys.readouterr().err
    assert re.search(r"expected a checkpoint of resnet8, got one of resnet14\. Give the teacher that", told)
    assert told.startswith("--teacher: ") and told.count("\n") == 1


def test_a_student_of_another_trial_is_not_replaced(
    student: Path, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(student, tmp_path / "student")
    before = (tmp_path / "student" / "student.json").read_bytes()
    file, kept = tmp_path / "trial.yaml", str(tmp_path / "student")
    file.write_text(IMAGES.format(folder=folders), encoding="utf-8")
    assert run(monkeypatch, "train", str(file), "--student", kept, "--set", "seed=7") == 2
    printed = capsys.readouterr()
    assert "holds the student of another trial" in printed.err and "epoch   step" not in printed.out
    assert (tmp_path / "student" / "student.json").read_bytes() == before
