"""The JSON schema for editors, against files that the program accepts and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from kdas.parts.yaml_file import read_yaml
from sweeps.__main__ import app
from sweeps.file.layers import FILES, shipped
from sweeps.file.schema import sweep_file_schema
from tests.sweeps.conftest import TINY


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    printed = CliRunner().invoke(app, ["schema"]).output
    assert json.loads(printed) == sweep_file_schema()
    jsonschema.Draft202012Validator.check_schema(json.loads(printed))
    return jsonschema.Draft202012Validator(json.loads(printed))


@pytest.mark.parametrize("path", [TINY, *(FILES / f"{name}.yaml" for name in shipped())], ids=lambda path: path.stem)
def test_shipped_files_are_valid_and_name_nothing_of_a_machine(
    path: Path, validator: jsonschema.Draft202012Validator
) -> None:
    content = read_yaml(path)
    assert [error.message for error in validator.iter_errors(content)] == []
    assert not any(word.startswith(("/", "~", "..")) for word in path.read_text(encoding="utf-8").split())
    assert "path" not in str(content)


SAMPLER = {"name": "kdas", "START_RATE": 0.6, "sampling_period": 4}


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": SAMPLER},
        {"sampler": {"KDAS": {"START_RATE": 0.6}}},
        {"KDAS": {"START_RATE": 0.6}},
        {"loss": [{"name": "kd", "weight": 9}, {"name": "dkd", "weight": 1, "beta": 2}]},
        {"student": "my_net:Small", "teacher": {"model": "torchvision/resnet18"}},
        {"search": {"sampler": ["kdas", "random"], "loss.temperature": {"low": 1, "high": 8, "step": 1}}},
        {"search": {"START_RATE": {"low": 0.3, "high": 0.9, "when": {"sampler": "kdas"}}, "loss.1.weight": [1]}},
        {"objective": {"name": "accuracy_at_cost", "cost_ref_s": 3}, "scheduler": "none", "algorithm": "gp"},
        {"confirm": False, "budget": {"trials": 40, "stop_when": "first_reached"}, "target": 0.9},
        {"cells": {"dataset": ["digits"], "pair": ["vgg13 -> vgg8"]}},
        {"cells": {"a": {"teacher": {"epochs": 3}, "pair": "vgg13 -> vgg8"}}},
    ],
    ids=str,
)
def test_what_the_program_takes_is_valid(validator: jsonschema.Draft202012Validator, changes: dict[str, Any]) -> None:
    assert [error.message for error in validator.iter_errors({**read_yaml(TINY), **changes})] == []


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 3},
        {"epochs": 0},
        {"sampler": {**SAMPLER, "start_rate": 2}},
        {"sampler": {**SAMPLER, "strat_rate": 0.5}},
        {"sampler": "kdass"},
        {"loss": [{"name": "kd"}]},
        {"student": "resnt8"},
        {"search": {"strat_rate": [0.5]}},
        {"search": {"start_rate": {"lo": 1}}},
        {"objective": {"name": "tta", "cost_ref_s": 3}},
        {"scheduler": {"name": "asha", "at_least": 3}},
        {"confirm": {"top": 0}},
        {"cells": {"a": {"epoch": 3}}},
    ],
    ids=str,
)
def test_what_the_program_refuses_is_not(validator: jsonschema.Draft202012Validator, changes: dict[str, Any]) -> None:
    assert not validator.is_valid({**read_yaml(TINY), **changes})


def test_file_that_extends_another_need_not_be_complete(validator: jsonschema.Draft202012Validator) -> None:
    assert validator.is_valid({"extends": "digits_kd", "seeds": 5})
    assert not validator.is_valid({"seeds": 5})
