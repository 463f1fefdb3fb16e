"""A part of a set for a first try: as many images of each class, always the same ones."""

from __future__ import annotations

import numpy as np
import torch

from kdas import seeding
from kdas.data.interface import Labels
from kdas.errors import UserError

# The part is the same for every trial of every sweep.
_SEED = 0


def drawn(train_labels: Labels, test_labels: Labels, max_samples: int | None) -> tuple[Labels, Labels]:
    """Places of the training and of the test images that are used, sorted: all, or `max_samples` of each part.

    Raises: UserError: if they are fewer than the classes.
    """
    if max_samples is None:
        return np.arange(len(train_labels)), np.arange(len(test_labels))
    num_classes = max(len(np.unique(labels)) for labels in (train_labels, test_labels))
    if max_samples < num_classes:
        raise UserError(
            f"dataset.max_samples: expected at least one image of each of {num_classes} classes, got {max_samples}."
            " Raise it."
        )
    return _balanced(train_labels, max_samples, "train"), _balanced(test_labels, max_samples, "test")


def _balanced(labels: Labels, number: int, part: str) -> Labels:
    """Round by round one image of each class that has any left, until there are `number`."""
    order = torch.randperm(len(labels), generator=seeding.generator(_SEED, "max_samples", part)).numpy()
    by_class = order[np.argsort(labels[order], kind="stable")]
    first_of_class = np.searchsorted(labels[by_class], labels[by_class], side="left")
    rounds = np.empty(len(labels), np.int64)
    rounds[by_class] = np.arange(len(labels)) - first_of_class
    return np.sort(np.lexsort((labels, rounds))[:number])
