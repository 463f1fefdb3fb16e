"""Points of a space, and the trials made from them."""

from __future__ import annotations

from pathlib import Path

from kdas.training.trial import Inputs
from sweeps.prepare.resolved import plan_of
from tests.sweeps.conftest import identify_by
from tests.sweeps.searches import BY_SAMPLER, RATE, Load, proposals


def test_trial_has_the_sampler_that_was_proposed_and_is_called_by_it(
    load: Load, inputs: Inputs, tmp_path: Path
) -> None:
    spec = load(BY_SAMPLER, sampler={"name": "kdas", "threshold": 0.1})
    for point in proposals(spec, tmp_path, 12):
        job = plan_of(spec, identify_by(inputs)).searched(point)[0]
        name = point["sampler"]["name"]
        assert job.config.sampler["name"] == name and job.config.kd_weight == point["kd_weight"]
        assert job.method == f"{name}_search"
        if name == "kdas":  # the file's own parameters of that sampler stay
            assert job.config.sampler["threshold"] == 0.1
        for parameter in set(point) - {"sampler", "kd_weight"}:
            assert job.config.sampler[parameter] in (point[parameter], [point[parameter]])


def test_keys_of_loss_optimizer_and_recipe_reach_the_trial(load: Load, inputs: Inputs) -> None:
    search = {
        "loss.temperature": {"low": 1, "high": 8},
        "optimizer.learning_rate": {"low": 0.01, "high": 0.1, "log": True},
        "optimizer.clip_norm": {"low": 0.5, "high": 2},
        "batch_size": [32, 64],
        "ema_decay": [None, 0.9],
        "precision": ["float32", "bfloat16"],
    }
    spec = load(search, optimizer={"weight_decay": 0.001})
    point = {"loss.temperature": 2, "optimizer.learning_rate": 0.02, "optimizer.clip_norm": 1.0}
    job = plan_of(spec, identify_by(inputs)).searched(
        {**point, "batch_size": 32, "ema_decay": 0.9, "precision": "bfloat16"}
    )[0]
    config = job.config
    assert config.loss == {**spec.loss, "temperature": 2.0}  # type: ignore[dict-item]
    assert (config.optimizer.learning_rate, config.optimizer.clip_norm) == (0.02, 1)
    assert config.optimizer.weight_decay == 0.001
    assert (config.batch_size, config.ema_decay, config.precision) == (32, 0.9, "bfloat16")
    assert "loss.temperature 2 · optimizer.learning_rate 0.02" in job.configuration
    assert spec.loss["temperature"] == 4  # type: ignore[call-overload]


def test_key_of_one_of_several_losses_is_searched_by_its_number(load: Load, inputs: Inputs) -> None:
    losses = [{"name": "kd", "weight": 9}, {"name": "dkd", "weight": 1}]
    spec = load({"loss.0.weight": {"low": 1, "high": 10}, "loss.1.beta": [2, 8]}, loss=losses)
    loss = plan_of(spec, identify_by(inputs)).searched({"loss.0.weight": 3.5, "loss.1.beta": 2})[0].config.loss
    assert (loss[0]["weight"], loss[1]["beta"], loss[1]["weight"]) == (3.5, 2, 1)  # type: ignore[index]


def test_searched_loss_comes_with_its_authors_weights_and_the_files_own_keeps_its_own(
    load: Load, inputs: Inputs
) -> None:
    search = {"loss": ["kd", {"name": "dkd", "beta": 2}], "loss.beta": [2, 6]}
    spec = load(search, loss={"name": "kd", "temperature": 2}, kd_weight=7)
    kd, dkd = spec.search["loss"].choices or []
    assert kd["temperature"] == 2 and dkd["temperature"] == 4
    own = plan_of(spec, identify_by(inputs)).searched({"loss": kd})[0]
    other = plan_of(spec, identify_by(inputs)).searched({"loss": dkd, "loss.beta": 6})[0]
    assert (own.config.ce_weight, own.config.kd_weight) == (0.1, 7)
    assert (other.config.ce_weight, other.config.kd_weight, other.config.loss["beta"]) == (1, 1, 6)  # type: ignore[call-overload]
    assert "loss dkd" in other.configuration
    weighed = load({**search, "kd_weight": [3]}, kd_weight=7)
    assert (
        plan_of(weighed, identify_by(inputs))
        .searched({"loss": dkd, "loss.beta": 6, "kd_weight": 3})[0]
        .config.kd_weight
        == 3
    )


def test_point_of_a_file_is_put_in_the_order_of_the_space_with_its_parts_written_out(load: Load) -> None:
    space = load(BY_SAMPLER).space
    point = space.point({"start_rate": 0.5, "kd_weight": 0.5, "sampler": "random"}, "known_points.0")
    assert list(point) == ["sampler", "kd_weight", "start_rate"]
    assert point["sampler"] in space["sampler"].values.choices
    assert [parameter.name for parameter in space.asked_at(point)] == list(point)


def test_combinations_leave_out_what_does_not_exist_and_add_what_conditions_ask_about(load: Load) -> None:
    search = {"sampler": ["kdas", "random"], "threshold": [0.1, 0.2], "kd_weight": RATE}
    space = load(search).space
    found = space.combinations({"threshold": [0.1, 0.2]})
    named = [{**point, "sampler": point["sampler"]["name"]} for point in found]
    assert sorted(named, key=str) == [
        {"sampler": "kdas", "threshold": 0.1},
        {"sampler": "kdas", "threshold": 0.2},
        {"sampler": "random"},
    ]


def test_a_searched_optimizer_starts_from_its_own_defaults(load: Load, inputs: Inputs) -> None:
    search = {
        "optimizer.name": ["sgd", "adamw"],
        "optimizer.momentum": {"choices": [0.8, 0.9], "when": {"optimizer.name": "sgd"}},
        "optimizer.weight_decay": {"low": 0.001, "high": 0.1},
    }
    spec = load(search, optimizer={"learning_rate": 0.3, "schedule": "linear"})
    points = [
        {"optimizer.name": "sgd", "optimizer.weight_decay": 0.01, "optimizer.momentum": 0.8},
        {"optimizer.name": "adamw", "optimizer.weight_decay": 0.01},
    ]
    sgd, adamw = (plan_of(spec, identify_by(inputs)).searched(point)[0].config.optimizer for point in points)
    assert (sgd.name, sgd.learning_rate, sgd.momentum, sgd.schedule) == ("sgd", 0.3, 0.8, "linear")
    assert (adamw.name, adamw.learning_rate, adamw.weight_decay, adamw.schedule) == ("adamw", 0.001, 0.01, "linear")


def test_values_are_put_into_a_copy_of_a_trial(load: Load) -> None:
    space = load({"optimizer.learning_rate": [0.1, 0.2], "kd_weight": RATE}).space
    content = {"optimizer": {"learning_rate": 0.05, "momentum": 0.9}, "kd_weight": 9, "epochs": 3}
    changed = space.applied(content, {"optimizer.learning_rate": 0.2, "kd_weight": 0.5})
    assert changed == {"optimizer": {"learning_rate": 0.2, "momentum": 0.9}, "kd_weight": 0.5, "epochs": 3}
    assert content["optimizer"] == {"learning_rate": 0.05, "momentum": 0.9}
