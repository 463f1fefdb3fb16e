"""Label columns of parquet files: every kind that can name a class, and which of several is meant."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kdas.data import DATASETS, Dataset
from kdas.errors import UserError

Encode = Callable[..., bytes]
Write = Callable[..., Path]
NAMES = ["fox", "ant", "elk", "ant"]


def built(folder: Path, **parameters: Any) -> Dataset:
    return DATASETS.build(DATASETS.checked({"name": "parquet", "path": str(folder), **parameters}))


@pytest.fixture
def write(tmp_path: Path, encode: Encode) -> Write:
    """Writes both parts with these columns beside that of the images; `test` gives other columns of the test part."""
    image = encode(np.zeros((8, 8, 3), np.uint8))

    def both(test: dict[str, Any] | None = None, metadata: bytes | None = None, **columns: Any) -> Path:
        for part, given in (("train", columns), ("test", test or columns)):
            arrays = {name: each if isinstance(each, pa.Array) else pa.array(each) for name, each in given.items()}
            number = len(next(iter(arrays.values())))
            table = pa.table({"image": pa.array([image] * number), **arrays})
            if metadata is not None:
                table = table.replace_schema_metadata({"huggingface": metadata})
            pq.write_table(table, tmp_path / f"{part}.parquet")
        return tmp_path

    return both


@pytest.mark.parametrize(
    ("labels", "expected", "num_classes"),
    [
        (pa.array(NAMES), [2, 0, 1, 0], 3),
        (pa.array(NAMES, pa.large_string()), [2, 0, 1, 0], 3),
        (pa.array(NAMES, pa.string_view()), [2, 0, 1, 0], 3),
        (pa.array(NAMES).dictionary_encode(), [2, 0, 1, 0], 3),
        (pa.array([2, 0, 1, 0]).dictionary_encode(), [2, 0, 1, 0], 3),
        (pa.array([True, False, True, True]), [1, 0, 1, 1], 2),
        (pa.array([2, 0, 1, 0], pa.uint64()), [2, 0, 1, 0], 3),
        (pa.array([2, 0, 1, 0], pa.int8()), [2, 0, 1, 0], 3),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_labels_of_every_kind_become_class_numbers(
    write: Write, labels: pa.Array, expected: list[int], num_classes: int
) -> None:
    dataset = built(write(label=labels))
    decoded = dataset.decode()
    assert decoded.train_labels.tolist() == decoded.test_labels.tolist() == expected
    assert (dataset.num_classes, decoded.train_labels.dtype) == (num_classes, np.int64)


def test_names_are_numbered_the_same_in_every_file(write: Write) -> None:
    folder = write(label=pa.array(NAMES).dictionary_encode(), test={"label": pa.array(["elk", "fox"])})
    with pytest.warns(UserWarning, match=r"1 of 3 classes have no test images, for example class ant\. Test accuracy"):
        dataset = built(folder)
    assert dataset.decode().test_labels.tolist() == [1, 2]


def test_name_that_nothing_is_trained_on_is_refused(write: Write) -> None:
    with pytest.raises(UserError, match=r"test\.parquet: column 'label': class 'yak' is in no training file\. Add"):
        built(write(label=NAMES, test={"label": ["ant", "yak"]}))


def test_names_that_differ_in_blanks_alone_are_refused(write: Write) -> None:
    with pytest.raises(
        UserError, match=r"train\.parquet: column 'label': the classes 'fox ' and 'fox' differ in blanks"
    ):
        built(write(label=["fox ", "fox", "ant"]))


def test_floats_are_no_classes(write: Write) -> None:
    for parameters in ({}, {"label_column": "label"}):
        with pytest.raises(
            UserError, match=r"column 'label': expected class numbers or names, got double\. Save it as whole"
        ):
            built(write(label=[0.0, 1.0]), **parameters)


def test_files_whose_labels_differ_in_kind_are_refused(write: Write) -> None:
    with pytest.raises(UserError, match=r"test\.parquet: column 'label': expected int64 as in the first file, got la"):
        built(write(label=[0, 1], test={"label": ["ant", "bee"]}))


def test_labels_from_1_are_said_to_leave_a_class_empty(write: Write) -> None:
    with pytest.warns(UserWarning, match=r"labels go from 1 to 4\. Class 0 has no images, but counts as a class\. .*"):
        assert built(write(label=[1, 2, 3, 4])).num_classes == 5


@pytest.mark.parametrize(
    "columns",
    [
        {"label": ["a", "b", "c", "d"], "target": [0, 0, 1, 1]},
        {"fine_label": [0, 1, 2, 3], "coarse_label": [0, 0, 1, 1]},
        {"label": [0, 0, 1, 1], "class": ["a", "b", "c", "d"]},
    ],
    ids=["name and number", "coarse", "numbers of groups"],
)
def test_two_columns_of_labels_that_differ_are_refused(write: Write, columns: dict[str, list[Any]]) -> None:
    one, other = columns
    message = rf"the columns '({one}|{other})' and '({one}|{other})' both contain labels, and differ\. Set label_column"
    with pytest.raises(UserError, match=message):
        built(write(**columns))
    assert built(write(**columns), label_column=one).decode().train_labels.tolist() in ([0, 1, 2, 3], [0, 0, 1, 1])


def test_two_columns_that_say_the_same_are_no_question(write: Write) -> None:
    columns = {"label": ["b", "a", "b", "c"], "target": [1, 0, 1, 2]}
    dataset = built(write(**columns))
    assert dataset.decode().train_labels.tolist() == [1, 0, 1, 2]
    assert dataset.fingerprint == built(write(**columns), label_column="target").fingerprint


def test_cifar100_takes_its_classes_and_not_the_groups_of_them(write: Write) -> None:
    folder = write(fine_label=list(range(100)), coarse_label=[label // 5 for label in range(100)])
    assert DATASETS.build(DATASETS.checked({"name": "cifar100", "path": str(folder)})).num_classes == 100


def test_number_that_nothing_is_trained_on_is_refused_as_a_name_is(write: Write) -> None:
    with pytest.raises(UserError, match=r"class '1' is in the test part but not in the train part \(1 such class\)\."):
        built(write(label=[0, 2], test={"label": [0, 1]}))


@pytest.mark.parametrize(
    ("test", "message"),
    [
        ([0, -1], r"test\.parquet: column 'label', row 2: expected labels from 0 to 1, got -1\. -1 usually marks an"),
        ([0, 1, 7], r"test\.parquet: column 'label', row 3: expected labels from 0 to 1, got 7\. Fix or remove"),
    ],
)
def test_label_out_of_range_is_told_with_its_row(write: Write, test: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        built(write(label=[0, 1], test={"label": test}))


def test_part_without_labels_is_called_so(write: Write) -> None:
    with pytest.raises(
        UserError, match=r"test\.parquet: column 'label' is -1 in every row, so these images have no la"
    ):
        built(write(label=[0, 1], test={"label": [-1, -1]}))


@pytest.mark.parametrize(
    ("labels", "metadata", "message"),
    [
        ([0, 2**62], None, r"expected at most 100,000 classes, got 4,611,686,018,427,387,905\. Set another label_c"),
        (pa.array([0, 2**64 - 1], pa.uint64()), None, r"expected at most 100,000 classes, got 18,446,744,073,709,55"),
        (
            [str(number) for number in range(100_001)],
            None,
            r"expected at most 100,000 classes, got more names\. Set",
        ),
        ([0, 1], ["x"] * 100_001, r"expected at most 100,000 classes, got 100,001\. Set another label_column"),
    ],
    ids=["2**62", "2**64", "names", "metadata"],
)
def test_more_classes_than_any_set_has_are_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch, labels: Any, metadata: Any, message: str
) -> None:
    described = {"info": {"features": {"label": {"names": metadata}}}}
    folder = write(label=labels, metadata=metadata and json.dumps(described).encode())
    with pytest.raises(UserError, match=rf"^[^\n]*train\.parquet: column 'label': {message}[^\n]*$"):
        built(folder)


@pytest.mark.parametrize(
    "metadata",
    [
        b"[" * 100_000,
        b'{"a": "' + b"x" * 10_000_001 + b'"}',
        b"9" * 5_000,
        b'{"info": 1}',
        b'{"info": {"features": {"label": {"names": "ab"}}}}',
    ],
)
def test_damaged_metadata_are_as_good_as_none(write: Write, metadata: bytes) -> None:
    assert built(write(label=[0, 1, 2], metadata=metadata)).num_classes == 3
