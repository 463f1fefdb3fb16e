"""Accuracy of a model on a split."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import nn

from kdas.compute.precision import Precision
from kdas.data import ImageSplits, Split


@torch.no_grad()
def accuracy(
    model: nn.Module,
    split: Split,
    splits: ImageSplits,
    multi_crop: bool = False,
    precision: Precision | None = None,
) -> float:
    """Fraction of the split that the model classifies correctly, in eval mode and without augmentation.

    Args: multi_crop: average the predicted probabilities over several crops of each image; precision: of the model,
        float32 by default.
    """
    autocast = nullcontext() if precision is None else precision.autocast()
    was_training = model.training
    model.eval()
    correct = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    num_images = 0
    for labels, crops in splits.evaluation_batches(split, multi_crop):
        with autocast:
            answers = [model(images).float() for images in crops]
        predictions = (
            answers[0] if len(answers) == 1 else torch.stack([each.softmax(dim=1) for each in answers]).mean(0)
        )
        correct += (predictions.argmax(dim=1) == labels).sum()
        num_images += len(labels)
    model.train(was_training)
    return int(correct) / num_images
