"""What an encoded image looks like once decoded, in parquet files and in folders alike."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from kdas.data import DATASETS, Dataset
from kdas.data import survey as surveys
from kdas.data.decoding import opened, rgb
from kdas.errors import UserError

# Folders are known by names and sizes: two kinds of image may be one set to a cache.
pytestmark = pytest.mark.usefixtures("empty_cache")
WriteImages = Callable[..., Path]
Pixels = NDArray[np.uint8]
SIDE = 8
RAMP = np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE) * 4
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], axis=2)
WHITE = np.full_like(COLOURS, 255)


def saved(image: Image.Image, form: str = "PNG", **parameters: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **parameters)
    return file.getvalue()


def with_orientation(number: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = number
    return saved(Image.fromarray(COLOURS), exif=exif)


def half_transparent() -> NDArray[np.uint8]:
    alpha = np.zeros((SIDE, SIDE), np.uint8)
    alpha[: SIDE // 2] = 255
    return np.dstack([COLOURS, alpha])


def see_through_palette() -> bytes:
    palette = Image.fromarray((RAMP > 100).astype(np.uint8)).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60])
    return saved(palette, transparency=bytes([0, 255]))


def photograph(turned: bool) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(Image.fromarray(COLOURS), "JPEG", quality=95, **({"exif": exif} if turned else {}))


def pixels_of(encoded: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(encoded)))


SHOWN = np.where((RAMP > 100)[..., None], np.array([40, 50, 60]), 255).astype(np.uint8)
ON_WHITE = np.concatenate([COLOURS[: SIDE // 2], WHITE[SIDE // 2 :]])
WIDE = RAMP.astype(np.uint16) * 257
BROAD = Image.fromarray(np.dstack([RAMP] * 3))
# Name: the encoded image, its pixels, and whether Pillow's own conversion to RGB is the same.
KINDS: dict[str, tuple[bytes, Pixels, bool]] = {
    "colours": (saved(Image.fromarray(COLOURS)), COLOURS, True),
    "grey": (saved(Image.fromarray(RAMP)), np.dstack([RAMP] * 3), True),
    "black and white": (
        saved(Image.fromarray(RAMP > 100)),
        np.dstack([np.where(RAMP > 100, 255, 0)] * 3).astype(np.uint8),
        True,
    ),
    "palette": (saved(BROAD.convert("P", palette=Image.Palette.ADAPTIVE)), np.dstack([RAMP] * 3), True),
    "four colours": (saved(Image.new("CMYK", (SIDE, SIDE), (0, 255, 255, 0)), "TIFF"), WHITE * [1, 0, 0], True),
    "opaque": (saved(Image.fromarray(np.dstack([COLOURS, WHITE[..., 0]]))), COLOURS, True),
    "transparent": (saved(Image.fromarray(half_transparent())), ON_WHITE, False),
    "transparent grey": (
        saved(Image.fromarray(half_transparent()).convert("LA")),
        np.concatenate([np.dstack([np.asarray(Image.fromarray(COLOURS).convert("L"))] * 3)[:4], WHITE[4:]]),
        False,
    ),
    "transparent palette": (see_through_palette(), SHOWN, False),
    "16 bits": (saved(Image.fromarray(WIDE)), np.dstack([RAMP] * 3), False),
    "16 bits, TIFF": (saved(Image.fromarray(WIDE), "TIFF"), np.dstack([RAMP] * 3), False),
    "upright": (with_orientation(1), COLOURS, True),
    "mirrored": (with_orientation(2), COLOURS[:, ::-1], False),
    "on its side": (with_orientation(6), np.rot90(COLOURS, -1), False),
    "on its head": (with_orientation(3), COLOURS[::-1, ::-1], False),
    "on its side, JPEG": (photograph(turned=True), np.rot90(pixels_of(photograph(turned=False)), -1), False),
    "on its side, TIFF": (
        saved(Image.fromarray(COLOURS), "TIFF", tiffinfo={0x0112: 6}),
        np.rot90(COLOURS, -1),
        True,  # Pillow turns it itself
    ),
}
every_kind = pytest.mark.parametrize("kind", list(KINDS))


def in_parquet(folder: Path, write_images: WriteImages, encoded: bytes | list[bytes], **parameters: Any) -> Dataset:
    images = [encoded, encoded] if isinstance(encoded, bytes) else encoded
    for part in ("train", "test"):
        write_images(folder / f"{part}.parquet", list(range(len(images))), encoded=images)
    return DATASETS.build(DATASETS.checked({"name": "parquet", "path": str(folder), **parameters}))


def in_folders(folder: Path, encoded: bytes) -> Dataset:
    for part in ("train", "test"):
        for name in ("ant", "bee"):
            (folder / part / name).mkdir(parents=True)
            (folder / part / name / "0.png").write_bytes(encoded)
    return DATASETS.build(DATASETS.checked({"name": "image_folder", "path": str(folder), "size": SIDE}))


@every_kind
def test_image_is_upright_on_white_and_of_eight_bits_wherever_it_is_kept(
    tmp_path: Path, write_images: WriteImages, kind: str
) -> None:
    encoded, expected, _ = KINDS[kind]
    for dataset in (
        in_parquet(tmp_path / "parquet", write_images, encoded),
        in_folders(tmp_path / "folders", encoded),
    ):
        assert np.array_equal(dataset.decode().train_images[0].transpose(1, 2, 0), expected)


@every_kind
def test_sets_that_came_out_right_before_keep_their_fingerprint(
    tmp_path: Path, write_images: WriteImages, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    encoded, _, is_plain = KINDS[kind]
    now = [in_parquet(tmp_path / "parquet", write_images, encoded), in_folders(tmp_path / "folders", encoded)]
    contents: list[str] = []
    monkeypatch.setattr(surveys.Survey, "fingerprint", lambda self, content: contents.append(content) or content)
    in_parquet(tmp_path / "parquet", write_images, encoded)
    DATASETS.build(DATASETS.checked({"name": "image_folder", "path": str(tmp_path / "folders"), "size": SIDE}))
    assert [dataset.fingerprint == content for dataset, content in zip(now, contents, strict=True)] == [is_plain] * 2


def test_one_image_that_comes_out_otherwise_makes_another_set(tmp_path: Path, write_images: WriteImages) -> None:
    plain, turned = KINDS["colours"][0], KINDS["on its side"][0]
    assert surveys.Survey(is_plain=True).fingerprint("x") == "x"
    one = in_parquet(tmp_path, write_images, [plain, turned])
    survey = surveys._survey("a set", [surveys.Encoded("0", plain), surveys.Encoded("1", turned)])
    assert not survey.is_plain and one.fingerprint != "x"


def test_survey_is_kept_and_a_damaged_one_is_made_again(
    tmp_path: Path, write_images: WriteImages, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = KINDS["on its side"][0]
    before = in_parquet(tmp_path, write_images, encoded)
    (kept,) = (empty_cache / "surveys").iterdir()
    monkeypatch.setattr(surveys, "_seen", lambda image: pytest.fail("looked at again"))
    assert in_parquet(tmp_path, write_images, encoded) == before
    monkeypatch.undo()
    monkeypatch.setenv("KDAS_CACHE", str(empty_cache))
    for damage in ("", "{", "[]", '{"sizes": [[8]], "is_plain": true}', '{"sizes": [], "is_plain": true}'):
        kept.write_text(damage, encoding="utf-8")
        assert in_parquet(tmp_path, write_images, encoded) == before


def test_notes_that_are_damaged_do_not_make_an_image_unreadable() -> None:
    content = saved(Image.fromarray(COLOURS), exif=b"Exif\x00\x00no notes at all")
    with opened(content) as image:
        assert np.array_equal(np.asarray(rgb(image)), COLOURS)


def test_wide_images_that_would_be_almost_black_are_refused(tmp_path: Path, write_images: WriteImages) -> None:
    twelve_bits = saved(Image.fromarray(RAMP.astype(np.uint16) * 16))
    with pytest.raises(
        UserError, match=r"^parquet files in .*: the largest value of its 16-bit images is 4032, of 65535, so .*Scale"
    ):
        in_parquet(tmp_path, write_images, twelve_bits)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image.fromarray(RAMP.astype(np.float32)), r"expected whole numbers, got floating-point values\. Save it"),
        (Image.fromarray(RAMP.astype(np.int32) * 1000), r"expected values from 0 to 65535, got 252000\. Save it"),
        (Image.new("L", (9000, 10)), r"9000x10 pixels are a strip, not an image\. Crop it"),
    ],
    ids=["floats", "32 bits", "strip"],
)
def test_image_that_is_no_picture_is_refused_by_name(
    tmp_path: Path, write_images: WriteImages, image: Image.Image, reason: str
) -> None:
    with pytest.raises(UserError, match=rf"^[^\n]*train\.parquet row 0: {reason}[^\n]*$"):
        in_parquet(tmp_path / "parquet", write_images, saved(image, "TIFF"), resize=SIDE)
    with pytest.raises(UserError, match=rf"^[^\n]*0\.png: {reason}[^\n]*$"):
        in_folders(tmp_path / "folders", saved(image, "TIFF"))


def enormous(side: int) -> bytes:
    """A PNG file of black pixels that was never in memory whole."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9))) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [13_000, 60_000])
def test_bombs_are_refused_by_their_header(tmp_path: Path, write_images: WriteImages, side: int) -> None:
    message = r": has more than 89 million pixels\. Make it smaller, or remove it\.$"
    with pytest.raises(UserError, match=r"train\.parquet row 0" + message):
        in_parquet(tmp_path / "parquet", write_images, enormous(side))
    with pytest.raises(UserError, match=r"0\.png" + message):
        in_folders(tmp_path / "folders", enormous(side))


def test_postscript_is_not_run(tmp_path: Path, write_images: WriteImages) -> None:
    program = saved(Image.fromarray(COLOURS), "EPS")
    with pytest.raises(UserError, match="contains no readable image"):
        in_parquet(tmp_path, write_images, program)
