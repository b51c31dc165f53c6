"""Decoding: the array shows what a person sees in the file, in every format."""

from __future__ import annotations

import io
import os
import socket
import struct
import subprocess
import sys
import threading
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tripletcl.data import images, media
from tripletcl.data.images import (
    BOX_COLOUR,
    Region,
    decode_image,
    decode_parts,
    decode_readable,
    decode_thumbnail,
    list_images,
    map_in_threads,
    photo_digest,
    photo_size,
    read_photo,
)
from tripletcl.errors import UserError
from tripletcl.progress import Progress, listening

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def file_of(image: Image.Image, form: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, form, **options)
    return stream.getvalue()


def centre(pixels: np.ndarray) -> tuple[int, ...]:
    return tuple(pixels[:, pixels.shape[1] // 2, pixels.shape[2] // 2].tolist())


def refusal(source: object) -> str:
    with pytest.raises(UserError) as caught:
        decode_image(source, 8)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_image_of_the_right_size_is_unchanged() -> None:
    pixels = noise(16, 16, 3)
    decoded = decode_image(file_of(Image.fromarray(pixels), "PNG"), 16)
    assert decoded.dtype == np.uint8
    assert decoded.flags.c_contiguous
    assert np.array_equal(decoded, pixels.transpose(2, 0, 1))


def test_every_kind_of_source_gives_the_same(tmp_path: Path) -> None:
    pixels = noise(16, 23, 3)
    image = Image.fromarray(pixels)
    image.save(tmp_path / "a.png")
    expected = pixels[:, 3:19].transpose(2, 0, 1)  # the centre
    path = tmp_path / "a.png"
    for source in (path, str(path), path.read_bytes(), image, pixels, pixels.transpose(2, 0, 1)):
        assert np.array_equal(decode_image(source, 16), expected)
    assert image.getpixel((0, 0)) == tuple(pixels[0, 0])  # the caller's image is still open


@pytest.mark.parametrize(("wide", "high"), [(30, 10), (10, 30), (10, 10), (31, 10)])
@pytest.mark.parametrize("size", [4, 10, 25])
def test_centre_is_cut_out(wide: int, high: int, size: int) -> None:
    """Thirds of red, green and blue along the long side: the centre square is green."""
    image = Image.new("RGB", (wide, high), GREEN)
    if wide > high:
        image.paste(RED, (0, 0, 10, high))
        image.paste(BLUE, (wide - 10, 0, wide, high))
    elif high > wide:
        image.paste(RED, (0, 0, wide, 10))
        image.paste(BLUE, (0, high - 10, wide, high))
    decoded = decode_image(file_of(image, "PNG"), size)
    assert decoded.shape == (3, size, size)
    assert centre(decoded) == GREEN
    assert (decoded[1] > 200).mean() > 0.7  # bicubic lets a little of the neighbours in at the edges


def test_scaling_is_antialiased() -> None:
    """A fine chequerboard seen from afar is grey."""
    board = (np.indices((256, 256)).sum(0) % 2 * 255).astype(np.uint8)
    decoded = decode_image(board, 16)
    assert abs(decoded.astype(float) - 127.5).max() < 3


def test_one_pixel_wide_image() -> None:
    assert decode_image(np.full((1, 500), 9, np.uint8), 8).tolist() == np.full((3, 8, 8), 9).tolist()


@pytest.mark.parametrize("shape", [(1200, 900), (1203, 901), (770, 1023)])
def test_jpeg_decoded_at_a_fraction_looks_the_same(shape: tuple[int, int]) -> None:
    """The slow twin decodes every pixel of the JPEG, scales by Pillow and cuts."""
    low = Image.fromarray(noise(12, 12, 3)).resize(shape, Image.Resampling.BICUBIC)
    raw = file_of(low, "JPEG", quality=95)
    with Image.open(io.BytesIO(raw)) as image:
        expected = np.asarray(ImageOps.fit(image, (64, 64), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
    assert np.abs(decode_image(raw, 64).astype(int) - expected).mean() < 0.6


@pytest.mark.parametrize("strip", [1, 3000, 2**22])
@pytest.mark.parametrize(("wide", "high"), [(23, 16), (16, 40), (900, 131), (333, 640), (8, 700), (1501, 1499)])
def test_scaling_in_strips_is_that_of_pillow_on_the_whole_image(
    wide: int, high: int, strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "STRIP_PIXELS", strip)
    pixels = noise(high, wide, 3)
    for size in (4, 16, 50):
        left, top, short = (wide - min(wide, high)) / 2, (high - min(wide, high)) / 2, min(wide, high)
        if short == size:
            left, top = int(left), int(top)
        box = (left, top, left + short, top + short)
        whole = Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
        assert np.array_equal(decode_image(pixels, size), np.asarray(whole).transpose(2, 0, 1))


def test_a_thumbnail_is_the_whole_upright_image_on_white() -> None:
    image = Image.new("RGBA", (400, 100), (*GREEN, 255))
    image.paste((*RED, 255), (0, 0, 100, 100))
    image.paste((0, 0, 0, 0), (300, 0, 400, 100))
    exif = Image.Exif()
    exif[0x0112] = 6
    small = decode_thumbnail(file_of(image, "PNG", exif=exif), 40)
    assert (small.mode, small.size) == ("RGB", (10, 40))
    assert [small.getpixel((5, y)) for y in (2, 20, 37)] == [RED, GREEN, WHITE]
    assert decode_thumbnail(np.full((1, 500), 9, np.uint8), 50).size == (50, 1)
    assert decode_thumbnail(noise(8, 6, 3), 50).size == (6, 8)  # never enlarged


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_orientation_is_undone(orientation: int, form: str) -> None:
    """Four coloured corners are where Pillow's own (slower) transpose puts them, in each orientation and format."""
    image = Image.new("RGB", (32, 48), WHITE)
    for place, colour in [((0, 0), RED), ((16, 0), GREEN), ((0, 32), BLUE)]:
        image.paste(colour, (*place, place[0] + 16, place[1] + 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = file_of(image, form, exif=exif, **({"lossless": True} if form == "WEBP" else {}))
    with Image.open(io.BytesIO(raw)) as opened:
        opened.load()
        upright = ImageOps.exif_transpose(opened).convert("RGB")
    expected = decode_image(np.asarray(upright), 16)
    assert np.abs(decode_image(raw, 16).astype(int) - expected).mean() < 12  # JPEG differs by its fractions
    if orientation == 6 and form == "PNG":  # stored lying on its left side
        assert np.array_equal(expected, decode_image(np.rot90(np.asarray(image), -1).copy(), 16))


def test_broken_exif_is_ignored() -> None:
    raw = file_of(Image.new("RGB", (8, 8), RED), "PNG", exif=b"Exif\0\0broken")
    assert centre(decode_image(raw, 8)) == RED


def test_modes() -> None:
    grey = Image.fromarray(noise(8, 8))
    expected = np.stack([np.asarray(grey)] * 3)
    assert np.array_equal(decode_image(file_of(grey, "PNG"), 8), expected)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257)
    assert np.array_equal(decode_image(file_of(deep, "PNG"), 8), expected)
    assert np.array_equal(decode_image(file_of(deep, "TIFF"), 8), expected)
    assert np.array_equal(decode_image(deep.convert("I"), 8), expected)
    assert centre(decode_image(file_of(Image.new("1", (8, 8), 1), "PNG"), 8)) == WHITE
    assert centre(decode_image(file_of(Image.new("RGB", (8, 8), BLUE).quantize(), "GIF"), 8)) == BLUE


def test_cmyk_jpeg() -> None:
    raw = file_of(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100)
    assert np.abs(np.subtract(centre(decode_image(raw, 16)), RED)).max() < 4


def test_transparent_pixels_show_white() -> None:
    assert centre(decode_image(file_of(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "PNG"), 8)) == WHITE
    assert centre(decode_image(file_of(Image.new("RGBA", (8, 8), (255, 0, 0, 128)), "PNG"), 8)) == (255, 127, 127)
    assert centre(decode_image(file_of(Image.new("LA", (8, 8), (0, 0)), "PNG"), 8)) == WHITE
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    assert centre(decode_image(file_of(palette, "PNG"), 8)) == RED
    assert centre(decode_image(file_of(palette, "PNG", transparency=1), 8)) == WHITE
    assert centre(decode_image(file_of(palette, "PNG", transparency=b"\xff\x80"), 8)) == (255, 127, 127)
    keyed = file_of(Image.new("RGB", (8, 8), BLUE), "PNG", transparency=BLUE)
    assert centre(decode_image(keyed, 8)) == WHITE


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_animation_shows_its_first_frame(form: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (GREEN, RED, BLUE)]
    raw = file_of(
        frames[0], form, save_all=True, append_images=frames[1:], **({"lossless": True} if form == "WEBP" else {})
    )
    assert centre(decode_image(raw, 8)) == GREEN


def test_broken_files_are_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    assert refusal(path) == f"{path}: no such file"
    path.write_text("hello")
    assert refusal(path) == f"{path}: not an image, or of a format that Pillow cannot read"
    path.write_bytes(b"")
    assert refusal(path) == f"{path}: an empty file"
    path.write_bytes(file_of(Image.fromarray(noise(64, 64, 3)), "JPEG")[:-500])
    assert refusal(path).startswith(f"{path}: image file is truncated")
    assert refusal(path.read_bytes()).startswith("an image given as bytes: image file is truncated")
    path.write_bytes(file_of(Image.fromarray(noise(64, 64, 3)), "PNG")[:-5000])
    assert refusal(path).startswith(f"{path}: ")
    Image.new("F", (8, 8), 0.5).save(path, "TIFF")
    assert "floating-point" in refusal(path)
    assert "go past 16 bits" in refusal(Image.new("I", (8, 8), 1 << 20))


def test_decompression_bomb_is_refused(tmp_path: Path) -> None:
    """A small file that says it holds 40000 x 40000 pixels is not decoded."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0))
    path = tmp_path / "bomb.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b""))
    assert refusal(path).startswith(f"{path}: too large")


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def plain_png(wide: int, high: int, depth: int) -> bytes:
    """A black PNG of grey pixels, made without a picture in memory."""
    packer, row = zlib.compressobj(1), b"\0" * (1 + wide * depth // 8)
    packed = [packer.compress(row) for _ in range(high)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", wide, high, depth, 0, 0, 0, 0))
    body = chunk(b"IDAT", b"".join(packed) + packer.flush())
    return b"\x89PNG\r\n\x1a\n" + header + body + chunk(b"IEND", b"")


PEAK = """
import resource, sys
from tripletcl.data.images import decode_image
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(decode_image(sys.argv[1], 32).max())
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.parametrize(
    ("form", "wide", "high", "most"), [("PNG", 9400, 9400, 400), ("JPEG", 20000, 10000, 80), ("JPEG", 60000, 1800, 80)]
)
def test_memory_of_large_images_is_bounded(form: str, wide: int, high: int, most: int, tmp_path: Path) -> None:
    """A PNG is decoded whole, 169 MiB in 16 bits; a JPEG of 200 megapixels, or a panorama, at a fraction."""
    path = tmp_path / "large"
    path.write_bytes(plain_png(wide, high, 16) if form == "PNG" else file_of(Image.new("L", (wide, high)), "JPEG"))
    ended = subprocess.run([sys.executable, "-c", PEAK, path], capture_output=True, text=True, check=True)
    values, peak = ended.stdout.splitlines()
    assert values == "0"
    assert int(peak) < most


def test_an_image_that_takes_too_much_memory_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jpg"
    monkeypatch.setattr(images, "MOST_MEMORY", 2**20)
    path.write_bytes(file_of(Image.fromarray(noise(600, 600, 3)), "PNG"))
    assert refusal(path) == f"{path}: too large: to decode 600 x 600 pixels takes 1 MiB; allowed are 1"
    path.write_bytes(file_of(Image.new("RGB", (1200, 900)), "JPEG"))
    decode_image(path, 8)
    path.write_bytes(file_of(Image.new("RGB", (1200, 900)), "JPEG", progressive=True))
    assert "too large: to decode 1200 x 900 pixels takes 3 MiB" in refusal(path)


def test_only_regular_files_of_some_size_are_read(tmp_path: Path) -> None:
    names = {name: tmp_path / f"{name}.jpg" for name in ("pipe", "socket", "zero", "folder", "sparse")}
    os.mkfifo(names["pipe"])
    names["zero"].symlink_to("/dev/zero")
    names["folder"].mkdir()
    with names["sparse"].open("wb") as file:
        file.truncate(2**31)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(names["socket"]))
        reasons = {name: refusal(path).removeprefix(f"{path}: ") for name, path in names.items()}
    assert reasons == {
        "pipe": "a pipe, and no file",
        "socket": "a socket, and no file",
        "zero": "a device, and no file",
        "folder": "a folder, and no file",
        "sparse": "too large: a file of 2,048 MiB; allowed are 256",
    }
    for path in names.values():
        with pytest.raises(OSError, match=r"and no file|too large"):
            photo_digest(path)


def test_a_digest_is_of_the_content(tmp_path: Path) -> None:
    for name, content in (("a.jpg", b"one"), ("b.png", b"one"), ("c.jpg", b"two")):
        (tmp_path / name).write_bytes(content)
    one, copy, two = (photo_digest(tmp_path / name) for name in ("a.jpg", "b.png", "c.jpg"))
    assert one == copy == photo_digest(read_photo(tmp_path / "a.jpg")) != two
    assert len(one) == 32


def test_other_arrays_are_refused() -> None:
    assert "float64" in refusal(np.zeros((8, 8, 3)))
    assert "shape [2, 8, 8, 3]" in refusal(np.zeros((2, 8, 8, 3), np.uint8))
    assert "shape [8, 8, 2]" in refusal(np.zeros((8, 8, 2), np.uint8))
    with pytest.raises(UserError, match="at least 1 pixel"):
        decode_image(noise(8, 8, 3), 0)


def test_list_images(tmp_path: Path) -> None:
    names = ["b.JPG", "a.png", "sub/c.webp", "sub/._c.jpg", ".hidden/d.jpg", "notes.txt", "a.png.bak"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_images(tmp_path) == [tmp_path / "a.png", tmp_path / "b.JPG", tmp_path / "sub" / "c.webp"]
    with pytest.raises(UserError, match="does not exist"):
        list_images(tmp_path / "no")


def test_photos_that_are_left_out_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media, "find_spec", lambda name: None)
    for name in ("a.mpo", "b.HEIC", "c.heic", "d.mp4", "e.NEF", "._e.jpg", "f.txt", "h.psd", ".DS_Store"):
        (tmp_path / name).touch()
    (tmp_path / "__MACOSX").mkdir()
    (tmp_path / "__MACOSX" / "g.jpg").touch()
    assert list_images(tmp_path) == [tmp_path / "a.mpo"]
    assert caplog.messages == [
        f'{tmp_path}: 6 files are left out: 2 .heic (pip install "tripletcl[media]" reads them), '
        '1 .mp4 (pip install "tripletcl[media]" reads them), 1 .nef (pip install "tripletcl[media]" reads them), '
        "1 .psd (not supported: save them as JPEG), 1 hidden"
    ]
    monkeypatch.undo()
    monkeypatch.setattr(media, "find_spec", lambda name: name)
    assert [path.name for path in list_images(tmp_path)] == ["a.mpo", "b.HEIC", "c.heic", "d.mp4", "e.NEF"]


def test_heif_is_decoded_like_its_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder turns a phone's photo; the EXIF orientation that it has as well is not applied a second time."""
    heif = pytest.importorskip("pillow_heif")
    stored = Image.new("RGB", (96, 64), "red")
    stored.paste("blue", (0, 0, 96, 20))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "a.heic"
    heif.from_pillow(stored).save(path, quality=95, exif=exif.tobytes())
    upright = stored.transpose(Image.Transpose.ROTATE_270)
    assert np.abs(decode_image(path, 32).astype(int) - decode_image(upright, 32)).mean() < 4
    assert decode_thumbnail(path, 48).size == (32, 48)

    raw = path.read_bytes()
    with pytest.raises(UserError, match=r"^cut\.heic: "):
        decode_image(raw[: len(raw) // 2], 32, name="cut.heic")
    monkeypatch.setattr(images, "MOST_MEMORY", 1000)
    with pytest.raises(UserError, match="too large: to decode 64 x 96 pixels"):
        decode_image(path, 32)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UserError, match=r'a\.heic: an image in HEIF; pip install "tripletcl\[media\]" reads them'):
        decode_image(path, 32)


def test_list_images_follows_links_to_folders_once(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for name in ("root/a.png", "root/sub/b.jfif", "outside/c.png", "outside/deep/d.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (root / "again").symlink_to(root / "sub")
    (root / "linked").symlink_to(outside)
    (root / "twice").symlink_to(outside / "deep")
    (root / "sub" / "loop").symlink_to(root)
    (outside / "back").symlink_to(tmp_path)
    (root / "nowhere").symlink_to(tmp_path / "missing")
    assert list_images(root) == [
        root / "a.png",
        root / "linked" / "c.png",
        root / "linked" / "deep" / "d.jpg",
        root / "sub" / "b.jfif",
    ]


def test_map_in_threads_keeps_order_and_a_short_queue() -> None:
    started = []
    gate = threading.Event()

    def work(item: int) -> int:
        started.append(item)
        if item == 0:
            gate.wait(5)  # all others of the queue overtake the first
        return item * item

    progress: list[Progress] = []
    results = map_in_threads(work, range(1000), "squaring")
    threading.Timer(0.05, gate.set).start()
    assert next(results) == 0
    assert len(started) < 500  # not everything is computed before the first result is taken
    with listening(progress.append):
        assert [0, *results] == [item * item for item in range(1000)]
    assert progress == [Progress("squaring", done, 1000) for done in range(2, 1001)]
    assert list(map_in_threads(work, [])) == []


def test_map_in_threads_raises_what_the_function_raises() -> None:
    def work(item: int) -> int:
        return 1 // (item - 3)

    with pytest.raises(ZeroDivisionError):
        list(map_in_threads(work, range(10)))


def test_decode_readable_passes_over_what_cannot_be_decoded(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(50)]
    for number, path in enumerate(paths):
        if number % 7 == 3:
            path.write_text("no image")
        elif number != 20:
            Image.new("RGB", (8, 8), (number, 0, 0)).save(path)
    unreadable: dict[Path, str] = {}
    progress: list[Progress] = []
    with listening(progress.append):
        decoded = list(decode_readable(paths, partial(decode_image, size=4), unreadable, "decoding"))
    broken = [number for number in range(50) if number % 7 == 3 or number == 20]
    assert [path for path, _ in decoded] == [path for number, path in enumerate(paths) if number not in broken]
    assert all(pixels[0, 0, 0] == int(path.stem) for path, pixels in decoded)
    assert list(unreadable) == [paths[number] for number in broken]
    assert unreadable[paths[20]] == "no such file"
    assert unreadable[paths[3]].startswith("not an image")
    assert progress[-1] == Progress("decoding", 50, 50)


@pytest.mark.parametrize(("count", "sentence"), [(2, "none of the 2 images can be read; the first, "), (1, "")])
def test_decode_readable_needs_one_image_that_can_be_decoded(count: int, sentence: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(count)]
    with pytest.raises(UserError) as caught:
        list(decode_readable(paths, partial(decode_image, size=4), {}))
    assert str(caught.value) == f"{sentence}{paths[0]}: no such file"
    with pytest.raises(UserError, match="no such file"):
        list(decode_readable(paths * 2, partial(decode_image, size=4), {}))
    assert list(decode_readable([], partial(decode_image, size=4), {})) == []


# ---- regions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("box", [(3, 5, 33, 25), (0, 0, 40, 30), (-4, 2, 10, 99)])
@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_a_region_is_cropped_and_then_turned(
    box: tuple[int, int, int, int], orientation: int, form: str, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{form.lower()}"
    path.write_bytes(file_of(Image.fromarray(noise(30, 40, 3)), form, exif=exif))
    with Image.open(path) as photo:
        left, top, right, bottom = max(box[0], 0), max(box[1], 0), min(box[2], 40), min(box[3], 30)
        crop = photo.convert("RGB").crop((left, top, right, bottom))
    region = Region(path, box)
    assert np.array_equal(decode_image(region, 8), decode_image(file_of(crop, "PNG", exif=exif), 8))
    assert np.array_equal(decode_image(path.read_bytes(), 8, box=box), decode_image(region, 8))
    assert photo_size(region) == photo_size(path) == (40, 30)
    assert photo_digest(region) == photo_digest(path), "the content of a region's photo"


def test_a_region_outside_its_photo_is_refused_by_name(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    sentence = "a.png [40, 0, 50, 10]: its box [40, 0, 50, 10] is outside the photo, which has 40 x 30 pixels"
    assert refusal(Region(tmp_path / "a.png", (40, 0, 50, 10))).endswith(sentence)


def test_the_thumbnail_of_a_region_is_its_photo_with_a_frame(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # upright, what is left is at the top, and what is at the top is right
    Image.new("RGB", (400, 200), "white").save(tmp_path / "a.png", exif=exif)
    framed = decode_thumbnail(Region(tmp_path / "a.png", (0, 0, 200, 100)), 80)
    assert framed.size == (40, 80)
    drawn = (np.asarray(framed) == BOX_COLOUR).all(axis=2)
    assert np.argwhere(drawn).min(axis=0).tolist() == [0, 20]
    assert np.argwhere(drawn).max(axis=0).tolist() == [39, 39]
    assert not drawn[10:30, 25:35].any()


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_parts_of_a_photo_are_those_that_are_decoded_one_by_one(
    form: str, orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a"
    path.write_bytes(file_of(Image.fromarray(noise(300, 400, 3)), form, exif=exif))
    boxes = [(0, 0, 50, 40), None, (400, 0, 500, 10), (-4, 100, 390, 299), None, (7, 7, 8, 8)]
    outside = "its box [400, 0, 500, 10] is outside the photo, which has 400 x 300 pixels"
    opened, original = [], images._open
    monkeypatch.setattr(images, "_open", lambda source, *name: opened.append(source) or original(source, *name))
    together = decode_parts(path, 16, boxes)
    assert len(opened) == 3  # for all boxes once, and for the whole photo, which may be read at a fraction of its size
    for box, part in zip(boxes, together, strict=True):
        if box == boxes[2]:
            assert part == outside
        else:
            assert np.array_equal(part, decode_image(path, 16, box=box))
    assert decode_parts(path, 16, boxes[2:3]) == [outside]


def test_parts_of_a_damaged_photo_have_its_reason(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"no image")
    reason = refusal(path).removeprefix(f"{path}: ")
    assert decode_parts(path, 8, [(0, 0, 1, 1), (1, 1, 2, 2), None]) == [reason] * 3
    assert decode_parts(b"no image", 8, [None], name="b.png") == [reason]
