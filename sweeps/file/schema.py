"""The JSON schema of a sweep file, with which editors complete and check YAML."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from kdas.data import DATASETS
from kdas.losses import LOSSES
from kdas.models import MODELS
from kdas.parts.registry import Part, Registry
from kdas.samplers import SAMPLERS
from kdas.transforms import TRANSFORMS
from sweeps.file.spec import SweepSpec
from sweeps.space.places import PARTS, places_of
from sweeps.stopping import STOPPING_RULES

Schema = dict[str, Any]
_REQUIRED = ("dataset", "teacher", "student", "baselines", "search")


class _Untitled(GenerateJsonSchema):
    """Leaves out the title of each key, which would only repeat the key."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema_of(model: type[BaseModel]) -> Schema:
    """The JSON schema of a model: types, bounds, defaults, descriptions."""
    return model.model_json_schema(schema_generator=_Untitled)


def sweep_file_schema() -> Schema:
    """The JSON schema (draft 2020-12) of a sweep file, with all parts that are registered now.

    It does not cover checks that need the whole file, such as whether a condition can hold.
    """
    generated = schema_of(SweepSpec)
    definitions: Schema = generated["$defs"]
    keys: Schema = definitions.pop("SweepSpec")["properties"]
    definitions.update(
        dataset=_part(DATASETS),
        sampler=_part(SAMPLERS),
        scheduler=_part(STOPPING_RULES),
        transform=_part(TRANSFORMS),
        loss=_part(LOSSES),
        weighed_loss=_part(LOSSES, weighed=True),
    )
    model: Schema = {"anyOf": [{"enum": MODELS.names()}, {"type": "string", "pattern": "[/:]"}]}
    started = {
        "type": "object",
        "properties": {"model": model, "checkpoint": {"type": "string"}},
        "required": ["model"],
        "additionalProperties": False,
    }
    keys["student"] = {"anyOf": [*model["anyOf"], started], **_described(keys["student"])}
    definitions["TeacherConfig"]["properties"]["model"] = model
    keys["dataset"] = _referring("dataset", keys["dataset"])
    keys["sampler"] = _referring("sampler", keys["sampler"])
    transform: Schema = {"$ref": "#/$defs/transform"}
    one_or_more = [transform, {"type": "array", "items": transform}]
    keys["transforms"] = {"anyOf": one_or_more, **_described(keys["transforms"])}
    keys["scheduler"] = _referring("scheduler", keys["scheduler"])
    several = {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/weighed_loss"}}
    keys["loss"] = {"anyOf": [{"$ref": "#/$defs/loss"}, several], **_described(keys["loss"])}
    search = _search(keys["search"]["additionalProperties"])
    keys["search"] = {**search, **_described(keys["search"])}
    method: Schema = definitions["Method"]["properties"]
    method.update(sampler=keys["sampler"], loss=keys["loss"], search={**search, **_described(method["search"])})
    keys["baselines"]["additionalProperties"] = {"anyOf": [{"$ref": "#/$defs/sampler"}, {"$ref": "#/$defs/Method"}]}
    keys["plugins"] = {"anyOf": [{"type": "string"}, keys["plugins"]], **_described(keys["plugins"])}
    keys["KDAS"] = keys["kdas"] = {**_block(SAMPLERS["kdas"]), "description": "A block of the official release."}
    keys["cells"] = {**_cells(keys), **_described(keys["cells"])}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A sweep file of kdas-sweeps",
        "type": "object",
        "properties": keys,
        "additionalProperties": False,
        # A file may leave required keys to the file that it extends, or to its cells.
        "anyOf": [{"required": [key]} for key in ("extends", "cells")] + [{"required": list(_REQUIRED)}],
        "$defs": definitions,
    }


def _described(schema: Schema) -> Schema:
    return {"description": schema["description"]} if "description" in schema else {}


def _referring(definition: str, schema: Schema) -> Schema:
    return {"$ref": f"#/$defs/{definition}", **_described(schema)}


def _block(part: Part[Any]) -> Schema:
    """The parameters of a part, in lower case or in the upper case of the official release."""
    properties: Schema = schema_of(part.schema).get("properties", {})
    both = {spelled: schema for name, schema in properties.items() for spelled in (name, name.upper())}
    return {"type": "object", "properties": both, "additionalProperties": False}


def _part(registry: Registry[Any], *, weighed: bool = False) -> Schema:
    """All forms of a part: its name, `{name: x, ...}`, or `{X: {...}}`. Args: weighed: as one of several losses."""
    named, under_their_names = [], {}
    weight = {"weight": {"type": "number", "minimum": 0}} if weighed else {}
    for part in registry:
        block = _block(part)
        properties = {"name": {"const": part.name}, **weight, **block["properties"]}
        named.append(
            {**block, "description": part.summary, "properties": properties, "required": ["name", *weight]},
        )
        under_their_names.update(dict.fromkeys((part.name, part.name.upper()), block))
    if weighed:
        return {"oneOf": named}
    one_key = {"minProperties": 1, "maxProperties": 1, "additionalProperties": False}
    return {
        "oneOf": [
            {"enum": registry.names()},
            *named,
            {"type": "object", "properties": under_their_names, **one_key},
        ]
    }


def _search(values: Schema) -> Schema:
    """Every parameter that can be searched, for any sampler and loss."""
    known = places_of([{"name": name} for name in SAMPLERS.names()], [{"name": name} for name in LOSSES.names()])
    properties: Schema = {}
    for name, places in known.items():
        field: FieldInfo = places[0].schema.model_fields[str(places[0].path[-1])]
        described = {"description": field.description} if field.description else {}
        properties.update({key: {**values, **described} for key in (name, name.upper())})
    properties.update(dict.fromkeys(PARTS, values))
    return {
        "type": "object",
        "properties": properties,
        "patternProperties": {r"^loss\.[0-9]+\.": values},
        "additionalProperties": False,
    }


def _cells(keys: Schema) -> Schema:
    changed = {key: {"$ref": f"#/properties/{key}"} for key in keys if key not in ("cells", "extends")}
    pair = {"type": "string", "pattern": "->", "description": "Teacher and student: vgg13 -> vgg8."}
    teacher = {"anyOf": [changed["teacher"], {"type": "object"}]}  # a cell need not name the model
    cell = {
        "type": "object",
        "properties": {**changed, "teacher": teacher, "pair": pair},
        "additionalProperties": False,
    }
    grid = {"type": "object", "additionalProperties": {"type": "array", "minItems": 1}}
    return {"anyOf": [grid, {"type": "object", "additionalProperties": cell}]}
