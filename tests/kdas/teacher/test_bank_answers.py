"""A bank answers what its teacher says about the view, whatever else was asked, by whom, and when."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kdas.compute.device import repeatable
from kdas.data import Draw, ResidentSplit
from kdas.errors import UserError
from kdas.files import checkpoint
from kdas.teacher.bank import TeacherBank
from kdas.teacher.bank.answers import fill_batch_size
from kdas.teacher.bank.store import BankStore
from kdas.training.trial import Inputs, load_inputs

ConfigOf = Callable[..., Any]
BankOf = Callable[..., TeacherBank]
Numbers = NDArray[np.int64]
NUM_TRAIN, NUM_VIEWS, FILL = 100, 9, 64
# The shape of a batch and the number of threads decide which float32 kernels run, and on some processors these round
# differently. The logits here, of about 1, then differ by less than 1e-6; those of two images by more than 0.01.
ROUNDING = 1e-5


@pytest.fixture
def bank_of(small_inputs: Inputs, config_of: ConfigOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BankOf:
    """Opens an empty bank over the small inputs, each time in its own folder."""
    made = 0

    def build(inputs: Inputs = small_inputs, *, bank: str = "float32", **changed: Any) -> TeacherBank:
        nonlocal made
        made += 1
        monkeypatch.setenv("KDAS_CACHE", str(tmp_path / f"cache {made}"))
        opened = replace(inputs).bank(config_of(bank=bank, **changed))
        assert opened is not None
        return opened

    repeatable(threads=1)
    return build


def all_pairs() -> tuple[Numbers, Numbers]:
    """Every view of every training image, image by image."""
    indices, views = np.divmod(np.arange(NUM_TRAIN * NUM_VIEWS), NUM_VIEWS)
    return indices, views


def said_by_teacher(inputs: Inputs, indices: Numbers, views: Numbers) -> NDArray[np.float32]:
    """What the live teacher says about views, in batches of 20."""
    wanted, ids = (torch.from_numpy(part).split(20) for part in (indices, views))
    with torch.no_grad():
        batches = [inputs.teacher.model(images) for _, images in inputs.splits.view_batches(wanted, ids)]
    logits: NDArray[np.float32] = torch.cat(batches).numpy()
    return logits


def ask(bank: TeacherBank, indices: Numbers, views: Numbers) -> tuple[NDArray[np.float32], list[int]]:
    """The answers and the sizes of the teacher's batches."""
    sizes: list[int] = []
    return bank.answers(indices, views, sizes.append), sizes


def test_answers_are_those_of_the_teacher_first_asked_and_then_read(bank_of: BankOf, small_inputs: Inputs) -> None:
    bank = bank_of()
    order = np.random.default_rng(0).permutation(NUM_TRAIN * NUM_VIEWS)
    indices, views = (part[order] for part in all_pairs())
    expected = said_by_teacher(small_inputs, indices, views)
    first, asked = ask(bank, indices[:300], views[:300])
    again, nothing = ask(bank, indices[:300], views[:300])
    whole, rest = ask(bank, indices, views)
    # 300 and 600 views, rounded up to full batches.
    assert (asked, nothing, rest) == ([FILL] * 5, [], [FILL] * 10)
    assert np.array_equal(first, again) and np.array_equal(first, whole[:300])
    assert np.abs(whole - expected).max() < ROUNDING < 1e-3 * np.abs(whole - expected[::-1]).max()


@pytest.mark.parametrize("sizes", [[900], [1] * 5, [3, 63, 64, 65, 256, 129], [40, 400]], ids=str)
def test_answer_does_not_depend_on_what_is_asked_with_it(bank_of: BankOf, sizes: list[int]) -> None:
    pairs = all_pairs()
    expected, _ = ask(bank_of(), *pairs)
    bank, order = bank_of(), np.random.default_rng(sum(sizes)).permutation(NUM_TRAIN * NUM_VIEWS)
    ends = np.cumsum(sizes)
    for chosen in np.split(order[: ends[-1]], ends[:-1]):
        answers, _ = ask(bank, *(part[chosen] for part in pairs))
        assert np.array_equal(answers, expected[chosen])


@pytest.mark.parametrize("threads", [2, 3])
def test_answer_depends_on_the_threads_by_rounding_alone(bank_of: BankOf, threads: int) -> None:
    pairs = all_pairs()
    expected, _ = ask(bank_of(), *pairs)
    bank = bank_of()
    torch.set_num_threads(threads)
    answers, _ = ask(bank, *pairs)
    torch.set_num_threads(1)
    assert np.abs(answers - expected).max() < ROUNDING


def test_answer_does_not_depend_on_neighbours_that_cannot_be_read(bank_of: BankOf, small_inputs: Inputs) -> None:
    pairs = all_pairs()
    expected, _ = ask(bank_of(), *pairs)
    train = small_inputs.splits.train
    assert isinstance(train, ResidentSplit)
    for readable in (torch.arange(NUM_TRAIN) % 10 != 4, torch.arange(NUM_TRAIN) == 99, torch.arange(NUM_TRAIN) < 40):
        splits = replace(small_inputs.splits, train=replace(train, readable=readable))
        bank = bank_of(replace(small_inputs, splits=splits))
        answers, sizes = ask(bank, *pairs)
        can_be_read = readable.numpy()[pairs[0]]
        assert np.array_equal(answers[can_be_read], expected[can_be_read])
        # The teacher skips batches in which no image could be read.
        assert sizes and set(sizes) == {FILL} and len(sizes) <= 15
        found = bank.store.read(small_inputs.splits.train.numbers.numpy()[pairs[0]], pairs[1])[1]
        assert np.array_equal(found, can_be_read)


def test_bank_built_ahead_holds_what_is_asked_as_needed(bank_of: BankOf) -> None:
    pairs = all_pairs()
    expected, _ = ask(bank_of(), *pairs)
    bank = bank_of()
    done: list[int] = []
    bank.build(done.append)
    answers, asked = ask(bank, *pairs)
    assert np.array_equal(answers, expected) and not asked
    assert bank.share_filled() == 1
    # The bank has room for all images of the set, but only those in the training split are asked about.
    assert bank.store.counted() == (NUM_TRAIN * NUM_VIEWS, 0)
    assert done == sorted(done) and len(done) >= 2 and done[0] > 0 and done[-1] == NUM_TRAIN * NUM_VIEWS


def test_build_that_was_interrupted_asks_only_for_the_rest(bank_of: BankOf, small_inputs: Inputs) -> None:
    def interrupt(num_done: int) -> None:
        raise KeyboardInterrupt(str(num_done))

    bank, sizes = bank_of(), []
    hook = small_inputs.teacher.model.register_forward_hook(lambda model, args, logits: sizes.append(len(args[0])))
    try:
        with pytest.raises(KeyboardInterrupt, match="448"):  # seven full batches out of the first 450 views
            bank.build(interrupt)
        assert sizes == [FILL] * 7
        assert bank.share_filled() == pytest.approx(448 / 900, abs=0.1)
        sizes.clear()
        done: list[int] = []
        bank.build(done.append)
        assert sizes == [FILL] * 8 and done[-1] == 900
        bank.build(done.append)
        assert sizes == [FILL] * 8 and done[-1] == 900
    finally:
        hook.remove()
    assert np.array_equal(ask(bank, *all_pairs())[0], ask(bank_of(), *all_pairs())[0])


@pytest.mark.filterwarnings("ignore:.*answers are not kept")
def test_build_ends_with_one_line_when_the_disk_is_full(bank_of: BankOf, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    bank = bank_of()
    monkeypatch.setattr(BankStore, "write", full)
    with pytest.raises(UserError, match=r"^[^\n]*\.bank: the bank cannot be written\. Free some space on its disk\.$"):
        bank.build(lambda num_done: None)


def test_teacher_is_asked_in_the_precision_of_the_trial(bank_of: BankOf) -> None:
    pairs = all_pairs()
    usual, _ = ask(bank_of(), *pairs)
    short, _ = ask(bank_of(precision="bfloat16"), *pairs)
    difference = np.abs(usual - short).max()
    assert 1e-4 < difference < 0.1


def test_answers_of_an_epoch_go_by_the_index_whatever_part_of_a_batch_is_left(
    bank_of: BankOf, small_inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kdas.teacher.bank.answers.WINDOW_BYTES", 70 * 10 * 4)  # two batches
    bank, draw = bank_of(), Draw(seed=3, epoch=2)
    view_ids = small_inputs.splits.view_ids(draw)
    assert view_ids is not None
    batches = list(torch.randperm(NUM_TRAIN, generator=torch.Generator().manual_seed(0)).split(30))
    answers = bank.epoch(batches, draw, lambda size: None)
    for position, batch in enumerate(batches):
        left = batch[batch % 3 != 0]
        expected, _ = ask(bank, left.numpy(), view_ids[left].numpy())
        assert torch.equal(answers.of(position, left), torch.from_numpy(expected))


@pytest.mark.parametrize(
    ("image_size", "device", "num_images"),
    [(8, "cpu", 64), (64, "cpu", 64), (128, "cpu", 16), (600, "cpu", 16), (64, "cuda", 256), (224, "cuda", 20)],
)
def test_teacher_is_asked_about_fewer_images_at_once_where_they_are_large(
    image_size: int, device: str, num_images: int
) -> None:
    assert fill_batch_size(image_size, device) == num_images


def test_validation_parts_of_all_sizes_share_the_bank_of_a_checkpoint(
    config_of: ConfigOf, small_inputs: Inputs, empty_cache: Path, tmp_path: Path
) -> None:
    checkpoint.save(tmp_path / "teacher.pth", {"model": small_inputs.teacher.model.state_dict()})
    teacher = {"model": "resnet8", "checkpoint": str(tmp_path / "teacher.pth")}
    opened = {}
    for validation in (0.1, 0.2, 0):
        inputs = load_inputs(config_of(teacher=teacher, validation=validation))
        bank = inputs.bank(config_of(teacher=teacher, validation=validation, bank="float32"))
        assert bank is not None
        opened[validation] = (inputs, bank)
    assert len({bank.store.path for _, bank in opened.values()}) == 1
    asked: dict[float, list[int]] = {}
    for validation, (inputs, bank) in opened.items():
        indices = np.arange(len(inputs.splits.train))
        # By the image's number, so that an image has the same view whatever its index in the training split.
        views = inputs.splits.train.numbers.numpy() % NUM_VIEWS
        answers, asked[validation] = ask(bank, indices, views)
        assert np.abs(answers - said_by_teacher(inputs, indices, views)).max() < ROUNDING
    sizes = {validation: len(inputs.splits.train) for validation, (inputs, _) in opened.items()}
    assert sizes[0.2] < sizes[0.1] < sizes[0]
    # What the first has asked, the others need not ask again.
    assert len(asked[0.1]) == -(-sizes[0.1] // FILL) and len(asked[0.2]) + len(asked[0]) <= 3
