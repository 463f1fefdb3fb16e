"""`resources.trials_per_gpu` in a sweep: checked, measured where there is a GPU, without effect elsewhere."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from kdas.recipe.config import TrialConfig
from kdas.training.packing import Packing, Shared
from sweeps import run
from sweeps.engine.slots import slots_for, slots_of_machines
from sweeps.file.blocks import MOST_PER_GPU, ResourcesConfig
from sweeps.file.spec import SweepSpec
from sweeps.prepare import packing, preview
from sweeps.prepare.packing import with_packing
from sweeps.record.directory import SweepDirectory
from tests.sweeps.conftest import TINY
from tests.sweeps.file.refusals import BASE, refusal, written

FOUR = Packing((Shared(1, 10.0, 1), Shared(2, 19.0, 2), Shared(4, 36.0, 4), Shared(8, 36.5, 8)))


def with_resources(spec: SweepSpec, **resources: Any) -> SweepSpec:
    return SweepSpec.model_validate({**spec.model_dump(mode="json"), "resources": resources})


@pytest.fixture
def silent() -> Console:
    return Console(file=io.StringIO(), width=200)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[TrialConfig]:
    """A machine with one GPU and 16 cores; the recipes that were measured on it."""
    recipes: list[TrialConfig] = []

    def packing_for(config: TrialConfig, *more: object) -> Packing:
        recipes.append(config)
        return FOUR

    monkeypatch.setattr(packing, "packing_for", packing_for)
    monkeypatch.setattr("kdas.compute.device.resolve", lambda requested: "cuda")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: set(range(16)))
    monkeypatch.setattr("sweeps.engine.slots.num_cpus", lambda: 16)
    return recipes


@pytest.mark.parametrize(
    ("resources", "line"),
    [
        (
            {"trials_per_gpu": 4, "gpus_per_trial": 0.5},
            "resources.trials_per_gpu: got 4 together with gpus_per_trial: 0.5. Give only one.",
        ),
        (
            {"trials_per_gpu": "auto", "gpus_per_trial": 1},
            "resources.trials_per_gpu: got auto together with gpus_per_trial: 1. Give only one.",
        ),
        (
            {"trials_per_gpu": 0},
            "resources.trials_per_gpu: expected auto or a whole number from 1 to 100, got 0. Use auto to measure it.",
        ),
        (
            {"trials_per_gpu": "automatic"},
            "resources.trials_per_gpu: expected auto or a whole number from 1 to 100, got 'automatic'."
            " Use auto to measure it.",
        ),
    ],
)
def test_mistakes_are_refused_in_one_line(resources: dict[str, Any], line: str, tmp_path: Path) -> None:
    path = written(tmp_path, {**BASE, "resources": resources})
    assert refusal(path).endswith(f"mine.yaml: {line}")


def test_every_number_of_trials_fits_on_a_gpu_as_ray_counts() -> None:
    """Ray rounds fractions to four digits."""
    for number in range(1, MOST_PER_GPU + 1):
        slots = slots_of_machines([(200, 1.0)], "cuda", 1, ResourcesConfig(trials_per_gpu=number), where="here")
        assert (slots.trials_at_once, slots.num_cotenants) == (number, number - 1)
        assert round(slots.gpus_per_trial * 10_000) * number <= 10_000


def test_cores_still_limit_the_trials_at_once() -> None:
    slots = slots_of_machines([(6, 2.0)], "cuda", 2, ResourcesConfig(trials_per_gpu=4), where="here")
    assert slots.trials_at_once == 3


@pytest.mark.parametrize("device", ["cpu", "mps"])
@pytest.mark.parametrize("number", [4, "auto"])
def test_without_cuda_it_has_no_effect(device: str, number: int | str) -> None:
    resources = ResourcesConfig.model_validate({"trials_per_gpu": number})
    assert slots_for(device, 1, resources) == slots_for(device, 1, ResourcesConfig())


def test_nothing_is_measured_without_cuda_or_without_auto(
    spec: SweepSpec, silent: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "packing_for", None)
    for resources in ({"trials_per_gpu": "auto"}, {"trials_per_gpu": 2}, {}):
        asked = with_resources(spec, **resources)
        assert with_packing(asked, TINY, silent) == asked.resources


def test_run_and_preview_use_the_measured_number(
    spec: SweepSpec,
    directory: SweepDirectory,
    silent: Console,
    measured: list[TrialConfig],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    auto = with_resources(spec, trials_per_gpu="auto")
    slots = run._packed_slots(auto, TINY, directory, silent)
    assert (slots.gpus_per_trial, slots.trials_at_once, slots.num_cotenants) == (0.25, 4, 3)
    assert measured == [auto.methods.recipe]

    seen: list[Any] = []

    def stop(*args: Any) -> None:
        seen.append(args[3])
        raise KeyboardInterrupt

    monkeypatch.setattr(preview, "look_ahead", stop)
    with pytest.raises(KeyboardInterrupt):
        preview.preview_sweep(auto, TINY, directory, silent)
    assert seen == [slots]
