"""Users' own models, named by where they are defined: `my_package.my_module:MyNet`."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin

from kdas import seeding
from kdas.errors import nearest
from kdas.models.interface import Model
from kdas.models.tapped import Tapped, tapped
from kdas.parts.plugins import code_id, failure, import_module

SEPARATOR = ":"


class _WithOwnFeatures(Tapped):
    """A network that defines its features itself."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network, network)

    def forward_with_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits, features = self.network.forward_with_features(images)  # type: ignore[operator]
        return logits, features


@functools.cache
def check(name: str) -> str:
    """`name`, if a model can be built from it; one is built as a test.

    Raises: ValueError: if not; one line says what is missing, or where the user's code failed.
    """
    with seeding.global_draws(0, "check of a model"):
        build(name, 10)
    return name


def build(name: str, num_classes: int) -> Model:
    """What the named callable returns for `num_classes`, as a model.

    Raises: ValueError: if the module or attribute does not exist, its code fails, or the result is not a classifier.
    """
    factory = _factory(name)
    try:
        takes_keyword = "num_classes" in inspect.signature(factory).parameters
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Lazy modules are a new feature")  # they are refused below
            network = factory(num_classes=num_classes) if takes_keyword else factory(num_classes)
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"{name}: calling it with num_classes failed: {failure(error)}. It must accept num_classes as its only"
            " argument"
        ) from error
    if isinstance(network, nn.Module):
        refuse_lazy(network, name)
    if isinstance(network, Model):
        return network
    if not isinstance(network, nn.Module):
        kind = type(network).__name__
        raise ValueError(f"{name} returns {kind}, not a torch.nn.Module. Name a class or function that returns one")
    if hasattr(network, "forward_with_features"):
        return _WithOwnFeatures(network)
    try:
        return tapped(network, num_classes)
    except ValueError as error:
        raise ValueError(f"{name} {error}") from error


def refuse_lazy(network: nn.Module, name: str) -> None:
    """Raises: ValueError: if a layer waits for its first batch to know its size: it has no weights to begin with."""
    for path, module in network.named_modules():
        if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():  # type: ignore[misc]
            raise ValueError(
                f"{name} has a lazy layer, {path or 'the model itself'} ({type(module).__name__}). Give its size, as in"
                " nn.Linear(64, num_classes)"
            )


def source_id(name: str) -> str:
    """A hash of the files that name and define the model, so that edited code counts as another model."""
    module_name, _, _ = name.partition(SEPARATOR)
    defined_in = getattr(_factory(name), "__module__", module_name)
    return " ".join(sorted({code_id(module_name), code_id(defined_in)} - {""}))


def _factory(name: str) -> Callable[..., Any]:
    module_name, _, attribute = name.partition(SEPARATOR)
    if module_name.endswith(".py"):
        module_of_file = Path(module_name).stem
        raise ValueError(f"{name}: names a file. Write its module, without .py: {module_of_file}{SEPARATOR}{attribute}")
    try:
        module = import_module(module_name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    factory: Callable[..., Any] | None = getattr(module, attribute, None)
    if not callable(factory):
        known = [known_name for known_name, value in vars(module).items() if inspect.isclass(value)]
        raise ValueError(f"{name}: {module_name} has no class or function {attribute!r}. {nearest(attribute, known)}")
    return factory
