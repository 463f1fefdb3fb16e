"""How well a model classifies a split."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdas.compute.precision import Precision
from kdas.data import ImageSplits, Split

# Guo et al., "On Calibration of Modern Neural Networks", 2017, use as many.
CALIBRATION_BINS = 15


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
    correct = torch.zeros((), dtype=torch.int64, device=split.labels.device)
    num_images = 0
    for labels, (answers,), _ in _answers([model], split, splits, multi_crop, precision):
        correct += (answers.argmax(dim=1) == labels).sum()
        num_images += len(labels)
    return int(correct) / num_images


@dataclass(frozen=True)
class Quality:
    """How well a model classifies a split.

    `top5` is `accuracy` among the five likeliest classes, or among all if there are fewer. `nll`: mean negative
    log-likelihood of the label, in nats. `calibration_error`: mean distance between confidence and accuracy over 15
    bins of equal width, as a fraction (Guo et al., 2017). `agreement`: fraction of images that the teacher classifies
    alike; None without a teacher.
    """

    num_images: int
    accuracy: float
    top5: float
    nll: float
    calibration_error: float
    agreement: float | None


@torch.no_grad()
def quality(
    model: nn.Module,
    split: Split,
    splits: ImageSplits,
    multi_crop: bool = False,
    precision: Precision | None = None,
    teacher: nn.Module | None = None,
) -> Quality:
    """All that `accuracy` measures, and more, in one pass. Args: as `accuracy`; teacher: for the agreement."""
    models = [model] if teacher is None else [model, teacher]
    hits, confidences, in_top5, agrees = [], [], [], []
    nll, num_images = 0.0, 0
    for labels, (answers, *of_teacher), are_probabilities in _answers(models, split, splits, multi_crop, precision):
        logits = answers.double()
        if are_probabilities:  # a probability that was rounded to 0 is still not impossible
            logits = logits.clamp(min=torch.finfo(torch.float32).tiny).log()
        predicted = answers.argmax(dim=1)
        hits.append(predicted == labels)
        confidences.append(logits.softmax(dim=1).amax(dim=1))
        likeliest = answers.topk(min(5, answers.shape[1]), dim=1).indices
        in_top5.append((likeliest == labels[:, None]).any(dim=1))
        agrees += [other.argmax(dim=1) == predicted for other in of_teacher]
        nll += float(functional.cross_entropy(logits, labels, reduction="sum"))
        num_images += len(labels)
    hit = torch.cat(hits)
    return Quality(
        num_images,
        int(hit.sum()) / num_images,
        int(torch.cat(in_top5).sum()) / num_images,
        nll / num_images,
        calibration_error(torch.cat(confidences), hit),
        int(torch.cat(agrees).sum()) / num_images if agrees else None,
    )


def calibration_error(confidences: Tensor, hits: Tensor) -> float:
    """The expected calibration error. Args: confidences [N], in [0, 1]; hits bool [N].

    Bin k of n holds confidences in (k / n, (k + 1) / n], as in Guo et al., 2017; the first also holds 0.
    """
    bins = (confidences.double() * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
    gaps = torch.bincount(bins, weights=hits.double() - confidences.double(), minlength=CALIBRATION_BINS)
    return math.fsum(gaps.abs().tolist()) / len(hits)


def _answers(
    models: list[nn.Module], split: Split, splits: ImageSplits, multi_crop: bool, precision: Precision | None
) -> Iterator[tuple[Tensor, list[Tensor], bool]]:
    """For each batch its labels [B], the answers [B, C] of each model, and whether those are probabilities, not logits.

    Probabilities are means over several crops. Models are in eval mode meanwhile.
    """
    autocast = nullcontext() if precision is None else precision.autocast()
    were_training = [model.training for model in models]
    for model in models:
        model.eval()
    for labels, crops in splits.evaluation_batches(split, multi_crop):
        with autocast:
            of_models = [[model(images).float() for images in crops] for model in models]
        if len(crops) == 1:
            yield labels, [answers[0] for answers in of_models], False
        else:
            yield labels, [torch.stack([each.softmax(dim=1) for each in crop]).mean(0) for crop in of_models], True
    for model, was_training in zip(models, were_training, strict=True):
        model.train(was_training)
