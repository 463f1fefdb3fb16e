"""The bundled digits: one split for everybody, stratified, disjoint."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kdas.data import DATASETS, Dataset, ImageSplits, load_splits
from kdas.data.splits import Split, stratified_parts


def digits() -> Dataset:
    return DATASETS.build(DATASETS.checked("digits"))


def pixels(split: Split) -> torch.Tensor:
    ((_, images),) = split.read([torch.arange(len(split))])
    return images


def rows(images: torch.Tensor | NDArray[np.uint8]) -> list[bytes]:
    return [np.asarray(image).tobytes() for image in images]


@pytest.fixture(scope="module")
def splits() -> ImageSplits:
    return load_splits(digits(), 0.1, "cpu")


def test_three_parts_make_up_the_whole_set(splits: ImageSplits) -> None:
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (1295, 143, 359)
    from sklearn.datasets import load_digits

    parts = [*rows(pixels(splits.train)), *rows(pixels(splits.validation)), *rows(pixels(splits.test))]
    whole = np.round(load_digits().images * (255 / 16)).astype(np.uint8)
    assert sorted(parts) == sorted(rows(np.repeat(whole[:, None], 3, axis=1)))


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_every_part_holds_its_share_of_every_class(splits: ImageSplits, part: str) -> None:
    labels = torch.cat([splits.train.labels, splits.validation.labels, splits.test.labels])
    split = getattr(splits, part)
    share = len(split) / len(labels)
    counts, totals = split.labels.bincount(minlength=10), labels.bincount(minlength=10)
    assert (counts > 0).all()
    assert ((counts - share * totals).abs() <= 1.5).all()


@settings(max_examples=40)
@given(st.lists(st.integers(0, 3), min_size=40, max_size=200), st.floats(0.1, 0.5), st.integers(0, 5))
def test_stratified_parts_are_disjoint_and_complete(labels: list[int], fraction: float, seed: int) -> None:
    array = np.array([*labels, *[0, 1, 2, 3] * 10])
    kept, held_out = stratified_parts(array, fraction, seed)
    assert sorted([*kept, *held_out]) == list(range(len(array)))
    assert list(kept) == sorted(kept) and list(held_out) == sorted(held_out)
    for label in range(4):
        whole, part = (array == label).sum(), (array[held_out] == label).sum()
        assert abs(part - fraction * whole) <= 1.5


def test_split_is_the_same_whatever_was_drawn_before(splits: ImageSplits) -> None:
    load_splits.cache_clear()
    torch.manual_seed(77)
    np.random.seed(77)
    again = load_splits(digits(), 0.1, "cpu")
    assert again is not splits
    for part in ("train", "validation", "test"):
        assert torch.equal(pixels(getattr(again, part)), pixels(getattr(splits, part)))
        assert torch.equal(getattr(again, part).labels, getattr(splits, part).labels)


def test_test_split_does_not_depend_on_what_validates(splits: ImageSplits) -> None:
    whole = load_splits(digits(), 0.0, "cpu")
    assert torch.equal(pixels(whole.test), pixels(splits.test))
    assert whole.validation is whole.test
    assert len(whole.train) == len(splits.train) + len(splits.validation)


def test_channels_of_the_training_set_are_normalised() -> None:
    splits = load_splits(digits(), 0.0, "cpu")
    images = splits.normalized(pixels(splits.train))
    assert images.dtype == torch.float32 and images.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(images.mean(dim=(0, 2, 3)), torch.zeros(3), rtol=0, atol=1e-4)
    torch.testing.assert_close(images.std(dim=(0, 2, 3)), torch.ones(3), rtol=1e-3, atol=1e-3)


def test_digits_are_shifted_but_never_mirrored(splits: ImageSplits) -> None:
    assert splits.views.num_views == 9 and not splits.views.flip
    assert splits.image_size == 8 and splits.num_classes == 10
