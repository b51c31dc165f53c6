"""From photos to the rows of an index; photos that cannot be read are recorded with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.nn import functional

from tripletcl.data.facts import UNITS
from tripletcl.data.images import image_suffixes, list_images, map_in_threads, try_decode, unreadable_error
from tripletcl.errors import UserError
from tripletcl.files import FileStamp
from tripletcl.progress import report
from tripletcl.retrieval.model import PhotoEmbedder
from tripletcl.retrieval.rows import Rows
from tripletcl.retrieval.table import FEATURES, VECTORS, Broken, Changes, stamp_of


@dataclass
class Encoded:
    """A batch of encoded photos.

    Attributes:
        photos: Names and stamps of the n photos that can be read.
        vectors: `[n, 3 * D]` float32, each unit's block of length 1.
        features: `[n, C]` float32, their representations.
        broken: The photos that cannot be read.
    """

    photos: list[tuple[str, FileStamp]]
    vectors: np.ndarray
    features: np.ndarray
    broken: dict[str, Broken]


def find_photos(folder_or_paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """List the photos of a folder and its subfolders, sorted; or the given paths, each once.

    Raises:
        UserError: the folder does not exist or contains no photo, or one of the paths is none.
    """
    if not isinstance(folder_or_paths, str | Path):
        try:
            return list(dict.fromkeys(map(Path, folder_or_paths)))
        except TypeError as error:
            raise UserError(f"photos are a folder, or a list of paths, and not {folder_or_paths!r:.60}") from error
    photos = list_images(folder_or_paths)
    if not photos:
        raise UserError(f"no photo in {folder_or_paths}; photos end in {' '.join(sorted(image_suffixes()))}")
    return photos


def encode_photos(embedder: PhotoEmbedder, names: Sequence[str], batch_size: int) -> Iterator[Encoded]:
    """Encode photos batch by batch, in their order, while threads decode the next ones."""
    with closing(map_in_threads(lambda name: _decode(embedder, name), names)) as decoded:
        for start in range(0, len(names), batch_size):
            batch = names[start : start + batch_size]
            yield _encode(embedder, list(zip(batch, islice(decoded, len(batch)), strict=True)))


def unit_rows(vectors: Tensor, names: Sequence[str | Path]) -> np.ndarray:
    """Normalise each unit of `[N, 3, D]`, and put the units of a photo side by side, `[N, 3 * D]`.

    Raises:
        UserError: the vector of a photo is not finite.
    """
    rows = functional.normalize(vectors.detach().float(), dim=-1).flatten(1).cpu().numpy()
    if len(broken := np.flatnonzero(~np.isfinite(rows).all(axis=1))):
        raise UserError(f"the vector of {names[broken[0]]} is not finite; the model that made it has diverged")
    return rows


def encode_into(
    index: Rows, embedder: PhotoEmbedder, names: Sequence[str], all_names: Sequence[str], batch_size: int
) -> Changes:
    """Encode photos into an index, and report those of `all_names` that cannot be read.

    Raises:
        UserError: none of `all_names` can be read.
    """
    table, before, done = index.table, set(index.table.row_of), 0
    for batch in encode_photos(embedder, names, batch_size):
        append_batch(index, batch)
        done += len(batch.photos) + len(batch.broken)
        report("embedding", done, len(names))
    skipped = [(Path(name), table.broken[name][1]) for name in all_names if name in table.broken]
    if skipped and len(skipped) == len(all_names):
        raise unreadable_error(dict(skipped))
    readable = [name for name in names if name in table.row_of]
    return Changes(
        added=[Path(name) for name in readable if name not in before],
        changed=[Path(name) for name in readable if name in before],
        skipped=skipped,
    )


def append_batch(index: Rows, batch: Encoded) -> None:
    """Append a batch to an index; former rows of its photos are deleted.

    Raises:
        UserError: the width of its vectors is not the index's.
    """
    arrays, about = {}, index.about
    if batch.photos:
        width, needed = (rows.shape[1] // len(UNITS) for rows in (batch.vectors, index.table.vectors))
        if index.table.rows and width != needed:
            raise UserError(f"the index holds vectors of width {needed}, not {width}")
        arrays = {VECTORS: batch.vectors} | ({FEATURES: batch.features} if about.trunk is not None else {})
    index.append(batch.photos, (about.model, about.stage), arrays, batch.broken)


def _decode(embedder: PhotoEmbedder, name: str) -> tuple[FileStamp, np.ndarray | str]:
    """A photo's stamp, and its pixels or the reason why it cannot be read."""
    stamp = stamp_of(name)  # before the content: the next update then sees a change in between
    return stamp, try_decode(Path(name), embedder.decode)


def _encode(embedder: PhotoEmbedder, decoded: list[tuple[str, tuple[FileStamp, np.ndarray | str]]]) -> Encoded:
    broken = {name: (stamp, pixels) for name, (stamp, pixels) in decoded if isinstance(pixels, str)}
    readable = [(name, stamp, pixels) for name, (stamp, pixels) in decoded if not isinstance(pixels, str)]
    photos = [(name, stamp) for name, stamp, _ in readable]
    if not photos:
        empty = np.zeros((0, 0), np.float32)
        return Encoded([], empty, empty, broken)
    representation = embedder.represent_images([pixels for _, _, pixels in readable])  # [n, C]
    rows = unit_rows(embedder.vectors_of(representation), [name for name, _ in photos])  # [n, 3 * D]
    return Encoded(photos, rows, representation.float().cpu().numpy(), broken)
