"""`python -m kdas bank`: what its commands say and do."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kdas.__main__ import app
from kdas.errors import UserError
from kdas.recipe.config import load_trial_config
from kdas.teacher.bank import TeacherBank
from kdas.training.trial import load_inputs

Command = Callable[..., tuple[int, str]]


@pytest.fixture
def trial_file(tmp_path: Path, empty_cache: Path) -> Path:
    path = tmp_path / "trial.yaml"
    path.write_text(
        "dataset: digits\nteacher: {model: resnet8, epochs: 1}\nstudent: resnet8\nepochs: 2\n", encoding="utf-8"
    )
    return path


@pytest.fixture
def command() -> Command:
    def run(*arguments: object) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["bank", *map(str, arguments)])
        if isinstance(done.exception, UserError):
            raise done.exception
        return done.exit_code, done.output

    return run


def banks(cache: Path) -> list[Path]:
    return sorted((cache / "banks").glob("*.bank"))


def test_a_bank_is_announced_built_listed_verified_and_pruned(
    command: Command, trial_file: Path, empty_cache: Path
) -> None:
    code, said = command("build", trial_file)
    assert code == 0
    # 1,438 images, 143 of them for validation; nine views each; ten float16 logits and a 4-byte check per view.
    assert f"at most {(4096 + 1438 * 9 * 24) / 1e6:.1f} MB in {empty_cache}" in said
    assert "about 0% of the 9 views of 1,295 images" in said and "100% of 11,655 views" in said
    (bank,) = banks(empty_cache)
    # A full bank is announced, and has no progress to show.
    code, said = command("build", trial_file)
    assert code == 0 and "about 100% of the 9 views" in said and "views" not in said.split("are answered")[1]

    assert bank.name in command("info")[1]
    code, said = command("verify", trial_file)
    assert code == 0 and "11,655 answers intact, 0 damaged" in said and "agrees with its teacher" in said

    assert command("prune") == (0, "0.0 MB freed\n") and bank.exists()
    old = time.time() - 31 * 86_400
    os.utime(bank, (old, old))
    assert f"{bank.name} removed" in command("prune")[1] and not bank.exists()


def test_a_bank_that_is_in_use_is_not_pruned_when_its_user_is_done(
    command: Command, trial_file: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("build", trial_file)
    (bank,) = banks(empty_cache)
    old = time.time() - 31 * 86_400
    os.utime(bank, (old, old))

    @contextmanager
    def held_by_another(path: Path) -> Iterator[None]:
        os.utime(bank)  # by the trial that held the lock
        yield

    monkeypatch.setattr("kdas.command.bank.locked", held_by_another)
    assert command("prune") == (0, "0.0 MB freed\n")
    assert bank.exists()


def test_building_again_asks_about_nothing(command: Command, trial_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command("build", trial_file)
    asked: list[object] = []
    monkeypatch.setattr(TeacherBank, "_logits", lambda self, images: asked.append(images))
    code, said = command("build", trial_file)
    assert code == 0 and not asked and "about 100% of the 9 views" in said


def test_damage_is_found_and_is_not_a_success(command: Command, trial_file: Path, empty_cache: Path) -> None:
    command("build", trial_file)
    (bank,) = banks(empty_cache)
    with bank.open("r+b") as file:
        file.seek(4096 + 24 * 9 * 700)
        file.write(b"\x55" * 24)
    code, said = command("verify")
    assert code == 1
    held_out = load_inputs(load_trial_config(trial_file)).splits.validation.numbers
    assert ("1 damaged" in said) and (f"{11_655 - (700 not in held_out):,} answers intact" in said)
    bank.write_bytes(b"nothing")
    code, said = command("verify")
    assert code == 1 and "it is rebuilt when a trial needs it" in said
    assert "damaged" in command("info")[1]


def test_a_trial_without_a_bank_is_told_in_one_line(command: Command, trial_file: Path) -> None:
    trial_file.write_text(trial_file.read_text(encoding="utf-8") + "bank: live\n", encoding="utf-8")
    message = (
        r"trial\.yaml: bank: live runs the teacher live here, so there is no bank\. Set bank: float16 or float32\.$"
    )
    with pytest.raises(UserError, match=message):
        command("build", trial_file)
