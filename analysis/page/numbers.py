"""How each number of a report is computed, in words, with the function that computes it."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.statistics.compare import MAX_ENUMERATED_PAIRS, NUM_RESAMPLES
from analysis.statistics.interval import LEVEL
from analysis.statistics.verdict import POWER
from kdas.records import Measure


@dataclass(frozen=True)
class Number:
    """`name` of a number, `how` it is computed, and the `function` of this package that computes it, "" for none."""

    name: str
    how: str
    function: str = ""


def numbers(measure: Measure) -> list[Number]:
    """The numbers of a report on one sweep, in the order of the report."""
    base = measure.baseline
    return [
        Number(
            "Reference seconds",
            "Counted work times its calibrated price (the median time that it takes alone on the device). "
            "Augmentation, scoring, selection, training and every teacher forward that the method needs are charged; "
            "evaluation, logging and checkpoints are not.",
        ),
        Number(
            "Time to accuracy, T",
            f"Cost of the first evaluation whose {measure.split} accuracy is at least the target. A miss "
            "counts as infinite and is shown as “> budget”; a trial that ended early reads “> its last cost”.",
            "analysis.time_to_accuracy.time_to_accuracy",
        ),
        Number(
            "tau, L, U",
            "tau is the budget. A trial that reached the target has L = U = min(T, tau). One that used up its budget "
            "or diverged has L = U = tau. One that crashed, was stopped or still runs has L = its last cost and U = "
            "tau. Rows are ordered by mean U.",
            "analysis.statistics.censoring.bounds",
        ),
        Number(
            "Ratio",
            "Sum of min(T, tau) of the fastest plain setting divided by that of the configuration, over the shared "
            f"seeds. Plain settings train on every sample; {base} has the full schedule. If L and U differ, the ratio "
            "is computed twice: in the worst case for the configuration, and in the best case.",
            "analysis.statistics.interval.ratio_of_sums",
        ),
        Number(
            "Its interval",
            f"{1 - LEVEL:.0%} for all comparisons of a phase together: each is read at {LEVEL:g} divided by their "
            f"number{_looks(measure)}. Over seeds it is Fieller’s: the ratios that a paired t-test does not reject. It "
            "is widened by the evaluation grid (each curve may have crossed the target anywhere in the gap before its "
            "hit) and by the spread of the prices over rounds of measurement, adding in squares on the logarithmic "
            "scale.",
            "analysis.statistics.interval.joint_interval",
        ),
        Number(
            "The verdict",
            "A setting is called faster than plain distillation if its interval against every plain setting lies above "
            "1, and fastest if its interval against every other setting does. It is called slower than the fastest "
            "plain setting at a level that is as many times stricter as there are plain settings, since the fastest of "
            "several looks too fast.",
            "analysis.statistics.verdict.decide",
        ),
        Number(
            "What these seeds show",
            f"The speed-up that is claimed in {POWER:.0%} of sweeps: from the noncentral t distribution, the pooled "
            "spread over seeds and the widths of grid and prices, as if all plain settings were equally fast.",
            "analysis.statistics.verdict.detectable_ratio",
        ),
        Number(
            "Bootstrap interval",
            f"Percentile, over seeds, of one comparison alone: all resamples up to {MAX_ENUMERATED_PAIRS} pairs, else "
            f"{NUM_RESAMPLES:,}.",
            "analysis.statistics.compare.bootstrap_interval",
        ),
        Number(
            "Reached",
            "The share of seeds that reach the target, with its own exact (Clopper-Pearson) 95% interval.",
            "analysis.statistics.binomial.share_interval",
        ),
        Number(
            "Geometric mean",
            "Of the pairs’ ratios, with a t-interval on their logarithms, if all trials of both reached the target.",
            "analysis.statistics.compare.geometric_mean",
        ),
        Number(
            "p",
            "The level at which the interval just excludes 1, scaled such that it is 0.05 where the interval is read: "
            "times the number of comparisons. So p is below 0.05 exactly where the interval excludes 1.",
            "analysis.statistics.interval.least_level",
        ),
        Number(
            "Share at the target",
            "Kaplan-Meier over seeds; not for configurations with a trial that was stopped because of its accuracy.",
            "analysis.statistics.survival.kaplan_meier",
        ),
        Number(
            "Best so far, expected best",
            "A configuration counts once its last seed has ended, at its mean U and the total cost so far. The "
            "expected best is over tries drawn without replacement.",
            "analysis.findings.anytime.anytime_curve",
        ),
        Number(
            "Importance",
            "PED-ANOVA on the mean T, a miss counting as ten budgets, for configurations drawn at random; ranks from "
            "resampled configurations.",
            "analysis.findings.importance.importance",
        ),
        Number(
            "Front",
            "Mean best accuracy against the mean cost to it. Inclusion is the share of resampled sets of seeds in "
            "which no other configuration beats this one.",
            "analysis.findings.pareto.pareto_front",
        ),
    ]


def _looks(measure: Measure) -> str:
    """How strict a confirmation is whose number of seeds depends on its results, "" for others."""
    if measure.confirm_level >= LEVEL:
        return ""
    return f" (in the confirmation, which looked more than once, at {measure.confirm_level:.2g} divided by it)"
