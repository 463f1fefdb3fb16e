"""The machines that a sweep runs on: this one, or those of a cluster. Imports Ray only for a cluster."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from kdas.compute import device as devices
from kdas.errors import UserError
from kdas.recipe.config import TrialConfig
from kdas.samplers import SamplerNeed, network_of
from sweeps.command.options import cluster_address
from sweeps.engine.slots import Slots, slots_for
from sweeps.execution.node_report import Needs, code_here
from sweeps.execution.ray_folder import parent_of_ray_folder
from sweeps.file.blocks import ResourcesConfig
from sweeps.file.methods import Methods
from sweeps.record.directory import SweepDirectory

if TYPE_CHECKING:
    from sweeps.execution.cluster import Members


def slots_of(recipe: TrialConfig, resources: ResourcesConfig, source: Path) -> Slots:
    """The slots of this machine, or of the cluster at `RAY_ADDRESS`, which this joins.

    Raises: UserError: if a trial does not fit, or the cluster does not answer.
    """
    if cluster_address():
        from sweeps.execution import cluster

        cluster.join()
    else:
        parent_of_ray_folder()
    try:
        if cluster_address():
            return cluster.slots_of_cluster(recipe.device, recipe.threads, resources)
        return slots_for(devices.resolve(recipe.device), recipe.threads, resources)
    except UserError as error:
        raise error.of(source) from error


def members_of_cluster(
    methods: Methods, directory: SweepDirectory, slots: Slots, tell: Callable[[str], None]
) -> Members:
    """The machines of the cluster, each of which has looked at itself. The caller holds the sweep's lock.

    Raises: UserError: if a machine cannot train what this one plans; names the first one.
    """
    from sweeps.execution.cluster import Members

    return Members(_needs(methods, directory), slots, tell)


def _needs(methods: Methods, directory: SweepDirectory) -> Needs:
    recipe = methods.recipe
    contents = [baseline.content for baseline in methods.baselines.values()]
    contents += [search.content for search in methods.searches]
    references = {network_of(content["sampler"], SamplerNeed.REFERENCE_LOGITS) for content in contents}
    of_teacher = [member.checkpoint for each in methods.recipes for member in each.teacher.members]
    named = (recipe.dataset.get("path"), *of_teacher, recipe.student_checkpoint, *sorted(references))
    paths = tuple(path for path in named if path)
    device = devices.resolve(recipe.device)
    return Needs(str(directory.path), str(directory.lock_file), paths, device, code_here())
