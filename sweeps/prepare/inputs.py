"""What a sweep needs before its first trial: data, the teacher and its bank."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from kdas.clock import Calibration
from kdas.command.bank_progress import announce, build_with_progress
from kdas.command.progress import TeacherProgress, readable_s
from kdas.errors import UserError
from kdas.files import checkpoint
from kdas.files.full import going_without
from kdas.files.record import write_record
from kdas.recipe.config import TrialConfig
from kdas.recipe.teacher import TeacherConfig, key_of
from kdas.teacher.bank import TeacherBank
from kdas.training.calibrate import calibration_for
from kdas.training.trial import Inputs, load_inputs
from sweeps.engine.plan import Plan
from sweeps.engine.prices import Prices, price_key, priced_variants, prices_for
from sweeps.prepare.neighbours import other_sweeps
from sweeps.prepare.own_copies import keep_own_copies
from sweeps.prepare.unchanged import check_inputs, keep_inputs
from sweeps.record.directory import SweepDirectory

# If a sweep needs at least this fraction of all views, filling the bank in advance is faster.
AHEAD_FROM = 0.9


def inputs_for(
    recipe: TrialConfig,
    directory: SweepDirectory,
    console: Console,
    others: Sequence[TrialConfig] = (),
    references: Sequence[str] = (),
) -> Inputs:
    """Data and teachers. A sweep that has begun takes its own copy of a teacher that it trained: the cache may be
    emptied meanwhile, or hold one that was trained again elsewhere.

    Args: recipe: with the sweep's own copies of given weights that are gone; others: trials with the other teachers of
        methods, with copies likewise; references: of samplers, likewise.
    """
    has_begun = directory.has_begun

    def own(teacher: TeacherConfig) -> TeacherConfig:
        copy = directory.teacher_file_of(teacher.model_dump(mode="json"))
        is_taken = has_begun and not teacher.checkpoint and checkpoint.is_intact(copy)
        return teacher.model_copy(update={"checkpoint": str(copy.absolute())}) if is_taken else teacher

    def with_own(config: TrialConfig) -> TrialConfig:
        teacher = config.teacher.with_members([own(member) for member in config.teacher.members])
        return config.model_copy(update={"teacher": teacher})

    of_methods = {key_of(each.teacher): with_own(each) for each in others}
    inputs = load_inputs(with_own(recipe), TeacherProgress(console), of_methods)
    if has_begun:
        check_inputs(directory, inputs, recipe, references)
        keep_own_copies([recipe, *others], inputs, directory, references, replaces=False)
    return inputs


def keep_inputs_of(
    recipe: TrialConfig,
    inputs: Inputs,
    directory: SweepDirectory,
    others: Sequence[TrialConfig] = (),
    references: Sequence[str] = (),
) -> None:
    """Record what later starts must match, and the weights that were given. Args: as in `inputs_for`."""
    keep_inputs(directory, inputs, recipe, references)
    keep_own_copies([recipe, *others], inputs, directory, references, replaces=True)


def prices_of(
    plan: Plan,
    inputs: Inputs,
    directory: SweepDirectory,
    console: Console,
    measured: Callable[..., Calibration] = calibration_for,
) -> Prices:
    """The prices of a sweep. Args: measured: `calibration_for`, or `measured_calibration` to ignore the cache."""
    keys = [price_key(each) for each in priced_variants(plan.methods)]
    took_s: list[float] = []

    def with_place(config: TrialConfig, of_trial: Inputs) -> Calibration:
        place, began, lines = keys.index(price_key(config)), time.monotonic(), 0

        def tell(line: str) -> None:
            nonlocal lines
            lines += 1
            left = f", {readable_s((len(keys) - place) * statistics.fmean(took_s))} left" if took_s else ""
            where = "" if len(keys) == 1 or lines > 1 else f" ({place + 1} of {len(keys)} sets of prices{left})"
            console.print(line + where, highlight=False, soft_wrap=True)

        found = measured(config, of_trial, tell=tell, neighbours=other_sweeps)
        if lines:  # otherwise they were known
            took_s.append(time.monotonic() - began)
        return found

    return prices_for(plan.methods, inputs, directory, with_place)


def open_bank_for(recipe: TrialConfig, inputs: Inputs, source: Path) -> TeacherBank | None:
    """The bank of a recipe's teacher; None if it runs live. Raises: UserError: if the disk has no room for it."""
    try:
        return inputs.of(recipe).bank(recipe, check=True)
    except UserError as error:
        raise error.of(source) from error


def prepare_bank(
    recipe: TrialConfig, num_seeds: int, inputs: Inputs, source: Path, directory: SweepDirectory, console: Console
) -> None:
    """Open the teacher bank, and fill it before the first trial if the sweep needs most of it.

    Filling is fastest in one go, while nothing else runs. Otherwise trials fill the bank as they train. Meanwhile
    `bank.json` tells how much is done.

    Raises: UserError: if the disk has no room for the bank.
    """
    bank = open_bank_for(recipe, inputs, source)
    if bank is None:
        return
    announce(bank, console)
    num_views = bank.store.shape.num_views
    # Plain distillation shows every image in every epoch, and seeds draw independently of each other.
    needed = 1 - (1 - 1 / num_views) ** (recipe.epochs * num_seeds)
    if needed >= AHEAD_FROM:
        total, told = bank.num_images * num_views, -1

        def tell(num_done: int) -> None:
            nonlocal told
            if (percent := 100 * num_done // total) > told:
                told = percent
                with going_without(directory.bank_file):
                    write_record(directory.bank_file, {"num_done": num_done, "num_views": total})

        try:
            build_with_progress(bank, console, tell)
        finally:
            directory.bank_file.unlink(missing_ok=True)
