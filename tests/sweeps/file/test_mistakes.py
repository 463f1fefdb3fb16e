"""Sweep files with one mistake each. The error is one line with file, key, value and remedy, before anything starts."""

# ruff: noqa: E501 (each error line is written as it is printed)

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kdas.errors import UserError
from sweeps.file.loading import load_spec
from tests.sweeps.conftest import TINY
from tests.sweeps.file.refusals import BASE, RATE, refusal, search, written

SAMPLERS = ["kdas", "random"]


def when(**conditions: Any) -> dict[str, Any]:
    return {"choices": [1, 4], "when": conditions}


# (keys that replace those of the tiny sweep, the error line after the file's name)
MISTAKES: list[tuple[dict[str, Any], str]] = [
    # Keys and blocks
    ({"epoch": 3}, "epoch: unknown key. Did you mean epochs?"),
    ({"budgets": {"trials": 4}}, "budgets: unknown key. Did you mean budget?"),
    ({"search": 5}, "search: expected a mapping, got 5."),
    ({"baselines": {}}, "baselines: none is the sampler full alone. Add plain_kd: full, which the target refers to."),
    # Keys that allow several kinds of values
    ({"seeds": "three"}, "seeds: expected a whole number or a list, got 'three'. Number of seeds, or a list of seeds."),
    ({"seeds": True}, "seeds: expected a whole number or a list, got True. Number of seeds, or a list of seeds."),
    (
        {"target": True},
        "target: expected a number or a mapping, got True. Known keys: accuracy, fraction_of_baseline.",
    ),
    (
        {"target": "high"},
        "target: expected a number or a mapping, got 'high'. Known keys: accuracy, fraction_of_baseline.",
    ),
    ({"target": None}, "target: expected a number or a mapping, got None. Known keys: accuracy, fraction_of_baseline."),
    ({"algorithm": 3}, "algorithm: expected a name or a mapping, got 3. Known keys: name, seed, startup."),
    (
        {"confirm": {"seeds": "ten"}},
        "confirm.seeds: expected a whole number or a list, got 'ten'. Number of fresh seeds, counted from 1001, or a list of seeds.",
    ),
    (
        search(start_rate=0.5),
        "search.start_rate: expected a list or a mapping, got 0.5. Known keys: low, high, log, step, choices, when.",
    ),
    # Ranges
    (search(), "search: the space is empty. Name at least one parameter of kdas, or kd_weight."),
    (search(start_rate={"low": 0.3}), "search.start_rate: expected low and high, or choices."),
    (
        search(start_rate={**RATE, "choices": [0.5]}),
        "search.start_rate: has both choices and a range. Keep one of them.",
    ),
    (
        search(start_rate={"low": 0.9, "high": 0.3}),
        "search.start_rate: expected low below high, got 0.9 and 0.3.",
    ),
    (
        search(start_rate={**RATE, "high": 1.5}),
        "search.start_rate: expected a value in (0, 1], got 1.5. Fraction of each batch; the paper goes from 0.6 to 0.4.",
    ),
    (
        search(start_rate={**RATE, "step": 0.25}),
        "search.start_rate: high 0.9 is not a whole number of steps of 0.25 above 0.3. Use high: 0.8.",
    ),
    (
        search(start_rate={**RATE, "step": 2}),
        "search.start_rate: step 2 exceeds the range from 0.3 to 0.9. Lower it.",
    ),
    (
        search(start_rate={**RATE, "step": 0}),
        "search.start_rate.step: expected a value in (0, inf), got 0. Distance between neighbouring values; the last one is high. By default any value.",
    ),
    (
        search(start_rate={**RATE, "step": 0.1, "log": True}),
        "search.start_rate: has both step and log. Keep one of them.",
    ),
    (
        search(penalty_warmup={"low": 0, "high": 3, "step": 1.5}),
        "search.penalty_warmup.step: expected a whole number, got 1.5.",
    ),
    (search(start_rate=[0.5, 0.5]), "search.start_rate: choices: contains 0.5 twice. Give each value once."),
    (search(start_rate=[]), "search.start_rate.choices: expected at least one entry, got none. List of values."),
    (
        search(start_rate=[True]),
        "search.start_rate: expected a number, got True. Fraction of each batch; the paper goes from 0.6 to 0.4.",
    ),
    (search(start_rate={"lo": 0.3, "high": 0.9}), "search.start_rate.lo: unknown key. Did you mean low?"),
    (search(score_mode={"low": 0, "high": 1}), "search.score_mode: expected a list of choices, got a range."),
    # Parameters of other blocks
    (search(start_rat=RATE), "search.start_rat: is not a parameter of kdas. Did you mean start_rate?"),
    (
        search(evaluations=[2, 3]),
        "search.evaluations: cannot be searched, since all trials of a sweep must share it. Compare several values with cells: {evaluations: [...]}.",
    ),
    (
        search(dataset=["digits"]),
        "search.dataset: cannot be searched, since all trials of a sweep must share it. Compare several values with cells: {dataset: [...]}.",
    ),
    (
        search(teacher__epochs=[1, 2]),
        "search.teacher.epochs: cannot be searched, since all trials of a sweep must share it. Compare several values with cells: {teacher: [...]}.",
    ),
    (
        search(student=["resnet8", "resnet14"]),
        "search.student: cannot be searched, since all trials of a sweep must share it. Compare several values with cells: {student: [...]}.",
    ),
    (
        search(device=["cpu"]),
        "search.device: cannot be searched, since all trials of a sweep must share it. Compare several values with cells: {device: [...]}.",
    ),
    (
        search(optimizer=[{}]),
        "search.optimizer: the optimizer has no such key. Known: adamw_learning_rate, betas, clip_norm, decay_share, delta, final_learning_rate, learning_rate, milestones, momentum, name, nesterov, schedule, warmup_epochs, weight_decay.",
    ),
    (
        search(optimizer__learning_rat=[1]),
        "search.optimizer.learning_rat: the optimizer has no such key. Did you mean learning_rate?",
    ),
    (
        search(optimizer__learning_rate={"low": 0, "high": 1}),
        "search.optimizer.learning_rate: expected a value in (0, 1e+15], got 0.0. Learning rate; the paper uses 0.05.",
    ),
    (
        search(loss__beta=[2]),
        "search.loss.beta: the loss has no such key. Known: direction, entropy_adaptive, standardize, temperature.",
    ),
    (
        search(loss__temperature={"low": -1, "high": 4}),
        "search.loss.temperature: expected a value in (0, 1000], got -1.0. Distillation temperature; the paper uses 4.",
    ),
    (search(loss=["kd", "dkdd"]), "search.loss.1.name: no loss is called 'dkdd'. Did you mean dkd?"),
    (search(loss={"low": 1, "high": 2}), "search.loss: expected a list of choices, got a range."),
    (search(batch_size={"low": 32, "high": 64}), "search.batch_size: expected a list of choices, got a range."),
    (
        search(batch_size=[4], accumulate=[1, 3]),
        "search: with batch_size 4 and accumulate 3: accumulate: splitting a batch of 4 into 3 leaves parts of fewer than two samples, which batch norm needs. Lower it.",
    ),
    (
        search(ce_weight=[0, 1], kd_weight={"low": 0, "high": 9}),
        "search: with ce_weight 0 and kd_weight 0.0: ce_weight: the cross-entropy and the distillation term both have weight 0. Raise one.",
    ),
    (
        search(warmup_epochs={"low": 0, "high": 3}),
        "search: with warmup_epochs 3: sampler.warmup_epochs: expected fewer than the 3 epochs, got 3. Lower it.",
    ),
    (
        search(optimizer__warmup_epochs=[0, 3]),
        "search: with optimizer.warmup_epochs 3: optimizer.warmup_epochs: expected fewer than the 3 epochs, got 3. Lower it.",
    ),
    # The searched sampler and conditions
    (search(sampler=["kdas", "randm"]), "search.sampler.1.name: no sampler is called 'randm'. Did you mean random?"),
    (
        search(sampler=["kdas", {"name": "random", "START_RATE": 2}]),
        "search.sampler.1.start_rate: expected a value in (0, 1], got 2. Fraction of each batch; the paper goes from 0.6 to 0.4.",
    ),
    (search(sampler=["kdas", {"KDAS": {}}]), "search.sampler: choices: contains 'kdas' twice. Give each value once."),
    (
        {**search(sampler=SAMPLERS), "sampler": "infobatch"},
        "sampler: infobatch is not among the choices of search.sampler. Remove it, or add it there.",
    ),
    (
        search(sampler=["random", "full"], sampling_period=[1]),
        "search.sampling_period: is not a parameter of full or random. Known",
    ),
    (
        search(sampler=SAMPLERS, sampling_period=when(sampler="random")),
        "search.sampling_period.when.sampler: that sampler has no sampling_period. Name one that has it.",
    ),
    (
        search(sampler=SAMPLERS, sampling_period=when(sampler="full")),
        "search.sampling_period.when.sampler: full is never proposed, since search.sampler is one of ['kdas', 'random']. Change one of them.",
    ),
    (
        search(sampling_period=when(sampler="kdas")),
        "search.sampling_period.when.sampler: is not searched. Search it too, or remove the condition.",
    ),
    (
        search(start_rate={**RATE, "when": {"end_rat": 0.4}}, end_rate=[0.4, 0.5]),
        "search.start_rate.when.end_rat: is not searched. Did you mean end_rate?",
    ),
    (
        search(start_rate={**RATE, "when": {"end_rate": 0.45}}, end_rate=[0.4, 0.5]),
        "search.start_rate.when.end_rate: 0.45 is never proposed, since search.end_rate is one of [0.4, 0.5]. Change one of them.",
    ),
    (
        search(start_rate={**RATE, "when": {"end_rate": 0.5}}, end_rate=RATE),
        "search.start_rate.when.end_rate: end_rate is a continuous range, which almost never takes a given value. Give search.end_rate a step or choices.",
    ),
    (
        search(start_rate={**RATE, "when": {"end_rate": []}}, end_rate=[0.4, 0.5]),
        "search.start_rate.when.end_rate: is an empty list. Name a value of end_rate.",
    ),
    (
        search(start_rate={**RATE, "when": 0.5}),
        "search.start_rate.when: expected a mapping, got 0.5.",
    ),
    (
        search(
            start_rate={"choices": [0.6, 0.7], "when": {"end_rate": 0.4}},
            end_rate={"choices": [0.4, 0.5], "when": {"start_rate": 0.6}},
        ),
        "search.start_rate.when: depends on itself: start_rate -> end_rate -> start_rate. Remove one of these conditions.",
    ),
    (
        search(start_rate={"choices": [0.6, 0.7], "when": {"start_rate": 0.6}}),
        "search.start_rate.when: depends on itself: start_rate -> start_rate. Remove one of these conditions.",
    ),
    (
        search(sampler={"choices": SAMPLERS, "when": {"end_rate": 0.4}}, end_rate=[0.4, 0.5], sampling_period=[1, 4]),
        "search.sampler.when: depends on itself: sampler -> end_rate -> sampler. Remove one of these conditions.",
    ),
    (
        search(
            sampler=SAMPLERS,
            kd_weight=when(sampler="random"),
            threshold={"low": 0.1, "high": 0.2, "when": {"kd_weight": 4}},
        ),
        "search.threshold.when: is never true: it requires two values of sampler at once. Change the condition.",
    ),
    # Known points
    (
        {**search(start_rate=RATE), "known_points": [{"start_rate": 0.2}]},
        "known_points.0.start_rate: expected 0.3 to 0.9, as in search.start_rate, got 0.2.",
    ),
    (
        {**search(start_rate={**RATE, "step": 0.1}), "known_points": [{"start_rate": 0.65}]},
        "known_points.0.start_rate: expected 0.3 to 0.9 in steps of 0.1, as in search.start_rate, got 0.65.",
    ),
    (
        {**search(start_rate=RATE), "known_points": [{"end_rate": 0.4}]},
        "known_points.0: expected a value for every key of search, and no other. Add or remove end_rate, start_rate.",
    ),
    (
        {**search(sampler=SAMPLERS, threshold=[0.1]), "known_points": [{"sampler": "random", "threshold": 0.1}]},
        "known_points.0: threshold is not used with the point's other values. Remove it.",
    ),
    (
        {**search(sampler=SAMPLERS, threshold=[0.1]), "known_points": [{"sampler": "kdas"}]},
        "known_points.0: threshold is required with the point's other values. Add it.",
    ),
    # Objective, algorithm, scheduler
    (
        {"objective": "speed"},
        "objective.name: no objective is called 'speed'. Known: accuracy, accuracy_at_cost, pareto, tta.",
    ),
    (
        {"objective": {"cost_ref_s": 3}},
        "objective: expected a name or a mapping with a name, got {'cost_ref_s': 3}. Known: tta, accuracy, accuracy_at_cost, pareto.",
    ),
    (
        {"objective": "accuracy_at_cost"},
        "objective.cost_ref_s: expected either cost_ref_s or share_of_budget. Give exactly one.",
    ),
    (
        {"objective": {"name": "accuracy_at_cost", "share_of_budget": 2}},
        "objective.share_of_budget: expected a value in (0, 1], got 2. Cost as a fraction of the cost of plain distillation.",
    ),
    (
        {"objective": {"name": "accuracy_at_cost", "share_of_budget": 0.001}},
        "objective.share_of_budget: 0.001 of the budget ends before the first of 6 evaluations. Use at least 0.167, or raise"
        " evaluations.",
    ),
    (
        {"baselines": {"plain_kd": "full", "rs2": "random", "again": {"name": "random", "start_rate": 0.6}}},
        "baselines.again: is the same method as rs2. Remove one of them.",
    ),
    (
        {"baselines": {"plain_kd": "full", "gap": "reference_gap"}},
        "baselines.gap.reference: missing. Add this key. Weights of a student like this one: the folder of a kept student, or a checkpoint.",
    ),
    (
        {"baselines": {"plain_kd": "full", "gap": {"name": "reference_gap", "reference": "https://x.org/y.pth"}}},
        "baselines.gap.reference: expected a file on this machine, got 'https://x.org/y.pth'. Download it, and give the file.",
    ),
    (
        {"baselines": {"plain_kd": "full", "small": {"name": "proxy", "proxy": "resnt8"}}},
        "baselines.small.proxy: no model is called 'resnt8'. Did you mean resnet8?",
    ),
    (
        {"baselines": {"plain_kd": "full", "easy": {"name": "scored_subset", "score": "el3n"}}},
        "baselines.easy.score: expected 'teacher_confidence', 'dispersion', 'el2n', 'dual', 'dyn_unc', 'aum' or 'forgetting', got 'el3n'. Score: of the teacher (teacher_confidence, dispersion), or of the student's training.",
    ),
    ({"objective": {"name": "tta", "cost_ref_s": 1}}, "objective.cost_ref_s: unknown key. Known: name."),
    (
        {"objective": "pareto", "scheduler": "capping"},
        "scheduler: capping is only exact for the objective tta, got pareto. Use asha, median or none.",
    ),
    (
        {"algorithm": "bayes"},
        "algorithm.name: expected 'tpe', 'random', 'grid', 'brute_force', 'gp', 'cmaes' or 'nsga2', got 'bayes'. Sampler that proposes configurations. tpe learns from results, random does not; grid and brute_force try all.",
    ),
    (
        {"algorithm": {"name": "tpe", "seed": -1}},
        "algorithm.seed: expected a value in [0, 4294967296), got -1. Seed of the proposals.",
    ),
    (
        {**search(start_rate=RATE), "algorithm": "grid"},
        "algorithm: grid tries every value, but search.start_rate has infinitely many. Give it a step or choices.",
    ),
    (
        {**search(sampler=SAMPLERS, threshold=[0.1]), "algorithm": "grid"},
        "algorithm: grid cannot handle conditions, and search.threshold has one. Use brute_force.",
    ),
    (
        {**search(start_rate=RATE, end_rate=[0.4]), "algorithm": "cmaes"},
        "algorithm: cmaes handles numbers only, and search.end_rate has choices. Give it a range, or use tpe.",
    ),
    (
        {**search(start_rate=RATE), "algorithm": "cmaes"},
        "algorithm: cmaes needs at least two parameters. Search another one, or use tpe.",
    ),
    (
        {**search(start_rate=RATE, end_rate=RATE), "algorithm": "cmaes", "objective": "pareto"},
        "algorithm: cmaes handles one objective, and pareto has two. Use nsga2, tpe or gp.",
    ),
    ({"scheduler": "ashaa"}, "scheduler.name: no scheduler is called 'ashaa'. Did you mean asha?"),
    (
        {"scheduler": {"name": "asha", "reduction_factor": 1}},
        "scheduler.reduction_factor: expected a value in [2, inf), got 1. One in this many trials continues at each cost.",
    ),
    (
        {"scheduler": {"name": "asha", "at_least": 3}},
        "scheduler.at_least: unknown key. Known: grace, reduction_factor.",
    ),
    (
        {"scheduler": {"name": "median", "grace": 1}},
        "scheduler.grace: expected a value in (0, 1), got 1. Fraction of the budget before which no trial is stopped.",
    ),
    # Confirmation, budget, the rest
    (
        {"confirm": {"top": 0}},
        "confirm.top: expected a value in [1, 1000000], got 0. Number of finalists: the best searched settings.",
    ),
    ({"confirm": {"seeds": [2, 1001]}}, "confirm.seeds: 2 is also in seeds, so it is not fresh. Use other seeds."),
    ({"confirm": {"seeds": [7, 7]}}, "confirm.seeds: contains a duplicate. Give each seed once."),
    (
        {"confirm": {"seeds": 0}},
        "confirm.seeds: expected at least 1 seed, got 0. Give a number of seeds, or a list of seeds.",
    ),
    (
        {"confirm": 3},
        "confirm: expected true, false or a mapping, got 3. Known keys: top, seeds, until, least, most.",
    ),
    (
        {"confirm": {"until": "decided", "seeds": 3}},
        "confirm.seeds: expected none beside until: decided. Remove seeds or until; where this file extends another,"
        " write seeds: null.",
    ),
    (
        {"confirm": {"until": "decided", "least": 40}},
        "confirm.least: expected at most 30, the value of most, got 40. Lower it, or raise most.",
    ),
    (
        {"confirm": {"least": 5, "most": 30}},
        "confirm.least: expected until: decided beside it. Add until, or give seeds instead.",
    ),
    ({"confirm": {"until": "desided"}}, "confirm.until: expected 'decided', got 'desided'."),
    ({"confirm": {"until": "decided", "least": 1}}, "confirm.least: expected a value in [2, 1000], got 1."),
    (
        {"confirm": {"until": "decided"}, "seeds": [1, 1003]},
        "seeds: 1003 is needed as a fresh seed, 1001 to 1030. Use other seeds.",
    ),
    ({"budget": {"trial": 3}}, "budget.trial: unknown key. Did you mean trials?"),
    (
        {"budget": {"trials": 7}},
        "budget.trials: 7 leaves no trials for the search: 3 baselines on 2 seeds take 6. Use at least 8.",
    ),
    (
        {"budget": {"wall_hours": 0}},
        "budget.wall_hours: expected a value in (0, 1000000], got 0. Wall hours over all starts.",
    ),
    (
        {"budget": {"stop_when": "soon"}},
        "budget.stop_when: expected first_reached or a mapping, got 'soon'. Known keys: first_reached, tta_ref_s_below.",
    ),
    ({"budget": {"stop_when": {}}}, "budget.stop_when: is empty. Give first_reached: true, or tta_ref_s_below."),
    (
        {"budget": {"when_spent": "stop"}},
        "budget.when_spent: expected 'finish' or 'checkpoint', got 'stop'. What happens to running trials once the hours are used up: finish runs them to their end, checkpoint pauses them.",
    ),
    (
        {"faults": {"retries": -1}},
        "faults.retries: expected a value in [0, 1000], got -1. How often in a row a trial resumes after losing its worker, without a new evaluation in between.",
    ),
    # Cells
    ({"cells": [1]}, "cells: expected a mapping, got [1]. Give names with the keys they change, or a grid of lists."),
    (
        {"cells": {"a": {}, "b": [1]}},
        "cells.b: expected a mapping, got [1]. Give the keys it changes, or lists for all keys.",
    ),
    ({"cells": {"a/b": {}}}, "cells.a/b: is not a valid folder name. Use letters, digits, dots and dashes."),
    ({"cells": {"a": {"epoch": 2}}}, "cells.a.epoch: unknown key. Did you mean epochs?"),
    (
        {"cells": {"a": {"epochs": 0}}},
        "cells.a.epochs: expected a value in [1, 1000000], got 0. Number of epochs, the length of all schedules; the paper uses 240.",
    ),
    (
        {"cells": {"a": {}}, "epochs": 0},
        "epochs: expected a value in [1, 1000000], got 0. Number of epochs, the length of all schedules; the paper uses 240.",
    ),
    ({"cells": {"a": {"student": "resnt8"}}}, "cells.a.student: no model is called 'resnt8'. Did you mean resnet8?"),
    ({"cells": {"a": {"cells": {"b": {}}}}}, "cells.a.cells: unknown key."),
    (
        {"cells": {"pair": ["vgg13 vgg8"]}},
        "cells.pair: expected teacher -> student, got 'vgg13 vgg8'. For example: vgg13 -> vgg8.",
    ),
    ({"cells": {"pair": ["vgg13 -> vg8"]}}, "cells.vgg13-vg8.student: no model is called 'vg8'. Did you mean vgg8?"),
    (
        {"cells": {"a": {"pair": "vgg13 -> vgg8", "student": "vgg8"}}},
        "cells.a.student: is also set by pair. Keep one of them.",
    ),
    ({"cells": {"pair": []}}, "cells.pair: is an empty list. Give at least one value."),
    (
        {"cells": {"dataset": ["digits", {"name": "digits"}]}},
        "cells: two cells would be called digits. Name them yourself: cells: {my_name: {...}, ...}.",
    ),
]


@pytest.mark.parametrize(
    ("changes", "expected"), MISTAKES, ids=[expected.partition(". ")[0] for _, expected in MISTAKES]
)
def test_mistake_is_one_line_with_file_key_value_and_remedy(
    tmp_path: Path, changes: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = refusal(written(tmp_path, {**BASE, **changes}))
    assert line.startswith(f"mine.yaml: {expected}")
    assert line.endswith((".", "?"))


@pytest.mark.parametrize(
    ("own", "base", "expected"),
    [
        ({"epoch": 3}, {}, "mine.yaml: epoch: unknown key. Did you mean epochs?"),
        ({}, {"epoch": 3}, "base.yaml: epoch: unknown key. Did you mean epochs?"),
        (
            {"epochs": 0},
            {"epochs": 5},
            "mine.yaml: epochs: expected a value in [1, 1000000], got 0. Number of epochs, the length of all schedules; the paper uses 240.",
        ),
        ({"teacher": {"epochs": 1}}, {"teacher": {"model": "resnt8"}}, "base.yaml: teacher.model: no model is called"),
        ({"teacher": {"model": "resnt8"}}, {"teacher": {"epochs": 1}}, "mine.yaml: teacher.model: no model is called"),
        (
            search(end_rate=[0.4]),
            search(START_RATE={"low": 0.3}),
            "base.yaml: search.start_rate: expected low and high, or choices.",
        ),
        (
            search(start_rate={"high": 3}),
            search(START_RATE={"low": 0.3}),
            "mine.yaml: search.start_rate: expected a value in (0, 1], got 3.0. Fraction of each batch; the paper goes from 0.6 to 0.4.",
        ),
        (
            search(loss__temperature=[0]),
            {},
            "mine.yaml: search.loss.temperature: expected a value in (0, 1000], got 0. Distillation temperature; the paper uses 4.",
        ),
        (
            {"known_points": [{"start_rate": 7}]},
            {},
            "mine.yaml: known_points.0.start_rate: expected 0.3 to 0.9, as in search.start_rate, got 7.",
        ),
        ({"extends": "bose.yaml"}, {}, "mine.yaml: extends: bose.yaml: no such sweep file. Did you mean base.yaml?"),
        ({"extends": "digit_kd"}, {}, "mine.yaml: extends: digit_kd: no such sweep file. Did you mean digits_kd?"),
        (
            {"extends": ["base.yaml"]},
            {},
            "mine.yaml: extends: expected a sweep file or the name of a shipped sweep, got ['base.yaml'].",
        ),
        (
            {"extends": "mine.yaml"},
            {},
            "mine.yaml: extends: mine.yaml -> mine.yaml is circular. Remove one of these keys.",
        ),
        (
            {},
            {"extends": "mine.yaml"},
            "base.yaml: extends: mine.yaml -> base.yaml -> mine.yaml is circular. Remove one of these keys.",
        ),
    ],
    ids=str,
)
def test_line_names_the_file_that_contains_the_wrong_key(
    tmp_path: Path, own: dict[str, Any], base: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, {**BASE, **base}, "base.yaml")
    assert refusal(written(tmp_path, {"extends": "base.yaml", **own})).startswith(expected)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (["epoch=3"], "SET epoch=3: epoch: unknown key. Did you mean epochs?"),
        (["seeds=2 budget.trails=40"], "SET budget.trails=40: budget.trails: unknown key. Did you mean trials?"),
        (
            ["search.start_rate.low=0.95"],
            "SET search.start_rate.low=0.95: search.start_rate: expected low below high, got 0.95 and 0.9.",
        ),
        (
            ["search.loss.temperature=[0]"],
            "SET search.loss.temperature=[0]: search.loss.temperature: expected a value in (0, 1000], got 0. Distillation temperature; the paper uses 4.",
        ),
        (
            ["epochs=2", "epochs=many"],
            "SET epochs=many: epochs: expected a whole number, got 'many'. Number of epochs, the length of all schedules; the paper uses 240.",
        ),
        (
            ["loss='{name: dkd}'"],
            "SET loss='{name: dkd}': loss.name: no loss is called '{name: dkd}'. Known: ",
        ),
        (
            ["budget.configurations=4,seeds=2"],
            "SET budget.configurations=4,seeds=2: has a comma between two settings. Put a space there.",
        ),
        (["seeds"], 'SET seeds: expected key=value. For example: SET="seeds=5 budget.trials=40".'),
        (["epochs="], "SET epochs=: has no value. Give one, or null for the default."),
        (["a..b=1"], 'SET a..b=1: expected key=value. For example: SET="seeds=5 budget.trials=40".'),
        (["seeds=[1"], "SET seeds=[1: the value is not valid YAML. Write a number, a word, [a, b] or {a: b}."),
        (
            ["seeds=!!python/name:os.system"],
            "SET seeds=!!python/name:os.system: the value is not valid YAML. Write a number, a word, [a, b] or {a: b}.",
        ),
    ],
    ids=str,
)
def test_line_names_the_setting_of_the_command_line_that_is_wrong(settings: list[str], expected: str) -> None:
    assert refusal(TINY, *settings).startswith(expected)


def test_file_of_one_trial_is_told_so(tmp_path: Path) -> None:
    path = written(tmp_path, {key: BASE[key] for key in ("dataset", "validation", "teacher", "student", "epochs")})
    line = refusal(path)
    assert line.endswith(
        f"mine.yaml: is the file of one trial. Run it with python -m kdas train {path}, or add {{}}.".format(
            "baselines and search"
        )
    )


def test_data_at_an_address_are_refused(tmp_path: Path) -> None:
    path = written(tmp_path, {**BASE, "dataset": "cifar10"})
    with pytest.raises(
        UserError, match=r"^DATA=https://x\.org/a\.tgz: expected a folder on this machine\. Download it"
    ):
        load_spec(path, "https://x.org/a.tgz")


def test_data_for_cells_that_have_datasets_of_their_own_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, {**BASE, "cells": {"dataset": ["cifar10", "cifar100"]}})
    with pytest.raises(UserError, match=r"DATA=/data: the cells have their own datasets\. Set the path of each"):
        load_spec(path, "/data")


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 3},
        {"cells": {"a": {"epochs": 0}}},
        search(evaluations=[1]),
        {"scheduler": "ashaa"},
        {"student": "resnt8"},
        search(start_rate=[2]),
        {"sampler": {"name": "kdas", "threshold": 1}, "loss": "kdd"},
    ],
    ids=str,
)
def test_mistake_ends_with_code_2_before_torch_is_imported(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = written(tmp_path, {**BASE, **changes})
    program = (
        "import atexit, sys\n"
        "heavy = ('torch', 'ray', 'optuna', 'mlflow', 'pandas', 'numpy', 'pyarrow')\n"
        "atexit.register(lambda: print([name for name in heavy if name in sys.modules]))\n"
        "from sweeps.__main__ import main\n"
        f"sys.argv = ['sweeps', 'run', {str(path)!r}]\n"
        "main()"
    )
    environment = {**os.environ, "RUNS_DIR": str(tmp_path / "runs"), "KDAS_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "[]\n"), done.stderr
    assert all("mine.yaml: " in line for line in done.stderr.splitlines())
    assert not (tmp_path / "runs").exists()
