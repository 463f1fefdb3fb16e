"""Small sets of real images for the benchmarks, written as parquet files that trial files can name."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

# Shared data beside the checkout.
SHARED_DATA = Path(__file__).parents[1] / "../shared/data/cifar10"
_DIGITS_TEST = 300


def write_subset(folder: Path, source: Path | None, num_train: int, num_test: int) -> Path:
    """Write the first images of each class to `train.parquet` and `test.parquet` in `folder`. Returns: the folder.

    Args: source: a folder with `train.parquet` and `test.parquet`, columns `img` and `label`; None: the digits.
    """
    tables = _tables(source)
    folder.mkdir(parents=True, exist_ok=True)
    for table, part, number in zip(tables, ("train", "test"), (num_train, num_test), strict=True):
        rows = balanced(table.column("label").to_numpy(), number)
        pq.write_table(table.take(pa.array(rows)), folder / f"{part}.parquet")
    return folder


def balanced(labels: NDArray[np.int64], number: int) -> NDArray[np.int64]:
    """Rows of the first samples of each class, `number` in all; classes differ by at most one sample.

    Raises: ValueError: if the set has fewer samples.
    """
    if number > len(labels):
        raise ValueError(f"number: expected at most {len(labels)}, the size of the set, got {number}")
    by_class = np.argsort(labels, kind="stable")
    first_of_class = np.searchsorted(labels[by_class], labels[by_class], side="left")
    rank = np.arange(len(labels)) - first_of_class
    return np.sort(by_class[np.argsort(rank, kind="stable")[:number]])


def _tables(source: Path | None) -> tuple[pa.Table, pa.Table]:
    if source is None:
        return _digits()
    return pq.read_table(source / "train.parquet"), pq.read_table(source / "test.parquet")


def _digits() -> tuple[pa.Table, pa.Table]:
    """scikit-learn's digits, each pixel repeated to 4x4: at 32x32 a step costs what it does on CIFAR."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    gray = np.round(digits.images * (255 / 16)).astype(np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    cells = [{"bytes": _png(image), "path": ""} for image in gray]
    images = pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    table = pa.table({"img": images, "label": pa.array(digits.target.astype(np.int64))})
    return table.slice(_DIGITS_TEST), table.slice(0, _DIGITS_TEST)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).convert("RGB").save(file, "PNG")
    return file.getvalue()
