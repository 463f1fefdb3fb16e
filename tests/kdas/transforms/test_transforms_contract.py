"""What every registered batch transform must do: a new one is tested by being registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from kdas.data import Draw
from kdas.errors import UserError
from kdas.parts.reading import validated
from kdas.recipe.config import TrialConfig
from kdas.transforms import TRANSFORMS, Transform, TransformContext, ViewBatch
from tests.kdas.parts.test_parts_contract import MINIMAL, outside

SIZE, NUM_SAMPLES = 8, 50
MEAN, STD = torch.tensor([100.0, 120.0, 90.0]).view(1, 3, 1, 1), torch.tensor([60.0, 70.0, 50.0]).view(1, 3, 1, 1)

every_transform = pytest.mark.parametrize("name", TRANSFORMS.names())


def context() -> TransformContext:
    return TransformContext(
        NUM_SAMPLES,
        SIZE,
        pixels=lambda images: (images * STD + MEAN).round().clamp(0, 255).to(torch.uint8),
        normalized=lambda images: (images.float() - MEAN) / STD,
    )


def built(name: str, **parameters: Any) -> Transform:
    transform: Transform = TRANSFORMS.build(TRANSFORMS.checked({"name": name, **parameters}), context())
    return transform


def batch_of(indices: list[int]) -> ViewBatch:
    """Views that depend on the sample alone."""
    pixels = torch.randint(256, (NUM_SAMPLES, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(1))
    chosen = torch.tensor(indices)
    return ViewBatch(context().normalized(pixels[chosen].to(torch.uint8)), chosen % 10, chosen)


def of_sample(batch: ViewBatch, index: int) -> Tensor:
    return batch.images[batch.indices.tolist().index(index)]


@every_transform
def test_images_keep_shape_dtype_and_order(name: str) -> None:
    batch = batch_of([4, 9, 2, 30])
    before = batch.images.clone()
    changed = built(name)(batch, Draw(1, 1))
    assert changed.images.shape == batch.images.shape and changed.images.dtype == torch.float32
    assert torch.isfinite(changed.images).all()
    assert changed.indices.tolist() == [4, 9, 2, 30] and changed.targets.shape == (4,)
    assert torch.equal(batch.images, before)


@every_transform
def test_some_images_change(name: str) -> None:
    batch = batch_of(list(range(20)))
    changed = built(name)(batch, Draw(1, 1))
    assert (changed.images != batch.images).flatten(1).any(dim=1).sum() >= 5


@every_transform
def test_same_seed_epoch_and_batch_give_the_same_whatever_ran_before(name: str) -> None:
    batch, transform = batch_of(list(range(12))), built(name)
    first = transform(batch, Draw(1, 2)).images
    transform(batch_of([3, 5]), Draw(1, 2))
    transform(batch, Draw(1, 3))
    torch.rand(7)
    assert torch.equal(transform(batch, Draw(1, 2)).images, first)
    assert torch.equal(built(name)(batch, Draw(1, 2)).images, first)


@every_transform
def test_another_seed_or_epoch_draws_anew(name: str) -> None:
    batch, transform = batch_of(list(range(20))), built(name)
    images = [transform(batch, draw).images for draw in (Draw(1, 1), Draw(2, 1), Draw(1, 2))]
    assert not torch.equal(images[0], images[1]) and not torch.equal(images[0], images[2])


@every_transform
def test_global_generator_is_left_alone(name: str) -> None:
    before = torch.get_rng_state()
    built(name)(batch_of([1, 2, 3]), Draw(1, 1))
    assert torch.equal(torch.get_rng_state(), before)


@every_transform
def test_order_of_a_batch_does_not_matter(name: str) -> None:
    one, other = [7, 3, 12, 40, 1], [40, 1, 7, 12, 3]
    transform = built(name)
    first, second = (transform(batch_of(each), Draw(1, 1)) for each in (one, other))
    for index in one:
        assert torch.equal(of_sample(first, index), of_sample(second, index))


@every_transform
def test_transform_without_partners_does_not_look_at_the_rest_of_the_batch(name: str) -> None:
    if "partners" in TRANSFORMS[name].needs:
        whole = built(name)(batch_of([7, 3, 12]), Draw(1, 1))
        assert whole.mixed is not None and whole.mixed.targets.shape == whole.mixed.shares.shape == (3,)
        return
    whole, part = (built(name)(batch_of(each), Draw(1, 1)) for each in ([7, 3, 12], [12, 9]))
    assert torch.equal(of_sample(whole, 12), of_sample(part, 12))
    assert whole.mixed is None and whole.targets.tolist() == [7, 3, 2]


@every_transform
def test_part_says_what_it_is_and_where_it_comes_from(name: str) -> None:
    assert TRANSFORMS[name].source and TRANSFORMS[name].summary
    checked = TRANSFORMS.checked(name)
    assert TRANSFORMS.checked(checked) == checked


def out_of_range() -> list[Any]:
    return [
        pytest.param(part.name, key, int(value) if field.annotation is int else value, id=f"{part.name}-{key}-{value}")
        for part in TRANSFORMS
        for key, field in part.schema.model_fields.items()
        for value in map(outside, field.metadata)
        if value is not None
    ]


@pytest.mark.parametrize(("name", "parameter", "value"), out_of_range())
def test_out_of_range_parameter_is_refused_by_name_and_value(name: str, parameter: str, value: float) -> None:
    said = rf"^x\.yaml: transforms\.0\.{parameter}: expected a value in [\[(].*[\])], got {value}\. \w+"
    with pytest.raises(UserError, match=said):
        validated(TrialConfig, {**MINIMAL, "transforms": [{"name": name, parameter: value}]}, source="x.yaml")


@every_transform
def test_trials_with_it_learn_and_resume(
    name: str, finished: Callable[..., Any], trial_of: Callable[..., Any], calibration: Any, tmp_path: Any
) -> None:
    from kdas.training.trainer import Surroundings, Training
    from tests.kdas.training.test_resuming import of_the_trial, run_until_epoch

    training, rows = finished(transforms=[name], sampler={"name": "kdas", "sampling_period": [2]}, epochs=4)
    assert (training.bank is None) == ("live_teacher" in TRANSFORMS[name].needs)
    assert rows[-1].train_loss < rows[0].train_loss
    trial = trial_of(transforms=[name], sampler={"name": "kdas", "sampling_period": [2]}, epochs=4)
    kept = Surroundings(calibration, checkpoint=tmp_path / "trial.pt", checkpoint_every_s=0)
    run_until_epoch(trial, kept, 3)
    resumed = Training(trial, kept)
    after = [row for row in rows if row.epoch > resumed.epoch]
    assert after and of_the_trial(list(resumed.rows())) == of_the_trial(after)
