"""Teachers from an archive in the layout that other projects use, and what these keep beside the weights."""

from __future__ import annotations

import argparse
import io
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdas import models, seeding
from kdas.data import DATASETS
from kdas.errors import UserError
from kdas.files import checkpoint
from kdas.recipe.config import TeacherConfig
from kdas.teacher.obtain import check_checkpoint

WriteTar = Callable[..., Path]


def weights_of(name: str, seed: int = 0) -> dict[str, torch.Tensor]:
    with seeding.global_draws(seed, "test"):
        return models.create(name, 10).state_dict()


def file_of(content: Any, is_zip: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=is_zip)
    return file.getvalue()


@pytest.fixture
def write_tar(tmp_path: Path) -> WriteTar:
    def write(members: dict[str, bytes], mode: str = "w", name: str = "teachers.tar") -> Path:
        with tarfile.open(tmp_path / name, mode) as archive:
            for member, content in members.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        return tmp_path / name

    return write


def loaded(path: Path, name: str) -> dict[str, torch.Tensor]:
    model = models.create(name, 10)
    checkpoint.load_weights(model, path, name)
    return model.state_dict()


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(tensor, other[key]) for key, tensor in one.items())


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "old format"])
def test_teacher_is_read_from_an_archive_by_its_models_name(write_tar: WriteTar, mode: str, is_zip: bool) -> None:
    wanted = weights_of("resnet8")
    path = write_tar(
        {
            "./cifar_teachers/resnet14_vanilla/ckpt_epoch_240.pth": file_of({"model": weights_of("resnet14")}, is_zip),
            "./cifar_teachers/resnet8_vanilla/ckpt_epoch_240.pth": file_of({"model": wanted, "epoch": 240}, is_zip),
            "./cifar_teachers/resnet8x4_vanilla/ckpt_epoch_240.pth": b"never read",
        },
        mode,
    )
    assert equal(loaded(path, "resnet8"), wanted)
    check_checkpoint(TeacherConfig(model="resnet8", checkpoint=str(path)), DATASETS.build(DATASETS.checked("digits")))
    assert list(path.parent.iterdir()) == [path]


def test_the_highest_epoch_counts_as_a_number(write_tar: WriteTar) -> None:
    last = weights_of("resnet8", 3)
    epochs = {99: weights_of("resnet8", 1), 240: last, 30: weights_of("resnet8", 2)}
    path = write_tar(
        {f"resnet8_vanilla/ckpt_epoch_{epoch}.pth": file_of({"model": weights}) for epoch, weights in epochs.items()}
    )
    assert equal(loaded(path, "resnet8"), last)


def test_archive_without_the_model_names_those_it_has(write_tar: WriteTar) -> None:
    path = write_tar({f"t/{name}_vanilla/ckpt_epoch_240.pth": b"" for name in ("vgg13", "resnet56")})
    missing = r"contains no resnet8_vanilla/ckpt_epoch_<number>\.pth"
    remedy = r"Choose a model that it contains: resnet56, vgg13\."
    with pytest.raises(UserError, match=rf"^[^\n]*teachers\.tar: {missing}\. {remedy}$"):
        loaded(path, "resnet8")


def test_archive_of_another_layout_is_refused_in_one_line(write_tar: WriteTar) -> None:
    path = write_tar({"readme.txt": b"nothing", "resnet8/ckpt_epoch_240.pth": b""})
    with pytest.raises(UserError, match=r"^[^\n]*teachers\.tar: contains no resnet8_vanilla[^\n]* nor one of another"):
        loaded(path, "resnet8")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_truncated_archive_is_refused_in_one_line(write_tar: WriteTar, mode: str, kept: float) -> None:
    path = write_tar({"resnet8_vanilla/ckpt_epoch_240.pth": file_of({"model": weights_of("resnet8")})}, mode)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(UserError, match=r"^[^\n]*teachers\.tar: the archive is damaged \([^\n]+\)\. Copy it again\.$"):
        loaded(path, "resnet8")


def test_damaged_member_is_named(write_tar: WriteTar) -> None:
    path = write_tar({"t/resnet8_vanilla/ckpt_epoch_240.pth": b"garbage"})
    with pytest.raises(UserError, match=r"tar: t/resnet8_vanilla/ckpt_epoch_240\.pth: is damaged, or not a checkpoint"):
        loaded(path, "resnet8")


def test_member_of_another_architecture_is_named(write_tar: WriteTar) -> None:
    path = write_tar({"resnet8_vanilla/ckpt_epoch_240.pth": file_of({"model": weights_of("resnet14")})})
    with pytest.raises(UserError, match=r"tar: resnet8_vanilla/ckpt_epoch_240\.pth: does not fit resnet8: layer1\.1"):
        loaded(path, "resnet8")


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "old format"])
@pytest.mark.parametrize(
    "beside",
    [
        {"accuracy": np.float64(72.5), "epoch": np.int64(240)},
        {"best_acc": np.float32(72.5), "is_best": np.bool_(True)},
        {"opt": argparse.Namespace(model="resnet8", lr_decay_epochs=[150, 180, 210], learning_rate=0.05, trial="0")},
        {"opt": argparse.Namespace(best=np.float64(1.5)), "best_acc": torch.tensor(72.5)},
    ],
    ids=["float64", "float32", "options", "both"],
)
def test_what_peers_keep_beside_the_weights_does_no_harm(tmp_path: Path, beside: dict[str, Any], is_zip: bool) -> None:
    weights = weights_of("resnet8")
    path = tmp_path / "peer.pth"
    path.write_bytes(file_of({"model": weights, **beside}, is_zip))
    assert equal(loaded(path, "resnet8"), weights)
    content = checkpoint.load(path)
    assert all(content[key] == value for key, value in beside.items())


def test_numpy_scalar_written_by_numpy_1_is_read(tmp_path: Path) -> None:
    content = file_of({"model": weights_of("resnet8"), "accuracy": np.float64(72.5)}, is_zip=False)
    assert b"numpy._core.multiarray" in content
    (tmp_path / "old.pth").write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert checkpoint.load(tmp_path / "old.pth")["accuracy"] == 72.5


@pytest.mark.parametrize("stranger", [np.array([1.0], dtype=object), Path("x"), np.random.default_rng(0)], ids=type)
def test_nothing_else_is_read(tmp_path: Path, stranger: Any) -> None:
    path = tmp_path / "stranger.pth"
    path.write_bytes(file_of({"model": weights_of("resnet8"), "opt": argparse.Namespace(stranger=stranger)}))
    with pytest.raises(UserError, match=r"^[^\n]*stranger\.pth: is damaged, or not a checkpoint of tensors and plain"):
        loaded(path, "resnet8")


def test_types_are_allowed_for_the_reading_alone(tmp_path: Path) -> None:
    path = tmp_path / "peer.pth"
    path.write_bytes(file_of({"model": weights_of("resnet8"), "opt": argparse.Namespace(a=1)}))
    checkpoint.load(path)
    assert argparse.Namespace not in torch.serialization.get_safe_globals()
