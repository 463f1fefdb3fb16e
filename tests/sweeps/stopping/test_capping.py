"""Exact capping never stops the winner, whether messages are late, repeated, reordered or lost."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.stopping import StoppingContext
from sweeps.stopping.capping import Capping, ConfigurationBounds

TARGET = 0.9
BUDGET_S = 10.0


def capping(keep: int) -> Capping:
    return Capping(StoppingContext(TARGET, BUDGET_S, interval_ref_s=1.0, keep=keep))


def test_bounds_worked_by_hand() -> None:
    """Two seeds, budget 10. The incumbent has one time of 3 and one open: a challenger may spend 3 + 10 in total."""
    bounds = ConfigurationBounds(10.0)
    bounds.add("incumbent", ["i1", "i2"])
    bounds.add("challenger", ["c1", "c2"])
    bounds.reached("i1", 3.0)
    bounds.unreached("c1", 6.5)
    bounds.unreached("c2", 6.5)
    assert not bounds.is_beaten("challenger")
    bounds.unreached("c2", 6.6)
    assert bounds.is_beaten("challenger")
    assert not bounds.is_beaten("incumbent")


def test_a_tie_is_not_beaten() -> None:
    bounds = ConfigurationBounds(10.0)
    for name in ("a", "b"):
        bounds.add(name, [name])
        bounds.reached(name, 0.1 + 0.2)
    assert not bounds.is_beaten("a")
    assert not bounds.is_beaten("b")


def test_a_late_message_does_not_loosen_a_bound() -> None:
    bounds = ConfigurationBounds(10.0)
    bounds.add("a", ["a"])
    bounds.add("b", ["b"])
    bounds.reached("a", 2.0)
    bounds.unreached("b", 5.0)
    bounds.unreached("b", 1.0)
    bounds.unreached("a", 1.0)
    assert bounds.is_beaten("b")
    assert not bounds.is_beaten("a")


def test_trials_that_are_not_candidates_are_ignored() -> None:
    bounds = ConfigurationBounds(10.0)
    bounds.reached("a baseline's trial", 0.1)
    bounds.add("a", ["a"])
    bounds.unreached("a", math.inf)
    assert not bounds.is_beaten("a")
    assert not bounds.is_beaten("never heard of")


@dataclass(frozen=True)
class Truth:
    """What trials would do if nothing stopped them: costs and accuracies for each configuration and seed."""

    curves: dict[str, list[list[tuple[float, float]]]]

    def restricted_s(self, config_id: str) -> list[float]:
        times = [next((c for c, a in curve if a >= TARGET), math.inf) for curve in self.curves[config_id]]
        return [min(time, BUDGET_S) for time in times]

    def total_s(self, config_id: str) -> float:
        return math.fsum(self.restricted_s(config_id))


@st.composite
def truths(draw: st.DrawFn) -> Truth:
    num_seeds = draw(st.integers(1, 3))
    accuracy = st.sampled_from([0.1, 0.5, 0.89, 0.9, 0.95, math.nan])
    curves = {}
    for number in range(draw(st.integers(2, 7))):
        # Configurations evaluate at different costs, since their batches differ in size.
        step = draw(st.sampled_from([0.7, 1.0, 1.1, 2.5]))
        costs = [step * k for k in range(1, math.ceil(BUDGET_S / step) + 1)]
        curves[f"c{number}"] = [[(cost, draw(accuracy)) for cost in costs] for _ in range(num_seeds)]
    return Truth(curves)


class Messenger:
    """Runs trials in random order, delivers their messages late, twice or reordered, and sometimes crashes."""

    def __init__(self, truth: Truth, keep: int, seed: int) -> None:
        self.truth, self.keep, self.draw = truth, keep, random.Random(seed)
        self.progress = {(c, s): 0 for c, curves in truth.curves.items() for s in range(len(curves))}
        self.recorded: list[tuple[str, str, float, float]] = []
        self.stopped: set[str] = set()
        self.rule = self.restarted()

    def restarted(self) -> Capping:
        """The rule of a new process, which hears what is on disk: each trial's rows in order."""
        rule = capping(self.keep)
        for config_id, curves in self.truth.curves.items():
            rule.add(config_id, [f"{config_id}-s{seed}" for seed in range(len(curves))])
        for _, trial_id, cost, accuracy in sorted(self.recorded, key=lambda message: message[2]):
            rule.evaluated(trial_id, cost, accuracy)
        return rule

    def run(self) -> None:
        waiting: list[tuple[str, str, float, float]] = []
        while True:
            active = [
                key
                for key, done in self.progress.items()
                if key[0] not in self.stopped and done < len(self.truth.curves[key[0]][key[1]])
            ]
            if not active and not waiting:
                return
            event = self.draw.random()
            if event < 0.05:
                self.rule, waiting = self.restarted(), []
            elif event < 0.1 and active:
                config_id, seed = self.draw.choice(active)  # back to a checkpoint
                self.progress[config_id, seed] = self.draw.randint(0, self.progress[config_id, seed])
            elif event < 0.6 and active:
                config_id, seed = self.draw.choice(active)
                cost, accuracy = self.truth.curves[config_id][seed][self.progress[config_id, seed]]
                self.progress[config_id, seed] += 1
                message = (config_id, f"{config_id}-s{seed}", cost, accuracy)
                self.recorded.append(message)
                waiting.append(message)
            elif waiting:
                message = waiting[self.draw.randrange(len(waiting))]
                if self.draw.random() < 0.8:
                    waiting.remove(message)  # otherwise it arrives a second time
                self.hear(message)

    def hear(self, message: tuple[str, str, float, float]) -> None:
        before = self.rule.bounds._uppers[:1]
        _, trial_id, cost, _ = message
        # A trial's rows arrive in order: a late message alone might claim too late a first crossing of the target.
        earlier = [m for m in self.recorded if m[1] == trial_id and m[2] <= cost]
        for _, _, each_cost, each_accuracy in sorted(earlier, key=lambda m: m[2]):
            self.rule.evaluated(trial_id, each_cost, each_accuracy)
        assert self.rule.bounds._uppers[:1] <= before, "the bound on the best only falls"
        self.stopped |= {c for c in self.truth.curves if self.rule.stops(c, f"{c}-s0")}


@given(truths(), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_the_best_are_never_stopped(truth: Truth, keep: int, seed: int) -> None:
    messenger = Messenger(truth, keep, seed)
    messenger.run()
    totals = sorted(truth.total_s(config_id) for config_id in truth.curves)
    allowed = totals[min(keep, len(totals)) - 1]
    for config_id in messenger.stopped:
        assert truth.total_s(config_id) > allowed


def test_it_saves_much_and_never_loses_the_winner() -> None:
    """Random sweeps of 20 configurations on 3 seeds, one trial at a time."""
    draw = random.Random(1)
    spent = whole = 0.0
    for _ in range(200):
        times = {f"c{n}": [draw.lognormvariate(1.5 + 0.1 * n, 0.3) for _ in range(3)] for n in range(20)}
        rule = capping(1)
        order = list(times)
        draw.shuffle(order)
        for config_id in order:
            rule.add(config_id, [f"{config_id}-s{seed}" for seed in range(3)])
        beaten: set[str] = set()
        for config_id in order:
            for seed, time in enumerate(times[config_id]):
                whole += BUDGET_S
                cost = 0.0
                while cost < BUDGET_S and not rule.stops(config_id, f"{config_id}-s{seed}"):
                    cost += 0.25
                    spent += 0.25
                    rule.evaluated(f"{config_id}-s{seed}", cost, 1.0 if cost >= time else 0.0)
            if rule.stops(config_id, ""):
                beaten.add(config_id)
        totals = {c: sum(min(math.ceil(t / 0.25) * 0.25, BUDGET_S) for t in each) for c, each in times.items()}
        assert min(totals, key=totals.__getitem__) not in beaten
    assert spent < 0.8 * whole


@pytest.mark.parametrize("keep", [1, 2])
def test_as_many_as_will_be_confirmed_are_never_beaten(keep: int) -> None:
    bounds = ConfigurationBounds(10.0, keep)
    for number in range(4):
        bounds.add(f"c{number}", [f"t{number}"])
        bounds.reached(f"t{number}", 1.0 + number)
    assert [bounds.is_beaten(f"c{number}") for number in range(4)] == [number >= keep for number in range(4)]
