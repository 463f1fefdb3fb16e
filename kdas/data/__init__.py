"""Datasets by name, and the training, validation and test images of one trial."""

from kdas.data.interface import DATASETS, Dataset, Decoded
from kdas.data.loading import load_splits
from kdas.data.splits import Draw, ImageSplits, ResidentSplit, Split, batches_of
from kdas.parts.registry import import_siblings

import_siblings(__name__, __path__)

__all__ = [
    "DATASETS",
    "Dataset",
    "Decoded",
    "Draw",
    "ImageSplits",
    "ResidentSplit",
    "Split",
    "batches_of",
    "load_splits",
]
