"""A sweep directory of an earlier version can be resumed, reported and compared, with the same names and numbers."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from kdas import models
from kdas.records import WITHOUT_TEACHER
from tests.places import STORED_SWEEP

STORED = Path(__file__).parent / "written_before"
OTHER = STORED_SWEEP
# The directory is as a kill left it: one trial had not started, and the curve of another ends in a torn line.
MISSING, TORN = "240e1683a96dbe2b-s1002", "c4dda38d1a1b3f91-s1001"


def write_teacher(path: Path) -> None:
    """Weights of resnet8 that are multiples of 1/512, so that they and their hash are the same on every machine."""
    model = models.create("resnet8", 10)
    draw = np.random.Generator(np.random.PCG64(0))
    state = {}
    for name, tensor in model.state_dict().items():
        if tensor.dtype == torch.int64:
            state[name] = torch.ones_like(tensor)
            continue
        values = torch.from_numpy(draw.integers(-64, 64, tuple(tensor.shape))).float() / 512
        state[name] = values + 1 if name.endswith(("running_var", "bn1.weight", "bn2.weight")) else values
    torch.save({"model": state}, path)


@dataclass(frozen=True)
class Resumed:
    """The directory after the resume, and what the commands printed."""

    path: Path
    printed: str
    reported: str
    compared: str


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    folder = tmp_path_factory.mktemp("written_before")
    path = folder / "runs" / "written_before"
    shutil.copytree(STORED / "sweep", path)
    write_teacher(folder / "teacher.pth")
    file = folder / "written_before.yaml"
    shutil.copyfile(STORED / "sweep_file.yaml", file)
    for each in (file, *path.glob("trials/*/*/trial.json")):
        each.write_text(each.read_text().replace("teacher.pth", str(folder / "teacher.pth")))
    environment = {**os.environ, "RUNS_DIR": str(path.parent), "KDAS_CACHE": str(folder / "cache")}
    environment.pop("MLFLOW_TRACKING_URI", None)

    def run(*words: str) -> str:
        command = [sys.executable, "-m", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    printed = run("sweeps", "run", str(file))
    reported = run("analysis", "report", str(path))
    compared = run("analysis", "compare", str(path), str(OTHER), "--out", str(folder / "compare.html"))
    return Resumed(path, printed, reported, compared)


MEASURED_LATER = ("test_top5", "test_nll", "test_calibration_error", "test_agreement")


def kept(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of trials that had ended when the sweep was stored."""
    return table[~table["trial_id"].isin([MISSING, TORN])].reset_index(drop=True)


@pytest.mark.parametrize("name", ["curves", "trials", "picks"])
def test_tables_are_those_that_the_earlier_version_wrote(resumed: Resumed, name: str) -> None:
    before = pd.read_parquet(STORED / "expected" / f"{name}.parquet")
    now = pd.read_parquet(resumed.path / f"{name}.parquet")
    if name == "curves":  # columns of later versions: the first from what was counted, the others only of new rows
        assert now.pop(WITHOUT_TEACHER).gt(0).all()
        for column in MEASURED_LATER:
            measured = now.pop(column)
            assert measured[~now["trial_id"].isin([MISSING, TORN])].isna().all()
            assert measured[now["trial_id"].isin([MISSING, TORN])].between(0, math.inf).all()
    if name == "trials":  # a key of later versions: known of new trials only, at its default
        assert not now.pop("cuda_graphs").eq(True).any()
    assert list(now.columns) == list(before.columns)
    assert set(now["trial_id"]) == set(before["trial_id"])
    pd.testing.assert_frame_equal(kept(now), kept(before), check_exact=True)


def test_only_what_was_missing_was_trained(resumed: Resumed) -> None:
    begun = [path.relative_to(STORED / "sweep") for path in sorted((STORED / "sweep").glob("trials/*/*/curve.jsonl"))]
    assert len(begun) == 19
    for file in begun:
        if file.parent.name != TORN:
            assert (resumed.path / file).read_bytes() == (STORED / "sweep" / file).read_bytes()
    trials = pd.read_parquet(resumed.path / "trials.parquet").set_index("trial_id")
    assert set(trials.loc[[MISSING, TORN], "status"]) <= {"reached", "budget"}
    assert (trials.loc[[MISSING, TORN], "num_evaluations"] > 0).all()


def test_search_and_prices_stay_as_they_were(resumed: Resumed) -> None:
    for name in ("search.journal", "calibration.json", "inputs.json"):
        assert (resumed.path / name).read_bytes() == (STORED / "sweep" / name).read_bytes(), name
    before, now = (json.loads((path / "measure.json").read_text()) for path in (STORED / "sweep", resumed.path))
    later = {
        "num_ended_trials": 20,
        "confirm_level": 0.05,
        "last_look": 0,
        "plain_methods": ["plain_kd"],
        "untried": [],
    }
    assert now == {**before, **later, "check": now["check"]}


def test_it_is_reported_and_compared(resumed: Resumed) -> None:
    assert "kdas_paper" in resumed.reported and "confirm" in resumed.reported
    assert (resumed.path / "report.html").stat().st_size > 100_000
    assert "written_before" in resumed.compared and "digits_kd" in resumed.compared
