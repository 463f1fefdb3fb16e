"""One sweep from its file to its tables."""

from __future__ import annotations

import json
import shutil
import time
from functools import partial
from pathlib import Path

from rich.console import Console

from kdas import device as devices
from kdas import teacher as teachers
from kdas.bank.shown import announce, build_with_progress
from kdas.cache import replaced_whole, write_text
from kdas.config import TrialConfig
from kdas.progress import TeacherProgress
from kdas.records import Status, UserError
from kdas.trial import Inputs, Trial, config_id, find_dataset, load_inputs
from sweeps import environment
from sweeps.agenda import Agenda, Terms
from sweeps.budget import Spending
from sweeps.early_stopping import rule_for
from sweeps.forecast import forecast
from sweeps.measure import Measure, decide_target, read_measure, write_measure
from sweeps.names import cluster_address
from sweeps.objective import objective_of
from sweeps.plan import Job, num_planned_trials, recipe_of
from sweeps.preview import agree, look_ahead
from sweeps.prices import Prices, prices_for
from sweeps.progress import Progress
from sweeps.resources import Slots, slots_for
from sweeps.search import ConfigurationSearch
from sweeps.spec import SweepSpec
from sweeps.store import SweepDirectory
from sweeps.tables import write_tables
from sweeps.unchanged import check_inputs, check_spec, spec_text

# The share of all views that a sweep must need before it is quicker to answer for every one of them ahead.
AHEAD_FROM = 0.9


def run_sweep(
    spec: SweepSpec, source: Path, directory: SweepDirectory, console: Console, *, is_agreed: bool = False
) -> bool:
    """Train what is missing and write the tables.

    Args: source: the sweep file, named in what is said about it; is_agreed: run also what the estimate says is more
        than the budget.

    Returns: whether every trial has ended; False after Ctrl-C.
    Raises: UserError: before any compute is spent.
    """
    slots = _slots(spec, source)
    with directory.locked():
        check_spec(spec, directory)
        try:
            teachers.check_checkpoint(spec.teacher, find_dataset(recipe_of(spec)))
            inputs = _inputs(recipe_of(spec), directory, console)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        if cluster_address():
            _check_cluster(spec, inputs, directory)
        prices = prices_for(
            spec,
            inputs,
            directory,
            lambda: console.print("measuring what a step costs on this machine, while nothing else runs"),
        )
        prices.freeze(directory)
        sweep = _Sweep(spec, inputs, directory, prices, slots, console)
        is_finished = sweep.agenda.is_finished
        if not (is_finished and directory.spec_file.exists()):
            if not directory.spec_file.exists():
                expected = forecast(spec, inputs, prices, sweep.tau_ref_s, slots)
                agree(expected, spec, source, console, is_agreed=is_agreed)
            write_text(directory.spec_file, spec_text(spec))
            write_text(directory.environment_file, json.dumps(environment.describe(spec, inputs), indent=1))
        if sweep.num_adopted:
            console.print(f"{sweep.num_adopted} trials taken over from other sweeps", highlight=False)
        if not is_finished:
            _prepare_bank(spec, inputs, source, console)
            _run(sweep, slots, console)
        write_tables(directory)
        sweep.spending.keep()
        if sweep.spending.reason:
            console.print(f"the search has ended early: {sweep.spending.reason}", highlight=False)
        return sweep.agenda.is_finished


def run_cells(
    spec: SweepSpec, source: Path, directory: SweepDirectory, console: Console, *, is_agreed: bool = False
) -> bool:
    """Run the sweep of each cell, one after another, and write the tables of all of them.

    Returns, raises: as `run_sweep` does, which is asked for each cell.
    """
    with directory.locked():
        check_spec(spec, directory)
        for name, cell in spec.cells.items():
            of_cell = directory.cell(name)
            check_spec(cell, of_cell)
            if not of_cell.spec_file.exists():  # asked before hours of another cell are spent
                console.rule(name, align="left")
                agree(look_ahead(cell, source, of_cell, console).forecast, cell, source, console, is_agreed=is_agreed)
        write_text(directory.spec_file, spec_text(spec))
        for number, (name, cell) in enumerate(spec.cells.items(), start=1):
            console.rule(f"{name}, cell {number} of {len(spec.cells)}", align="left")
            if not run_sweep(cell, source, directory.cell(name), console, is_agreed=True):
                return False
        write_tables(directory)
        return True


def num_crashed(directory: SweepDirectory) -> int:
    """Trials that ended with an exception or with their process; of a sweep with cells, in all of them."""
    folders = [folder for each in directory.cells() or [directory] for folder in each.trials()]
    return sum(folder.status is Status.CRASHED for folder in folders)


def _slots(spec: SweepSpec, source: Path) -> Slots:
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


def _check_cluster(spec: SweepSpec, inputs: Inputs, directory: SweepDirectory) -> None:
    from sweeps.cluster import check_machines

    paths = [path for path in (spec.dataset.get("path"), spec.teacher.checkpoint) if path]
    check_machines(directory.path, paths, inputs.device)


class _Sweep:
    """A sweep's agenda, with the progress that shows it and the measure that it fixes."""

    def __init__(
        self,
        spec: SweepSpec,
        inputs: Inputs,
        directory: SweepDirectory,
        prices: Prices,
        slots: Slots,
        console: Console,
    ) -> None:
        self.spec, self.inputs, self.directory, self.prices = spec, inputs, directory, prices
        self.num_adopted = 0
        self.tau_ref_s = Trial(recipe_of(spec), inputs).budget_ref_s(prices.base)
        self.progress = Progress(
            directory.name, num_planned_trials(spec), self.tau_ref_s, slots.trials_at_once, console
        )
        measure = read_measure(directory)
        objective = objective_of(spec, self.tau_ref_s)
        terms = Terms(measure, self._fix_measure, lambda fixed: rule_for(spec, fixed), objective)
        search = ConfigurationSearch(directory.study_file, spec)
        self.spending = Spending(spec.budget, slots.share_of_device, directory.spent_file, time.monotonic)
        identify = partial(config_id, inputs=inputs)
        self.agenda = Agenda(spec, identify, directory, search, terms, self.spending, self._adopt)
        self.progress.num_done = sum(folder.is_final for folder in directory.trials())
        self.progress.num_to_come = self.agenda.num_to_come
        if measure is not None:
            # Seeds and trials may have been added since.
            self._write(measure.target, measure.target_rule)

    def _adopt(self, job: Job) -> bool:
        was_here = self.directory.trial(job.trial_id).is_final
        is_done = self.directory.adopt(job, self.prices.of(job.config))
        self.num_adopted += is_done and not was_here
        return is_done

    def _fix_measure(self, plain: list[Job]) -> Measure:
        return self._write(*decide_target(self.spec, self.directory, plain))

    def _write(self, target: float, rule: str) -> Measure:
        measure = Measure(
            sweep=self.directory.name,
            target=target,
            target_rule=rule,
            tau_ref_s=self.tau_ref_s,
            baseline=self.spec.plain_baseline,
            split="validation" if self.spec.validation else "test",
            calibration_id=self.prices.base.calibration_id,
            data_source=self.inputs.dataset.origin,
            seeds=self.spec.seeds,
            num_planned_trials=num_planned_trials(self.spec),
        )
        write_measure(self.directory, measure)
        self.progress.target_is(target, rule)
        return measure


def _prepare_bank(spec: SweepSpec, inputs: Inputs, source: Path, console: Console) -> None:
    """Open the teacher bank; where the sweep needs most of it, fill it before the first trial.

    One batch after another while nothing else runs is the quickest way. Where less is needed, trials fill in what they
    meet. Raises: UserError: if the disk has no room for the bank.
    """
    try:
        bank = inputs.bank(recipe_of(spec), check=True)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error
    if bank is None:
        return
    announce(bank, console)
    num_views = bank.store.shape.num_views
    # Plain distillation shows every image in every epoch, and seeds draw independently of each other.
    needed = 1 - (1 - 1 / num_views) ** (spec.epochs * len(spec.seeds))
    if needed >= AHEAD_FROM:
        build_with_progress(bank, console)


def _run(sweep: _Sweep, slots: Slots, console: Console) -> None:
    """Ray and MLflow come in here and not before: a sweep that is finished needs neither."""
    where = f" on {slots.num_machines} machines" if slots.num_machines > 1 else ""
    console.print(
        f"{slots.trials_at_once} trials at once{where}, {slots.cpus_per_trial} CPU threads each;"
        " starting Ray and its workers",
        highlight=False,
    )
    from sweeps.launch import run_trials
    from sweeps.tracking import Follower

    follower = Follower(sweep.directory)
    follower.start()
    try:
        with sweep.progress:
            retries = sweep.spec.faults.retries
            run_trials(sweep.agenda, sweep.directory, sweep.prices, sweep.tau_ref_s, slots, retries, sweep.progress)
    finally:
        follower.stop(sweep.agenda.is_finished)
    if follower.failure:
        console.print(f"MLflow could not be kept up to date ({follower.failure}); nothing of the sweep is lost")


def _inputs(recipe: TrialConfig, directory: SweepDirectory, console: Console) -> Inputs:
    """Data and teacher. The sweep keeps its teacher's weights, so that an emptied cache costs no other teacher."""
    kept = teachers.teacher_path(recipe.teacher, find_dataset(recipe), recipe.validation)
    if directory.teacher_file.exists() and not kept.exists() and not recipe.teacher.checkpoint:
        with replaced_whole(kept) as temporary:
            shutil.copyfile(directory.teacher_file, temporary)
    inputs = load_inputs(recipe, TeacherProgress(console))
    check_inputs(directory, inputs, recipe)
    if not directory.teacher_file.exists() and not recipe.teacher.checkpoint:
        with replaced_whole(directory.teacher_file) as temporary:
            shutil.copyfile(inputs.teacher.path, temporary)
    return inputs
