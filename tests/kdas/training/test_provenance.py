"""Code, packages and machine are told as they are."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from kdas.files.cache import content_id, file_id
from kdas.training import provenance as module
from kdas.training.provenance import provenance, uncommitted


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout with one commit, in which this project's code is said to be."""
    (tmp_path / "kdas" / "training").mkdir(parents=True)
    (tmp_path / "code.py").write_text("a = 1\n")
    (tmp_path / "requirements.lock").write_text("torch==2\n")
    names = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*names, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    monkeypatch.setattr(module, "_HERE", tmp_path / "kdas" / "training")
    provenance.cache_clear()
    yield tmp_path
    provenance.cache_clear()


def test_a_clean_checkout_has_a_commit_and_no_difference(checkout: Path) -> None:
    head = subprocess.run(["git", "-C", str(checkout), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    told = provenance("cpu")
    assert (told["git_commit"], told["git_diff"]) == (head.stdout.strip(), "")
    assert told["lock"] == file_id(checkout / "requirements.lock")[:16]
    assert told["driver"] == told["cuda"] == "" and told["hardware"] and told["host"]
    (checkout / "untracked.txt").write_text("is no code of this project")
    assert uncommitted() == ""


def test_changes_that_no_commit_holds_are_told_by_their_hash(checkout: Path) -> None:
    (checkout / "code.py").write_text("a = 2\n")
    told = provenance("cpu")
    assert told["git_commit"].endswith("+changes") and told["git_diff"] == content_id(uncommitted())
    assert "-a = 1\n+a = 2" in uncommitted()


def test_the_checkout_of_another_project_is_not_taken_for_ours(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where this project is installed into an environment inside a user's own repository."""
    (checkout / ".venv" / "kdas" / "training").mkdir(parents=True)
    monkeypatch.setattr(module, "_HERE", checkout / ".venv" / "kdas" / "training")
    (checkout / "code.py").write_text("a = 2\n")
    assert (provenance("cpu")["git_commit"], uncommitted()) == ("", "")


def test_outside_a_checkout_and_without_git_nothing_is_told(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert (provenance("cpu")["git_commit"], provenance("cpu")["git_diff"]) == ("", "")


def test_the_driver_is_what_nvidias_program_says(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = checkout / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 580.65.06\necho 580.65.06\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{checkout}:/usr/bin:/bin")
    monkeypatch.setattr(module, "hardware_name", lambda device: "a GPU")
    assert provenance("cuda")["driver"] == "580.65.06"


def test_an_image_names_its_commit_in_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDAS_COMMIT", "1a2b3c")
    monkeypatch.setattr(module, "_HERE", tmp_path / "kdas" / "training")
    provenance.cache_clear()
    assert (provenance("cpu")["git_commit"], provenance("cpu")["git_diff"]) == ("1a2b3c", "")
    provenance.cache_clear()


def test_a_checkout_knows_better_than_the_environment(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KDAS_COMMIT", "1a2b3c")
    assert len(provenance("cpu")["git_commit"]) == 40
