"""docs/sweep-file.md: its tables are generated from the models, its text comes from a template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from kdas.data import DATASETS
from kdas.losses import LOSSES
from kdas.parts.registry import Registry
from kdas.recipe.config import Recipe
from kdas.recipe.optimizer import OptimizerConfig
from kdas.recipe.teacher import MAX_SEED, TeacherConfig, TeachersConfig
from kdas.samplers import SAMPLERS
from kdas.transforms import TRANSFORMS
from sweeps.file import blocks
from sweeps.file.baselines import Method
from sweeps.file.confirm import ConfirmConfig
from sweeps.file.layers import FILES
from sweeps.file.schema import Schema, schema_of
from sweeps.file.spec import SweepSpec
from sweeps.space.places import RECIPE_PARAMETERS
from sweeps.space.ranges import RangeConfig
from sweeps.stopping import STOPPING_RULES

_TEMPLATE = Path(__file__).parent / "templates" / "sweep-file.md"
_BLOCKS: dict[str, type[BaseModel]] = {
    "teacher": TeacherConfig,
    "teachers": TeachersConfig,
    "optimizer": OptimizerConfig,
    "method": Method,
    "search": RangeConfig,
    "target": blocks.TargetConfig,
    "algorithm": blocks.AlgorithmConfig,
    "confirm": ConfirmConfig,
    "budget": blocks.BudgetConfig,
    "stop_when": blocks.StopWhen,
    "faults": blocks.FaultsConfig,
    "resources": blocks.ResourcesConfig,
}
_CHOICES: dict[str, tuple[type[BaseModel], ...]] = {
    "objective": (blocks.TimeToAccuracy, blocks.Accuracy, blocks.AccuracyAtCost, blocks.Pareto),
}
_PARTS: dict[str, Registry[Any]] = {
    "samplers": SAMPLERS,
    "losses": LOSSES,
    "datasets": DATASETS,
    "transforms": TRANSFORMS,
}
# These keys have sections of their own; their schemas would be too long for a table.
_SAID = {
    "dataset": "[a dataset](#datasets)",
    "loss": "[a loss](#losses), or a list of them, each with a `weight`",
    "sampler": "[a sampler](#samplers)",
    "transforms": "[a transform](#transforms), or a list of them",
    "baselines": "your names, each with [a method](#methods-to-compare-with)",
    "search": "names of parameters, each with [values](#values-of-a-searched-parameter)",
    "known_points": "list of points",
    "warm_start": "list of [sweeps](#what-is-tried-first)",
    "objective": "[an objective](#objective)",
    "scheduler": "[a scheduler](#scheduler)",
    "cells": "[cells](#cells)",
    "extends": "a file or a name",
    "plugins": "text or list of text",
    "when": "[conditions](#conditions)",
    **{key: f"[block](#{key})" for key in ("teacher", "optimizer", "target", "algorithm", "confirm", "budget")},
    **{key: f"[block](#{key})" for key in ("faults", "resources")},
}
_WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "null": "none"}


def sweep_file_page() -> str:
    """The page, as committed."""
    recipe = {name: Recipe.model_fields[name] for name in Recipe.model_fields}
    sweep = {name: field for name, field in SweepSpec.model_fields.items() if name not in recipe}
    types = schema_of(SweepSpec)["$defs"]["SweepSpec"]["properties"]
    template = Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False).from_string(  # noqa: S701 (Markdown)
        _TEMPLATE.read_text(encoding="utf-8")
    )
    return template.render(
        recipe=_rows(recipe, types),
        sweep=_rows(sweep, types),
        blocks={name: _table(model) for name, model in _BLOCKS.items()},
        choices={
            **{name: "\n".join(_named_row(model) for model in models) for name, models in _CHOICES.items()},
            "scheduler": "\n".join(_rule_rows()),
        },
        parts={name: "\n".join(_part_rows(registry)) for name, registry in _PARTS.items()},
        searchable=", ".join(f"`{name}`" for name in RECIPE_PARAMETERS),
        example=(FILES / "digits_kd.yaml").read_text(encoding="utf-8"),
    )


def _table(model: type[BaseModel]) -> str:
    schema = schema_of(model)
    return _rows(model.model_fields, schema["properties"])


def _rows(fields: dict[str, FieldInfo], types: Schema) -> str:
    head = ["| key | takes | default | meaning |", "|---|---|---|---|"]
    rows = [
        f"| `{name}` | {_SAID.get(name) or _takes(types[name])} | {_default(field)} | {field.description or ''} |"
        for name, field in fields.items()
    ]
    return "\n".join([*head, *rows])


def _named_row(model: type[BaseModel]) -> str:
    """One of several blocks that share a key: name, meaning, and keys other than the name."""
    keys = _described_keys(model)
    return f"| `{model.model_fields['name'].default}` | {(model.__doc__ or '').strip()} | {keys} |"


def _described_keys(model: type[BaseModel]) -> str:
    """The keys of a block other than its name, each with type, default and description."""
    types = schema_of(model).get("properties", {})
    return "<br>".join(
        f"`{name}` ({_takes(types[name])}; {_default(field)}): {field.description}"
        for name, field in model.model_fields.items()
        if name != "name"
    )


def _part_rows(registry: Registry[Any]) -> list[str]:
    """The parts that come with the project, by name."""
    rows = []
    for part in map(registry.__getitem__, registry.names()):
        if not part.module.startswith("kdas."):
            continue
        types = schema_of(part.schema).get("properties", {})
        keys = [
            f"`{name}` ({_takes(types[name])}; {_default(field)})"
            for name, field in part.schema.model_fields.items()
            if name not in registry.common_fields
        ]
        rows.append(f"| `{part.name}` | {part.summary} | {'<br>'.join(keys)} |")
    return rows


def _rule_rows() -> list[str]:
    """The stopping rules that come with the project."""
    own = [part for part in STOPPING_RULES if part.module.startswith("sweeps.")]
    return [f"| `{part.name}` | {part.summary} | {_described_keys(part.schema)} |" for part in own]


def _takes(schema: Schema) -> str:
    """The type and bounds of a value, in words."""
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_takes(each) for each in schema["anyOf"]))
    if "$ref" in schema:
        return "[block](#stop_when)" if schema["$ref"].endswith("StopWhen") else "block"
    if schema.get("type") == "array":
        return f"list of {_takes(schema['items'])}" if schema.get("items") else "list"
    return f"{_WORDS.get(schema.get('type', ''), 'any value')}{_interval(schema)}"


def _interval(schema: Schema) -> str:
    lower = f"({_number(schema['exclusiveMinimum'])}" if "exclusiveMinimum" in schema else None
    lower = f"[{_number(schema['minimum'])}" if "minimum" in schema else lower
    upper = f"{_number(schema['exclusiveMaximum'])})" if "exclusiveMaximum" in schema else None
    upper = f"{_number(schema['maximum'])}]" if "maximum" in schema else upper
    return f" in {lower or '(-inf'}, {upper or 'inf)'}" if lower or upper else ""


def _number(value: float) -> str:
    return "2^63 - 1" if value == MAX_SEED else f"{value:.10g}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        is_empty = all(each == [] for each in value.model_dump().values())
        return f"`{value.name}`" if hasattr(value, "name") else "none" if is_empty else "its defaults"
    if isinstance(value, dict) and "name" in value:
        return f"`{value['name']}`"
    if value is None or value in ({}, []):
        return "none"
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`"
