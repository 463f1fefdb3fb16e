"""Reading a sweep from an MLflow store: ours equals its directory, others are mapped, and mistakes are named."""

from __future__ import annotations

import json
import math
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from mlflow.entities import Metric, Param, RunTag
from mlflow.tracking import MlflowClient
from typer.testing import CliRunner

from analysis.__main__ import app
from analysis.curves import load, load_measure, load_trials
from analysis.findings.summary import summarize
from analysis.findings.trial_times import INDICATORS, trial_times
from analysis.mlflow_store import Stored, columns, load_store, write_store
from kdas.errors import UserError
from kdas.recipe.config import TrialConfig
from kdas.records import (
    CURVE_COLUMNS,
    CURVE_KINDS,
    SWEEP_COLUMNS,
    TRIAL_COLUMNS,
    WITHOUT_TEACHER,
    CurveRow,
    Measure,
    Status,
)
from sweeps.mlflow_view.view import MlflowView
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import write_measure
from sweeps.record.tables import write_tables

# What the tracker does not send: a store cannot tell it.
NOT_SENT = {"ended_at"}
# It sends these at each evaluation, the others where the target was reached and at the end.
AT_EACH = {*SWEEP_COLUMNS, "val_accuracy", "test_accuracy", "train_loss", "cost_ref_s", "num_cotenants", "step", "seed"}
AT_SOME = {name for name, kind in CURVE_KINDS.items() if kind != "str"} - AT_EACH
FOREIGN = {
    "val_accuracy": "metrics.acc",
    "cost_ref_s": "metrics.time_s",
    "method": "params.sampler",
    "config_id": "tags.config",
}


def evaluation(job: Job, number: int, accuracy: float) -> CurveRow:
    return CurveRow(
        trial_id=job.trial_id, config_id=job.config_id, dataset="digits", pair="resnet20->resnet8",
        seed=job.config.seed, epoch=number, step=number * 10, samples_trained=640 * number, samples_scored=number,
        teacher_forwards=7 * number, flops=1e9 * number, cost_ref_s=number / 3, cost_as_run_s=number / 7,
        wall_s=1.5 * number, eval_s=0.1 * number, data_s=0.2, num_cotenants=1, calibration_id="by-hand", device="cpu",
        train_loss=math.nan if number == 2 else 1 / number, val_accuracy=accuracy, test_accuracy=accuracy - 0.01,
        sampling_rate=0.5, learning_rate=0.05,
    )  # fmt: skip


def job(method: str, sampler: str, config_id: str, seed: int) -> Job:
    config = TrialConfig(
        dataset="digits", teacher={"model": "resnet20"}, student="resnet8", sampler=sampler, seed=seed, device="cpu"
    )
    return Job(method, "search", config, config_id)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, SweepDirectory]]:
    """One database for all tests, since making one takes seconds, with a sweep of ours and what others logged."""
    folder = tmp_path_factory.mktemp("stores")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        patch.chdir(folder)
        write_others(MlflowClient(uri))
        yield uri, write_ours(folder / "runs" / "ours")


def changed(uri: str, folder: Path, *statements: str) -> Path:
    """A copy of the database after some SQL."""
    path = folder / "copy.db"
    path.write_bytes(Path(uri.removeprefix("sqlite:///")).read_bytes())
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
    return path


def write_ours(path: Path) -> SweepDirectory:
    path.mkdir(parents=True)
    directory = SweepDirectory(path)
    (path / "environment.json").write_text(json.dumps({"device": "cpu", "data_source": "made up"}))
    plans = [("plain_kd", "full", "c0", 0.02, Status.BUDGET), ("kdas_paper", "kdas", "a1", 0.03, Status.BUDGET)]
    plans += [("rs2", "random", "b2", 0.005, Status.BUDGET), ("kdas_search", "kdas", "d3", 0.01, Status.DIVERGED)]
    for seed in (1, 2):
        for method, sampler, config_id, rise, status in plans:
            trial = job(method, sampler, config_id, seed)
            folder = directory.trial(trial.trial_id)
            folder.begin(trial)
            for number in range(1, 9):
                folder.append(evaluation(trial, number, 0.7 + rise * number), [])
            folder.end(Status.CRASHED if (method, seed) == ("rs2", 2) else status, "")
    write_measure(directory, Measure("ours", 0.82, "by hand", 3.5, "plain_kd", "validation", "", "made up", [1, 2], 8))
    write_tables(directory)
    MlflowView(directory).sync()
    return directory


def write_others(client: MlflowClient) -> None:
    """Runs as people log them: own names, a NaN, a repeated step, a killed, a deleted, a running one, a parent."""
    experiment = client.create_experiment("theirs")
    parent = client.create_run(experiment, start_time=0)
    client.set_terminated(parent.info.run_id)

    def run(name: str, method: str, seed: int, curve: list[tuple[int, float, float]], status: str = "FINISHED") -> str:
        tags = {"mlflow.parentRunId": parent.info.run_id, "config": f"{method}-x"}
        run_id = str(client.create_run(experiment, start_time=1_000_000, run_name=name, tags=tags).info.run_id)
        params = [
            Param("sampler", method),
            Param("seed", str(seed)),
            Param("rate", "1" if method == "plain" else "0.5"),
        ]
        metrics = [
            Metric(key, value, 1_000_000 + step * 500 + attempt, step)
            for attempt, (step, accuracy, time_s) in enumerate(curve)
            for key, value in (("acc", accuracy), ("time_s", time_s))
        ]
        client.log_batch(run_id, metrics=metrics, params=params, tags=[RunTag("by", "hand")])
        if status != "RUNNING":
            client.set_terminated(run_id, status)
        return run_id

    run("plain 1", "plain", 1, [(1, 0.5, 10), (2, math.nan, 20), (3, 0.9, 30)])
    # A restored run logs its last steps once more.
    run("fast 1", "fast", 1, [(1, 0.6, 6), (2, 0.1, 12), (2, 0.95, 13), (3, 0.96, 18)])
    run("plain 2", "plain", 2, [(1, 0.4, 10)], status="KILLED")
    run("fast 2", "fast", 2, [(1, 0.4, 10)], status="RUNNING")
    run("fast 3", "fast", 3, [], status="FAILED")
    client.delete_run(run("gone", "fast", 4, [(1, 0.99, 1)]))


@pytest.fixture(scope="module")
def uri(stores: tuple[str, SweepDirectory]) -> str:
    return stores[0]


@pytest.fixture(scope="module")
def theirs(uri: str) -> Stored:
    names = {**FOREIGN, "trial_id": "attributes.run_name"}
    return load_store(uri, experiment="theirs", names=names, target=0.9, baseline="plain")


def test_our_store_tells_what_the_sweep_directory_tells(stores: tuple[str, SweepDirectory]) -> None:
    uri, directory = stores
    stored = load_store(uri)
    assert tuple(stored.curves.columns) == CURVE_COLUMNS
    assert tuple(stored.trials.columns[: len(TRIAL_COLUMNS)]) == TRIAL_COLUMNS
    for told, ours in ((stored.curves, load(directory.path)), (stored.trials, load_trials(directory.path))):
        named = {*CURVE_COLUMNS, *TRIAL_COLUMNS, *(name for name in ours.columns if name.startswith("sampler."))}
        some = AT_SOME if told is stored.curves else set()
        for column in named & set(ours.columns) - NOT_SENT - some:
            pd.testing.assert_series_equal(told[column], ours[column])
    curves, measure = load(directory.path), load_measure(directory.path)
    assert stored.curves.groupby("trial_id")["flops"].count().max() == 2
    for column in AT_SOME:
        is_sent = stored.curves["flops"].notna()
        pd.testing.assert_series_equal(
            stored.curves[column][is_sent], curves[column][is_sent], check_dtype=False, obj=column
        )
    told, ours = (
        trial_times(curves, trials, measure)
        for curves, trials in ((stored.curves, stored.trials), (curves, load_trials(directory.path)))
    )
    # A store does not know the cost without a teacher.
    at_hit = [name for name in INDICATORS.values() if name != INDICATORS[WITHOUT_TEACHER]]
    assert told["flops_at_hit"].notna().any()
    pd.testing.assert_frame_equal(told[at_hit], ours[at_hit])
    recorded = load_measure(directory.path)
    assert (stored.measure.target, stored.measure.budget_ref_s) == (recorded.target, recorded.budget_ref_s)
    assert (stored.measure.baseline, stored.measure.seeds) == (recorded.baseline, recorded.seeds)
    assert stored.measure.split == recorded.split and stored.measure.data_source == recorded.data_source


def test_summary_of_our_store_is_that_of_the_directory(stores: tuple[str, SweepDirectory]) -> None:
    uri, directory = stores
    stored, measure = load_store(uri), load_measure(directory.path)
    told = summarize(trial_times(stored.curves, stored.trials, stored.measure), stored.measure)
    ours = summarize(trial_times(load(directory.path), load_trials(directory.path), measure), measure)
    for column in ("method", "num_reached", "mean_lower_s", "mean_upper_s", "ratio", "ratio_low", "p_value"):
        pd.testing.assert_series_equal(told[column], ours[column])


def test_any_database_driver_reads_what_arrows_reads(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {**FOREIGN, "cost_ref_s": "elapsed"}

    def both() -> list[Stored]:
        return [load_store(uri), load_store(uri, experiment="theirs", names=names, target=0.9, baseline="plain")]

    by_arrow = both()
    monkeypatch.setattr(columns, "_READERS", {})
    for other, stored in zip(both(), by_arrow, strict=True):
        assert len(stored.curves) and stored.measure == other.measure
        pd.testing.assert_frame_equal(stored.curves, other.curves)
        pd.testing.assert_frame_equal(stored.trials, other.trials)


def test_another_target_changes_which_trials_have_reached_it(uri: str) -> None:
    trials = load_store(uri, target=0.9).trials.set_index("trial_id")
    assert trials.loc["a1-s1", "status"] == "reached" and trials.loc["c0-s1", "status"] == "budget"
    assert trials.loc["c0-s1", "tta_ref_s"] == math.inf


def test_a_store_of_others_is_read_by_its_own_names(theirs: Stored) -> None:
    trials = theirs.trials.set_index("trial_id")
    assert list(trials.index) == ["fast 1", "fast 2", "fast 3", "plain 1", "plain 2"]  # neither the parent nor "gone"
    assert trials["status"].to_dict() == {
        "fast 1": "reached", "fast 2": "running", "fast 3": "crashed", "plain 1": "reached", "plain 2": "crashed",
    }  # fmt: skip
    assert trials["tta_ref_s"].tolist() == [13.0, math.inf, math.inf, 30.0, math.inf]
    assert trials["num_evaluations"].tolist() == [3, 1, 0, 3, 1]
    assert theirs.measure.budget_ref_s == 30.0 and theirs.measure.sweep == "theirs"
    times = trial_times(theirs.curves, theirs.trials, theirs.measure)
    assert summarize(times, theirs.measure)["method"].tolist() == ["fast", "plain"]


def test_nan_is_nan_and_of_a_repeated_step_the_latest_value_stays(theirs: Stored) -> None:
    curves = theirs.curves.groupby("trial_id")
    assert curves.get_group("plain 1")["val_accuracy"].isna().tolist() == [False, True, False]
    assert curves.get_group("fast 1")["val_accuracy"].tolist() == [0.6, 0.95, 0.96]
    assert curves.get_group("fast 1")["cost_ref_s"].tolist() == [6.0, 13.0, 18.0]


def test_elapsed_is_seconds_between_the_start_of_the_run_and_the_logging(uri: str) -> None:
    names = {**FOREIGN, "cost_ref_s": "elapsed", "trial_id": "attributes.run_name"}
    curves = load_store(uri, experiment="theirs", names=names, target=0.9, baseline="plain").curves
    assert curves.loc[curves["trial_id"] == "plain 1", "cost_ref_s"].tolist() == [0.5, 1.001, 1.502]


def test_a_run_without_a_configuration_is_known_by_its_parameters_but_the_seed(uri: str) -> None:
    names = {key: value for key, value in FOREIGN.items() if key != "config_id"}
    trials = load_store(uri, experiment="theirs", names=names, target=0.9, baseline="plain").trials
    assert trials.groupby("method")["config_id"].nunique().to_dict() == {"fast": 1, "plain": 1}
    assert trials["config_id"].nunique() == 2


def test_one_metric_for_both_splits_says_that_the_test_split_decides(uri: str) -> None:
    names = {**FOREIGN, "test_accuracy": "metrics.acc"}
    assert load_store(uri, experiment="theirs", names=names, target=0.9, baseline="plain").measure.split == "test"


def test_a_recorded_budget_is_none_of_another_cost(tmp_path: Path, uri: str) -> None:
    twice = (
        f"insert into {table} (key, value, timestamp, step, is_nan, run_uuid)"
        f" select 'work', 2 * value, timestamp, step, is_nan, run_uuid from {table} where key = 'cost_ref_s'"
        for table in ("metrics", "latest_metrics")
    )
    path = str(changed(uri, tmp_path, *twice))
    assert load_store(path).measure.budget_ref_s == 3.5
    assert load_store(path, names={"cost_ref_s": "metrics.work"}).measure.budget_ref_s == 16 / 3


def test_a_name_for_something_else_leaves_the_deciding_split_as_it_was(tmp_path: Path, uri: str) -> None:
    path = str(changed(uri, tmp_path, "update params set value = '0.0' where key = 'validation'"))
    for names in ({}, {"pair": "params.student"}):
        assert load_store(path, names=names).measure.split == "test"


def test_metric_logged_at_other_steps_and_later_joins_by_step(tmp_path: Path, uri: str) -> None:
    # Logged in another order, and for a step more, than the accuracies.
    later = "update metrics set timestamp = 9000000 - timestamp where key = 'time_s' and step <> 2"
    more = (
        "insert into metrics (key, value, timestamp, run_uuid, step, is_nan)"
        " select key, 99, timestamp, run_uuid, 77, 0 from metrics where key = 'time_s' and step = 1"
    )
    path = changed(uri, tmp_path, later, more)
    names = {**FOREIGN, "trial_id": "attributes.run_name"}
    curves = load_store(str(path), experiment="theirs", names=names, target=0.9, baseline="plain").curves
    assert curves.loc[curves["trial_id"] == "fast 1", "cost_ref_s"].tolist() == [6.0, 13.0, 18.0]


@pytest.mark.parametrize(("value", "said"), [("0", "0 to 0"), ("value - 100", "-94 to -70")])
def test_a_cost_that_does_not_count_up_is_refused(tmp_path: Path, uri: str, value: str, said: str) -> None:
    path = changed(uri, tmp_path, f"update metrics set value = {value} where key = 'time_s'")
    with pytest.raises(UserError, match=rf"expected totals that grow from 0, got {said} \(metrics\.time_s\)"):
        load_store(str(path), experiment="theirs", names=FOREIGN, target=0.9, baseline="plain")


def test_one_of_several_sweeps_is_asked_for_by_name(uri: str) -> None:
    names = {**FOREIGN, "sweep": "params.sampler"}
    with pytest.raises(UserError, match=r"--sweep: the store has 2 sweeps: fast, plain\. Name one"):
        load_store(uri, experiment="theirs", names=names, target=0.9)
    stored = load_store(uri, experiment=None, names=names, sweep="fast", target=0.9, baseline="fast")
    assert set(stored.trials["method"]) == {"fast"} and len(stored.trials) == 3
    assert stored.measure.sweep == "fast"


def test_of_two_runs_of_one_trial_the_later_started_counts(tmp_path: Path, uri: str) -> None:
    path = changed(uri, tmp_path, "update runs set name = 'fast 1', start_time = 2000000 where name = 'fast 2'")
    names = {**FOREIGN, "trial_id": "attributes.run_name"}
    stored = load_store(f"sqlite:///{path}", experiment="theirs", names=names, target=0.9, baseline="plain")
    assert stored.curves.loc[stored.curves["trial_id"] == "fast 1", "val_accuracy"].tolist() == [0.4]
    assert stored.trials["trial_id"].is_unique


def test_the_command_makes_a_directory_that_the_report_reads(uri: str, tmp_path: Path) -> None:
    made = tmp_path / "made"
    words = ["store", uri, "--out", str(made), "--experiment", "theirs", "--target", "0.9", "--baseline", "plain"]
    for column, source in FOREIGN.items():
        words += ["--name", f"{column}={source}"]
    assert CliRunner().invoke(app, words).exit_code == 0
    result = CliRunner().invoke(app, ["report", str(made)], catch_exceptions=False)
    assert result.exit_code == 0 and "No setting of fast was reliably faster than plain to 90%" in result.stdout
    with pytest.raises(UserError, match=r"made: the folder is not empty\. Choose a new one with --out"):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name.startswith("analysis.mlflow_store")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "adbc_driver_sqlite", None)
    with pytest.raises(UserError, match=r"adbc_driver_sqlite is not installed\. Run: python -m pip install"):
        CliRunner().invoke(app, ["store", "mlflow.db", "--out", str(tmp_path / "made")], catch_exceptions=False)


def test_written_tables_are_read_back_equal(theirs: Stored, tmp_path: Path) -> None:
    write_store(theirs, tmp_path / "made")
    pd.testing.assert_frame_equal(load(tmp_path / "made"), theirs.curves)
    pd.testing.assert_frame_equal(load_trials(tmp_path / "made"), theirs.trials)
    assert load_measure(tmp_path / "made") == theirs.measure


def test_store_is_left_as_it_was(uri: str) -> None:
    path = Path(uri.removeprefix("sqlite:///"))
    before = path.read_bytes()
    load_store(uri)
    assert path.read_bytes() == before and not list(path.parent.glob("mlflow.db-*"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"experiment": "kdas-sweep"}, r"no experiment 'kdas-sweep'\. Did you mean kdas-sweeps\?"),
        ({"sweep": "our"}, r"no sweep 'our'.*Did you mean ours\?"),
        ({"target": 90}, r"--target: expected a fraction in \(0, 1\], got 90\."),
        ({"baseline": "plain"}, r"no method 'plain'\. Did you mean plain_kd\?"),
        ({"names": {"val_acc": "metrics.x"}}, r"unknown column val_acc\. Did you mean val_accuracy\?"),
        ({"names": {"method": "metrics.x"}}, r"--name method: expected one of params.*, got metrics\.x\."),
        ({"names": {"val_accuracy": "acc"}}, r"--name val_accuracy: expected one of metrics.*, got acc\."),
        ({"names": {"val_accuracy": "metrics.nope"}}, r"example --name val_accuracy=metrics\.val_accuracy"),
        ({"names": {"val_accuracy": "metrics.val_acuracy"}}, r"has metrics\.val_acuracy.*val_accuracy"),
        ({"names": {"flops": "metrics.flop"}}, r"no run .* has metrics\.flop\. The store has metrics\.flops"),
        ({"names": {"val_accuracy": "metrics.epoch"}}, r"expected fractions in \[0, 1\], got 8 \(metrics\.epoch\)"),
        ({"names": {"cost_ref_s": "metrics.tta_ref_s"}}, r"evaluations have no metrics\.tta_ref_s.*cost_ref_s=elapsed"),
        ({"names": {"seed": "params.student"}}, r"seed: expected a whole number, got 'resnet8' \(params"),
        ({"names": {"phase": "params.student"}}, r"phase: expected one of search, confirm, got 'resnet8'"),
        ({"experiment": "theirs"}, r"val_accuracy: no run of the sweep has metrics\.val_accuracy"),
        ({"experiment": "theirs", "names": FOREIGN}, r"--target: the store has no target for theirs"),
        ({"experiment": "theirs", "names": FOREIGN, "target": 0.9}, r"--baseline: missing\..* fast, plain"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_remedy(uri: str, given: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_store(uri, **given)


def test_what_is_no_store_is_refused_and_not_made(tmp_path: Path) -> None:
    missing, other, text = tmp_path / "mlflw.db", tmp_path / "mlflow.db", tmp_path / "text.db"
    sqlite3.connect(other).execute("create table runs (run_uuid)").connection.close()
    text.write_text("no database at all " * 99)
    for uri, message in (
        (f"sqlite:///{missing}", r"no such file\. Did you mean .*mlflow\.db"),
        (str(other), r"not an MLflow store, table experiments is missing"),
        (str(text), r"text\.db: cannot be read \(file is not a database\)"),
        ("http://127.0.0.1:5000", r"got a tracking server.*Give the server's --backend-store-uri"),
        ("sqlite://", r"the file name is missing"),
        ("oracl://user:secret@host/mlflow", r"^oracl://\.\.\.: cannot be opened"),
    ):
        with pytest.raises(UserError, match=message):
            load_store(uri)
    assert not missing.exists()
    pipe, loop = tmp_path / "pipe.db", tmp_path / "loop.db"
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    for path, kind in ((pipe, "a device"), (loop, "a link that leads nowhere")):
        with pytest.raises(UserError, match=rf"{path.name}: expected a database file, got {kind}\. Give the file that"):
            load_store(str(path))
