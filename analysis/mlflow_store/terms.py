"""What a sweep from a store is measured by: target, budget, baseline, and the split that decides."""

from __future__ import annotations

import numpy as np

from analysis.curves import PHASES
from analysis.mlflow_store.evaluations import Evaluations
from analysis.mlflow_store.sources import StoreRuns
from kdas.errors import UserError, nearest
from kdas.records import Measure


def measure_of(
    store: StoreRuns,
    evaluations: Evaluations,
    who: dict[str, list[str]],
    *,
    target: float | None,
    baseline: str | None,
    budget_ref_s: float | None,
) -> Measure:
    """The given values, else those that our tracker recorded at the sweep's parent run."""
    name = who["sweep"][0] if who["sweep"] else ""
    recorded = _recorded(store)
    rule = "given" if target is not None else "recorded by the sweep"
    target = recorded.get("target") if target is None else target
    if target is None:
        raise UserError(f"--target: the store has no target for {name}. Give a fraction, for example --target 0.9.")
    if not 0 < target <= 1:
        raise UserError(f"--target: expected a fraction in (0, 1], got {target:g}. Write 0.95 for 95%.")
    largest = float(np.max(evaluations.columns["cost_ref_s"], initial=0.0))
    if budget_ref_s is None:
        # The recorded budget is in our reference seconds and does not fit another cost.
        budget_ref_s = largest if "cost_ref_s" in store.mapped else recorded.get("tau_ref_s", largest)
    if not budget_ref_s > 0:
        raise UserError(
            f"--tau: expected a number above 0, got {budget_ref_s:g}. Give a trial's budget in the unit of cost_ref_s."
        )
    calibrations = tuple(sorted(set(who["calibration_id"]) - {""}))
    seeds = who["seed"]
    searched = [int(seed) for seed, phase in zip(seeds, who["phase"], strict=True) if phase == PHASES[0]]
    compared_with = _baseline(store, evaluations, who["method"], baseline)
    plain = [method for _, method in _plain(store, evaluations, who["method"])]
    return Measure(
        sweep=name,
        target=target,
        target_rule=rule,
        budget_ref_s=budget_ref_s,
        baseline=compared_with,
        split="test" if _test_decides(store) else "validation",
        calibration_id=calibrations[0] if len(calibrations) == 1 else "",
        data_source=next(filter(None, who["data_source"]), "an MLflow store"),
        seeds=tuple(sorted(set(searched or map(int, seeds)))),
        num_planned_trials=len(evaluations.runs),
        plain_methods=tuple(dict.fromkeys([compared_with, *plain])),
    )


def _recorded(store: StoreRuns) -> dict[str, float]:
    """Target and budget from the latest parent run where our tracker logged them (at the end of a sweep)."""
    parents = [run for run in store.runs if store.is_sweep(run)]
    return {
        name: values[run.uuid]
        for name, values in ((name, store.last.get(f"metrics.{name}", {})) for name in ("target", "tau_ref_s"))
        for run in parents
        if run.uuid in values
    }


def _plain(store: StoreRuns, evaluations: Evaluations, methods: list[str]) -> list[tuple[int, str]]:
    """When each run started that trains on everything, and its method."""
    samplers = store.texts.get("params.sampler.name", {})
    named = zip(evaluations.runs, methods, strict=True)
    return [(run.start_ms, method) for run, method in named if samplers.get(run.uuid) == "full"]


def _baseline(store: StoreRuns, evaluations: Evaluations, methods: list[str], asked: str | None) -> str:
    """The method that others are compared with: the given one, else the first that trains on everything."""
    known = sorted(set(methods))
    if asked is None:
        plain = _plain(store, evaluations, methods)
        if not plain:
            raise UserError(f"--baseline: missing. Name the method to compare with, one of {', '.join(known)}.")
        return min(plain)[1]
    if asked not in known:
        raise UserError(f"--baseline: the store has no method {asked!r}. {nearest(asked, known)}")
    return asked


def _test_decides(store: StoreRuns) -> bool:
    if store.mapped & {"val_accuracy", "test_accuracy"}:
        return store.sources["val_accuracy"] == store.sources["test_accuracy"]
    # In our own trials without a validation split the test split decides.
    return set(store.texts.get("params.validation", {}).values()) in ({"0"}, {"0.0"})
