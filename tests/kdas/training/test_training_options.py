"""Training options of a trial file: precision, layout, clipping, averaging, parts of a batch, compilation."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdas.clock import Calibration, Work
from kdas.compute.device import compiler
from kdas.compute.evaluate import accuracy
from kdas.data import Draw
from kdas.errors import UserError
from kdas.losses import LOSSES
from kdas.records import CurveRow, Status
from kdas.samplers import EpochPlan
from kdas.training.answering import Asked, answering
from kdas.training.batch import Batch
from kdas.training.compiled import Compiler
from kdas.training.distiller import Distiller
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Trial, load_inputs

Finished = Callable[..., tuple[Training, list[CurveRow]]]
TrialOf = Callable[..., Trial]


def first_batch(distiller: Distiller, size: int = 16) -> Batch:
    ((indices, images),) = distiller.splits.training_batches([torch.arange(size)], Draw(seed=1, epoch=1))
    return distiller.asked(distiller.batch(indices, images))


def weights_of(model: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.parameters()]


def seen_dtypes(model: nn.Module) -> set[torch.dtype]:
    """The dtypes that the model's convolutions return; filled while the model runs."""
    dtypes: set[torch.dtype] = set()
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda module, inputs, output: dtypes.add(output.dtype))
    return dtypes


@pytest.mark.parametrize(
    ("precision", "dtype"),
    [("float32", torch.float32), ("bfloat16", torch.bfloat16), ("float16", torch.float16)],
)
def test_models_compute_in_the_precision_asked_for_and_weights_stay_in_float32(
    trial_of: TrialOf, precision: str, dtype: torch.dtype
) -> None:
    distiller = trial_of(precision=precision).distiller()
    batch = first_batch(distiller)
    dtypes = seen_dtypes(distiller.student)
    assert distiller.scoring_logits(batch, epoch=1).dtype == torch.float32
    loss, losses = distiller.step(batch, epoch=1)
    assert dtypes == {dtype}
    assert batch.answer is not None and batch.answer.logits.dtype == torch.float32
    assert loss.dtype == losses.dtype == torch.float32
    assert {parameter.dtype for parameter in distiller.student.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_short_floats_learn_nearly_what_float32_learns(finished: Finished, precision: str) -> None:
    _, exact = finished(epochs=4)
    _, short = finished(epochs=4, precision=precision)
    assert [row.step for row in short] == [row.step for row in exact]
    assert short[-1].train_loss == pytest.approx(exact[-1].train_loss, rel=0.05)
    assert short[-1].train_loss != exact[-1].train_loss


def test_float16_leaves_out_a_step_whose_gradients_overflow(trial_of: TrialOf) -> None:
    distiller = trial_of(precision="float16", kd_weight=1e6).distiller()
    before, scale = weights_of(distiller.student), distiller.precision.scaler.get_scale()
    distiller.step(first_batch(distiller), epoch=1)
    assert all(torch.equal(*pair) for pair in zip(before, weights_of(distiller.student), strict=True))
    assert distiller.precision.scaler.get_scale() == scale / 2


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_clipped_gradient_is_no_longer_than_asked(trial_of: TrialOf, precision: str) -> None:
    def norm_after_a_step(clip_norm: float | None) -> float:
        optimizer = {"learning_rate": 0.02, "clip_norm": clip_norm}
        distiller = trial_of(optimizer=optimizer, precision=precision).distiller()
        distiller.step(first_batch(distiller), epoch=1)
        gradients = [parameter.grad for parameter in distiller.trained if parameter.grad is not None]
        return float(torch.stack([gradient.norm() for gradient in gradients]).norm())

    assert norm_after_a_step(None) > 0.5
    assert norm_after_a_step(0.25) == pytest.approx(0.25, rel=1e-3)


def test_batch_in_parts_steps_as_the_whole_batch_does(trial_of: TrialOf) -> None:
    weights, loss_weights = torch.linspace(0.2, 1, 16), torch.linspace(2, 1, 16)

    def stepped(accumulate: int, *given: Tensor | None) -> list[Tensor]:
        """The loss, the losses of the samples, and the change of each weight, in units of the learning rate."""
        distiller = trial_of(student="tests.kdas.own_parts:Plain", accumulate=accumulate).distiller()
        before, batch = weights_of(distiller.student), first_batch(distiller)
        loss, losses = distiller.step(batch, 1, *given)
        after = weights_of(distiller.student)
        return [loss, losses, *((new - old) / 0.02 for old, new in zip(before, after, strict=True))]

    def apart(one: list[Tensor], other: list[Tensor]) -> list[float]:
        return [float((a - b).abs().max()) for a, b in zip(one, other, strict=True)]

    # On some processors batches of 16 and of 6, 6 and 4 round differently. Logits of about 1 differ by less than 1e-6;
    # losses by up to 2.5e-5, since a divergence at temperature 4 is 9 * 4**2 times a difference of close numbers.
    rounding = 5e-4
    whole, parts = stepped(1, weights, loss_weights), stepped(3, weights, loss_weights)
    assert max(apart(parts, whole)) < rounding
    # Weights that are missing, or given to other samples, change the loss much more.
    for wrong in ((None, loss_weights), (weights, None), (weights.flip(0), loss_weights)):
        assert apart(stepped(3, *wrong), whole)[0] > 100 * rounding


def test_moving_average_is_evaluated_in_place_of_the_student(trial_of: TrialOf) -> None:
    distiller = trial_of(ema_decay=0.75).distiller()
    expected = None
    for _ in range(3):
        distiller.step(first_batch(distiller), epoch=1)
        weights = weights_of(distiller.student)
        expected = (
            weights
            if expected is None
            else [0.75 * mean + 0.25 * new for mean, new in zip(expected, weights, strict=True)]
        )
    assert distiller.evaluated is not distiller.student and expected is not None
    for mean, one in zip(expected, weights_of(distiller.evaluated), strict=True):
        torch.testing.assert_close(one, mean)
    assert not torch.equal(weights_of(distiller.evaluated)[0], weights_of(distiller.student)[0])


@pytest.mark.parametrize(
    ("channels_last", "memory_format"), [(True, torch.channels_last), (False, torch.contiguous_format)]
)
def test_images_have_the_layout_asked_for(
    trial_of: TrialOf, channels_last: bool, memory_format: torch.memory_format
) -> None:
    batch = first_batch(trial_of(channels_last=channels_last).distiller())
    assert batch.images.is_contiguous(memory_format=memory_format)


def test_several_crops_are_judged_by_the_mean_of_their_probabilities(trial_of: TrialOf) -> None:
    distiller = trial_of().distiller()
    splits, student = distiller.splits, distiller.student
    images = splits.test.images  # type: ignore[attr-defined]
    crops = splits.views.crops(images)
    # Digits must not be mirrored, so the crops are the centre, which is the image itself, and the four corners.
    assert len(crops) == 5 and torch.equal(crops[0], images)
    assert torch.equal(crops[1][:, :, 1:, 1:], images[:, :, :-1, :-1])
    with torch.no_grad():
        answers = torch.stack([student.eval()(splits.normalized(crop)).softmax(dim=1) for crop in crops])
    expected = int((answers.mean(dim=0).argmax(dim=1) == splits.test.labels).sum()) / 60
    assert accuracy(student, splits.test, splits, multi_crop=True) == expected


def test_scoring_in_train_mode_moves_statistics_and_no_weights(trial_of: TrialOf) -> None:
    distiller = trial_of().distiller()
    before = copy.deepcopy(distiller.student.state_dict())
    distiller.scoring_logits(first_batch(distiller), epoch=1, mode="train")
    after = distiller.student.state_dict()
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved and all("running" in key or "num_batches" in key for key in moved)


def test_loss_that_overflows_ends_the_trial_as_diverged_with_its_curve(finished: Finished) -> None:
    training, rows = finished(epochs=3, optimizer={"learning_rate": 1e12}, precision="bfloat16")
    assert training.status is Status.DIVERGED
    assert not math.isfinite(rows[-1].train_loss) and not math.isnan(rows[-1].val_accuracy)


def test_only_what_a_sampler_needs_is_computed_and_charged(finished: Finished) -> None:
    sampling = {"sampling_period": [2], "exclusion_rate": 0.0}
    charged = {
        name: {work: training.clock.samples(work) for work in Work}
        for name in ("kdas", "top_loss", "kdas_random_choice", "infobatch", "selective_backprop", "static_random")
        for training, _ in [finished(sampler={"name": name, **(sampling if name in ("kdas", "top_loss") else {})})]
    }
    for name, work in charged.items():
        assert (work[Work.SCORE] > 0) == (name in ("kdas", "top_loss", "selective_backprop"))
        assert (work[Work.OBSERVE] > 0) == (name == "infobatch")
        assert (work[Work.WEIGH] > 0) == (name in ("kdas", "kdas_random_choice"))
        # The teacher answers for the samples that are trained on, and for more only if it takes part in the choice.
        assert (work[Work.TEACHER] > work[Work.STEP]) == (name == "kdas")
        assert work[Work.TEACHER] >= work[Work.STEP] > 0


def test_selected_samples_are_trained_on_a_batch_at_a_time(
    trial_of: TrialOf, calibration: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    original = Distiller.step

    def recorded(self: Distiller, batch: Batch, *arguments: Any) -> tuple[Tensor, Tensor]:
        sizes.append(len(batch))
        return original(self, batch, *arguments)

    monkeypatch.setattr(Distiller, "step", recorded)
    trial = trial_of(sampler={"name": "selective_backprop", "selectivity": 1}, epochs=1)
    training = Training(trial, Surroundings(calibration))
    training.budget_ref_s = math.inf
    rows = list(training.rows())
    # About half of a hundred samples, scored 16 at a time: full batches, then one with the rest.
    assert sizes[:-1] == [16] * (len(sizes) - 1) and 2 <= sizes[-1] <= 16 and 30 < sum(sizes) < 70
    assert rows[-1].samples_scored == 100 and training.status is Status.BUDGET


@pytest.mark.skipif(compiler() is None, reason="there is no C++ compiler: models cannot be translated for a CPU")
@pytest.mark.slow
def test_compiled_models_learn_what_the_others_learn(finished: Finished, monkeypatch: pytest.MonkeyPatch) -> None:
    # PyTorch caches compiled models in the system's temporary folder. One that was compiled for other vector
    # instructions fails or gives NaN.
    monkeypatch.setattr(torch._inductor.config, "fx_graph_cache", False)
    monkeypatch.setattr(torch._functorch.config, "enable_autograd_cache", False)
    plain, translated = finished(epochs=1), finished(epochs=1, compile=True)
    assert [row.step for row in translated[1]] == [row.step for row in plain[1]]
    assert translated[1][0].train_loss == pytest.approx(plain[1][0].train_loss, rel=1e-3)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_compiled_scoring_sees_few_sizes_and_answers_the_same(
    trial_of: TrialOf, monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    sizes: list[int] = []

    def noted(function: Callable[..., Any], dynamic: bool) -> Callable[..., Any]:
        def translated(images: Tensor) -> Any:
            sizes.append(len(images))
            return function(images)

        return translated

    monkeypatch.setattr(torch, "compile", noted)
    plain, distiller = trial_of().distiller(), trial_of(compile=True).distiller()
    # Pretend: the device decides which sizes are compiled.
    compiler = Compiler(distiller.config, device)
    distiller._scores = compiler.compiled(answering(distiller.student, Asked.LOGITS, None))
    for size in (17, 18, 19, 23, 27, 30, 33):
        batch = first_batch(plain, size)
        torch.testing.assert_close(distiller.scoring_logits(batch, 1), plain.scoring_logits(batch, 1))
    assert sizes == [20, 20, 20, 24, 28, 32, 36]


def test_compile_without_a_compiler_is_refused_before_any_compute(
    config_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"^compile: true needs a C\+\+ compiler on a CPU.*Install g\+\+"):
        load_inputs(config_of(compile=True))


def test_loss_that_is_not_one_value_a_sample_is_refused_by_name(
    trial_of: TrialOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LOSSES, "_parts", dict(LOSSES._parts))
    registered = LOSSES.register("a_mean", source="a test")
    registered(lambda: lambda student_logits, teacher_logits, targets: (student_logits - teacher_logits).pow(2).mean())
    distiller = trial_of(loss="a_mean").distiller()
    with pytest.raises(UserError, match=r"^loss a_mean: returns shape \[\] for a batch of 16\. Return one value per"):
        distiller.step(first_batch(distiller), epoch=1)


def test_plan_of_missing_samples_is_refused_by_name() -> None:
    for order in (torch.tensor([0, 100]), torch.tensor([-1, 3]), torch.tensor([], dtype=torch.int64)):
        with pytest.raises(
            UserError, match=r"^sampler mine: its plan for epoch 3 is empty or contains samples outside 0 to 99\. Fix"
        ):
            EpochPlan(order, 16, 1.0).check("mine", 3, 100)
