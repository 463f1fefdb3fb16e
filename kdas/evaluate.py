"""Accuracy of a model on a split that lies on its device."""

from __future__ import annotations

import torch
from torch import nn

from kdas.data import ImageSplits, Split

# Large enough to fill a device, small enough for a laptop's memory.
BATCH_SIZE = 500


@torch.no_grad()
def accuracy(model: nn.Module, split: Split, splits: ImageSplits) -> float:
    """Fraction of the split that the model, in eval mode and without augmentation, classifies as labelled."""
    was_training = model.training
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    batches = zip(torch.split(split.images, BATCH_SIZE), torch.split(split.labels, BATCH_SIZE), strict=True)
    for images, labels in batches:
        correct += (model(splits.normalized(images)).argmax(dim=1) == labels).sum()
    model.train(was_training)
    return int(correct) / len(split)
