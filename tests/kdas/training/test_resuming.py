"""A stopped trial resumes from its checkpoint, and only from its own."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from kdas.clock import Calibration
from kdas.errors import UnreadableError, UserError
from kdas.files import checkpoint
from kdas.losses import LOSSES
from kdas.records import CurveRow
from kdas.samplers import SAMPLERS
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial

TrialOf = Callable[..., Trial]
OF_THE_MACHINE = ("wall_s", "eval_s", "data_s", "cost_as_run_s")
KDAS = {"name": "kdas", "sampling_period": [4]}


def of_the_trial(rows: list[CurveRow]) -> list[dict[str, Any]]:
    return [{key: value for key, value in asdict(row).items() if key not in OF_THE_MACHINE} for row in rows]


def run_until_epoch(trial: Trial, surroundings: Surroundings, epoch: int) -> None:
    """Train, and drop the training in the middle of `epoch`."""
    for row in Training(trial, surroundings).rows():
        if row.epoch >= epoch:
            return


@pytest.mark.parametrize(
    "changed",
    [
        *({"sampler": KDAS if name == "kdas" else name} for name in SAMPLERS.names()),
        *({"sampler": KDAS, "loss": name} for name in LOSSES.names()),
        *({"sampler": {"name": "scored_subset", "score": each, "scored_until": 0.6}} for each in ("dual", "el2n")),
        {"ema_decay": 0.9, "optimizer": {"learning_rate": 0.02, "clip_norm": 1.0, "warmup_epochs": 2}},
        {"precision": "bfloat16", "accumulate": 3, "channels_last": False},
        {"precision": "float16", "multi_crop": True, "sampler": KDAS | {"score_mode": "train"}},
        {"student": "torchvision/mobilenet_v3_small", "batch_size": 32},
        *({"optimizer": {"name": name}, "sampler": KDAS} for name in ("adamw", "muon", "dot")),
        {"optimizer": {"name": "dot", "schedule": "trapezoid"}, "precision": "float16", "accumulate": 2},
        {"optimizer": {"name": "muon", "nesterov": False, "schedule": "linear"}, "precision": "float16"},
    ],
    ids=str,
)
@pytest.mark.parametrize("stopped_in", [2, 4])
def test_resumed_trial_has_the_curve_of_an_uninterrupted_one(
    trial_of: TrialOf,
    calibration: Calibration,
    tmp_path: Path,
    sampler_part: Callable[[str], dict[str, Any]],
    changed: dict[str, Any],
    stopped_in: int,
) -> None:
    if isinstance(changed.get("sampler"), str):
        changed = {**changed, "sampler": sampler_part(changed["sampler"])}
    # Seven evaluations in five epochs, so that the loss of a row covers the end of an epoch.
    trial = trial_of(epochs=5, evaluations=7, **changed)
    whole = list(Training(trial, Surroundings(calibration)).rows())
    kept = Surroundings(calibration, checkpoint=tmp_path / "trial.pt", checkpoint_every_s=0)
    run_until_epoch(trial, kept, stopped_in)
    resumed = Training(trial, kept)
    done = resumed.epoch
    assert 1 <= done < stopped_in + 1
    after = [row for row in whole if row.epoch > done]
    assert after and of_the_trial(list(resumed.rows())) == of_the_trial(after)


def test_wall_seconds_continue_from_the_checkpoint(trial_of: TrialOf, calibration: Calibration, tmp_path: Path) -> None:
    kept = Surroundings(calibration, checkpoint=tmp_path / "trial.pt", checkpoint_every_s=0)
    trial = trial_of(epochs=4, evaluations=4)
    run_until_epoch(trial, kept, 3)
    saved_s = checkpoint.load(tmp_path / "trial.pt")["clock"]["wall_s"]
    resumed = Training(trial, kept)
    assert resumed.clock.wall_s == saved_s > 0
    assert next(resumed.rows()).wall_s > saved_s


def test_checkpoints_are_not_written_more_often_than_asked(
    trial_of: TrialOf, calibration: Calibration, tmp_path: Path
) -> None:
    kept = Surroundings(calibration, checkpoint=tmp_path / "trial.pt", checkpoint_every_s=1e6)
    assert list(Training(trial_of(epochs=2), kept).rows())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("changed", [{"seed": 2}, {"sampler": "random"}, {"epochs": 9}])
def test_checkpoint_of_another_trial_is_refused(
    trial_of: TrialOf, calibration: Calibration, tmp_path: Path, changed: dict[str, Any]
) -> None:
    kept = Surroundings(calibration, checkpoint=tmp_path / "trial.pt", checkpoint_every_s=0)
    run_until_epoch(trial_of(), kept, 2)
    with pytest.raises(UserError, match=r"trial\.pt: belongs to another trial or to other prices\. Move it away"):
        Training(trial_of(**changed), kept)


def test_checkpoint_at_other_prices_is_refused(trial_of: TrialOf, calibration: Calibration, tmp_path: Path) -> None:
    kept = Surroundings(calibration, checkpoint=tmp_path / "trial.pt", checkpoint_every_s=0)
    run_until_epoch(trial_of(), kept, 2)
    other = replace(kept, calibration=Calibration("other", {}, calibration.prices))
    with pytest.raises(UserError, match=r"trial\.pt: belongs to another trial or to other prices"):
        Training(trial_of(), other)


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "torn":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["torn", "one bit", "missing"])
def test_trial_resumes_from_the_previous_checkpoint_if_the_newest_is_damaged_or_missing(
    trial_of: TrialOf, calibration: Calibration, tmp_path: Path, how: str
) -> None:
    trial, path = trial_of(sampler=KDAS, epochs=5, evaluations=7), tmp_path / "trial.pt"
    kept = Surroundings(calibration, checkpoint=path, checkpoint_every_s=0)
    whole = list(Training(trial, Surroundings(calibration)).rows())
    run_until_epoch(trial, kept, 4)
    newest = checkpoint.load(path)["epoch"]
    if how == "missing":  # as if killed after the old file was moved and before the new one took its place
        path.unlink()
        resumed = Training(trial, kept)
    else:
        damage(path, how)
        with pytest.warns(UserWarning, match=r"trial\.pt: is damaged; resuming from the previous checkpoint"):
            resumed = Training(trial, kept)
    assert resumed.epoch == newest - 1
    after = [row for row in whole if row.epoch > resumed.epoch]
    assert of_the_trial(list(resumed.rows())) == of_the_trial(after)


def test_trial_with_nothing_but_damaged_checkpoints_is_refused(
    trial_of: TrialOf, calibration: Calibration, tmp_path: Path
) -> None:
    path = tmp_path / "trial.pt"
    kept = Surroundings(calibration, checkpoint=path, checkpoint_every_s=0)
    run_until_epoch(trial_of(), kept, 3)
    damage(path, "torn")
    damage(checkpoint.previous(path), "one bit")
    with pytest.raises(UserError, match=r"trial\.pt\.previous: is damaged"):
        Training(trial_of(), kept)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 torn"])
def test_damaged_checkpoint_of_a_trial_is_refused_in_one_line(
    trial_of: TrialOf, calibration: Calibration, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "trial.pt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^[^\n]*trial\.pt: is damaged[^\n]*$"):
        Training(trial_of(), Surroundings(calibration, checkpoint=path))


def test_a_checkpoint_that_the_system_cannot_read_is_not_given_up(
    trial_of: TrialOf, calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path) -> None:
        raise UnreadableError(path, OSError(errno.EIO, "Input/output error"))

    monkeypatch.setattr(checkpoint, "load_newest_intact", unreadable)
    with pytest.raises(UnreadableError, match=r"trial\.pt: cannot be read: Input/output error\. "):
        Training(trial_of(), Surroundings(calibration, checkpoint=tmp_path / "trial.pt"))


@pytest.mark.parametrize("content", [{"model": {}}, torch.zeros(3)], ids=["weights", "tensor"])
def test_file_that_is_not_a_checkpoint_of_a_trial_is_refused_in_one_line(
    trial_of: TrialOf, calibration: Calibration, tmp_path: Path, content: Any
) -> None:
    path = tmp_path / "teacher.pth"
    torch.save(content, path)
    with pytest.raises(UserError, match=r"^[^\n]*teacher\.pth: [^\n]*$"):
        Training(trial_of(), Surroundings(calibration, checkpoint=path))
