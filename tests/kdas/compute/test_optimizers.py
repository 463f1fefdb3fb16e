"""Optimizers by name: what they compute, and what else of a trial they change."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdas import seeding
from kdas.compute.dot import Dot
from kdas.compute.muon import MuonAndAdamW
from kdas.compute.optimizer import optimizer_of, set_learning_rate
from kdas.models import create
from kdas.recipe.optimizer import OptimizerConfig, changed_optimizer
from kdas.teacher.obtain import _train, teacher_path
from kdas.training.calibrate import priced_by
from kdas.training.distiller import Distiller
from kdas.training.flops import flops_of
from kdas.training.trial import Inputs, Trial, config_id
from tests.kdas.training.test_training_options import first_batch, weights_of
from tests.places import GOLDEN

TrialOf = Callable[..., Trial]
NAMES = ("sgd", "adamw", "muon", "dot")


def settings(**given: Any) -> OptimizerConfig:
    return OptimizerConfig(**given)


def test_dot_takes_the_steps_of_its_authors_code() -> None:
    expected = json.loads((GOLDEN / "distillers.json").read_text(encoding="utf-8"))["dot"]["lr.1_m.825_mk.975_wd5e-4"]
    places = torch.arange(6, dtype=torch.float64)
    weight = nn.Parameter(torch.sin(places + 0.1))
    config = settings(name="dot", learning_rate=0.1, momentum=0.9, delta=0.075, weight_decay=5e-4)
    optimizer = Dot([weight], config)
    found = []
    for step in range(4):
        optimizer.zero_grad()
        task = 2 * weight.detach() * torch.sin(0.5 * places + step)
        with optimizer.distilling():
            weight.grad = torch.cos(places * (step + 1) + 0.1)
        weight.grad = task
        optimizer.step()
        found.append(weight[:3].tolist())
    assert [value for row in found for value in row] == pytest.approx(
        [value for row in expected for value in row], rel=1e-9
    )


def test_weight_that_one_gradient_reaches_moves_as_under_sgd() -> None:
    """Whichever gradient it is: the momentum is neither raised nor lowered, and the weight decays once."""
    start = torch.linspace(-1, 1, 5, dtype=torch.float64)
    weights = [nn.Parameter(start.clone()) for _ in range(3)]
    given = {"learning_rate": 0.1, "momentum": 0.8, "weight_decay": 0.01}
    plain = optimizer_of(nn.ParameterList(weights[:1]), settings(**given))
    dot = Dot(weights[1:], settings(name="dot", delta=0.1, **given))
    for step in range(3):
        gradient = torch.cos(start + step)
        with dot.distilling():
            weights[2].grad = gradient
        weights[0].grad = weights[1].grad = gradient
        plain.step()
        dot.step()
    for weight in weights[1:]:
        torch.testing.assert_close(weight, weights[0])


@pytest.mark.parametrize("changed", [{"accumulate": 3}, {"precision": "float16"}, {"sampler": "infobatch"}], ids=str)
def test_dot_without_delta_is_sgd_on_the_sum_of_both_gradients(trial_of: TrialOf, changed: dict[str, Any]) -> None:
    """Up to rounding. So accumulation, loss scales and weights reach both gradients alike."""

    def stepped(name: str) -> tuple[list[Tensor], list[Tensor]]:
        given = {"name": name, "learning_rate": 0.02, **({"delta": 0.0} if name == "dot" else {})}
        distiller = trial_of(optimizer=given, student="tests.kdas.own_parts:Plain", **changed).distiller()
        batch = first_batch(distiller)
        weights, loss_weights = torch.linspace(0.2, 1, 16), torch.linspace(2, 1, 16)
        found = [distiller.step(batch, epoch, weights, loss_weights) for epoch in (1, 2)]
        return [loss for pair in found for loss in pair], weights_of(distiller.student)

    for one, other in zip(stepped("sgd"), stepped("dot"), strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, rtol=2e-3, atol=2e-4)


def test_dot_keeps_the_gradients_of_the_two_terms_apart(trial_of: TrialOf) -> None:
    """Each is the whole gradient of a trial that has only that term."""

    def gradients(**weights: float) -> tuple[list[Tensor], list[Tensor]]:
        trial = trial_of(optimizer={"name": "dot", "learning_rate": 1e-9}, **weights)
        distiller = trial.distiller()
        distiller.step(first_batch(distiller), epoch=1)
        optimizer = distiller.optimizer
        assert isinstance(optimizer, Dot)
        of_task = [weight.grad.clone() for weight in optimizer._weights if weight.grad is not None]
        return of_task, [twin.grad.clone() for twin in optimizer._twins if twin.grad is not None]

    both = gradients(ce_weight=0.3, kd_weight=2.0)
    alone = gradients(ce_weight=0.3, kd_weight=0.0)[0], gradients(ce_weight=0.0, kd_weight=2.0)[1]
    for found, expected in zip(both, alone, strict=True):
        assert all(map(torch.equal, found, expected)) and any(each.abs().max() > 0 for each in found)


def test_dot_counts_its_second_backward_pass(finished: Callable[..., Any]) -> None:
    (plain, _), (dot, rows) = finished(epochs=1), finished(epochs=1, optimizer={"name": "dot"})
    backward = plain.flops.step - plain.flops.score
    assert dot.flops == replace(plain.flops, step=plain.flops.step + backward)
    assert rows[-1].flops == pytest.approx(rows[-1].samples_trained * (dot.flops.step + dot.flops.teacher))


def test_muon_counts_the_matrix_products_of_its_update(trial_of: TrialOf) -> None:
    sgd, adamw, muon = (flops_of(trial_of(optimizer={"name": name})) for name in ("sgd", "adamw", "muon"))
    assert sgd == adamw and muon == replace(sgd, step=muon.step) and muon.step > sgd.step


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_muon_updates_hidden_layers_and_adamw_the_rest(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3), nn.Flatten(), nn.Linear(6 * 16, 5)
    ).to(memory_format=memory_format)
    config = settings(name="muon")
    optimizer = optimizer_of(network, config)
    assert isinstance(optimizer, MuonAndAdamW)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    reference = [each.clone() for each in before]
    network(torch.randn(4, 3, 8, 8).contiguous(memory_format=memory_format)).square().sum().backward()
    gradients = [parameter.grad.detach().clone() for parameter in network.parameters() if parameter.grad is not None]
    optimizer.step()
    after = list(network.parameters())
    for position, (parameter, gradient) in enumerate(zip(reference, gradients, strict=True)):
        parameter.grad = gradient
        if position == 4:  # the second convolution's weights
            matrix = parameter.reshape(6, -1).clone()
            matrix.grad = gradient.reshape(6, -1)
            torch.optim.Muon([matrix], lr=0.02, weight_decay=0.01, momentum=0.95).step()  # type: ignore[no-untyped-call]
            # The order of the columns only changes how sums in bfloat16 round.
            change, expected = after[position] - before[position], matrix.view(6, 4, 3, 3) - before[position]
            assert (change - expected).norm() < 0.02 * expected.norm()
        else:
            torch.optim.AdamW([parameter], lr=3e-4, betas=(0.9, 0.95), weight_decay=0.01).step()
            torch.testing.assert_close(after[position], parameter)


def test_muon_without_hidden_layers_is_adamw() -> None:
    network = nn.Linear(3, 2)
    optimizer = optimizer_of(network, settings(name="muon"))
    before = network.weight.detach().clone()
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.testing.assert_close(network.weight, before * (1 - 3e-4 * 0.01) - 3e-4, rtol=1e-4, atol=1e-6)


def test_schedule_scales_both_learning_rates_of_muon() -> None:
    config = settings(name="muon", learning_rate=0.1, adamw_learning_rate=0.01, final_learning_rate=0)
    optimizer = optimizer_of(create("resnet8", 10), config)
    assert set_learning_rate(optimizer, config, 6, 10) == pytest.approx(0.05)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.005])


def test_nesterov_and_adamw_are_those_of_torch() -> None:
    network = nn.Linear(2, 2)
    sgd = optimizer_of(network, settings(nesterov=True))
    assert isinstance(sgd, torch.optim.SGD) and sgd.param_groups[0]["nesterov"]
    adamw = optimizer_of(network, settings(name="adamw", betas=[0.8, 0.99], weight_decay=0.02))
    assert isinstance(adamw, torch.optim.AdamW)
    assert (adamw.param_groups[0]["betas"], adamw.param_groups[0]["weight_decay"]) == ((0.8, 0.99), 0.02)


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_updates_are_those_of_torch_bit_for_bit(name: str) -> None:
    config = settings(name=name)
    ours, others = (nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)) for _ in range(2))
    others.load_state_dict(ours.state_dict())
    optimizer = optimizer_of(ours, config)
    theirs: torch.optim.Optimizer = (
        torch.optim.SGD(others.parameters(), config.learning_rate, config.momentum, weight_decay=config.weight_decay)
        if name == "sgd"
        else torch.optim.AdamW(
            others.parameters(), config.learning_rate, config.betas, weight_decay=config.weight_decay
        )
    )
    generator = torch.Generator().manual_seed(1)
    for step in range(4):
        inputs = torch.randn(6, 4, generator=generator)
        for network, update in ((ours, optimizer), (others, theirs)):
            update.zero_grad()
            network(inputs).square().sum().backward()
            update.step()
        if step == 1:  # each resumes from the other's state
            states = optimizer.state_dict(), theirs.state_dict()
            theirs.load_state_dict(states[0])
            optimizer.load_state_dict(states[1])
    for mine, other in zip(ours.parameters(), others.parameters(), strict=True):
        assert torch.equal(mine, other) and mine.requires_grad


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("name", NAMES)
def test_students_learn_with_every_optimizer(finished: Callable[..., Any], name: str, precision: str) -> None:
    given = {"name": name, **({"learning_rate": 0.02} if name in ("sgd", "dot") else {})}
    _, rows = finished(optimizer=given, precision=precision, epochs=6, ce_weight=1.0, kd_weight=0.1)
    assert rows[-1].train_loss < 0.8 * rows[0].train_loss


def test_gradients_are_clipped_before_muon_sees_them(trial_of: TrialOf) -> None:
    distiller = trial_of(optimizer={"name": "muon", "clip_norm": 0.25}).distiller()
    distiller.step(first_batch(distiller), epoch=1)
    optimizer = distiller.optimizer
    assert isinstance(optimizer, MuonAndAdamW)
    for weight, matrix in zip(optimizer._hidden, optimizer._matrices, strict=True):
        assert weight.grad is not None and matrix.grad is not None
        torch.testing.assert_close(weight.grad.norm(), matrix.grad.norm())
    norms = torch.stack([each.grad.norm() for each in distiller.trained if each.grad is not None])
    assert float(norms.norm()) == pytest.approx(0.25, rel=1e-3)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_teachers_are_trained_with_the_optimizer_of_their_recipe(
    trial_of: TrialOf, small_inputs: Inputs, name: str
) -> None:
    def weights(optimizer: dict[str, Any]) -> Tensor:
        config = trial_of(teacher={"model": "resnet8", "epochs": 1, "optimizer": optimizer}).config.teacher
        with seeding.global_draws(1, "teacher"):
            model = create("resnet8", 10)
        _train(model, config, small_inputs.splits, lambda *progress: None)
        return next(model.parameters())

    assert not torch.equal(weights({"name": name}), weights({"learning_rate": 0.001}))
    assert torch.equal(weights({"name": name}), weights({"name": name}))


def test_ids_of_recipes_from_before_there_was_a_choice_stay(trial_of: TrialOf, small_inputs: Inputs) -> None:
    plain, named = trial_of().config, trial_of(optimizer={"name": "sgd", "learning_rate": 0.02, "nesterov": False})
    assert plain.model_dump()["optimizer"] == {
        "learning_rate": 0.02,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "final_learning_rate": 1e-5,
        "warmup_epochs": 0,
        "clip_norm": None,
    }
    assert config_id(plain, small_inputs) == config_id(named.config, small_inputs)
    assert priced_by(plain) == priced_by(named.config) and "optimizer" not in priced_by(plain)
    dataset = small_inputs.dataset
    assert teacher_path(plain.teacher, dataset, 0.1) == teacher_path(named.config.teacher, dataset, 0.1)


def test_step_schedule_keeps_its_id_at_the_usual_milestones(trial_of: TrialOf, small_inputs: Inputs) -> None:
    usual, named, other = (
        config_id(trial_of(optimizer={"schedule": "step", **each}).config, small_inputs)
        for each in ({}, {"milestones": [0.625, 0.75, 0.875]}, {"milestones": [0.3, 0.6]})
    )
    assert usual == named != other


def test_every_optimizer_has_ids_and_prices_of_its_own(trial_of: TrialOf, small_inputs: Inputs) -> None:
    given = [{"name": name} for name in NAMES] + [{"nesterov": True}]
    configs = [trial_of(optimizer=each).config for each in given]
    assert len({config_id(config, small_inputs) for config in configs}) == len(given)
    assert len({json.dumps(priced_by(config)) for config in configs}) == len(given)
    for config in configs:
        again = type(config).model_validate(config.model_dump(mode="json"))
        assert again == config and config_id(again, small_inputs) == config_id(config, small_inputs)


def test_changed_block_keeps_what_every_optimizer_has() -> None:
    base = settings(momentum=0.8, learning_rate=0.3, schedule="step", milestones=[0.5], warmup_epochs=2)
    other = settings(**changed_optimizer(base, {"name": "adamw"}, lambda name: {}))
    assert (other.learning_rate, other.weight_decay, other.schedule, other.warmup_epochs) == (1e-3, 0.01, "step", 2)
    assert other.milestones == [0.5]
    same = settings(**changed_optimizer(base, {"momentum": 0.7}, lambda name: {}))
    assert (same.learning_rate, same.momentum, same.warmup_epochs) == (0.3, 0.7, 2)


def test_state_of_an_optimizer_fits_into_a_checkpoint_and_another_distiller(trial_of: TrialOf) -> None:
    """The step after it is the same, bit for bit."""
    for name in NAMES:
        trial = trial_of(optimizer={"name": name})

        def stepped(distiller: Distiller, epochs: range) -> list[Tensor]:
            for epoch in epochs:
                distiller.step(first_batch(distiller), epoch)
            return weights_of(distiller.student)

        one, other = trial.distiller(), trial.distiller()
        stepped(one, range(1, 3))
        other.load_state_dict(copy.deepcopy(one.state_dict()))
        assert all(map(torch.equal, stepped(one, range(3, 5)), stepped(other, range(3, 5))))
