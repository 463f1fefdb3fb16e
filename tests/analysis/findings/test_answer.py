"""The answer, and the cautions about it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis import wording
from analysis.findings.answer import answer
from analysis.findings.gather import findings
from analysis.findings.judgement import judge
from analysis.findings.qualifications import left_open, of_the_interval
from analysis.findings.summary import deciding_phase, fastest
from analysis.page.answer_file import answer_content
from kdas.errors import UserError
from kdas.records import Status
from tests.analysis.conftest import row_of, texts

NewSweep = Callable[..., Path]


def test_the_answer_names_setting_ratio_interval_and_misses(sweep_directory: Path) -> None:
    found = findings(sweep_directory)
    row = row_of(found, "c-s0")
    times = f"{row['ratio']:.2f}x [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
    claim = "kdas_search was faster than plain_kd to 90% validation accuracy"
    assert found.answer.headline == f"{claim} but not distinguishable from another of its settings."
    assert found.answer.estimate == f"kdas_search: {times} as fast as plain_kd" and found.answer.is_claimed
    assert found.answer.compared == (
        "Compared on 3 seeds: kdas_search (tuned: 4 configurations), kdas_paper (fixed), plain_kd (fixed), rs2 (fixed)."
    )
    assert "The 95% interval, for all 6 comparisons together, allows for chance over 3 paired" in found.answer.details
    tie = r"Compared with another of its settings it was \[\d.*\] times as fast, estimate 1\.\d+x\."
    assert re.search(tie, found.answer.details)
    assert "Its settings: start_rate 0.3 · end_rate 0.1." in found.answer.details
    assert found.answer.missed == (
        "3 of 21 trials missed the target: kdas_search 2 of 12, rs2 1 of 3. 1 of 21 trials ended early: "
        "kdas_search 1 of 12."
    )


@pytest.mark.parametrize("target", [0.9, 0.9012])
@pytest.mark.parametrize("mark", ["", ">=", "<=", "~", "to"])
def test_the_headline_fits_on_a_line(sweep_directory: Path, mark: str, target: float) -> None:
    found = findings(sweep_directory)
    summary = found.summary.copy()
    summary.loc[summary["config_id"] == "c-s0", ["mark", "ratio_at_most"]] = [mark, 2.5]
    judged = judge(found.times, summary, found.measure)
    said = answer(judged, replace(found.measure, target=target))
    assert "kdas_search was faster than plain_kd to 90" in said.headline and "as fast as plain_kd" in said.estimate
    assert len(said.headline) <= 120 and len(said.estimate) <= 60


def ask(directory: Path, **requests: Any) -> None:
    """Write control.json as a running sweep leaves it."""
    nothing = {"paused": False, "stopped": [], "finish": False, "finished_at": None, "were_stopped": []}
    (directory / "control.json").write_text(json.dumps(nothing | requests))


def test_a_search_that_was_ended_by_hand_is_told(sweep_directory: Path) -> None:
    assert "by hand" not in texts(findings(sweep_directory), "answer")
    ask(sweep_directory, finish=True, finished_at=8)
    assert "The search was ended by hand after 4 of 8 configurations." in texts(findings(sweep_directory), "answer")
    # All were tried by then, or no sweep has heard of it.
    for at in (4, None):
        ask(sweep_directory, finish=True, finished_at=at)
        assert "by hand" not in texts(findings(sweep_directory), "answer")


def test_each_search_that_was_ended_by_hand_is_told(new_sweep: NewSweep, plan: Callable[[], list[Any]]) -> None:
    trials = [replace(t, method="rs2_search") if t.config_id in ("c-s2", "c-s3") else t for t in plan()]
    directory = new_sweep([t for t in trials if t.config_id != "c-s1"])
    ask(directory, finish=True, finished_at=2)
    said = "The search was ended by hand after 1 (kdas_search) and 2 (rs2_search) of 2 configurations."
    assert said in texts(findings(directory), "answer")
    directory = new_sweep([t for t in trials if not t.method.endswith("_search")])
    assert "The search was ended by hand after none of 2 configurations." in texts(findings(directory), "answer")


def test_trials_that_were_stopped_by_hand_are_told(new_sweep: NewSweep, plan: Callable[[], list[Any]]) -> None:
    stopped = {"c-s2-0", "c-s2-1"}
    trials = [
        replace(t, status=Status.STOPPED_EARLY, last_s=40.0) if f"{t.config_id}-{t.seed}" in stopped else t
        for t in plan()
    ]
    directory = new_sweep(trials)
    # One by an earlier start; of c-s0-0 the request came too late.
    ask(directory, stopped=["c-s2-0", "c-s0-0"], were_stopped=["c-s2-1", "c-s2-0"])
    assert "2 trials of the search were stopped by hand. A setting whose" in texts(findings(directory), "answer")
    ask(directory, stopped=["c-s2-0"])
    assert "1 trial of the search was stopped by hand." in texts(findings(directory), "answer")
    ask(directory, stopped="c-s2-0")
    with pytest.raises(UserError, match=r"control\.json: stopped: expected a list of strings"):
        findings(directory)


def test_a_winner_of_the_search_is_not_trusted_and_few_seeds_are_named(sweep_directory: Path) -> None:
    found = findings(sweep_directory)
    assert "kdas_search is the best of 4 searched configurations" in texts(found, "answer")
    assert "the ratio looks too good. Confirm it on fresh seeds." in texts(found, "answer")
    assert "Only 3 paired seeds: only large differences can show. Run 5 or more" in texts(found, "answer")
    assert "1 trial crashed" in texts(found, "table")


def test_intervals_are_warned_of_if_most_seeds_missed(new_sweep: NewSweep, plan: Any) -> None:
    trials = [replace(each, ceiling=0.7) if each.method == "plain_kd" and each.seed else each for each in plan()]
    assert "In 1 row more than half of the seeds missed the target" in texts(findings(new_sweep(trials)), "table")


def test_no_miss_on_few_seeds_still_allows_some(new_sweep: NewSweep, plan: Any) -> None:
    found = findings(new_sweep(plan(range(10))))
    assert "5 settings: no seed of 10 missed the target, but the true miss rate may be as high as 31%" in texts(
        found, "table"
    )


def test_confirmed_numbers_replace_those_of_the_search(new_sweep: NewSweep, plan: Any, planned_trial: Any) -> None:
    confirm = [
        planned_trial(method, config_id, seed, half_s, phase="confirm")
        for seed in range(100, 110)
        for method, config_id, half_s in (("plain_kd", "c-plain", 30 + seed % 3), ("kdas_search", "c-s1", 20.0))
    ]
    found = findings(new_sweep(plan() + confirm))
    assert deciding_phase(found.summary) == "confirm"
    assert (found.answer.config_id, found.answer.phase) == ("c-s1", "confirm")
    assert found.answer.headline.startswith("kdas_search was fastest to 90% validation accuracy, faster than every")
    assert "on fresh seeds." in found.answer.details and "looks too good" not in texts(found, "answer")
    assert "kdas_search (tuned: best of 4 configurations)" in found.answer.compared
    assert row_of(found, "c-s1", "confirm")["num_pairs"] == 10
    assert row_of(found, "c-s1", "search")["num_pairs"] == 3


def test_a_confirmation_that_nobody_passed_is_the_result(new_sweep: NewSweep, plan: Any, planned_trial: Any) -> None:
    confirm = [
        planned_trial(method, config_id, seed, 30.0, 0.7, phase="confirm")
        for seed in range(100, 104)
        for method, config_id in (("plain_kd", "c-plain"), ("kdas_search", "c-s1"))
    ]
    found = findings(new_sweep(plan() + confirm))
    assert deciding_phase(found.summary) == "confirm"
    assert found.answer.headline.startswith("No confirmed trial has reached")
    running = [replace(confirm[0], status=Status.RUNNING, last_s=60.0), *confirm[1:]]
    assert deciding_phase(findings(new_sweep(plan() + running)).summary) == "search"


def test_a_search_that_tried_nothing_is_in_the_verdict(new_sweep: NewSweep, plan: Any) -> None:
    fixed = [trial for trial in plan(range(6)) if trial.method in ("plain_kd", "rs2")]
    only_plain = [replace(each, half_s=60.0) if each.method == "rs2" else each for each in fixed]
    found = findings(new_sweep(only_plain, untried=["kdas_search"]))
    assert found.answer.headline == (
        "plain_kd was fastest to 90% validation accuracy of the settings that ran; nothing of kdas_search was tried."
    )
    assert "kdas_search: nothing was tried before the search ended" in texts(found, "answer")
    assert "kdas_search: nothing was tried" in " ".join(answer_content(found)["cautions"])
    for trials in (fixed, [trial for trial in fixed if trial.method == "plain_kd"]):
        found = findings(new_sweep(trials, untried=["kdas_search"]))
        assert found.answer.headline.endswith("; nothing of kdas_search was tried.")


def test_finalists_that_still_run_leave_the_answer_to_the_search(
    new_sweep: NewSweep, plan: Any, planned_trial: Any
) -> None:
    baseline = [planned_trial("plain_kd", "c-plain", seed, 30.0, phase="confirm") for seed in range(100, 104)]
    finalist = [
        planned_trial("kdas_search", "c-s1", seed, 20.0, phase="confirm", status=Status.RUNNING, last_s=20.0)
        for seed in range(100, 104)
    ]
    for confirm in (baseline, baseline + finalist):
        found = findings(new_sweep(plan() + confirm))
        assert deciding_phase(found.summary) == "search" and found.answer.config_id == "c-s0"
        assert "looks too good. The confirmation on fresh seeds is not complete." in texts(found, "answer")
        chosen = fastest(found.summary).set_index("method")
        assert chosen.loc["kdas_search", "config_id"] == "c-s0" and chosen.loc["plain_kd", "phase"] == "search"


def test_a_finalist_that_dropped_out_does_not_undo_the_confirmation(
    new_sweep: NewSweep, plan: Any, planned_trial: Any
) -> None:
    def confirmed(method: str, config_id: str, num_seeds: int) -> list[Any]:
        return [planned_trial(method, config_id, 100 + seed, 25.0, phase="confirm") for seed in range(num_seeds)]

    before = plan() + confirmed("kdas_search", "c-s0", 2)
    after = before + confirmed("plain_kd", "c-plain", 4) + confirmed("kdas_search", "c-s1", 4)
    record = {"confirm_configs": ["c-plain", "c-s1"], "confirm_seeds": [100, 101, 102, 103]}
    assert deciding_phase(findings(new_sweep(after, **record)).summary) == "confirm"
    # One seed of each is not what was planned, a baseline alone compares nothing, and neither do finalists.
    first = plan() + confirmed("plain_kd", "c-plain", 1) + confirmed("kdas_search", "c-s1", 1)
    for trials in (first, plan() + confirmed("plain_kd", "c-plain", 4), plan() + confirmed("kdas_search", "c-s1", 4)):
        assert deciding_phase(findings(new_sweep(trials, **record)).summary) == "search"


def test_a_winner_that_mostly_missed_is_said_to(new_sweep: NewSweep, plan: Any) -> None:
    trials = [each for each in plan(range(4)) if each.config_id in ("c-plain", "c-s0")]
    trials = [replace(each, ceiling=0.96 if each.config_id == "c-s0" and not each.seed else 0.8) for each in trials]
    found = findings(new_sweep(trials))
    assert found.answer.headline == "No KDAS setting was reliably faster than plain_kd to 90% validation accuracy."
    assert "on the seeds of the search (a miss counts as the full budget)." in found.answer.details
    assert "In 1 row more than half of the seeds missed the target" in texts(found, "answer")
    both = [replace(each, ceiling=0.96) if (each.config_id, each.seed) == ("c-plain", 1) else each for each in trials]
    found = findings(new_sweep(both))
    assert found.answer.config_id == "c-s0" and row_of(found, "c-s0")["mark"] == "~"
    assert re.match(r"kdas_search: \[.*\] times as fast as plain_kd, estimate ~ 1\.\d+x$", found.answer.estimate)
    assert "because kdas_search missed on some seeds and plain_kd missed on some seeds." in found.answer.details


def test_settings_that_may_be_faster_are_not_ruled_out(new_sweep: NewSweep, plan: Any) -> None:
    trials = [each for each in plan(range(5)) if each.config_id in ("c-plain", "c-s0", "c-s1")]
    trials = [
        replace(each, status=Status.CRASHED, last_s=8.0) if each.config_id == "c-s0" and each.seed > 1 else each
        for each in trials
    ]
    found = findings(new_sweep(trials))
    # Three of five trials of c-s0 only bound their times: it may be the fastest.
    assert found.answer.config_id == "c-s1" and found.answer.is_claimed
    assert found.answer.headline.endswith(" but not distinguishable from another of its settings.")
    only_plain = [each for each in trials if each.config_id != "c-s1"]
    said = findings(new_sweep(only_plain)).answer
    assert said.headline.startswith("No KDAS setting was reliably faster") and not said.is_claimed
    assert "x to " in said.estimate


def test_trials_that_still_run_are_not_called_ended(new_sweep: NewSweep, plan: Any) -> None:
    trials = [
        replace(each, status=Status.RUNNING, last_s=40.0) if each.config_id == "c-plain" else each for each in plan()
    ]
    found = findings(new_sweep(trials))
    assert "3 of 21 trials still run: plain_kd 3 of 3" in found.answer.missed
    assert "The baseline plain_kd has not finished yet" in texts(found, "answer")
    # Its last evaluation is at the budget: it will not reach the target, though its end is not recorded yet.
    at_the_end = [replace(each, status=Status.RUNNING) if each.config_id == "c-rs2" else each for each in plan()]
    missed = findings(new_sweep(at_the_end)).answer.missed
    assert "rs2 1 of 3. " in missed and "still run" not in missed and "-" not in missed


def test_hits_on_other_seeds_than_the_baselines_have_no_ratio(new_sweep: NewSweep, plan: Any) -> None:
    trials = [each for each in plan() if each.config_id in ("c-plain", "c-s0")]
    trials = [replace(each, ceiling=0.5) if each.config_id == "c-plain" or each.seed else each for each in trials]
    missing = [each for each in trials if (each.config_id, each.seed) != ("c-plain", 0)]
    found = findings(new_sweep(missing))
    assert found.answer.estimate == "" and not found.answer.is_claimed
    assert "Both missed the target on all shared seeds, so there is no ratio." in found.answer.details
    assert "Rows have 2 to 3 trials" in texts(found, "table")


def test_a_winner_that_lost_on_the_common_seeds_is_qualified(
    new_sweep: NewSweep, plan: Any, planned_trial: Any
) -> None:
    trials = [each for each in plan() if each.config_id == "c-plain"]
    # Later on the seed that both have, and first by its mean thanks to an easier one.
    trials += [planned_trial("kdas_search", "c-s9", 0, 32.0), planned_trial("kdas_search", "c-s9", 7, 5.0)]
    found = findings(new_sweep(trials))
    assert found.answer.config_id == "c-s9" and row_of(found, "c-s9")["ratio"] < 1
    assert not found.answer.is_claimed and found.answer.headline.startswith("No KDAS setting was reliably faster")
    said = "kdas_search has the better mean over its own seeds, but plain_kd was faster on the 1 shared seed"
    assert said in texts(found, "answer")
    assert "but plain_kd was faster" not in texts(findings(new_sweep(plan())), "answer")


def test_a_seed_that_was_run_twice_is_named(new_sweep: NewSweep, plan: Any) -> None:
    directory = new_sweep(plan())
    trials = pd.read_parquet(directory / "trials.parquet")
    trials.loc[trials["trial_id"] == "c-s0-1", "seed"] = 0
    trials.to_parquet(directory / "trials.parquet")
    assert "A configuration has duplicate seeds: 1 trial (c-s0-1)" in texts(findings(directory), "answer")


def test_a_baseline_that_nothing_beats_is_the_answer(new_sweep: NewSweep, plan: Any) -> None:
    trials = [trial for trial in plan() if trial.config_id in ("c-plain", "c-s2")]
    found = findings(new_sweep(trials))
    row = row_of(found, "c-s2")
    claim = "plain_kd was fastest to 90% validation accuracy, faster than every other setting."
    assert found.answer.headline == claim and not found.answer.is_claimed
    assert found.answer.estimate == f"kdas_search: {wording.ratio(row)} as fast as plain_kd" and row["ratio_high"] < 1
    # Half as much spread between rs2 and plain distillation as between its seeds: no claim at all.
    rs2 = [replace(each, half_s=28.0 + each.seed * 3, ceiling=0.96) for each in plan() if each.config_id == "c-rs2"]
    both = findings(new_sweep([*trials, *rs2])).answer
    assert (
        both.headline
        == "No setting of rs2 or kdas_search was reliably faster than plain_kd to 90% validation accuracy."
    )
    assert both.estimate.startswith("rs2: [0.") and ", estimate 0." in both.estimate
    assert "The best searched setting, kdas_search (start_rate" in both.details
    alone = findings(new_sweep([trial for trial in trials if trial.config_id == "c-plain"]))
    assert alone.answer.headline.startswith("Only plain distillation has run: plain_kd reached 90%")


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        (
            (0.38, 2.57),
            "The interval includes 1x: these seeds cannot tell a slowdown to 0.38x from a speed-up to 2.57x.",
        ),
        (
            (0.0, 1.58),
            "The interval includes 1x and has no lower end: these seeds cannot tell which of the two is faster.",
        ),
        (
            (0.4, math.inf),
            "The interval includes 1x and has no upper end: these seeds cannot tell which of the two is faster.",
        ),
        (
            (0.0, math.inf),
            "The interval includes 1x and has no end on either side: these seeds cannot tell which of the two is "
            "faster.",
        ),
        (
            (0.004, 201.0),  # the same number, one way and the other
            "The interval includes 1x and has no end on either side: these seeds cannot tell which of the two is "
            "faster.",
        ),
        ((1.1, 1.5), ""),
    ],
)
def test_what_an_interval_leaves_open_is_said_in_words(
    ends: tuple[float, float], said: str, sweep_directory: Path
) -> None:
    shown = findings(sweep_directory)
    judged = judge(shown.times, shown.summary, shown.measure)
    low, high = ends
    found = replace(judged.compare(1, 0), ratio=1.2, ratio_low=low, ratio_high=high, price_error=math.nan)
    assert "Over seeds alone it is [" in of_the_interval(judged, found)
    found = replace(found, seeds_low=low, seeds_high=high)
    assert left_open(found) == said
    assert of_the_interval(judged, found).endswith("and the evaluation grid, but not for errors of the prices.")


def test_an_interval_without_an_end_says_so_and_names_who_missed_on_all_seeds(
    new_sweep: NewSweep, planned_trial: Any
) -> None:
    trials = [planned_trial("plain_kd", "c-plain", seed, 30.0 + 8 * seed) for seed in range(3)]
    trials += [planned_trial("rs2", "c-rs2", seed, 40.0, 0.7) for seed in range(3)]
    found = findings(new_sweep(trials))
    assert row_of(found, "c-rs2")["mark"] == "<=" and "0.00" not in found.answer.text
    assert "because rs2 missed on all seeds." in found.answer.details
    said = wording.estimate(dict(row_of(found, "c-rs2")) | {"ratio_low": 0.0, "ratio_high": 1.72}, "plain_kd")
    assert said.startswith("[up to 1.72] times as fast as plain_kd, estimate <= 0.")
    said = wording.estimate(dict(row_of(found, "c-rs2")) | {"ratio_low": 0.0, "ratio_high": math.inf})
    assert said.endswith("x as fast in these samples, interval open on both sides")


def test_settings_that_are_slower_beyond_doubt_are_named(new_sweep: NewSweep, planned_trial: Any) -> None:
    times_s = {"plain_kd": 20.0, "rs2": 19.0, "kdas_paper": 34.0}
    trials = [
        planned_trial(method, f"c-{method}", seed, half_s + (seed * 7 + len(method)) % 3)
        for seed in range(5)
        for method, half_s in times_s.items()
    ]
    found = findings(new_sweep(trials)).answer
    assert found.headline.startswith("No setting of rs2 or kdas_paper was reliably faster than plain_kd")
    assert re.fullmatch(r"Reliably slower than plain_kd: kdas_paper 0\.\d\dx \[0\.\d\d, 0\.\d\d\]\.", found.slower)
    assert found.slower in found.text and found.slower in found.short
    # Of several settings of a method, their number is said.
    trials += [
        planned_trial("kdas_search", f"c-s{number}", seed, half_s + seed % 2)
        for seed in range(5)
        for number, half_s in enumerate((19.0, 45.0, 50.0))
    ]
    assert "2 of the 3 settings of kdas_search" in findings(new_sweep(trials)).answer.slower


def test_a_reference_chosen_among_several_plain_settings_needs_more_to_call_others_slower(
    new_sweep: NewSweep, planned_trial: Any
) -> None:
    trials = [planned_trial("plain_kd", "c-plain", seed, 20.0 + seed % 3) for seed in range(5)]
    trials += [planned_trial("rs2", "c-rs2", seed, 22.9 + (seed + 1) % 3) for seed in range(5)]
    others = [planned_trial(f"plain_{number}", f"c-p{number}", seed, 60.0) for number in range(4) for seed in range(5)]
    plain = ["plain_kd", *(f"plain_{number}" for number in range(4))]
    # Not distinguishable from the reference, so that no setting is the fastest of all.
    trials += [planned_trial("m1", "c-m1", seed, 20.0 + (seed + 2) % 3) for seed in range(5)]
    one = findings(new_sweep([*trials, *others]))
    several = findings(new_sweep([*trials, *others], plain_methods=plain))
    assert "rs2" in one.answer.slower and "rs2" not in several.answer.slower
    assert row_of(one, "c-rs2")["ratio_high"] == row_of(several, "c-rs2")["ratio_high"] < 1


def test_a_setting_that_beats_only_the_fastest_plain_one_contradicts_no_sentence(
    new_sweep: NewSweep, planned_trial: Any
) -> None:
    trials = [planned_trial("plain_kd", "c-plain", seed, 20.0 + seed % 2) for seed in range(5)]
    # Slower on average, and so erratic that nothing is known of it.
    trials += [planned_trial("plain_half", "c-half", seed, (15.0, 16.0, 17.0, 18.0, 45.0)[seed]) for seed in range(5)]
    trials += [planned_trial("rs2", "c-rs2", seed, 15.0 + seed % 2) for seed in range(5)]
    found = findings(new_sweep(trials, plain_methods=["plain_kd", "plain_half"]))
    assert row_of(found, "c-plain")["is_reference"] and row_of(found, "c-rs2")["ratio_low"] > 1
    goal = "90% validation accuracy"
    assert found.answer.headline == f"No setting of rs2 was reliably faster than every plain setting to {goal}."
    assert not found.answer.is_claimed and found.answer.estimate.startswith("rs2: 1.")
    said = r"rs2 was [^.]*\.\d+x \[.*\] as fast as plain_kd, but \[.*\] times as fast as plain_half, estimate 1\.\d+x\."
    assert re.search(said, found.answer.points[0])


def test_the_power_is_that_of_the_claim(new_sweep: NewSweep, planned_trial: Any) -> None:
    def said(plain: list[str], **terms: Any) -> str:
        trials = [
            planned_trial(method, f"c-{method}", seed, 20.0 + (2 * seed + place) % 5)
            for place, method in enumerate((*plain, "rs2"))
            for seed in range(5)
        ]
        return findings(new_sweep(trials, plain_methods=plain, **terms)).answer.details

    one = re.search(
        r"5 seeds show a speed-up of (1\.\d\d)x in 80% of sweeps; a smaller one less often", said(["plain_kd"])
    )
    several = re.search(
        r"5 seeds show a speed-up of (1\.\d\d)x over 2 equally fast plain settings in 80% of sweeps",
        said(["plain_kd", "plain_half"]),
    )
    assert one and several and float(one[1]) < float(several[1])


def test_a_speed_up_that_is_too_large_to_speak_of_is_not_quoted(new_sweep: NewSweep, planned_trial: Any) -> None:
    trials = [
        planned_trial(method, f"c-{method}", seed, half_s)
        for method, half_s_of_seeds in (("plain_kd", (10.0, 20.0, 15.0)), ("rs2", (12.0, 20.0, 20.0)))
        for seed, half_s in enumerate(half_s_of_seeds)
    ]
    said = findings(new_sweep(trials, plain_methods=["plain_kd"])).answer.details
    assert "3 seeds are too few to show a speed-up of 10x in 80% of sweeps." in said


def test_a_search_in_which_all_missed_is_named(new_sweep: NewSweep, plan: Any) -> None:
    trials = [replace(each, ceiling=0.8) if each.method == "kdas_search" else each for each in plan()]
    trials = [each for each in trials if each.status is not Status.CRASHED]
    said = "No searched setting of kdas_search reached the target, so their times do not differ"
    assert said in texts(findings(new_sweep(trials)), "answer")
    assert "No searched setting" not in texts(findings(new_sweep(plan())), "answer")


def test_a_baseline_that_never_reached_makes_ratios_lower_limits(new_sweep: NewSweep, plan: Any) -> None:
    trials = [replace(trial, ceiling=0.5) if trial.method == "plain_kd" else trial for trial in plan()]
    found = findings(new_sweep(trials))
    assert row_of(found, "c-s0")["mark"] == ">=" and found.answer.estimate.startswith("kdas_search: >= ")
    assert "plain_kd never reached the target" in texts(found, "answer")
    assert ("marked >=" in texts(found, "answer")) == (found.summary["mark"] == ">=").any()


def test_without_the_baseline_nothing_is_compared(new_sweep: NewSweep, plan: Any) -> None:
    found = findings(new_sweep([trial for trial in plan() if trial.method != "plain_kd"]))
    assert found.summary["ratio"].isna().all()
    assert found.answer.headline.endswith("first on average, but not reliably the fastest.")
    assert found.answer.estimate.endswith("as fast as kdas_search")


def test_a_baseline_that_has_no_trial_where_it_is_decided_is_not_said_to_have_missed(
    new_sweep: NewSweep, planned_trial: Any
) -> None:
    baseline = [planned_trial("plain_kd", "c-plain", seed, 30.0, phase="confirm") for seed in (100, 101)]
    found = findings(new_sweep([*baseline, planned_trial("kdas_search", "c-s1", 0, 20.0)]))
    assert "The baseline plain_kd has no trial in the deciding phase" in texts(found, "answer")
    assert "never reached" not in texts(found, "answer")


def test_when_no_trial_reached_the_answer_names_the_nearest(new_sweep: NewSweep, plan: Any) -> None:
    found = findings(new_sweep([replace(trial, ceiling=0.5) for trial in plan()]))
    assert found.answer.headline == "No trial has reached 90% validation accuracy."
    assert "kdas_search (start_rate 0.3 · end_rate 0.1) came closest, with" in found.answer.missed
    assert found.summary["ratio"].isna().all()


def test_one_seed_has_no_interval(new_sweep: NewSweep, plan: Any) -> None:
    found = findings(new_sweep(plan([4])))
    assert "They share one seed, so there is no interval, and nothing can be claimed." in found.answer.details
    assert "Only 1 paired seed: only large differences" in texts(found, "answer") and not found.answer.is_claimed


def test_a_sweep_that_has_not_begun_is_no_error(new_sweep: NewSweep) -> None:
    found = findings(new_sweep([], num_planned_trials=4))
    assert found.summary.empty and "Nothing has been evaluated yet" in found.answer.missed


def test_a_search_for_something_else_is_named(new_sweep: NewSweep, plan: Any) -> None:
    assert "The search objective was pareto" in texts(findings(new_sweep(plan([0]), objective="pareto")), "answer")


def test_shared_devices_and_mixed_calibrations_are_named(new_sweep: NewSweep, plan: Any) -> None:
    trials = plan()
    trials[0] = replace(trials[0], num_cotenants=2, calibration_id="cal-2")
    found = findings(new_sweep(trials))
    assert "1 trial shared a device (marked * in report.html)" in texts(found, "trials")
    assert "2 calibrations (cal-1, cal-2)" in texts(found, "answer")
    assert math.isnan(found.times.set_index("trial_id").loc["c-plain-0", "wall_s_at_hit"])
    assert not math.isnan(found.times.set_index("trial_id").loc["c-plain-1", "wall_s_at_hit"])


def test_prices_that_a_search_needs_are_no_mistake(new_sweep: NewSweep, plan: Any) -> None:
    trials = plan()
    trials[0] = replace(trials[0], calibration_id="cal-2")
    found = findings(new_sweep(trials, calibration_ids=["cal-1", "cal-2"]))
    assert "calibrations" not in texts(found, "answer")


def test_prices_of_a_busy_machine_are_named(sweep_directory: Path) -> None:
    assert "busy during calibration" not in texts(findings(sweep_directory), "answer")
    curves = pd.read_parquet(sweep_directory / "curves.parquet")
    curves.assign(wall_s=0.7 * curves["cost_as_run_s"]).to_parquet(sweep_directory / "curves.parquet")
    said = texts(findings(sweep_directory), "answer")
    assert "Trials took 0.7 of their priced time (median): the machine was busy during calibration" in said


def test_a_coarse_grid_is_named(sweep_directory: Path) -> None:
    found = findings(sweep_directory)
    assert row_of(found, "c-s0")["max_grid_gap"] == pytest.approx(4 / 64)
    assert "The evaluation grid is coarse" in texts(found, "answer")


def test_tables_that_disagree_are_named_and_the_curves_win(sweep_directory: Path) -> None:
    path = sweep_directory / "trials.parquet"
    trials = pd.read_parquet(path)
    trials.loc[0, "tta_ref_s"] = 1.0
    trials.iloc[:-1].to_parquet(path)
    found = findings(sweep_directory)
    assert "have different times for 1 trial (c-plain-0)" in texts(found, "trials")
    assert "in curves.parquet but not in trials.parquet." in texts(found, "trials")
    assert found.times.set_index("trial_id").loc["c-plain-0", "tta_ref_s"] > 1


@pytest.mark.parametrize(
    ("recorded", "expected"),
    [
        ({"teacher_accuracy": "0.1011", "teacher_accuracy_clear_from": "0.15"}, True),
        ({"teacher_accuracy": "0.15", "teacher_accuracy_clear_from": "0.15"}, False),
        ({"teacher_accuracy": "soon", "teacher_accuracy_clear_from": "0.15"}, False),
        ({}, False),
    ],
    ids=["near chance", "clear", "damaged", "of an earlier version"],
)
def test_a_teacher_near_chance_is_named(sweep_directory: Path, recorded: dict[str, str], expected: bool) -> None:
    (sweep_directory / "environment.json").write_text(json.dumps(recorded))
    said = texts(findings(sweep_directory), "answer")
    assert ("The teacher is near chance: it has 10.11% validation accuracy, and 15.00% would be" in said) is expected


def test_accuracies_at_chance_are_named(sweep_directory: Path) -> None:
    recorded = {"teacher_accuracy": "0.97", "teacher_accuracy_clear_from": "0.951"}
    (sweep_directory / "environment.json").write_text(json.dumps(recorded))
    said = texts(findings(sweep_directory), "answer")
    assert "The target, 90%, is near chance: 95.10% would be clearly above a guess." in said
    assert re.search(r"\d+ trials never got clearly above chance \(95\.10%\): .*rs2 [123]", said)
    (sweep_directory / "environment.json").write_text(json.dumps(recorded | {"teacher_accuracy_clear_from": "0.15"}))
    assert "chance" not in texts(findings(sweep_directory), "answer")


def test_without_a_recorded_teacher_chance_is_that_of_the_classes(sweep_directory: Path) -> None:
    picks = {
        "sweep": "digits",
        "method": "plain_kd",
        "phase": "search",
        "trial_id": "c-plain-0",
        "config_id": "c-plain",
    }
    frame = pd.DataFrame([picks | {"seed": 0, "epoch": 1, "by_class": [5, 5], "by_confidence": [1] * 10}])
    frame.to_parquet(sweep_directory / "picks.parquet")
    curves = pd.read_parquet(sweep_directory / "curves.parquet")
    halved = curves["val_accuracy"].where(curves["method"] != "rs2", 0.52)
    curves.assign(val_accuracy=halved).to_parquet(sweep_directory / "curves.parquet")
    # Two classes: 5 points above one half.
    said = texts(findings(sweep_directory), "answer")
    assert "3 trials never got clearly above chance (55.00%): rs2 3. Check their settings." in said


def test_accuracies_that_are_not_numbers_are_named_by_method(sweep_directory: Path) -> None:
    curves = pd.read_parquet(sweep_directory / "curves.parquet")
    of_rs2 = (curves["method"] == "rs2") & (curves["epoch"] <= 2)
    curves.loc[of_rs2, "val_accuracy"] = math.nan
    curves.to_parquet(sweep_directory / "curves.parquet")
    assert "Validation accuracy is NaN in 6 evaluations" in texts(findings(sweep_directory), "table")
    assert "never reach a target: rs2 6." in texts(findings(sweep_directory), "table")


def test_prices_that_fit_methods_differently_are_named(sweep_directory: Path) -> None:
    assert "Prices fit some methods better" not in texts(findings(sweep_directory), "answer")
    curves = pd.read_parquet(sweep_directory / "curves.parquet")
    slower = curves["wall_s"] * np.where(curves["method"] == "kdas_search", 1.07, 1.0)
    curves.assign(wall_s=slower).to_parquet(sweep_directory / "curves.parquet")
    said = texts(findings(sweep_directory), "answer")
    assert "wall seconds are 1.38x the cost for kdas_paper and 1.47x for kdas_search" in said


def test_the_error_of_the_prices_is_said_and_widens_the_interval(sweep_directory: Path) -> None:
    before = findings(sweep_directory)
    assert "The error of the prices is not known" in texts(before, "answer")
    assert "but not for errors of the prices" in before.answer.details
    trials = pd.read_parquet(sweep_directory / "trials.parquet")
    for number, change in enumerate((0.99, 1.0, 1.01, 1.0, 1.0)):
        trials[f"price_round_{number + 1}"] = np.where(trials["method"] == "plain_kd", change, 1.0)
    trials.to_parquet(sweep_directory / "trials.parquet")
    after = findings(sweep_directory)
    assert "prices" not in texts(after, "answer")
    assert re.search(r"over 3 paired seeds, prices \(±\d\.\d%\), and the evaluation grid\.", after.answer.details)
    for side, wider in (("ratio_low", -1), ("ratio_high", 1)):
        assert wider * row_of(after, "c-s0")[side] > wider * row_of(before, "c-s0")[side]
    trials["price_round_1"] = np.where(trials["method"] == "plain_kd", 1.2, 1.0)
    trials.to_parquet(sweep_directory / "trials.parquet")
    assert "The prices are uncertain: alone they move the ratio by ±" in texts(findings(sweep_directory), "answer")
    # A round that is not known for every trial says nothing.
    trials.loc[0, "price_round_1"] = math.nan
    trials.to_parquet(sweep_directory / "trials.parquet")
    assert "The error of the prices is not known" in texts(findings(sweep_directory), "answer")


def test_a_setting_that_is_more_erratic_than_the_reference_is_named(new_sweep: NewSweep, planned_trial: Any) -> None:
    trials = [planned_trial("plain_kd", "c-plain", seed, 35.0 + 0.5 * seed) for seed in range(6)]
    trials += [planned_trial("rs2", "c-rs2", seed, 10.0 + 2 * seed) for seed in range(6)]
    found = findings(new_sweep(trials))
    assert found.answer.is_claimed
    said = texts(found, "answer")
    assert re.search(r"Over seeds, rs2 varies \d\d?\.\d\dx as much as plain_kd\. Slow seeds may not have shown", said)
    steady = [replace(each, half_s=15.0 + 0.2 * each.seed) if each.method == "rs2" else each for each in trials]
    assert "Slow seeds may not" not in texts(findings(new_sweep(steady)), "answer")


@pytest.mark.parametrize(
    ("recorded", "said"),
    [
        ({"price_spread": "0.012", "prices_busy": ""}, ""),
        ({"price_spread": "0.042", "prices_busy": ""}, "The prices were measured, and differ by 4.2% between rounds."),
        ({"price_spread": "0.01", "prices_busy": "load 3.1"}, "while other work ran (load 3.1), and differ by 1.0%"),
        ({}, ""),
    ],
    ids=["quiet", "spread", "busy", "of an earlier version"],
)
def test_prices_that_differ_between_rounds_are_named(
    sweep_directory: Path, recorded: dict[str, str], said: str
) -> None:
    facts = recorded | {"prices_measured_at": "2026-01-02T03:04:05+00:00"}
    (sweep_directory / "environment.json").write_text(json.dumps(facts))
    shown = texts(findings(sweep_directory), "answer")
    assert said in shown and ("between rounds" in shown) == bool(said)


def test_while_a_look_runs_the_report_shows_the_look_before(new_sweep: NewSweep, plan: Any, planned_trial: Any) -> None:
    def confirmed(seeds: Iterable[int], status: Status | None = None) -> list[Any]:
        of = {"plain_kd": ("c-plain", 20.0), "kdas_search": ("c-s1", 10.0)}
        return [
            planned_trial(method, config_id, seed, half_s + seed % 3, phase="confirm", status=status, last_s=9.0)
            for seed in seeds
            for method, (config_id, half_s) in of.items()
        ]

    record = {"confirm_configs": ["c-plain", "c-s1"], "confirm_level": 0.01}
    looked = plan() + confirmed(range(100, 105))
    before = findings(new_sweep(looked, **record, confirm_seeds=list(range(100, 105)), last_look=0))
    assert deciding_phase(before.summary) == "confirm"
    # One trial of the next look has ended, the other one runs.
    ended, running = confirmed([105])[:1], confirmed([105], Status.RUNNING)[1:]
    for begun in ([], ended, running, ended + running):
        record_of_look = {**record, "confirm_seeds": list(range(100, 106)), "last_look": 5}
        found = findings(new_sweep(looked + begun, **record_of_look))
        assert deciding_phase(found.summary) == "confirm"
        assert found.answer.headline == before.answer.headline
        pd.testing.assert_frame_equal(found.summary, before.summary)
        assert len(found.trials) == len(looked + begun)
    whole = findings(new_sweep(looked + confirmed([105]), **record_of_look))
    assert row_of(whole, "c-s1", "confirm")["num_trials"] == 6
