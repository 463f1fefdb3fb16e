"""With recorded steps, trials have the curves that they have without, bit for bit. A tape stands in for CUDA graphs."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import pytest

from kdas.clock import Calibration
from kdas.errors import UserError
from kdas.losses import LOSSES
from kdas.records import CurveRow
from kdas.samplers import SAMPLERS
from kdas.training import distiller, recorded
from kdas.training.calibrate import priced_by
from kdas.training.flops import flops_of
from kdas.training.timing import timed
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial, load_inputs
from tests.kdas.training.tape import Tape
from tests.kdas.training.test_training_options import first_batch
from tests.kdas.training.waits import Waits

TrialOf = Callable[..., Trial]
Result = TypeVar("Result")
KDAS = {"name": "kdas", "sampling_period": [2]}
# Two trials differ in these if they differ in nothing but the key.
OF_THE_RUN = ("wall_s", "eval_s", "data_s", "cost_as_run_s", "trial_id", "config_id")
QUICK_LOSSES = {"kd", "ctkd", "vid"}


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> Tape:
    """What records, in place of CUDA graphs."""
    tape = Tape()
    monkeypatch.setattr(distiller, "CudaGraphs", lambda: tape)
    # AdamW counts its steps on the device if it is recorded, and PyTorch allows that on a GPU only.
    of_adam = importlib.import_module("torch.optim.adam")
    monkeypatch.setattr(of_adam, "_get_capturable_supported_devices", lambda *_: ["cpu"])
    return tape


@pytest.fixture
def never_recorded(monkeypatch: pytest.MonkeyPatch, tape: Tape) -> Callable[[Callable[[], Any]], Any]:
    """Calls a function while all uses are warm-ups, so that it does what recorded trials do, by running it."""

    def call(function: Callable[[], Any]) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(recorded, "WARM_UP_USES", 10**9)
            return function()

    return call


def of_the_trial(rows: list[CurveRow]) -> list[dict[str, Any]]:
    return [{key: value for key, value in asdict(row).items() if key not in OF_THE_RUN} for row in rows]


def rows_of(training: Training) -> list[CurveRow]:
    with warnings.catch_warnings():
        if training.trial.config.loss["name"] == "kdsvd":
            warnings.filterwarnings("ignore", message="cuda_graphs: the training step is not recorded.* it waits")
        return list(training.rows())


def changes() -> list[Any]:
    by_sampler: list[dict[str, Any]] = [{"sampler": name} for name in SAMPLERS.names() if name != "kdas"]
    by_loss: list[dict[str, Any]] = [{"sampler": KDAS, "loss": name} for name in LOSSES.names()]
    others = [
        {"ema_decay": 0.9, "optimizer": {"learning_rate": 0.02, "clip_norm": 1.0, "warmup_epochs": 2}},
        {"precision": "bfloat16", "accumulate": 3, "channels_last": False, "transforms": ["mixup"]},
        {"teacher": "self", "evaluations": 3},
        *({"optimizer": {"name": name}, "sampler": KDAS} for name in ("adamw", "muon", "dot")),
    ]
    quick = [
        *by_sampler[:3],
        *(each for each in by_loss if each["loss"] in QUICK_LOSSES),
        others[0],
        others[2],
        others[3],
    ]
    everything = [*by_sampler, *by_loss, *others]
    return [each if each in quick else pytest.param(each, marks=pytest.mark.slow) for each in everything]


@pytest.mark.parametrize("changed", changes(), ids=str)
def test_recorded_trial_has_the_curve_of_an_unrecorded_one_also_when_resumed(
    trial_of: TrialOf,
    calibration: Calibration,
    tape: Tape,
    never_recorded: Callable[[Callable[[], Any]], Any],
    tmp_path: Path,
    sampler_part: Callable[[str], dict[str, Any]],
    changed: dict[str, Any],
) -> None:
    if isinstance(changed.get("sampler"), str):
        changed = {**changed, "sampler": sampler_part(changed["sampler"])}
    # Live, so that the teacher is recorded too.
    trial = trial_of(cuda_graphs=True, **{"epochs": 3, "evaluations": 4, "bank": "live", **changed})
    kept = Surroundings(calibration, checkpoint=tmp_path / "trial.pt", checkpoint_every_s=0)
    # A gradient that comes from several places is added up in another order while Python sees the operations.
    with Waits() if changed.get("loss") == "reviewkd" else nullcontext():
        whole = never_recorded(lambda: rows_of(Training(trial, Surroundings(calibration))))
        assert not tape.num_recorded
        assert of_the_trial(rows_of(Training(trial, kept))) == of_the_trial(whole)
        assert tape.num_recorded > 0 and tape.num_replayed >= tape.num_recorded
        resumed = Training(trial, kept)
        after = [row for row in whole if row.epoch > resumed.epoch]
        assert resumed.epoch == 2 and after and of_the_trial(rows_of(resumed)) == of_the_trial(after)


@pytest.mark.parametrize("changed", [{}, {"sampler": KDAS}, {"optimizer": {"name": "dot"}}], ids=str)
def test_the_key_changes_no_bit_of_a_curve(
    trial_of: TrialOf, calibration: Calibration, tape: Tape, changed: dict[str, Any]
) -> None:
    plain = rows_of(Training(trial_of(**changed), Surroundings(calibration)))
    assert not tape.num_aside
    recorded_rows = rows_of(Training(trial_of(**changed, cuda_graphs=True), Surroundings(calibration)))
    assert of_the_trial(recorded_rows) == of_the_trial(plain) and tape.num_recorded


class Faulty(Tape):
    """Fails in the middle of what it records, with everything undone."""

    def record(self, work: Callable[[], Result]) -> tuple[Result, Callable[[], None]]:
        def fails() -> Result:
            work()
            raise RuntimeError("operation not permitted when stream is capturing\nand a long trace")

        return super().record(fails)


def test_what_cannot_be_recorded_stays_unrecorded_with_one_warning(
    trial_of: TrialOf, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distiller, "CudaGraphs", Faulty)
    every_epoch = {"name": "kdas", "start_rate": 0.5, "end_rate": 0.5, "sampling_period": 1}
    changed = {"sampler": every_epoch, "batch_size": 10}
    plain = rows_of(Training(trial_of(**changed), Surroundings(calibration)))
    with pytest.warns(UserWarning, match="^cuda_graphs: ") as caught:
        rows = list(Training(trial_of(**changed, cuda_graphs=True), Surroundings(calibration)).rows())
    assert of_the_trial(rows) == of_the_trial(plain)
    reason = "is not recorded, and runs as without the key: operation not permitted when stream is capturing."
    assert sorted(str(each.message) for each in caught) == [
        f"cuda_graphs: {name} {reason}" for name in ("scoring", "the training step")
    ]


def test_loss_that_waits_for_the_device_is_found_before_it_is_recorded(
    trial_of: TrialOf, calibration: Calibration, tape: Tape
) -> None:
    with pytest.warns(UserWarning, match="the training step is not recorded.*: it waits for the device") as caught:
        list(Training(trial_of(loss="kdsvd", cuda_graphs=True), Surroundings(calibration)).rows())
    assert len(caught) == 1


@pytest.mark.parametrize(
    "changed", [{"student": "torchvision/mobilenet_v3_small"}, {"loss": "crd"}, {"sampler": "wsld"}], ids=str
)
def test_steps_that_draw_or_call_the_sampler_are_not_tried(
    trial_of: TrialOf, tape: Tape, changed: dict[str, Any]
) -> None:
    distiller = trial_of(cuda_graphs=True, **changed).distiller()
    batch = first_batch(distiller)
    tape.num_aside = 0
    for _ in range(6):
        distiller.step(batch, 1, (lambda positions, logits: None) if "sampler" in changed else None)
    assert tape.num_aside == tape.num_recorded == 0


def test_trials_without_the_key_keep_their_names_and_prices(trial_of: TrialOf, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, named = trial_of(), trial_of(cuda_graphs=True)
    assert named.config_id != plain.config_id
    assert priced_by(named.config) == {**priced_by(plain.config), "cuda_graphs": True}
    monkeypatch.setattr("kdas.training.trial.content_id", lambda content: " ".join(content))
    assert "cuda_graphs" in trial_of(cuda_graphs=True).config_id and "cuda_graphs" not in trial_of().config_id


def test_prices_and_operations_are_those_of_the_steps_that_are_trained(trial_of: TrialOf, tape: Tape) -> None:
    trial = trial_of(cuda_graphs=True)
    assert flops_of(trial) == flops_of(trial_of()) and not tape.num_aside
    timed(trial.config, trial.distiller())
    # A size of a step or two, and sizes for scoring and for the teacher.
    assert tape.num_recorded == 10 and tape.num_replayed > 100


def test_key_needs_a_cuda_device(config_of: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"^cuda_graphs: true needs a CUDA device, got cpu\. Set cuda_graphs: false\.$"):
        load_inputs(config_of(cuda_graphs=True))
