"""The figures. Each function takes tables of this package and returns a matplotlib figure, for paper and page."""

from analysis.page.plots.comparison import forest, performance_profiles, ratio_against_target
from analysis.page.plots.curves import COST_AXES, accuracy_against_cost, time_against_target
from analysis.page.plots.picked import picked
from analysis.page.plots.reached import fraction_reached
from analysis.page.plots.search import anytime, expected_best_of, importance, parallel_coordinates, pareto
from analysis.page.plots.style import to_svg

__all__ = [
    "COST_AXES",
    "accuracy_against_cost",
    "anytime",
    "expected_best_of",
    "forest",
    "fraction_reached",
    "importance",
    "parallel_coordinates",
    "pareto",
    "performance_profiles",
    "picked",
    "ratio_against_target",
    "time_against_target",
    "to_svg",
]
