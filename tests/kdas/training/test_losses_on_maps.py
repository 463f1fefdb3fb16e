"""Trials whose loss needs maps, indices, draws or the teacher's batch norms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdas import models, seeding
from kdas.clock import Calibration
from kdas.data import Draw
from kdas.errors import UserError
from kdas.losses import LOSSES, LossContext, LossNeed
from kdas.losses.interface import AT_BUILDING, STRONG
from kdas.losses.ofd import margins_of
from kdas.losses.terms import keywords_of
from kdas.training.answering import check_maps
from kdas.training.batch import joined
from kdas.training.trainer import Surroundings, Training
from kdas.training.trial import Inputs, Trial, load_inputs

TrialOf = Callable[..., Trial]
ConfigOf = Callable[..., Any]
CALLS: list[dict[str, Any]] = []
AT_A_CALL = [need for need in LossNeed if need not in AT_BUILDING]


@pytest.fixture(autouse=True)
def _parts() -> Any:
    CALLS.clear()

    @LOSSES.register(
        "all_needs",
        source="this test",
        needs=[*AT_A_CALL, LossNeed.TEACHER_BATCH_NORMS],
        usual={"ce_weight": 1.0, "kd_weight": 1.0},
        priced=["num_draws"],
    )
    class AllNeeds(nn.Module):
        """Moves the student's maps towards drawn multiples of the teacher's, and remembers samples."""

        def __init__(self, context: LossContext, *, num_draws: int = 1, scale: float = 1.0) -> None:
            super().__init__()
            self.context, self.num_draws, self.scale = context, num_draws, scale
            pairs = zip(context.student_maps, context.teacher_maps, strict=True)
            self.regressors = nn.ModuleList(nn.Conv2d(own[0], theirs[0], 1) for own, theirs in pairs)
            self.seen: Tensor
            self.register_buffer("seen", torch.zeros(context.num_samples))

        def forward(self, student_logits: Tensor, teacher_logits: Tensor, targets: Tensor, **needed: Any) -> Tensor:
            CALLS.append(needed)
            self.seen[needed["indices"]] += 1
            factor = torch.rand(self.num_draws, generator=needed["generator"]).mean()
            total = torch.zeros(len(targets))
            for regressor, own, theirs in zip(
                self.regressors, needed["student_maps"], needed["teacher_maps"], strict=True
            ):
                total = total + (regressor(own) - factor * theirs).square().mean(dim=(1, 2, 3))
            return total * (1 + self.seen[needed["indices"]])

    yield
    del LOSSES._parts["all_needs"]


def of_maps(trial_of: TrialOf, **changed: Any) -> Trial:
    return trial_of(loss="all_needs", ce_weight=1.0, kd_weight=1.0, **changed)


def test_a_loss_gets_what_it_needs_and_its_modules_are_trained(trial_of: TrialOf, calibration: Calibration) -> None:
    training = Training(of_maps(trial_of), Surroundings(calibration))
    loss: Any
    (loss,) = training.distiller.distillation.children()
    before = [parameter.detach().clone() for parameter in loss.parameters()]
    assert training.bank is None, "a bank has no maps"
    next(iter(training.rows()))
    first, context = CALLS[0], loss.context
    assert {*first} == {*keywords_of(AT_A_CALL)} >= {*STRONG} and first["epoch"] == 1
    for who in ("student", "teacher"):
        maps, features = first[f"{who}_maps"], first[f"{who}_features"]
        assert [tuple(each.shape[1:]) for each in maps] == [*getattr(context, f"{who}_maps")]
        # The last stage's map, averaged, is what the linear layer sees.
        torch.testing.assert_close(maps[-1].mean(dim=(2, 3)), features)
        torch.testing.assert_close(first[f"{who}_preact_maps"][-1].relu(), maps[-1])
    assert all(each.requires_grad for each in first["student_maps"])
    assert not any(each.requires_grad for each in first["teacher_maps"])
    assert context.num_samples == len(training.trial.inputs.splits.train)
    assert torch.equal(context.labels, training.trial.inputs.splits.train.labels)
    channels = [shape[0] for shape in context.teacher_maps[1:]]
    assert [len(weight) for weight, _ in context.teacher_batch_norms] == channels
    assert all(not torch.equal(old, new) for old, new in zip(before, loss.parameters(), strict=True))


@pytest.mark.parametrize("sampler", ["full", "kdas"])
def test_draws_maps_and_memory_resume_bit_for_bit(
    trial_of: TrialOf, calibration: Calibration, tmp_path: Any, sampler: str
) -> None:
    trial = of_maps(trial_of, sampler=sampler, epochs=3)
    whole = [row.train_loss for row in Training(trial, Surroundings(calibration)).rows()]
    surroundings = Surroundings(calibration, checkpoint=tmp_path / "checkpoint", checkpoint_every_s=0)
    for row in (interrupted := Training(trial, surroundings)).rows():
        if row.epoch == 2:
            break
    resumed = Training(trial, surroundings)
    assert resumed.epoch >= 1 and interrupted.epoch == 2
    rest = [row.train_loss for row in resumed.rows()]
    assert rest and rest == whole[-len(rest) :]


def test_strong_view_is_of_the_same_images_and_drawn_from_seed_epoch_and_index(
    trial_of: TrialOf, calibration: Calibration
) -> None:
    distiller = of_maps(trial_of).distiller()
    indices = torch.tensor([5, 2, 9, 7])
    ((_, images),) = distiller.splits.training_batches([indices], Draw(1, 1))
    batch, alone = distiller.batch(indices, images, Draw(1, 1)), distiller.batch(indices[2:], images[2:], Draw(1, 1))
    assert batch.strong_images is not None and alone.strong_images is not None
    assert batch.strong_images.shape == images.shape and not torch.equal(batch.strong_images, images)
    assert torch.equal(batch.strong_images[2:], alone.strong_images), "the batch does not matter"
    for other in (Draw(1, 2), Draw(2, 1)):
        again = distiller.batch(indices, images, other).strong_images
        assert again is not None and not torch.equal(again, batch.strong_images)
    asked = distiller.asked(batch)
    assert asked.answer is not None and asked.answer.strong_logits is not None
    with torch.no_grad():
        torch.testing.assert_close(asked.answer.strong_logits, distiller.teacher(batch.strong_images))
    part = asked.rows(torch.tensor([3, 0]))
    assert part.strong_images is not None and part.answer is not None and part.answer.strong_logits is not None
    assert torch.equal(part.strong_images, batch.strong_images[[3, 0]])
    assert torch.equal(joined([part, asked]).rows(torch.arange(2)).strong_images, part.strong_images)  # type: ignore[arg-type]


def test_two_views_of_a_mixture_are_refused(config_of: ConfigOf) -> None:
    with pytest.raises(ValueError, match=r"transforms: mixup mixes images, and the loss all_needs compares two views"):
        config_of(loss="all_needs", transforms=["mixup"])


def test_draws_of_a_loss_differ_between_batches_and_epochs_and_repeat(
    trial_of: TrialOf, calibration: Calibration
) -> None:
    def drawn() -> list[float]:
        CALLS.clear()
        list(Training(of_maps(trial_of, epochs=2), Surroundings(calibration)).rows())
        return [float(torch.rand((), generator=call["generator"].clone_state())) for call in CALLS]

    once = drawn()
    assert len({*once}) == len(once) > 2
    assert drawn() == once


def test_layers_by_name_are_used_and_checked_before_anything_is_trained(
    config_of: ConfigOf, trial_of: TrialOf, calibration: Calibration
) -> None:
    trial = of_maps(trial_of, student_layers=["bn1", "layer2"], teacher_layers=["conv1", "layer2"])
    next(iter(Training(trial, Surroundings(calibration)).rows()))
    assert [each.shape[1] for each in CALLS[0]["student_maps"]] == [16, 32]
    assert [each.shape[1] for each in CALLS[0]["teacher_maps"]] == [16, 32]
    assert trial.config_id != of_maps(trial_of).config_id
    with pytest.raises(UserError, match=r"^student_layers: the model has no layer 'layer7'"):
        load_inputs(config_of(loss="all_needs", student_layers=["layer7"]))
    with pytest.raises(UserError, match=r"^teacher_layers: layer fc: expected a map .*, got shape \[2, 10\]"):
        load_inputs(config_of(loss="all_needs", teacher_layers=["layer1", "fc"]))
    with pytest.raises(UserError, match=r"^student_layers: missing\. A loss needs maps"):
        load_inputs(config_of(loss="all_needs", student="torchvision/mobilenet_v3_small"))
    with pytest.raises(ValueError, match=r"student_layers: no loss of this file needs maps"):
        config_of(loss="kd", student_layers=["layer1"])


def test_a_teacher_without_known_batch_norms_is_refused(config_of: ConfigOf) -> None:
    teacher = {"model": "ShuffleV1", "epochs": 1}
    with pytest.raises(UserError, match=r"^teacher_layers: missing\. A loss needs the teacher's batch norms"):
        load_inputs(config_of(loss="all_needs", teacher=teacher))


def test_numbers_that_a_loss_is_priced_by_have_prices_of_their_own(config_of: ConfigOf) -> None:
    from kdas.training.calibrate import priced_by

    def prices(**parameters: Any) -> Any:
        return priced_by(config_of(loss={"name": "all_needs", **parameters}))

    assert prices(scale=2.0) == prices(scale=1.0)
    assert prices(num_draws=2) != prices(num_draws=1)
    assert priced_by(config_of(loss="all_needs", student_layers=["layer1"])) != prices()


def test_ofd_takes_a_teacher_of_a_library_by_the_names_of_its_layers(
    config_of: ConfigOf, small_inputs: Inputs, calibration: Calibration
) -> None:
    teacher = {"model": "torchvision/resnet18"}
    with pytest.raises(UserError, match=r"^teacher_layers: missing\. A loss needs maps"):
        check_maps(config_of(loss="ofd", teacher=teacher), num_classes=10, image_size=32)
    layers = ["relu", "layer1", "layer2", "layer3"]
    with seeding.global_draws(1, "teacher of a library"):
        network = models.create("torchvision/resnet18", 10).requires_grad_(False).eval()
    inputs = replace(small_inputs, teacher=replace(small_inputs.teacher, model=network))
    config = config_of(loss="ofd", teacher=teacher, teacher_layers=layers)
    training = Training(Trial(config, inputs), Surroundings(calibration))
    loss: Any
    (loss,) = training.distiller.distillation.children()
    norms: list[Any] = [network.get_submodule(f"network.{layer}.1.bn2") for layer in layers[1:]]
    for margin, norm in zip(loss.margins, norms, strict=True):
        assert torch.equal(margin, margins_of(norm.weight, norm.bias))
    assert torch.tensor(next(iter(training.rows())).train_loss).isfinite()
