"""With recorded steps, trials have the curves that they have without, bit for bit. A tape stands in for CUDA graphs."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from kdas.clock import Calibration
from kdas.losses import LOSSES
from kdas.records import CurveRow
from kdas.samplers import SAMPLERS
from kdas.training import distiller
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial
from tests.kdas.training.tape import Tape

TrialOf = Callable[..., Trial]
KDAS = {"name": "kdas", "sampling_period": [2]}
# Two trials differ in these if they differ in nothing but the key.
OF_THE_RUN = ("wall_s", "eval_s", "data_s", "cost_as_run_s", "trial_id", "config_id")


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> Tape:
    """What records, in place of CUDA graphs."""
    tape = Tape()
    monkeypatch.setattr(distiller, "CudaGraphs", lambda: tape)
    # AdamW counts its steps on the device if it is recorded, and PyTorch allows that on a GPU only.
    of_adam = importlib.import_module("torch.optim.adam")
    monkeypatch.setattr(of_adam, "_get_capturable_supported_devices", lambda *_: ["cpu"])
    return tape


def of_the_trial(rows: list[CurveRow]) -> list[dict[str, Any]]:
    return [{key: value for key, value in asdict(row).items() if key not in OF_THE_RUN} for row in rows]


CHANGES = [
    *({"sampler": name} for name in SAMPLERS.names() if name != "kdas"),
    *({"sampler": KDAS, "loss": name} for name in LOSSES.names()),
    {"ema_decay": 0.9, "optimizer": {"learning_rate": 0.02, "clip_norm": 1.0, "warmup_epochs": 2}},
    {"precision": "bfloat16", "accumulate": 3, "channels_last": False},
    *({"optimizer": {"name": name}, "sampler": KDAS} for name in ("muon", "dot")),
]


@pytest.mark.parametrize("changed", CHANGES, ids=str)
def test_recorded_trial_has_the_curve_of_an_unrecorded_one(
    trial_of: TrialOf,
    calibration: Calibration,
    tape: Tape,
    tmp_path: Path,
    sampler_part: Callable[[str], dict[str, Any]],
    changed: dict[str, Any],
) -> None:
    if isinstance(changed.get("sampler"), str):
        changed = {**changed, "sampler": sampler_part(changed["sampler"])}
    changed = {"epochs": 3, "evaluations": 4, "bank": "live", **changed}
    plain = list(Training(trial_of(**changed), Surroundings(calibration)).rows())
    assert not tape.num_aside
    trial = trial_of(**changed, cuda_graphs=True)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        recorded = list(Training(trial, Surroundings(calibration)).rows())
    print("AAA", changed["sampler"] if "sampler" in changed else "", changed.get("loss"), tape.num_aside, tape.num_recorded, tape.num_replayed, [str(e.message) for e in caught])
    assert of_the_trial(recorded) == of_the_trial(plain)
