"""Ray as this project uses it: every environment variable of Ray that we set, every private name that we touch.

Import it before Ray: Ray reads the variables when it is imported or started.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sweeps.command import ending
from sweeps.command.options import cluster_address
from sweeps.execution.outage import RayLostError
from sweeps.execution.ray_folder import ray_folder

# No usage statistics, and none of Ray's own logs and tables: the sweep directory holds the results.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
# Ray would keep writing the state of all trials in order to restore them: see `tuning.Unpickled`.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "inf")
# We say ourselves when a sweep ends: `ending.deferred`.
os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
if cluster_address():
    # A driver that joins must present the cluster's token.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
else:
    # Despite its name, this makes Ray's servers listen only on the loopback address, on any system.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    # Ray would kill workers once 95% of the machine's memory are used, whoever uses it. Where memory really runs out,
    # the system ends workers first: Ray asks it to.
    os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
    # A local server that is gone does not come back: its processes end soon, not after a minute.
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", "10")
    # Else Ray keeps a token in the home folder, which a container's user may not have.
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import ray
import ray._private.worker
from ray._private.ray_constants import PROCESS_TYPE_GCS_SERVER, PROCESS_TYPE_RAYLET
from ray._private.ray_logging import global_worker_stdstream_dispatcher
from ray.air.execution._internal import actor_manager
from ray.exceptions import OutOfMemoryError, RayActorError, RayError
from ray.tune.execution import tune_controller

# Ray Tune ends everything when Ray's memory monitor kills a worker, which it takes for no way to lose one.
for _module in (actor_manager, tune_controller):
    vars(_module).update(RayActorError=(RayActorError, OutOfMemoryError))

# How long a cluster's head may not answer: it may be restarted. After a minute Ray would end this process itself.
_LOST_AFTER_S = 30.0
_SERVERS = {PROCESS_TYPE_GCS_SERVER, PROCESS_TYPE_RAYLET}
_LOOKS_EVERY_S = 0.5


@contextmanager
def started(num_cpus: int) -> Iterator[None]:
    """Ray, on this machine with as many CPUs to share out unless a cluster was joined; it ends with the block."""
    try:
        if ray.is_initialized():
            yield
        else:
            with ray_folder() as folder:
                # "local": else it would join whatever Ray somebody else has started here.
                ray.init(
                    address="local",
                    num_cpus=num_cpus,
                    include_dashboard=False,
                    logging_level=logging.ERROR,
                    _temp_dir=str(folder),
                )
                ending.heed_sigterm()  # Ray has set handlers of its own
                yield
    finally:
        ray.shutdown()


def is_of_ray(error: BaseException | None) -> bool:
    """Whether an error that ended Ray Tune has its cause in Ray: a worker or a machine that it lost in a new way."""
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


class Heart:
    """Whether Ray still runs. Without its head Ray's calls block for a minute, and then end this process; without the
    process that starts workers they wait for ever."""

    def __init__(self) -> None:
        host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
        self._head = (host.strip("[]"), int(port))
        self._looked_at = time.monotonic()
        self._silent_since: float | None = None

    def check(self) -> None:
        """Raises: RayLostError: if a server that was started here is gone, or the head does not answer for long."""
        now = time.monotonic()
        if now - self._looked_at < _LOOKS_EVERY_S:
            return
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


def allow_pending(num_trials: int) -> None:
    """Let Ray ask for further trials while some wait for their workers to start."""
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(num_trials)


def keep_chatter(file: Path) -> None:
    """Send what Ray and its workers print to a file, since the sweep itself prints what the user needs to know."""
    said = logging.getLogger("kdas.ray")
    said.propagate = False
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    of_ray = logging.getLogger("ray")
    of_ray.handlers, said.handlers = [handler], [handler]

    def keep(printed: dict[str, Any]) -> None:
        # The autoscaler prints its state again and again.
        for line in printed["lines"] if printed.get("pid") != "autoscaler" else []:
            said.warning("[%s] %s", printed.get("pid"), line)

    # A full disk is no reason for a traceback for each line.
    vars(handler).update(handleError=lambda record: None)
    # Ray has no public place for it. Its own handlers would print all of this between our lines; the second prints the
    # errors of Ray's servers.
    global_worker_stdstream_dispatcher.remove_handler("ray_print_logs")
    global_worker_stdstream_dispatcher.add_handler("ray_print_logs", keep)
    vars(ray._private.worker).update(print_worker_logs=lambda printed, sink, ignore_prefix: keep(printed))


def forget_trial(trial: Any) -> None:
    """Clear what Ray keeps of a trial that has ended.

    Ray keeps the settings and reports of every trial until the sweep has ended, and the driver would keep growing.
    Nothing reads them again.
    """
    for kept in (trial.config, trial.evaluated_params, trial.last_result, trial.run_metadata.metric_analysis):
        kept.clear()
