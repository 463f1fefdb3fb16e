"""Turns a sweep file into what the engine works on: its plan, its stopping rule, and what that rule saves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdas.records import Measure
from sweeps.engine.plan import Identify, Plan, identity
from sweeps.file.spec import SweepSpec
from sweeps.stopping import STOPPING_RULES, StoppingContext, StoppingRule


def plan_of(spec: SweepSpec, identify: Identify = identity) -> Plan:
    """The trials of a sweep."""
    return Plan(spec.methods, tuple(spec.seeds), spec.num_configurations, spec.confirm, identify)


def rule_of(spec: SweepSpec, measure: Measure, *, confirms: bool | None = None) -> StoppingRule:
    """The stopping rule that the file names, set up for the sweep's measure.

    Args: confirms: whether the search is confirmed; None: as the file says.
    """
    context = StoppingContext(
        target=measure.target,
        budget_ref_s=measure.budget_ref_s,
        interval_ref_s=measure.budget_ref_s / spec.evaluations,
        keep=spec.confirm.top if spec.confirm else 1,
        confirms=bool(spec.confirm) if confirms is None else confirms,
    )
    return STOPPING_RULES.build(spec.scheduler, context)


def cost_shares_of(scheduler: Mapping[str, Any]) -> tuple[float, float, float]:
    """The share of the search's cost that is still spent under a stopping rule: at least, probably, at most."""
    shares: tuple[float, float, float] = STOPPING_RULES[scheduler["name"]].build.cost_shares  # type: ignore[attr-defined]
    return shares
