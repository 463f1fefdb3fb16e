"""What a sweep needs before its first trial: slots, machines, data and teacher, the bank."""

from __future__ import annotations

import shutil
from pathlib import Path

from rich.console import Console

from kdas import device as devices
from kdas import teacher as teachers
from kdas.bank import TeacherBank
from kdas.bank.shown import announce, build_with_progress
from kdas.cache import replaced_whole
from kdas.config import TrialConfig
from kdas.progress import TeacherProgress
from kdas.records import UserError
from kdas.trial import Inputs, find_dataset, load_inputs
from sweeps.names import cluster_address
from sweeps.plan import recipe_of
from sweeps.resources import Slots, slots_for
from sweeps.spec import SweepSpec
from sweeps.store import SweepDirectory
from sweeps.unchanged import check_inputs, keep_inputs

# The share of all views that a sweep must need before it is quicker to answer for every one of them ahead.
AHEAD_FROM = 0.9


def slots_of(spec: SweepSpec, source: Path) -> Slots:
    """Those of this machine, or of the cluster at `RAY_ADDRESS`, which is joined."""
    if cluster_address():
        from sweeps import cluster

        cluster.join()
    try:
        if cluster_address():
            return cluster.slots_of_cluster(spec.device, spec.threads, spec.resources)
        return slots_for(devices.resolve(spec.device), spec.threads, spec.resources)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def check_cluster(spec: SweepSpec, directory: SweepDirectory) -> None:
    """Raises: UserError: names the first machine that cannot train what this one plans."""
    from sweeps.cluster import check_machines

    paths = [path for path in (spec.dataset.get("path"), spec.teacher.checkpoint) if path]
    check_machines(directory.path, paths, devices.resolve(spec.device))


def inputs_for(recipe: TrialConfig, directory: SweepDirectory, console: Console) -> Inputs:
    """Data and teacher. The sweep keeps its teacher's weights, so that an emptied cache costs no other teacher."""
    has_begun = directory.spec_file.exists()
    kept = teachers.teacher_path(recipe.teacher, find_dataset(recipe), recipe.validation)
    if has_begun and directory.teacher_file.exists() and not kept.exists() and not recipe.teacher.checkpoint:
        with replaced_whole(kept) as temporary:
            shutil.copyfile(directory.teacher_file, temporary)
    inputs = load_inputs(recipe, TeacherProgress(console))
    if has_begun:
        check_inputs(directory, inputs, recipe)
    return inputs


def keep_inputs_of(recipe: TrialConfig, inputs: Inputs, directory: SweepDirectory) -> None:
    """Write down what later starts are compared with, and the weights of a teacher that was trained here."""
    keep_inputs(directory, inputs, recipe)
    if not recipe.teacher.checkpoint:
        with replaced_whole(directory.teacher_file) as temporary:
            shutil.copyfile(inputs.teacher.path, temporary)


def open_bank_for(spec: SweepSpec, inputs: Inputs, source: Path) -> TeacherBank | None:
    """The sweep's bank, None where its teacher runs live. Raises: UserError: if the disk has no room for it."""
    try:
        return inputs.bank(recipe_of(spec), check=True)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def prepare_bank(spec: SweepSpec, inputs: Inputs, source: Path, console: Console) -> None:
    """Open the teacher bank; where the sweep needs most of it, fill it before the first trial.

    One batch after another while nothing else runs is the quickest way. Where less is needed, trials fill in what they
    meet. Raises: UserError: if the disk has no room for the bank.
    """
    bank = open_bank_for(spec, inputs, source)
    if bank is None:
        return
    announce(bank, console)
    num_views = bank.store.shape.num_views
    # Plain distillation shows every image in every epoch, and seeds draw independently of each other.
    needed = 1 - (1 - 1 / num_views) ** (spec.epochs * len(spec.seeds))
    if needed >= AHEAD_FROM:
        build_with_progress(bank, console)
