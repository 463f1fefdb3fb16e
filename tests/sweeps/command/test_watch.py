"""The server that shows a report while its sweep runs."""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kdas.errors import UserError
from kdas.files.record import write_record
from sweeps.command import progress_page, watch
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.prepare.unchanged import keep_spec
from sweeps.record.control import read_requests
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import write_measure
from tests.sweeps.conftest import curve_row
from tests.sweeps.record.test_status import MEASURE


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    server = watch.server_of(tmp_path, 0)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_before_there_is_a_report_the_page_says_what_it_waits_for(address: str) -> None:
    assert "No report yet" in get(address) and get(f"{address}/age") == "0"


def test_the_report_is_served_with_a_script_that_looks_for_a_newer_one(address: str, tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("<p>first</p>", encoding="utf-8")
    first = get(f"{address}/age")
    assert get(address).startswith("<p>first</p>") and "location.reload()" in get(address)
    (tmp_path / "report.html").write_text("<p>second</p>", encoding="utf-8")
    assert get(f"{address}/age") != first and get(f"{address}/report.html").startswith("<p>second</p>")


def test_reports_of_cells_are_linked_until_there_is_one_of_all(address: str, tmp_path: Path) -> None:
    (tmp_path / "cells" / "a_cell").mkdir(parents=True)
    (tmp_path / "cells" / "a_cell" / "report.html").write_text("a cell's", encoding="utf-8")
    page = get(address)
    assert "No report yet" in page and '<a href="cells/a_cell/report.html">a_cell</a>' in page
    assert get(f"{address}/age") != "0"


def asked_as(address: str, host: str | None) -> int:
    """The status of a request that calls the server by this name."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    connection.putrequest("GET", "/age", skip_host=True)
    if host is not None:
        connection.putheader("Host", host)
    connection.endheaders()
    try:
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:5001", "localhost:5001", "LOCALHOST", "[::1]:5001"])
def test_a_request_by_a_name_of_this_machine_is_answered(address: str, host: str) -> None:
    assert asked_as(address, host) == 200


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:5001", "127.0.0.1.evil.example", "localhost.evil.example:80", "0.0.0.0"),
        *("127.0.0.1:x", "user@127.0.0.1", "", None),
    ],
)
def test_a_request_by_another_name_is_refused(address: str, host: str | None) -> None:
    assert asked_as(address, host) == 403


def test_the_server_listens_on_this_machine_only(tmp_path: Path) -> None:
    with watch.server_of(tmp_path, 0) as server:
        assert server.server_address[0] == "127.0.0.1"


def test_nothing_else_of_the_folder_is_served(address: str, tmp_path: Path) -> None:
    (tmp_path / "cells" / "one").mkdir(parents=True)
    (tmp_path / "cells" / "one" / "report.html").write_text("a cell's", encoding="utf-8")
    (tmp_path / "teacher.pth").write_bytes(b"weights")
    (tmp_path.parent / "report.html").write_text("another's", encoding="utf-8")
    assert get(f"{address}/cells/one/report.html").startswith("a cell's")
    for path in ("teacher.pth", "../report.html", "cells/../../report.html", "%2e%2e/report.html", "cells"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(f"{address}/{path}")


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_not_a_port_is_refused(tmp_path: Path, port: int) -> None:
    with pytest.raises(UserError, match=f"PORT={port}: expected a port from 0 to 65535"):
        watch.server_of(tmp_path, port)


def test_a_port_that_is_taken_is_refused_with_the_next_one_as_a_hint(address: str, tmp_path: Path) -> None:
    port = int(address.rpartition(":")[2])
    with pytest.raises(UserError, match=f"PORT={port}: cannot be opened .* Try PORT={port + 1}."):
        watch.server_of(tmp_path, port)


def test_the_report_is_rebuilt_while_the_sweep_runs_and_once_after_its_end(tmp_path: Path) -> None:
    directory = SweepDirectory(tmp_path / "tiny")
    assert not watch.has_begun(directory.path)
    built: list[bool] = []
    lock = directory.locked()
    lock.__enter__()
    # A sweep that still prepares is watched, but there is nothing to build yet.
    assert watch.has_begun(directory.path)
    threading.Timer(0.3, lambda: (directory.path / "sweep.yaml").write_text("name: tiny")).start()

    def build() -> None:
        built.append(bool(watch.holder(directory.path)))
        if len(built) == 2:
            lock.__exit__(None, None, None)

    watch.follow(directory.path, build, pause_s=0.01)
    assert built == [True, True, False]


TOKEN = "a-token-of-the-test"


@pytest.fixture
def running(tmp_path: Path, spec: SweepSpec, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, SweepDirectory]]:
    """The address of a server with a token, and a sweep that runs, with a baseline and a trial of its search."""
    directory = SweepDirectory(tmp_path / "tiny")
    plan = plan_of(spec)
    baseline, searched = plan.baselines[0], plan.searched({"start_rate": 0.7, "sampling_period": 3})[0]
    # Whatever a file of the record says is text.
    searched = replace(searched, of_recipe=(("<script>alert(1)</script>", 1),))
    with directory.locked():
        keep_spec(spec, directory)
        write_record(directory.environment_file, {"teacher": "resnet8", "teacher_accuracy": "0.91"})
        for job in (baseline, searched):
            directory.trial(job.trial_id).begin(job)
        directory.trial(searched.trial_id).append(curve_row(searched, 4, 0.6), [])
        server = watch.server_of(directory.path, 0, TOKEN)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", directory
        server.shutdown()
        thread.join()
        server.server_close()


def asked(address: str, what: str, token: str = TOKEN, host: str | None = None, path: str = "/ask") -> tuple[int, str]:
    """The status and the text of the answer to a button."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=10)
    body = urllib.parse.urlencode({"token": token, "what": what})
    connection.request("POST", path, body, {"Host": host} if host else {})
    try:
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_progress_is_shown_before_there_is_a_report(running: tuple[str, SweepDirectory]) -> None:
    address, directory = running
    for path in ("", "/status", "/progress"):
        page = get(f"{address}{path}")
        assert "teacher resnet8, accuracy 0.9100" in page and "0.6000" in page and "4.00 ref s" in page
        assert "is running this sweep" in page and "No report yet" in page
        assert "<script>alert" not in page and "&lt;script&gt;alert" in page
        assert TOKEN not in page
    # The trial of the search can be stopped, the baseline cannot.
    assert get(f"{address}/progress").count('value="stop ') == 1
    (directory.path / "report.html").write_text("<p>first</p>", encoding="utf-8")
    assert 'href="/status"' in get(address) and 'href="report.html"' in get(f"{address}/status")


def test_the_progress_of_the_teacher_bank_is_shown_while_it_is_filled(running: tuple[str, SweepDirectory]) -> None:
    address, directory = running
    write_record(directory.bank_file, {"num_done": 2_500_000, "num_views": 8_100_000})
    assert "filling the teacher bank: 31% of 8,100,000 views" in get(f"{address}/progress")
    directory.bank_file.unlink()
    assert "teacher bank" not in get(f"{address}/progress")


def test_buttons_change_the_sweep_for_who_has_the_token(running: tuple[str, SweepDirectory]) -> None:
    address, directory = running
    searched = next(f for f in directory.trials() if f.description["method"] == "kdas_search").path.name
    assert asked(address, "pause -")[0] == 200 and read_requests(directory).is_paused
    assert "paused: no trial starts" in get(f"{address}/progress") and 'value="resume -"' in get(f"{address}/progress")
    assert asked(address, "resume -")[0] == 200 and not read_requests(directory).is_paused
    assert asked(address, f"stop - {searched}")[0] == 200 and read_requests(directory).stopped == (searched,)
    assert asked(address, "finish -")[0] == 200 and read_requests(directory).finishes
    assert 'value="finish' not in get(f"{address}/progress")


def test_the_token_is_asked_for_only_beside_buttons(running: tuple[str, SweepDirectory], tmp_path: Path) -> None:
    address, _ = running
    assert "<form id=ask method" in get(f"{address}/status")
    ended = SweepDirectory(tmp_path / "ended")
    ended.path.mkdir()
    assert "<form id=ask hidden method" in progress_page.page(ended.path, "nonce")


def test_a_page_whose_target_is_fixed_waits_for_the_report_only(running: tuple[str, SweepDirectory]) -> None:
    address, directory = running
    assert "The target is fixed once" in get(address)
    write_measure(directory, MEASURE)
    assert "No report yet. It is being built." in get(address) and "once the baseline" not in get(address)


def test_a_finished_sweep_cannot_be_ended(running: tuple[str, SweepDirectory]) -> None:
    address, directory = running
    write_measure(directory, replace(MEASURE, num_ended_trials=10))
    assert asked(address, "finish -") == (409, "tiny has already finished; nothing to end.")
    assert not directory.control_file.exists()


def test_nothing_changes_without_the_token(running: tuple[str, SweepDirectory]) -> None:
    address, directory = running
    assert asked(address, "pause -", token="another")[0] == 403
    assert asked(address, "pause -", token="")[0] == 403
    assert asked(address, "pause -", token="é\n")[0] == 403
    assert asked(address, "pause -", host="evil.example")[0] == 403
    assert asked(address, "pause -", path=f"/ask?token={TOKEN}")[0] == 404
    assert asked(address, "x" * 5000)[0] == 413
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{address}/ask?token={TOKEN}&what=pause")
    assert not directory.control_file.exists()


def test_what_cannot_be_done_is_one_line(running: tuple[str, SweepDirectory]) -> None:
    address, directory = running
    baseline = next(f for f in directory.trials() if f.description["method"] == "plain_kd").path.name
    for what, said in (
        (f"stop - {baseline}", "is of the baseline plain_kd"),
        ("stop - ../../x", "no trial '../../x'"),
        ("stop -", "no trial ''"),
        ("format - ", "cannot 'format'"),
        ("pause elsewhere", "no cell 'elsewhere'"),
        ("", "no cell ''"),
    ):
        status, answer = asked(address, what)
        assert status == 409 and said in answer and "\n" not in answer
    assert not directory.control_file.exists()


def test_a_sweep_that_prepares_says_so(tmp_path: Path, address: str) -> None:
    with SweepDirectory(tmp_path).locked():
        assert "is still preparing data, teacher and prices" in get(address)
