"""What the transforms of this project compute, and what they change in a trial."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torchvision.transforms import v2

from kdas import seeding
from kdas.clock import Work
from kdas.data import Draw
from kdas.errors import UserError
from kdas.parts.reading import validated
from kdas.recipe.config import TrialConfig
from kdas.teacher.bank import bank_precision
from kdas.training.batch import Batch, joined
from kdas.training.calibrate import priced_by
from kdas.training.distiller import Distiller
from kdas.training.own_parts import check_own_parts
from kdas.training.timing import _jobs
from kdas.training.trial import Inputs, Trial, config_id
from kdas.transforms import TRANSFORMS, Mixed, ViewBatch
from tests.kdas.parts.test_parts_contract import MINIMAL
from tests.kdas.transforms.test_transforms_contract import batch_of, built, context

TrialOf = Callable[..., Trial]


def fetched(distiller: Distiller, size: int = 16, epoch: int = 1) -> Batch:
    draw = Draw(seed=1, epoch=epoch)
    ((indices, images),) = distiller.splits.training_batches([torch.arange(size)], draw)
    return distiller.batch(indices, images, draw)


def shares_of(batch: ViewBatch, plain: ViewBatch) -> tuple[list[int], list[float]]:
    """The partner of each sample, and the sample's own share. Samples have labels of their own."""
    assert batch.mixed is not None
    own = plain.targets
    is_mine = batch.targets == own
    partner = torch.where(is_mine, batch.mixed.targets, batch.targets)
    return partner.tolist(), torch.where(is_mine, 1 - batch.mixed.shares, batch.mixed.shares).tolist()


def ten() -> ViewBatch:
    return batch_of(list(range(10)))  # their labels are their numbers


def test_mixup_is_the_mean_of_two_images_weighted_as_their_labels() -> None:
    plain = ten()
    mixed = built("mixup")(plain, Draw(1, 1))
    partners, shares = shares_of(mixed, plain)
    # One circle through all samples: nobody is its own partner.
    assert sorted(partners) == list(range(10)) and all(own != other for own, other in enumerate(partners))
    for own, (other, share) in enumerate(zip(partners, shares, strict=True)):
        expected = share * plain.images[own] + (1 - share) * plain.images[other]
        torch.testing.assert_close(mixed.images[own], expected)
    assert mixed.mixed is not None and (mixed.mixed.shares <= 0.5).all()


def test_cutmix_puts_a_rectangle_of_the_partner_whose_area_is_its_share() -> None:
    plain = ten()
    mixed = built("cutmix")(plain, Draw(1, 1))
    partners, shares = shares_of(mixed, plain)
    for own, (other, share) in enumerate(zip(partners, shares, strict=True)):
        is_theirs = (mixed.images[own] != plain.images[own]).any(dim=0)
        assert torch.equal(mixed.images[own][:, is_theirs], plain.images[other][:, is_theirs])
        assert int(is_theirs.sum()) == pytest.approx((1 - share) * 64, abs=0.01)
        rows, columns = is_theirs.any(dim=1), is_theirs.any(dim=0)
        assert int(rows.sum()) * int(columns.sum()) == int(is_theirs.sum())  # it has no hole and no corner missing
    assert len(set(shares)) > 3


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_shares_have_the_distribution_asked_for(name: str) -> None:
    def changed(**parameters: float) -> int:
        mixed = built(name, **parameters)(batch_of(list(range(50))), Draw(1, 1)).mixed
        assert mixed is not None
        return int((mixed.shares > 0.02).sum())

    assert changed(probability=0) == 0 < changed(probability=0.5) < changed()
    assert changed(alpha=0.05) < changed(alpha=8)


def test_shares_of_mixup_have_the_moments_of_their_distribution() -> None:
    transform = built("mixup", alpha=2.0)
    found = []
    for epoch in range(1, 81):
        plain = ten()
        found += shares_of(transform(plain, Draw(1, epoch)), plain)[1]
    shares = torch.tensor(found)
    # Beta(2, 2): mean 1/2, variance 1/20.
    assert shares.mean().item() == pytest.approx(0.5, abs=0.03) and shares.var().item() == pytest.approx(0.05, abs=0.01)


@pytest.mark.parametrize(
    ("name", "transform"), [("randaugment", v2.RandAugment()), ("trivialaugment", v2.TrivialAugmentWide())]
)
def test_augmentations_are_those_of_torchvision_on_the_pixels(name: str, transform: Any) -> None:
    batch = batch_of([3, 8, 5])
    found = built(name)(batch, Draw(4, 2)).images
    pixels = context().pixels(batch.images)
    for row, index in enumerate([3, 8, 5]):
        with seeding.global_draws(4, name, 2, index):
            expected = transform(pixels[row])
        assert torch.equal(found[row], context().normalized(expected[None])[0])


def test_erased_rectangle_has_the_mean_colour() -> None:
    batch = batch_of(list(range(20)))
    found = built("random_erasing", probability=1.0).__call__(batch, Draw(1, 1)).images
    is_erased = found != batch.images
    assert is_erased.flatten(1).any(dim=1).sum() >= 15 and (found[is_erased] == 0).all()


def test_normalised_images_give_their_pixels_back(small_inputs: Inputs) -> None:
    splits = small_inputs.splits
    pixels = splits.train.images[:50]  # type: ignore[attr-defined]
    assert torch.equal(splits.pixels(splits.normalized(pixels)), pixels)


def test_cross_entropy_counts_both_labels_in_their_shares(trial_of: TrialOf) -> None:
    distiller = trial_of(transforms=["mixup"], ce_weight=2.0, kd_weight=0.0).distiller()
    batch = distiller.asked(fetched(distiller))
    assert batch.mixed is not None
    before = {key: value.clone() for key, value in distiller.student.state_dict().items()}
    _, losses = distiller.step(batch, epoch=1)
    distiller.student.load_state_dict(before)
    with torch.no_grad():
        log_probabilities = distiller.student(batch.images).log_softmax(dim=1)
    soft = functional.one_hot(batch.targets, 10) * (1 - batch.mixed.shares)[:, None]
    soft = soft + functional.one_hot(batch.mixed.targets, 10) * batch.mixed.shares[:, None]
    torch.testing.assert_close(losses, -2 * (soft * log_probabilities).sum(dim=1))


def test_teacher_and_student_see_the_same_images(trial_of: TrialOf) -> None:
    distiller = trial_of(transforms=["randaugment", "mixup"]).distiller()
    batch = fetched(distiller)
    asked = distiller.asked(batch)
    assert asked.answer is not None and asked.mixed is batch.mixed
    with torch.no_grad():
        torch.testing.assert_close(asked.answer.logits, distiller.teacher(batch.images))


def test_second_labels_follow_their_samples(trial_of: TrialOf) -> None:
    batch = fetched(trial_of(transforms=["mixup"]).distiller())
    halves = [batch.rows(torch.arange(8)), batch.rows(torch.arange(8, 16))]
    again, positions = joined(halves), torch.tensor([5, 1])
    few = again.rows(positions)
    assert batch.mixed is not None and few.mixed is not None
    assert torch.equal(few.mixed.targets, batch.mixed.targets[positions])
    assert torch.equal(few.mixed.shares, batch.mixed.shares[positions])


def test_plain_trials_have_neither_transforms_nor_second_labels(trial_of: TrialOf) -> None:
    distiller = trial_of().distiller()
    with_draw = fetched(distiller)
    ((indices, images),) = distiller.splits.training_batches([torch.arange(16)], Draw(seed=1, epoch=1))
    assert with_draw.mixed is None and torch.equal(with_draw.images, distiller.batch(indices, images).images)


def test_ids_and_prices_change_with_transforms_and_not_without(trial_of: TrialOf, small_inputs: Inputs) -> None:
    plain, none = trial_of().config, trial_of(transforms=[]).config
    assert config_id(plain, small_inputs) == config_id(none, small_inputs) and "transforms" not in priced_by(plain)
    given: list[Any] = [["mixup"], [{"name": "mixup", "alpha": 0.2}], ["cutmix"], ["random_erasing", "cutmix"]]
    configs = [trial_of(transforms=each).config for each in given]
    assert len({config_id(each, small_inputs) for each in [plain, *configs]}) == 5
    assert len({json.dumps(priced_by(each)) for each in [plain, *configs]}) == 5


def test_transforms_are_part_of_the_price_of_fetching(
    trial_of: TrialOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    trial = trial_of(transforms=["mixup"])
    distiller = trial.distiller()
    seen: list[int] = []
    original = distiller.transforms

    def noted(images: Tensor, *given: Any) -> Any:
        seen.append(len(images))
        return original(images, *given)

    monkeypatch.setattr(distiller, "transforms", noted)
    jobs = _jobs(trial.config, distiller, tmp_path)
    seen.clear()
    jobs[Work.AUGMENT, 16]()()
    assert seen == [16]


def test_bank_cannot_answer_for_changed_images(config_of: Callable[..., TrialConfig], small_inputs: Inputs) -> None:
    dataset, splits = small_inputs.dataset, small_inputs.splits
    assert bank_precision(config_of(), dataset, splits) == "float16"
    assert bank_precision(config_of(transforms=["mixup"]), dataset, splits) is None
    with pytest.raises(
        UserError, match=r"^bank: float16 is not possible: the teacher must see what mixup makes of a v"
    ):
        bank_precision(config_of(transforms=["mixup"], bank="float16"), dataset, splits)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["mixup", "cutmix"], r"transforms: mixup and cutmix both mix images\. Keep one of them\."),
        (
            ["mixup", "randaugment"],
            r"transforms: randaugment needs whole pixel values, which mixup mixes\. Put randaug",
        ),
        (["mixap"], r"transforms\.0\.name: no transform is called 'mixap'\. Did you mean mixup\?"),
        ([{"name": "mixup", "beta": 1}], r"transforms\.0\.beta: unknown key"),
        (["mixup"] * 21, r"transforms: expected at most 20 transforms, got 21\."),
    ],
    ids=lambda value: str(value)[:30],
)
def test_mistake_is_one_line(given: list[Any], said: str) -> None:
    with pytest.raises(UserError, match=rf"^x\.yaml: {said}"):
        validated(TrialConfig, {**MINIMAL, "transforms": given}, source="x.yaml")


def test_single_transform_needs_no_list(config_of: Callable[..., TrialConfig]) -> None:
    expected = [{"name": "mixup", "alpha": 1.0, "probability": 1.0}]
    assert config_of(transforms="mixup").transforms == expected
    assert config_of(transforms={"name": "mixup"}).transforms == expected


def test_rows_of_second_labels() -> None:
    mixed = Mixed(torch.tensor([1, 2, 3]), torch.tensor([0.1, 0.2, 0.3]))
    assert mixed.rows(torch.tensor([2, 0])).targets.tolist() == [3, 1]


def test_bank_answers_for_the_view_if_the_transform_allows_it(
    finished: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, empty_cache: Path
) -> None:
    monkeypatch.setattr(TRANSFORMS, "_parts", dict(TRANSFORMS._parts))

    @TRANSFORMS.register("darker", source="a test")
    def darker() -> Any:
        """Halves all values."""
        return lambda batch, draw: replace(batch, images=batch.images / 2)

    training, _ = finished(transforms=["darker"], epochs=1)
    assert training.bank is not None
    distiller = training.distiller
    ((_, plain),) = distiller.splits.training_batches([torch.arange(16)], Draw(1, 1))
    ((batch, answer),) = [
        (batch, training.walk._work.looked_up(0, batch).answer)
        for batch in training.walk._work.fetched(1, [torch.arange(16)])
    ]
    torch.testing.assert_close(batch.images, plain / 2)
    with torch.no_grad():
        torch.testing.assert_close(answer.logits, distiller.teacher(plain), rtol=1e-2, atol=1e-2)


def test_own_transform_that_returns_other_images_is_refused_before_any_training(
    config_of: Callable[..., TrialConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TRANSFORMS, "_parts", dict(TRANSFORMS._parts))
    registered = TRANSFORMS.register("smaller", source="a test")
    registered(lambda: lambda batch, draw: replace(batch, images=batch.images[:, :, ::2]))
    with pytest.raises(
        UserError, match=r"^transform smaller: makes \[4, 3, 4, 8\] of type torch\.float32 of images \[4, "
    ):
        check_own_parts(config_of(transforms=["smaller"]))
