"""Datasets by name, and the training, validation and test images of one trial."""

from kdas.data import cifar as _cifar  # noqa: F401 (registers its datasets)
from kdas.data import digits as _digits  # noqa: F401
from kdas.data import parquet as _parquet  # noqa: F401
from kdas.data.plugin import DATASETS, Dataset, Decoded
from kdas.data.splits import ImageSplits, Split, load_splits

__all__ = ["DATASETS", "Dataset", "Decoded", "ImageSplits", "Split", "load_splits"]
