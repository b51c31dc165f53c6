"""From photos to the rows of an index; photos that cannot be read are recorded with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tripletcl.data.facts import UNITS
from tripletcl.data.images import image_suffixes, list_images, map_in_threads, try_decode, unreadable_error
from tripletcl.data.metadata import Metadata, read_metadata
from tripletcl.errors import UserError
from tripletcl.files import FileStamp
from tripletcl.progress import report
from tripletcl.retrieval.model import PhotoEmbedder
from tripletcl.retrieval.stores.protocol import RowStore
from tripletcl.retrieval.table import FEATURES, VECTORS, Broken, Changes, blocks, stamp_of

if TYPE_CHECKING:
    from torch import Tensor

DETAILS_BLOCK = 50_000
"""Photos whose missing details are read before they are written."""


@dataclass
class Encoded:
    """A batch of encoded photos.

    Attributes:
        photos: Names and stamps of the n photos that can be read.
        vectors: `[n, 3 * D]` float32, each unit's block of length 1.
        features: `[n, C]` float32, their representations.
        broken: The photos that cannot be read.
        metadata: What the files of the n photos say about them.
    """

    photos: list[tuple[str, FileStamp]]
    vectors: np.ndarray
    features: np.ndarray
    broken: dict[str, Broken]
    metadata: Sequence[Metadata | None]


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
            yield _encode(embedder, list(islice(decoded, len(batch))))


def unit_rows(vectors: Tensor | np.ndarray, names: Sequence[str | Path]) -> np.ndarray:
    """Normalise each unit of `[N, 3, D]`, and put the units of a photo side by side, `[N, 3 * D]`.

    Raises:
        UserError: the vector of a photo is not finite.
    """
    import torch  # loaded late: an index is searched without it
    from torch.nn import functional

    if isinstance(vectors, np.ndarray):
        vectors = np.require(vectors, requirements="W")  # torch warns of those that are read-only
    rows = functional.normalize(torch.as_tensor(vectors).detach().float(), dim=-1).flatten(1).cpu().numpy()
    if len(broken := np.flatnonzero(~np.isfinite(rows).all(axis=1))):
        raise UserError(f"the vector of {names[broken[0]]} is not finite; the model that made it has diverged")
    return rows


def encode_into(
    index: RowStore, embedder: PhotoEmbedder, names: Sequence[str], all_names: Sequence[str], batch_size: int
) -> Changes:
    """Encode photos into an index, and report those of `all_names` that cannot be read.

    Raises:
        UserError: none of `all_names` can be read.
    """
    done, known = 0, index.table.find(names).tolist()
    before = {name for name, row in zip(names, known, strict=True) if row >= 0}
    for batch in encode_photos(embedder, names, batch_size):
        append_batch(index, batch)
        done += len(batch.photos) + len(batch.broken)
        report("embedding", done, len(names))
    table = index.table  # a store's is another one after each change
    skipped = [(Path(name), table.broken[name][1]) for name in all_names if name in table.broken]
    if skipped and len(skipped) == len(all_names):
        raise unreadable_error(dict(skipped))
    readable = [name for name, row in zip(names, table.find(names).tolist(), strict=True) if row >= 0]
    return Changes(
        added=[Path(name) for name in readable if name not in before],
        changed=[Path(name) for name in readable if name in before],
        skipped=skipped,
    )


def append_batch(index: RowStore, batch: Encoded) -> None:
    """Append a batch to an index; former rows of its photos are deleted.

    Raises:
        UserError: the width of its vectors is not the index's.
    """
    arrays, about = {}, index.about
    if batch.photos:
        width, needed = (each // len(UNITS) for each in (batch.vectors.shape[1], index.table.width))
        if index.table.rows and width != needed:
            raise UserError(f"the index holds vectors of width {needed}, not {width}")
        arrays = {VECTORS: batch.vectors}
        if about.trunk is not None:
            arrays[FEATURES] = batch.features
    index.append(batch.photos, batch.metadata, arrays, batch.broken)


def read_details(index: RowStore, names: Sequence[str]) -> None:
    """Read the details of those photos of an index whose file was not read for them, without encoding them again."""
    table = index.table
    rows = table.find(names)
    unread = table.unread(rows[rows >= 0].tolist())
    for block in blocks(len(unread), DETAILS_BLOCK):
        found = list(map_in_threads(read_metadata, [index.table.names[row] for row in unread[block]]))
        index.set_details(unread[block], found)
        report("reading dates and places", block.stop, len(unread))


@dataclass
class _Decoded:
    """A photo: its pixels, or the reason why it cannot be read."""

    name: str
    stamp: FileStamp
    metadata: Metadata
    pixels: np.ndarray | str


def _decode(embedder: PhotoEmbedder, name: str) -> _Decoded:
    stamp = stamp_of(name)  # before the content: the next update then sees a change in between
    pixels = try_decode(Path(name), embedder.decode)
    return _Decoded(name, stamp, Metadata() if isinstance(pixels, str) else read_metadata(name), pixels)


def _encode(embedder: PhotoEmbedder, decoded: list[_Decoded]) -> Encoded:
    broken = {each.name: (each.stamp, each.pixels) for each in decoded if isinstance(each.pixels, str)}
    readable = [each for each in decoded if not isinstance(each.pixels, str)]
    photos = [(each.name, each.stamp) for each in readable]
    if not photos:
        empty = np.zeros((0, 0), np.float32)
        return Encoded([], empty, empty, broken, [])
    representation = embedder.represent_images([each.pixels for each in readable])  # [n, C]
    rows = unit_rows(embedder.vectors_of(representation), [each.name for each in readable])  # [n, 3 * D]
    features = representation.float().cpu().numpy()
    return Encoded(photos, rows, features, broken, [each.metadata for each in readable])
