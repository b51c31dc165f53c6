"""RAW photos and videos become the picture that stands for them, and without their packages one sentence."""

from __future__ import annotations

import struct
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from media_files import RATE, write_dng, write_video
from PIL import Image

from tripletcl.data import decode_image
from tripletcl.data.images import decode_thumbnail
from tripletcl.data.media import video_second
from tripletcl.data.metadata import Metadata, read_metadata
from tripletcl.errors import UserError


@pytest.fixture
def scene() -> Image.Image:
    """A green photo, 96 x 64, with a red corner."""
    image = Image.new("RGB", (96, 64), (80, 140, 60))
    image.paste((200, 30, 30), (0, 0, 32, 24))
    return image


def test_a_video_is_its_frame_at_a_tenth_of_its_length(tmp_path: Path) -> None:
    picture = decode_thumbnail(write_video(tmp_path / "a.MP4"), 96)
    assert picture.size == (96, 64)
    red, grey = picture.getpixel((10, 30)), picture.getpixel((70, 30))
    assert red[0] > 150 > red[1] + 60
    assert max(grey) < 6 * RATE  # from the first second
    assert decode_image(tmp_path / "a.MP4", 32).shape == (3, 32, 32)


def test_a_video_in_an_archive_is_as_its_file(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4")
    picture = decode_thumbnail(path.read_bytes(), 96, "shard.tar/a.mp4")
    assert picture.tobytes() == decode_thumbnail(path, 96).tobytes()


def test_where_a_video_begins_black_another_frame_stands_for_it(tmp_path: Path) -> None:
    """It has one key frame, the first; a video that is black to its end is that."""
    video = write_video(tmp_path / "a.mp4", dark=15, key=1000)
    assert decode_thumbnail(video, 96).getpixel((10, 30))[0] > 150
    assert video_second(video) == pytest.approx(15 / RATE, abs=0.01)
    black = decode_thumbnail(write_video(tmp_path / "b.mp4", dark=1000), 96)
    assert max(high for _, high in black.getextrema()) < 20


def test_a_video_without_a_table_of_key_frames_is_read_from_its_beginning(tmp_path: Path) -> None:
    """As camcorders write them: nothing says where to decode from, and no key frame follows a tenth of it."""
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "a.mts"), "w", format="mpegts") as video:
        stream = video.add_stream("mpeg2video", rate=25, options={"g": "600"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        noise = np.random.default_rng(0).integers(0, 255, (50, 64, 96, 3), dtype=np.uint8)
        for pixels in noise:
            video.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        video.mux(stream.encode())
    assert decode_thumbnail(tmp_path / "a.mts", 96).size == (96, 64)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_a_video_of_a_phone_is_upright(tmp_path: Path, degrees: int) -> None:
    """The container says how far its pictures are turned, clockwise: `tkhd` has the matrix."""
    path = write_video(tmp_path / "a.mp4")
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    content[start : start + 36] = struct.pack(">9i", *(n << 16 for n in (cos, sin, 0, -sin, cos, 0, 0, 0)), 1 << 30)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(content)
    upright = decode_thumbnail(path, 96).rotate(-degrees, expand=True)
    assert decode_thumbnail(turned, 96).tobytes() == upright.tobytes()
    assert (read_metadata(turned).width, read_metadata(turned).height) == upright.size


@pytest.mark.parametrize(
    ("tags", "taken", "camera", "latitude"),
    [
        (
            {
                "com.apple.quicktime.creationdate": "2019-06-30T14:05:59+0200",
                "com.apple.quicktime.make": "Apple",
                "com.apple.quicktime.model": "iPhone 12",
                "com.apple.quicktime.location.ISO6709": "+47.1100+011.3000+574.000/",
            },
            datetime(2019, 6, 30, 14, 5, 59), "Apple iPhone 12", 47.11,
        ),
        ({"com.apple.quicktime.creationdate": "soon", "location": "+470.1100+0011.3000/"}, None, None, None),
        ({"creation_time": "1970-01-01T00:00:00.000000Z"}, None, None, None),
        ({"creation_time": "2107-01-01T00:00:00.000000Z"}, None, None, None),
        ({}, None, None, None),
    ],
)  # fmt: skip
def test_the_tags_of_a_video_are_its_metadata(
    tmp_path: Path, tags: dict[str, str], taken: datetime | None, camera: str | None, latitude: float | None
) -> None:
    read = read_metadata(write_video(tmp_path / "a.mp4", tags=tags))
    assert (read.taken, read.camera, read.width, read.height, read.latitude) == (taken, camera, 96, 64, latitude)


def test_the_time_of_a_video_in_utc_is_that_of_this_clock(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", tags={"creation_time": "2019-06-30T12:05:59.000000Z"})
    expected = datetime(2019, 6, 30, 12, 5, 59, tzinfo=UTC).astimezone().replace(tzinfo=None)
    assert read_metadata(path).taken == expected


def test_a_file_is_read_by_its_content_where_its_suffix_is_wrong(tmp_path: Path, scene: Image.Image) -> None:
    """Phones name HEIC files .jpg, and senders name JPEG files .heic or .dng."""
    heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x0110: "iPhone 12", 0x8769: {0x9003: "2021:01:02 03:04:05"}})
    stored = scene.transpose(Image.Transpose.ROTATE_90)
    heif.from_pillow(stored).save(tmp_path / "heic.jpg", exif=exif.tobytes(), format="HEIF")
    heif.from_pillow(stored).save(tmp_path / "heic.avif", exif=exif.tobytes(), format="HEIF")
    for name in ("jpeg.heic", "jpeg.dng"):
        stored.save(tmp_path / name, format="JPEG", exif=exif)
    stored.save(tmp_path / "avif.heic", format="AVIF", exif=exif)
    for path in tmp_path.iterdir():
        assert read_metadata(path) == Metadata(datetime(2021, 1, 2, 3, 4, 5), "iPhone 12", 96, 64), path
        picture = decode_thumbnail(path, 96)
        assert picture.size == (96, 64), path
        assert picture.getpixel((10, 10))[0] > 150 > 100 > picture.getpixel((80, 50))[0]


@pytest.mark.parametrize("name", ["a.jpg", "a.heic", "a.dng", "a.mp4", "a.avif"])
def test_an_empty_file_is_said_to_be_empty(tmp_path: Path, name: str) -> None:
    pytest.importorskip("av")
    (tmp_path / name).touch()
    with pytest.raises(UserError, match=rf"{name}: an empty file$"):
        decode_image(tmp_path / name, 32)


def test_what_is_no_video_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("av")
    (tmp_path / "a.mov").write_text("Dear reader")
    with pytest.raises(UserError, match=r"a\.mov: Invalid data found when processing input$"):
        decode_image(tmp_path / "a.mov", 32)
    with pytest.raises(UserError, match=r"b\.mov: no such file"):
        decode_image(tmp_path / "b.mov", 32)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_raw_photo_is_developed_upright(tmp_path: Path, scene: Image.Image, orientation: int) -> None:
    """Larger than its preview, from a file and from its bytes, and turned once."""
    pytest.importorskip("rawpy")
    path = write_dng(tmp_path / "a.DNG", scene, orientation)
    for picture in (decode_thumbnail(path, 1000), decode_thumbnail(path.read_bytes(), 1000, "shard.tar/a.DNG")):
        assert picture.size == (48, 32)  # half of the mosaic's
        corner, middle = (np.asarray(picture.crop(box)).mean((0, 1)) for box in ((2, 2, 10, 8), (20, 20, 40, 30)))
        assert corner[0] > 2 * max(corner[1:])
        assert middle[1] > 1.3 * middle[0]
    assert decode_image(path, 24).shape == (3, 24, 24)


@pytest.mark.parametrize("preview", [True, False])
@pytest.mark.parametrize(("orientation", "size"), [(1, (96, 64)), (8, (96, 64))])
def test_a_raw_photo_says_when_where_and_by_what_it_was_taken(
    tmp_path: Path, scene: Image.Image, preview: bool, orientation: int, size: tuple[int, int]
) -> None:
    """Its size is that of the photo, and not of its preview."""
    pytest.importorskip("rawpy")
    read = read_metadata(write_dng(tmp_path / "a.dng", scene, orientation, preview=preview))
    assert read == Metadata(datetime(2018, 7, 6, 5, 4, 3), "NIKON D850", *size, pytest.approx(47.11), 11.3)


def test_a_damaged_raw_photo_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    (tmp_path / "a.cr2").write_text("Dear reader")
    with pytest.raises(UserError, match=r"a\.cr2: no RAW photo that LibRaw can read: [A-Z][a-z/ ]+$"):
        decode_image(tmp_path / "a.cr2", 32)


@pytest.mark.parametrize(("package", "name", "what"), [("rawpy", "a.dng", "a RAW photo"), ("av", "a.mkv", "a video")])
def test_without_its_package_the_command_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str, what: str
) -> None:
    (tmp_path / name).write_text("anything")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf'{what}; pip install "tripletcl\[media\]" reads them'):
        decode_image(tmp_path / name, 32)


def test_avif_needs_no_package(tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "green").save(tmp_path / "a.avif")
    assert decode_thumbnail(tmp_path / "a.avif", 32).size == (32, 24)
