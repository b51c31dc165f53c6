"""Files of cameras and phones: RAW photos, which are the mosaic behind a sensor's filter, and videos."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BYTE, ASCII, SHORT, LONG, RATIONAL, SIGNED = 1, 2, 3, 4, 5, 10
FORMS = {BYTE: "B", SHORT: "H", LONG: "I", RATIONAL: "II", SIGNED: "ii"}
TO_SENSOR = {6: Image.Transpose.ROTATE_90, 3: Image.Transpose.ROTATE_180, 8: Image.Transpose.ROTATE_270}
SRGB = [32405, -15371, -4985, -9693, 18760, 416, 556, -2040, 10572]
"""XYZ to the camera's colours, which are sRGB, in ten-thousandths."""
PLACE = {1: (ASCII, "N"), 2: (RATIONAL, [47, 1, 6, 1, 36, 1]), 3: (ASCII, "E"), 4: (RATIONAL, [11, 1, 18, 1, 0, 1])}

SECONDS, RATE = 4, 10
"""Of a video: its length, and its frames a second."""

Tags = dict[int, tuple[int, "str | list[int]"]]


def write_dng(path: Path, photo: Image.Image, orientation: int = 1, *, preview: bool = True) -> Path:
    """Write the RAW photo that a camera held in an EXIF orientation makes of an upright scene.

    Without a preview the mosaic is the file's first image, as in those of a Raspberry Pi.
    """
    stored = photo.convert("RGB")
    stored = stored.transpose(TO_SENSOR[orientation]) if orientation in TO_SENSOR else stored
    pixels, small = _mosaic(stored).tobytes(), stored.reduce(4)
    body = struct.pack("<2sHI", b"II", 42, 0) + pixels
    raw = _image(stored.size, 8, len(pixels), [16], 32803)
    raw |= {33421: (SHORT, [2, 2]), 33422: (BYTE, [0, 1, 1, 2]), 50714: (LONG, [0]), 50717: (LONG, [16383])}
    first = raw
    if preview:
        first = _image(small.size, len(body), len(small.tobytes()), [8, 8, 8], 2) | {254: (LONG, [1])}
        body += small.tobytes()
        body, first[330] = _with(body, raw)
    body, exif = _with(body, {36867: (ASCII, "2018:07:06 05:04:03")})
    body, place = _with(body, PLACE)
    first |= {
        271: (ASCII, "NIKON CORPORATION"),
        272: (ASCII, "NIKON D850"),
        274: (SHORT, [orientation]),
        34665: exif,
        34853: place,
        50706: (BYTE, [1, 4, 0, 0]),
        50708: (ASCII, "NIKON D850"),
        50721: (SIGNED, [part for number in SRGB for part in (number, 10000)]),
        50728: (RATIONAL, [1, 1] * 3),
    }
    body, (_, start) = _with(body, first)
    path.write_bytes(body[:4] + struct.pack("<I", *start) + body[8:])
    return path


def _mosaic(photo: Image.Image) -> np.ndarray:
    """What a sensor sees through red, green, green and blue: 14 bits of linear light, `[H, W]`."""
    light = (np.asarray(photo, np.float64) / 255) ** 2.2 * 16383
    seen = light[..., 1].copy()
    seen[::2, ::2], seen[1::2, 1::2] = light[::2, ::2, 0], light[1::2, 1::2, 2]
    return seen.round().astype("<u2")


def _image(size: tuple[int, int], start: int, length: int, bits: list[int], photometric: int) -> Tags:
    return {
        254: (LONG, [0]),
        256: (LONG, [size[0]]),
        257: (LONG, [size[1]]),
        258: (SHORT, bits),
        259: (SHORT, [1]),
        262: (SHORT, [photometric]),
        273: (LONG, [start]),
        277: (SHORT, [len(bits)]),
        278: (LONG, [size[1]]),
        279: (LONG, [length]),
    }


def _with(body: bytes, tags: Tags) -> tuple[bytes, tuple[int, list[int]]]:
    """Append a directory to a file: the file, and the value that points to the directory."""
    body += b"\0" * (len(body) % 2)
    entries, values, end = b"", b"", len(body) + 2 + 12 * len(tags) + 4
    for tag, (kind, value) in sorted(tags.items()):
        form = "B" if isinstance(value, str) else FORMS[kind]
        numbers = [*value.encode(), 0] if isinstance(value, str) else value
        count = len(numbers) // len(form)
        data = struct.pack(f"<{form * count}", *numbers)
        entries += struct.pack("<HHI", tag, kind, count)
        entries += data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", end + len(values))
        values += data + b"\0" * (len(data) % 2) if len(data) > 4 else b""
    return body + struct.pack("<H", len(tags)) + entries + b"\0" * 4 + values, (LONG, [len(body)])


def write_video(path: Path, *, dark: int = 0, key: int = RATE, tags: dict[str, str] | None = None) -> Path:
    """A video that becomes brighter after so many black frames, a key frame each second; its left third is red."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as video:
        stream = video.add_stream("mpeg4", rate=RATE, options={"g": str(key)})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.time_base = Fraction(1, RATE)
        video.metadata.update(tags or {})
        for number in range(SECONDS * RATE):
            pixels = np.full((64, 96, 3), 6 * number, np.uint8)
            pixels[:, :32] = (220, 0, 0)
            pixels *= number >= dark
            video.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        video.mux(stream.encode())
    return path
