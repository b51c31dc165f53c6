"""Read image files, decode them into small squares of uint8, in threads, and list the image files of a folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import logging
import math
import os
import stat
import struct
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from tripletcl.data.media import (
    HEIF,
    INSTALL_MEDIA,
    JPEG,
    RAW,
    VIDEO,
    is_heif,
    media_suffixes,
    open_heif,
    open_raw,
    open_video,
)
from tripletcl.errors import UserError
from tripletcl.progress import report

log = logging.getLogger("tripletcl")

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("apng", "avif", "avifs", "bmp", "dib", "gif", "j2c", "j2k", "jfif", "jp2", "jpe", "jpeg", "jpf", "jpg"),
        *("jpx", "mpo", "pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
    )
)
"""The suffixes of image files, in lower case."""

UNSUPPORTED = dict.fromkeys((".jxl", ".psd", ".svg"), "not supported: save them as JPEG")
"""The suffixes of images that are not read, each with the reason."""

ARCHIVE_LEFTOVER = "__MACOSX"
"""The folder that macOS adds to archives, with a file of metadata under the name of each photo."""

TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The operation that turns an image of each EXIF orientation upright; orientation 1 needs none."""

ORIENTATION_TAG = 0x0112

MOST_BYTES = 256 * 2**20
"""The largest image file."""

MOST_MEMORY = 640 * 2**20
"""The most bytes that Pillow may take to decode an image."""

STRIP_PIXELS = 2**22
"""An image is converted in strips of at most so many pixels: each step of the conversion copies its pixels."""

REDUCING_GAP = 3.0
"""An image is averaged over whole blocks of pixels until it is this much larger than asked, and only then resampled."""

PIXEL_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Bytes of a pixel in Pillow's memory; 4 in all other modes."""

SAMPLES = {0: 3.0, 1: 2.0, 2: 1.5}
"""Samples of a pixel of a JPEG, by its chroma subsampling: 4:4:4, 4:2:2, 4:2:0; those of any other are at most 4."""

KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
"""What may lie under the name of an image file; anything else is a device."""

Box = tuple[float, float, float, float]
"""Left, top, right, bottom, in pixels."""

PixelBox = tuple[int, int, int, int]
"""Left, top, right, bottom, in whole pixels from 0, right and bottom excluded."""

BOX_COLOUR = (255, 64, 32)
"""The frame of a region in its photo."""


@dataclass(frozen=True, order=True)
class Region:
    """A part of a photo. It is read like a path, which is that of its photo, and decoded to its crop.

    Attributes:
        path: The photo's file.
        box: The part, in the pixels as they are stored: the crop is made before the photo's EXIF rotation is applied.
    """

    path: Path
    box: PixelBox

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return f"{self.path} {list(self.box)}"

    @property
    def name(self) -> str:
        """The photo's name with the box."""
        return f"{self.path.name} {list(self.box)}"

    def absolute(self) -> Region:
        """The region with the absolute path of its photo."""
        return replace(self, path=self.path.absolute())

    def exists(self) -> bool:
        """True if the photo's file exists."""
        return self.path.exists()


Photo = Path | Region
"""What an image is decoded from: a file, or a part of one."""

ImageLike = str | Path | Region | bytes | Image.Image | np.ndarray

Name = TypeVar("Name")
Item = TypeVar("Item")
Result = TypeVar("Result")


def read_photo(path: str | Photo) -> bytes:
    """Read an image file.

    Raises:
        OSError: There is no such file, or it cannot be read, is no regular file (reading a pipe may never end), or is
            larger than `MOST_BYTES`.
    """
    about = os.stat(path)  # noqa: PTH116 - building a Path for each of many files costs more than the stat
    if not stat.S_ISREG(about.st_mode):
        kind = KINDS.get(stat.S_IFMT(about.st_mode), "a device")
        raise OSError(errno.EINVAL, f"{kind}, and no file", str(path))
    if about.st_size > MOST_BYTES:
        size, most = about.st_size / 2**20, MOST_BYTES // 2**20
        raise OSError(errno.EFBIG, f"too large: a file of {size:,.0f} MiB; allowed are {most}", str(path))
    with open(path, "rb") as file:  # noqa: PTH123 - as above
        return file.read(MOST_BYTES)


def photo_digest(photo: str | Photo | bytes) -> str:
    """Compute the identity of a photo's content, 32 hex digits, equal for copies under any name.

    It is a hash of the bytes of the file: a photo that was saved anew or scaled is another one.

    Args:
        photo: The file, or what `read_photo` returned of it.

    Raises:
        OSError: See `read_photo`.
    """
    return hashlib.blake2b(photo if isinstance(photo, bytes) else read_photo(photo), digest_size=16).hexdigest()


def photo_size(photo: ImageLike) -> tuple[int, int]:
    """The (width, height) of a photo in the pixels as they are stored, of which boxes are parts.

    Raises:
        UserError: As `decode_image`.
    """
    with _naming(photo, None), _open(photo) as image:
        return image.size


def decode_image(source: ImageLike, size: int, name: str | None = None, box: PixelBox | None = None) -> np.ndarray:
    """Decode an image to an upright RGB square: its short side is scaled to `size`, and its centre is cut out.

    Of a region only the crop is taken, at its full size, as far as it lies within the photo. Transparent pixels become
    white; an animation is its first frame; 16-bit grey keeps its high bits. Scaling is bicubic and antialiased. A JPEG
    is decoded at a fraction of its size if that is enough, so that panoramas and photos of hundreds of megapixels take
    little memory.

    Args:
        source: A path, the bytes of a file, a Pillow image, or a uint8 array `[H, W]`, `[H, W, 3]`, `[H, W, 4]`, or
            `[3, H, W]`.
        size: The side of the square, in pixels.
        name: The image's name in an error; None is the path, if `source` is one. Its suffix tells RAW photos and videos
            that are given as bytes.
        box: The part of it, if `source` is not a `Region`, which has its own.

    Returns:
        `[3, size, size]` uint8.

    Raises:
        UserError: The image cannot be decoded, or the box is outside of it; the message is its name and the reason.
    """
    if size < 1:
        raise UserError(f"the image size must be at least 1 pixel, not {size}")
    box = source.box if isinstance(source, Region) else box
    with _naming(source, name), _open(source, name) as image:
        extent = _load(image, None if box else size, own=image is not source)
        part = _crop(image, box) if box else image
        return _square(part, part.size if box else extent, size, _orientation(image))


def decode_parts(
    source: str | Path | bytes, size: int, boxes: Sequence[PixelBox | None], name: str | None = None
) -> list[np.ndarray | str]:
    """Decode parts of one photo, which is read to its full size once; None is the whole photo.

    Returns:
        What `decode_image` returns for each, or the reason why it cannot be decoded.
    """
    if sum(box is not None for box in boxes) < 2:
        decodes = (partial(decode_image, size=size, name=name, box=box) for box in boxes)
        return [try_decode(source, decode, name) for decode in decodes]
    try:
        with _naming(source, name), _open(source, name) as image:
            _load(image, None, own=True)
            cut = [None if box is None else _try_part(image, box, size) for box in boxes]
    except UserError as error:
        reason = str(error).removeprefix(f"{name or _name(source)}: ")
        cut = [None if box is None else reason for box in boxes]
    return [decode_parts(source, size, [None], name)[0] if part is None else part for part in cut]


def _try_part(image: Image.Image, box: PixelBox, size: int) -> np.ndarray | str:
    """A part of a photo that is loaded at its full size, or the reason why there is none."""
    try:
        part = _crop(image, box)
    except UserError as error:
        return str(error)
    return _square(part, part.size, size, _orientation(image))


def _square(part: Image.Image, extent: tuple[float, float], size: int, orientation: object) -> np.ndarray:
    """The centre of an image of this extent, scaled and turned upright, `[3, size, size]`."""
    square = _turn_upright(_scale(part, _centre(extent, size), (size, size)), orientation)
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))  # [size, size, 3] -> [3, size, size]


def decode_thumbnail(source: ImageLike, size: int, name: str | None = None) -> Image.Image:
    """Decode a whole image, upright and in RGB, so that its longer side is at most `size` pixels; without metadata.

    Of a region it is the whole photo with a frame around the box.

    Raises:
        UserError: As `decode_image`.
    """
    with _naming(source, name), _open(source, name) as image:
        whole = image.size
        extent = _load(image, size, own=image is not source)
        scale = min(1.0, size / max(image.size))
        width, height = (max(1, round(scale * side)) for side in image.size)
        small = _scale(image, (0, 0, *extent), (width, height))
        if isinstance(source, Region):
            _frame(small, source.box, whole)
        small = _turn_upright(small, _orientation(image))
    small.info = {}
    return small


def _frame(small: Image.Image, box: PixelBox, whole: tuple[int, int]) -> None:
    """Draw a box of a photo of this (width, height) into the scaled photo."""
    left, top, right, bottom = (side * small.size[place % 2] / whole[place % 2] for place, side in enumerate(box))
    width = max(2, round(max(small.size) / 80))
    corners = (max(left, 0), max(top, 0), min(right, small.width) - 1, min(bottom, small.height) - 1)
    if corners[0] <= corners[2] and corners[1] <= corners[3]:
        ImageDraw.Draw(small).rectangle(corners, outline=BOX_COLOUR, width=width)


def image_suffixes() -> frozenset[str]:
    """Return the suffixes of the image files that can be read here."""
    return SUFFIXES | media_suffixes()


def list_images(folder: str | Path, left_out: Counter[str] | None = None) -> list[Path]:
    """List every image file below a folder, by its suffix (`image_suffixes`), sorted, without hidden files and folders.

    A link to a folder is followed, unless it leads to a folder that was listed already. A subfolder that cannot be read
    is passed over with a warning. Photos of a format that is not supported, and hidden ones, are counted in a warning.

    Args:
        folder: The folder.
        left_out: Receives the counts of photos left out, by reason, in place of the warning.

    Raises:
        UserError: There is no such folder, or it cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"the image folder {folder} does not exist")
    paths: list[Path] = []
    listed: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        links: list[Path] = []
        for start in waiting:  # real folders first, so that their photos keep their names
            if _identity(start) not in listed:
                _walk(start, listed, paths, links)
        waiting = sorted(links)
    counts: Counter[str] = Counter() if left_out is None else left_out
    images: list[Path] = []
    suffixes = image_suffixes()
    unread = UNSUPPORTED | dict.fromkeys((HEIF | RAW | VIDEO) - suffixes, INSTALL_MEDIA)
    for path in paths:
        if (suffix := path.suffix.lower()) in unread:
            counts[f"{suffix} ({unread[suffix]})"] += 1
        elif suffix in suffixes and path.name.startswith("."):
            counts["hidden"] += 1
        elif suffix in suffixes:
            images.append(path)
    if left_out is None:
        warn_of_left_out(folder, counts)
    return sorted(images)


def warn_of_left_out(folder: Path, counts: Counter[str]) -> None:
    """Log how many files of a folder were left out, and why."""
    if counts:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(counts.items()))
        log.warning("%s: %s files are left out: %s", folder, f"{counts.total():,}", reasons)


def _walk(top: Path, listed: set[tuple[int, int]], paths: list[Path], links: list[Path]) -> None:
    """Add the files below a folder to `paths`, its links to folders to `links`, and what it lists to `listed`."""

    def warn(error: OSError) -> None:
        if error.filename == str(top) and not listed:
            raise UserError(f"the image folder {top} cannot be read: {error.strerror}") from error
        log.warning("%s cannot be read and is passed over: %s", error.filename, error.strerror)

    for parent, folders, files in os.walk(top, onerror=warn):
        listed.add(_identity(Path(parent)))
        folders[:] = [name for name in folders if not name.startswith(".") and name != ARCHIVE_LEFTOVER]
        links.extend(path for name in folders if (path := Path(parent, name)).is_symlink())
        folders[:] = [name for name in folders if _identity(Path(parent, name)) not in listed]
        paths.extend(Path(parent, file) for file in files)


def _identity(folder: Path) -> tuple[int, int]:
    """Device and number of a folder, the same by whichever path or link it is reached."""
    try:
        stat = folder.stat()
    except OSError:
        return (-1, -1)
    return stat.st_dev, stat.st_ino


def map_in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], label: str | None = None
) -> Generator[Result, None, None]:
    """Yield `function(item)` in the order of the items, computed in threads a few items ahead.

    Threads suffice, since Pillow and hashlib release the interpreter lock, and a process that is forked after faiss has
    started its threads hangs. At most 8 results a thread wait, so memory does not grow with the number of items.

    Args:
        function: Called with one item, from any thread.
        items: The items.
        label: Reports the progress under this label, after each item; None reports nothing.
    """
    workers = min(32, os.cpu_count() or 1)
    pool = ThreadPoolExecutor(workers)
    try:
        remaining = iter(items)
        waiting = deque(pool.submit(function, item) for item in islice(remaining, 8 * workers))
        for done in range(1, len(items) + 1):
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(remaining, 1))
            if label is not None:
                report(label, done, len(items))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)


def decode_readable(
    paths: Sequence[Name], decode: Callable[[Name], Result], unreadable: dict[Name, str], label: str | None = None
) -> Generator[tuple[Name, Result], None, None]:
    """Decode image files in threads and pass over those that cannot be decoded.

    Args:
        paths: The files.
        decode: Decodes a file to pixels and whatever else is known of it, or raises a `UserError` that begins with its
            path.
        unreadable: Receives, for each of the other files, the reason why it cannot be decoded.
        label: Reports the progress under this label.

    Yields:
        Path and result of each file that can be decoded, in order.

    Raises:
        UserError: None of them can be decoded.
    """
    readable = 0
    with contextlib.closing(map_in_threads(partial(try_decode, decode=decode), paths, label)) as decoded:
        for path, pixels in zip(paths, decoded, strict=True):
            if isinstance(pixels, str):
                unreadable[path] = pixels
            else:
                readable += 1
                yield path, pixels
    if paths and not readable:
        raise unreadable_error(unreadable)


def try_decode(path: Name, decode: Callable[[Name], Result], name: str | None = None) -> Result | str:
    """The pixels of an image file, or the reason why it cannot be decoded; `name` is the file's in its errors."""
    try:
        return decode(path)
    except UserError as error:
        return str(error).removeprefix(f"{name or path}: ")


def unreadable_error(unreadable: Mapping[Name, str]) -> UserError:
    """The error where none of the image files can be decoded, given the reason for each."""
    path, reason = next(iter(unreadable.items()))
    count = len(unreadable)
    return UserError(
        f"none of the {count} images can be read; the first, {path}: {reason}" if count > 1 else f"{path}: {reason}"
    )


@contextlib.contextmanager
def _naming(source: ImageLike, name: str | None) -> Iterator[None]:
    """Turn whatever a damaged image raises into a sentence that names it."""
    try:
        yield
    except Exception as error:  # Pillow's readers raise nearly anything: struct.error, SyntaxError
        raise UserError(f"{name or _name(source)}: {_reason(error)}") from error


def _open(source: ImageLike, name: str | None = None) -> contextlib.AbstractContextManager[Image.Image]:
    """Open an image by its content; RAW photos and videos, which cannot be told by it, by their suffix."""
    if isinstance(source, Image.Image):
        return contextlib.nullcontext(source)  # the caller's image: left open
    if isinstance(source, np.ndarray):
        return _from_array(source)
    suffix = os.path.splitext(name or "" if isinstance(source, bytes) else source)[1].lower()  # noqa: PTH122 - as above
    if suffix in VIDEO:
        return open_video(source)  # by its path, if it has one: it may be larger than the memory
    raw = source if isinstance(source, bytes) else read_photo(source)
    if not raw:
        raise UserError("an empty file")
    if raw.startswith(JPEG):  # Image.open refuses a JPEG by its pixels, without asking for its scale
        with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
            return JpegImageFile(io.BytesIO(raw))
    elif suffix in RAW:
        return open_raw(raw)
    if is_heif(raw):
        return open_heif(raw)
    return Image.open(io.BytesIO(raw))


def _load(image: Image.Image, size: int | None, own: bool) -> tuple[float, float]:
    """Decode an image and return its exact (width, height); `own` is False for an image of the caller's.

    A JPEG of ours is decoded at 1/2, 1/4 or 1/8 of its size if that is enough for the size asked for; None is its own.
    """
    width, height = image.size
    draft = image.draft(None, (2 * size, 2 * size)) if own and size else None  # twice the size, for the antialiasing
    if (needed := _memory(image, width * height)) > MOST_MEMORY and own:
        raise UserError(
            f"too large: to decode {width} x {height} pixels takes {needed / 2**20:,.0f} MiB; allowed are "
            f"{MOST_MEMORY // 2**20}"
        )
    image.load()
    return image.size if draft is None else draft[1][2:]


def _memory(image: Image.Image, pixels: int) -> float:
    """The bytes that Pillow takes to decode an image of so many pixels; a progressive JPEG starts as 16-bit samples."""
    decoded = image.width * image.height * PIXEL_BYTES.get(image.mode, 4)
    return decoded + (2 * pixels * SAMPLES.get(get_sampling(image), 4) if image.info.get("progressive") else 0)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.dtype != np.uint8:
        raise UserError(f"an array of {array.dtype} is no image, allowed is uint8")
    match array.shape:
        case (_, _) | (_, _, 3 | 4):
            return Image.fromarray(array)
        case (3, _, _):
            return Image.fromarray(np.ascontiguousarray(array.transpose(1, 2, 0)))
    raise UserError(
        f"an array of shape {list(array.shape)} is no image, allowed are [H, W], [H, W, 3], [H, W, 4], [3, H, W]"
    )


def _orientation(image: Image.Image) -> object:
    try:
        return image.getexif().get(ORIENTATION_TAG)
    except Exception:  # damaged EXIF data only leaves the orientation unknown
        return None


def _turn_upright(image: Image.Image, orientation: object) -> Image.Image:
    turn = TRANSPOSES.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "F":
        raise UserError("its pixels are floating-point numbers, which have no fixed white; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return _from_16_bit(image)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(image: Image.Image) -> Image.Image:
    levels = np.asarray(image).astype(np.int64)
    if levels.min() < 0 or levels.max() > 65535:
        raise UserError("its grey levels go past 16 bits; save it with 8 or 16 bits")
    return Image.fromarray(((levels + 128) // 257).astype(np.uint8)).convert("RGB")  # 65535 = 255 * 257


def _crop(image: Image.Image, box: PixelBox) -> Image.Image:
    """Cut out the part of a box that is within the image."""
    within = clamp(box, image.size)
    if within is None:
        raise UserError(f"its box {list(box)} is outside the photo, which has {image.width} x {image.height} pixels")
    return image.crop(within)


def clamp(box: PixelBox, size: tuple[int, int]) -> PixelBox | None:
    """The part of a box that is within a photo of this (width, height); None if there is none."""
    left, top, right, bottom = max(box[0], 0), max(box[1], 0), min(box[2], size[0]), min(box[3], size[1])
    return (left, top, right, bottom) if left < right and top < bottom else None


def _centre(extent: tuple[float, float], size: int) -> Box:
    """The largest square in the centre of an image."""
    short = min(extent)
    left, top = ((side - short) / 2 for side in extent)
    if short == size:
        left, top = int(left), int(top)  # half a pixel would blur an image that needs no scaling
    return left, top, left + short, top + short


def _scale(image: Image.Image, box: Box, size: tuple[int, int]) -> Image.Image:
    """Scale a part of an image to (width, height), in RGB.

    The result is that of `Image.resize` with a reducing gap, without a second copy of the whole image.
    """
    scales = [(box[axis + 2] - box[axis]) / size[axis] for axis in (0, 1)]
    factors = [int(scale / REDUCING_GAP) or 1 for scale in scales]
    # Pixels next to the box weigh in its borders. Where blocks are averaged, the first one begins where Pillow's does.
    margins = [1.5 * scale if max(factors) > 1 else 2 * max(scale, 1) + 1 for scale in scales]
    left, top = (max(0, int(box[axis] - margins[axis])) for axis in (0, 1))
    right, bottom = (min(image.size[axis], math.ceil(box[axis + 2] + margins[axis])) for axis in (0, 1))
    reduced = _reduce(image, (left, top, right, bottom), (factors[0], factors[1]))
    within = [(side - (left, top)[place % 2]) / factors[place % 2] for place, side in enumerate(box)]
    return reduced.resize(size, Image.Resampling.BICUBIC, box=(within[0], within[1], within[2], within[3]))


def _reduce(image: Image.Image, area: tuple[int, int, int, int], factors: tuple[int, int]) -> Image.Image:
    """Average blocks of pixels of a part of an image, in RGB, one strip after another."""
    left, top, right, bottom = area
    rows = max(1, STRIP_PIXELS // (right - left) // factors[1]) * factors[1]
    if bottom - top <= rows:
        return _to_rgb(image.crop(area)).reduce(factors)
    reduced = Image.new("RGB", (math.ceil((right - left) / factors[0]), math.ceil((bottom - top) / factors[1])))
    for start in range(top, bottom, rows):
        strip = _to_rgb(image.crop((left, start, right, min(start + rows, bottom))))
        reduced.paste(strip.reduce(factors), (0, (start - top) // factors[1]))
    return reduced


def _name(source: ImageLike) -> str:
    return str(source) if isinstance(source, str | Path | Region) else f"an image given as {type(source).__name__}"


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of a format that Pillow cannot read"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"too large ({error})"
    if reason := getattr(error, "strerror", None):  # of the system, and of PyAV
        return str(reason)
    return " ".join(str(error).split()) or type(error).__name__
