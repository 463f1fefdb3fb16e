"""The parts of a user's own that a sweep begins with are tried before data are read or anything is computed."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from kdas.errors import UserError
from kdas.training.own_parts import check_own_parts
from sweeps.file.spec import SweepSpec
from sweeps.prepare.forecast import DRAWN, drawn_configs
from sweeps.prepare.resolved import plan_of
from sweeps.stopping import STOPPING_RULES, StoppingContext


def check_own_parts_of(spec: SweepSpec, source: Path) -> None:
    """Try samplers, losses and the stopping rule, where they come from plug-ins.

    Raises: UserError: a line for each part that fails, with the sweep file, the part's file and the cause.
    """
    plan = plan_of(spec)
    # Seeds differ in nothing that a part could fail at.
    baselines = {job.config_id: job.config for job in plan.baselines}
    attempts = [partial(check_own_parts, config) for config in (*baselines.values(), *drawn_configs(plan, DRAWN))]
    told: list[str] = []
    for attempt in (*attempts, partial(_try_rule, spec)):
        try:
            attempt()
        except UserError as error:
            told += error.of(source).args
    if told:
        raise UserError(*dict.fromkeys(told))


def _try_rule(spec: SweepSpec) -> None:
    if STOPPING_RULES[spec.scheduler["name"]].is_own:
        made_up = StoppingContext(target=0.5, budget_ref_s=1.0, interval_ref_s=1 / spec.evaluations, keep=1)
        STOPPING_RULES.build(spec.scheduler, made_up)
