"""Photos to vectors, past those that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn import functional

from tripletcl.data.images import SUFFIXES, in_threads, list_images, pixels_or_reason
from tripletcl.errors import UserError
from tripletcl.retrieval.model import PhotoEmbedder
from tripletcl.retrieval.table import UNKNOWN, Broken, Stamp, stamp_of


@dataclass
class Encoded:
    """Some photos, encoded.

    Attributes:
        photos: Names and stamps of the n that can be read.
        vectors: `[n, 3 * D]` float32, each unit's block of length 1.
        features: `[n, C]` float32, their representations.
        broken: The others.
    """

    photos: list[tuple[str, Stamp]]
    vectors: np.ndarray
    features: np.ndarray
    broken: dict[str, Broken]


def find_photos(folder_or_paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """The photos of a folder and its subfolders, sorted; or the given paths, each once.

    Raises:
        UserError: the folder does not exist or holds no photo.
    """
    if not isinstance(folder_or_paths, str | Path):
        return list(dict.fromkeys(map(Path, folder_or_paths)))
    photos = list_images(folder_or_paths)
    if not photos:
        raise UserError(f"no photo in {folder_or_paths}; photos end in {', '.join(sorted(SUFFIXES))}")
    return photos


def encode_photos(embedder: PhotoEmbedder, names: Sequence[str], batch_size: int) -> Iterator[Encoded]:
    """Photos batch by batch in their order; threads decode those ahead while the model works.

    What cannot be decoded is found then, photo by photo, so a batch is never encoded twice.

    Raises:
        UserError: a vector is not finite.
    """
    with closing(in_threads(lambda name: _decoded(embedder, name), names)) as decoded:
        for start in range(0, len(names), batch_size):
            batch = names[start : start + batch_size]
            yield _encoded(embedder, list(zip(batch, islice(decoded, len(batch)), strict=True)))


def unit_rows(vectors: Tensor, names: Sequence[str | Path]) -> np.ndarray:
    """Vectors `[N, 3, D]` as rows of an index, `[N, 3 * D]`: each unit of length 1.

    Raises:
        UserError: the vector of a photo is not finite.
    """
    rows = functional.normalize(vectors.detach().float(), dim=-1).flatten(1).cpu().numpy()
    if len(broken := np.flatnonzero(~np.isfinite(rows).all(axis=1))):
        raise UserError(f"the vector of {names[broken[0]]} is not finite; the model that made it has diverged")
    return rows


def _decoded(embedder: PhotoEmbedder, name: str) -> tuple[Stamp, np.ndarray | str]:
    """A photo's stamp and pixels, or why there are none."""
    try:
        stamp = stamp_of(name)  # before the content: a change in between is seen the next time
    except OSError:
        stamp = UNKNOWN
    return stamp, pixels_or_reason(Path(name), embedder.decode)


def _encoded(embedder: PhotoEmbedder, found: list[tuple[str, tuple[Stamp, np.ndarray | str]]]) -> Encoded:
    broken = {name: (stamp, pixels) for name, (stamp, pixels) in found if isinstance(pixels, str)}
    readable = [(name, stamp, pixels) for name, (stamp, pixels) in found if not isinstance(pixels, str)]
    photos = [(name, stamp) for name, stamp, _ in readable]
    if not photos:
        nothing = np.zeros((0, 0), np.float32)
        return Encoded([], nothing, nothing, broken)
    representation = embedder.represent_images([pixels for _, _, pixels in readable])
    rows = unit_rows(embedder.vectors_of(representation), [name for name, _ in photos])
    return Encoded(photos, rows, representation.float().cpu().numpy(), broken)
