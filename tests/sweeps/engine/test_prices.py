"""Which trials of a sweep need their own prices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kdas.clock import Calibration
from kdas.errors import UserError
from kdas.files.prices import calibration_of, read_calibration
from kdas.recipe.config import TrialConfig
from kdas.records import Measure
from kdas.training.trial import Inputs
from sweeps.engine.prices import Prices, price_key, priced_variants, prices_for
from sweeps.file.loading import load_spec
from sweeps.file.spec import SweepSpec
from sweeps.prepare.resolved import plan_of
from sweeps.record.directory import SweepDirectory
from sweeps.record.measure import write_measure
from tests.sweeps.conftest import PRICES, TINY, identify_by, search_of

RATE = {"low": 0.3, "high": 0.9}
MANY = {
    "sampler": ["kdas", "random"],
    "loss": ["kd", "dkd"],
    "loss.standardize": {"choices": [False, True], "when": {"loss": "kd"}},
    "loss.temperature": {"low": 1, "high": 8},
    "batch_size": {"choices": [32, 64], "when": {"sampler": "kdas"}},
    "optimizer.clip_norm": {"low": 1, "high": 2},
}


def variants_of(spec: SweepSpec) -> list[TrialConfig]:
    return priced_variants(spec.methods)


def searching(**search: Any) -> SweepSpec:
    content = {**load_spec(TINY).model_dump(), "known_points": [], "search": search}
    return SweepSpec.model_validate(content)


def what_differs(config: TrialConfig) -> tuple[Any, ...]:
    loss: Any = config.loss
    return (loss["name"], loss["standardize"], config.batch_size, config.ema_decay, config.optimizer.clip_norm)


def test_sweep_that_searches_its_sampler_alone_needs_one_set_of_prices(spec: SweepSpec) -> None:
    (variant,) = variants_of(spec)
    assert variant.loss == spec.loss and variant.sampler == {"name": "full"}


def test_a_widened_sweep_measures_what_it_lacks_and_keeps_what_it_has(
    inputs: Inputs, directory: SweepDirectory
) -> None:
    measured: list[str] = []

    def measure(config: TrialConfig, of_trial: Inputs) -> Calibration:
        measured.append(price_key(config))
        return calibration_of({"number": len(measured)}, PRICES)

    def prices_of(*batch_sizes: int) -> Prices:
        return prices_for(searching(batch_size=list(batch_sizes)).methods, inputs, directory, measure)

    before = prices_of(16, 32)
    before.freeze(directory)
    assert len(before.calibrations) == len(measured) == 3
    ids = tuple(each.calibration_id for each in before.calibrations.values())
    write_measure(directory, Measure("tiny", 0.9, "given", 9.0, "plain_kd", "validation", ids[0], "x", (1,), 4, ids))
    after = prices_of(8, 16, 32)
    assert len(after.calibrations) == len(measured) == 4
    assert after.calibrations.items() >= before.calibrations.items() and after.base == before.base
    for file in directory.price_files():
        if (kept := read_calibration(file)) is not None and kept.calibration_id == ids[1]:
            file.unlink()
    with pytest.raises(UserError, match=rf"not the prices that the trials were charged by \({ids[1]}\)"):
        prices_of(8, 16, 32)
    assert len(measured) == 4


@pytest.mark.parametrize(
    ("search", "variants"),
    [
        ({"kd_weight": RATE, "optimizer.learning_rate": RATE, "loss.temperature": RATE}, 1),
        ({"loss.temperature": [1, 2, 4]}, 1),
        ({"loss.standardize": [False, True]}, 2),
        ({"loss": ["kd", "dkd", {"name": "dkd", "beta": 2}]}, 2),
        ({"batch_size": [16, 32], "accumulate": [1, 2]}, 1 + 4),
        ({"ema_decay": [None, 0.9, 0.99]}, 2),
        ({"optimizer.clip_norm": RATE}, 2),
        ({"precision": ["float32", "bfloat16"]}, 2),
        ({"sampler": ["kdas", "proxy", "random"]}, 2),
        ({"sampler": ["kdas", "proxy"], "rate": {"choices": [0.4, 0.5], "when": {"sampler": "proxy"}}}, 2),
        ({"sampler": ["kdas", "proxy"], "proxy": {"choices": ["resnet8", "vgg8"], "when": {"sampler": "proxy"}}}, 3),
        ({"sampler": ["proxy", "kdas"], "loss": ["kd", "dkd"]}, 4),
        ({"optimizer.name": ["sgd", "adamw", "muon", "dot"], "optimizer.weight_decay": RATE}, 4),
        ({"optimizer.nesterov": [False, True]}, 2),
    ],
    ids=str,
)
def test_what_costs_the_same_is_priced_once_and_the_baselines_recipe_first(
    search: dict[str, Any], variants: int
) -> None:
    found = variants_of(searching(**search))
    assert len(found) == len({price_key(config) for config in found}) == variants
    assert what_differs(found[0]) == ("kd", False, 64, None, None)


def test_conditions_leave_out_prices_that_no_trial_needs() -> None:
    found = {what_differs(config) for config in variants_of(searching(**MANY))}
    clipped = {
        (loss, standardize, batch_size, None, 1.0)
        for loss, standardize in (("kd", False), ("kd", True), ("dkd", False))
        for batch_size in (32, 64)
    }
    assert found == {("kd", False, 64, None, None), *clipped}


WITH_PROXIES = {
    "sampler": ["kdas", "proxy"],
    "proxy": {"choices": ["resnet8", "resnet14"], "when": {"sampler": "proxy"}},
    "loss": ["kd", "dkd"],
    "batch_size": [16, 32],
}


@pytest.mark.parametrize("search", [MANY, WITH_PROXIES], ids=["many", "proxies"])
def test_every_trial_of_a_sweep_finds_its_prices(inputs: Inputs, tmp_path: Path, search: dict[str, Any]) -> None:
    spec = searching(**search)
    priced = {price_key(config) for config in variants_of(spec)}
    study = search_of(tmp_path / "study", spec)
    jobs = plan_of(spec, identify_by(inputs)).baselines
    for number in range(30):
        asked = study.ask()
        assert asked is not None
        jobs += plan_of(spec, identify_by(inputs)).searched(asked.point)
        study.tell(asked.number, [float(number)])
    assert {price_key(job.config) for job in jobs} <= priced
