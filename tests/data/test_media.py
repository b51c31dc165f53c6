"""RAW photos and videos become the picture that stands for them, and without their packages one sentence."""

from __future__ import annotations

import io
import sys
import types
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tripletcl.data import decode_image
from tripletcl.data.images import decode_thumbnail
from tripletcl.errors import UserError

SECONDS, RATE = 4, 10


def write_video(path: Path, rotation: int = 0) -> Path:
    """A video that becomes brighter, a key frame each second; its left third is red."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as video:
        stream = video.add_stream("mpeg4", rate=RATE, options={"g": str(RATE)})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        for number in range(SECONDS * RATE):
            pixels = np.full((64, 96, 3), 6 * number, np.uint8)
            pixels[:, :32] = (220, 0, 0)
            video.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        video.mux(stream.encode())
    return path


def test_a_video_is_its_frame_at_a_tenth_of_its_length(tmp_path: Path) -> None:
    picture = decode_thumbnail(write_video(tmp_path / "a.MP4"), 96)
    assert picture.size == (96, 64)
    red, grey = picture.getpixel((10, 30)), picture.getpixel((70, 30))
    assert red[0] > 150 > red[1] + 60
    assert max(grey) < 6 * RATE  # from the first second
    assert decode_image(tmp_path / "a.MP4", 32).shape == (3, 32, 32)


def test_what_is_no_video_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "a.mov").write_text("Dear reader")
    with pytest.raises(UserError, match=r"a\.mov: "):
        decode_image(tmp_path / "a.mov", 32)
    with pytest.raises(UserError, match=r"b\.mov: no such file"):
        decode_image(tmp_path / "b.mov", 32)


def test_a_raw_photo_is_developed_by_its_own_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera's file is too large for a test: the library is asked for an upright picture of half the size."""
    asked: dict[str, Any] = {}

    class Photo:
        def __enter__(self) -> Photo:
            return self

        def __exit__(self, *_: object) -> None:
            asked["closed"] = True

        def postprocess(self, **settings: object) -> np.ndarray:
            asked.update(settings)
            return np.full((40, 60, 3), 90, np.uint8)

    def imread(file: io.BytesIO) -> Photo:
        asked["content"] = file.read()
        return Photo()

    monkeypatch.setitem(sys.modules, "rawpy", types.SimpleNamespace(imread=imread))
    (tmp_path / "a.NEF").write_bytes(b"pixels of a camera")
    assert decode_thumbnail(tmp_path / "a.NEF", 30).size == (30, 20)
    assert asked == {
        "content": b"pixels of a camera", "half_size": True, "use_camera_wb": True, "output_bps": 8, "closed": True,
    }  # fmt: skip


def test_a_damaged_raw_photo_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    (tmp_path / "a.cr2").write_text("Dear reader")
    with pytest.raises(UserError, match=r"a\.cr2: "):
        decode_image(tmp_path / "a.cr2", 32)


@pytest.mark.parametrize(("package", "name", "what"), [("rawpy", "a.dng", "a RAW photo"), ("av", "a.mkv", "a video")])
def test_without_its_package_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str, what: str
) -> None:
    (tmp_path / name).touch()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf'{what}; pip install "tripletcl\[media\]" reads them'):
        decode_image(tmp_path / name, 32)


def test_avif_needs_no_package(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "green").save(tmp_path / "a.avif")
    assert decode_thumbnail(tmp_path / "a.avif", 32).size == (32, 24)
