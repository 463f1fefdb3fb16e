"""Teachers from an archive in the layout that other projects use, and what these keep beside the weights."""

from __future__ import annotations

import argparse
import gzip
import io
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdas import models, seeding
from kdas.data import DATASETS
from kdas.errors import UserError
from kdas.files import checkpoint, limits
from kdas.models.weights import load_weights
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
    load_weights(model, path, name)
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


@pytest.mark.parametrize("pack", ["tar", "zip", "folder"])
@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"readme.txt": b"nothing", "._x.pth": b""},
            r"contains no checkpoint \(\.pth, [^\n]*\)\. Give the path of one\.",
        ),
        (
            {"resnet8/ckpt_epoch_240.pth": b"", "b/x.pt": b""},
            r"contains 2 checkpoints \((top/)?b/x\.pt, (top/)?resnet8/ckpt_epoch_240\.pth\), and none as ",
        ),
    ],
    ids=["none", "two"],
)
def test_what_has_no_checkpoint_or_several_is_refused_in_one_line(
    tmp_path: Path, write_tar: WriteTar, pack: str, members: dict[str, bytes], message: str
) -> None:
    path = packed(members, pack, tmp_path, write_tar)
    with pytest.raises(UserError, match=rf"^{path}: {message}"):
        loaded(path, "resnet8")


def packed(members: dict[str, bytes], pack: str, tmp_path: Path, write_tar: WriteTar) -> Path:
    if pack == "tar":
        return write_tar(members)
    if pack == "zip":
        with zipfile.ZipFile(tmp_path / "teachers.zip", "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return tmp_path / "teachers.zip"
    for name, content in members.items():
        (tmp_path / "top" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "top" / name).write_bytes(content)
    return tmp_path / "top"


@pytest.mark.parametrize("pack", ["tar", "zip", "folder"])
@pytest.mark.parametrize(
    "others",
    [{"resnet8_vanilla/ckpt_epoch_9.pth": b"", "resnet20_vanilla/ckpt_epoch_240.pth": b""}, {"notes.txt": b"x"}],
    ids=["of peers", "alone"],
)
def test_checkpoint_in_a_folder_or_archive_is_found(
    tmp_path: Path, write_tar: WriteTar, pack: str, others: dict[str, bytes]
) -> None:
    wanted = weights_of("resnet8")
    name = "resnet8_vanilla/ckpt_epoch_240.pth" if len(others) > 1 else "deep/best.pth.tar"
    path = packed({**others, name: file_of({"model": wanted}), "__MACOSX/._best.pth": b""}, pack, tmp_path, write_tar)
    assert equal(loaded(path, "resnet8"), wanted)


def test_folder_of_the_model_itself_is_enough(tmp_path: Path) -> None:
    folder = tmp_path / "resnet8_vanilla"
    folder.mkdir()
    wanted = weights_of("resnet8")
    (folder / "ckpt_epoch_240.pth").write_bytes(file_of(wanted))
    (folder / "ckpt_epoch_30.pth").write_bytes(b"")
    (folder / "again").symlink_to(folder)
    assert equal(loaded(folder, "resnet8"), wanted)


@pytest.mark.parametrize(
    ("weights", "beside"),
    [
        ("model.safetensors.bin", ["optimizer.bin", "scheduler.bin", "random_states_0.pt", "training_args.bin"]),
        ("global_step1/mp_rank_00_model_states.pt", ["global_step1/zero_pp_rank_0_mp_rank_00_optim_states.pt"]),
    ],
)
def test_what_trainers_write_beside_the_weights_is_no_checkpoint(
    tmp_path: Path, weights: str, beside: list[str]
) -> None:
    wanted = weights_of("resnet8")
    for name in (weights, *beside):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(file_of({"module": wanted} if name == weights else {}))
    assert equal(loaded(tmp_path, "resnet8"), wanted)


def test_checkpoints_of_other_kinds_are_called_so(tmp_path: Path) -> None:
    (tmp_path / "dcp").mkdir()
    for name in (".metadata", "__0_0.distcp"):
        (tmp_path / "dcp" / name).touch()
    with zipfile.ZipFile(tmp_path / "program.pt2", "w") as archive:
        archive.writestr("exported/archive_format", "pt2")
        archive.writestr("exported/data/sample_inputs/model.pt", file_of({}))
    for name, message in (
        ("dcp", r"dcp: is a distributed checkpoint\. Convert it with python -m torch\.distributed\.checkpoint"),
        ("program.pt2", r"program\.pt2: is a program of torch\.export\. Save its weights: torch\.save\(program"),
    ):
        with pytest.raises(UserError, match=message):
            load_weights(models.create("resnet8", 10), tmp_path / name, "resnet8")


def test_checkpoint_in_parts_is_called_so(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"model-0000{number}-of-00002.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"contains one checkpoint in 2 parts\. Load it with the library that wrote it"):
        loaded(tmp_path, "resnet8")


def tar_of(path: Path, *members: tuple[tarfile.TarInfo, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for info, content in members:
            info.size = info.size or len(content)
            archive.addfile(info, io.BytesIO(content) if content else None)
    return path


def hostile(kind: str, tmp_path: Path) -> Path:
    """An archive that would cost a lot of time or memory to unpack."""
    wanted = tarfile.TarInfo("resnet8_vanilla/ckpt_epoch_240.pth")
    path = tmp_path / "hostile"
    if kind == "links in circles":
        wanted.type, wanted.linkname = tarfile.SYMTYPE, wanted.name
        return tar_of(path, (wanted, b""))
    if kind == "terabyte":
        # Old GNU sparse: no data, a true size of 2**40.
        wanted.type, wanted.size = tarfile.GNUTYPE_SPARSE, 0
        block = bytearray(wanted.tobuf(tarfile.GNU_FORMAT))
        block[345:512] = bytes(167)
        block[483:495] = b"\x80" + (2**40).to_bytes(11, "big")
        block[148:156] = b"        "
        block[148:156] = b"%06o\0 " % sum(block[:512])
        path.write_bytes(bytes(block[:512]) + bytes(1024))
        return path
    if kind == "zeros in gzip":
        wanted.size = 4_000_000
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(wanted.tobuf() + bytes(4_000_000))
        return path
    if kind == "long name":
        wanted.name, wanted.type, wanted.size = "././@LongLink", tarfile.GNUTYPE_LONGNAME, 3_000_000
        path.write_bytes(wanted.tobuf(tarfile.GNU_FORMAT) + bytes(3_000_000))
        return path
    if kind.startswith("empty space"):
        with path.open("wb") as file:
            file.write(
                {"tar": wanted.tobuf(), "safetensors": bytes(8) + b"{}", "pickle": b"\x80\x02"}[kind.split()[-1]]
            )
            file.truncate(2**40)
        return path
    if kind == "zeros in zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr(wanted.name, bytes(4_000_000))
        return path
    return tar_of(path, *((tarfile.TarInfo(f"{number}.txt"), b"") for number in range(10_002)))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("links in circles", r"contains no checkpoint"),
        ("terabyte", r"resnet8_vanilla/ckpt_epoch_240\.pth: would take 1099\.5 GB unpacked"),
        ("zeros in gzip", r"unpacks to over 0\.0 GB, far more than weights shrink\."),
        ("zeros in zip", r"resnet8_vanilla/ckpt_epoch_240\.pth: would take 0\.0 GB unpacked"),
        ("many members", r"contains over 10,000 members\."),
        ("long name", r"has a header of over 1 MB"),
        ("empty space in a tar", r"is 1099\.5 GB long, but the disk holds 0\.0 GB of it"),
        ("empty space in safetensors", r"is 1099\.5 GB long, but the disk holds 0\.0 GB of it"),
        ("empty space in a pickle", r"is 1099\.5 GB long, but the disk holds 0\.0 GB of it"),
    ],
)
def test_archive_that_is_meant_to_hurt_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    monkeypatch.setattr(limits, "_ALWAYS_ALLOWED_BYTES", 1_000_000)
    path = hostile(kind, tmp_path)
    with pytest.raises(UserError, match=rf"^{path}: {message}[^\n]*$"):
        loaded(path, "resnet8")


def test_checkpoint_whose_records_are_compressed_zeros_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "_ALWAYS_ALLOWED_BYTES", 1_000_000)
    path = tmp_path / "zeros.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")
        archive.writestr("archive/data/0", bytes(4_000_000))
    with pytest.raises(UserError, match=r"zeros\.pth: would take 0\.0 GB unpacked, more than 10 times its size\."):
        loaded(path, "resnet8")


def test_what_is_no_file_is_refused_without_being_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=r"pipe: expected a file, got a device or a pipe\.$"):
        loaded(tmp_path / "pipe", "resnet8")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(UserError, match=r"circle: no such checkpoint\."):
        loaded(tmp_path / "circle", "resnet8")


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
    with pytest.raises(UserError, match=r"tar: t/resnet8_vanilla/ckpt_epoch_240\.pth: is no checkpoint: expected"):
        loaded(path, "resnet8")


def test_member_of_another_architecture_is_named(write_tar: WriteTar) -> None:
    path = write_tar({"resnet8_vanilla/ckpt_epoch_240.pth": file_of({"model": weights_of("resnet14")})})
    with pytest.raises(UserError, match=r"tar: resnet8_vanilla/ckpt_epoch_240\.pth: expected a checkpoint of resnet8"):
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
