"""Fixtures of the benchmark tests: one thread per model, tiny sets of random images, and the benchmarks on them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks import reference_loop
from benchmarks.bench import Bench


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use one thread, since the threads of a model wait long for each other on a busy machine."""
    monkeypatch.setattr(reference_loop, "DEFAULT_THREADS", 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # for the reference, which runs in its own process


@pytest.fixture(scope="session")
def drawn_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """210 training and 42 test images of 8x8 pixels, in four classes that differ in brightness."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for part, number in (("train", 210), ("test", 42)):
        labels = np.arange(number) % 4
        cells = []
        for label in labels:
            pixels = random.integers(60 * label, 60 * label + 40, (8, 8, 3), dtype=np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            cells.append({"bytes": file.getvalue(), "path": ""})
        images = pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        pq.write_table(pa.table({"img": images, "label": pa.array(labels)}), folder / f"{part}.parquet")
    return folder


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory, drawn_images: Path) -> Bench:
    """The benchmarks on these images."""
    return Bench(tmp_path_factory.mktemp("bench"), True, "float32", "cpu", 1, drawn_images)
