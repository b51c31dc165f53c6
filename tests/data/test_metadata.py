"""What a photo's file says about it; whatever cannot be true is unknown, and no file is an error."""

from __future__ import annotations

import os
import random
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from tripletcl.data.metadata import Metadata, read_metadata

ORIENTATION, MAKE, MODEL, EXIF_PART, GPS_PART, TAKEN = 0x0112, 0x010F, 0x0110, 0x8769, 0x8825, 0x9003
NORTH = {1: "N", 2: (47.0, 6.0, 36.0), 3: "E", 4: (11.0, 18.0, 0.0)}


def write(path: Path, tags: dict[int, Any] | None = None, taken: object = None, place: object = None) -> Path:
    exif = Image.Exif()
    exif.update(tags or {})
    if taken is not None:
        exif[EXIF_PART] = {TAKEN: taken}
    if place is not None:
        exif[GPS_PART] = place
    Image.new("RGB", (30, 20)).save(path, exif=exif)
    return path


@pytest.mark.parametrize("form", ["jpg", "png", "webp"])
def test_everything_that_a_camera_writes_is_read(tmp_path: Path, form: str) -> None:
    tags = {MAKE: "Canon", MODEL: "Canon EOS 80D", ORIENTATION: 6}
    read = read_metadata(write(tmp_path / f"a.{form}", tags, "2019:06:30 14:05:59", NORTH))
    assert read == Metadata(datetime(2019, 6, 30, 14, 5, 59), "Canon EOS 80D", 20, 30, pytest.approx(47.11), 11.3)


def test_heif_is_read_like_a_jpeg(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif.update({MODEL: "iPhone 12", EXIF_PART: {TAKEN: "2021:01:02 03:04:05"}})
    heif.from_pillow(Image.new("RGB", (64, 48))).save(tmp_path / "a.heic", exif=exif.tobytes())
    assert read_metadata(tmp_path / "a.heic") == Metadata(datetime(2021, 1, 2, 3, 4, 5), "iPhone 12", 64, 48)


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("2019:06:30 14:05:59", datetime(2019, 6, 30, 14, 5, 59)),
        ("2019-06-30 14:05", datetime(2019, 6, 30, 14, 5)),
        ("1951:02:03 00:00:00", datetime(1951, 2, 3)),
        ("0000:00:00 00:00:00", None),
        ("0001:01:01 00:00:00", None),
        ("2107:12:31 23:59:59", None),
        ("2019:02:30 10:00:00", None),
        ("2019:06:30 25:00:00", None),
        ("    :  :     :  :  ", None),
        ("no date at all", None),
    ],
)
def test_a_date_that_cannot_be_true_is_unknown(tmp_path: Path, text: str, taken: datetime | None) -> None:
    assert read_metadata(write(tmp_path / "a.jpg", taken=text)) == Metadata(taken, None, 30, 20)


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({1: "S"}, (-47.11, 11.3)),
        ({3: "W"}, (47.11, -11.3)),
        ({2: (90.0, 0.0, 0.0)}, (90.0, 11.3)),
        ({2: (400.0, 0.0, 0.0)}, None),
        ({4: (181.0, 0.0, 0.0)}, None),
        ({2: (0.0, 0.0, 0.0), 4: (0.0, 0.0, 0.0)}, None),
        ({2: (IFDRational(1, 0), IFDRational(0, 1), IFDRational(0, 1))}, None),
        ({1: "?"}, None),
        ({1: None}, None),
    ],
)
def test_a_place_that_cannot_be_true_is_unknown(
    tmp_path: Path, change: dict[int, Any], place: tuple[float, float] | None
) -> None:
    tags = {tag: value for tag, value in (NORTH | change).items() if value is not None}
    read = read_metadata(write(tmp_path / "a.jpg", place=tags))
    assert (read.latitude, read.longitude) == (pytest.approx(place) if place else (None, None))


@pytest.mark.parametrize(
    ("maker", "model", "camera"),
    [
        ("NIKON CORPORATION", "NIKON D90", "NIKON D90"),
        ("Apple", "iPhone 12", "Apple iPhone 12"),
        ("Canon\0\0", "  ", "Canon"),
        ("", "\x1b[2J\x07", "[2J"),
        ("", "", None),
        ("", "x" * 500, "x" * 80),
    ],
)
def test_a_camera_is_its_maker_and_model(tmp_path: Path, maker: str, model: str, camera: str | None) -> None:
    assert read_metadata(write(tmp_path / "a.jpg", {MAKE: maker, MODEL: model})).camera == camera


@pytest.mark.filterwarnings("ignore:.*EXIF:UserWarning", "ignore:Truncated File:UserWarning")
def test_garbage_is_unknown_and_no_error(tmp_path: Path) -> None:
    """Every file of changed bytes, cut files, other files, folders and pipes."""
    path, noise = tmp_path / "a.jpg", random.Random(0)
    raw = write(path, {MAKE: "Canon", MODEL: "Canon EOS 80D"}, "2019:06:30 14:05:59", NORTH).read_bytes()
    for _ in range(300):
        changed = bytearray(raw)
        for _ in range(noise.randint(1, 20)):
            changed[noise.randrange(2, 400)] = noise.randrange(256)
        path.write_bytes(changed[: noise.choice([len(raw), noise.randrange(len(raw))])])
        read = read_metadata(path)
        assert read.taken is None or 1826 <= read.taken.year <= datetime.now().year + 1
        assert read.latitude is None or abs(read.latitude) <= 90
    os.mkfifo(tmp_path / "pipe.jpg")
    for other in (tmp_path, tmp_path / "pipe.jpg", tmp_path / "missing.jpg"):
        assert read_metadata(other) == Metadata()
