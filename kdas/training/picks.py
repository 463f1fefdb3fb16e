"""What a trial trained on: its samples, counted by class and by the teacher's confidence over windows of epochs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdas.records import CONFIDENCE_EDGES, PicksWindow

# Keeps the record of a trial small, however long the training is.
MAX_WINDOWS = 24
_EDGES = np.array(CONFIDENCE_EDGES, dtype=np.float32)


def window_ends(epochs: int) -> list[int]:
    """The last epoch of each window, counted from 1: every epoch, or `MAX_WINDOWS` evenly spaced ones."""
    count = min(MAX_WINDOWS, epochs)
    return [-(-number * epochs // count) for number in range(1, count + 1)]


class Picks:
    """Counts the samples that are trained on. `windows` are those that have ended so far, in order."""

    def __init__(self, num_classes: int, epochs: int) -> None:
        self.windows: list[PicksWindow] = []
        self._ends = frozenset(window_ends(epochs))
        self._by_class = np.zeros(num_classes, dtype=np.int64)
        self._by_confidence = np.zeros(len(_EDGES) + 1, dtype=np.int64)
        self._observed: list[tuple[Tensor, Tensor]] = []

    def observe(self, targets: Tensor, teacher_logits: Tensor | None) -> None:
        """Record a batch that is trained on. Args: targets [B]; teacher_logits [B, C], raw, if any; on the device."""
        if teacher_logits is None:
            confidence = torch.full(targets.shape, torch.nan, device=targets.device)
        else:
            confidence = teacher_logits.softmax(dim=1).amax(dim=1)
        # Kept on the device until the epoch ends: reading them every step would make the device wait.
        self._observed.append((targets, confidence))

    def end_epoch(self, epoch: int, *, ends_trial: bool = False) -> None:
        """Count what was observed in an epoch, and end the window if it is due or the trial ends."""
        self._count()
        if ends_trial or epoch in self._ends:
            self.windows.append(PicksWindow(epoch, self._by_class.tolist(), self._by_confidence.tolist()))
            self._by_class[:] = self._by_confidence[:] = 0

    def state_dict(self) -> dict[str, Any]:
        self._count()
        # Tensors, because thousands of single numbers are slow to load. The last row is the current window.
        by_class = [*(window.by_class for window in self.windows), self._by_class.tolist()]
        by_confidence = [*(window.by_confidence for window in self.windows), self._by_confidence.tolist()]
        return {
            "epochs": [window.epoch for window in self.windows],
            "by_class": torch.tensor(by_class),
            "by_confidence": torch.tensor(by_confidence),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        *by_class, classes_now = state["by_class"].tolist()
        *by_confidence, confidence_now = state["by_confidence"].tolist()
        self.windows = [PicksWindow(*window) for window in zip(state["epochs"], by_class, by_confidence, strict=True)]
        self._by_class[:], self._by_confidence[:] = classes_now, confidence_now

    def _count(self) -> None:
        if not self._observed:
            return
        targets, confidence = (torch.cat(parts).cpu().numpy() for parts in zip(*self._observed, strict=True))
        self._observed.clear()
        self._by_class += np.bincount(targets, minlength=len(self._by_class))
        # A NaN answer has no confidence, so its sample is in no bin.
        confidence = confidence[~np.isnan(confidence)]
        bins = np.searchsorted(_EDGES, confidence, side="right")
        self._by_confidence += np.bincount(bins, minlength=len(self._by_confidence))
