"""Runs a sweep, from its file to its tables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from kdas.command.teacher import tell_quality
from kdas.errors import UserError
from kdas.files.cache import check_cache
from kdas.files.full import going_without
from kdas.records import Measure
from kdas.teacher import obtain as teachers
from kdas.training.trial import Inputs, Trial, config_id, find_dataset
from sweeps.command.options import cluster_address
from sweeps.engine.agenda import Agenda, Terms
from sweeps.engine.objective import objective_of
from sweeps.engine.plan import Plan
from sweeps.engine.prices import Prices
from sweeps.engine.proposals import ConfigurationSearch
from sweeps.engine.restored import restore_search
from sweeps.engine.slots import Slots
from sweeps.engine.spending import Spending
from sweeps.engine.target import decide_target
from sweeps.execution.machines import members_of_cluster, slots_of
from sweeps.execution.outage import RayLostError
from sweeps.execution.progress import Progress
from sweeps.execution.requested import Listener
from sweeps.file.methods import Search
from sweeps.file.spec import SweepSpec
from sweeps.prepare import environment
from sweeps.prepare.forecast import forecast
from sweeps.prepare.inputs import inputs_for, keep_inputs_of, open_bank_for, prepare_bank, prices_of
from sweeps.prepare.own_copies import references_of, with_own_copies
from sweeps.prepare.own_parts import check_own_parts_of
from sweeps.prepare.packing import with_packing
from sweeps.prepare.preview import agree, look_ahead
from sweeps.prepare.resolved import cost_shares_of, plan_of, rule_of
from sweeps.prepare.unchanged import check_spec, keep_spec
from sweeps.prepare.warm_start import told
from sweeps.record.control import end_pause, keep_added
from sweeps.record.directory import SweepDirectory
from sweeps.record.job import Job
from sweeps.record.measure import known_measure, read_measure, write_measure
from sweeps.record.overhead import known_overhead
from sweeps.record.status import num_crashed
from sweeps.record.students import place_students
from sweeps.record.tables import write_tables

if TYPE_CHECKING:
    from sweeps.execution.cluster import Members


def run_sweep(
    spec: SweepSpec,
    source: Path,
    directory: SweepDirectory,
    console: Console,
    *,
    is_agreed: bool = False,
    added: Sequence[Mapping[str, Any]] = (),
) -> bool:
    """Train what is missing and write the tables.

    Args: source: the sweep file, named in messages; is_agreed: run even if the estimate exceeds the budget;
        added: those of the known points that later starts must add to the file.
    Returns: whether every trial has ended; False after Ctrl-C.
    Raises: UserError: before any compute is spent.
    """
    check_cache()
    slots = slots_of(spec.methods.recipe, spec.resources, source)
    with directory.locked():
        is_wider = check_spec(spec, directory)
        if spec.resources.trials_per_gpu == "auto":
            slots = _packed_slots(spec, source, directory, console)
        _begin_requests(spec, directory, added, console)
        sweep = _begun(with_own_copies(spec, directory), source, directory, slots, console, is_agreed=is_agreed)
        agenda, recipes = sweep.agenda, sweep.plan.methods.recipes
        sweep.listener.look()
        if is_wider:  # before anything is proposed that the recorded file does not contain
            keep_spec(spec, directory)
        has_work = agenda.fill()
        if sweep.num_adopted:
            console.print(f"{sweep.num_adopted} trials reused from other sweeps", highlight=False)
        if has_work or not environment.is_kept(directory):
            environment.keep(directory, recipes[0], sweep.inputs, sweep.prices, recipes[1:])
        if has_work:
            keep_spec(spec, directory)
            for recipe in recipes:
                prepare_bank(recipe, len(spec.seeds), sweep.inputs, source, directory, console)
        began = time.monotonic()
        with _tables_of(directory):
            if has_work:
                _train(sweep, spec.faults.retries, slots, console)
            with going_without(directory.spent_file):
                sweep.spending.keep()
            if agenda.is_finished:
                _conclude(sweep, source, console)
        if agenda.is_finished:
            sweep.progress.keep_overhead(began)
        return agenda.is_finished


def _packed_slots(spec: SweepSpec, source: Path, directory: SweepDirectory, console: Console) -> Slots:
    """The slots with as many trials on each GPU as is fastest. Measures it, unless the cache has it."""
    resources = with_packing(with_own_copies(spec, directory), source, console)
    return slots_of(spec.methods.recipe, resources, source)


def _begin_requests(
    spec: SweepSpec, directory: SweepDirectory, added: Sequence[Mapping[str, Any]], console: Console
) -> None:
    """Forget a pause, and record the known points that a user has added."""
    if end_pause(directory):
        console.print("The process that was paused has ended, and the pause with it.", highlight=False)
    if added:  # before the sweep is recorded with them: its file alone would contradict that
        keep_added(directory, added, spec.num_configurations)


@contextmanager
def _tables_of(directory: SweepDirectory) -> Iterator[None]:
    """Write the tables when the block ends, also by the loss of Ray."""
    try:
        yield
    except RayLostError:
        _write_tables(directory)
        raise
    _write_tables(directory)


def _write_tables(directory: SweepDirectory) -> None:
    # Whatever ended the sweep is told, not that tables, which are made again any time, found no room.
    with going_without(directory.path / "curves.parquet"):
        write_tables(directory)


def _begun(
    spec: SweepSpec, source: Path, directory: SweepDirectory, slots: Slots, console: Console, *, is_agreed: bool
) -> _Sweep:
    """The sweep with data, teacher and prices. The first start records what later starts must match.

    Raises: UserError: for a mistake that only data, teacher or machine reveal, or if the user rejects the estimate.
    """
    recipes = spec.methods.recipes
    recipe = recipes[0]
    check_own_parts_of(spec, source)
    tell = partial(console.print, highlight=False, soft_wrap=True)
    members = members_of_cluster(spec.methods, directory, slots, tell) if cluster_address() else None
    try:
        for each in recipes:
            teachers.check_checkpoint(each.teacher, find_dataset(recipe))
        inputs = inputs_for(recipe, directory, console, recipes[1:], references_of(spec))
    except UserError as error:
        raise error.of(source) from error
    if not directory.spec_file.exists():
        for each in recipes:
            tell_quality(each, inputs.of(each), console)
    plan = plan_of(spec, partial(config_id, inputs=inputs))
    prices = prices_of(plan, inputs, directory, console)
    budget_ref_s = Trial(recipe, inputs).budget_ref_s(prices.base)
    if not directory.spec_file.exists():
        shares, overhead = cost_shares_of(spec.scheduler), known_overhead()
        expected = forecast(plan, inputs, prices, budget_ref_s, slots, shares, spec.keep_students, overhead)
        agree(expected, spec.budget, source, console, is_agreed=is_agreed)
        for each in recipes:
            open_bank_for(each, inputs, source)
        keep_inputs_of(recipe, inputs, directory, recipes[1:], references_of(spec))
        if warm := told(spec.warm_start.taken):
            tell(f"{warm}.")
        # Written last: until this file exists, the sweep counts as not started.
        keep_spec(spec, directory)
    prices.freeze(directory)
    return _Sweep(spec, plan, inputs, directory, prices, budget_ref_s, slots, console, members)


def _conclude(sweep: _Sweep, source: Path, console: Console) -> None:
    """Print how the sweep ended, and record the final number of its trials.

    Raises: UserError: if the baseline diverged on every seed.
    """
    plain, directory = sweep.plan.methods.plain, sweep.directory
    measure = read_measure(directory)
    if measure is not None:
        # Fewer than planned after early stopping, a spent budget or an exhausted space.
        have_ended = [folder.is_final for folder in directory.trials()]
        num_ended, untried = sum(have_ended), tuple(sweep.agenda.untried_methods)
        write_measure(
            directory,
            replace(measure, num_planned_trials=len(have_ended), num_ended_trials=num_ended, untried=untried),
        )
    elif num_crashed(directory):
        console.print(f"{plain} crashed, so no target is set yet. Run the sweep again to retry.", highlight=False)
    else:
        raise UserError(
            f"{source}: {plain} diverged on every seed, so no target can be set. In a file with another name,"
            " lower optimizer.learning_rate or set target to a number."
        )
    if sweep.agenda.keeps_students:
        intact = (folder for folder in directory.trials() if folder.damage() is None)
        placed = place_students(directory, sweep.agenda.trials_with_students(intact))
        console.print(f"{len(placed)} students in {directory.students}", highlight=False, soft_wrap=True)
    if sweep.agenda.lacks_configurations and sweep.spending.reason:
        console.print(f"The search ended early: {sweep.spending.reason}", highlight=False)
    elif num_untried := sweep.agenda.num_untried:
        console.print(
            f"{num_untried} of known_points not tried: {sweep.plan.num_configurations} configurations were searched"
            " before. Raise budget.configurations.",
            highlight=False,
            soft_wrap=True,
        )
    if ending := sweep.agenda.confirmation_ending:
        console.print(ending, highlight=False, soft_wrap=True)


def run_cells(
    spec: SweepSpec, source: Path, directory: SweepDirectory, console: Console, *, is_agreed: bool = False
) -> bool:
    """Run the sweep of each cell, one after another, and write their common tables.

    Returns, raises: as `run_sweep`, which runs each cell.
    """
    with directory.locked():
        check_spec(spec, directory)
        for name, cell in spec.cells.items():
            of_cell = directory.cell(name)
            check_spec(cell, of_cell)
            if not of_cell.spec_file.exists():  # ask before hours are spent on another cell
                console.rule(name, align="left")
                slots_of(cell.methods.recipe, cell.resources, source)  # first: it refuses before anything is measured
                slots = _packed_slots(cell, source, of_cell, console)
                ahead = look_ahead(cell, source, of_cell, slots, console)
                agree(ahead.forecast, cell.budget, source, console, is_agreed=is_agreed)
        keep_spec(spec, directory)
        with _tables_of(directory):
            for number, (name, cell) in enumerate(spec.cells.items(), start=1):
                console.rule(f"{name}, cell {number} of {len(spec.cells)}", align="left")
                is_finished = run_sweep(cell, source, directory.cell(name), console, is_agreed=True)
                if not is_finished:
                    break
        return is_finished


class _Sweep:
    """A sweep's agenda, with its progress display and the measure that it fixes."""

    def __init__(
        self,
        spec: SweepSpec,
        plan: Plan,
        inputs: Inputs,
        directory: SweepDirectory,
        prices: Prices,
        budget_ref_s: float,
        slots: Slots,
        console: Console,
        members: Members | None,
    ) -> None:
        self.members = members
        self.plan, self.inputs, self.directory = plan, inputs, directory
        self.prices, self.budget_ref_s = prices, budget_ref_s
        self._target, self._algorithm, self._objective = spec.target, spec.algorithm, spec.objective
        self._keeps_students, self.num_adopted = spec.keep_students != "none", 0
        self.progress = Progress(directory.name, plan.num_trials, budget_ref_s, slots.trials_at_once, console)
        measure = known_measure(directory)
        if measure is not None:
            # Seeds and trials may have been added since.
            measure = self._write(measure.target, measure.target_rule, measure)
        objective = objective_of(spec.objective, budget_ref_s)
        self._terms = Terms(measure, self._fix_measure, partial(rule_of, spec), objective)
        self.spending = Spending(
            spec.budget, slots.share_of_device, directory.spent_file, time.monotonic, self._trained_s
        )
        self.agenda = Agenda(
            plan, directory, self._search_for, self._terms, self.spending, self._adopt, spec.keep_students
        )
        self.listener = Listener(self.agenda, directory, plan.num_configurations, self.progress.say)

    def count_trials(self) -> None:
        """Set what the progress display begins with. Call it once the agenda has found its jobs."""
        ended = (folder.path.name for folder in self.directory.trials() if folder.is_final)
        self.progress.done = {trial_id for trial_id in ended if not self.agenda.expects(trial_id)}
        self.progress.num_to_come = self.agenda.num_to_come

    def _search_for(self, search: Search) -> ConfigurationSearch:
        restore_search(self.directory, search.name)
        journal, directions = self.directory.study_file_of(search.name), self._terms.objective.directions
        return ConfigurationSearch(journal, search.space, self._algorithm, directions)

    def _trained_s(self) -> float:
        rows = [folder.rows() for folder in self.directory.trials() if folder.damage() is None]
        return sum(each[-1].row.wall_s for each in rows if each)

    def _adopt(self, job: Job) -> bool:
        was_here = self.directory.trial(job.trial_id).is_final
        is_done = self.directory.adopt(job, self.prices.of(job.config), keeps_student=self._keeps_students)
        self.num_adopted += is_done and not was_here
        if is_done:
            self.progress.done.add(job.trial_id)
        return is_done

    def _fix_measure(self, plain: Sequence[Job]) -> Measure | None:
        decided = decide_target(self._target, self.directory, plain, self._split)
        return None if decided is None else self._write(*decided)

    @property
    def _split(self) -> Literal["validation", "test"]:
        """The split that decides."""
        return "validation" if self.plan.methods.recipe.validation else "test"

    def _write(self, target: float, rule: str, before: Measure | None = None) -> Measure:
        measure = Measure(
            sweep=self.directory.name,
            target=target,
            target_rule=rule,
            budget_ref_s=self.budget_ref_s,
            baseline=self.plan.methods.plain,
            split=self._split,
            calibration_id=self.prices.base.calibration_id,
            data_source=self.inputs.dataset.origin,
            seeds=tuple(self.plan.seeds),
            num_planned_trials=self.plan.num_trials,
            calibration_ids=tuple(each.calibration_id for each in self.prices.calibrations.values()),
            algorithm=self._algorithm.name,
            objective=self._objective.name,
            log_parameters=self.plan.methods.log_parameters,
            plain_methods=self.plan.methods.plain_methods,
            # Keeps the previous confirmation until another one begins.
            confirm_configs=before.confirm_configs if before else (),
            confirm_seeds=before.confirm_seeds if before else (),
            confirm_level=before.confirm_level if before else Measure.confirm_level,
            last_look=before.last_look if before else 0,
        )
        write_measure(self.directory, measure)
        self.progress.target_is(target, rule)
        return measure


def _train(sweep: _Sweep, retries: int, slots: Slots, console: Console) -> None:
    """Train what is missing. Imports Ray and the trackers only here, since a finished sweep needs neither."""
    where = f" on {slots.num_machines} machines" if slots.num_machines > 1 else ""
    console.print(
        f"{slots.trials_at_once} trials at once{where}, {slots.cpus_per_trial} CPU threads each; starting Ray",
        highlight=False,
    )
    from sweeps.execution.launch import run_trials
    from sweeps.tracking.follower import followed

    sweep.count_trials()
    tell = partial(console.print, soft_wrap=True)
    progress = sweep.progress
    with followed(sweep.directory, lambda: sweep.agenda.is_finished, tell, lambda: progress.trains), progress:
        run_trials(
            sweep.agenda,
            sweep.directory,
            sweep.prices,
            sweep.budget_ref_s,
            sweep.budget_ref_s / sweep.plan.methods.recipe.evaluations,
            slots,
            retries,
            progress,
            sweep.listener.look,
            sweep.members,
        )
