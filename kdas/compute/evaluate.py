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
    for labels, answers, _ in _answers(model, split, splits, multi_crop, precision):
        correct += (answers.argmax(dim=1) == labels).sum()
        num_images += len(labels)
    return int(correct) / num_images


@dataclass(frozen=True)
class Quality:
    """How well a model classifies a split.

    `top5` is `accuracy` among the five likeliest classes, or among all if there are fewer. `nll`: mean negative
    log-likelihood of the label, in nats. `calibration_error`: mean distance between confidence and accuracy over 15
    bins of equal width, as a fraction (Guo et al., 2017). `agreement`: fraction of images that the teacher classifies
    alike; None where that is not known.
    """

    num_images: int
    accuracy: float
    top5: float
    nll: float
    calibration_error: float
    agreement: float | None


@torch.no_grad()
def predictions(
    model: nn.Module,
    split: Split,
    splits: ImageSplits,
    multi_crop: bool = False,
    precision: Precision | None = None,
) -> Tensor:
    """The class that the model gives each image, int64 [N] on the device. Args: as `accuracy`."""
    answered = _answers(model, split, splits, multi_crop, precision)
    return torch.cat([answers.argmax(dim=1) for _, answers, _ in answered])


@torch.no_grad()
def quality(
    model: nn.Module,
    split: Split,
    splits: ImageSplits,
    multi_crop: bool = False,
    precision: Precision | None = None,
    of_teacher: Tensor | None = None,
) -> Quality:
    """All that `accuracy` measures, and more, in one pass.

    Args: as `accuracy`; of_teacher: the teacher's `predictions` for the same images, for the agreement.
    """
    predicted, hits, confidences, in_top5, losses = [], [], [], [], []
    for labels, answers, are_probabilities in _answers(model, split, splits, multi_crop, precision):
        logits = answers.double()
        if are_probabilities:  # a probability that was rounded to 0 is still not impossible
            logits = logits.clamp(min=torch.finfo(torch.float32).tiny).log()
        log_probabilities = logits.log_softmax(dim=1)
        classes = answers.argmax(dim=1)
        predicted.append(classes)
        hits.append(classes == labels)
        confidences.append(log_probabilities.amax(dim=1).exp())
        likeliest = answers.topk(min(5, answers.shape[1]), dim=1, sorted=False).indices
        in_top5.append((likeliest == labels[:, None]).any(dim=1))
        losses.append(functional.nll_loss(log_probabilities, labels, reduction="none"))
    hit, num_images = torch.cat(hits), sum(map(len, hits))
    # An image may have been unreadable in one of the two passes only.
    agrees = None
    if of_teacher is not None and len(of_teacher) == num_images:
        agrees = torch.cat(predicted) == of_teacher
    totals = [
        each.double().sum() for each in (hit, torch.cat(in_top5), torch.cat(losses), hit if agrees is None else agrees)
    ]
    # Copied at once, since the device waits at each copy.
    num_hits, num_in_top5, nll, num_agreeing = torch.stack(totals).tolist()
    # On the CPU: adding by index is not deterministic on a GPU.
    confidence, is_hit = torch.stack([torch.cat(confidences), hit.double()]).cpu()
    return Quality(
        num_images,
        num_hits / num_images,
        num_in_top5 / num_images,
        nll / num_images,
        calibration_error(confidence, is_hit),
        None if agrees is None else num_agreeing / num_images,
    )


def calibration_error(confidences: Tensor, hits: Tensor) -> float:
    """The expected calibration error. Args: confidences [N], in [0, 1]; hits bool [N].

    Bin k of n holds confidences in (k / n, (k + 1) / n], as in Guo et al., 2017; the first also holds 0.
    """
    bins = (confidences.double() * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
    gaps = torch.bincount(bins, weights=hits.double() - confidences.double(), minlength=CALIBRATION_BINS)
    return math.fsum(gaps.abs().tolist()) / len(hits)


def _answers(
    model: nn.Module, split: Split, splits: ImageSplits, multi_crop: bool, precision: Precision | None
) -> Iterator[tuple[Tensor, Tensor, bool]]:
    """For each batch its labels [B], the model's answers [B, C], and whether those are probabilities, not logits.

    Probabilities are means over several crops. The model is in eval mode meanwhile.
    """
    autocast = nullcontext() if precision is None else precision.autocast()
    # Not `train` on the whole: parts of a network may be in eval mode for good.
    were_training = [module for module in model.modules() if module.training]
    model.eval()
    for labels, crops in splits.evaluation_batches(split, multi_crop):
        with autocast:
            answers = [model(images).float() for images in crops]
        if len(crops) == 1:
            yield labels, answers[0], False
        else:
            yield labels, torch.stack([each.softmax(dim=1) for each in answers]).mean(0), True
    for module in were_training:
        module.training = True
