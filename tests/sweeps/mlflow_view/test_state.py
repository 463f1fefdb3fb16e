"""The record of what MLflow already has of a sweep."""

from __future__ import annotations

import pytest

from kdas.files.journal import Journal
from sweeps.mlflow_view.state import Sent, TrackingState, tracking_uri
from sweeps.record.directory import SweepDirectory


def test_what_was_sent_is_known_after_a_kill_in_the_middle_of_a_line(directory: SweepDirectory) -> None:
    state = TrackingState(directory)
    state.record(parent="p", experiment="e")
    state.keep("a", Sent("1", rows=2))
    written = directory.tracking_file.read_bytes()
    state.keep("a", Sent("1", rows=3))
    assert directory.tracking_file.read_bytes().startswith(written)
    cut_short = directory.tracking_file.read_bytes()[:-5]
    directory.tracking_file.write_bytes(cut_short)
    after = TrackingState(directory)
    assert after.facts["parent"] == "p"
    assert after.trials == {"a": Sent("1", rows=2)}
    after.keep("b", Sent("2", rows=1))
    assert set(TrackingState(directory).trials) == {"a", "b"}


def test_a_line_holds_what_was_sent_of_one_trial(directory: SweepDirectory) -> None:
    state = TrackingState(directory)
    state.keep("a", Sent("1", rows=2, bytes=340, closed=True))
    first, second = Journal(directory.tracking_file).read()
    assert first == {"uri": state.uri, "experiment_name": "kdas-sweeps", "trials": {}}
    assert second == {"trials": {"a": {"run": "1", "rows": 2, "bytes": 340, "closed": True}}}


def test_what_another_server_has_does_not_count(directory: SweepDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    TrackingState(directory).keep("a", Sent("1"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///other.db")
    assert tracking_uri() == "sqlite:///other.db"
    assert TrackingState(directory).trials == {}


def test_a_report_that_was_built_again_is_not_attached_yet(directory: SweepDirectory) -> None:
    state = TrackingState(directory)
    report = directory.path / "report.html"
    report.write_text("first")
    assert not state.is_attached
    state.record(attached=state.artifacts_id())
    assert state.is_attached and TrackingState(directory).is_attached
    report.write_text("second, and longer")
    assert not state.is_attached
