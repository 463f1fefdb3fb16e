"""The finite view space against a naive pad, crop and flip."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdas.views import CropFlip


def random_images(count: int, size: int) -> Tensor:
    shape = (count, 3, size, size)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def naive_view(image: Tensor, view_id: int, padding: int, flip: bool) -> Tensor:
    """Pad by loops, cut a window, mirror it."""
    channels, size, _ = image.shape
    padded = torch.zeros(channels, size + 2 * padding, size + 2 * padding, dtype=image.dtype)
    for row in range(size):
        for column in range(size):
            padded[:, row + padding, column + padding] = image[:, row, column]
    corner, mirrored = divmod(view_id, 2) if flip else (view_id, 0)
    top, left = divmod(corner, 2 * padding + 1)
    window = padded[:, top : top + size, left : left + size]
    return window.flip(2) if mirrored else window


def test_the_fields_augmentation_has_162_views() -> None:
    assert CropFlip().num_views == 162
    assert CropFlip(padding=1, size=8, flip=False).num_views == 9


@pytest.mark.parametrize(("padding", "flip"), [(4, True), (1, False), (0, True), (2, False)])
def test_every_view_is_what_padding_cropping_and_flipping_gives(padding: int, flip: bool) -> None:
    views = CropFlip(padding=padding, size=6, flip=flip)
    images = random_images(views.num_views, 6)
    cut = views.apply(images, torch.arange(views.num_views))
    assert cut.dtype == torch.uint8 and cut.shape == images.shape
    for view_id in range(views.num_views):
        assert torch.equal(cut[view_id], naive_view(images[view_id], view_id, padding, flip)), view_id


def test_the_middle_crop_unmirrored_is_the_image_itself() -> None:
    views, images = CropFlip(), random_images(3, 32)
    identity = (4 * 9 + 4) * 2
    assert torch.equal(views.apply(images, torch.full((3,), identity)), images)
    assert torch.equal(views.apply(images, torch.full((3,), identity + 1)), images.flip(3))


def test_all_views_of_an_image_differ() -> None:
    views = CropFlip(padding=2, size=8)
    image = random_images(1, 8).expand(views.num_views, -1, -1, -1)
    cut = views.apply(image, torch.arange(views.num_views))
    assert len(cut.reshape(views.num_views, -1).unique(dim=0)) == views.num_views == 50


def test_views_depend_on_seed_and_epoch_alone() -> None:
    views = CropFlip()
    first = views.draw(500, seed=3, epoch=5)
    torch.manual_seed(99)
    torch.rand(7)
    assert torch.equal(views.draw(500, seed=3, epoch=5), first)
    assert not torch.equal(views.draw(500, seed=4, epoch=5), first)
    assert not torch.equal(views.draw(500, seed=3, epoch=6), first)


def test_views_cover_the_whole_range_and_nothing_else() -> None:
    drawn = torch.cat([CropFlip().draw(1000, seed=0, epoch=epoch) for epoch in range(1, 6)])
    assert drawn.unique().tolist() == list(range(162))


def test_what_an_index_shows_does_not_depend_on_the_batch_it_is_in() -> None:
    views, images = CropFlip(), random_images(20, 32)
    view_ids = views.draw(20, seed=0, epoch=1)
    whole = views.apply(images, view_ids)
    some = torch.tensor([17, 3, 11])
    assert torch.equal(views.apply(images[some], view_ids[some]), whole[some])


def test_what_an_index_shows_does_not_depend_on_the_size_of_the_set() -> None:
    assert torch.equal(CropFlip().draw(1000, seed=2, epoch=1)[:100], CropFlip().draw(100, seed=2, epoch=1))
