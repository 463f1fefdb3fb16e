"""The cost clock and its prices."""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdas.clock import Calibration, Clock, Work, priced, with_epochs

quickly = settings(max_examples=100)


class SetTime:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds

    def passes(self, seconds: float) -> None:
        self.seconds += seconds


@st.composite
def measured(draw: st.DrawFn) -> tuple[tuple[int, float], ...]:
    """Positive prices at increasing batch sizes; noise may make a larger batch cheaper than a smaller one."""
    sizes = sorted(draw(st.sets(st.integers(1, 512), min_size=1, max_size=5)))
    return tuple((size, draw(st.floats(1e-6, 10))) for size in sizes)


def calibration_of(points: tuple[tuple[int, float], ...]) -> Calibration:
    return Calibration("some", {}, dict.fromkeys(Work, points))


@quickly
@given(measured(), st.integers(1, 4096))
def test_price_is_positive_everywhere_and_exact_where_measured(
    points: tuple[tuple[int, float], ...], batch_size: int
) -> None:
    calibration = calibration_of(points)
    assert calibration.price(Work.STEP, batch_size) > 0
    for size, seconds in points:
        assert calibration.price(Work.STEP, size) == pytest.approx(seconds, rel=1e-9)


@quickly
@given(measured())
def test_price_between_two_measured_sizes_lies_between_their_prices(points: tuple[tuple[int, float], ...]) -> None:
    calibration = calibration_of(points)
    for (size_a, price_a), (size_b, price_b) in pairwise(points):
        between = calibration.price(Work.STEP, (size_a + size_b) // 2)
        assert min(price_a, price_b) * (1 - 1e-9) <= between <= max(price_a, price_b) * (1 + 1e-9)


def test_price_is_read_off_the_line_through_the_nearest_sizes() -> None:
    calibration = calibration_of(((10, 1.0), (20, 3.0), (40, 4.0)))
    assert [calibration.price(Work.STEP, size) for size in (8, 10, 15, 30, 60)] == pytest.approx([0.6, 1, 2, 3.5, 5])


def test_price_below_the_measured_sizes_never_falls_to_zero() -> None:
    calibration = calibration_of(((10, 1.0), (20, 3.0)))  # the line crosses zero at 5
    assert 0 < calibration.price(Work.STEP, 1) < calibration.price(Work.STEP, 9)


def test_price_from_one_measured_size_is_proportional() -> None:
    assert calibration_of(((16, 0.8),)).price(Work.SCORE, 40) == pytest.approx(2.0)


def test_charges_add_up(calibration: Calibration) -> None:
    clock = Clock(calibration)
    charged = [(Work.STEP, 16), (Work.STEP, 16), (Work.STEP, 4), (Work.TEACHER, 27), (Work.SCORE, 27)]
    for work, size in charged:
        clock.charge(work, size)
    assert clock.cost_ref_s == pytest.approx(sum(calibration.price(work, size) for work, size in charged))
    assert clock.samples(Work.STEP) == 36
    assert clock.samples(Work.TEACHER) == clock.samples(Work.SCORE) == 27
    assert clock.samples(Work.WEIGH) == 0


def test_pauses_and_evaluations_are_no_wall_time(calibration: Calibration) -> None:
    now = SetTime()
    clock = Clock(calibration, now=now)
    now.passes(1)
    clock.start()
    now.passes(2)
    clock.pause()
    with clock.evaluating():
        now.passes(4)
    now.passes(8)
    clock.start()
    now.passes(16)
    clock.pause()
    clock.pause()
    now.passes(32)
    assert (clock.wall_s, clock.eval_s, clock.cost_ref_s) == (18, 4, 0)


def test_the_device_has_finished_before_the_wall_is_read(calibration: Calibration) -> None:
    now = SetTime()
    clock = Clock(calibration, synchronize=lambda: now.passes(3), now=now)
    clock.start()
    now.passes(1)
    clock.pause()
    assert clock.wall_s == 4  # work queued before the start is not training, work queued after it is
    with clock.evaluating():
        now.passes(1)
    assert clock.eval_s == 4


def test_state_goes_through_a_round_trip(calibration: Calibration) -> None:
    now = SetTime()
    clock = Clock(calibration, now=now)
    clock.start()
    clock.charge(Work.STEP, 16)
    clock.charge(Work.TEACHER, 9)
    now.passes(5)
    clock.pause()
    with clock.evaluating():
        now.passes(2)
    restored = Clock(calibration)
    restored.load_state_dict(json.loads(json.dumps(clock.state_dict())))
    assert restored.state_dict() == clock.state_dict()
    for each in (clock, restored):
        each.charge(Work.STEP, 16)
    assert restored.counts == clock.counts and restored.cost_ref_s == clock.cost_ref_s
    assert restored.samples(Work.STEP) == 32


@quickly
@given(st.lists(st.tuples(st.sampled_from(list(Work)), st.integers(1, 64)), max_size=40))
def test_the_ledger_priced_again_is_the_cost_of_the_clock(
    calibration: Calibration, charged: list[tuple[Work, int]]
) -> None:
    clock = Clock(calibration)
    for work, size in charged:
        clock.charge(work, size)
    costs = clock.cost_ref_s, clock.cost_as_run_s
    assert priced(clock.ledger(), calibration) == pytest.approx(costs, rel=1e-12)
    dearer = Calibration.from_dict({**calibration.as_dict(), "calibration_id": "dearer"})
    dearer = Calibration("dearer", {}, {w: tuple((n, 3 * s) for n, s in p) for w, p in dearer.prices.items()})
    assert priced(clock.ledger(), dearer) == pytest.approx([3 * cost for cost in costs], rel=1e-9)


def test_teacher_is_charged_where_the_method_needs_it_and_paid_where_it_runs(calibration: Calibration) -> None:
    clock = Clock(calibration)
    clock.charge(Work.STEP, 16)
    clock.charge(Work.TEACHER, 16)
    price = calibration.price
    assert (clock.cost_ref_s, clock.cost_as_run_s) == pytest.approx(
        (price(Work.STEP, 16) + price(Work.TEACHER, 16), price(Work.STEP, 16))
    )
    clock.charge(Work.ASKED, 64)
    assert clock.cost_ref_s == pytest.approx(price(Work.STEP, 16) + price(Work.TEACHER, 16))
    assert clock.cost_as_run_s == pytest.approx(price(Work.STEP, 16) + price(Work.TEACHER, 64))


@pytest.mark.parametrize(("num_samples", "batch_size", "epochs"), [(100, 16, 3), (96, 16, 1), (5, 16, 2)])
def test_a_plain_run_costs_what_charging_it_by_hand_costs(
    calibration: Calibration, num_samples: int, batch_size: int, epochs: int
) -> None:
    clock = Clock(calibration)
    for _ in range(epochs):
        clock.charge(Work.EPOCH, num_samples)
        for first in range(0, num_samples, batch_size):
            for work in (Work.AUGMENT, Work.TEACHER, Work.STEP):
                clock.charge(work, min(batch_size, num_samples - first))
    assert calibration.plain_run_s(num_samples, batch_size, epochs) == pytest.approx(clock.cost_ref_s, rel=1e-12)


def test_calibration_goes_through_json(calibration: Calibration) -> None:
    assert Calibration.from_dict(json.loads(json.dumps(calibration.as_dict()))) == calibration


def test_a_ledger_without_epochs_costs_what_it_did_at_prices_without_them(calibration: Calibration) -> None:
    earlier = Calibration("earlier", {}, {w: points for w, points in calibration.prices.items() if w is not Work.EPOCH})
    counted = [["step", 16, 10], ["epoch", 100, 3]]
    assert priced(counted, earlier) == priced(counted[:1], earlier)
    assert earlier.plain_run_s(100, 16, 3) < calibration.plain_run_s(100, 16, 3)
    assert Calibration.from_dict(earlier.as_dict()) == earlier and "rounds" not in earlier.as_dict()


def test_epochs_that_an_earlier_version_did_not_count_are_added_to_its_ledger(calibration: Calibration) -> None:
    counted = [["augment", 10, 12], ["augment", 20, 4], ["step", 16, 10], ["epoch", 60, 1], ["epoch", 40, 3]]
    assert with_epochs(counted, 4) == counted
    earlier = counted[:3]
    assert with_epochs(earlier, 4) == [*earlier, ["epoch", 50, 4]]
    # On a line, epochs of 60, 40, 40 and 60 samples cost what four epochs of 50 do.
    assert priced(with_epochs(earlier, 4), calibration)[0] == pytest.approx(
        priced([*earlier, ["epoch", 60, 2], ["epoch", 40, 2]], calibration)[0]
    )
    resumed = [*earlier, ["epoch", 50, 1]]
    assert with_epochs(resumed, 4) == [*resumed, ["epoch", 50, 3]]


def in_rounds(*steps_s: float, score_s: float = 0.5) -> Calibration:
    """Rounds with these prices of a step of 10; fetching costs 0.5 a batch, whatever its size."""
    rounds = tuple(
        {
            Work.AUGMENT: ((10, 0.25), (20, 0.25)),
            Work.TEACHER: ((10, 0.25), (20, 0.25)),
            Work.SCORE: ((10, score_s), (20, score_s)),
            Work.WEIGH: ((10, 0.25),),
            Work.STEP: ((10, step_s),),
        }
        for step_s in steps_s
    )
    return Calibration("in rounds", {}, rounds[0], rounds)


def test_spread_is_that_of_a_cost_of_kdas_in_units_of_plain_distillation() -> None:
    assert in_rounds(1.5, 1.5, 1.5).spread == 0
    assert Calibration("one", {}, in_rounds(1.5).prices).spread == in_rounds(1.5).spread == 0
    # Plain 2 and 2.5; a scoring step of 3.25 or 3.75 with one on remembered samples of 2.25 or 2.75.
    # In plain steps: steps 1.5 and 1.6, weights 0.25 and 0.2, scores 0.25 and 0.2, fetching 0.5 and 0.4; sum 2.5, 2.4.
    found = in_rounds(1.5, 2.0)
    assert found.spread == pytest.approx(statistics.stdev([2.5, 2.4]) / statistics.fmean([2.5, 2.4]), rel=0.5)
    assert found.spread == pytest.approx(statistics.stdev([1.5, 1.6]) / 2.45)


def test_spread_counts_what_beginning_an_epoch_costs() -> None:
    # Of 1 second for 40 samples, 10 or 20 have their share: plain 2.25 and 3, KDAS 5 + 0.75 and 5 + 3.
    steady = in_rounds(1.5, 1.5)
    rounds = tuple(
        {**prices, Work.EPOCH: ((20, 0.5), (40, s))} for prices, s in zip(steady.rounds, (1, 4), strict=True)
    )
    found = replace(steady, prices=rounds[0], rounds=rounds)
    epochs, sums = [3 * 0.25 / 2.25, 3 * 1 / 3], [5.75 / 2.25, 8 / 3]
    assert found.spread == pytest.approx(max(map(statistics.stdev, (epochs, sums))) / statistics.fmean(sums))
    assert found.spread > 0.1


def test_a_machine_that_gets_slower_alike_for_all_work_has_no_spread() -> None:
    steady = in_rounds(1.5)
    slower = {work: tuple((size, 1.3 * seconds) for size, seconds in points) for work, points in steady.prices.items()}
    assert replace(steady, rounds=(steady.prices, slower)).spread == pytest.approx(0, abs=1e-12)


def test_prices_of_a_round_charge_by_that_round_alone() -> None:
    found = in_rounds(1.5, 2.0)
    assert [priced([["step", 10, 4]], each)[0] for each in found.of_rounds] == [6.0, 8.0]
    assert Calibration.from_dict(json.loads(json.dumps(found.as_dict()))) == found
