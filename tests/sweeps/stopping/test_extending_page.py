"""The stopping rule of docs/extending.md, exactly as printed there: it keeps the contract and does what it says."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdas.errors import UserError
from kdas.parts.plugins import load_plugins
from kdas.records import FINAL_STATUSES, STOPPED_STATUSES, Measure, Status
from sweeps.file.loading import load_spec
from sweeps.file.schema import sweep_file_schema
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import cost_shares_of, rule_of
from sweeps.stopping import STOPPING_RULES
from tests.places import ROOT
from tests.sweeps.stopping import test_rules_contract as contract
from tests.sweeps.stopping.curves import CONTEXT, constant, stopped

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"```python\n(?P<code># my_rule\.py\n.*?)```\n+```yaml\n(?P<lines>.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the rule of the page, registered from that file."""
    folder = tmp_path_factory.mktemp("page")
    found = EXAMPLE.search(PAGE)
    assert found is not None
    (folder / "my_rule.py").write_text(found["code"], encoding="utf-8")
    load_plugins([str(folder / "my_rule.py")])
    return folder


@pytest.fixture
def load(folder: Path) -> Any:
    def write_and_load(**changed: Any) -> SweepSpec:
        found = EXAMPLE.search(PAGE)
        assert found is not None
        path = folder / "mine.yaml"
        content = {"extends": "digits_kd", **yaml.safe_load(found["lines"]), **changed}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return load_spec(path)

    return write_and_load


@pytest.mark.usefixtures("folder")
def test_rule_of_the_page_keeps_the_contract() -> None:
    contract.test_what_a_rule_says_of_itself_is_complete("deadline")
    contract.test_nothing_is_stopped_before_anything_is_known("deadline")
    contract.test_best_configuration_runs_to_its_end("deadline")
    contract.test_a_restart_comes_to_the_same_decisions_in_any_order_of_trials("deadline")
    for status in (Status.CRASHED, *sorted(FINAL_STATUSES - STOPPED_STATUSES)):
        contract.test_trials_may_end_at_any_time_and_again("deadline", status)


@pytest.mark.usefixtures("folder")
def test_rule_of_the_page_by_hand() -> None:
    """Target 0.9 and budget 10, so 0.45 must be reached within 5 reference seconds."""
    rule = STOPPING_RULES.build(STOPPING_RULES.checked("deadline"), CONTEXT)
    in_time = [(4.0, 0.45), (5.0, 0.1), (6.0, 0.1)]
    too_late = [(4.0, 0.44), (5.0, 0.44), (6.0, 0.9)]
    trials = {"a": constant(0.5), "b": constant(0.4), "c": in_time, "d": too_late, "e": constant(math.nan)}
    assert stopped(rule, trials) == {"b": 5.0, "d": 5.0, "e": 5.0}


def test_sweep_file_with_the_lines_of_the_page_gets_the_rule(load: Any) -> None:
    spec = load()
    assert spec.scheduler == {"name": "deadline", "budget_share": 0.3, "target_share": 0.5}
    assert cost_shares_of(spec.scheduler) == (0.5, 0.8, 1.0)
    measure = Measure("mine", 0.9, "given", 10.0, "plain_kd", "validation", "by-hand", "digits", (1, 2), 10)
    assert stopped(rule_of(spec, measure), {"a": constant(0.5), "b": constant(0.4)}) == {"b": 3.0}


def test_sweep_file_that_gives_the_rule_a_wrong_share_is_refused(load: Any) -> None:
    with pytest.raises(UserError, match=r"mine\.yaml: scheduler\.budget_share: .*30"):
        load(scheduler={"name": "deadline", "budget_share": 30})


@pytest.mark.usefixtures("folder")
def test_editors_know_the_rule_of_the_page() -> None:
    assert "deadline" in str(sweep_file_schema()["$defs"]["scheduler"])
