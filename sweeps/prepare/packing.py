"""`resources.trials_per_gpu: auto`: measured before the first trial, or read from the cache."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rich.console import Console

from kdas.compute import device as devices
from kdas.errors import UserError
from kdas.files.cache import check_cache
from kdas.training.packing import packing_for
from kdas.training.trial import find_dataset
from sweeps.file.blocks import ResourcesConfig
from sweeps.file.spec import SweepSpec
from sweeps.prepare.neighbours import other_sweeps
from sweeps.prepare.own_parts import check_own_parts_of


def with_packing(spec: SweepSpec, source: Path, console: Console) -> ResourcesConfig:
    """The resources of a sweep, with a number in place of `trials_per_gpu: auto` where trials run on CUDA.

    Raises: UserError: for a mistake that only the data, the user's own parts or this machine reveal.
    """
    resources, recipe = spec.resources, spec.methods.recipe
    try:
        if resources.trials_per_gpu != "auto" or devices.resolve(recipe.device) != "cuda":
            return resources
        check_cache()
        dataset = find_dataset(recipe)
    except UserError as error:
        raise error.of(source) from error
    check_own_parts_of(spec, source)
    tell = partial(console.print, highlight=False, soft_wrap=True)
    found = packing_for(recipe, dataset, tell, other_sweeps)
    return resources.model_copy(update={"trials_per_gpu": found.trials_per_gpu})
