"""How this project uses Ray Tune: all private names of it that we touch.

Apart from `ray_setup`, since Ray Tune is imported while Ray starts.
"""

from __future__ import annotations

from typing import Any

# Before Ray: sets the environment variables that Ray reads when it is imported.
from sweeps.execution import ray_setup  # isort: skip  # noqa: F401

from ray.air.execution._internal import actor_manager
from ray.exceptions import OutOfMemoryError, RayActorError
from ray.tune.execution import class_cache, tune_controller

from sweeps.command.options import cluster_address

# If Ray's memory monitor kills a worker, Ray Tune ends the run. With this it treats the worker as lost.
for _module in (actor_manager, tune_controller):
    vars(_module).update(RayActorError=(RayActorError, OutOfMemoryError))
if not cluster_address():
    # Tune gives its workers some variables of this process, in an environment of their own. Ray therefore lets the
    # workers lie idle that it starts at once, and starts others, later. On this machine all inherit the variables.
    class_cache.DEFAULT_ENV_VARS.clear()
    class_cache.ENV_VARS_TO_PROPAGATE.clear()


class WarmWorkers:
    """Lets workers of a Ray of our own stay that have no trial for a while, as before a confirmation.

    Ray Tune keeps one of them, and ends the others. Starting one again takes ten seconds. Workers that stay hold their
    resources, so when trials with other resources come, only workers for those stay. On a cluster other sweeps may
    want the resources.

    Args: number: of workers that stay.
    """

    def __init__(self, number: int) -> None:
        self._number, self._resources = number, None

    def serve(self, tune_controller: Any, resources: Any) -> None:
        """A trial with these resources has been added."""
        if resources == self._resources:
            return
        cache = tune_controller._actor_cache
        if self._resources is not None:
            cache.decrease_max(self._resources, self._number)
        cache.increase_max(resources, self._number)
        self._resources = resources
