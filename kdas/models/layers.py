"""The maps of a model: its own, or the outputs of layers that the user names by their module paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from torch import Tensor, nn

from kdas.errors import UserError, nearest
from kdas.models.interface import Mapped, Maps, Model, Staged
from kdas.models.tapped import Tapped


def check_layers(model: Model, layers: Sequence[str] | None, key: str) -> None:
    """Refuse layers that the model does not have. Args: layers: module paths; key: what the file calls them.

    Raises: UserError: names the nearest path.
    """
    known = dict(_network(model).named_modules())
    for layer in layers or ():
        if not layer or layer not in known:
            raise UserError(
                f"{key}: the model has no layer {layer!r}. {nearest(layer, [path for path in known if path])}"
            )
    if layers is None and not isinstance(model, Staged):
        top = ", ".join(name for name, _ in _network(model).named_children())
        raise UserError(
            f"{key}: missing. A loss needs maps, and this model does not say which. Name layers by their module paths,"
            f" the first one as the stem. At its top it has {top}."
        )


def with_maps(model: Model, layers: Sequence[str] | None) -> Callable[[Tensor], Mapped]:
    """A function from images [B, 3, H, W] to what the model says of them with its maps.

    Args: layers: module paths, the first as the stem; the outputs of these are then the maps, also before the
        activation. None: the model's own maps. They were checked by `check_layers`.
    """
    if layers is None:
        assert isinstance(model, Staged)
        return model.forward_with_maps
    modules = dict(_network(model).named_modules())
    return partial(_tapped, model, [(layer, modules[layer]) for layer in layers])


def _network(model: Model) -> nn.Module:
    """The network under the names that its author gave."""
    return model.network if isinstance(model, Tapped) else model


def _tapped(model: Model, layers: Sequence[tuple[str, nn.Module]], images: Tensor) -> Mapped:
    seen: dict[str, Any] = {}
    with ExitStack() as hooks:
        for path, module in layers:
            # For this call only: a hook that stays would keep the last batch alive and could not be copied.
            hooks.callback(module.register_forward_hook(partial(_keep, seen, path)).remove)
        logits, features = model.forward_with_features(images)
    maps = [_as_maps(seen.get(path), path) for path, _ in layers]
    return Mapped(logits, features, [each.after for each in maps], [each.before for each in maps])


def _keep(seen: dict[str, Any], path: str, module: nn.Module, inputs: Any, output: Any) -> None:
    seen[path] = output


def _as_maps(output: Any, path: str) -> Maps:
    """A layer's output as [B, C, H, W]: tokens [B, N, C] of a square image become a map, without class tokens."""
    if isinstance(output, Maps):  # a stage of the zoo
        return output
    if isinstance(output, Tensor) and output.ndim == 4:
        return Maps(output, output)
    if isinstance(output, Tensor) and output.ndim == 3:
        side = math.isqrt(output.shape[1])
        # Class and register tokens come first.
        patches = output[:, output.shape[1] - side**2 :]
        the_map = patches.transpose(1, 2).reshape(len(patches), -1, side, side)
        return Maps(the_map, the_map)
    what = f"shape {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    what = "nothing: it does not run as a module" if output is None else what
    raise UserError(f"layer {path}: expected a map [B, C, H, W] or tokens [B, N, C], got {what}. Name another layer.")
