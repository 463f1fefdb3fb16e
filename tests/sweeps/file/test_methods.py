"""Methods to compare with that have keys of the recipe of their own, or a search."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from kdas.errors import UserError
from kdas.parts.yaml_file import read_yaml
from kdas.recipe.config import TrialConfig
from kdas.training.trial import Inputs
from sweeps.file.loading import load_spec
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.prepare.unchanged import spec_text
from sweeps.record.job import Job
from tests.sweeps.conftest import TINY, identify_by

Load = Callable[..., SweepSpec]
PLAIN = {"plain_kd": "full"}
HALF = {"sampler": "full", "epochs": 1, "optimizer": {"learning_rate": 0.1}}


@pytest.fixture
def compared(tmp_path: Path) -> Load:
    """Loads the tiny sweep with plain distillation and other methods."""

    def load(methods: dict[str, Any], **changed: Any) -> SweepSpec:
        path = tmp_path / "mine.yaml"
        content = {**read_yaml(TINY), "baselines": {**PLAIN, **methods}, **changed}
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return load_spec(path)

    return load


def first_jobs(spec: SweepSpec, inputs: Inputs) -> dict[str, Job]:
    return {job.method: job for job in reversed(plan_of(spec, identify_by(inputs)).baselines)}


def test_a_method_overrides_keys_of_the_recipe(compared: Load, inputs: Inputs) -> None:
    jobs = first_jobs(compared({"plain_half": HALF}), inputs)
    half, plain = jobs["plain_half"].config, jobs["plain_kd"].config
    assert (half.epochs, half.optimizer.learning_rate) == (1, 0.1)
    assert (plain.epochs, plain.optimizer.learning_rate) == (3, 0.05)
    expected = {**plain.model_dump(), "epochs": 1, "budget_epochs": 3}
    expected["optimizer"] = {**plain.optimizer.model_dump(), "learning_rate": 0.1}
    assert half.model_dump() == expected
    assert jobs["plain_half"].configuration == "epochs 1 · optimizer.learning_rate 0.1"
    assert jobs["plain_kd"].configuration == "every sample"


@pytest.mark.parametrize("name", ["sgd", "dot"])
def test_another_optimizer_keeps_the_values_of_the_preset(compared: Load, name: str) -> None:
    changed = {"preset": "official", "student": "ShuffleV1", "optimizer": {"name": "adamw"}}
    own = {"sampler": "full", "optimizer": {"name": name}}
    search = {"optimizer.name": ["adamw", name]}
    methods = compared({"other": own}, search=search, known_points=[], algorithm="tpe", **changed).methods
    assert TrialConfig(**methods.baselines["other"].content).optimizer.learning_rate == 0.01
    search_of_file = methods.searches[0]
    for proposed, rate in ((name, 0.01), ("adamw", 0.001)):
        content = search_of_file.space.applied(search_of_file.content, {"optimizer.name": proposed})
        assert TrialConfig(**content).optimizer.learning_rate == rate


def test_a_method_with_a_teacher_gets_the_preset_of_its_own_pair(compared: Load) -> None:
    own = {"sampler": "full", "loss": "dkd", "teacher": {"model": "vgg13"}}
    changed = {"preset": "official", "student": "vgg8", "search": {"optimizer.momentum": [0.8, 0.9]}}
    methods = compared({"vgg": own}, known_points=[], dataset="digits", **changed).methods
    assert methods.baselines["vgg"].content["loss"]["beta"] == 6.0


def test_a_method_with_another_optimizer_starts_from_that_one_s_defaults(compared: Load, inputs: Inputs) -> None:
    adamw = {"sampler": "full", "optimizer": {"name": "adamw", "betas": [0.8, 0.9]}}
    spec = compared(
        {"adamw": adamw, "back": {"sampler": "full", "optimizer": {"name": "sgd"}}},
        optimizer={"name": "muon", "learning_rate": 0.3, "schedule": "linear", "clip_norm": 2},
    )
    jobs = first_jobs(spec, inputs)
    optimizer = jobs["adamw"].config.optimizer
    assert (optimizer.name, optimizer.betas, optimizer.learning_rate) == ("adamw", [0.8, 0.9], 0.001)
    assert (optimizer.schedule, optimizer.clip_norm) == ("linear", 2)
    back = jobs["back"].config.optimizer
    assert (back.name, back.learning_rate, back.momentum, back.schedule) == ("sgd", 0.05, 0.9, "linear")
    assert SweepSpec.model_validate(spec.model_dump(mode="json")) == spec


@pytest.mark.parametrize("sampler", ["random", {"name": "random", "END_RATE": 0.5}, {"RANDOM": {"end_rate": 0.5}}])
def test_a_sampler_alone_stays_a_method(compared: Load, sampler: Any) -> None:
    alone, below = compared({"rs2": sampler}), compared({"rs2": {"sampler": sampler}})
    assert alone.baselines == below.baselines
    assert yaml.safe_load(spec_text(alone))["baselines"]["rs2"]["name"] == "random", "as earlier versions wrote it"


def test_a_method_is_written_as_it_was_given(compared: Load) -> None:
    searched = {"sampler": "full", "search": {"epochs": [1, 2, 3]}, "optimizer": {"momentum": 0.8}}
    spec = compared({"plain_half": HALF, "plain_tuned": searched})
    again = SweepSpec.model_validate(yaml.safe_load(spec_text(spec)))
    assert again == spec and again.baselines["plain_tuned"].overrides({}) == {"optimizer": {"momentum": 0.8}}


@pytest.mark.parametrize(("epochs", "of_recipe", "expected"), [(0.5, 24, 12), (0.75, 3, 2), (0.5, 1, 1), (2.0, 3, 2)])
def test_epochs_may_be_a_fraction_of_the_files(
    compared: Load, inputs: Inputs, epochs: float, of_recipe: int, expected: int
) -> None:
    method = {"sampler": "full", "epochs": epochs, "kd_weight": 3}
    job = first_jobs(compared({"short": method}, epochs=of_recipe), inputs)["short"]
    assert (job.config.epochs, job.configuration) == (expected, f"kd_weight 3 · epochs {expected}")


def test_only_the_methods_that_train_on_every_sample_are_plain(compared: Load) -> None:
    tuned = {"sampler": "full", "search": {"epochs": [1, 2]}}
    spec = compared({"half": HALF, "rs2": "random", "tuned": tuned})
    assert spec.methods.plain == "plain_kd"
    assert spec.methods.plain_methods == ("plain_kd", "half", "tuned_search")
    searched = compared({}, search={"sampler": ["kdas", "full"], "kd_weight": [1, 9]}, known_points=[])
    assert searched.methods.plain_methods == ("plain_kd", "full_search")


def test_a_loss_of_its_own_comes_with_its_authors_weights(compared: Load, inputs: Inputs) -> None:
    jobs = first_jobs(
        compared(
            {
                "dkd": {"sampler": "full", "loss": "dkd"},
                "dkd_heavy": {"sampler": "full", "loss": "dkd", "kd_weight": 3},
                "hot": {"sampler": "full", "loss": {"name": "kd", "temperature": 8}},
            },
            ce_weight=0.5,
        ),
        inputs,
    )
    assert (jobs["dkd"].config.ce_weight, jobs["dkd"].config.kd_weight) == (1.0, 1.0)
    assert (jobs["dkd_heavy"].config.ce_weight, jobs["dkd_heavy"].config.kd_weight) == (1.0, 3.0)
    assert jobs["hot"].config.ce_weight == 0.5, "the file's loss keeps the file's weights"


def test_preset_and_official_block_reach_methods_with_keys_of_their_own(compared: Load) -> None:
    methods = {"kdas_half": {"sampler": "kdas", "epochs": 2}, "dkd": {"sampler": "full", "loss": ["kd", "dkd"]}}
    methods["dkd"]["loss"] = [{"name": "kd", "weight": 1}, {"name": "dkd", "weight": 1}]
    spec = compared(methods, preset="official", validation=0, KDAS={"THRESHOLD": 0.1})
    assert spec.baselines["kdas_half"].sampler["score_mode"] == "train"
    assert spec.baselines["kdas_half"].sampler["threshold"] == 0.1
    loss = spec.baselines["dkd"].loss
    assert isinstance(loss, list) and loss[0]["direction"] == "reverse"


def test_official_weights_of_the_pair_reach_methods_and_searched_losses(compared: Load, inputs: Inputs) -> None:
    pair = {"teacher": {"model": "resnet32x4"}, "student": "ShuffleV2", "preset": "official"}
    review = {"sampler": "full", "loss": "reviewkd"}
    spec = compared({"review": review}, **pair, search={"loss": ["kd", "reviewkd", "dkd"]}, known_points=[])
    jobs = first_jobs(spec, inputs)
    assert (jobs["review"].config.ce_weight, jobs["review"].config.kd_weight) == (1, 8)
    assert jobs["review"].configuration == "loss reviewkd"
    assert jobs["plain_kd"].config.optimizer.learning_rate == 0.01
    plan = plan_of(spec, identify_by(inputs))
    (search,) = plan.methods.searches
    searched = {
        job.config.loss["name"]: job.config.kd_weight  # type: ignore[call-overload]
        for loss in search.space["loss"].values.choices or []
        for job in plan.searched({"loss": loss})
    }
    assert searched == {"kd": 9, "reviewkd": 8, "dkd": 1}


def test_trials_with_the_same_epochs_and_another_budget_are_different_trials(compared: Load, inputs: Inputs) -> None:
    half = first_jobs(compared({"plain_half": {"sampler": "full", "epochs": 2}}), inputs)["plain_half"]
    alone = first_jobs(compared({}, epochs=2), inputs)["plain_kd"]
    assert half.config.epochs == alone.config.epochs == 2
    assert half.config_id != alone.config_id, "one is evaluated at thirds of the other's costs"


def test_a_searched_number_of_epochs_can_be_that_of_a_baseline(compared: Load, inputs: Inputs) -> None:
    spec = compared(
        {"plain_half": {"sampler": "full", "epochs": 1}, "tuned": {"sampler": "full", "search": {"epochs": [1, 2, 3]}}}
    )
    plan = plan_of(spec, identify_by(inputs))
    search = plan.methods.searches[1]
    methods = [plan.searched({"epochs": number}, search)[0].method for number in (1, 2, 3)]
    assert methods == ["plain_half", "tuned_search", "plain_kd"]


def test_each_search_gets_the_same_number_of_configurations_and_finalists(compared: Load) -> None:
    tuned = {"sampler": "full", "search": {"epochs": {"low": 1, "high": 3}}}
    plan = plan_of(compared({"tuned": tuned}, confirm={"top": 1, "seeds": 4}))
    assert (plan.num_searched, plan.num_finalists) == (4, 2)
    # Two seeds: one baseline and four configurations; then one baseline and two finalists on four fresh seeds.
    assert plan.num_trials == 2 * 5 + 4 * 3
    few = compared({"tuned": tuned}, budget={"trials": 14})
    assert few.num_configurations == 3


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ({"name": "full", "epochs": 12}, "baselines.x.epochs: is not a key of a sampler. Write {sampler: full, "),
        ({"sampler": "full", "epochs": 0}, "baselines.x.epochs: expected a value in (0, 1000000], got 0."),
        ({"sampler": "full", "epochs": 1.5}, "x.epochs: expected a whole number, or a fraction below 1, got 1.5."),
        ({"sampler": "ful"}, "baselines.x.sampler.name: no sampler is called 'ful'. Did you mean full?"),
        ({"sampler": "full", "optimizer": {"lr": 0.1}}, "x.optimizer.lr: unknown key. Did you mean learning_rate?"),
        ({"sampler": "full", "validation": 0.2}, "baselines.x.validation: unknown key."),
        ({"sampler": "full", "epoch": 2}, "baselines.x.epoch: unknown key. Did you mean epochs?"),
        ({"sampler": "kdas", "epochs": 1, "kd_weight": -1}, "baselines.x.kd_weight: expected a value in [0, 1000000]"),
        (
            {"sampler": "full", "epochs": 1, "optimizer": {"warmup_epochs": 2}},
            "baselines.x.optimizer.warmup_epochs: expected fewer than the 1 epochs, got 2. Lower it.",
        ),
        (
            {"sampler": "full", "ce_weight": 0, "kd_weight": 0},
            "baselines.x.ce_weight: the cross-entropy and the distillation term both have weight 0. Raise one.",
        ),
        ({"sampler": "full", "search": {}}, "baselines.x.search: the space is empty."),
        ({"sampler": "full", "search": {"start_rate": [0.3]}}, "search.start_rate: is not a parameter"),
        ({"sampler": "full", "search": {"epochs": {"low": 0, "high": 3}}}, "search.epochs: expected a value"),
        ({"sampler": "full", "search": {"epochs": {"low": 3, "high": 1}}}, "search.epochs: expected low below"),
        (
            {"sampler": "full", "optimizer": {"warmup_epochs": 2}, "search": {"epochs": [2, 3]}},
            "x.search: with epochs 2: optimizer.warmup_epochs: expected fewer than the 2 epochs, got 2.",
        ),
    ],
    ids=str,
)
def test_mistakes_in_a_method_are_told_with_its_name(compared: Load, method: Any, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        compared({"x": method})


def test_mistakes_of_both_searches_are_told_at_once(compared: Load) -> None:
    with pytest.raises(UserError) as caught:
        compared({"x": {"sampler": "full", "search": {"epoch": [1]}}}, search={"start_rat": [0.3]}, known_points=[])
    told = str(caught.value)
    assert "search.start_rat: is not a parameter of kdas" in told and "baselines.x.search.epoch: is not" in told


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ({"plain_kd": {"sampler": "full", "epochs": 2}}, "baselines: none is the sampler full alone."),
        ({"a": HALF, "b": HALF}, "baselines.b: is the same method as a. Remove one of them."),
        ({"again": {"sampler": "full"}}, "baselines.again: is the same method as plain_kd. Remove one of them."),
        ({"a": {"sampler": "full", "epochs": 3}}, "baselines.a: is the same method as plain_kd. Remove one of them."),
        (
            {"a/b": {"sampler": "full", "search": {"epochs": [1, 2]}}},
            "baselines.a/b: is searched, so its name becomes part of a file's. Use letters, digits, dots and dashes.",
        ),
        (
            {"kdas": {"sampler": "kdas", "epochs": 2, "search": {"start_rate": [0.4, 0.5]}}},
            "baselines.kdas: its results would be called kdas_search, like those of the file's own search. Rename it.",
        ),
    ],
    ids=str,
)
def test_methods_must_differ_and_have_names_of_their_own(compared: Load, methods: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)):
        compared(methods)
