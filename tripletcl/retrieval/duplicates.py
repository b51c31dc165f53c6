"""Near-duplicates among the photos of an index: copies that were scaled, saved anew, cropped or brightened, and bursts.

Vectors propose, pixels decide. The NEAREST photos of each one are found by the features that the index keeps, or else
by its vectors, projected to WIDTH random directions (Johnson & Lindenstrauss, 1984), which keeps cosines to about .1
and makes an exact search of a large index possible. Two photos are then compared by their perceptual hashes, 64 bits of
the lowest frequencies of a cosine transform (`imagehash.phash`): that of one with those of windows of the other, so
that a crop is found, too. Measured in docs/measured/retrieval.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tripletcl.data.images import decode_thumbnail, map_in_threads
from tripletcl.errors import UserError
from tripletcl.progress import report
from tripletcl.retrieval.details import PhotoDetails
from tripletcl.retrieval.index import FactIndex

if TYPE_CHECKING:
    from PIL import Image

NEAREST, WIDTH = 10, 128
"""Photos that each one is compared with; random directions of the search."""
BITS = 10
"""The most bits of 64 in which the hashes of duplicates differ."""
SCALES, PLACES = (0.95, 0.9, 0.85, 0.8, 0.75), (0.0, 0.5, 1.0)
"""Sizes of windows, relative to the photo, and their places along each side: at its start, middle and end."""
PIXELS = 96
"""The longer side of a photo that is hashed."""
BLOCK = 1024
"""Photos whose nearest are searched at a time."""


@dataclass(frozen=True)
class Duplicates:
    """Photos that are nearly the same.

    Attributes:
        photos: Two or more, the one with the most pixels, then bytes, first.
        bits: The largest difference of the pairs that joined them, in bits of 64.
    """

    photos: tuple[PhotoDetails, ...]
    bits: int


def find_duplicates(index: FactIndex, bits: int = BITS) -> list[Duplicates]:
    """Find the groups of near-duplicates of an index; photos that cannot be read any more are left out.

    Args:
        index: The photos.
        bits: The most bits in which the hashes of two of them differ, of 64.

    Returns:
        Groups, the largest first; two photos are in one if a chain of duplicates joins them.

    Raises:
        UserError: `bits` is not between 0 and 64.
    """
    if not 0 <= bits <= 64:
        raise UserError(f"bits is {bits}, but it is between 0 and 64")
    rows = np.flatnonzero(~index.deleted)
    if len(rows) < 2:
        return []
    pairs = _nearest_pairs(_vectors(index, rows))
    used = sorted({number for pair in pairs for number in pair})
    paths = [index.paths[int(rows[number])] for number in used]
    hashes = dict(zip(used, map_in_threads(_try_hashes, paths, "comparing photos"), strict=True))
    joined = {pair: distance for pair in pairs if (distance := _distance(*(hashes[n] for n in pair))) <= bits}
    return _groups(index, [index.paths[row] for row in rows.tolist()], joined)


def hashes_of(photo: Image.Image) -> np.ndarray:
    """Compute the hashes `[windows, 64]` bool of a photo and of windows of it; the first one is that of the whole."""
    from imagehash import phash

    grey = photo.convert("L")
    return np.stack([phash(window).hash.ravel() for window in _windows(grey)])


def distance_of(first: np.ndarray, second: np.ndarray) -> int:
    """The least number of bits in which the whole of one photo differs from a window of the other."""
    return int(min((first != second[0]).sum(axis=1).min(), (second != first[0]).sum(axis=1).min()))


def _windows(photo: Image.Image) -> Iterator[Image.Image]:
    yield photo
    for scale, x, y in product(SCALES, PLACES, PLACES):
        width, height = (max(1, round(scale * side)) for side in photo.size)
        left, top = round(x * (photo.width - width)), round(y * (photo.height - height))
        yield photo.crop((left, top, left + width, top + height))


def _try_hashes(path: Path) -> np.ndarray | None:
    try:
        return hashes_of(decode_thumbnail(path, PIXELS))
    except UserError:
        return None


def _distance(first: np.ndarray | None, second: np.ndarray | None) -> int:
    return 65 if first is None or second is None else distance_of(first, second)


def _vectors(index: FactIndex, rows: np.ndarray) -> np.ndarray:
    """`[N, D]` float32 of length 1: projected features, or vectors, less their mean."""
    generator = np.random.default_rng(0)
    features = index.features

    def block(numbers: np.ndarray) -> np.ndarray:
        return np.asarray(index.rows(numbers) if features is None else features[numbers], dtype=np.float32)

    blocks = [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
    width = block(rows[:1]).shape[1]
    directions = generator.normal(size=(width, min(width, WIDTH))).astype(np.float32)
    projected = np.concatenate([block(numbers) @ directions for numbers in blocks])
    projected -= projected.mean(axis=0)
    return projected / np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), np.finfo(np.float32).tiny)


def _nearest_pairs(vectors: np.ndarray) -> list[tuple[int, int]]:
    """The pairs (first < second) of each photo and those nearest to it."""
    import faiss

    search = faiss.IndexFlatIP(vectors.shape[1])
    search.add(vectors)
    pairs: set[tuple[int, int]] = set()
    for start in range(0, len(vectors), BLOCK):
        _, found = search.search(vectors[start : start + BLOCK], NEAREST + 1)
        of_block = ((start + n, other) for n, others in enumerate(found.tolist()) for other in others)
        pairs |= {(min(pair), max(pair)) for pair in of_block if pair[0] != pair[1] and min(pair) >= 0}
        report("finding photos that are alike", min(start + BLOCK, len(vectors)), len(vectors))
    return sorted(pairs)


def _groups(index: FactIndex, paths: Sequence[Path], joined: dict[tuple[int, int], int]) -> list[Duplicates]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    if not joined:
        return []
    first, second = np.array(list(joined)).T
    _, labels = connected_components(coo_array((np.ones(len(first)), (first, second)), (len(paths), len(paths))))
    members: dict[int, set[int]] = {}
    most: dict[int, int] = {}
    for pair, distance in joined.items():
        label = int(labels[pair[0]])
        members.setdefault(label, set()).update(pair)
        most[label] = max(most.get(label, 0), distance)
    groups = [Duplicates(_best_first(index, [paths[n] for n in numbers]), most[n]) for n, numbers in members.items()]
    return sorted(groups, key=lambda group: (-len(group.photos), group.photos[0].path))


def _best_first(index: FactIndex, paths: Iterable[Path]) -> tuple[PhotoDetails, ...]:
    def worth(photo: PhotoDetails) -> tuple[int, int, Path]:
        return -(photo.width or 0) * (photo.height or 0), -(photo.size or 0), photo.path

    return tuple(sorted(index.details(paths), key=worth))
