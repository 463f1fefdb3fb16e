"""MLflow's page in a real browser: the prepared views show what they promise.

Their form is that of MLflow's page and is documented nowhere, so only its page can tell whether it reads them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from kdas.files.record import write_record
from kdas.training.trial import Inputs
from sweeps.engine.plan import Plan
from sweeps.file.spec import SweepSpec
from sweeps.mlflow_view import serving
from sweeps.mlflow_view.state import TrackingState
from sweeps.mlflow_view.view import MlflowView
from sweeps.prepare.resolved import plan_of
from sweeps.prepare.unchanged import keep_spec
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import read_measure, write_measure
from tests.sweeps.conftest import identify_by, train_on_paper
from tests.sweeps.mlflow_view.test_summary import write_answer

CHROMIUM = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
# A page of MLflow takes seconds on a busy machine.
PATIENCE_MS = 120_000
pytestmark = pytest.mark.slow


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    assert CHROMIUM.exists(), f"{CHROMIUM} is missing. Install Debian's package chromium, or set CHROMIUM to a browser."
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=CHROMIUM, args=FLAGS, viewport={"width": 1500, "height": 1000}
        )
        context.set_default_timeout(PATIENCE_MS)
        expect.set_options(timeout=PATIENCE_MS)
        yield context.new_page()
        context.close()


def confirmed(jobs: list[Job]) -> list[Job]:
    """The same configurations on a fresh seed."""
    return [
        replace(job, phase="confirm", config=job.config.model_copy(update={"seed": 1001}))
        for job in jobs
        if job.config.seed == 1
    ]


@pytest.fixture
def address(
    database: str, directory: SweepDirectory, jobs: list[Job], spec: SweepSpec, inputs: Inputs
) -> Iterator[str]:
    """A page that shows a sweep: plain_kd reaches the target at 2, rs2 never, the searched settings at 1 and 3."""
    keep_spec(spec, directory)
    write_record(directory.environment_file, {"data_hash": "abc", "data_source": "bundled"})
    plan: Plan = plan_of(spec, identify_by(inputs))
    slow = plan.searched({"start_rate": 0.4, "sampling_period": 3})
    fast = plan.searched({"start_rate": 0.7, "sampling_period": (1, 3, 5, 10)})
    curves = {"plain_kd": [0.5, 0.9], "rs2": [0.5, 0.6], "kdas_paper": [0.5, 0.85]}
    for job in [*jobs, *confirmed(jobs)]:
        train_on_paper(directory, job, curves[job.method])
    for job in [*fast, *confirmed(fast)]:
        train_on_paper(directory, job, [0.95, 0.96])
    for job in slow:
        train_on_paper(directory, job, [0.5, 0.6, 0.9])
    measure = read_measure(directory)
    assert measure is not None
    finalists = tuple(dict.fromkeys(job.config_id for job in [*jobs, *fast]))
    write_measure(directory, replace(measure, confirm_configs=finalists, confirm_seeds=(1001,)))
    write_answer(directory)
    MlflowView(directory).sync()
    port = serving.free_port(0)
    with serving.serving(database, port):
        yield f"http://{serving.HOST}:{port}"


def link(directory: SweepDirectory, kind: str) -> str:
    return str(TrackingState(directory).facts["links"][kind])


def text(page: Page, words: str | re.Pattern[str]) -> Locator:
    return page.get_by_text(words, exact=isinstance(words, str)).first


def test_prepared_views_show_what_they_promise(page: Page, address: str, directory: SweepDirectory) -> None:
    # One test, because a server and a browser take long to start.
    page.goto(f"{address}/{link(directory, 'sweep')}")
    expect(text(page, "a_b was *fastest*.")).to_be_visible()
    expect(text(page, "tta_ref_s/plain_kd")).to_be_visible()
    expect(text(page, "tiny.yaml")).to_be_visible()
    expect(text(page, "digits (abc)")).to_be_visible()
    page.get_by_text("Show more").first.click()
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="accuracy over reference seconds, by method").click()
    page = opened.value

    # The link in the description has led to the curves, in the mode for training.
    expect(text(page, "Accuracy over reference seconds")).to_be_visible()
    assert "viewStateShareKey" in page.url
    expect(text(page, "Model registry")).to_be_visible()
    expect(text(page, "Judges")).to_have_count(0)
    expect(text(page, "Group by: kdas.method")).to_be_visible()
    for method in ("plain_kd", "rs2", "kdas_paper", "kdas_search"):
        expect(text(page, f"Group: {method}")).to_be_visible()
    expect(text(page, "kdas_search start=.7 period=1,3,5,10 seed=1001")).to_be_attached()
    expect(page.locator(".xtitle", has_text="cost_ref_s").first).to_be_visible()
    bars = page.locator(".bars .bartext")
    expect(bars).to_have_count(4)
    # A miss counts as the whole budget.
    assert sorted(float(each) for each in bars.all_text_contents()) == [1.0, 2.0, 2.0, 10.0]

    page.goto(f"{address}/{link(directory, 'search')}")
    axes = page.locator(".parcoords .label")
    expect(axes).to_have_count(3)
    assert axes.all_text_contents()[:2] == ["START_RATE", "SAMPLING_PERIOD"]
    # Both kinds of a period are there, and so are all searched trials.
    ticks = page.locator(".parcoords .tick text")
    expect(ticks.filter(has_text="[3]")).to_have_count(1)
    expect(ticks.filter(has_text=re.compile(r"\[1.*10\]"))).to_have_count(1)

    page.goto(f"{address}/{link(directory, 'finalists')}")
    expect(text(page, "Comparing 4 Runs from 1 Experiment")).to_be_visible()
    chosen = page.locator(".ant-select-selection-item, [class*=select-selection-item-content]")
    expect(chosen.filter(has_text="METHOD").first).to_be_visible()
    expect(chosen.filter(has_text="tta_or_budget_ref_s").first).to_be_visible()
