"""Ray as this project uses it: every environment variable that it reads, and every private name of Ray that we touch.

Import it before Ray: Ray reads the variables when it is imported or started.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from sweeps.command.options import cluster_address

# Nothing is sent anywhere, and Ray's own tables stay silent: the sweep directory holds the results.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
# Ray would write down the state of all trials again and again, to restore from it: see `launch.Unpickled`.
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "inf")
if cluster_address():
    # A driver that joins shows the cluster's token.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
else:
    # Despite its name this is what makes Ray's servers listen on the loopback address alone, on any system.
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")

import ray
from ray._private.ray_logging import global_worker_stdstream_dispatcher


def start(num_cpus: int) -> None:
    """Start Ray on this machine, with as many CPUs to share out."""
    ray.init(num_cpus=num_cpus, include_dashboard=False, logging_level=logging.ERROR)


def allow_pending(num_trials: int) -> None:
    """Let Ray ask for further trials while some wait for their worker to start."""
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(num_trials)


def keep_chatter(file: Path) -> None:
    """What Ray and its workers print goes to a file: a sweep's own lines say what there is to know and to do."""
    said = logging.getLogger("kdas.ray")
    said.propagate = False
    handler = logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    of_ray = logging.getLogger("ray")
    of_ray.handlers, said.handlers = [handler], [handler]

    def keep(printed: dict[str, Any]) -> None:
        for line in printed["lines"] if printed.get("pid") != "autoscaler" else []:  # it would tell its state for ever
            said.warning("[%s] %s", printed.get("pid"), line)

    # Ray has no public place for it. Its own handler would print all of this between our lines.
    global_worker_stdstream_dispatcher.remove_handler("ray_print_logs")
    global_worker_stdstream_dispatcher.add_handler("ray_print_logs", keep)


def forget_trial(trial: Any) -> None:
    """Clear what Ray keeps of a trial that has ended.

    It keeps every trial until the sweep has ended, with its settings and all it has reported, and the driver would grow
    by the hour. Nobody asks for them again.
    """
    for kept in (trial.config, trial.evaluated_params, trial.last_result, trial.run_metadata.metric_analysis):
        kept.clear()
