"""The file of a teacher bank: what was written is read again, and anything else counts as missing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kdas.teacher.bank.store import HEADER_BYTES, BankStore, Shape, create

PRECISIONS = pytest.mark.parametrize("precision", ["float16", "float32"])


def new_store(folder: Path, precision: str = "float16", num_classes: int = 10, num_images: int = 6) -> BankStore:
    """A bank with three views of each image."""
    shape = Shape(num_images, 3, num_classes, precision)
    create(folder / "a.bank", shape, {})
    return BankStore(folder / "a.bank", shape)


def drawn_logits(store: BankStore) -> NDArray[np.float32]:
    """Logits for each record, as large as those of networks."""
    size = (store.shape.num_records, store.shape.num_classes)
    return np.random.default_rng(1).normal(scale=5, size=size).astype(np.float32)


def all_pairs(store: BankStore) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    images, views = np.divmod(np.arange(store.shape.num_records), store.shape.num_views)
    return images, views


def filled_store(folder: Path, **changed: Any) -> tuple[BankStore, NDArray[np.float32]]:
    store = new_store(folder, **changed)
    logits = drawn_logits(store)
    store.write(*all_pairs(store), logits)
    return store, store.rounded(logits)


def is_there(store: BankStore) -> list[bool]:
    found: list[bool] = store.read(*all_pairs(store))[1].tolist()
    return found


def read_one(store: BankStore, record: int) -> tuple[NDArray[np.float32], bool]:
    image, view = divmod(record, store.shape.num_views)
    logits, found = store.read(np.array([image]), np.array([view]))
    return logits, bool(found[0])


def record_bytes(store: BankStore) -> int:
    return store.shape.words_per_record * 4


def of_record(store: BankStore, record: int) -> slice:
    """Position of a record in the bytes of the file."""
    start = HEADER_BYTES + record * record_bytes(store)
    return slice(start, start + record_bytes(store))


@PRECISIONS
@pytest.mark.parametrize("num_classes", [2, 3, 7, 100])
def test_answers_are_read_as_they_were_written(tmp_path: Path, precision: str, num_classes: int) -> None:
    store = new_store(tmp_path, precision, num_classes)
    logits = drawn_logits(store)
    order = np.random.default_rng(2).permutation(len(logits))
    images, views = (part[order] for part in all_pairs(store))
    store.write(images, views, logits[order])
    read, found = BankStore(store.path, store.shape).read(images, views)
    assert found.all() and read.dtype == np.float32
    assert np.array_equal(read, store.rounded(logits[order]))
    expected = logits if precision == "float32" else logits.astype(np.float16).astype(np.float32)
    assert np.array_equal(store.rounded(logits), expected)


def test_answer_that_nobody_wrote_is_missing(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    assert not any(is_there(store))
    store.write(np.array([4]), np.array([1]), np.zeros((1, 10), np.float32))
    assert [record for record, found in enumerate(is_there(store)) if found] == [4 * 3 + 1]


@PRECISIONS
@pytest.mark.parametrize("num_classes", [3, 10])
def test_file_has_its_full_size_at_once_and_takes_no_room_before_it_is_written_to(
    tmp_path: Path, precision: str, num_classes: int
) -> None:
    store = new_store(tmp_path, precision, num_classes, num_images=50_000)
    bytes_per_answer = (
        4 + {("float16", 3): 8, ("float16", 10): 20, ("float32", 3): 12, ("float32", 10): 40}[precision, num_classes]
    )
    state = store.path.stat()
    assert state.st_size == store.shape.num_bytes == HEADER_BYTES + 150_000 * bytes_per_answer
    assert state.st_blocks * 512 <= 2 * HEADER_BYTES


def test_neighbours_written_at_once_are_as_if_written_one_by_one(tmp_path: Path) -> None:
    folders = [tmp_path / "at once", tmp_path / "one by one"]
    at_once, one_by_one = (new_store(folder) for folder in folders)
    chosen = np.array([7, 3, 4, 17, 0, 5, 16])
    images, views = (part[chosen] for part in all_pairs(at_once))
    logits = drawn_logits(at_once)[chosen]
    at_once.write(images, views, logits)
    for row in range(len(chosen)):
        each = slice(row, row + 1)
        one_by_one.write(images[each], views[each], logits[each])
    assert at_once.path.read_bytes() == one_by_one.path.read_bytes()
    assert sum(is_there(at_once)) == len(chosen)


def test_pair_given_twice_in_one_write_is_kept_once(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    logits = np.repeat(drawn_logits(store)[:1], 3, axis=0)
    store.write(np.array([2, 2, 2]), np.array([1, 1, 1]), logits)
    assert [record for record, found in enumerate(is_there(store)) if found] == [2 * 3 + 1]


def test_nothing_to_write_and_nothing_to_read_are_no_mistakes(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    nothing = np.empty(0, np.int64)
    store.write(nothing, nothing, np.empty((0, 10), np.float32))
    logits, found = store.read(nothing, nothing)
    assert logits.shape == (0, 10) and found.shape == (0,) and not any(is_there(store))


@PRECISIONS
@pytest.mark.parametrize("num_classes", [3, 10])
def test_record_with_any_one_bit_flipped_is_missing(tmp_path: Path, precision: str, num_classes: int) -> None:
    store, logits = filled_store(tmp_path, precision=precision, num_classes=num_classes)
    whole, place = store.path.read_bytes(), of_record(store, 7)
    with store.path.open("r+b", buffering=0) as file:
        for bit in range(8 * record_bytes(store)):
            position = place.start + bit // 8
            file.seek(position)
            file.write(bytes([whole[position] ^ (1 << bit % 8)]))
            assert not read_one(store, 7)[1], f"bit {bit}"
            file.seek(position)
            file.write(whole[position : position + 1])
    assert all(is_there(store)) and np.array_equal(read_one(store, 7)[0], logits[7:8])


@PRECISIONS
def test_record_of_which_only_a_beginning_was_written_is_missing(tmp_path: Path, precision: str) -> None:
    whole, _ = filled_store(tmp_path / "whole", precision=precision, num_classes=7)
    torn = new_store(tmp_path / "torn", precision, 7)
    content, place = whole.path.read_bytes(), of_record(whole, 5)
    # After an odd number of half floats, the last half word is padding. The record is complete without it.
    num_needed = record_bytes(whole) - (2 if precision == "float16" else 0)
    with torn.path.open("r+b", buffering=0) as file:
        for length in range(1, record_bytes(whole) + 1):
            file.seek(place.start)
            file.write(content[place][:length])
            assert read_one(torn, 5)[1] == (length >= num_needed), f"{length} bytes"


@given(st.sampled_from(["float16", "float32"]), st.data())
def test_record_of_which_some_words_are_old_and_some_new_is_missing(
    tmp_path_factory: pytest.TempPathFactory, precision: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("mixed")
    store, _ = filled_store(folder, precision=precision)
    old = np.fromfile(store.path, np.uint32, offset=HEADER_BYTES).reshape(store.shape.num_records, -1)[5]
    store.write(np.array([1]), np.array([2]), np.linspace(-9, 9, 10, dtype=np.float32)[None])
    new = np.fromfile(store.path, np.uint32, offset=HEADER_BYTES).reshape(store.shape.num_records, -1)[5]
    assert (old != new).all()
    num_words = len(old)
    is_new = np.array(data.draw(st.lists(st.booleans(), min_size=num_words, max_size=num_words)))
    with store.path.open("r+b") as file:
        file.seek(of_record(store, 5).start)
        file.write(np.where(is_new, new, old).tobytes())
    assert read_one(store, 5)[1] == (is_new.all() or not is_new.any())


def test_record_at_the_place_of_another_is_missing(tmp_path: Path) -> None:
    store, _ = filled_store(tmp_path)
    whole = store.path.read_bytes()
    for record in range(1, store.shape.num_records):
        moved = bytearray(whole)
        moved[of_record(store, record)] = whole[of_record(store, 0)]
        store.path.write_bytes(moved)
        expected = [True] * store.shape.num_records
        expected[record] = False
        assert is_there(store) == expected


@pytest.mark.parametrize("fill", [0, 1, 0xFF, 0x7C, 0x7D])
def test_page_of_one_byte_holds_no_record(tmp_path: Path, fill: int) -> None:
    """A file system returns zeros for lost pages; the other bytes make infinities and NaNs as half floats."""
    store, _ = filled_store(tmp_path, num_images=400)
    content = bytearray(store.path.read_bytes())
    content[HEADER_BYTES + 4096 : HEADER_BYTES + 8192] = bytes([fill]) * 4096
    store.path.write_bytes(content)
    first, end = 4096 // record_bytes(store), -(-8192 // record_bytes(store))
    found = is_there(store)
    assert not any(found[first:end])
    assert all(found[:first]) and all(found[end:])


@given(st.binary(min_size=24 * 18, max_size=24 * 18))
def test_noise_holds_no_record(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    store = new_store(tmp_path_factory.mktemp("noise"))
    assert record_bytes(store) * store.shape.num_records == len(noise)
    with store.path.open("r+b") as file:
        file.seek(HEADER_BYTES)
        file.write(noise)
    assert not any(is_there(store))


@pytest.mark.parametrize(
    ("precision", "logit", "said"),
    [
        ("float16", 70_000.0, "a logit of 7e\\+04, which float16 cannot hold"),
        ("float16", -70_000.0, "a logit of 7e\\+04, which float16 cannot hold"),
        ("float16", np.inf, "a logit of inf, which float16 cannot hold"),
        ("float16", np.nan, "a logit of nan, which float16 cannot hold"),
        ("float32", np.inf, "a logit of inf, which float32 cannot hold"),
    ],
)
def test_logit_beyond_the_precision_is_refused_before_anything_is_written(
    tmp_path: Path, precision: str, logit: float, said: str
) -> None:
    store = new_store(tmp_path, precision)
    before = store.path.read_bytes()
    logits = drawn_logits(store)
    logits[-1, 3] = logit
    with pytest.raises(ValueError, match=said):
        store.write(*all_pairs(store), logits)
    assert store.path.read_bytes() == before


def test_whole_damaged_and_empty_records_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdas.teacher.bank.store._RECORDS_AT_ONCE", 4)
    store = new_store(tmp_path)
    assert store.counted() == (0, 0)
    images, views = (part[:7] for part in all_pairs(store))
    store.write(images, views, drawn_logits(store)[:7])
    assert store.counted() == (7, 0)
    content = bytearray(store.path.read_bytes())
    content[of_record(store, 2).start + 5] ^= 8
    content[of_record(store, 17).stop - 1] ^= 8
    store.path.write_bytes(content)
    assert store.counted() == (6, 2)


def test_share_of_answered_views_is_about_right(tmp_path: Path) -> None:
    store = new_store(tmp_path, num_images=300)
    images, views = all_pairs(store)
    of_few = np.arange(10, 20)
    store.write(images[15:45], views[15:45], drawn_logits(store)[15:45])
    assert store.share_filled(np.arange(300)) == pytest.approx(30 / 900, abs=0.02)
    assert store.share_filled(of_few) == pytest.approx(15 / 30, abs=0.1)
    assert store.share_filled(np.arange(5, 15)) == 1


def test_largest_half_float_is_kept(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    logits = np.full((1, 10), -65504, np.float32)
    store.write(np.array([0]), np.array([0]), logits)
    assert np.array_equal(read_one(store, 0)[0], logits)


def test_stores_on_one_file_see_what_each_other_writes(tmp_path: Path) -> None:
    one = new_store(tmp_path)
    other = BankStore(one.path, one.shape)
    logits = drawn_logits(one)
    images, views = all_pairs(one)
    for record, (writer, reader) in enumerate([(one, other), (other, one)]):
        each = slice(record, record + 1)
        assert not reader.read(images[each], views[each])[1].any()
        writer.write(images[each], views[each], logits[each])
        read, found = reader.read(images[each], views[each])
        assert found.all() and np.array_equal(read, one.rounded(logits[each]))


def test_write_that_the_system_cuts_short_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = new_store(tmp_path)
    logits, images_and_views = drawn_logits(store), all_pairs(store)
    pwrite = os.pwrite
    monkeypatch.setattr("os.pwrite", lambda handle, content, offset: pwrite(handle, content[:13], offset))
    store.write(*images_and_views, logits)
    assert all(is_there(store)) and np.array_equal(store.read(*images_and_views)[0], store.rounded(logits))


def test_write_to_a_file_that_is_gone_says_so(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    store.path.unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.bank"):
        store.write(*all_pairs(store), drawn_logits(store))
