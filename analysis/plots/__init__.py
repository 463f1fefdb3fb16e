"""The pictures. Each function takes tables of this package and returns a matplotlib figure, for paper and page."""

from analysis.plots.comparison import forest, performance_profiles
from analysis.plots.curves import COST_AXES, accuracy_against_cost, time_against_target
from analysis.plots.picked import picked
from analysis.plots.reached import fraction_reached
from analysis.plots.search import anytime, expected_best_of, importance, parallel_coordinates, pareto
from analysis.plots.style import to_svg

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
    "time_against_target",
    "to_svg",
]
