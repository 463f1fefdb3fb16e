"""What we ask of Ray, and of its private names."""

from __future__ import annotations

import logging
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray
from ray._private import ray_constants
from ray._private.node import Node
from ray._private.ray_logging import global_worker_stdstream_dispatcher
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.air.execution._internal.tracked_actor import TrackedActor
from ray.air.execution._internal.tracked_actor_task import TrackedActorTask
from ray.exceptions import OutOfMemoryError, RaySystemError
from ray.runtime_env import RuntimeEnv
from ray.tune.execution.class_cache import _ActorClassCache

from sweeps.command import ending
from sweeps.execution import ray_setup, tune_setup, worker_start  # noqa: F401
from sweeps.execution.outage import RayLostError


def test_a_worker_that_the_memory_monitor_kills_is_a_lost_worker_to_ray_tune() -> None:
    heard: list[object] = []
    actor = TrackedActor(1, on_error=lambda actor, error: heard.append(error))
    task = TrackedActorTask(actor, on_error=lambda actor, error: heard.append(error))
    error = OutOfMemoryError("killed")
    manager = RayActorManager(resource_manager=SimpleNamespace(free_resources=lambda **resources: None))
    manager._live_actors_to_ray_actors_resources[actor] = (SimpleNamespace(), SimpleNamespace())
    manager._actor_task_failed(task, error)
    assert heard == [error, error]
    assert manager.is_actor_failed(actor)


def test_the_memory_monitor_is_off_in_a_ray_of_our_own() -> None:
    assert dict(os.environ)["RAY_memory_monitor_refresh_ms"] == "0"


def test_a_ray_of_our_own_starts_no_server_that_a_sweep_does_not_need() -> None:
    node = object.__new__(Node)
    node.all_processes = {}
    node.start_api_server(include_dashboard=False, raise_on_failure=False)
    node.start_monitor()
    assert node.all_processes == {}


def test_ray_starts_its_workers_by_our_script() -> None:
    of_ray = Path(ray._private.node.__file__).parent / "workers" / ray_constants.SETUP_WORKER_FILENAME
    assert of_ray == Path(worker_start.__file__)


def test_trials_run_in_workers_that_ray_starts_at_once() -> None:
    """Tune would ask for workers with variables of their own, and Ray start those only then."""
    asked = vars(_ActorClassCache().get(SimpleNamespace))["_default_options"]["runtime_env"]
    assert RuntimeEnv(**(asked or {})).serialize() == "{}"


def test_workers_that_ray_starts_at_once_wait_for_their_trials() -> None:
    """Ray would end those that are idle for a second, while Tune is still getting ready, and start others."""
    assert int(dict(os.environ)["RAY_idle_worker_killing_time_threshold_ms"]) >= 60_000
    assert "torch" not in dict(os.environ)["RAY_preload_python_modules"], "its compiler is never needed"


def test_errors_of_ray_are_told_from_ours() -> None:
    ours = RuntimeError("Caught unexpected exception")
    assert not ray_setup.is_of_ray(ours)
    ours.__cause__ = RaySystemError("the raylet died")
    assert ray_setup.is_of_ray(ours)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(ray_setup.time, "monotonic", lambda: clock.now)
    return clock


def heart_of(monkeypatch: pytest.MonkeyPatch, address: str, *dead: str) -> ray_setup.Heart:
    monkeypatch.setattr(ray, "get_runtime_context", lambda: SimpleNamespace(gcs_address=address))
    node = SimpleNamespace(dead_processes=lambda: [(name, None) for name in dead])
    monkeypatch.setattr(ray._private.worker, "_global_node", node)
    return ray_setup.Heart()


def test_a_head_that_no_longer_answers_ends_the_run(monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        heart = heart_of(monkeypatch, address)
        clock.now = 100.0  # this process was busy
        heart.check()
    clock.now = 200.0
    heart.check()  # one silence alone says nothing
    clock.now = 229.0
    heart.check()
    clock.now = 231.0
    with pytest.raises(RayLostError, match=f"{address} no longer answers"):
        heart.check()


def test_a_server_of_our_own_that_is_gone_ends_the_run_at_once(
    monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    heart = heart_of(monkeypatch, "127.0.0.1:1", "log_monitor", "raylet")
    clock.now = 1.0
    with pytest.raises(RayLostError, match="its raylet was killed"):
        heart.check()


def test_rays_folder_stays_until_ray_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise Ray, while it shuts down, writes its folder again, and that stays in the temporary folder."""
    folders: list[Path] = []
    was_there: list[bool] = []
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda *, _temp_dir, **_: folders.append(Path(_temp_dir)))
    monkeypatch.setattr(ray, "shutdown", lambda: was_there.append(folders[0].is_dir()))
    monkeypatch.setattr(ray_setup.ending, "heed_requests", lambda: None)
    with ray_setup.started(num_cpus=1):
        assert folders[0].is_dir()
    assert was_there == [True]
    assert not folders[0].exists()


def test_a_ray_that_does_not_start_is_told_as_one_that_is_lost(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def init(**options: object) -> None:
        raise Exception("The current node timed out during startup.\nMore.")  # as Ray does on a busy machine

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    said = r"^it did not start: The current node timed out during startup$"
    with pytest.raises(RayLostError, match=said), ray_setup.started(1):
        pass
    assert not list(tmp_path.iterdir())


def test_ctrl_c_that_ray_drops_while_it_starts_is_heard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    happened: list[str] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def init(**options: object) -> None:
        with suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        happened.append("started")

    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(ending, "_requests", ending._Requests())
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: happened.append("ended"))
    try:
        ending.heed_requests()
        with pytest.raises(KeyboardInterrupt), ray_setup.started(1):
            happened.append("ran")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert happened == ["started", "ended"]


def test_what_a_cluster_says_while_it_is_joined_goes_to_the_file_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ray's errors arrive from the moment of joining, before a sweep has a file for them."""
    monkeypatch.setattr(ray._private.worker, "print_worker_logs", ray._private.worker.print_worker_logs)
    said = logging.getLogger("kdas.ray"), logging.getLogger("ray")
    before = [logger.handlers for logger in said]
    printed = {"lines": ["no metrics"], "pid": "raylet", "is_err": False}
    try:
        ray_setup.hold_chatter()
        ray._private.worker.print_to_stdstream(printed, ignore_prefix=False)
        assert not list(tmp_path.iterdir())
        ray_setup.keep_chatter(tmp_path / "ray.log")
        ray._private.worker.print_to_stdstream({**printed, "lines": ["gone"]}, ignore_prefix=False)
        said[0].handlers[0].close()
    finally:
        for logger, handlers in zip(said, before, strict=True):
            logger.handlers = handlers
        global_worker_stdstream_dispatcher.remove_handler("ray_print_logs")
    lines = (tmp_path / "ray.log").read_text().splitlines()
    assert [line.partition("[")[2] for line in lines] == ["raylet] no metrics", "raylet] gone"]
    assert capfd.readouterr() == ("", "")


def test_what_comes_next_is_prepared_while_ray_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    known = [[], [SimpleNamespace(hex=lambda: "other")], [SimpleNamespace(hex=lambda: "ours")]]

    def init(**_: object) -> None:
        done.append(ray._private.services.get_node("127.0.0.1:1", "ours"))

    def look() -> list[SimpleNamespace]:
        done.append("look")
        return known[len(done) - 2]

    monkeypatch.setattr(ray._private.services, "get_node", ray._private.services.get_node)  # undone at the end
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray_setup.ending, "heed_requests", lambda: None)
    monkeypatch.setattr(ray_setup, "_node_of", lambda address, node_id: f"{node_id} at {address}")
    monkeypatch.setitem(vars(ray._raylet), "GcsClient", lambda *, address: SimpleNamespace(get_all_node_info=look))
    with ray_setup.started(1, lambda: done.append("prepared")):
        assert done == ["prepared", "look", "look", "look", "ours at 127.0.0.1:1"]
    assert ray._private.services.get_node is ray_setup._node_of, "Ray's own again"
