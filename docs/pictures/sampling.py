"""Draws sampling.svg beside itself: which samples the KDAS sampler trains on, epoch by epoch, in one real trial.

    .venv/bin/python docs/pictures/sampling.py

Takes about a minute on one CPU core; the same file comes out every time on the same machine and versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from numpy.typing import NDArray
from torch import Tensor

from kdas import schedules
from kdas.clock import Calibration, Work
from kdas.data import ImageSplits
from kdas.models import Model
from kdas.penalty import label_divergence
from kdas.recipe.config import TrialConfig
from kdas.samplers import knowledge_scores
from kdas.training.distiller import Batch
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial, load_inputs

PICTURE = Path(__file__).with_suffix(".svg")
TRIAL = {
    "dataset": "digits",
    "validation": 0.2,
    "teacher": {"model": "resnet20", "epochs": 10},
    "student": "resnet8",
    "epochs": 24,
    "evaluations": 1,
    "sampler": "kdas",
    "device": "cpu",
    "seed": 1,
}
# Measured prices could end the trial elsewhere next time. The only bound they set here, the budget, is far away.
PRICES = Calibration("by-hand", {}, {work: ((1, 1.0 if work is Work.STEP else 0.1),) for work in Work})
NUM_PARTS = 10
# Blue and orange of Okabe and Ito, which the colour-blind tell apart; cividis is as dark as it is blue.
RATE_COLOUR, SHARE_COLOUR, SHARE_MAP = "#D55E00", "#0072B2", "cividis"
TITLE_PAD = 11  # points: room for the triangles


@dataclass(frozen=True)
class Picks:
    """What a trial of E epochs trained on, of N samples.

    `is_trained` [E, N]; `divergences` [N], the teacher's from the labels; `scores` [E, N], the knowledge scores as the
    epoch began. Both are taken on images as they are, without augmentation.
    """

    is_trained: NDArray[np.bool_]
    divergences: NDArray[np.float64]
    scores: NDArray[np.float64]


@torch.no_grad()
def logits_on_training_set(model: Model, splits: ImageSplits) -> Tensor:
    """Logits [N, C] of a model in eval mode, without augmentation; its mode is put back."""
    was_training = model.training
    model.eval()
    logits = [model(images) for _, (images,) in splits.evaluation_batches(splits.train)]
    model.train(was_training)
    return torch.cat(logits).double()


def record(trial: Trial, calibration: Calibration) -> Picks:
    """Train the trial and write down what each epoch trains on."""
    training = Training(trial, Surroundings(calibration))
    splits, distiller = trial.inputs.splits, training.distiller
    teacher_logits = logits_on_training_set(trial.inputs.teacher.model, splits)
    shape = trial.config.epochs, len(splits.train)
    is_trained, scores = np.zeros(shape, dtype=np.bool_), np.full(shape, np.nan)
    step = distiller.step

    def recorded_step(
        batch: Batch, epoch: int, weights: Tensor | None = None, loss_weights: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        if not is_trained[epoch - 1].any():
            student_logits = logits_on_training_set(distiller.student, splits)
            scores[epoch - 1] = knowledge_scores(student_logits, teacher_logits).numpy()
        is_trained[epoch - 1, batch.indices.numpy()] = True
        return step(batch, epoch, weights, loss_weights)

    distiller.step = recorded_step  # type: ignore[method-assign]
    for _ in training.rows():
        pass
    divergences = label_divergence(teacher_logits, splits.train.labels).numpy()
    return Picks(is_trained, divergences, scores)


def share_by_part(is_trained: NDArray[np.bool_], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share trained on in each tenth of the samples, the tenth with the lowest values first.

    Args: is_trained [N]; values [N].
    Returns: shares [NUM_PARTS].
    """
    parts = np.array_split(np.argsort(values, kind="stable"), NUM_PARTS)
    return np.array([is_trained[part].mean() for part in parts])


def draw(picks: Picks, sampling_period: list[int], start_rate: float, end_rate: float) -> None:
    """Write the picture."""
    epochs = len(picks.is_trained)
    numbers = np.arange(1, epochs + 1)
    sampling = [epoch for epoch in range(1, epochs + 1) if schedules.is_sampling_epoch(epoch, epochs, sampling_period)]
    rates = [schedules.sampling_rate(epoch, epochs, start_rate, end_rate) for epoch in range(1, epochs + 1)]
    by_divergence = [share_by_part(trained, picks.divergences) for trained in picks.is_trained]
    by_score = [share_by_part(trained, scores) for trained, scores in zip(picks.is_trained, picks.scores, strict=True)]

    figure, (top, middle, bottom) = plt.subplots(
        3, 1, figsize=(7.5, 8.2), sharex=True, height_ratios=(1.15, 1, 1), layout="constrained"
    )
    top.set_title("How much is trained on", loc="left", pad=TITLE_PAD)
    top.bar(numbers, picks.is_trained.mean(axis=1), width=0.8, color=SHARE_COLOUR, alpha=0.45, label="in this epoch")
    ever = np.logical_or.accumulate(picks.is_trained).mean(axis=1)
    top.plot(numbers, ever, color="black", linestyle=":", label="in this epoch or an earlier one")
    top.plot(numbers, rates, color=RATE_COLOUR, marker=".", label="rate r(e)")
    top.set_ylim(0, 1.12)
    top.set_ylabel("share of the training set")
    mark(top, sampling, label="epoch that chooses afresh")
    top.legend(ncols=2, loc="upper right", bbox_to_anchor=(1, 0.87), frameon=False)

    heat(middle, by_divergence, "By the teacher's divergence from the label", "far from\nthe label", "close")
    mesh = heat(bottom, by_score, "By the knowledge score as the epoch begins", "much\nknowledge", "little")
    mark(middle, sampling)
    mark(bottom, sampling)
    bottom.set_xlabel("epoch")
    bottom.set_xticks([1, *range(4, epochs + 1, 4)])
    bottom.set_xlim(0.4, epochs + 0.6)
    figure.align_ylabels([top, middle, bottom])
    bar = figure.colorbar(mesh, ax=[middle, bottom], aspect=30, pad=0.02)
    bar.set_label("share of that tenth that is trained on")
    figure.savefig(PICTURE, metadata={"Date": None})
    plt.close(figure)


def heat(axes: Axes, shares: list[NDArray[np.float64]], title: str, above: str, below: str) -> QuadMesh:
    """Epochs from left to right, tenths of the samples from the bottom up. Args: shares: of each epoch, [NUM_PARTS]."""
    axes.set_title(title, loc="left", pad=TITLE_PAD)
    corners = np.arange(len(shares) + 1) + 0.5, np.arange(NUM_PARTS + 1) + 0.5
    # Without edges of their own, neighbours leave hairlines between them in some viewers.
    mesh = axes.pcolormesh(
        *corners, np.array(shares).T, cmap=SHARE_MAP, vmin=0, vmax=1, edgecolor="face", linewidth=0.8
    )
    axes.set_yticks([1, 5, NUM_PARTS], [f"{below}  1", "5", f"{above}  {NUM_PARTS}"])
    axes.set_ylabel("tenth of the samples")
    return mesh


def mark(axes: Axes, sampling: list[int], label: str | None = None) -> None:
    """Triangles over the sampling epochs."""
    axes.plot(
        sampling,
        [1.03] * len(sampling),
        "v",
        color="black",
        markersize=5,
        clip_on=False,
        transform=axes.get_xaxis_transform(),
        label=label,
    )


def main() -> None:
    """Train the trial and draw it."""
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "kdas-sweeps", "font.size": 9, "axes.titlesize": 10})
    config = TrialConfig.model_validate(TRIAL)
    picks = record(Trial(config, load_inputs(config)), PRICES)
    sampler = config.sampler
    draw(picks, list(sampler["sampling_period"]), sampler["start_rate"], sampler["end_rate"])
    print(f"{PICTURE.name}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
