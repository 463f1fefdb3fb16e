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
    """A student's weights at its best evaluation so far, by the split that decides; the first of several equals.

    `weights`: by their names, once there was an evaluation.
    """

    def __init__(self, model: nn.Module) -> None:
        """Args: model: the one that is evaluated."""
        self.row: CurveRow | None = None
        tensors = model.state_dict()
        # One vector for each type: writing many small tensors takes longer than writing their bytes.
        self._vectors: list[Tensor] = []
        self.weights: dict[str, Tensor] = {}
        for dtype in dict.fromkeys(tensor.dtype for tensor in tensors.values()):
            of_type = {name: tensor for name, tensor in tensors.items() if tensor.dtype == dtype}
            vector = torch.cat([tensor.detach().flatten() for tensor in of_type.values()])
            parts = torch.split_with_sizes(vector, [tensor.numel() for tensor in of_type.values()])
            for (name, tensor), part in zip(of_type.items(), parts, strict=True):
                self.weights[name] = part.view(tensor.shape)
            self._vectors.append(vector)

    def observe(self, model: nn.Module, row: CurveRow) -> None:
        """Copy the weights of the evaluated model, if this evaluation is the best."""
        if self.row is not None and row.val_accuracy <= self.row.val_accuracy:
            return
        self.row = row
        for name, tensor in model.state_dict().items():
            self.weights[name].copy_(tensor)

    def state_dict(self) -> dict[str, Any]:
        return {"row": None if self.row is None else self.row.as_dict(), "vectors": self._vectors}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.row = None if state["row"] is None else CurveRow(**state["row"])
        for vector, saved in zip(self._vectors, state["vectors"], strict=True):
            vector.copy_(saved)


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
