"""The report, the figure, the command line, the notebook, and what the room may import."""

from __future__ import annotations

import importlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient
from typer.testing import CliRunner

from analysis import wording
from analysis.__main__ import app
from analysis.findings.gather import Findings, findings
from analysis.page import tables
from analysis.page.numbers import numbers
from analysis.page.paper import paper_table
from analysis.page.report import render, render_markdown, write
from kdas.errors import UserError
from kdas.records import Status
from tests.places import ROOT, STORED_SWEEP

NOTEBOOKS = ROOT / "analysis" / "notebooks"
# A small sweep of digits_kd that the project ran itself: random search, confirmed on three fresh seeds.
STORED = STORED_SWEEP
PRINTED: dict[str, Callable[[Findings], str]] = {
    "01_one_sweep": lambda found: found.answer.text,
    "02_compare_methods": lambda found: f"ratio of sums {found.summary['ratio'].iloc[1]:.3f}",
    "03_reproduce_the_paper_table": lambda found: wording.ratio(found.summary.iloc[1].to_dict()),
}
NewSweep = Callable[..., Path]


class Page(HTMLParser):
    """The page's table rows as lists of cells, all its text, and every address that it refers to."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.rows and self.rows[-1]:
            self.rows[-1][-1] += data.strip()


def test_the_report_shows_the_numbers_of_the_summary(sweep_directory: Path) -> None:
    found = findings(sweep_directory)
    page = Page(render(found))
    shown = [cells for cells in page.rows if len(cells) == len(page.rows[0])][1 : 1 + len(found.summary)]
    columns = dict(zip(page.rows[0], zip(*shown, strict=True), strict=True))
    records = found.summary.to_dict("records")
    assert list(columns["method"]) == [row["method"] for row in records]
    assert list(columns["mean time"]) == [wording.mean_time(row) for row in records]
    assert list(columns["ratio to plain_kd [95%]"]) == [wording.ratio(row) for row in records]
    assert columns["reached [95%]"][0] == "3/3 [29%, 100%]" and "p" not in columns
    assert list(columns["tuned"]) == ["4 configurations" if row["is_searched"] else "fixed" for row in records]
    assert columns["final test acc."][0].startswith("94.98% ± ")
    assert list(columns["best validation acc."]) == [wording.percent(row["best_accuracy"]) for row in records]
    times = [wording.time(row["tta_ref_s"], row["tta_at_least_s"]) for row in records if row["num_reached"]]
    start = next(place for place, cells in enumerate(page.rows) if "first hit" in cells)
    column = page.rows[start].index("first hit")
    assert [cells[column] for cells in page.rows[start + 1 : start + 1 + len(times)]] == times


def test_the_report_opens_with_the_answer_and_holds_every_part(sweep_directory: Path) -> None:
    found = findings(sweep_directory)
    page = Page(render(found))
    assert page.text.index(found.answer.headline) < page.text.index("Configurations")
    for caution in found.cautions:
        assert caution.text in page.text
    for trial_id in found.times["trial_id"]:
        assert trial_id in page.text
    assert "abc123" in page.text and "start_rate: [0.3, 0.9]" in page.text


def test_the_code_on_the_page_computes_what_the_page_shows(
    sweep_directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = findings(sweep_directory)
    printed = re.search(r"<pre>(from analysis.*?)</pre>", render(found), re.DOTALL)
    assert printed is not None
    (sweep_directory.parent / "runs").mkdir()
    (sweep_directory.parent / "runs" / found.measure.sweep).symlink_to(sweep_directory)
    monkeypatch.chdir(sweep_directory.parent)
    names: dict[str, Any] = {}
    exec(unescape(printed.group(1)), names)
    pd.testing.assert_frame_equal(names["found"].summary, found.summary)


def test_the_report_loads_nothing_from_elsewhere_and_runs_only_its_own_script(sweep_directory: Path) -> None:
    html = render(findings(sweep_directory))
    page = Page(html)
    assert all(address.startswith("#") for address in page.addresses)
    assert not page.tags & {"link", "iframe", "img"} and "@import" not in html
    script = (ROOT / "analysis" / "page" / "templates" / "report.js").read_text(encoding="utf-8")
    assert (
        html.count("<script") == 2 and script in html and "http" not in script.replace("http://www.w3.org/2000/svg", "")
    )
    assert not re.search(r"url\((?!#)", html)


def test_texts_from_the_sweep_are_escaped(new_sweep: NewSweep, plan: Any) -> None:
    trials = plan([0])
    trials[0] = replace(trials[0], configuration="<script>x</script> $\\none$ & [b]", error="<b>")
    html = render(findings(new_sweep(trials, target_rule="<i>rule</i>")))
    assert "<script>x" not in html and "<i>rule" not in html and "&lt;script&gt;" in html


@pytest.mark.parametrize(
    "name", ['id="x" href="#y" url(#z)', "new\nline\ttab", "日本 🙂 \x01", "x" * 3000, "**b** | <img src=x> `c` [d](e)"]
)
def test_odd_names_break_neither_page_nor_markdown(new_sweep: NewSweep, plan: Any, name: str) -> None:
    trials = [replace(each, method=name, configuration=name) if each.method == "rs2" else each for each in plan([0])]
    found = findings(new_sweep(trials))
    html, text = render(found), render_markdown(found)
    shown = Page(html).text
    assert "forest-" not in shown and "<img src=x" not in html
    tables = [line for line in text.split("\n\n") if line.startswith("|")]
    bars = [{len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()} for table in tables]
    assert all(len(table.splitlines()) > 2 for table in tables)
    assert tables and all(len(each) == 1 for each in bars) and "<img" not in text.replace("\\<img", "")


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("seeds", [[0], [0, 1, 2]])
@pytest.mark.parametrize("ceiling", [0.5, 0.96])
def test_every_stage_of_a_sweep_has_a_report(
    new_sweep: NewSweep, plan: Any, split: str, seeds: list[int], ceiling: float
) -> None:
    trials = [replace(trial, ceiling=ceiling) for trial in plan(seeds)]
    trials[0] = replace(trials[0], status=Status.RUNNING, last_s=30.0)
    html = render(findings(new_sweep(trials, split=split)))
    assert f"90% {split} accuracy" in html
    assert ">nan<" not in html and ">inf<" not in html


def test_a_sweep_without_rows_environment_or_sweep_file_has_a_report(new_sweep: NewSweep) -> None:
    directory = new_sweep([], num_planned_trials=3)
    (directory / "environment.json").unlink()
    (directory / "sweep.yaml").unlink()
    html = render(findings(directory))
    assert "No trial has been recorded yet" in html and "Not recorded." in html and "No evaluation yet" in html


def test_the_teachers_accuracy_is_among_the_facts(sweep_directory: Path) -> None:
    facts = {"teacher": "resnet20", "teacher_accuracy": "0.9722", "teacher_accuracy_clear_from": "0.15"}
    (sweep_directory / "environment.json").write_text(json.dumps(facts))
    assert "97.22% validation accuracy" in render_markdown(findings(sweep_directory))
    (sweep_directory / "environment.json").unlink()
    assert "Teacher" not in render_markdown(findings(sweep_directory))


def test_students_that_start_from_given_weights_are_among_the_facts(sweep_directory: Path) -> None:
    said = "Students: start from given weights (hash of the weights: 0123abcd)"
    assert said not in render_markdown(findings(sweep_directory))
    (sweep_directory / "environment.json").write_text(json.dumps({"student_start": "0123abcd"}))
    found = findings(sweep_directory)
    assert said in render_markdown(found) and "start from given weights" in render(found)


def test_the_markdown_report_names_the_trials_of_each_row(sweep_directory: Path) -> None:
    found = findings(sweep_directory)
    text = render_markdown(found)
    assert f"make reproduce NAME={found.measure.sweep} TRIAL=" in text
    shown = found.times[found.times["method"] == found.measure.baseline]["trial_id"]
    assert len(shown) and all(trial_id in text for trial_id in shown)


def test_every_drawn_configuration_can_be_found_in_the_tables(sweep_directory: Path) -> None:
    html = render(findings(sweep_directory))
    ids = re.findall(r' id="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    drawn = set(re.findall(r'<g data-config="([^"]+)"', html))
    listed = set(re.findall(r'<tr[^>]* data-config="([^"]+)"', html))
    assert {"c-plain", "c-s0", "c-s3"} <= drawn <= listed


def test_markdown_and_csv_say_the_same(sweep_directory: Path) -> None:
    found = findings(sweep_directory)
    write(found, sweep_directory)
    text = (sweep_directory / "report.md").read_text(encoding="utf-8")
    assert text == render_markdown(found)
    answer = next(line for line in text.splitlines() if line.startswith("**"))
    assert re.sub(r"\\(.)", r"\1", answer).replace("**", "") == found.answer.text
    for row in found.summary.to_dict("records"):
        assert any(f"| {row['method']} | {row['configuration']} |" in line for line in text.splitlines())
    for caution in found.cautions:
        assert (caution.text in text) == (caution.place in ("answer", "table", "trials"))
    table = pd.read_csv(sweep_directory / "summary.csv")
    assert table["config_id"].tolist() == found.summary["config_id"].tolist()
    assert table["ratio"].tolist() == pytest.approx(found.summary["ratio"].tolist(), nan_ok=True)


def test_the_same_curves_give_the_same_report(sweep_directory: Path) -> None:
    assert render(findings(sweep_directory)) == render(findings(sweep_directory))


def test_an_interrupted_write_keeps_the_old_report(sweep_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, path = findings(sweep_directory), sweep_directory / "report.html"
    write(found, sweep_directory)
    before = path.read_text(encoding="utf-8")

    def interrupted(self: Path, target: Path) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(found, sweep_directory)
    assert path.read_text(encoding="utf-8") == before
    assert not list(sweep_directory.glob(".*"))


def test_the_command_writes_the_report_and_shows_the_answer(sweep_directory: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(sweep_directory)])
    found, path = findings(sweep_directory), sweep_directory / "report.html"
    assert result.exit_code == 0 and path.read_text(encoding="utf-8") == render(found)
    flat = " ".join(result.output.split())
    assert " ".join((found.answer.headline, *found.answer.short)) in flat and result.output.rstrip().endswith(str(path))
    for row in found.summary.to_dict("records"):
        assert wording.ratio(row) in flat and row["configuration"] in flat
    assert "…" not in result.output and "\x1b" not in result.output


def test_every_column_says_what_it_holds(sweep_directory: Path) -> None:
    headers = re.findall(r"<th [^>]*>", render(findings(sweep_directory)))
    assert len(headers) > 40 and all(' title="' in header for header in headers)
    assert all(each.meaning for each in (*tables.cell_columns(), *tables.profile_columns()))


def test_p_is_shown_from_five_seeds_on(new_sweep: NewSweep, plan: Any) -> None:
    for num_seeds, is_shown in ((4, False), (5, True)):
        found = findings(new_sweep(plan(range(num_seeds))))
        headers = [column.header for column in tables.summary_columns(found.summary, found.measure)]
        assert ("p" in headers) == is_shown


@pytest.mark.parametrize("form", ["markdown", "latex", "csv"])
def test_the_table_of_a_paper_holds_every_deciding_row(sweep_directory: Path, form: str) -> None:
    result = CliRunner().invoke(app, ["table", str(sweep_directory), "--format", form], catch_exceptions=False)
    found = findings(sweep_directory)
    assert result.exit_code == 0 and result.output == paper_table(found, form)
    plain = result.output.replace("\\", "").replace("$", "")
    assert "plain_kd" in plain and "1x (reference)" in plain and "4 configurations" in plain
    assert sum("kdas_search" in line for line in plain.splitlines()) == 4
    assert "published" not in plain
    assert ("test accuracy: mean ± standard deviation" in result.output) == (form != "csv")
    assert "90% validation accuracy" in plain and "search phase, not confirmed on fresh seeds" in plain.lower()
    for row in found.summary.to_dict("records"):  # else rows of one method could not be told apart
        assert any(f"{row['configuration']}" in line for line in plain.replace("cdot", "·").splitlines())


@pytest.mark.parametrize("form", ["markdown", "latex", "csv"])
def test_the_table_of_a_paper_says_whether_its_numbers_are_final(
    new_sweep: NewSweep, plan: Any, planned_trial: Any, form: str
) -> None:
    running = findings(new_sweep(plan(), num_planned_trials=30))
    assert "not finished: 21 of 30 planned trials have ended" in paper_table(running, form).lower()
    confirm = [
        planned_trial(method, config_id, seed, half_s, phase="confirm")
        for seed in range(100, 104)
        for method, config_id, half_s in (("plain_kd", "c-plain", 30.0), ("kdas_search", "c-s1", 20.0))
    ]
    final = paper_table(findings(new_sweep(plan() + confirm)), form).lower()
    assert "90" in final and not any(part in final for part in ("not finished", "not confirmed", "settings"))


def test_published_accuracies_of_the_pair_are_marked_as_such(sweep_directory: Path) -> None:
    trials = pd.read_parquet(sweep_directory / "trials.parquet")
    trials.assign(dataset="cifar100", pair="vgg13->vgg8").to_parquet(sweep_directory / "trials.parquet")
    text = paper_table(findings(sweep_directory), "csv")
    assert '"KD+LogitSTD+KDAS (published: Chae & Heo, ICCV 2025)",–,–,74.63%,–,–,–,90% validation accuracy,' in text


def test_another_format_is_refused(sweep_directory: Path) -> None:
    with pytest.raises(UserError, match=r"format: expected one of latex, markdown, csv, got 'html'\. Write FORMAT"):
        paper_table(findings(sweep_directory), "html")


def test_quiet_prints_nothing(sweep_directory: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(sweep_directory), "--quiet"])
    assert (result.exit_code, result.output) == (0, "") and (sweep_directory / "report.html").is_file()


def test_a_mistake_is_one_line_on_stderr_and_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "analysis", "report", str(tmp_path / "nothing")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 2 and result.stdout == ""
    assert result.stderr.count("\n") == 1 and "no such sweep directory" in result.stderr


def test_of_many_searched_configurations_the_best_ten_are_shown(
    new_sweep: NewSweep, plan: Any, planned_trial: Any
) -> None:
    more = [planned_trial("kdas_search", f"c-m{i:02}", 0, 40.0 + i, configuration=f"rate {i}") for i in range(20)]
    directory = new_sweep(plan([0]) + more)
    shown, later = tables.main_rows(findings(directory).summary)
    assert shown["is_searched"].sum() == 10 and len(later) == 14
    assert {"plain_kd", "rs2", "kdas_paper"} <= set(shown["method"])
    assert shown.loc[shown["is_searched"], "mean_upper_s"].max() <= later["mean_upper_s"].min()
    result = CliRunner().invoke(app, ["report", str(directory)])
    assert "14 more searched configurations are in the report." in result.output


@pytest.mark.parametrize(
    ("value", "text"),
    [(float("inf"), "> budget"), (float("nan"), "–"), (0.01234, "0.0123"), (12.345, "12.35"), (12345.6, "12,346")],
)
def test_seconds_have_the_significant_digits(value: float, text: str) -> None:
    assert wording.seconds(value) == text


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({}, "1.28x [1.15, 1.41]"),
        ({"ratio_low": 0.0, "ratio_high": 2.62, "ratio": 1.18}, "[up to 2.62] 1.18x"),
        ({"ratio_low": 0.004, "ratio_high": 2.62, "ratio": 1.18}, "[up to 2.62] 1.18x"),
        ({"ratio_low": 0.2, "ratio_high": math.inf}, "[0.20 or more] 1.28x"),
        ({"ratio_low": 0.0, "ratio_high": math.inf}, "[open] 1.28x"),
        ({"ratio": 0.61, "ratio_low": 0.4, "ratio_high": 0.9962}, "0.61x [0.40, 0.996]"),
        ({"ratio": 0.61, "ratio_low": 0.4, "ratio_high": 1.00004}, "[0.40, 1.00004] 0.61x"),
        ({"ratio": 1.61, "ratio_low": 1.0, "ratio_high": 2.0}, "[1.00, 2.00] 1.61x"),
        ({"mark": ">=", "ratio": 1.35, "ratio_low": 1.1, "ratio_high": 1.62}, ">= 1.35x [1.10, 1.62]"),
        ({"mark": "to", "ratio": 0.46, "ratio_at_most": 1.02, "ratio_low": 0.2}, "[0.20, 1.41] 0.46x to 1.02x"),
        ({"num_pairs": 1, "ratio_low": math.nan, "ratio_high": math.nan}, "1.28x (1 seed)"),
        ({"is_reference": True}, "1x (reference)"),
        ({"ratio": math.nan}, "both missed"),
        ({"ratio": math.nan, "num_pairs": 0}, "–"),
    ],
)
def test_ratios_have_one_form(row: dict[str, Any], text: str) -> None:
    usual = {"mark": "", "ratio": 1.28, "ratio_at_most": 1.28, "ratio_low": 1.15, "ratio_high": 1.41}
    assert wording.ratio({"is_reference": False, "num_pairs": 3, "num_open": 0} | usual | row) == text


def test_functions_named_on_the_page_exist(sweep_directory: Path) -> None:
    for number in numbers(findings(sweep_directory).measure):
        module, _, name = number.function.rpartition(".")
        assert not module or callable(getattr(importlib.import_module(module), name))


def test_runs_of_seeds_are_joined() -> None:
    assert wording.seeds([101, 100, 0, 102, 5]) == "0, 5, 100–102"


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_notebooks_run_and_are_stored_without_outputs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP", str(STORED))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert not any(re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE) for cell in code)
    NotebookClient(notebook, timeout=280, kernel_name="python3").execute(cwd=str(path.parent))
    printed = "".join(out.get("text", "") + str(out.get("data", "")) for cell in code for out in cell.outputs)
    assert PRINTED[path.stem](findings(STORED)) in printed


def test_all_modules_import_and_report_where_torch_ray_and_mlflow_are_absent(tmp_path: Path) -> None:
    shutil.copytree(STORED, tmp_path / "digits_kd")
    files = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "analysis").rglob("*.py")]
    modules = sorted(".".join(path.parts) for path in files if path.name != "__init__")
    program = (
        "import importlib, sys\nfrom pathlib import Path\n"
        "absent = ('torch', 'torchvision', 'ray', 'mlflow', 'sweeps')\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in absent: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "kdas = {name for name in sys.modules if name.startswith('kdas.')}\n"
        "assert kdas == {'kdas.errors', 'kdas.records'}, kdas\n"
        f"from analysis.__main__ import report; report(Path({str(tmp_path / 'digits_kd')!r}), quiet=True)\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "digits_kd" / "report.html").stat().st_size > 100_000


def test_the_facts_name_the_seeds_of_the_phase_that_decides(new_sweep: NewSweep, plan: Any, planned_trial: Any) -> None:
    begun = planned_trial("plain_kd", "c-plain", 100, 30.0, phase="confirm")
    text = render_markdown(findings(new_sweep([*plan(), begun], confirm_configs=["c-plain"], confirm_seeds=[100, 101])))
    assert "of the answer; the confirmation has begun on 100; 22 trials" in text
