"""Decode image files into small squares of uint8, in threads, and list the image files of a folder."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from tripletcl.errors import UserError
from tripletcl.progress import report

log = logging.getLogger("tripletcl")

SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("apng", "avif", "avifs", "bmp", "dib", "gif", "j2c", "j2k", "jfif", "jp2", "jpe", "jpeg", "jpf", "jpg"),
        *("jpx", "pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff", "webp"),
    )
)
"""The suffixes of image files, in lower case."""

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

ImageLike = str | Path | bytes | Image.Image | np.ndarray

Item = TypeVar("Item")
Result = TypeVar("Result")


def decode_image(source: ImageLike, size: int, name: str | None = None) -> np.ndarray:
    """Decode an image to an upright RGB square: its short side is scaled to `size`, and its centre is cut out.

    Transparent pixels become white; an animation is its first frame; 16-bit grey keeps its high bits. Scaling is
    bicubic and antialiased. A JPEG is decoded at a fraction of its size if that is enough.

    Args:
        source: A path, the bytes of a file, a Pillow image, or a uint8 array `[H, W]`, `[H, W, 3]`, `[H, W, 4]`, or
            `[3, H, W]`.
        size: The side of the square, in pixels.
        name: The image's name in an error; None is the path, if `source` is one.

    Returns:
        `[3, size, size]` uint8.

    Raises:
        UserError: The image cannot be decoded; the message is its name and the reason.
    """
    if size < 1:
        raise UserError(f"the image size must be at least 1 pixel, not {size}")
    name = name or _name(source)
    try:
        with _open(source) as image:
            extent = _load(image, size, whole=image is source)
            square = _turn_upright(_crop_square(_to_rgb(image), extent, size), _orientation(image))
    except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything: struct.error, SyntaxError
        raise UserError(f"{name}: {_reason(error)}") from error
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))  # [size, size, 3] -> [3, size, size]


def list_images(folder: str | Path) -> list[Path]:
    """List every image file below a folder, by its suffix (`SUFFIXES`), sorted, without hidden files and folders.

    A link to a folder is followed, unless it leads to a folder that was listed already. A subfolder that cannot be read
    is passed over with a warning.

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
    return sorted(path for path in paths if path.suffix.lower() in SUFFIXES)


def _walk(top: Path, listed: set[tuple[int, int]], paths: list[Path], links: list[Path]) -> None:
    """Add the files below a folder to `paths`, its links to folders to `links`, and what it lists to `listed`."""

    def warn(error: OSError) -> None:
        if error.filename == str(top) and not listed:
            raise UserError(f"the image folder {top} cannot be read: {error.strerror}") from error
        log.warning("%s cannot be read and is passed over: %s", error.filename, error.strerror)

    for parent, folders, files in os.walk(top, onerror=warn):
        listed.add(_identity(Path(parent)))
        folders[:] = [name for name in folders if not name.startswith(".")]
        links.extend(path for name in folders if (path := Path(parent, name)).is_symlink())
        folders[:] = [name for name in folders if _identity(Path(parent, name)) not in listed]
        paths.extend(Path(parent, file) for file in files if not file.startswith("."))


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
    paths: Sequence[Path], decode: Callable[[Path], np.ndarray], unreadable: dict[Path, str], label: str | None = None
) -> Generator[tuple[Path, np.ndarray], None, None]:
    """Decode image files in threads and pass over those that cannot be decoded.

    Args:
        paths: The files.
        decode: Decodes a file, or raises a `UserError` that begins with its path.
        unreadable: Receives, for each of the other files, the reason why it cannot be decoded.
        label: Reports the progress under this label.

    Yields:
        Path and pixels of each file that can be decoded, in order.

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


def try_decode(path: Path, decode: Callable[[Path], np.ndarray]) -> np.ndarray | str:
    """The pixels of an image file, or the reason why it cannot be decoded."""
    try:
        return decode(path)
    except UserError as error:
        return str(error).removeprefix(f"{path}: ")


def unreadable_error(unreadable: Mapping[Path, str]) -> UserError:
    """The error where none of the image files can be decoded, given the reason for each."""
    path, reason = next(iter(unreadable.items()))
    count = len(unreadable)
    return UserError(
        f"none of the {count} images can be read; the first, {path}: {reason}" if count > 1 else f"{path}: {reason}"
    )


def _open(source: ImageLike) -> contextlib.AbstractContextManager[Image.Image]:
    if isinstance(source, Image.Image):
        return contextlib.nullcontext(source)  # the caller's image: left open
    if isinstance(source, np.ndarray):
        return _from_array(source)
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)


def _load(image: Image.Image, size: int, whole: bool) -> tuple[float, float]:
    """Decode an image, a JPEG at 1/2, 1/4 or 1/8 of its size unless `whole`; returns its exact (width, height)."""
    draft = None if whole else image.draft(None, (2 * size, 2 * size))  # twice the size, for the antialiasing
    image.load()
    return image.size if draft is None else draft[1][2:]


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


def _crop_square(image: Image.Image, extent: tuple[float, float], size: int) -> Image.Image:
    short = min(extent)
    left, top = ((side - short) / 2 for side in extent)
    if short == size:
        left, top = int(left), int(top)  # half a pixel would blur an image that needs no scaling
    box = (left, top, left + short, top + short)
    return image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)


def _name(source: ImageLike) -> str:
    return str(source) if isinstance(source, str | Path) else f"an image given as {type(source).__name__}"


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or of a format that Pillow cannot read"
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"too large ({error})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
