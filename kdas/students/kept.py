"""What is kept of a trained student: its best and its last weights, and a description of both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from kdas.files.cache import file_id, replaced_whole
from kdas.records import CurveRow
from kdas.students.about import BEST, LAST, About, write_about


class BestWeights:
    """A student's weights at its best evaluation so far, by the split that decides; the first of several equals."""

    def __init__(self) -> None:
        self.row: CurveRow | None = None
        self.weights: dict[str, Tensor] = {}

    def observe(self, model: nn.Module, row: CurveRow) -> None:
        """Copy the weights of the evaluated model, if this evaluation is the best."""
        if self.row is not None and row.val_accuracy <= self.row.val_accuracy:
            return
        self.row = row
        for name, tensor in model.state_dict().items():
            if name in self.weights:
                self.weights[name].copy_(tensor)
            else:
                self.weights[name] = tensor.detach().clone()

    def state_dict(self) -> dict[str, Any]:
        return {"row": None if self.row is None else self.row.as_dict(), "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any], device: str) -> None:
        self.row = None if state["row"] is None else CurveRow(**state["row"])
        self.weights = {name: tensor.to(device) for name, tensor in state["weights"].items()}


def write_student(folder: Path, best: Mapping[str, Tensor], last: Mapping[str, Tensor], about: About) -> None:
    """Write both files of weights, then their description: a folder without it is not complete.

    Args: about: its `files` are filled in here.
    """
    for name, weights in ((BEST, best), (LAST, last)):
        with replaced_whole(folder / name) as temporary:
            # A single entry: several come in another order each time.
            temporary.write_bytes(save(_own_copies(weights), metadata={"format": "pt"}))
    write_about(folder, replace(about, files={name: file_id(folder / name) for name in (BEST, LAST)}))


def _own_copies(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # The format refuses tensors that share memory, and other orders of dimensions than the usual one.
    return {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in weights.items()
    }
