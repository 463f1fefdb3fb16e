"""Where runs are shown, and that no password of that address is kept or printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sweeps.mlflow_view.address import is_embedded, redacted, tracking_uri, without_secrets
from sweeps.mlflow_view.state import Sent, TrackingState
from sweeps.record.directory import SweepDirectory
from tests.sweeps.mlflow_view.conftest import sync


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://ann:secret@host:5000/mlflow", "http://host:5000/mlflow"),
        ("https://ann:s@e:c/r?et@host", "https://host"),
        ("postgresql+psycopg2://ann:se%40cret@host/mlflow?password=secret", "postgresql+psycopg2://host/mlflow"),
        ("postgresql://host/mlflow?password=secret", "postgresql://host/mlflow"),
        ("http://token@host", "http://host"),
        ("sqlite:////home/ann@work/mlflow.db", "sqlite:////home/ann@work/mlflow.db"),
        ("databricks", "databricks"),
    ],
)
def test_an_address_is_shown_without_user_and_password(uri: str, shown: str) -> None:
    assert without_secrets(uri) == shown


def test_a_message_is_shown_without_user_and_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:se%40cret@host")
    text = "API request to http://ann:se%40cret@host/api failed: no access with se@cret, se%40cret"
    assert redacted(text) == "API request to http://host/api failed: no access with , "
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////home/ann@work/mlflow.db")
    assert redacted("/home/ann@work/mlflow.db is gone") == "/home/ann@work/mlflow.db is gone"


def test_no_password_reaches_the_record_or_a_message(
    directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sweeps.tracking.follower._ATTEMPTS_S", (0.0,))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
    failure = sync(directory)
    assert "127.0.0.1" in failure and "secret" not in failure and "ann" not in failure
    TrackingState(directory).keep("a", Sent("1"))
    assert "secret" not in directory.tracking_file.read_text()
    assert TrackingState(directory).trials == {"a": Sent("1")}


def test_a_record_with_a_password_is_cleaned_and_counts(
    directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = [{"uri": "http://ann:secret@host", "trials": {}}, {"parent": "p", "experiment": "e"}]
    old.append({"trials": {"a": {"run": "1", "rows": 2, "bytes": 9, "closed": True}}})
    directory.tracking_file.write_text("".join(f"{json.dumps(line)}\n" for line in old))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:another@host")
    for _ in range(2):
        state = TrackingState(directory)
        assert state.trials == {"a": Sent("1", 2, 9, True)} and state.facts["parent"] == "p"
    assert "secret" not in directory.tracking_file.read_text()


def test_a_password_is_removed_even_if_another_server_is_named_now(
    directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory.tracking_file.write_text('{"uri": "http://ann:secret@host", "parent": "p", "trials": {}}\n')
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert "parent" not in TrackingState(directory).facts
    assert "secret" not in directory.tracking_file.read_text()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@host")
    assert TrackingState(directory).facts["parent"] == "p"


def test_the_embedded_store_is_known_by_its_place_beside_the_sweeps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    assert is_embedded(tracking_uri()) and not is_embedded("sqlite:///mlflow.db")
