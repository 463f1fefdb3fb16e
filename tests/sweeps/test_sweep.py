"""A whole sweep on real images, run once; each test reads what it left."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from analysis.curves import load
from analysis.time_to_accuracy import time_to_accuracy
from kdas.files.prices import read_calibration
from kdas.recipe.config import TrialConfig
from kdas.records import CURVE_COLUMNS, WITHOUT_TEACHER
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial, load_inputs
from sweeps.record.directory import SweepDirectory
from tests.sweeps.conftest import TINY, Swept


def trials_of(swept: Swept) -> pd.DataFrame:
    return pd.read_parquet(swept.directory.path / "trials.parquet")


def test_every_planned_trial_has_run_on_every_seed(swept: Swept) -> None:
    trials = trials_of(swept)
    assert len(trials) == 2 * (3 + 2)
    assert set(trials["method"]) == {"plain_kd", "rs2", "kdas_paper", "kdas_search"}
    assert trials.groupby("config_id")["seed"].apply(sorted).tolist() == [[1, 2]] * 5
    assert (trials["num_evaluations"] > 0).all()
    assert trials["trial_id"].is_unique


def test_curve_table_has_the_columns_of_the_contract(swept: Swept) -> None:
    curves = load(swept.directory.path)
    assert tuple(curves.columns) == (*CURVE_COLUMNS, WITHOUT_TEACHER)
    assert (curves[WITHOUT_TEACHER] < curves["cost_ref_s"]).all()
    assert curves["num_cotenants"].ge(0).all()
    assert curves["calibration_id"].nunique() == 1


def test_picks_table_holds_every_sample_that_was_trained_on(swept: Swept) -> None:
    picks = pd.read_parquet(swept.directory.path / "picks.parquet")
    trained = load(swept.directory.path).groupby("trial_id")["samples_trained"].last().to_dict()
    for column in ("by_class", "by_confidence"):
        assert picks[column].map(sum).groupby(picks["trial_id"]).sum().to_dict() == trained
    assert set(picks["by_class"].map(len)) == {10} and picks["epoch"].max() == 3


def test_evaluations_are_at_equal_cost_for_all_methods(swept: Swept) -> None:
    measure = json.loads(swept.directory.measure_file.read_text())
    interval = measure["tau_ref_s"] / 6
    curves = load(swept.directory.path)
    for _, curve in curves.groupby("trial_id"):
        # An evaluation at the end of an epoch is on the grid, up to the last bit of a sum of measured prices.
        grid = [math.floor(cost / interval + 1e-9) for cost in curve["cost_ref_s"][:-1]]
        assert len(set(grid)) == len(grid)


def test_target_is_the_fraction_of_what_plain_distillation_reached(swept: Swept) -> None:
    measure = json.loads(swept.directory.measure_file.read_text())
    trials = trials_of(swept)
    best = trials[trials["method"] == "plain_kd"]["best_val_accuracy"]
    assert measure["target"] == pytest.approx(0.8 * best.median(), abs=1e-12)


def test_tables_report_and_printed_summary_agree(swept: Swept) -> None:
    trials = trials_of(swept)
    curves = load(swept.directory.path)
    measure = json.loads(swept.directory.measure_file.read_text())
    for trial in trials.itertuples():
        curve = curves[curves["trial_id"] == trial.trial_id]
        from_curve = time_to_accuracy(curve["cost_ref_s"], curve["val_accuracy"], measure["target"])
        assert trial.tta_ref_s == from_curve
        assert (trial.status == "reached") == math.isfinite(from_curve)
    html = (swept.directory.path / "report.html").read_text()
    for config_id, group in trials.groupby("config_id"):
        reached = f"{(group['status'] == 'reached').sum()}/{len(group)}"
        method, configuration = group[["method", "configuration"]].iloc[0]
        (row,) = (
            line
            for line in swept.printed.splitlines()
            if re.search(rf" {method} +{re.escape(configuration)} .* {reached} ", line)
        )
        found = re.search(rf"(\d+\.?\d*) +{reached} ", row)
        assert found is not None, row
        mean_s = group["tta_ref_s"].clip(upper=measure["tau_ref_s"]).mean()
        assert float(found[1]) == pytest.approx(mean_s, rel=5e-3)
        of_the_page = re.findall(rf'<tr[^>]* data-config="{config_id}">.*?</tr>', html, re.DOTALL)
        cells = [re.findall(r"<td[^>]*>(.*?)</td>", each) for each in of_the_page]
        assert any(found[1] in each and any(cell.startswith(f"{reached} [") for cell in each) for each in cells)
    assert str(swept.directory.report) in swept.printed.replace("\n", "")


def test_tracking_has_a_parent_run_and_a_child_run_for_each_trial(swept: Swept) -> None:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{swept.directory.path.parent / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("kdas-sweeps")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = {run.data.tags["kdas.trial_id"]: run for run in runs if "mlflow.parentRunId" in run.data.tags}
    assert [run.info.run_name for run in parents] == ["tiny"]
    assert {run.info.status for run in runs} == {"FINISHED"}
    trials = trials_of(swept)
    assert set(children) == set(trials["trial_id"])
    curves = load(swept.directory.path)
    for trial in trials.itertuples():
        run = children[trial.trial_id]
        history = client.get_metric_history(run.info.run_id, "val_accuracy")
        curve = curves[curves["trial_id"] == trial.trial_id]
        assert [metric.value for metric in history] == curve["val_accuracy"].tolist()
        assert [metric.step for metric in history] == curve["step"].tolist()
        assert run.data.metrics["cost_ref_s"] == curve["cost_ref_s"].iloc[-1]
        assert run.data.metrics.get("tta_ref_s", math.inf) == trial.tta_ref_s
        assert run.data.tags["kdas.status"] == trial.status
        assert run.data.params["student"] == "resnet8"
        assert run.data.tags["kdas.torch"]
    attached = {item.path for item in client.list_artifacts(parents[0].info.run_id)}
    assert attached >= {"report.html", "curves.parquet", "picks.parquet"}


def test_a_trial_of_the_sweep_run_alone_has_the_same_curve_bit_for_bit(swept: Swept) -> None:
    curves = load(swept.directory.path)
    calibration = read_calibration(swept.directory.calibration_file)
    assert calibration is not None
    trials = trials_of(swept)
    trial_id = trials[trials["method"] == "kdas_search"]["trial_id"].iloc[0]
    config = TrialConfig(**swept.directory.trial(trial_id).description["config"])
    trial = Trial(config, load_inputs(config))
    assert trial.trial_id == trial_id
    alone = pd.DataFrame([row.as_dict() for row in Training(trial, Surroundings(calibration)).rows()])
    in_sweep = curves[curves["trial_id"] == trial_id].reset_index(drop=True)
    measured_by_the_wall = {"wall_s", "eval_s", "data_s", "num_cotenants"}
    same = [column for column in alone.columns if column not in measured_by_the_wall]
    pd.testing.assert_frame_equal(alone[same], in_sweep[same], check_exact=True)


def test_the_teachers_accuracy_is_said_before_the_first_trial_and_kept(swept: Swept) -> None:
    said = re.search(r"^Teacher resnet8: (\d+\.\d)% validation accuracy$", swept.printed, re.MULTILINE)
    assert said is not None and said.start() < swept.printed.index("starting Ray")
    kept = json.loads(swept.directory.environment_file.read_text())
    assert f"{float(kept['teacher_accuracy']):.1%}" == f"{said[1]}%"
    assert f"{said[1]}" in (swept.directory.path / "report.md").read_text()
    curves = load(swept.directory.path)
    assert (curves["teacher_forwards"] <= curves["samples_trained"] + curves["samples_scored"]).all(), "not charged"


def test_running_again_trains_nothing_and_does_not_start_ray(swept: Swept) -> None:
    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in swept.directory.path.glob("trials/*/*/*")}

    before = state()
    again = swept.run("sweep", str(TINY))
    assert again.returncode == 0
    assert "starting Ray" in swept.printed
    assert "starting Ray" not in again.stdout
    assert state() == before
    table = [line for line in swept.printed.splitlines() if "plain_kd" in line and "2/2" in line]
    assert table
    assert table[0] in again.stdout


def test_a_changed_file_that_contradicts_the_sweep_is_refused(swept: Swept, tmp_path: Path) -> None:
    changed = tmp_path / "tiny.yaml"
    changed.write_text(TINY.read_text().replace("epochs: 3", "epochs: 4"))
    done = swept.run("sweep", str(changed))
    assert done.returncode == 2
    assert "epochs was 3 when this sweep began and is 4 now" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_comparison_is_of_the_trials_as_they_are_and_not_of_older_tables(swept: Swept) -> None:
    other = swept.directory.path.with_name("other")
    # With its tables, in which the trials that are removed here still are.
    shutil.copytree(swept.directory.path, other)
    try:
        for folder in list(SweepDirectory(other).trials()):
            if folder.description["method"] == "rs2":
                shutil.rmtree(folder.path)
        measure = json.loads((other / "measure.json").read_text())
        del measure["check"]
        changed = {"sweep": "other", "num_planned_trials": 8, "num_ended_trials": 8}
        (other / "measure.json").write_text(json.dumps({**measure, **changed}))
        done = swept.run("compare", "tiny other")
        assert done.returncode == 0, done.stderr
        said = " ".join(done.stdout.split())
    finally:
        shutil.rmtree(other)

    def mean_time(of: pd.DataFrame) -> float:
        is_reached = of["tta_ref_s"] < math.inf
        return of["tta_ref_s"].clip(upper=measure["tau_ref_s"]).mean() if is_reached.mean() > 0.5 else math.inf

    trials = trials_of(swept)
    of_configs = {config: mean_time(of) for config, of in trials.groupby(["method", "config_id"])}
    times = {method: min(s for (name, _), s in of_configs.items() if name == method) for method, _ in of_configs}
    cells = [times, {**times, "rs2": math.inf}]
    # The score of a cell falls from 1 at its lowest time to 0 at four times that.
    scores = {
        method: sum(max(0.0, 4 - cell[method] / min(cell.values())) / 3 for cell in cells) / 2 for method in times
    }
    listed = said.partition("Scores (1: the lowest mean time everywhere): ")[2].partition(". ")[0]
    printed = {method: float(score) for method, score in (each.rsplit(" ", 1) for each in listed.split(", "))}
    assert printed == {method: pytest.approx(score, abs=0.0051) for method, score in scores.items()}
    assert list(printed.values()) == sorted(printed.values(), reverse=True)
    first, *others = (method for method, score in scores.items() if math.isclose(score, max(scores.values())))
    num_fastest = sum(cell[first] == min(cell.values()) for cell in cells)
    told = f"{first} has the best score over 2 sweeps: lowest mean time in {num_fastest or 'none'}"
    assert ("have the same score over 2 sweeps" if others else told) in said
    assert "Not run in every sweep, which counts as a miss: rs2." in said
    # What may be claimed comes first.
    assert "plain_kd" in said.partition("The scores describe these samples and claim nothing.")[0]


def test_report_is_rebuilt_from_the_directory(swept: Swept) -> None:
    before = swept.directory.report.read_text()
    for name in ("curves.parquet", "trials.parquet", "picks.parquet", "report.html"):
        (swept.directory.path / name).unlink()
    done = swept.run("report", "tiny")
    assert done.returncode == 0, done.stderr
    assert swept.directory.report.read_text() == before


def test_a_copy_of_a_finished_sweep_is_complete_without_any_training(swept: Swept, tmp_path: Path) -> None:
    copy = tmp_path / "copied.yaml"
    copy.write_text(TINY.read_text())
    done = swept.run("sweep", str(copy))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 trials reused from other sweeps" in done.stdout
    assert "starting Ray" not in done.stdout
    assert done.stderr == ""
    of_the_first = {path.name for path in swept.directory.path.iterdir()} - {".ray", "ray.log"}
    assert {path.name for path in (swept.directory.path.parent / "copied").iterdir()} == of_the_first


@pytest.mark.slow
def test_cells_are_sweeps_of_their_own_under_one_name(swept: Swept, tmp_path: Path) -> None:
    """Both cells reuse trials that the first sweep has trained, so this trains nothing."""
    path = tmp_path / "paired.yaml"
    path.write_text(f"extends: {TINY}\ncells:\n  one: {{seeds: [1]}}\n  other: {{seeds: [2]}}\n")
    done = swept.run("sweep", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "one, cell 1 of 2" in done.stdout
    assert "starting Ray" not in done.stdout
    paired = swept.directory.path.parent / "paired"
    assert all((paired / "cells" / cell / "report.html").exists() for cell in ("one", "other"))
    assert load(paired).groupby("sweep")["seed"].unique().map(list).to_dict() == {
        "paired/one": [1],
        "paired/other": [2],
    }
    measures = [json.loads((paired / "cells" / cell / "measure.json").read_text()) for cell in ("one", "other")]
    assert [measure["sweep"] for measure in measures] == ["paired/one", "paired/other"]
    shown = swept.run("report", "paired/other")
    assert shown.returncode == 0, shown.stderr
    assert "paired/other" in shown.stdout
    path.write_text(f"extends: {TINY}\ncells:\n  other: {{seeds: [2]}}\n")
    refused = swept.run("sweep", str(path))
    assert refused.returncode == 2
    assert "cells: one has started but is missing from the file" in refused.stderr


@pytest.mark.slow
def test_a_larger_copy_of_a_sweep_trains_only_what_is_new(swept: Swept, tmp_path: Path) -> None:
    """Another sweep over the same trials reuses finished ones and runs new seeds and configurations."""
    extended = tmp_path / "extended.yaml"
    extended.write_text(
        TINY.read_text().replace("seeds: 2", "seeds: 3").replace("configurations: 2", "configurations: 3")
    )
    done = swept.run("sweep", str(extended))
    assert done.returncode == 0, done.stdout + done.stderr
    trials = pd.read_parquet(swept.directory.path.parent / "extended" / "trials.parquet")
    assert len(trials) == 3 * (3 + 3)
    # The baselines of the first sweep were not trained again.
    assert not re.search(r"started (plain_kd|rs2|kdas_paper)\b.* seed [12]$", done.stdout, re.MULTILINE)
    assert re.search(r"started plain_kd seed 3$", done.stdout, re.MULTILINE)
    first = trials_of(swept).set_index("trial_id")
    shared = trials[trials["trial_id"].isin(first.index)].set_index("trial_id")
    assert len(shared) >= 6
    pd.testing.assert_series_equal(shared["last_cost_ref_s"], first.loc[shared.index, "last_cost_ref_s"])
