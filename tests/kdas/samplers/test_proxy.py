"""Samples by the losses of a proxy: which are chosen, how it is trained, what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from kdas.clock import Calibration, Work
from kdas.data import Draw
from kdas.errors import UserError
from kdas.samplers import SAMPLERS, SamplerContext
from kdas.training import timing
from kdas.training.batch import Batch
from kdas.training.calibrate import priced_by
from kdas.training.proxy import Proxy, check_proxy
from kdas.training.timing import timed
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial

Finished = Callable[..., tuple[Training, list[Any]]]
TrialOf = Callable[..., Trial]


def part_of(**changed: Any) -> dict[str, Any]:
    return {"name": "proxy", **changed}


def first_batch(training: Training, size: int = 20) -> Batch:
    ((indices, images),) = training.distiller.splits.training_batches([torch.arange(size)], Draw(seed=1, epoch=1))
    return training.distiller.batch(indices, images)


@pytest.fixture
def training(trial_of: TrialOf, calibration: Calibration) -> Training:
    return Training(trial_of(sampler=part_of()), Surroundings(calibration))


def proxy_of(training: Training) -> Proxy:
    assert training.proxy is not None
    return training.proxy


@pytest.mark.parametrize("rate", [0.3, 0.5, 1.0])
def test_part_with_the_highest_losses_of_the_proxy_is_chosen(rate: float) -> None:
    sampler: Any = SAMPLERS.build(SAMPLERS.checked(part_of(rate=rate)), SamplerContext(100, 16, 4, seed=1))
    plan = sampler.plan(1)
    assert plan.selects and plan.batch_size == math.ceil(16 / rate) and plan.rate == rate
    losses = torch.arange(plan.batch_size).float()
    chosen = sampler.select(1, torch.arange(plan.batch_size), proxy_losses=losses)
    assert chosen.tolist() == list(range(plan.batch_size - 1, plan.batch_size - 17, -1))


def test_proxy_is_charged_for_each_pass_and_each_step(finished: Finished, calibration: Calibration) -> None:
    training, rows = finished(sampler=part_of(proxy_period=2), epochs=2)
    clock = training.clock
    # Batches of 32, 32 and 36 give steps of 16, 16, 16 and 2; the proxy takes every second one.
    assert clock.counts[Work.PROXY_STEP, 16] == 2 and clock.counts[Work.PROXY_STEP, 2] == 2
    assert clock.samples(Work.PROXY_SCORE) == 200 and clock.samples(Work.PROXY_STEP) == 2 * 18
    assert rows[-1].samples_trained == rows[-1].teacher_forwards == 100 and rows[-1].samples_scored == 0
    charged = {key: count for key, count in clock.counts.items() if key[0] is not Work.ASKED}
    by_hand = sum(count * calibration.price(work, size) for (work, size), count in charged.items())
    assert calibration.price(Work.PROXY_STEP, 16) > 0
    assert rows[-1].cost_ref_s == pytest.approx(by_hand)
    flops, (proxy_forward, proxy_step) = training.flops, training.proxy_flops
    assert 0 < proxy_forward < proxy_step
    expected = 100 * (flops.step + flops.teacher) + 200 * proxy_forward + 36 * proxy_step
    assert rows[-1].flops == pytest.approx(expected)


def test_proxys_losses_are_cross_entropies_of_a_network_drawn_from_the_seed(
    trial_of: TrialOf, calibration: Calibration
) -> None:
    def losses(seed: int, **changed: Any) -> torch.Tensor:
        training = Training(trial_of(sampler=part_of(**changed), seed=seed), Surroundings(calibration))
        batch = first_batch(training)
        values = proxy_of(training).losses(batch, 1)
        logits = proxy_of(training)._model(batch.images)
        torch.testing.assert_close(values, functional.cross_entropy(logits, batch.targets, reduction="none"))
        return values.detach()

    assert torch.equal(losses(1), losses(1))
    assert not torch.equal(losses(1), losses(2)) and not torch.equal(losses(1), losses(1, proxy="resnet14"))


def test_proxy_learns(training: Training) -> None:
    proxy, batch = proxy_of(training), first_batch(training, 64)
    before = proxy.losses(batch, 1).mean()
    for _ in range(30):
        proxy.step(batch, 1)
    assert proxy.losses(batch, 1).mean() < 0.5 * before


def test_counting_operations_leaves_the_proxy_as_it_was(training: Training) -> None:
    proxy = proxy_of(training)
    before = {key: tensor.clone() for key, tensor in proxy.state_dict()["model"].items()}
    assert proxy.flops() == training.proxy_flops
    assert all(torch.equal(tensor, before[key]) for key, tensor in proxy.state_dict()["model"].items())


def test_checkpoint_holds_the_proxy(trial_of: TrialOf, calibration: Calibration, tmp_path: Path) -> None:
    kept = Surroundings(calibration, checkpoint=tmp_path / "trial.pt", checkpoint_every_s=0)
    trial = trial_of(sampler=part_of(), epochs=3, evaluations=3)
    first = Training(trial, kept)
    for row in first.rows():
        if row.epoch == 3:
            break
    resumed = Training(trial, kept)
    fresh = Training(trial, Surroundings(calibration))
    batch = first_batch(resumed)
    assert resumed.epoch == 2
    assert not torch.equal(proxy_of(resumed).losses(batch, 1), proxy_of(fresh).losses(batch, 1))


def test_prices_depend_on_the_proxy_and_are_measured_for_it(trial_of: TrialOf, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WARM_UP_RUNS", "TIMED_RUNS", "ROUNDS"):
        monkeypatch.setattr(timing, name, 1)
    trial, plain = trial_of(sampler=part_of()), trial_of()
    assert priced_by(trial.config) != priced_by(plain.config)
    assert priced_by(trial.config) != priced_by(trial_of(sampler=part_of(proxy="resnet14")).config)
    assert priced_by(trial.config) == priced_by(trial_of(sampler=part_of(rate=0.2, proxy_period=1)).config)
    prices = timed(trial.config, trial.distiller()).rounds[0]
    assert [size for size, _ in prices[Work.PROXY_SCORE]] == [8, 16, 32, 64]
    assert [size for size, _ in prices[Work.PROXY_STEP]] == [8, 16]
    assert all(seconds > 0 for kind in (Work.PROXY_SCORE, Work.PROXY_STEP) for _, seconds in prices[kind])
    assert Work.PROXY_STEP not in timed(plain.config, plain.distiller()).rounds[0]


@pytest.mark.parametrize(
    ("name", "said"), [("resnt8", r"sampler\.proxy: .*resnt8"), ("torchvision/nothing", r"sampler\.proxy: .*nothing")]
)
def test_unknown_proxy_is_refused_with_its_key(trial_of: TrialOf, name: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        trial_of(sampler=part_of(proxy=name))


def test_proxy_that_cannot_take_the_images_is_refused_before_anything_is_trained(trial_of: TrialOf) -> None:
    with pytest.raises(UserError, match=r"^sampler\.proxy: model \S+ cannot take images of 8x8 pixels"):
        check_proxy(part_of(proxy="torchvision/squeezenet1_0"), 10, 8)
    check_proxy(part_of(proxy="resnet8"), 10, 8)
    check_proxy({"name": "full"}, 10, 8)
