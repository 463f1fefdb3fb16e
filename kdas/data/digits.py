"""Handwritten digits, 8x8: real images that come with scikit-learn, so nothing is downloaded."""

from __future__ import annotations

import hashlib
import importlib.metadata

import numpy as np

from kdas.data import cache
from kdas.data.interface import DATASETS, Dataset, Decoded, MaxSamples, Resize
from kdas.data.pixels import fitted
from kdas.data.splits import stratified_parts
from kdas.files.cache import cache_root
from kdas.files.full import going_without

TEST_FRACTION = 0.2


def _decode() -> Decoded:
    from sklearn.datasets import load_digits

    digits = load_digits()
    gray = np.round(digits.images * (255 / 16)).astype(np.uint8)
    images = np.repeat(gray[:, None], 3, axis=1)
    labels = digits.target.astype(np.int64)
    # The set comes unsplit; this split is part of the dataset, the same for everybody.
    train, test = stratified_parts(labels, TEST_FRACTION, seed=0)
    return Decoded(images[train], labels[train], images[test], labels[test])


def _kept_or_decoded() -> Decoded:
    """The digits, cached by scikit-learn's version: scikit-learn takes seconds to load, in every worker."""
    folder = cache_root() / "decoded" / f"digits-{importlib.metadata.version('scikit-learn')}"
    decoded = cache.read(folder)
    if decoded is None:
        decoded = _decode()
        with going_without(folder):
            cache.keep(folder, decoded)
    return decoded


@DATASETS.register("digits", source="Alpaydin & Kaynak, 1998; bundled with scikit-learn")
def digits(*, resize: Resize = None, max_samples: MaxSamples = None) -> Dataset:
    """1,797 handwritten digits of 8x8 pixels; a fixed fifth is the test split."""
    decoded = _kept_or_decoded()
    content = hashlib.blake2b(digest_size=16)
    for array in (decoded.train_images, decoded.train_labels, decoded.test_images, decoded.test_labels):
        content.update(np.ascontiguousarray(array).tobytes())
    # A mirrored digit is a different symbol, so no flip; one pixel of shift is an eighth of the image.
    return Dataset(
        name="digits",
        origin="bundled with scikit-learn",
        fingerprint=content.hexdigest(),
        num_classes=10,
        decode=lambda: fitted(decoded, resize, max_samples),
        padding=(resize or 8) // 8,
        flip=False,
        size=resize,
        max_samples=max_samples,
        class_names=tuple(map(str, range(10))),
    )
