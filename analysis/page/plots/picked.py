"""What the sampler picked, compared with the data."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from analysis.findings.summary import fastest
from analysis.findings.trial_times import of_configuration
from analysis.page.plots.style import empty, label, styled
from analysis.record.picks import confidence_bins, relative_shares
from kdas.records import Measure

# Brown to blue-green through white: distinguishable with common colour blindness.
_MAP = "BrBG"
_LARGEST_FACTOR = 3.0
_MOST_CLASSES = 100


@styled
def picked(picks: pd.DataFrame, summary: pd.DataFrame, measure: Measure) -> Figure:
    """How often each class and each level of teacher confidence was trained on, relative to its share in the data.

    One row of panels for each method's fastest configuration, except the baseline's; windows of epochs from left to
    right. Blue-green: picked more often than it occurs; brown: less; white: as often. The shares in the data are those
    of the baseline, which trains on everything.

    Args: picks: of `analysis.record.picks.load_picks`; summary: of `analysis.findings.summary.summarize`.
    """
    # If a sweep mixes data sets, only those with as many classes as the baseline's first trial are comparable.
    sizes = picks["by_class"].map(len).to_numpy()
    num_classes = next(iter(sizes[(picks["method"] == measure.baseline).to_numpy()]), 0)
    picks = picks[sizes == num_classes]
    reference = picks[picks["method"] == measure.baseline]
    drawn = []
    for row in fastest(summary).to_dict("records"):
        own = of_configuration(picks, row)
        by_class = relative_shares(own, reference, "by_class", _MOST_CLASSES)
        if row["method"] != measure.baseline and len(by_class):
            drawn.append((row, by_class, relative_shares(own, reference, "by_confidence")))
    if not drawn:
        return empty("No windows of epochs were recorded for both a trial and the baseline.")
    figure = Figure(figsize=(7.6, 2.9 * len(drawn)), layout="constrained")
    panels = figure.subplots(len(drawn), 2, squeeze=False)
    for (row, by_class, by_confidence), (of_classes, of_confidence) in zip(drawn, panels, strict=True):
        _heat(of_classes, by_class)
        image = _heat(of_confidence, by_confidence)
        of_confidence.set_yticks(range(len(confidence_bins())), confidence_bins(), fontsize=7)
        grouped = f" in {_MOST_CLASSES} groups" if num_classes > _MOST_CLASSES else ""
        of_classes.set_ylabel(f"{num_classes} classes{grouped}")
        of_confidence.set_ylabel("teacher's confidence")
        of_classes.set_title(label(row, 90), loc="left", fontsize=8)
    bar = figure.colorbar(image, ax=panels, location="bottom", shrink=0.5, aspect=40, pad=0.02)
    bar.set_label("times as often as in the data")
    bar.set_ticks([0, 0.5, 1, 2, 3], labels=["0", "0.5", "1", "2", "≥ 3"])
    return figure


def _heat(axes: Axes, table: pd.DataFrame) -> AxesImage:
    values = np.clip(table.to_numpy(dtype=float).T, 0, _LARGEST_FACTOR)
    norm = TwoSlopeNorm(1.0, 0.0, _LARGEST_FACTOR)
    axes.set_facecolor("#bbbbbb")
    image = axes.imshow(values, aspect="auto", origin="lower", cmap=_MAP, norm=norm, interpolation="nearest")
    ticks = np.unique(np.linspace(0, len(table) - 1, min(len(table), 6)).round().astype(int))
    axes.set_xticks(ticks, [str(table.index[tick]) for tick in ticks])
    axes.set_xlabel("epoch")
    return image
