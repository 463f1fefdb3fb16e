"""Sets of image files: which files are found or refused, what identifies a set, how a photograph is prepared."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from kdas.data import DATASETS, Dataset, loading, memory
from kdas.data.files import ImageFiles
from kdas.data.loading import is_streamed
from kdas.data.pixels import read_image
from kdas.data.streamed import FileReader, Request
from kdas.errors import UserError
from kdas.training.trial import config_id
from kdas.views import CropFlip, ResizedCrop

WriteFolders = Callable[..., Path]
ConfigOf = Callable[..., Any]


def built(folder: Path, name: str = "image_folder", **parameters: Any) -> Dataset:
    return DATASETS.build(DATASETS.checked({"name": name, "path": str(folder), **parameters}))


def files_of(dataset: Dataset) -> ImageFiles:
    assert dataset.files is not None
    return dataset.files


@pytest.fixture
def folder(tmp_path: Path, write_folders: WriteFolders) -> Path:
    return write_folders(tmp_path / "set", {"train": 4, "test": 2})


@pytest.fixture
def tiny(tmp_path: Path, write_folders: WriteFolders) -> Path:
    """Tiny ImageNet's layout: three classes, each with four training images and one validation image."""
    folder = write_folders(tmp_path / "tiny", {"train": 4}, below="images", width=64, height=64)
    write_folders(folder, {"val": 3}, ["images"], width=64, height=64)
    table = "".join(f"{number}.png\t{name}\t0\t0\t62\t62\n" for number, name in enumerate(["cow", "ant", "bee"]))
    (folder / "val" / "val_annotations.txt").write_text(table, encoding="utf-8")
    return folder


@pytest.fixture
def photograph(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(5).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    path = tmp_path / "photograph.png"
    Image.fromarray(pixels).save(path)
    return path


def test_files_and_labels_are_those_of_torchvision(folder: Path) -> None:
    from torchvision.datasets import ImageFolder

    (folder / "train" / "bee" / "inner").mkdir()
    shutil.copy(folder / "train" / "bee" / "0.png", folder / "train" / "bee" / "inner" / "früh.PNG")
    (folder / "train" / "bee" / "notes.txt").write_text("no image", encoding="utf-8")
    files = files_of(built(folder))
    found = [(str(files.path(number)), int(label)) for number, label in enumerate(files.labels)]
    assert found == ImageFolder(str(folder / "train")).samples + ImageFolder(str(folder / "test")).samples
    assert files.num_train == 13 and files.train_labels.tolist() == [0] * 4 + [1] * 5 + [2] * 4


def test_image_that_cannot_be_read_keeps_its_place(folder: Path) -> None:
    (folder / "train" / "ant" / "0.png").write_bytes(b"no image")
    assert len(files_of(built(folder))) == 18


def test_tiny_imagenet_takes_the_classes_of_its_validation_images_from_the_table(tiny: Path) -> None:
    dataset = built(tiny, "tiny_imagenet")
    files = files_of(dataset)
    assert files.train_labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4 and files.test_labels.tolist() == [2, 0, 1]
    assert [files.path(number).name for number in (12, 13, 14)] == ["0.png", "1.png", "2.png"]
    assert dataset.views(64) == CropFlip(padding=8, size=64, flip=True)


def test_imagenet_is_seen_at_224_pixels_and_never_decoded_whole(tmp_path: Path, write_folders: WriteFolders) -> None:
    dataset = built(write_folders(tmp_path, {"train": 2, "val": 1}), "imagenet")
    assert dataset.size == 224 and dataset.views(224) == ResizedCrop(size=224, flip=True)
    assert is_streamed(dataset, "cpu")


def annotations_gone(tiny: Path) -> None:
    (tiny / "val" / "val_annotations.txt").unlink()


def line_cut(tiny: Path) -> None:
    (tiny / "val" / "val_annotations.txt").write_text("0.png\n", encoding="utf-8")


def class_unknown(tiny: Path) -> None:
    (tiny / "val" / "val_annotations.txt").write_text("0.png\tyak\n", encoding="utf-8")


def image_gone(tiny: Path) -> None:
    (tiny / "val" / "images" / "1.png").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (annotations_gone, r"val_annotations\.txt: cannot be read\. Unpack"),
        (line_cut, r"val_annotations\.txt: a line has no class\. Unpack"),
        (class_unknown, r"class 'ant' is in the train part but not in the test part \(4 such classes\)"),
        (image_gone, r"1\.png: cannot be read: No such file or directory\. Add"),
    ],
)
def test_damaged_tiny_imagenet_is_refused_in_one_line(tiny: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(tiny)
    with pytest.raises(UserError, match=rf"^[^\n]*{message}[^\n]*$"):
        built(tiny, "tiny_imagenet")


@pytest.mark.parametrize("name", ["image_folder", "tiny_imagenet", "imagenet"])
def test_folder_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"none: no such folder\. Unpack the dataset there, or give another path\."):
        built(tmp_path / "none", name)
    with pytest.raises(UserError, match=r"train: no such folder\. Put the class folders there"):
        built(tmp_path, name)


@pytest.mark.parametrize("name", ["image_folder", "parquet", "cifar10"])
def test_file_in_place_of_a_folder_is_called_so(tmp_path: Path, name: str) -> None:
    (tmp_path / "set.zip").touch()
    with pytest.raises(UserError, match=r"set\.zip: is a file\. Give the folder that contains it\.$"):
        built(tmp_path / "set.zip", name)


def test_class_without_test_images_is_said_and_shifts_no_label(folder: Path) -> None:
    classes = sorted(each.name for each in (folder / "train").iterdir())
    shutil.rmtree(folder / "test" / classes[0])
    with pytest.warns(
        UserWarning, match=rf"1 of {len(classes)} classes have no test images, for example class {classes[0]}\."
    ):
        dataset = built(folder)
    assert dataset.num_classes == len(classes)
    assert dataset.files is not None
    assert set(dataset.files.test_labels.tolist()) == set(range(1, len(classes)))


def test_part_without_classes_or_class_without_images_is_refused(folder: Path) -> None:
    (folder / "test" / "dog").mkdir()
    with pytest.raises(UserError, match=r"class 'dog' is in the test part but not in the train part \(1 such class\)"):
        built(folder)
    (folder / "train" / "dog").mkdir()
    with pytest.raises(UserError, match=r"dog: contains no image \(\.jpg, .*\)\. Add images, or remove the folder\."):
        built(folder)
    shutil.rmtree(folder / "test")
    (folder / "test").mkdir()
    with pytest.raises(UserError, match=r"test: contains no class folders\. Make one for each class\."):
        built(folder)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"mean": [0.5, 0.5, 0.5]}, "expected both mean and std, or neither"),
        ({"size": 48, "resize": 32}, r"resize: is the same as size, which is 48\. Give one"),
        ({"augment": "resized_crop", "padding": 4}, r"padding: 4 only applies to crop_flip.*Remove it"),
        ({"augment": "resized_crop", "keep": "memory"}, r"keep: memory only works with crop_flip.*Use auto or disk"),
    ],
    ids=["mean alone", "size", "padding", "keep"],
)
def test_parameters_that_contradict_each_other_are_refused(
    folder: Path, parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        built(folder, **parameters)


def test_set_is_identified_by_names_sizes_and_labels_and_not_by_where_it_lies(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    assert built(copy).fingerprint == built(folder).fingerprint
    (copy / "train" / "ant" / "0.png").rename(copy / "train" / "ant" / "zero.png")
    renamed = built(copy).fingerprint
    with (copy / "train" / "ant" / "1.png").open("ab") as file:
        file.write(b"x")
    assert len({renamed, built(folder).fingerprint, built(copy).fingerprint}) == 3


@pytest.mark.parametrize(
    "changed",
    [{"size": 32}, {"augment": "resized_crop"}, {"flip": False}, {"padding": 3}, {"mean": [0] * 3, "std": [1] * 3}],
    ids=lambda changed: next(iter(changed)),
)
def test_what_an_image_becomes_is_part_of_a_sets_identity(folder: Path, changed: dict[str, Any]) -> None:
    assert built(folder, **changed).identity != built(folder).identity


def test_where_images_are_kept_is_not_part_of_an_identity_but_is_loaded_separately(folder: Path) -> None:
    kept = [built(folder, keep=keep) for keep in ("auto", "memory", "disk")]
    assert kept[0].identity == kept[1].identity == kept[2].identity
    assert len(set(kept)) == 3


def test_sets_without_a_size_are_identified_as_they_always_were() -> None:
    dataset = DATASETS.build(DATASETS.checked("digits"))
    assert dataset.identity == [dataset.fingerprint, 1, False]


def test_data_workers_are_no_part_of_a_configuration(config_of: ConfigOf, small_inputs: Any) -> None:
    assert config_id(config_of(data_workers=1), small_inputs) == config_id(config_of(data_workers=7), small_inputs)


def test_set_that_fits_half_of_the_free_memory_is_kept_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    num_bytes = 18 * 3 * 64 * 64
    for free, streamed in ((2 * num_bytes, False), (2 * num_bytes - 1, True)):
        monkeypatch.setattr(memory, "_free_bytes", lambda free=free: free)
        assert is_streamed(built(folder), "cpu") is streamed
        assert not is_streamed(built(folder, keep="memory"), "cpu")
        assert is_streamed(built(folder, keep="disk"), "cpu")
        assert is_streamed(built(folder, augment="resized_crop"), "cpu")


def test_memory_of_this_machine_fits_a_megabyte_and_not_an_exabyte() -> None:
    assert memory.fits(2**20, "cpu") and not memory.fits(2**60, "cpu")


def test_normalisation_is_imagenets_unless_given_wherever_images_are_kept(folder: Path) -> None:
    for keep in ("memory", "disk"):
        splits = loading.load_splits(built(folder, keep=keep), 0.0, "cpu")
        torch.testing.assert_close(splits.mean.flatten() / 255, torch.tensor([0.485, 0.456, 0.406]))
        torch.testing.assert_close(splits.std.flatten() / 255, torch.tensor([0.229, 0.224, 0.225]))
    given = loading.load_splits(built(folder, mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6]), 0.0, "cpu")
    torch.testing.assert_close(given.std.flatten() / 255, torch.tensor([0.4, 0.5, 0.6]))


def test_photograph_for_finite_views_is_its_centre_with_the_shorter_side_at_size(photograph: Path) -> None:
    image = Image.open(photograph)
    expected = image.resize((48, 32), Image.Resampling.BILINEAR).crop((8, 0, 40, 32))
    pixels = read_image(photograph, CropFlip(padding=4, size=32))
    assert pixels is not None and np.array_equal(pixels, np.asarray(expected))


def test_photograph_is_evaluated_at_the_centre_of_an_eighth_more(photograph: Path) -> None:
    views = ResizedCrop(size=28)
    assert views.shorter_side == 32 and ResizedCrop(224).shorter_side == 256
    expected = Image.open(photograph).resize((48, 32), Image.Resampling.BILINEAR).crop((10, 2, 38, 30))
    pixels = read_image(photograph, views)
    assert pixels is not None and np.array_equal(pixels, np.asarray(expected))


def test_drawn_crop_depends_on_seed_epoch_and_index_alone(photograph: Path) -> None:
    views = ResizedCrop(size=16)

    def drawn(*drawn_for: int) -> bytes:
        pixels = read_image(photograph, views, drawn_for)  # type: ignore[arg-type]
        assert pixels is not None and pixels.shape == (16, 16, 3)
        return pixels.tobytes()

    first = drawn(1, 2, 3)
    torch.manual_seed(4)
    before = torch.random.get_rng_state()
    assert drawn(1, 2, 3) == first
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len({first, drawn(0, 2, 3), drawn(1, 0, 3), drawn(1, 2, 0)}) == 4


def test_drawn_crops_are_mirrored_half_the_time_and_only_where_that_is_allowed(tmp_path: Path) -> None:
    ramp = np.broadcast_to(np.arange(0, 240, 4, dtype=np.uint8)[:, None], (60, 60, 3))
    Image.fromarray(ramp).save(tmp_path / "ramp.png")

    def mirrored(flip: bool) -> int:
        crops = [read_image(tmp_path / "ramp.png", ResizedCrop(8, flip), (0, 1, index)) for index in range(100)]
        return sum(bool(crop[0, 0, 0] > crop[0, -1, 0]) for crop in crops if crop is not None)

    assert mirrored(flip=False) == 0
    assert 30 < mirrored(flip=True) < 70


def test_several_crops_of_a_photograph_are_it_and_its_mirror_image() -> None:
    images = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).view(2, 3, 4, 4)
    plain, mirrored = ResizedCrop(size=4).crops(images)
    assert torch.equal(plain, images) and torch.equal(mirrored, images.flip(3))
    assert len(ResizedCrop(size=4, flip=False).crops(images)) == 1


def test_batch_is_read_without_what_cannot_be_read(folder: Path) -> None:
    (folder / "train" / "ant" / "1.png").write_bytes(b"no image")
    reader = FileReader(files_of(built(folder)), CropFlip(padding=1, size=8))
    (folder / "train" / "ant" / "2.png").unlink()
    answer = reader.__getitems__(Request(np.array([0, 1, 2]), np.array([5, 6, 7]), None))
    assert answer.indices.tolist() == [5] and answer.unreadable == [1, 2]
    assert answer.images.shape == (1, 3, 8, 8) and answer.images.dtype == torch.uint8
    none = reader.__getitems__(Request(np.array([1]), np.array([6]), None))
    assert none.indices.tolist() == [] and none.images.shape == (0, 3, 8, 8)
