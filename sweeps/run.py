"""One sweep from its file to its tables."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from rich.console import Console

from kdas.compute import device as devices
from kdas.errors import UserError
from kdas.files.cache import write_text
from kdas.records import Measure, Status
from kdas.teacher import obtain as teachers
from kdas.training.trial import Inputs, Trial, config_id, find_dataset
from sweeps.command.options import cluster_address
from sweeps.engine.agenda import Agenda, Terms
from sweeps.engine.objective import objective_of
from sweeps.engine.plan import num_planned_trials, recipe_of
from sweeps.engine.prices import Prices, prices_for
from sweeps.engine.proposals import ConfigurationSearch
from sweeps.engine.slots import Slots, slots_for
from sweeps.engine.spending import Spending
from sweeps.engine.stopping.rules import rule_for
from sweeps.engine.target import decide_target
from sweeps.execution.progress import Progress
from sweeps.file.spec import SweepSpec
from sweeps.prepare import environment
from sweeps.prepare.forecast import forecast
from sweeps.prepare.inputs import inputs_for, keep_inputs_of, open_bank_for, prepare_bank
from sweeps.prepare.preview import agree, look_ahead
from sweeps.prepare.unchanged import check_spec, spec_text
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import read_measure, write_measure
from sweeps.record.tables import write_tables


def run_sweep(
    spec: SweepSpec, source: Path, directory: SweepDirectory, console: Console, *, is_agreed: bool = False
) -> bool:
    """Train what is missing and write the tables.

    Args: source: the sweep file, named in what is said about it; is_agreed: run also what the estimate says is more
        than the budget.

    Returns: whether every trial has ended; False after Ctrl-C.
    Raises: UserError: before any compute is spent.
    """
    slots, recipe = _slots(spec, source), recipe_of(spec)
    with directory.locked():
        check_spec(spec, directory)
        if cluster_address():
            _check_cluster(spec, directory)
        try:
            teachers.check_checkpoint(spec.teacher, find_dataset(recipe))
            inputs = inputs_for(recipe, directory, console)
        except UserError as error:
            raise UserError(f"{source}: {error}") from error
        prices = prices_for(
            spec,
            inputs,
            directory,
            lambda: console.print("measuring what a step costs on this machine; nothing else should run on it now"),
        )
        if not directory.spec_file.exists():
            tau_ref_s = Trial(recipe, inputs).budget_ref_s(prices.base)
            expected = forecast(spec, inputs, prices, tau_ref_s, slots)
            agree(expected, spec, source, console, is_agreed=is_agreed)
            open_bank_for(spec, inputs, source)
            keep_inputs_of(recipe, inputs, directory)
            # The last of what binds later starts: until it is there, nothing else counts.
            write_text(directory.spec_file, spec_text(spec))
        prices.freeze(directory)
        sweep = _Sweep(spec, inputs, directory, prices, slots, console)
        has_work = not sweep.agenda.is_finished
        if sweep.num_adopted:
            console.print(f"{sweep.num_adopted} trials taken over from other sweeps", highlight=False)
        if has_work or not directory.environment_file.exists():
            write_text(directory.environment_file, json.dumps(environment.describe(spec, inputs), indent=1))
        if has_work:
            write_text(directory.spec_file, spec_text(spec))
            prepare_bank(spec, inputs, source, console)
            _run(sweep, slots, console)
        sweep.spending.keep()
        if sweep.agenda.is_finished:
            _conclude(sweep, source, console)
        write_tables(directory)
        return sweep.agenda.is_finished


def _conclude(sweep: _Sweep, source: Path, console: Console) -> None:
    """Say how the sweep has ended, and fix how many trials it consists of.

    Raises: UserError: if its baseline tells nothing.
    """
    spec, directory = sweep.spec, sweep.directory
    measure = read_measure(directory)
    if measure is not None:
        # Early stopping, budgets and a space that has no more to offer make it fewer than were planned.
        write_measure(directory, replace(measure, num_planned_trials=sum(1 for _ in directory.trials())))
    elif num_crashed(directory):
        console.print(f"{spec.plain_baseline} has crashed, so the target waits for a new start", highlight=False)
    else:
        raise UserError(
            f"{source}: {spec.plain_baseline} has diverged on every seed, so there is no target. Lower"
            " optimizer.learning_rate, or give target as a number, in a file of another name."
        )
    if sweep.agenda.lacks_configurations and sweep.spending.reason:
        console.print(f"the search has ended early: {sweep.spending.reason}", highlight=False)


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
                ahead = look_ahead(cell, source, of_cell, _slots(cell, source), console)
                agree(ahead.forecast, cell, source, console, is_agreed=is_agreed)
        write_text(directory.spec_file, spec_text(spec))
        for number, (name, cell) in enumerate(spec.cells.items(), start=1):
            console.rule(f"{name}, cell {number} of {len(spec.cells)}", align="left")
            is_finished = run_sweep(cell, source, directory.cell(name), console, is_agreed=True)
            if not is_finished:
                break
        write_tables(directory)
        return is_finished


def _slots(spec: SweepSpec, source: Path) -> Slots:
    """Those of this machine, or of the cluster at `RAY_ADDRESS`, which is joined."""
    if cluster_address():
        from sweeps.execution import cluster

        cluster.join()
    try:
        if cluster_address():
            return cluster.slots_of_cluster(spec.device, spec.threads, spec.resources)
        return slots_for(devices.resolve(spec.device), spec.threads, spec.resources)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def _check_cluster(spec: SweepSpec, directory: SweepDirectory) -> None:
    """Raises: UserError: names the first machine that cannot train what this one plans."""
    from sweeps.execution.cluster import check_machines

    paths = [path for path in (spec.dataset.get("path"), spec.teacher.checkpoint) if path]
    check_machines(directory.path, paths, devices.resolve(spec.device))


def num_crashed(directory: SweepDirectory) -> int:
    """Trials that ended with an exception or with their process; of a sweep with cells, in all of them."""
    folders = [folder for each in directory.cells() or [directory] for folder in each.trials()]
    return sum(folder.status is Status.CRASHED for folder in folders)


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
        if measure is not None:
            # Seeds and trials may have been added since.
            measure = self._write(measure.target, measure.target_rule, measure)
        objective = objective_of(spec, self.tau_ref_s)
        terms = Terms(measure, self._fix_measure, lambda fixed: rule_for(spec, fixed), objective)
        search = ConfigurationSearch(directory.study_file, spec)
        self.spending = Spending(spec.budget, slots.share_of_device, directory.spent_file, time.monotonic)
        identify = partial(config_id, inputs=inputs)
        self.agenda = Agenda(spec, identify, directory, search, terms, self.spending, self._adopt)
        self.progress.num_done = sum(folder.is_final for folder in directory.trials())
        self.progress.num_to_come = self.agenda.num_to_come

    def _adopt(self, job: Job) -> bool:
        was_here = self.directory.trial(job.trial_id).is_final
        is_done = self.directory.adopt(job, self.prices.of(job.config))
        self.num_adopted += is_done and not was_here
        return is_done

    def _fix_measure(self, plain: list[Job]) -> Measure | None:
        decided = decide_target(self.spec, self.directory, plain)
        return None if decided is None else self._write(*decided)

    def _write(self, target: float, rule: str, before: Measure | None = None) -> Measure:
        measure = Measure(
            sweep=self.directory.name,
            target=target,
            target_rule=rule,
            tau_ref_s=self.tau_ref_s,
            baseline=self.spec.plain_baseline,
            split="validation" if self.spec.validation else "test",
            calibration_id=self.prices.base.calibration_id,
            data_source=self.inputs.dataset.origin,
            seeds=tuple(self.spec.seeds),
            num_planned_trials=num_planned_trials(self.spec),
            calibration_ids=tuple(each.calibration_id for each in self.prices.calibrations.values()),
            algorithm=self.spec.algorithm.name,
            objective=self.spec.objective.name,
            log_parameters=tuple(each.name for each in self.spec.space.parameters if each.values.log),
            # What was confirmed stays so until another confirmation begins.
            confirm_configs=before.confirm_configs if before else (),
            confirm_seeds=before.confirm_seeds if before else (),
        )
        write_measure(self.directory, measure)
        self.progress.target_is(target, rule)
        return measure


def _run(sweep: _Sweep, slots: Slots, console: Console) -> None:
    """Ray and MLflow come in here and not before: a sweep that is finished needs neither."""
    where = f" on {slots.num_machines} machines" if slots.num_machines > 1 else ""
    console.print(
        f"{slots.trials_at_once} trials at once{where}, {slots.cpus_per_trial} CPU threads each;"
        " starting Ray and its workers",
        highlight=False,
    )
    from sweeps.execution.launch import run_trials
    from sweeps.mlflow_view.tracking import Follower

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
