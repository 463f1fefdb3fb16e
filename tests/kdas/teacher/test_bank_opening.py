"""Which bank a trial has, and that a wrong or damaged file is never read from."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout

from kdas.data import DATASETS
from kdas.errors import UserError
from kdas.teacher.bank import TeacherBank, bank_precision, open_bank
from kdas.teacher.bank.opening import banks_root
from kdas.teacher.bank.store import HEADER_BYTES, BankStore, Shape
from kdas.training.trial import Inputs, load_inputs
from kdas.views import CropFlip, ResizedCrop

ConfigOf = Callable[..., Any]
Open = Callable[..., TeacherBank | None]


@pytest.fixture
def opened(config_of: ConfigOf, small_inputs: Inputs, empty_cache: Path) -> Open:
    """Opens the bank of the small trial; other keyword arguments replace keys of the trial file."""

    def build(given: Inputs = small_inputs, *, check: bool = False, **changed: Any) -> TeacherBank | None:
        return open_bank(config_of(**changed), given.dataset, given.splits, given.teacher, "cpu", check=check)

    return build


@pytest.fixture
def filled(opened: Open) -> TeacherBank:
    """A bank with a made-up answer for each of the 900 views of the training images."""
    bank = opened()
    assert bank is not None
    images, views = np.repeat(bank._numbers, 9), np.tile(np.arange(9), 100)
    bank.store.write(images, views, np.zeros((900, 10), np.float32))
    return bank


def num_answers(bank: TeacherBank | None) -> int:
    assert bank is not None
    num_valid, num_damaged = bank.store.counted()
    assert not num_damaged
    return num_valid


def test_own_bank_is_opened_and_kept(opened: Open, empty_cache: Path) -> None:
    bank = opened()
    assert bank is not None and bank.store.path.parent == banks_root() == empty_cache / "banks"
    assert bank.agrees()  # an empty bank holds nothing wrong
    bank.build(lambda num_done: None)
    content = bank.store.path.read_bytes()
    for check in (False, True):
        again = opened(check=check)
        assert again is not None and again.store.path == bank.store.path and num_answers(again) == 900
    assert bank.store.path.read_bytes() == content


def flip_a_bit_of_the_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(b"drawn")] ^= 1
    path.write_bytes(content)


def spoil_the_header(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(bytes(HEADER_BYTES) + content[HEADER_BYTES:])


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def cut_in_the_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


DAMAGES = [flip_a_bit_of_the_header, spoil_the_header, cut_short, cut_in_the_header, empty]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_bank_is_rebuilt(opened: Open, filled: TeacherBank, damage: Callable[[Path], None]) -> None:
    # Replace the file rather than change it: it is mapped, and reading what was cut off would kill the process.
    copy = filled.store.path.with_suffix(".copy")
    shutil.copyfile(filled.store.path, copy)
    damage(copy)
    copy.replace(filled.store.path)
    with pytest.warns(UserWarning, match=r"\.bank: is damaged or belongs to another teacher\. Rebuilding it\.$"):
        again = opened()
    assert num_answers(again) == 0
    assert num_answers(opened()) == 0


@pytest.mark.parametrize(
    "part", ["weights", "precision", "computed in", "views", "as many views", "dataset", "torch", "measure"]
)
def test_bank_of_something_else_is_another_file_and_refused_in_place_of_ones_own(
    opened: Open,
    filled: TeacherBank,
    small_inputs: Inputs,
    monkeypatch: pytest.MonkeyPatch,
    part: str,
) -> None:
    given, changed = small_inputs, {}
    if part == "weights":
        given = replace(given, teacher=replace(given.teacher, weights_id="others"))
    elif part == "precision":
        changed = {"bank": "float32"}
    elif part == "computed in":
        changed = {"precision": "bfloat16"}
    elif part == "views":
        given = replace(given, splits=replace(given.splits, views=CropFlip(padding=2, size=8, flip=False)))
    elif part == "as many views":
        given = replace(given, splits=replace(given.splits, views=ResizedCrop(8, fixed=9)))
    elif part == "dataset":
        given = replace(given, dataset=replace(given.dataset, fingerprint="others"))
    elif part == "torch":
        monkeypatch.setattr(torch, "__version__", "1.0")
    else:
        monkeypatch.setattr("kdas.teacher.bank.opening.MEASURE_VERSION", 0)
    other = opened(given, **changed)
    assert other is not None and other.store.path != filled.store.path and num_answers(other) == 0
    # Put one bank in the other's place.
    shutil.copyfile(filled.store.path, other.store.path.with_suffix(".copy"))
    other.store.path.with_suffix(".copy").replace(other.store.path)
    with pytest.warns(UserWarning, match=r"\.bank: is damaged or belongs to another teacher\. Rebuilding it\.$"):
        again = opened(given, **changed)
    assert again is not None and num_answers(again) == 0 and again.store.shape == other.store.shape
    assert num_answers(filled) == 900


def test_nobody_replaces_a_bank_between_its_check_and_its_opening(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    def watched(path: Path, shape: Shape) -> BankStore:
        with pytest.raises(Timeout, match="could not be acquired"):
            FileLock(f"{path}.lock", timeout=0).acquire()
        return BankStore(path, shape)

    monkeypatch.setattr("kdas.teacher.bank.opening.BankStore", watched)
    assert num_answers(opened()) == 0


def test_what_cannot_change_an_answer_shares_the_bank(opened: Open, filled: TeacherBank) -> None:
    for changed in ({"student": "resnet14"}, {"seed": 5}, {"threads": 2}, {"sampler": "kdas"}, {"batch_size": 32}):
        other = opened(**changed)
        assert other is not None and other.store.path == filled.store.path


def test_wrong_answers_with_valid_checks_are_refused_only_when_they_are_looked_at(
    opened: Open, filled: TeacherBank
) -> None:
    unseen = opened()
    assert num_answers(unseen) == 900
    with pytest.warns(UserWarning, match=r"\.bank: contains answers that differ from its teacher's\. Rebuilding it"):
        bank = opened(check=True)
    assert num_answers(bank) == num_answers(opened(check=True)) == 0


@pytest.fixture
def photographs(write_folders: Callable[..., Path], small_inputs: Inputs, tmp_path: Path) -> Inputs:
    """Inputs with an unlimited number of crops."""
    folder = write_folders(tmp_path / "set", {"train": 10, "test": 5})
    part = {"name": "image_folder", "path": str(folder), "size": 8, "augment": "resized_crop"}
    dataset = DATASETS.build(DATASETS.checked(part))
    splits = replace(small_inputs.splits, views=dataset.views(8), num_classes=3)
    return replace(small_inputs, dataset=dataset, splits=splits)


@pytest.mark.parametrize("bank", ["float16", "float32"])
def test_bank_asked_for_where_the_loss_needs_features_is_refused_in_one_line(opened: Open, bank: str) -> None:
    said = rf"^bank: {bank} is not possible: this loss needs the teacher's features, maps [^\n]*\. Set bank: live\.$"
    with pytest.raises(UserError, match=said):
        opened(bank=bank, loss="nd")


def test_loss_on_the_students_features_alone_has_a_bank(opened: Open) -> None:
    assert opened(loss="dhkd") is not None
    assert opened(loss="nd") is None


@pytest.mark.parametrize("bank", ["float16", "float32"])
def test_bank_asked_for_over_endless_views_is_refused_in_one_line(
    opened: Open, photographs: Inputs, bank: str, empty_cache: Path
) -> None:
    reason = "image_folder has unlimited views"
    said = rf"^bank: {bank} is not possible: {reason}\. Set dataset\.fixed_views, or bank: live"
    with pytest.raises(UserError, match=said):
        opened(photographs, bank=bank)
    assert not (empty_cache / "banks").exists()


def test_bank_that_is_not_possible_is_refused_before_a_teacher_is_trained(
    config_of: ConfigOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(*arguments: Any) -> None:
        raise AssertionError("a teacher was trained")

    monkeypatch.setattr("kdas.training.trial.teachers.obtain", trained)
    with pytest.raises(UserError, match="is not possible"):
        load_inputs(config_of(bank="float16", loss=[{"name": "kd", "weight": 1}, {"name": "nd", "weight": 1}]))


def test_where_no_bank_is_exact_the_teacher_runs_live_unless_asked_otherwise(
    opened: Open, photographs: Inputs, empty_cache: Path
) -> None:
    assert opened(loss="nd") is None and opened(photographs) is None and opened(bank="live") is None
    assert not (empty_cache / "banks").exists()


def test_few_fixed_views_have_a_bank(config_of: ConfigOf, photographs: Inputs) -> None:
    fixed = replace(photographs.splits, views=ResizedCrop(8, fixed=4))
    assert bank_precision(config_of(), photographs.dataset, fixed) == "float16"


def test_huge_bank_is_made_only_where_it_is_asked_for(config_of: ConfigOf, small_inputs: Inputs) -> None:
    # 1.3 million images with 1,000 classes and 162 views would take 400 GB.
    huge = replace(small_inputs.splits, num_images=1_300_000, num_classes=1000, views=CropFlip())
    precisions = {
        bank: bank_precision(config_of(bank=bank), small_inputs.dataset, huge) for bank in ("auto", "float16")
    }
    assert precisions == {"auto": None, "float16": "float16"}
    large = replace(huge, num_images=50_000, num_classes=100)
    assert bank_precision(config_of(), small_inputs.dataset, large) == "float16"


@pytest.mark.parametrize("bank", ["auto", "float16"])
def test_disk_without_room_is_refused_with_both_numbers(
    opened: Open, monkeypatch: pytest.MonkeyPatch, small_inputs: Inputs, empty_cache: Path, bank: str
) -> None:
    usage = shutil.disk_usage(empty_cache.parent)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=1_000_000_000))
    large = replace(small_inputs, splits=replace(small_inputs.splits, num_images=1_000_000, num_classes=100))
    said = (
        r"^bank: needs up to 1\.8 GB in \S*/cache/banks, which has 1\.0 GB free\. [^\n]*KDAS_CACHE[^\n]*bank: live\.$"
    )
    with pytest.raises(UserError, match=said):
        opened(large, bank=bank)
    assert not list(banks_root().glob("*.bank"))
    assert opened() is not None


def test_folder_that_cannot_be_written_to_is_refused_in_one_line(opened: Open, empty_cache: Path) -> None:
    empty_cache.mkdir()
    (empty_cache / "banks").write_text("a file")
    with pytest.raises(UserError, match=r"^[^\n]*banks: cannot be written to: [^\n]*$"):
        opened()


def test_inputs_open_a_bank_once_for_each_precision(
    config_of: ConfigOf, small_inputs: Inputs, empty_cache: Path
) -> None:
    inputs = replace(small_inputs)
    first = inputs.bank(config_of())
    assert first is not None and inputs.bank(config_of(bank="float16", seed=4)) is first
    banks = [
        inputs.bank(config_of(bank=bank, precision=computed))
        for bank, computed in (
            ("float16", "float32"),
            ("float32", "float32"),
            ("float16", "bfloat16"),
            ("live", "float32"),
            ("auto", "float16"),
        )
    ]
    assert banks[0] is first and banks[3] is None
    assert len({bank.store.path for bank in banks if bank}) == 4
