"""How each number of a report was computed, in words, with the function that computes it."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.statistics.compare import CONFIDENCE, MAX_ENUMERATED_FLIPS, MAX_ENUMERATED_PAIRS, NUM_RESAMPLES
from kdas.records import Measure


@dataclass(frozen=True)
class Number:
    """`name` of a number, `how` it comes about, and the `function` of this package that computes it, "" for none."""

    name: str
    how: str
    function: str = ""


def numbers(measure: Measure) -> list[Number]:
    """The numbers of a report on one sweep, in the order in which it uses them."""
    base = measure.baseline
    return [
        Number(
            "Reference seconds",
            "Counted work times its calibrated price (median time of a step alone on the reference device). "
            "Augmentation, scoring, selection and training count, every teacher forward that the method needs is "
            "charged; evaluation, logging and checkpoints do not count.",
        ),
        Number(
            "Time to accuracy, T",
            f"Cost of the first evaluation whose {measure.split} accuracy is at or above the target; a miss is "
            "infinite and reads “> budget”, a trial that ended on the way “> its last cost”.",
            "analysis.time_to_accuracy.time_to_accuracy",
        ),
        Number(
            "tau, L, U",
            "tau is the budget. A trial that reached the target has L = U = min(T, tau); one that ran to its budget or "
            "diverged L = U = tau; one that crashed, was stopped or still runs L = its last cost and U = tau. Rows are "
            "in order of mean U.",
            "analysis.statistics.censoring.bounds",
        ),
        Number(
            "Ratio",
            f"Sum of min(T, tau) of {base} over that of the configuration, over the seeds that both have; where L and "
            "U differ, once with every doubt against the configuration and once with every doubt for it.",
            "analysis.statistics.compare.ratio_of_sums",
        ),
        Number(
            "Its interval",
            f"Fieller’s, {CONFIDENCE:.0%}: the ratios that a paired t-test does not reject. The bootstrap beside it is "
            f"percentile, over seeds, all resamples up to {MAX_ENUMERATED_PAIRS} pairs, else {NUM_RESAMPLES:,}.",
            "analysis.statistics.compare.ratio_interval",
        ),
        Number(
            "Geometric mean",
            "Of the pairs’ ratios, with a t-interval on their logarithms, where all trials of both reached.",
            "analysis.statistics.compare.geometric_mean",
        ),
        Number(
            "p",
            f"Two-sided sign-flip test on the pairs’ differences, exact up to {MAX_ENUMERATED_FLIPS} pairs; Holm "
            "corrects it for the comparisons of one phase.",
            "analysis.statistics.compare.sign_flip_p",
        ),
        Number(
            "Share at the target",
            "Kaplan-Meier over seeds. A configuration with a trial that was stopped for its own accuracy has none.",
            "analysis.statistics.survival.kaplan_meier",
        ),
        Number(
            "Best so far, expected best",
            "A configuration counts when its last seed has ended, at its mean U, after all that was spent until then; "
            "the expectation is over tries drawn without putting back.",
            "analysis.statistics.anytime.anytime_curve",
        ),
        Number(
            "Importance",
            "PED-ANOVA on the mean T, a miss at ten budgets, from configurations drawn at random; ranks from resampled "
            "configurations.",
            "analysis.findings.importance.importance",
        ),
        Number(
            "Front",
            "Mean best accuracy against the mean cost to it; inclusion is the share of resampled sets of seeds under "
            "which no other configuration beats this one in both.",
            "analysis.statistics.pareto.pareto_front",
        ),
    ]
