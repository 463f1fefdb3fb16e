"""What the answer costs: recorded sweeps replayed with different searches and schedulers, see `make simulate`.

`answer_ref_s` are the reference seconds until a configuration within 5% of the best recorded one was known,
`search_ref_s` those of the whole search, and `regret` by which part the configuration that would be confirmed is slower
than the best recorded one. All are means over replays. Nothing is trained, so other work on the machine is no matter.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from benchmarks.bench import Bench, Figures
from benchmarks.recordings import read, stored
from sweeps.replay.simulate import Replayed, Setting, Simulation

RANDOM, CAPPED, RACED = Setting("random", "none", 2), Setting("tpe", "capping", 2), Setting("tpe", "racing", 2)
REPLAYS, QUICK_REPLAYS = 50, 5


def answer(bench: Bench) -> Figures:
    """Costs and regrets of each recorded sweep, and the ratios of whole searches to racing's."""
    figures: Figures = {}
    for name, file in stored().items():
        simulation = Simulation(read(file), surrogate=False)
        costs = {}
        for setting in (RANDOM, CAPPED, RACED):
            bench.progress(f"{name}: {setting.algorithm} with {setting.scheduler}")
            outcomes = replays(simulation, setting, QUICK_REPLAYS if bench.quick else REPLAYS)
            costs[setting] = _mean(outcomes, "search_ref_s")
            prefix = f"{name}_{setting.algorithm}_{setting.scheduler}"
            figures[f"{prefix}_answer_ref_s"] = _mean(outcomes, "found_ref_s")
            figures[f"{prefix}_search_ref_s"] = costs[setting]
            figures[f"{prefix}_regret"] = _mean(outcomes, "regret")
        figures[f"{name}_racing_cost_of_random"] = costs[RACED] / costs[RANDOM]
        figures[f"{name}_racing_cost_of_capping"] = costs[RACED] / costs[CAPPED]
    return figures


def replays(simulation: Simulation, setting: Setting, number: int) -> list[Replayed]:
    """Replays with proposals from different seeds."""
    return [simulation.outcome(setting, seed) for seed in range(number)]


def _mean(outcomes: Sequence[Replayed], column: str) -> float:
    return statistics.fmean(getattr(each, column) for each in outcomes)
