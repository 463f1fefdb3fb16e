"""How this project uses Ray: all environment variables of Ray that we set, and all private names that we touch.

Only `tune_setup`, for Ray Tune, and `probe`, a process of its own, touch some more.

Import this module before Ray, which reads the variables when it is imported or started.
"""

from __future__ import annotations

import logging
import logging.handlers
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from sweeps.command import ending
from sweeps.command.options import cluster_address
from sweeps.execution import worker_start
from sweeps.execution.outage import RayLostError
from sweeps.execution.ray_folder import ray_folder

# No usage statistics, and no logs or tables by Ray: the sweep directory holds the results.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
# Ray would keep writing the state of all trials in order to restore them: see `tuning.Unpickled`.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "inf")
# We handle Ctrl-C ourselves: see `ending.deferred`.
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
if cluster_address():
    # A driver that joins must present the cluster's token.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
else:
    # Despite its name, this makes Ray's servers listen only on the loopback address, on any system.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    # Ray would kill workers once 95% of the machine's memory is used, by whichever program. If memory really runs out,
    # the system kills workers first, because Ray marks them.
    os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
    # A local server that has died does not return, so its processes end after 10 seconds instead of a minute.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
    # Workers load what they train with while Tune is still getting ready.
    os.environ.setdefault("RAY_preload_python_modules", "sweeps.execution.actor")
    # Ray ends workers that were idle for a second, while Tune is still getting ready, and then starts others.
    os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", "600000")
    # Otherwise Ray stores a token in the home folder, which a container's user may lack.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import ray
import ray._private.node
import ray._private.services
import ray._private.worker
import ray._raylet
from ray._private import ray_constants
from ray._private.ray_constants import PROCESS_TYPE_GCS_SERVER, PROCESS_TYPE_RAYLET
from ray._private.ray_logging import global_worker_stdstream_dispatcher
from ray.exceptions import RayError


def _not_needed(node: Any, **options: Any) -> None:
    """In place of a server of Ray."""


# Where `ray.init` starts a Ray of our own, nobody asks its dashboard, and there are no machines to start or end. Both
# servers import Ray, and `ray.init` waits for the first.
for _server in ("start_api_server", "start_monitor"):
    setattr(ray._private.node.Node, _server, _not_needed)
# Ray joins it to a folder of its own, which an absolute path replaces.
vars(ray_constants).update(SETUP_WORKER_FILENAME=str(Path(worker_start.__file__).resolve()))

# How long a cluster's head may be silent, since it may be restarting. After a minute Ray would end this process.
_LOST_AFTER_S = 30.0
# How long a Ray of our own may take to start. Ray then looks a last time itself.
_UP_WITHIN_S = 30.0


class MachinesReplacedError(RayError):
    """All machines of a cluster are gone, and others have come. Ray would wait for the former for ever."""


class SilentWorkerError(RayError):
    """Ray has not ended a worker that reported nothing, although it was told to."""


_SERVERS = {PROCESS_TYPE_GCS_SERVER, PROCESS_TYPE_RAYLET}
_LOOKS_EVERY_S = 0.5
# What Ray says before the sweep has a file for it.
_held = logging.handlers.MemoryHandler(capacity=10_000, flushLevel=logging.CRITICAL + 1)


_node_of = ray._private.services.get_node
# Between two looks whether the process that starts workers is up. Ray looks once a second.
_IS_UP_EVERY_S = 0.02


@contextmanager
def _used_wait(prepare: Callable[[], object]) -> Iterator[None]:
    """Within the block, prepare something while Ray waits for the processes that it has started."""

    def once_up(gcs_address: str, node_id: str) -> Any:
        prepare()
        head: Any = vars(ray._raylet)["GcsClient"](address=gcs_address)
        until = time.monotonic() + _UP_WITHIN_S
        while time.monotonic() < until and node_id not in {each.hex() for each in head.get_all_node_info()}:
            time.sleep(_IS_UP_EVERY_S)
        return _node_of(gcs_address, node_id)  # type: ignore[no-untyped-call]

    vars(ray._private.services).update(get_node=once_up)
    try:
        yield
    finally:
        vars(ray._private.services).update(get_node=_node_of)


@contextmanager
def started(num_cpus: int, meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Run Ray until the block ends: on this machine with `num_cpus` CPUs, or on the cluster that was joined.

    Args: meanwhile: called while a Ray of our own starts, which takes two seconds.
    Raises: RayLostError: if it does not start, as on a machine so busy that its servers do not answer for 30 seconds.
    """
    with ExitStack() as until_end:
        if ray.is_initialized():
            until_end.callback(ray.shutdown)
        else:
            # Ray ends before its folder is removed: it writes there while it shuts down.
            folder = until_end.enter_context(ray_folder())
            until_end.callback(ray.shutdown)
            # "local": otherwise it would join any Ray that already runs on this machine.
            try:
                with _used_wait(meanwhile):
                    ray.init(
                        address="local",
                        num_cpus=num_cpus,
                        include_dashboard=False,
                        logging_level=logging.ERROR,
                        _temp_dir=str(folder),
                    )
            except Exception as error:  # Ray raises this very class
                reason = str(error).partition("\n")[0].rstrip(".")
                raise RayLostError(f"it did not start: {reason}") from error
            ending.heed_requests()  # Ray has set handlers of its own
        # In case Ray has dropped a KeyboardInterrupt while it started.
        ending.check()
        yield


def is_of_ray(error: BaseException | None) -> bool:
    """Whether an error that ended Ray Tune was caused by Ray, for example by a machine that it lost."""
    while error is not None:
        if isinstance(error, RayError):
            return True
        error = error.__cause__ or error.__context__
    return False


def was_ended_by_memory_monitor(trial: Any) -> bool:
    """Whether the worker of one of Ray's trials was ended because its machine was short of memory."""
    # Ray keeps only the text of this error. Its `get_error` looks in the storage, where it comes later or never.
    with suppress(OSError):
        return bool(trial.error_file) and "running low on memory" in Path(trial.error_file).read_text(encoding="utf-8")
    return False


def end_worker(trial: Any) -> None:
    """Kill the worker of one of Ray's trials, which Ray then reports as lost."""
    if (actor := trial.temporary_state.ray_actor) is not None:
        ray.kill(actor)


class Heart:
    """Checks that Ray still runs.

    Without its head, Ray's calls block for a minute and then end this process. Without the process that starts workers
    (the raylet), they block for ever.
    """

    def __init__(self) -> None:
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._head = (host.strip("[]"), int(port))
        self._looked_at = time.monotonic()
        self._silent_since: float | None = None

    def check(self) -> bool:
        """Whether the head answers. Without it most calls of Ray would block.

        Raises: RayLostError: if a server that we started has died, or the head has been silent for 30 seconds.
        """
        now = time.monotonic()
        if now - self._looked_at < _LOOKS_EVERY_S:
            return self._silent_since is None
        self._looked_at = now
        node: Any = ray._private.worker._global_node
        for name, _ in node.dead_processes():
            if name in _SERVERS:
                raise RayLostError(f"its {name} was killed")
        try:
            socket.create_connection(self._head, timeout=2).close()
            self._silent_since = None
        except OSError as error:
            self._silent_since = self._silent_since or now
            if now - self._silent_since >= _LOST_AFTER_S:
                raise RayLostError(f"{self._head[0]}:{self._head[1]} no longer answers") from error
        return self._silent_since is None


def allow_pending(num_trials: int) -> None:
    """Let Ray ask for more trials while up to `num_trials` wait for their workers to start."""
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(num_trials)


def hold_chatter() -> None:
    """Hold the output of Ray and its workers back until `keep_chatter` names a file for it."""
    _divert_chatter(_held)


def keep_chatter(file: Path) -> None:
    """Redirect the output of Ray and its workers to a file. The sweep itself prints what users need to know."""
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    # Otherwise a full disk would cause a traceback for each line.
    vars(handler).update(handleError=lambda record: None)
    _divert_chatter(handler)
    _held.setTarget(handler)
    _held.flush()


def _divert_chatter(handler: logging.Handler) -> None:
    said, of_ray = logging.getLogger("kdas.ray"), logging.getLogger("ray")
    said.propagate = False
    of_ray.handlers, said.handlers = [handler], [handler]

    def keep(printed: dict[str, Any]) -> None:
        # Except the autoscaler's: it prints its state repeatedly.
        for line in printed["lines"] if printed.get("pid") != "autoscaler" else []:
            said.warning("[%s] %s", printed.get("pid"), line)

    # Ray has no public interface for this. Its own handlers would print between our lines; `print_worker_logs` prints
    # the errors of Ray's servers.
    global_worker_stdstream_dispatcher.remove_handler("ray_print_logs")
    global_worker_stdstream_dispatcher.add_handler("ray_print_logs", keep)
    vars(ray._private.worker).update(print_worker_logs=lambda printed, sink, ignore_prefix: keep(printed))


def forget_trial(trial: Any) -> None:
    """Clear what Ray stores of a trial that has ended.

    Ray stores the settings and reports of every trial until the sweep ends, although nothing reads them again. So the
    driver's memory would keep growing.
    """
    for kept in (trial.config, trial.evaluated_params, trial.last_result, trial.run_metadata.metric_analysis):
        kept.clear()
