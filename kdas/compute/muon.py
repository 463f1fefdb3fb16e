"""Muon for the hidden layers of a network, with AdamW for everything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from kdas.compute.torch_optimizers import AdamW, Muon, Optimizer
from kdas.recipe.optimizer import OptimizerConfig

_MATRIX, _CONVOLUTION = 2, 4


class MuonAndAdamW(Optimizer):
    """torch's Muon for the weights of hidden layers, torch's AdamW for all other parameters.

    Hidden are all layers of the model but the first and the last. A convolution's weights [O, I, H, W] count as a
    matrix [O, I * H * W]. Muon is given views of them, which share their storage.

    Args: is_recorded: as for `optimizer_of`.
    Source: Jordan et al., 2024 (Muon), whose authors divide a convolutional network in this way.
    """

    def __init__(
        self,
        model: nn.Module,
        trained: Iterable[nn.Parameter],
        config: OptimizerConfig,
        *,
        is_recorded: bool = False,
    ) -> None:
        layers = [weight for weight in model.parameters() if weight.ndim in (_MATRIX, _CONVOLUTION)]
        self._hidden = layers[1:-1]
        is_hidden = set(map(id, self._hidden))
        others = [parameter for parameter in trained if id(parameter) not in is_hidden]
        rate = config.adamw_learning_rate
        of_others = {"params": others, "lr": rate, "rate_share": rate / config.learning_rate}
        groups: list[dict[str, Any]] = [{"params": self._hidden}, of_others]
        super().__init__(groups, {"lr": config.learning_rate})
        self._are_channels_last = [not weight.is_contiguous() for weight in self._hidden]
        self._matrices = self._as_matrices([weight.detach() for weight in self._hidden])
        first, second = config.betas
        self._adamw = AdamW(others, betas=(first, second), weight_decay=config.weight_decay, capturable=is_recorded)
        # torch's Muon refuses to have nothing to do.
        self._muon = (
            Muon(
                self._matrices,
                weight_decay=config.weight_decay,
                momentum=config.momentum,
                nesterov=config.nesterov,
            )
            if self._matrices
            else None
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update by the gradients of the model's parameters."""
        hidden, others = self.param_groups
        if self._muon is not None:
            self._hand_over_gradients()
            self._muon.param_groups[0]["lr"] = hidden["lr"]
            self._muon.step()
        self._adamw.param_groups[0]["lr"] = others["lr"]
        self._adamw.step()

    def _hand_over_gradients(self) -> None:
        known = [weight.grad if weight.grad is not None else torch.zeros_like(weight) for weight in self._hidden]
        for matrix, gradient in zip(self._matrices, self._as_matrices(known), strict=True):
            matrix.grad = gradient

    def _as_matrices(self, tensors: list[Tensor]) -> list[Tensor]:
        """[O, I, H, W] -> [O, I * H * W], with columns in the order in which the weights lie in memory."""
        return [
            (tensor.permute(0, 2, 3, 1) if is_last else tensor).reshape(len(tensor), -1)
            for tensor, is_last in zip(tensors, self._are_channels_last, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        return {
            "muon": None if self._muon is None else self._muon.state_dict(),
            "adamw": self._adamw.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if self._muon is not None:
            self._muon.load_state_dict(state_dict["muon"])
        self._adamw.load_state_dict(state_dict["adamw"])
