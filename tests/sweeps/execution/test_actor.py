"""What a worker does when it resumes a trial."""

from __future__ import annotations

import errno
import itertools
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import ray
import torch

from kdas.recipe.config import Recipe, TrialConfig
from kdas.records import Status
from kdas.students.about import ABOUT, read_about
from kdas.training.trainer import Surroundings
from kdas.training.trial import Inputs, Trial
from sweeps.engine.slots import Slots
from sweeps.execution import actor as module
from sweeps.execution.actor import NO_ROOM, TrialActor, ray_config
from sweeps.file.loading import load_spec
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.trial import TrialFolder
from tests.places import ROOT
from tests.sweeps.conftest import CALIBRATION, TINY


def test_trial_whose_checkpoints_are_all_damaged_starts_over(directory: SweepDirectory, inputs: Inputs) -> None:
    teacher = {"model": "resnet8", "epochs": 1}
    config = TrialConfig(dataset={"name": "digits"}, teacher=teacher, student="resnet8", epochs=2, evaluations=2)
    folder = directory.trial("some-trial")
    folder.path.mkdir(parents=True)
    folder.checkpoint.write_bytes(b"torn")
    before = folder.checkpoint.with_name(f"{folder.checkpoint.name}.previous")
    before.write_bytes(b"torn too")
    actor = object.__new__(TrialActor)  # skips what Ray sets up, which this does not need
    actor._folder = folder
    with pytest.warns(UserWarning, match=r"is damaged.* Training this trial from the beginning\."):
        training = actor._training_of(Trial(config, inputs), Surroundings(CALIBRATION, folder.checkpoint))
    assert training.epoch == training.step == 0
    assert not folder.checkpoint.exists() and not before.exists()


@pytest.mark.parametrize("full_at", range(6))
def test_a_worker_whose_record_finds_the_disk_full_waits_and_writes_each_row_once(
    directory: SweepDirectory, inputs: Inputs, monkeypatch: pytest.MonkeyPatch, full_at: int
) -> None:
    teacher = {"model": "resnet8", "epochs": 1}
    content = {"dataset": {"name": "digits"}, "teacher": teacher, "student": "resnet8", "epochs": 2, "evaluations": 2}
    job = Job("plain_kd", "search", TrialConfig(**content), "some-config")
    config = ray_config(job, directory, CALIBRATION, 1000.0, Slots(1, 1, 0.0))
    monkeypatch.setattr(module, "FULL_PAUSE_S", 0.0)
    folder = directory.trial(job.trial_id)
    folder.begin(job)
    calls = itertools.count()
    real = os.fsync

    def fsync(handle: int) -> None:
        if next(calls) == full_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    actor = object.__new__(TrialActor)
    actor.setup(config)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a checkpoint is done without
        results = [actor.step()]
        while not results[-1]["done"]:
            results.append(actor.step())
    rows = folder.rows()
    assert [row.row.val_accuracy for row in rows] == [each["val_accuracy"] for each in results if NO_ROOM not in each]
    assert len({row.row.step for row in rows}) == len(rows)
    assert folder.status is Status.BUDGET


@pytest.mark.parametrize("keeps", [True, False])
def test_a_worker_writes_the_student_before_it_ends_the_trial(
    directory: SweepDirectory, inputs: Inputs, monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    teacher = {"model": "resnet8", "epochs": 1}
    content = {"dataset": {"name": "digits"}, "teacher": teacher, "student": "resnet8", "epochs": 1, "evaluations": 2}
    job = Job("plain_kd", "search", TrialConfig(**content), "some-config")
    folder = directory.trial(job.trial_id)
    folder.begin(job)
    actor = object.__new__(TrialActor)
    actor.setup(ray_config(job, directory, CALIBRATION, 1000.0, Slots(1, 1, 0.0), keeps_student=keeps))
    original, was_there = TrialFolder.end, []

    def end(self: TrialFolder, status: Status, error: str = "") -> None:
        was_there.append((self.student / ABOUT).exists())
        original(self, status, error)

    monkeypatch.setattr(TrialFolder, "end", end)
    while not actor.step()["done"]:
        assert not folder.student.exists()
    assert was_there == [keeps]
    assert torch.__version__.startswith(folder.provenance["torch"]) and folder.provenance["device"] == "cpu"
    if keeps:
        about, rows = read_about(folder.student), folder.rows()
        assert about.last["val_accuracy"] == rows[-1].row.val_accuracy
        assert about.sweep == {
            "name": "tiny",
            "method": "plain_kd",
            "phase": "search",
            "configuration": "every sample",
        }


def test_worker_in_another_folder_finds_modules_beside_the_sweep_file(
    directory: SweepDirectory, tmp_path: Path
) -> None:
    sweep_file = tmp_path / "elsewhere" / "mine.yaml"
    sweep_file.parent.mkdir()
    (sweep_file.parent / "net_beside_a_sweep.py").write_text(
        "from torch import nn\n\ndef make(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(192, num_classes))\n",
        encoding="utf-8",
    )
    text = TINY.read_text(encoding="utf-8").replace("student: resnet8", "student: net_beside_a_sweep:make")
    sweep_file.write_text(text, encoding="utf-8")
    spec = load_spec(sweep_file)
    recipe = {name: getattr(spec, name) for name in Recipe.model_fields}
    job = Job("plain_kd", "search", TrialConfig(**recipe), "some-config")
    config = ray_config(job, directory, CALIBRATION, 10.0, Slots(2, 1, 0.0))
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    code = (
        "import json, sys; from sweeps.execution.actor import job_of;"
        " print(job_of(json.load(open(sys.argv[1]))).trial_id)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "config.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == job.trial_id, done.stderr


def test_own_code_that_ends_the_process_in_mid_training_is_a_crash_of_its_trial(
    directory: SweepDirectory, tmp_path: Path
) -> None:
    own = tmp_path / "mine.py"
    own.write_text("import sys\n\ndef stop():\n    sys.exit(3)\n", encoding="utf-8")
    scope: dict[str, object] = {}
    exec(compile(own.read_text(encoding="utf-8"), str(own), "exec"), scope)
    actor = object.__new__(TrialActor)
    actor._folder = directory.trial("some-trial")
    actor._folder.path.mkdir(parents=True)
    with pytest.raises(RuntimeError, match="end of its process"), actor._crashes_recorded():
        scope["stop"]()  # type: ignore[operator]
    assert actor._folder.status is Status.CRASHED
    told = f"your own code ended the process: SystemExit: 3 ({own}, line 4). Raise an error instead."
    assert actor._folder.error == told


def test_worker_that_a_signal_ends_is_lost_and_its_trial_not_crashed(directory: SweepDirectory) -> None:
    actor = object.__new__(TrialActor)
    actor._folder = directory.trial("some-trial")
    actor._folder.path.mkdir(parents=True)
    ended = compile("raise SystemExit(1)", ray.__file__, "exec")  # as Ray's handler of SIGTERM does
    with pytest.raises(SystemExit), actor._crashes_recorded():
        exec(ended)
    assert actor._folder.status is Status.RUNNING


@pytest.mark.parametrize(
    ("number", "raised"), [(errno.ENOSPC, ValueError), (errno.EDQUOT, ValueError), (errno.EACCES, PermissionError)]
)
def test_a_crash_that_cannot_be_recorded_is_told_unless_the_disk_is_full(
    directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch, number: int, raised: type[Exception]
) -> None:
    def refuse(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    actor = object.__new__(TrialActor)
    actor._folder = directory.trial("some-trial")
    monkeypatch.setattr(actor._folder, "end", refuse)
    with pytest.raises(raised) as told, actor._crashes_recorded():
        raise ValueError("the trial's own")
    assert isinstance(told.value, ValueError) or isinstance(told.value.__context__, ValueError)
