"""Ray as this project uses it: every environment variable of Ray that we set, every private name that we touch.

Import it before Ray: Ray reads the variables when it is imported or started.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from sweeps.command.options import cluster_address

# No usage statistics, and none of Ray's own logs and tables: the sweep directory holds the results.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
# Ray would keep writing the state of all trials in order to restore them: see `launch.Unpickled`.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "inf")
if cluster_address():
    # A driver that joins must present the cluster's token.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
else:
    # Despite its name, this makes Ray's servers listen only on the loopback address, on any system.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import ray
from ray._private.ray_logging import global_worker_stdstream_dispatcher


def start(num_cpus: int) -> None:
    """Start Ray on this machine, with this many CPUs for trials."""
    ray.init(num_cpus=num_cpus, include_dashboard=False, logging_level=logging.ERROR)


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

    # Ray has no public interface for this. Its own handler would print everything between our lines.
    global_worker_stdstream_dispatcher.remove_handler("ray_print_logs")
    global_worker_stdstream_dispatcher.add_handler("ray_print_logs", keep)


def forget_trial(trial: Any) -> None:
    """Clear what Ray keeps of a trial that has ended.

    Ray keeps the settings and reports of every trial until the sweep has ended, and the driver would keep growing.
    Nothing reads them again.
    """
    for kept in (trial.config, trial.evaluated_params, trial.last_result, trial.run_metadata.metric_analysis):
        kept.clear()
