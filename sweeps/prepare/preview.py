"""The estimate in words: printed by `make preview`, and accepted by the user if it exceeds the budget."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from kdas.command.bank_progress import readable_size
from kdas.command.progress import readable_s
from kdas.compute import device as devices
from kdas.errors import UserError
from kdas.files.cache import check_cache
from kdas.recipe.teacher import TeacherConfig, key_of
from kdas.teacher import obtain as teachers
from kdas.training.trial import Trial, find_dataset, load_inputs, untrained_inputs
from sweeps.engine.plan import Plan
from sweeps.engine.slots import Slots, slots_for
from sweeps.file.blocks import BudgetConfig, ResourcesConfig
from sweeps.file.spec import SweepSpec
from sweeps.prepare.forecast import SECONDS_PER_HOUR, Estimate, Forecast, first_jobs, forecast
from sweeps.prepare.inputs import prices_of
from sweeps.prepare.own_copies import with_own_copies
from sweeps.prepare.own_parts import check_own_parts_of
from sweeps.prepare.packing import with_packing
from sweeps.prepare.resolved import cost_shares_of, plan_of
from sweeps.prepare.warm_start import told
from sweeps.record.directory import SweepDirectory
from sweeps.record.overhead import known_overhead

SHOWN_TRIALS = 12


@dataclass(frozen=True)
class Preview:
    """The estimate of a sweep.

    `budget_ref_s`: reference seconds that each trial may spend; `new_teachers`: those that must be trained.
    """

    forecast: Forecast
    budget_ref_s: float
    new_teachers: tuple[TeacherConfig, ...]


def look_ahead(spec: SweepSpec, source: Path, directory: SweepDirectory, slots: Slots, console: Console) -> Preview:
    """Estimate a sweep. Prices are measured if this machine has none; nothing else is spent.

    Raises: UserError: for a mistake that only the data or this machine reveals.
    """
    check_cache()
    spec = with_own_copies(spec, directory)
    check_own_parts_of(spec, source)
    plan = plan_of(spec)
    recipe, others = plan.methods.recipe, plan.methods.others
    try:
        dataset = find_dataset(recipe)
        for each in plan.methods.recipes:
            teachers.check_checkpoint(each.teacher, dataset)
        networks = {key_of(network): network for each in plan.methods.recipes for network in each.teacher.members}
        new = tuple(each for each in networks.values() if not teachers.is_kept(each, dataset, spec.validation))
        inputs = untrained_inputs(recipe, others) if new else load_inputs(recipe, others=others)
    except UserError as error:
        raise error.of(source) from error
    prices = prices_of(plan, inputs, directory, console)
    budget_ref_s = Trial(recipe, inputs).budget_ref_s(prices.base)
    shares, overhead = cost_shares_of(spec.scheduler), known_overhead()
    expected = forecast(plan, inputs, prices, budget_ref_s, slots, shares, spec.keep_students, overhead)
    return Preview(expected, budget_ref_s, new)


def preview_sweep(spec: SweepSpec, source: Path, directory: SweepDirectory, console: Console) -> None:
    """Print what a sweep will do and cost. Raises: UserError: as `look_ahead` does."""
    slots = _slots_of(spec, source, spec.resources)
    if spec.resources.trials_per_gpu == "auto":
        slots = _slots_of(spec, source, with_packing(with_own_copies(spec, directory), source, console))
    ahead = look_ahead(spec, source, directory, slots, console)
    for teacher in ahead.new_teachers:
        console.print(f"The teacher, {teacher.model}, is trained first, for {teacher.epochs} epochs.")
    if warm := told(spec.warm_start.taken):
        console.print(f"{warm}.", highlight=False, soft_wrap=True)
    print_first_trials(plan_of(spec), console)
    console.print(
        f"Each trial may spend {ahead.budget_ref_s:.1f} reference seconds; {slots.trials_at_once} run at once.",
        highlight=False,
    )
    print_forecast(ahead.forecast, console)


def _slots_of(spec: SweepSpec, source: Path, resources: ResourcesConfig) -> Slots:
    try:
        return slots_for(devices.resolve(spec.device), spec.threads, resources)
    except UserError as error:
        raise error.of(source) from error


def print_forecast(expected: Forecast, console: Console) -> None:
    """Print counts, times with their ranges, disk and memory."""
    added = expected.num_added_trials

    def at_least(number: int) -> str:
        return f"{number} to {number + added}" if added else f"{number}"

    console.print(
        f"{at_least(expected.num_trials)} trials: {expected.num_baseline_trials} of baselines,"
        f" {expected.num_searched_trials} searched, {at_least(expected.num_confirming_trials)} to confirm",
        highlight=False,
    )
    console.print(
        f"about {_in_words(expected.wall_s)} of wall time, {_in_words(expected.device_s)} of device time",
        highlight=False,
        soft_wrap=True,
    )
    if not expected.has_overhead:
        console.print(
            "Ray's start and end, the report and MLflow come on top; the first sweep that ends measures them.",
            highlight=False,
            soft_wrap=True,
        )
    console.print(
        f"up to {readable_size(expected.disk_bytes)} of disk besides data, teacher and bank;"
        f" about {readable_size(expected.memory_bytes)} of memory",
        highlight=False,
    )


def print_first_trials(plan: Plan, console: Console) -> None:
    """Print the first trials in order; later proposals depend on results."""
    jobs = first_jobs(plan)
    table = Table("first trials", "settings", "seed", box=None, padding=(0, 2, 0, 0))
    for job in jobs[:SHOWN_TRIALS]:
        table.add_row(job.method, job.configuration, str(job.config.seed))
    console.print(table)


def agree(expected: Forecast, budget: BudgetConfig, source: Path, console: Console, *, is_agreed: bool) -> None:
    """Show the estimate. If it exceeds the budget, ask on a terminal and refuse elsewhere.

    Raises: UserError: if the user does not accept it.
    """
    print_forecast(expected, console)
    for name, hours, estimate in (
        ("wall_hours", budget.wall_hours, expected.wall_s),
        ("device_hours", budget.device_hours, expected.device_s),
    ):
        if hours is None or estimate.middle <= hours * SECONDS_PER_HOUR or is_agreed:
            continue
        question = f"{source}: budget.{name}: {hours:g} h, but the estimate is about {_in_words(estimate)}"
        if not sys.stdin.isatty():
            raise UserError(
                f"{question}. Search less, raise the budget, or set YES=1 to end the search when it is used up."
            )
        console.print(f"{question}. The search would end when the budget is used up.", highlight=False, soft_wrap=True)
        if console.input("Run it? [y/N] ").strip().lower() not in ("y", "yes"):
            raise UserError(f"{source}: not run.")


def _in_words(seconds: Estimate) -> str:
    return f"{readable_s(seconds.middle)} ({readable_s(seconds.low)} to {readable_s(seconds.high)})"
