"""`python -m kdas` as a user meets it."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kdas import __main__ as command
from kdas.clock import Calibration
from kdas.data import DATASETS
from kdas.losses import LOSSES
from kdas.models import MODELS
from kdas.records import CurveRow
from kdas.samplers import SAMPLERS
from kdas.training import calibrate, timing
from kdas.training.trainer import Training

TRIAL = """
dataset: digits
teacher: {model: resnet8, epochs: 1, batch_size: 256}
student: resnet8
epochs: 1
evaluations: 2
batch_size: 256
validation: 0.5
device: cpu
"""


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["kdas", *arguments])
    with pytest.raises(SystemExit) as ended:
        command.main()
    return int(ended.value.code or 0)


def test_missing_file_is_one_line_on_stderr_and_exit_code_two(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "kdas", "train", "missing.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == ("missing.yaml: cannot be read: No such file or directory. Give the path of a YAML file.\n")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("samplers", ["full", "random", "kdas"]),
        ("losses", ["kd"]),
        ("models", ["resnet8", "resnet32x4", "vgg13", "wrn_40_2", "ResNet50", "MobileNetV2", "ShuffleV1", "ShuffleV2"]),
        ("datasets", ["digits", "cifar10", "cifar100", "parquet"]),
    ],
)
def test_list_prints_what_a_file_may_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str, names: list[str]
) -> None:
    assert run(monkeypatch, "list", kind) == 0
    first_words = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert set(names) <= first_words


def test_list_without_a_kind_shows_all_parts_in_groups(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    titles = [line for line in lines if line.endswith(")") and not line.startswith(" ") and line.count("(") == 1]
    listed = {line.split(maxsplit=1)[0] for line in lines if line.strip() and not line.startswith(" ")}
    assert {title.rsplit(" ", 1)[0] for title in titles} >= {"samplers", "losses on logits", "models", "datasets"}
    for registry in (SAMPLERS, LOSSES, MODELS, DATASETS):
        assert listed >= {*registry.names()}
    logits = lines.index(next(title for title in titles if title.startswith("losses on logits")))
    features = lines.index(next(title for title in titles if title.startswith("losses on features")))
    assert logits < next(i for i, line in enumerate(lines) if line.startswith("kd ")) < features
    assert features < next(i for i, line in enumerate(lines) if line.startswith("nd "))


def test_list_says_how_models_beside_the_zoo_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "list", "models") == 0
    printed = capsys.readouterr().out
    assert "torchvision/<name>" in printed and "package.module:Name" in printed


def test_unknown_kind_is_refused_with_the_known_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "list", "spices") == 2
    assert (
        capsys.readouterr().err
        == "list: expected one of samplers, losses, models, datasets, transforms, got 'spices'.\n"
    )


def test_train_prints_and_writes_the_curve(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, calibration: Calibration
) -> None:
    monkeypatch.setattr(timing, "WARM_UP_RUNS", 1)
    monkeypatch.setattr(timing, "TIMED_RUNS", 2)
    monkeypatch.setattr(calibrate, "ATTEMPTS", 1)

    original = calibrate.calibration_for

    def measured(*arguments: Any) -> Calibration:
        # On a busy machine a small batch may measure slower than a large one, which would move the evaluations.
        return replace(original(*arguments), prices=calibration.prices)

    monkeypatch.setattr(calibrate, "calibration_for", measured)
    (tmp_path / "trial.yaml").write_text(TRIAL, encoding="utf-8")
    curve = tmp_path / "curve.jsonl"
    assert run(monkeypatch, "train", str(tmp_path / "trial.yaml"), "--curve", str(curve)) == 0
    printed = capsys.readouterr().out
    rows = [json.loads(line) for line in curve.read_text(encoding="utf-8").splitlines()]
    assert [row["epoch"] for row in rows] == [1, 1] and rows[-1]["samples_trained"] == 719
    assert "teacher: epoch 1 of 1" in printed and f"trial {rows[0]['trial_id']}" in printed
    best = max(rows, key=lambda row: row["val_accuracy"])
    assert printed.rstrip().endswith(
        f"ended: budget; best val acc {best['val_accuracy']:.4f} in epoch 1, test acc there {best['test_accuracy']:.4f}"
    )
    assert f"{rows[-1]['val_accuracy']:.4f}" in printed


def test_curve_that_cannot_be_written_is_refused_before_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "trial.yaml").write_text(TRIAL, encoding="utf-8")
    curve = tmp_path / "trial.yaml" / "c.jsonl"  # its parent is a file, not a folder
    assert run(monkeypatch, "train", str(tmp_path / "trial.yaml"), "--curve", str(curve)) == 2
    printed = capsys.readouterr()
    assert "ended:" not in printed.out and "cannot be written to" in printed.err


def test_resumed_command_writes_the_curve_of_an_uninterrupted_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trial_file, whole, resumed, kept = (tmp_path / name for name in ("trial.yaml", "a.jsonl", "b.jsonl", "trial.pt"))
    trial_file.write_text(TRIAL.replace("epochs: 1\nevaluations: 2", "epochs: 4\nevaluations: 8"), encoding="utf-8")
    assert run(monkeypatch, "train", str(trial_file), "--curve", str(whole)) == 0
    original, checkpoints = Training._train_epoch, []

    def interrupted(self: Training, epoch: int) -> Iterator[CurveRow]:
        if epoch == 3 and not checkpoints:
            checkpoints.append(epoch)
            raise KeyboardInterrupt
        yield from original(self, epoch)

    monkeypatch.setattr(Training, "_train_epoch", interrupted)
    arguments = ("train", str(trial_file), "--curve", str(resumed), "--checkpoint", str(kept))
    assert run(monkeypatch, *arguments) == 130
    before = resumed.read_text(encoding="utf-8")
    resumed.write_text(before + '{"step": 9', encoding="utf-8")
    assert before and run(monkeypatch, *arguments) == 0

    def rows(path: Path) -> list[tuple[int, float, float]]:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return [(line["step"], line["train_loss"], line["val_accuracy"]) for line in lines]

    assert rows(resumed) == rows(whole)


@pytest.mark.parametrize("option", ["--curve", "--checkpoint"])
def test_folder_in_place_of_a_file_is_refused_before_any_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, option: str
) -> None:
    (tmp_path / "trial.yaml").write_text(TRIAL, encoding="utf-8")
    assert run(monkeypatch, "train", str(tmp_path / "trial.yaml"), option, str(tmp_path)) == 2
    assert capsys.readouterr().err == f"{tmp_path}: expected a file, got a folder. Give a file.\n"


def test_a_curve_or_checkpoint_that_is_no_file_is_refused_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = tmp_path / "trial.yaml"
    trial.write_text(TRIAL)
    pipe, loop = tmp_path / "pipe", tmp_path / "loop"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    (tmp_path / "link").symlink_to(pipe)
    for option in ("--curve", "--checkpoint"):
        for name, kind in ((".", "a folder"), ("pipe", "a device"), ("link", "a device"), ("loop", "a link to itself")):
            assert run(monkeypatch, "train", str(trial), option, str(tmp_path / name)) == 2
            assert f"expected a file, got {kind}. Give a file.\n" in capsys.readouterr().err
    assert stat.S_ISFIFO(pipe.stat().st_mode) and loop.is_symlink()


def test_a_curve_never_replaces_a_file_that_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trial, notes, settings = (tmp_path / name for name in ("trial.yaml", "notes.md", "settings.json"))
    trial.write_text(TRIAL)
    notes.write_bytes(b"\xff my notes\n")
    settings.write_text('{\n "a": 1\n}')
    for path in (trial, notes, settings):
        before = path.read_bytes()
        assert run(monkeypatch, "train", str(trial), "--curve", str(path)) == 2
        assert capsys.readouterr().err == f"{path}: is not a curve, and would be replaced. Give another file.\n"
        assert path.read_bytes() == before
    curve = tmp_path / "curve.jsonl"
    assert run(monkeypatch, "train", str(trial), "--curve", str(curve), "--checkpoint", str(curve)) == 2
    assert capsys.readouterr().err == f"{curve}: is given as --curve and as --checkpoint. Give two files.\n"
    for content in (b"", b'{"step": 3, "epoch": 1}\n{"st', b'{"st'):
        curve.write_bytes(content)
        command._check_curve(curve, None)


def test_a_curve_behind_a_link_is_written_where_the_link_leads(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "curve.jsonl"
    link.symlink_to(tmp_path / "there" / "curve.jsonl")
    file = command._file_to_write(link)
    assert file == tmp_path / "there" / "curve.jsonl"
    file.write_text("rows")
    assert command._file_to_write(link) == file and link.is_symlink()
