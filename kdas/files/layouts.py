"""Finds the weights of a network in a checkpoint's content, whatever else its writer stored with them."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdas.errors import UserError

Weights = Mapping[str, Tensor]
# Mappings inside mappings that are looked at: optimizers hold one for each parameter.
_MOST_DEPTH, _MOST_MAPPINGS = 3, 2000
_MOST_LISTED, _MOST_PREFIXES = 16, 64
# What wrappers of modules put into the names of parameters.
_WRAPPERS = ("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# Added by FLOP counters and weight averages; not weights.
_COUNTERS = ("total_ops", "total_params", "n_averaged")
# Batch norm's count of training steps, which no forward pass of ours uses.
_STEPS = "num_batches_tracked"
_USUAL_NAMES = frozenset({"state_dict", "model_state_dict", "model_state", "net", "network", "weights", "student"})
_AVERAGES = frozenset({"ema", "swa", "shadow", "averaged", "average"})


@dataclass(frozen=True)
class Network:
    """Tensors by their names, and the keys under which they were found, joined by dots."""

    place: str
    weights: Weights


def networks_in(content: Any) -> list[Network]:
    """Every mapping of names to tensors in a checkpoint, the outermost first. NumPy's arrays become tensors."""
    found: list[Network] = []
    queue = deque([("", content)])
    for _ in range(_MOST_MAPPINGS):
        if not queue:
            break
        place, value = queue.popleft()
        inner = [(str(key), each) for key, each in _items(value)]
        if place.count(".") < _MOST_DEPTH:
            queue.extend((_joined(place, key.replace(".", "_")), each) for key, each in inner if _items(each))
        tensors = {key: tensor for key, each in inner if (tensor := _as_tensor(each)) is not None}
        if tensors:
            found.append(Network(place, tensors))
    return found


def fitting(expected: Weights, networks: Sequence[Network]) -> list[Network]:
    """The networks with exactly the expected names and shapes, under any prefix, likeliest first."""
    found = [
        named
        for network in networks
        for named in _under_prefixes(expected, network)
        if not difference(expected, named.weights)
    ]
    return sorted(found, key=lambda network: _rank(network.place))


def chosen(found: Sequence[Network], name: str) -> Network:
    """The likeliest of the networks that fit. Args: found: as `fitting` sorts them; name: of the model, for messages.

    Raises: UserError: if an equally likely network has other values.
    """
    first = found[0]
    for other in found[1:]:
        if _rank(other.place) == _rank(first.place) and not _equal(first.weights, other.weights):
            raise UserError(
                f"contains several networks that fit {name}: {first.place}, {other.place}. Save the one you mean alone."
            )
    return first


def left_out(found: Sequence[Network], taken: Network) -> list[str]:
    """Where the other networks that fit are, if they have other values than the one that is taken."""
    others: list[Network] = []
    for network in found:  # one is found under several prefixes
        if not any(_equal(other.weights, network.weights) for other in [taken, *others]):
            others.append(network)
    return [other.place or "the top level" for other in others]


def nearest_to(expected: Weights, networks: Sequence[Network]) -> Network:
    """The network with the most of the expected names. Args: networks: at least one."""
    candidates = [named for network in networks for named in [*_under_prefixes(expected, network), network]]
    return max(candidates, key=lambda network: len(expected.keys() & network.weights.keys()))


def difference(expected: Weights, given: Weights) -> str:
    """The first difference in names or shapes, in words; "" if there is none."""
    for key, tensor in expected.items():
        if key not in given:
            return f"{key} is missing"
        if given[key].shape != tensor.shape:
            return f"{key} has shape {list(given[key].shape)}, not {list(tensor.shape)}"
    return next((f"{key} is not part of this model" for key in given if key not in expected), "")


def other_classes(expected: Weights, given: Weights) -> tuple[str, int, int] | None:
    """For networks that differ only in the number of classes: a tensor that shows it, and both numbers. Else None."""
    if expected.keys() != given.keys():
        return None
    differing = [key for key in expected if expected[key].shape != given[key].shape]
    sizes = {
        (tuple(expected[key].shape[:1]), tuple(given[key].shape[:1]))
        for key in differing
        if expected[key].shape[1:] == given[key].shape[1:]
    }
    same_rest = all(expected[key].shape[1:] == given[key].shape[1:] for key in differing)
    if not same_rest or len(sizes) != 1 or () in next(iter(sizes)):
        return None
    ((wanted,), (got,)) = next(iter(sizes))
    return differing[0], wanted, got


def _items(value: Any) -> Collection[tuple[Any, Any]]:
    """The items of a mapping or a short list; nothing for any other value."""
    if isinstance(value, Mapping):
        return value.items()
    return list(enumerate(value)) if isinstance(value, (list, tuple)) and len(value) <= _MOST_LISTED else ()


def _under_prefixes(expected: Weights, network: Network) -> Iterator[Network]:
    """The network's tensors under each prefix of the first expected name, without counters."""
    anchor = next(iter(expected))
    is_wrapped = any(part in _WRAPPERS for key in network.weights for part in key.split("."))
    for weights in (network.weights, _unwrapped(network.weights)) if is_wrapped else (network.weights,):
        ending = [key.removesuffix(anchor) for key in weights if key == anchor or key.endswith(f".{anchor}")]
        for prefix in ending[:_MOST_PREFIXES]:
            named = {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}
            yield Network(_joined(network.place, prefix.rstrip(".")), _completed(expected, named))


def _completed(expected: Weights, given: Weights) -> Weights:
    """Without counters, and with batch norm's steps where they are missing."""
    kept = {key: each for key, each in given.items() if key in expected or key.rpartition(".")[2] not in _COUNTERS}
    steps = {key: torch.zeros_like(each, device="cpu") for key, each in expected.items() if key.endswith(_STEPS)}
    return {**{key: each for key, each in steps.items() if key not in kept}, **kept}


def _unwrapped(weights: Weights) -> Weights:
    return {".".join(part for part in key.split(".") if part not in _WRAPPERS): each for key, each in weights.items()}


def _rank(place: str) -> int:
    """How likely it is that the network at a place is meant, 0 first: peers' own key, other usual ones, the rest."""
    parts = [part.lower() for part in place.split(".")]
    if any(_AVERAGES.intersection(part.split("_")) for part in parts):
        return 5
    if any("teacher" in part for part in parts):
        return 4
    if place in ("model", ""):
        return 0 if place else 1
    return 2 if _USUAL_NAMES.intersection(parts) else 3


def _equal(one: Weights, other: Weights) -> bool:
    if any(each.layout != torch.strided for each in (*one.values(), *other.values())):
        return False
    return all(_same_bytes(tensor, other[key]) for key, tensor in one.items())


def _as_tensor(value: Any) -> Tensor | None:
    if isinstance(value, Tensor):
        return value.detach()
    if isinstance(value, (np.ndarray, np.number)) and value.dtype.kind in "biuf":
        array = np.asarray(value)
        return torch.tensor(array.astype(array.dtype.newbyteorder("=")))
    return None


def _joined(place: str, key: str) -> str:
    return ".".join(filter(None, (place, key)))


def _same_bytes(one: Tensor, other: Tensor) -> bool:
    """Bytes, because not every type of number can be compared, and NaN is not equal to itself."""
    alike = one.shape == other.shape and one.dtype == other.dtype
    return alike and torch.equal(*(each.contiguous().reshape(-1).view(torch.uint8) for each in (one, other)))
