"""The maps of a model: its own, or the outputs of layers that the user names by their module paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kdas.errors import UserError, nearest
from kdas.models.interface import Mapped, Maps, Model, Staged
from kdas.models.tapped import Tapped

# Layers whose input is a map before the activation.
ACTIVATIONS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish),
    *(nn.Hardswish, nn.Hardtanh, nn.Softplus),
)
# What may stand between a batch norm and the map that it describes: the sum with a shortcut, casts and views.
_PASSED = ("AddBackward0", "ToCopyBackward0", "CloneBackward0", "ViewBackward0", "AliasBackward0")
# A batch norm's weight and bias [C].
BatchNorm = tuple[Tensor, Tensor]


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

    Args: layers: module paths, the first as the stem; their outputs are then the maps. Where an activation module gives
        that output, its input is the map before the activation, else it is the output too. None: the model's own maps.
        They were checked by `check_layers`.
    """
    if layers is None:
        assert isinstance(model, Staged)
        return model.forward_with_maps
    modules = dict(_network(model).named_modules())
    named = [(layer, modules[layer]) for layer in layers]
    inside = {each for _, module in named for each in module.modules()}
    activations = {each for each in inside if isinstance(each, ACTIVATIONS)}
    for activation in activations:
        # In place it would overwrite what is kept.
        if hasattr(activation, "inplace"):
            activation.inplace = False
    return partial(_tapped, model, named, activations)


def teacher_batch_norms(model: Model, layers: Sequence[str] | None, image_size: int) -> tuple[BatchNorm, ...]:
    """Weight and bias, in float32, of the batch norm that each map before the activation comes from; not the stem's.

    Args: model: in eval mode; layers: as for `with_maps`; None: the model's own maps.
    Raises: UserError: if there is none, with the reason.
    """
    found: list[BatchNorm]
    if layers is None:
        found = [(norm.weight, norm.bias) for norm in _own_norms(model)]
    else:
        before = _with_history(model, with_maps(model, layers), image_size)
        found = [_norm_of(preact_map, layer) for preact_map, layer in zip(before[1:], layers[1:], strict=True)]
    return tuple((weight.detach().float(), bias.detach().float()) for weight, bias in found)


def _own_norms(model: Model) -> Sequence[nn.BatchNorm2d]:
    norms = model.norms_before_activation() if isinstance(model, Staged) else ()
    if not norms:
        raise UserError(
            "teacher_layers: missing. A loss needs the teacher's batch norms, and this model does not say which. Name"
            " layers that end with a batch norm and an activation, the first one as the stem, or choose ResNet50 or a"
            " resnet as teacher."
        )
    return norms


@torch.enable_grad()
def _with_history(model: Model, mapped: Callable[[Tensor], Mapped], image_size: int) -> list[Tensor]:
    """The maps before the activation, which know what they were computed from, also if the model is not trained."""
    parameters = list(model.parameters())
    trained = [parameter.requires_grad for parameter in parameters]
    images = torch.zeros((2, 3, image_size, image_size), device=parameters[0].device)
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        return mapped(images).preact_maps
    finally:
        for parameter, was_trained in zip(parameters, trained, strict=True):
            parameter.requires_grad_(was_trained)


def _norm_of(preact_map: Tensor, layer: str) -> BatchNorm:
    """The batch norm that was added up to the map; of a block and its shortcut that of the block."""
    norms, waiting = [], [preact_map.grad_fn]
    while waiting:
        node = waiting.pop(0)
        if node is None:
            continue
        if "BatchNorm" in node.name():
            norms.append(node)
        elif node.name() in _PASSED:
            waiting += _sources(node)
    # A block does more than its shortcut.
    for node in sorted(norms, key=lambda norm: len(_history(norm)), reverse=True):
        weight, bias = (getattr(source, "variable", None) for source in _sources(node)[1:3])
        if weight is not None and bias is not None:
            return weight, bias
    raise UserError(
        f"teacher_layers: {layer}: a loss needs the batch norm before its last activation, and there is none. Name a"
        " layer that ends with BatchNorm2d and an activation module, such as a stage of a ResNet, or use another loss."
    )


def _sources(node: Any) -> list[Any]:
    return [source for source, _ in node.next_functions]


def _history(node: Any) -> set[Any]:
    """All operations that an output comes from."""
    seen: set[Any] = set()
    waiting = [node]
    while waiting:
        new = {source for source in _sources(waiting.pop()) if source is not None} - seen
        seen |= new
        waiting += new
    return seen


def _network(model: Model) -> nn.Module:
    """The network under the names that its author gave."""
    return model.network if isinstance(model, Tapped) else model


def _tapped(
    model: Model, layers: Sequence[tuple[str, nn.Module]], activations: Iterable[nn.Module], images: Tensor
) -> Mapped:
    seen: dict[str, Maps] = {}
    activated: list[Maps] = []
    with ExitStack() as hooks:
        # For this call only: a hook that stays would keep the last batch alive and could not be copied.
        for activation in activations:
            hooks.callback(activation.register_forward_hook(partial(_keep_activated, activated)).remove)
        for path, module in layers:
            hooks.callback(module.register_forward_hook(partial(_keep, seen, activated, path)).remove)
        logits, features = model.forward_with_features(images)
    maps = [_as_maps(seen.get(path), path) for path, _ in layers]
    return Mapped(logits, features, [each.after for each in maps], [each.before for each in maps])


def _keep_activated(activated: list[Maps], module: nn.Module, inputs: Any, output: Any) -> None:
    activated[:] = [Maps(inputs[0], output)]


def _keep(seen: dict[str, Any], activated: list[Maps], path: str, module: nn.Module, inputs: Any, output: Any) -> None:
    is_activated = bool(activated) and activated[0].after is output
    seen[path] = activated[0] if is_activated else output


def _as_maps(output: Any, path: str) -> Maps:
    """A layer's output as [B, C, H, W]: tokens [B, N, C] of a square image become a map, without class tokens."""
    if isinstance(output, Maps):  # of a stage of the zoo, or of an activation
        before, after = (_as_map(each, path) for each in output)
        return Maps(before, after)
    the_map = _as_map(output, path)
    return Maps(the_map, the_map)


def _as_map(output: Any, path: str) -> Tensor:
    if isinstance(output, Tensor) and output.ndim == 4:
        return output
    if isinstance(output, Tensor) and output.ndim == 3:
        side = math.isqrt(output.shape[1])
        # Class and register tokens come first.
        patches = output[:, output.shape[1] - side**2 :]
        return patches.transpose(1, 2).reshape(len(patches), -1, side, side)
    what = f"shape {list(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
    what = "nothing: it does not run as a module" if output is None else what
    raise UserError(f"layer {path}: expected a map [B, C, H, W] or tokens [B, N, C], got {what}. Name another layer.")
