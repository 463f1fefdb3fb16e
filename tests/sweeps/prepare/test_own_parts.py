"""A sweep whose own parts fail is refused before its data are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from kdas.errors import UserError
from kdas.parts.yaml_file import read_yaml
from sweeps import run
from sweeps.file.loading import load_spec
from sweeps.file.spec import SweepSpec
from sweeps.prepare import preview
from sweeps.prepare.own_parts import check_own_parts_of
from sweeps.record.directory import SweepDirectory
from tests.sweeps.conftest import TINY
from tests.sweeps.file.refusals import BASE, written

SAMPLER = """
from kdas.samplers import SAMPLERS
from kdas.samplers.subsets import Full

@SAMPLERS.register("{name}", source="a test")
class Mine(Full):
    def __init__(self, context, *, start_rate: float = 1.0):
        raise RuntimeError("not today")
"""
LOSS = """
from kdas.losses import LOSSES

@LOSSES.register("{name}", source="a test")
def build():
    raise RuntimeError("not today")
"""
RULE = """
from kdas.records import Status
from sweeps.stopping import STOPPING_RULES

@STOPPING_RULES.register("{name}", source="a test")
class Mine:
    {attributes}

    def __init__(self, context):
        raise RuntimeError("not today")
"""
ATTRIBUTES = "status = Status.CAPPED; only_for = None; cost_shares = (0.5, 0.8, 1.0)"


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Any]:
    def write_and_load(code: str, **changed: Any) -> SweepSpec:
        (tmp_path / "mine.py").write_text(code, encoding="utf-8")
        content = {**read_yaml(TINY), "known_points": [], "plugins": ["mine.py"], **changed}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
        return load_spec(tmp_path / "mine.yaml")

    return write_and_load


@pytest.mark.parametrize("place", ["baseline", "search"])
def test_sampler_that_raises_is_one_line_before_the_data_are_read(
    load: Any, tmp_path: Path, directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    changed: dict[str, Any] = {"baselines": {"plain_kd": "full", "mine": f"{place}_raises"}}
    if place == "search":
        changed = {"sampler": f"{place}_raises", "search": {"start_rate": {"low": 0.3, "high": 0.9}}}
    spec = load(SAMPLER.format(name=f"{place}_raises"), **changed)
    monkeypatch.setattr(run, "find_dataset", lambda recipe: pytest.fail("looked for the data"))
    monkeypatch.setattr(preview, "find_dataset", lambda recipe: pytest.fail("looked for the data"))
    source = tmp_path / "mine.yaml"
    message = (
        rf"^{source}: sampler {place}_raises: its code failed: RuntimeError: not today \({tmp_path}/mine\.py, line 8\)"
    )
    with pytest.raises(UserError, match=message):
        run.run_sweep(spec, source, directory, Console(quiet=True))
    with pytest.raises(UserError, match=message):
        preview.preview_sweep(spec, source, directory, Console(quiet=True))


def test_every_broken_part_of_a_sweep_is_told_once(load: Any, tmp_path: Path) -> None:
    rule = RULE.format(name="rule_of_several", attributes=ATTRIBUTES)
    losses = "".join(LOSS.format(name=name) for name in ("one_of_several", "two_of_several"))
    methods = {name: {"sampler": "full", "loss": name} for name in ("one_of_several", "two_of_several")}
    again = {"sampler": "full", "loss": "one_of_several", "epochs": 1}
    baselines = {"plain_kd": "full", **methods, "again": again}
    spec = load(rule + losses, baselines=baselines, scheduler="rule_of_several")
    with pytest.raises(UserError) as caught:
        check_own_parts_of(spec, tmp_path / "mine.yaml")
    told = [line.removeprefix(f"{tmp_path}/mine.yaml: ").partition(": its code")[0] for line in caught.value.args]
    assert told == ["loss one_of_several", "loss two_of_several", "scheduler rule_of_several"]


def test_stopping_rule_that_raises_is_one_line(load: Any, tmp_path: Path) -> None:
    spec = load(RULE.format(name="rule_raises", attributes=ATTRIBUTES), scheduler="rule_raises")
    with pytest.raises(UserError, match=r"mine\.yaml: scheduler rule_raises: its code failed: RuntimeError: not today"):
        check_own_parts_of(spec, tmp_path / "mine.yaml")


def test_stopping_rule_without_its_attributes_is_one_line(load: Any) -> None:
    lacking = ATTRIBUTES.replace("only_for = None; ", "")
    with pytest.raises(UserError, match=r"mine\.yaml: scheduler: rule_lacks has no attribute only_for\. Add it to its"):
        load(RULE.format(name="rule_lacks", attributes=lacking), scheduler="rule_lacks")


def test_reference_of_a_baseline_is_checked_before_anything_is_computed(tmp_path: Path) -> None:
    content = {**BASE, "baselines": {"plain_kd": "full", "gap": {"name": "reference_gap", "reference": "kept.pth"}}}
    spec = load_spec(written(tmp_path, content))
    with pytest.raises(UserError, match=rf"^mine\.yaml: sampler\.reference: {tmp_path}/kept\.pth: no such checkpoint"):
        check_own_parts_of(spec, Path("mine.yaml"))
