"""What a store of others may hold that would give wrong times: it is refused, or said, by the run's name."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from analysis.__main__ import app
from analysis.mlflow_store import Stored, database, load_store
from kdas.errors import UserError

# As MLflow has them, without what is not read.
_TABLES = """
create table experiments (experiment_id integer, name text);
create table runs (run_uuid text, name text, status text, start_time integer, end_time integer, lifecycle_stage text,
                   experiment_id integer);
create table tags (key text, value text, run_uuid text);
create table params (key text, value text, run_uuid text);
create table latest_metrics (key text, value real, run_uuid text);
create table metrics (key text, value real, timestamp integer, step integer, run_uuid text, is_nan boolean);
"""
NAMES = {"val_accuracy": "metrics.acc", "cost_ref_s": "metrics.time_s", "method": "params.sampler"}
# Step, timestamp in ms, accuracy, cost.
Row = tuple[int, int, float, float]


def curve(steps: int = 10) -> list[Row]:
    return [(k, k * 60_000, 0.8 * (1 - math.exp(-k / 3)), k * 60.0) for k in range(1, steps + 1)]


class Store:
    """A store by hand; every run starts a second after the one before."""

    def __init__(self, path: Path) -> None:
        self.path, self._num_runs = path, 0
        with closing(sqlite3.connect(path)) as database, database:
            database.executescript(_TABLES)
            database.execute("insert into experiments values (1, 'theirs')")

    def run(self, method: str, seed: int, rows: Sequence[Row], **tags: str) -> str:
        self._num_runs += 1
        uuid, start_ms = f"uuid{self._num_runs}", 1000 * self._num_runs
        with closing(sqlite3.connect(self.path)) as database, database:
            values = (uuid, f"{method} {seed}", "FINISHED", start_ms, start_ms, "active", 1)
            database.execute("insert into runs values (?, ?, ?, ?, ?, ?, ?)", values)
            for key, value in (("sampler", method), ("seed", str(seed))):
                database.execute("insert into params values (?, ?, ?)", (key, value, uuid))
            for key, value in tags.items():
                database.execute("insert into tags values (?, ?, ?)", (key, value, uuid))
            for key, place in (("acc", 2), ("time_s", 3)):
                database.execute("insert into latest_metrics values (?, ?, ?)", (key, rows[-1][place], uuid))
                for row in rows:
                    logged = (key, row[place], start_ms + row[1], row[0], uuid, False)
                    database.execute("insert into metrics values (?, ?, ?, ?, ?, ?)", logged)
        return uuid

    def load(self, **given: object) -> Stored:
        names = NAMES | dict(given.pop("names", {}))  # type: ignore[call-overload]
        return load_store(str(self.path), experiment="theirs", names=names, target=0.6, baseline="plain", **given)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "theirs.db")
    made.run("plain", 1, curve())
    return made


Change = Callable[[list[Row]], list[Row]]


def without_steps(rows: list[Row]) -> list[Row]:
    return [(0, time, accuracy, cost) for _, time, accuracy, cost in rows]


def cost_restarts(rows: list[Row]) -> list[Row]:
    return [(k, time, accuracy, cost if k <= 3 else cost - 180) for k, time, accuracy, cost in rows]


def steps_and_cost_restart(rows: list[Row]) -> list[Row]:
    return [row if row[0] <= 4 else (row[0] - 4, row[1], row[2], row[3] - 240) for row in rows]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without_steps,
            r"got 10 values at step 0 \(metrics\.acc of run uuid2 \(fast 1\)\)\. Log them with their steps",
        ),
        (cost_restarts, r"got 60 after 180 at step 4 of run uuid2 \(fast 1\) \(metrics\.time_s\)\. Use another metric"),
        (
            steps_and_cost_restart,
            r"got step 1 again after step 4 \(metrics\.acc of run uuid2 \(fast 1\)\): the run starts over",
        ),
        (
            lambda rows: [(*row[:3], 5.0) for row in rows],
            r"got 5 at every step of run uuid2 \(fast 1\) \(metrics\.time_s\)",
        ),
        (lambda rows: [(*row[:3], 700 - row[3]) for row in rows], r"got 580 after 640 at step 2 of run uuid2"),
        (
            lambda rows: [(*row[:2], 100 * row[2], row[3]) for row in rows],
            r"expected fractions in \[0, 1\], got 77.* \(metrics\.acc\)",
        ),
        (
            lambda rows: [(*row[:2], -row[2], row[3]) for row in rows],
            r"expected fractions in \[0, 1\], got -0\.7.* \(metrics\.acc\)",
        ),
    ],
)
def test_a_run_that_would_give_wrong_times_is_named(store: Store, change: Change, message: str) -> None:
    store.run("fast", 1, change(curve()))
    with pytest.raises(UserError, match=message):
        store.load()


def test_steps_that_restart_are_refused_with_the_time_of_logging_too(store: Store) -> None:
    store.run("fast", 1, steps_and_cost_restart(curve()))
    with pytest.raises(UserError, match=r"the run starts over, and its earlier values would be lost"):
        store.load(names={"cost_ref_s": "elapsed"})


def paused(rows: list[Row], *, is_in_cost: bool) -> list[Row]:
    """Ten hours between the second and the third step."""
    return [
        (k, time + 36_000_000 * (k > 2), accuracy, cost + 36_000 * (is_in_cost and k > 2))
        for k, time, accuracy, cost in rows
    ]


def test_a_pause_within_the_time_of_logging_is_named(store: Store) -> None:
    store.run("fast", 1, paused(curve(), is_in_cost=False))
    with pytest.raises(UserError, match=r"got 36060 s before step 3 of run uuid2 \(fast 1\) where 60 s are usual"):
        store.load(names={"cost_ref_s": "elapsed"})


def test_a_pause_that_the_cost_does_not_hold_changes_no_time_and_needs_no_word(store: Store) -> None:
    store.run("fast", 1, curve())
    before = store.load()
    store.run("paused", 1, paused(curve(), is_in_cost=False))
    stored = store.load()
    assert stored.notes == before.notes == ()
    times = stored.trials.set_index("method")["tta_ref_s"]
    assert times["paused"] == times["fast"] == before.trials.set_index("method")["tta_ref_s"]["fast"]


def test_a_pause_within_the_cost_is_told(store: Store) -> None:
    store.run("fast", 1, paused(curve(), is_in_cost=True))
    (note,) = store.load().notes
    assert note.startswith("Runs whose cost jumps, as a clock does while a run is paused: 1, for example run uuid2")
    assert "(fast 1), by 36060 before step 3 where 60 is usual (metrics.time_s). If they were paused" in note


@pytest.mark.parametrize(
    ("left_out", "line"),
    [
        (
            "cost_ref_s",
            "cost_ref_s: no run of the sweep has metrics.cost_ref_s. The store has metrics.acc, metrics.time_s. Name"
            " the source, --name cost_ref_s=metrics.<key>, or use the time of logging: --name cost_ref_s=elapsed",
        ),
        (
            "method",
            "method: no run of the sweep has tags.kdas.method. The store has params.sampler. Name the source, --name"
            " method=params.<key>",
        ),
    ],
)
def test_a_column_that_the_store_lacks_is_told_what_it_has(store: Store, left_out: str, line: str) -> None:
    names = {column: source for column, source in NAMES.items() if column != left_out}
    with pytest.raises(UserError, match=rf"^{left_out}: no run") as caught:
        load_store(str(store.path), experiment="theirs", names=names, target=0.6)
    assert str(caught.value) == line


def test_evaluations_at_growing_distances_are_no_pause(store: Store) -> None:
    store.run("fast", 1, [(2**k, 2**k * 60_000, 0.1 * k, 1.0 * k) for k in range(10)])
    assert len(store.load(names={"cost_ref_s": "elapsed"}).trials) == 2


def test_a_run_that_repeats_its_last_steps_after_a_restart_is_read(store: Store) -> None:
    again = [(k, time + 3_600_000, accuracy, cost) for k, time, accuracy, cost in curve()[3:]]
    store.run("fast", 1, [*curve(6), *again])
    curves = store.load().curves
    assert curves.loc[curves["method"] == "fast", "cost_ref_s"].tolist() == [60.0 * k for k in range(1, 11)]


def test_a_single_evaluation_needs_neither_steps_nor_a_cost_that_grows(store: Store) -> None:
    store.run("fast", 1, [(0, 1, 0.1, 0.0)])
    assert store.load().trials.set_index("method").loc["fast", "num_evaluations"] == 1


def test_a_percentage_under_one_is_told_by_the_other_runs_of_its_experiment(store: Store) -> None:
    store.run("fast", 1, [(*row[:2], row[2], row[3]) for row in curve()], sweep="low")
    store.run("fast", 2, [(*row[:2], 100 * row[2], row[3]) for row in curve()], sweep="high")
    store.run("plain", 2, curve(), sweep="low")
    with pytest.raises(UserError, match=r"got 77.* in other runs .* \(metrics\.acc\).* may be percentages"):
        store.load(names={"sweep": "tags.sweep"}, sweep="low")


def test_two_runs_of_one_configuration_and_seed_are_told_and_the_later_one_counts(store: Store) -> None:
    store.run("fast", 1, curve(5))
    store.run("fast", 1, curve(7))
    stored = store.load()
    assert stored.trials["num_evaluations"].tolist() == [10, 7] and stored.trials["trial_id"].tolist() == [
        "uuid1",
        "uuid3",
    ]
    (note,) = stored.notes
    assert note.startswith("Runs left out") and ": 1, for example run uuid2 (fast 1) for uuid3 (fast 1)" in note


def test_runs_that_differ_in_their_named_configuration_all_count(store: Store) -> None:
    store.run("fast", 1, curve(5), config="a")
    store.run("fast", 1, curve(7), config="b")
    stored = store.load(names={"config_id": "tags.config"})
    assert len(stored.trials) == 3 and not stored.notes


def test_the_command_prints_what_was_left_out(store: Store, tmp_path: Path) -> None:
    for _ in range(2):
        store.run("fast", 1, curve())
    words = ["store", str(store.path), "--out", str(tmp_path / "made"), "--experiment", "theirs"]
    words += ["--target", "0.6", "--baseline", "plain"]
    for column, source in NAMES.items():
        words += ["--name", f"{column}={source}"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert "note: Runs left out" in done.output


def test_the_file_store_of_an_earlier_mlflow_is_named_with_its_conversion(tmp_path: Path) -> None:
    folder = tmp_path / "mlruns"
    (folder / "0").mkdir(parents=True)
    for given, message in (
        (str(folder), r"mlruns: expected a database file, got a folder\."),
        (folder.as_uri(), r"mlruns: expected a database file, got a folder\."),
    ):
        with pytest.raises(UserError, match=message):
            load_store(given)
    (folder / "0" / "meta.yaml").write_text("name: Default")
    for given in (str(folder), folder.as_uri(), f"sqlite:///{folder}"):
        with pytest.raises(UserError, match=r"got the file store .*mlflow migrate-filestore --source .*mlruns"):
            load_store(given)


def test_no_password_of_a_tracking_server_is_printed() -> None:
    with pytest.raises(UserError, match=r"^https://host/x: expected a database, got a tracking server"):
        load_store("https://ann:s@cret@host/x")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "update metrics set value = 'abc' where key = 'acc' and step = 3",
            r"metrics\.acc: .* got 'abc' as value in run",
        ),
        (
            "update metrics set value = x'00ff' where key = 'time_s'",
            r"metrics\.time_s: .* got b'\\x00\\xff' as value in",
        ),
        (
            "update metrics set value = null where step = 3",
            r"metrics\.acc: expected numbers, .* got None as value in run",
        ),
        (
            "update metrics set step = 'seven' where step = 7",
            r"whole numbers, got 'seven' as step in run uuid1\. Restore",
        ),
        ("update metrics set step = step + 0.5", r"got 1\.5 as step in run uuid1\. Restore the store from a copy, or"),
        ("update metrics set step = null where step = 3", r"got None as step in run uuid1"),
        (
            "update metrics set run_uuid = x'ff'",
            r"val_accuracy: metrics\.acc has no values in these runs\. Name another",
        ),
        (
            "update runs set start_time = 'today'",
            r"runs\.start_time: expected a whole number in the store, got 'today'\.",
        ),
        (
            "update runs set start_time = 1e300",
            r"runs\.start_time: expected a whole number in the store, got 1e\+300\.",
        ),
        ("update runs set name = x'ff'", r"runs\.name: expected text in the store, got b'\\xff'\. Restore"),
        (
            "insert into runs select * from runs",
            r"runs\.run_uuid: expected each run once, got uuid1 twice\. Restore the",
        ),
        ("update runs set run_uuid = null", r"runs\.run_uuid: expected text in the store, got None\."),
        ("update params set value = x'ff' where key = 'seed'", r"params\.value: expected text in the store, got b"),
        ("insert into tags values (null, 'x', 'uuid1')", r"tags\.key: expected text in the store, got None"),
        ("insert into experiments values (2, x'ff')", r"experiments\.name: expected text in the store, got b'\\xff'"),
        (
            "update latest_metrics set value = 'abc'",
            r"latest_metrics\.value: expected a number in the store, got 'abc'",
        ),
        (
            "update runs set name = printf('%.*c', 2000000, 'x')",
            r"theirs\.db: cannot be read \(string or blob too big\)",
        ),
        ("update metrics set step = (step - 5) * 1800000000000000000", r"val_accuracy: expected steps that are .*acc"),
        ("update params set value = '1e30' where key = 'seed'", r"seed: expected a whole number, got '1e30' \(params"),
        ("update params set value = '9223372036854775808' where key = 'seed'", r"got '9223372036854775808' \(params"),
        ("update metrics set value = 9e999 where key = 'time_s' and step = 10", r"cost_ref_s: .* got 60 to inf"),
    ],
)
def test_value_of_another_type_than_mlflow_writes_is_named(store: Store, change: str, message: str) -> None:
    with closing(sqlite3.connect(store.path)) as database, database:
        # As a file of other origin may have them: any type in any column.
        for name in ("runs", "params", "latest_metrics", "metrics"):
            columns = ", ".join(row[1] for row in database.execute(f"pragma table_info({name})"))
            database.execute(f"create table loose_{name} ({columns})")
            database.execute(f"insert into loose_{name} select * from {name}")
            database.execute(f"drop table {name}")
            database.execute(f"alter table loose_{name} rename to {name}")
        database.execute(change)
    with pytest.raises(UserError, match=message):
        store.load()


def test_count_that_is_none_is_refused(store: Store) -> None:
    with closing(sqlite3.connect(store.path)) as database, database:
        database.execute("update metrics set value = 1e300 where key = 'time_s' and step = 10")
    with pytest.raises(UserError, match=r"epoch: expected at most 9007199254740992, got 1e\+300 \(metrics\.time_s\)"):
        store.load(names={"epoch": "metrics.time_s"})


def test_long_seed_keeps_its_last_digit(store: Store) -> None:
    with closing(sqlite3.connect(store.path)) as database, database:
        database.execute("update params set value = '9007199254740993' where key = 'seed'")
    assert store.load().trials["seed"].tolist() == [9007199254740993]


@pytest.mark.parametrize(
    ("computed", "message"),
    [
        (
            "create table tags (key text, run_uuid text, value text as (printf('%.*c', 9, 'x')))",
            r"column value of table tags is computed while it is read\. Give the file that MLflow writes",
        ),
        ("create virtual table tags using fts5(key, run_uuid, value)", r"table tags is computed while it is read"),
        ("create view tags as select 1 as key, 2 as run_uuid, 3 as value", r"table tags is missing"),
    ],
)
def test_what_is_computed_while_it_is_read_is_refused(store: Store, computed: str, message: str) -> None:
    with closing(sqlite3.connect(store.path)) as database, database:
        database.execute("drop table tags")
        database.execute(computed)
    with pytest.raises(UserError, match=message):
        store.load()


def test_more_runs_or_keys_than_any_store_has_are_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.run("fast", 1, curve())
    monkeypatch.setattr(database, "_MOST_RUNS", 1)
    with pytest.raises(UserError, match=r"runs: expected at most 1 in what is read, got more\. Choose fewer with"):
        store.load()
    monkeypatch.setattr(database, "_MOST_RUNS", 2)
    monkeypatch.setattr(database, "_MOST_KEYS", 1)
    with pytest.raises(UserError, match=r"params: expected at most 1 different keys, got more\. Delete the runs that"):
        store.load()
