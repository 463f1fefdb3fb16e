"""A user's own model by where it is defined: `my_package.my_module:MyNet`."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kdas import seeding
from kdas.models.plugin import Model
from kdas.models.tapped import Tapped, tapped
from kdas.reading import nearest

SEPARATOR = ":"


class _WithOwnFeatures(Tapped):
    """A network that says itself what its features are."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, network)

    def forward_with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = self.network.forward_with_features(images)  # type: ignore[operator]
        return logits, features


@functools.cache
def check(name: str) -> str:
    """`name`, if a model can be made of what it names; one is made and thrown away.

    Raises: ValueError: says in one line what is missing, or where the user's code failed.
    """
    with seeding.global_draws(0, "check of a model"):
        build(name, 10)
    return name


def build(name: str, num_classes: int) -> Model:
    """What the named callable returns for `num_classes`, as a model.

    Raises: ValueError: if there is no such module or attribute, its code fails, or the result is no classifier.
    """
    factory = _factory(name)
    try:
        takes_keyword = "num_classes" in inspect.signature(factory).parameters
        network = factory(num_classes=num_classes) if takes_keyword else factory(num_classes)
    except Exception as error:
        raise ValueError(
            f"{name}: given num_classes, it fails: {_reason(error)}. Let it take that and no more"
        ) from error
    if isinstance(network, Model):
        return network
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise ValueError(f"{name} returns {kind}, not a torch.nn.Module. Name a class or function that makes one")
    if hasattr(network, "forward_with_features"):
        return _WithOwnFeatures(network)
    try:
        return tapped(network, num_classes)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from error


def _factory(name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(SEPARATOR)
    # As `python -m` has it; the installed commands do not. Last, so that no file there hides an installed package.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(f"{name}: its import fails: {_reason(error)}. Install or mend that") from error
        where = f"Write package.module:Name as seen from {Path.cwd()}"
        raise ValueError(f"{name}: there is no module {error.name}. {where}") from error
    except Exception as error:
        raise ValueError(f"{name}: its import fails: {_reason(error)}. Mend that file") from error
    factory: Callable[..., Any] | None = getattr(module, attribute, None)
    if not callable(factory):
        known = [known_name for known_name, value in vars(module).items() if inspect.isclass(value)]
        raise ValueError(f"{name}: {module_name} has no class or function {attribute!r}. {nearest(attribute, known)}")
    return factory


def _reason(error: Exception) -> str:
    """The error in one line, with the line of the user's code that raised it."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [f for f in frames if f.filename not in (__file__, importlib.__file__) and not f.filename.startswith("<")]
    return f"{text} ({theirs[-1].filename}, line {theirs[-1].lineno})" if theirs else text
