"""Fills a model from a checkpoint in whatever layout its writer chose, or says why it cannot."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdas import seeding
from kdas.errors import UserError
from kdas.files.archive import opened
from kdas.files.formats import content_of
from kdas.files.layouts import Network, chosen, difference, fitting, left_out, nearest_to, networks_in, other_classes
from kdas.files.torch_file import Skipped
from kdas.models.interface import MODELS

# No layer of a network has this width, so a tensor that does shows the number of classes.
_CLASSES_TRIED = 1013
_STATISTICS = (".running_mean", ".running_var")


def load_weights(model: nn.Module, path: Path, name: str) -> str:
    """Fill a model from a checkpoint of our own or of peers.

    Args: path: a file, or a folder or archive that contains one for `name`; docs/operating.md lists the layouts.
    Returns: if other networks in the file fit too: which was taken, and which were left out.
    Raises: UserError: if it cannot be read, if the weights are those of another architecture, or not finite.
    """
    with opened(path, name) as (where, file):
        content = content_of(file, where)
    try:
        weights, choice = _weights_for(model.state_dict(), content, name)
        model.load_state_dict(dict(weights))
        check_finite(model)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    return choice


def weights_id(model: nn.Module) -> str:
    """A hash of a model's weights, which must be on the CPU."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def check_finite(model: nn.Module) -> None:
    """Check that all weights are finite. Raises: UserError: names the first tensor with NaN or infinite values."""
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            values = "NaN" if torch.isnan(tensor).any() else "infinite values"
            raise UserError(f"{key} holds {values}. Use a checkpoint from before the training diverged.")


def _weights_for(expected: Mapping[str, Tensor], content: Any, name: str) -> tuple[Mapping[str, Tensor], str]:
    """The weights in a checkpoint's content that fit, and how they were chosen if others fit too.

    Raises: UserError: if none do, or they are not plain dense tensors.
    """
    networks = networks_in(content)
    if not networks:
        raise UserError(_without_weights(content))
    found = fitting(expected, networks)
    if not found:
        raise UserError(_misfit(expected, networks, name))
    taken = chosen(found, name)
    weights = taken.weights
    for key, tensor in weights.items():
        if tensor.is_meta:
            raise UserError(f"{key} has no values: it was saved from PyTorch's meta device. Save the model again.")
        if tensor.layout != torch.strided:
            raise UserError(f"{key} is a sparse tensor. Save it dense: weights[{key!r}].to_dense().")
        if tensor.is_quantized or tensor.is_complex():
            kind = "quantized" if tensor.is_quantized else "complex"
            raise UserError(f"{key} is {kind}, and {name} computes with real numbers. Save its weights as float32.")
    others = left_out(found, taken)
    return weights, f"{taken.place or 'the top level'}, not {' or '.join(others[:3])}" if others else ""


def _without_weights(content: Any) -> str:
    values = [content, *(content.values() if isinstance(content, Mapping) else ())]
    pickled = next((value.of for value in values if isinstance(value, Skipped)), None)
    if pickled is None:
        return "contains no weights. Save a mapping of names to tensors: torch.save(model.state_dict(), FILE)."
    return (
        f"contains a pickled object, {pickled}, and to read it would run code. Save its weights instead:"
        " torch.save(model.state_dict(), FILE)."
    )


def _misfit(expected: Mapping[str, Tensor], networks: Sequence[Network], name: str) -> str:
    nearest = nearest_to(expected, networks)
    classes = other_classes(expected, nearest.weights)
    if classes is not None:
        key, wanted, got = classes
        shape = list(nearest.weights[key].shape)
        return (
            f"expected {wanted} classes, got {got}: {key} has shape {shape}. Give a checkpoint that was trained on the"
            " classes of this dataset."
        )
    others = _models_that_fit(networks) - {name}
    if len(others) == 1:
        other = others.pop()
        return f"expected a checkpoint of {name}, got one of {other}. Name {other} as the model, or give another file."
    missing = [key for key in expected if key not in nearest.weights]
    if len(missing) == len(expected):
        return f"contains no weight of {name}. Give a checkpoint that holds the weights of the network."
    last = list(expected)[-1].rpartition(".")[0]
    if missing and all(key.startswith(f"{last}.") for key in missing):
        return f"lacks the classifier of {name} ({', '.join(missing)}). Give a checkpoint of the whole network."
    if missing and all(key.endswith(_STATISTICS) for key in missing):
        return (
            f"lacks the running statistics of batch norm ({missing[0]}). Save model.state_dict(), not its parameters."
        )
    unlike = difference(expected, nearest.weights)
    return f"does not fit {name}: {unlike}. Name the model that this file was made from."


def _models_that_fit(networks: Sequence[Network]) -> set[str]:
    """The registered models that one of the networks belongs to, whatever its number of classes."""
    names = set()
    for part in MODELS:
        try:
            # The meta device draws nothing and takes no memory.
            with torch.device("meta"), seeding.global_draws(0, "names of a checkpoint's model"):
                expected = MODELS.build({"name": part.name}, _CLASSES_TRIED).state_dict()
        except Exception:  # noqa: BLE001, S112 (a model of the user's own, which is not the one that was asked for)
            continue
        if any(
            other_classes(expected, named.weights) or not difference(expected, named.weights)
            for network in networks
            for named in [nearest_to(expected, [network])]
        ):
            names.add(part.name)
    return names
