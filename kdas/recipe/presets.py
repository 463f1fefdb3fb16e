"""Presets: the defaults for what a file does not set. Ours, those of the official release, or those of its README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic_core import PydanticCustomError

from kdas.errors import brief
from kdas.parts.known import LOSSES, SAMPLERS
from kdas.parts.reading import below, refused
from kdas.parts.registry import Registry, lower_keys
from kdas.recipe.official import official_settings

PresetName = Literal["default", "official", "paper"]

# Only what differs from the defaults of the parts and of the trial file; docs/method.md gives the reasons.
_RECIPES: dict[str, dict[str, Any]] = {
    "default": {},
    # Published results train on the whole training set and choose on the test set.
    "official": {"validation": 0.0},
    "paper": {"validation": 0.0},
}
_SAMPLERS: dict[str, dict[str, dict[str, Any]]] = {
    "official": {"kdas": {"score_mode": "train"}},
    # The README of the release excludes nothing, its code 0.05.
    "paper": {"kdas": {"exclusion_rate": 0.0}},
}


def filled_in(content: Any) -> Any:
    """A trial or sweep file's content with the defaults of its preset, of its `KDAS` block and of its loss filled in.

    What the file itself says takes precedence. A mistake is left for the schema to name.
    """
    if not isinstance(content, Mapping):
        return content
    content = _with_start_written_out(dict(content))
    block = _taken_block(content)
    preset = content.get("preset", "default")
    if not isinstance(preset, str) or preset not in _RECIPES:
        return content
    samplers = {**_SAMPLERS.get(preset, {})}
    samplers["kdas"] = {**samplers.get("kdas", {}), **(block or {})}
    if block is not None:
        content.setdefault("sampler", "kdas")
    content = {**_RECIPES[preset], **content}
    if "sampler" in content:
        content["sampler"] = _with_defaults(SAMPLERS, content["sampler"], samplers)
    losses: dict[str, Mapping[str, Any]] = {}
    if preset == "official":
        losses = {name: official_settings(content, name).loss for name in LOSSES.names()}
    content["loss"] = _filled_loss(content.get("loss", "kd"), losses)
    if preset == "official":
        content = _with_official_settings(content)
    if isinstance(content.get("baselines"), Mapping):
        content["baselines"] = {
            name: _filled_method(method, content, samplers, losses) for name, method in content["baselines"].items()
        }
    content = _with_filled_search(content, content, samplers, losses)
    return {**usual_weights(content["loss"], content), **content}


def _filled_method(method: Any, content: Mapping[str, Any], samplers: Any, losses: Any) -> Any:
    """A method to compare with: a sampler, or a mapping with a sampler and other keys of its own."""
    if not isinstance(method, Mapping) or "sampler" not in method:
        return _with_defaults(SAMPLERS, method, samplers)
    method = {**method, "sampler": _with_defaults(SAMPLERS, method["sampler"], samplers)}
    if content.get("preset") == "official" and "teacher" in method:
        losses = {name: official_settings({**content, **method}, name).loss for name in LOSSES.names()}
    if "loss" in method:
        method["loss"] = _filled_loss(method["loss"], losses)
    return _with_filled_search(method, {**content, **method}, samplers, losses)


def _with_filled_search(
    block: dict[str, Any], content: Mapping[str, Any], samplers: Any, losses: Any
) -> dict[str, Any]:
    """A block with its `search` filled in, if it has one. Args: content: what the block's trials have in common."""
    if not isinstance(block.get("search"), Mapping):
        return block
    filled = {
        key: _filled_choices(str(key).lower(), values, content, samplers, losses)
        for key, values in block["search"].items()
    }
    return {**block, "search": filled}


def _with_start_written_out(content: dict[str, Any]) -> dict[str, Any]:
    """`student: {model, checkpoint}` as the two keys that it stands for."""
    student = content.get("student")
    if not isinstance(student, Mapping):
        return content
    # A setting of the command line gives a block that was a name the key `name`.
    given = {("model" if key == "name" else key): value for key, value in student.items()}
    if unknown := [key for key in given if key not in ("model", "checkpoint")]:
        raise refused(f"unknown key {unknown[0]!r}. Write student: {{model: resnet8, checkpoint: FILE}}.", "student")
    if "model" not in given:
        raise refused("expected a model. Write student: {model: resnet8, checkpoint: FILE}.", "student")
    content["student"] = given["model"]
    if given.get("checkpoint") is not None:
        content["student_checkpoint"] = given["checkpoint"]
    return content


def _with_official_settings(content: dict[str, Any]) -> dict[str, Any]:
    """The settings of the release for the file's pair and first loss, under what the file itself says."""
    settings, optimizer = official_settings(content, _first_name(content["loss"])), content.get("optimizer", {})
    if isinstance(optimizer, Mapping) and (usual := usual_optimizer(optimizer.get("name", "sgd"), content)):
        content = {**content, "optimizer": {**usual, **optimizer}}
    return {**settings.top, **content}


def usual_optimizer(name: str, content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values of the file's preset for an optimizer: those of the release for the pair and its first loss, if any.

    Args: content: of a trial or sweep file, for its preset, dataset, pair and loss.
    """
    if content.get("preset") != "official" or name not in ("sgd", "dot"):  # the release's are of SGD, which DOT is too
        return {}
    return official_settings(content, _first_name(content["loss"])).optimizer


def _taken_block(content: dict[str, Any]) -> dict[str, Any] | None:
    """The block of the official release, e.g. `KDAS: {START_RATE: 0.6, ...}`, taken out of the content."""
    named = [key for key in content if str(key).lower() == "kdas"]
    if not named:
        return None
    if len(named) > 1:
        raise refused("is given twice. Keep one block.", str(named[1]))
    block = content.pop(named[0])
    if not isinstance(block, Mapping):
        raise refused(f"expected a mapping, got {brief(block)}. Write KDAS: {{START_RATE: 0.6, ...}}.", str(named[0]))
    lowered = lower_keys(block)
    try:
        SAMPLERS.checked({"name": "kdas", **lowered})
    except PydanticCustomError as error:
        raise below(str(named[0]), error) from error
    return lowered


def _with_defaults(registry: Registry[Any], given: Any, defaults: Mapping[str, Mapping[str, Any]]) -> Any:
    """A part as the file gives it, with the defaults for a part of that name filled in."""
    try:
        name, parameters = registry.named(given)
    except PydanticCustomError:
        return given  # the schema says what is wrong, and where
    return {"name": name, **defaults.get(name, {}), **parameters}


def _filled_loss(given: Any, defaults: Mapping[str, Mapping[str, Any]]) -> Any:
    if not isinstance(given, list):
        return _with_defaults(LOSSES, given, defaults)
    return [_with_defaults(LOSSES, term, defaults) for term in given]


def _filled_choices(key: str, values: Any, content: Mapping[str, Any], samplers: Any, losses: Any) -> Any:
    """Choices of parts in a search. A choice that is also named outside the search inherits its parameters there."""
    choices = values.get("choices") if isinstance(values, Mapping) else values
    own = content.get(key)
    if key not in ("sampler", "loss") or not isinstance(choices, list):
        return values
    defaults = dict(samplers if key == "sampler" else losses)
    if isinstance(own, Mapping) and isinstance(own.get("name"), str):
        defaults[own["name"]] = {**defaults.get(own["name"], {}), **{k: v for k, v in own.items() if k != "name"}}
    fill = _filled_loss if key == "loss" else lambda choice, known: _with_defaults(SAMPLERS, choice, known)
    filled = [fill(choice, defaults) for choice in choices]
    return {**values, "choices": filled} if isinstance(values, Mapping) else filled


def usual_weights(loss: Any, content: Mapping[str, Any]) -> dict[str, float]:
    """The weights of the loss's authors, or of the release for the pair if the preset is `official`.

    Several losses each have a `weight`, and the first one sets `ce_weight`.

    Args: content: of a trial or sweep file, for its preset, dataset and pair.
    """
    name = _first_name(loss)
    if name not in LOSSES.names():
        return {}
    usual = dict(LOSSES[name].usual)
    if content.get("preset") == "official":
        usual |= official_settings(content, name).weights
    return {**usual, "kd_weight": 1.0} if isinstance(loss, list) else usual


def _first_name(loss: Any) -> str:
    first = loss[0] if isinstance(loss, list) and loss else loss
    return str(first.get("name")) if isinstance(first, Mapping) else ""
