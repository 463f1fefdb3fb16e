"""The answer for programs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from analysis import wording
from analysis.findings.gather import Findings, findings
from analysis.page.answer_file import answer_content, answer_json
from analysis.page.report import write
from tests.places import STORED_SWEEP


@pytest.fixture(scope="module")
def found() -> Findings:
    return findings(STORED_SWEEP)


def test_the_answer_is_that_of_the_report(found: Findings) -> None:
    content = answer_content(found)
    assert f"{content['verdict']} {content['details']}" == found.answer.text
    assert content["target"] == found.measure.target and content["phase"] == found.answer.phase
    row = found.summary[
        (found.summary["phase"] == found.answer.phase) & (found.summary["config_id"] == found.answer.config_id)
    ].to_dict("records")[0]
    assert content["setting"]["ratio"] == pytest.approx(row["ratio"])
    assert content["setting"]["ratio_text"] == wording.ratio(row)


def test_each_method_stands_once_with_its_fastest_setting(found: Findings) -> None:
    content = answer_content(found)
    rows = found.summary[found.summary["phase"] == content["phase"]]
    assert {each["method"] for each in content["methods"]} == set(rows["method"])
    for each in content["methods"]:
        assert each["mean_upper_s"] == rows.loc[rows["method"] == each["method"], "mean_upper_s"].min()


def test_numbers_without_bound_are_null(found: Findings) -> None:
    text = answer_json(found)
    assert "Infinity" not in text and "NaN" not in text
    reference = next(each for each in json.loads(text)["methods"] if each["is_reference"])
    assert reference["ratio"] is None and reference["ratio_text"] == "1x (reference)"


def test_the_report_writes_it_and_one_at_another_target_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "sweep"
    shutil.copytree(STORED_SWEEP, folder)
    write(findings(folder, 0.9), folder)
    assert not (folder / "answer.json").exists()
    assert json.loads((folder / "answer_at_0.9.json").read_text())["target"] == 0.9
