"""An index of photos that answers queries with any wildcards, and is kept up to date with its photos and its model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np

from tripletcl.data.facts import UNITS, Fact, Query, as_query
from tripletcl.data.images import map_in_threads
from tripletcl.data.metadata import Metadata, read_metadata
from tripletcl.errors import UserError, check_count
from tripletcl.files import FileStamp
from tripletcl.retrieval.answering import answer
from tripletcl.retrieval.database import About, check_precision
from tripletcl.retrieval.details import NO_TIME, PhotoDetails
from tripletcl.retrieval.exact_search import ScoredRows
from tripletcl.retrieval.filters import Filter
from tripletcl.retrieval.model import Embedder, PhotoEmbedder, TaughtEmbedder
from tripletcl.retrieval.photos import Encoded, append_batch, encode_into, find_photos, read_details, unit_rows
from tripletcl.retrieval.precision import Precision
from tripletcl.retrieval.request import Request, parse_request, query_vectors
from tripletcl.retrieval.rows import AUTO, Rows
from tripletcl.retrieval.searched import Hit
from tripletcl.retrieval.store import open_writer
from tripletcl.retrieval.stores.address import open_store
from tripletcl.retrieval.stores.protocol import PhotoTable, RowFunction, RowStore
from tripletcl.retrieval.structures import KINDS
from tripletcl.retrieval.table import (
    FEATURES,
    UNKNOWN,
    VECTORS,
    Broken,
    Changes,
    Paths,
    changed_photos,
    is_missing,
    photos_below,
    stamp_of,
)

if TYPE_CHECKING:
    from torch import Tensor


Asked = str | Query | Fact | Path | Request
"""What photos are asked for."""


class FactIndex:
    """Photos by their three unit vectors.

    A row is a photo's L2-normalised subject, predicate and object vectors side by side, `[3 * D]`; a query is the same
    with a zero block for each wildcard. Their inner product is the sum of the cosines of the units asked for, so one
    index answers every pattern.

    A flat index compares a query with every photo. A structure ("hnsw", "ivfpq") proposes candidates among those it
    covers; photos added since are searched exactly, and every score is computed from the stored vectors. Rows keep
    their number until `settle` drops those of removed photos.

    The index is in memory, or a copy of one on disk (`load`); `writing` gives one whose changes go to disk.

    Args:
        embedder: Encodes photos and queries; without it the index takes vectors only.
        kind: "flat", "hnsw", "ivfpq", or "auto": by size.
        stage: The embedder's stage, where it belongs to a run.
        keep_features: Keep each photo's representation, from which `refresh` computes the vectors of a later stage
            without reading a photo; by default where the embedder's trunk is frozen.
        precision: Of the stored vectors and features, "float32", or "float16" in half the bytes.

    Raises:
        UserError: there is no such kind, or precision.
    """

    def __init__(
        self,
        embedder: Embedder | None = None,
        kind: str = AUTO,
        *,
        stage: int | None = None,
        keep_features: bool | None = None,
        precision: Precision = "float32",
    ) -> None:
        check_precision(precision)
        _check_embedder(embedder)
        self.embedder = embedder
        model = None if embedder is None else embedder.fingerprint()
        about = _new_about(embedder, model, kind, stage, keep_features)
        self._rows: RowStore = Rows(replace(about, precision=precision))
        self._unread: set[str] = set()  # photos whose files nobody has asked about

    @classmethod
    def build(
        cls,
        embedder: PhotoEmbedder,
        folder_or_paths: str | Path | Iterable[str | Path],
        *,
        kind: str = AUTO,
        batch_size: int = 64,
    ) -> FactIndex:
        """Index the photos of a folder and its subfolders, or the given ones; see `add_photos`."""
        index = cls(embedder, kind)
        index.add_photos(folder_or_paths, batch_size=batch_size)
        index.settle()
        return index

    # --- contents ----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return self._table.living

    @property
    def _table(self) -> PhotoTable:
        return self._rows.table

    @property
    def width(self) -> int:
        """D, 0 before the first photo."""
        return self._table.width // len(UNITS)

    @property
    def paths(self) -> Sequence[Path]:
        """The photo of each row; `Path()` where it was removed."""
        return Paths(self._table.names)

    @property
    def photos(self) -> list[Path]:
        """All photos, in the order of their rows."""
        return [Path(name) for name in self._table.names if name]

    def row(self, path: str | Path) -> int | None:
        """The row of a photo; None where the index does not hold it."""
        return self._table.row_of(str(path))

    @property
    def deleted(self) -> np.ndarray:
        """`[rows]` bool, True where the photo was removed."""
        return ~self._rows.kept(None)

    @property
    def features(self) -> np.ndarray | None:
        """`[rows, C]` in `precision`, the representation of each row's photo; None where they are not kept."""
        return self._table.features

    @property
    def model(self) -> str | None:
        """The fingerprint of the model whose vectors these are; None where it is unknown."""
        return self._rows.about.model

    @property
    def stage(self) -> int | None:
        """That model's stage, where it belongs to a run."""
        return self._rows.about.stage

    @property
    def trunk(self) -> str | None:
        """The fingerprint of the trunk that computed the features; None where none are kept."""
        return self._rows.about.trunk

    @property
    def kind(self) -> str:
        """The actual kind: "flat", "hnsw" or "ivfpq"."""
        return self._rows.about.kind

    @property
    def precision(self) -> str:
        """The precision of the stored vectors and features: "float32" or "float16"."""
        return self._rows.about.precision

    @property
    def why(self) -> str:
        """The reason for this kind, in a sentence."""
        return self._rows.about.why

    @property
    def skipped(self) -> list[tuple[Path, str]]:
        """The photos that cannot be read, with the reason; they are tried again when their file has changed."""
        return [(Path(name), reason) for name, (_, reason) in sorted(self._table.broken.items())]

    def rows(self, numbers: Sequence[int] | np.ndarray | slice = slice(None)) -> np.ndarray:
        """The vectors of some rows, `[n, 3 * D]` float32; of all by default."""
        return self._table.read(numbers)

    # --- queries -----------------------------------------------------------------------------------------------------

    @overload
    def search(  # type: ignore[overload-overlap]
        self, query: Asked, k: int = 10, where: Filter | None = None
    ) -> list[Hit]: ...

    @overload
    def search(self, query: Sequence[Asked], k: int = 10, where: Filter | None = None) -> list[list[Hit]]: ...

    def search(
        self, query: Asked | Sequence[Asked], k: int = 10, where: Filter | None = None
    ) -> list[Hit] | list[list[Hit]]:
        """Find the k photos that fit best: by the sum of the cosines of the units asked for.

        Args:
            query: English, or units (`parse_request`): "a dog running in the snow", "dog, running, ?"; a `Query`, a
                `Fact` (the units it lacks are wildcards), or the `Path` of a photo, of which all three units are asked
                for; or a list of them, searched together. A list of strings is a list of queries, not of units. Several
                terms are ranked as `answer` does without a calibration.
            k: More than the index holds returns all.
            where: Only photos that meet it are searched.

        Returns:
            Hits, best first, ties by path; for a list of queries a list of them each.

        Raises:
            UserError: k is not positive, the query cannot be read or is none, no photo meets the filter, or the index
                has no embedder.
        """
        if isinstance(query, Asked):
            return self.search([query], k, where)[0]
        if not isinstance(query, Sequence):
            as_query(query)  # the error of what is no query
        asked = [self._read(each) for each in query]
        terms = [each for each in asked if not isinstance(each, Request)]
        found = iter(self.search_vectors(self._vectors_of(terms), k, where))
        return [answer(self, each, k, where=where) if isinstance(each, Request) else next(found) for each in asked]

    def _read(self, query: Asked) -> Query | Path | Request:
        """A query, a photo, or a request of several terms or of some days."""
        if isinstance(query, str):
            model = self._model("queries")
            query = parse_request(query, model.known_facts if isinstance(model, TaughtEmbedder) else ())
            if len(query.terms) == 1 and not query.where:
                return query.terms[0].wanted
        return query if isinstance(query, Path | Request) else as_query(query)

    def _vectors_of(self, asked: Sequence[Query | Path]) -> np.ndarray:
        """`[Q, 3 * D]` of queries and photos."""
        photos = [each for each in asked if isinstance(each, Path)]
        words = [each for each in asked if not isinstance(each, Path)]
        by_words = iter(query_vectors(words, self._model("queries")))
        by_photos = iter(self._rows_of_files(photos) if photos else ())
        rows = [next(by_photos if isinstance(each, Path) else by_words) for each in asked]
        return np.stack(rows) if rows else np.zeros((0, self._table.width))

    def search_vectors(self, vectors: np.ndarray, k: int = 10, where: Filter | None = None) -> list[list[Hit]]:
        """`search` for vectors `[Q, 3 * D]` of `query_vectors`: each unit's block of length 1, or zero."""
        return [
            [Hit(self.paths[row], score) for score, row in zip(scores.tolist(), rows.tolist(), strict=True)]
            for scores, rows in self.search_rows(vectors, k, where)
        ]

    def search_rows(self, vectors: np.ndarray, k: int = 10, where: Filter | None = None) -> list[ScoredRows]:
        """`search_vectors`, but scores (float32) and row numbers, `[k]` each, for each query.

        Raises:
            UserError: k is not positive, no photo meets the filter, or the width is not the index's.
        """
        k = check_count("k", k)
        try:
            vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        except (TypeError, ValueError) as error:
            raise UserError(f"query vectors are an array [Q, 3 * D] of numbers: {error}") from error
        if not len(self) or not len(vectors):
            return [(np.zeros(0, np.float32), np.zeros(0, np.int64)) for _ in vectors]
        width = self._table.width
        if vectors.ndim != 2 or vectors.shape[1] != width:
            raise UserError(f"the index needs query vectors [Q, {width}], not {list(vectors.shape)}")
        if not np.isfinite(vectors).all():
            raise UserError("a query's vector is not finite, so it cannot be searched")
        self._check_filter(where)
        return self._rows.search(vectors, k, where)

    def kept(self, where: Filter | None) -> np.ndarray:
        """The rows whose photos meet a filter, `[rows]` bool; False where the photo was removed.

        Raises:
            UserError: no photo meets it.
        """
        self._check_filter(where)
        return self._rows.kept(where)

    def _check_filter(self, where: Filter | None) -> None:
        if not isinstance(where, Filter | None):
            raise UserError(f"a filter is a Filter, as Filter.parse(after='2019') makes it, not {type(where).__name__}")
        if where:
            self._read_added()

    def newest(self, where: Filter | None = None) -> np.ndarray:
        """The rows of the photos that meet a filter, the latest date first.

        Raises:
            UserError: no photo meets it.
        """
        self._read_added()
        rows = np.flatnonzero(self.kept(where))
        taken, modified = self._table.column("taken")[rows], self._table.column("mtime_ns")[rows] // 10**9
        return rows[np.argsort(-np.where(taken == NO_TIME, modified, taken), kind="stable")]

    def details(self, paths: Iterable[str | Path]) -> list[PhotoDetails]:
        """Look up photos: their dates, camera, size, place.

        Raises:
            UserError: a path is no photo of the index.
        """
        paths = list(paths)
        rows = self._table.find([str(path) for path in paths]).tolist() if paths else []
        for path, row in zip(paths, rows, strict=True):
            if row < 0:
                raise UserError(f"{path} is not in the index")
        self._read_added(paths)
        return self._table.details(rows)

    # --- photos ------------------------------------------------------------------------------------------------------

    def add_photos(self, folder_or_paths: str | Path | Iterable[str | Path], *, batch_size: int = 64) -> Changes:
        """Encode and add the photos that are new, and again those whose file has changed.

        Photos that cannot be read go to `skipped`, and are tried again when their file has changed.

        Args:
            folder_or_paths: A folder, searched with its subfolders, or photos.
            batch_size: Photos encoded and, on disk, committed at a time.

        Raises:
            UserError: there is no photo, none of the new photos can be read, or the model has changed.
        """
        names = [str(path) for path in find_photos(folder_or_paths)]
        return self._encode(changed_photos(self._table, names), names, batch_size)

    def update(self, paths: Iterable[str | Path], *, batch_size: int = 64) -> Changes:
        """Encode photos of the index again, whether their file has changed or not.

        Raises:
            UserError: a photo is not in the index.
        """
        names = [self._table.names[row] for row in self._rows_of(paths)]
        return self._encode(names, names, batch_size)

    def sync(self, folder: str | Path, *, batch_size: int = 64, listed: Sequence[Path] | None = None) -> Changes:
        """Make the index agree with a folder and its subfolders.

        New photos are added, those whose file has another size or time of modification are encoded again, and those
        whose file is missing are removed. Photos in a subfolder that cannot be read stay, and so do those of other
        folders.

        Args:
            folder: Written as before: paths are compared as text.
            batch_size: Photos encoded and, on disk, committed at a time.
            listed: The folder's photos, where somebody has just listed them.

        Raises:
            UserError: there is no photo (a drive that is not mounted empties no index), none can be read, or another
                model made the index.
        """
        if is_missing(folder) and (left := photos_below(self._table, Path(folder))):
            raise UserError(
                f"the image folder {folder} does not exist, and the index holds {len(left):,} photos of it; if it was "
                f"moved, `tripletcl index remove RUN {folder}` removes them"
            )
        names = list(map(str, find_photos(folder) if listed is None else listed))
        known = set(names)
        others = [name for name in photos_below(self._table, Path(folder)) if name not in known]
        missing = [name for name in others if is_missing(name)]
        names += [name for name in others if stamp_of(name) != UNKNOWN]  # added by their path
        changes = self._encode(changed_photos(self._table, names), names, batch_size)
        rows = [row for name in missing if (row := self._table.row_of(name)) is not None]
        removed = [self.paths[row] for row in rows]
        self._rows.remove(rows, [name for name in missing if name in self._table.broken])
        self.settle()
        return replace(changes, removed=removed)

    def agrees_with(self, folder: str | Path, *, listed: Sequence[Path] | None = None) -> bool:
        """True if `sync` would change nothing; no photo is decoded, and no model is needed.

        Args:
            folder: The folder.
            listed: Its photos, where somebody has just listed them.

        Raises:
            UserError: there is no photo in the folder.
        """
        names = list(map(str, find_photos(folder) if listed is None else listed))
        gone = set(photos_below(self._table, Path(folder))).difference(names)
        return not changed_photos(self._table, names) and not any(map(is_missing, gone))

    def _encode(self, names: list[str], all_names: list[str], batch_size: int) -> Changes:
        embedder = self._photo_model()
        _check_model(self.model, embedder.fingerprint())
        changes = encode_into(self._rows, embedder, names, all_names, check_count("batch_size", batch_size))
        read_details(self._rows, all_names)
        return changes

    def add(self, paths: Sequence[str | Path], vectors: Tensor | np.ndarray) -> None:
        """Add photos by their vectors.

        Args:
            paths: `[N]`.
            vectors: `[N, 3, D]`; they are normalised.

        Raises:
            UserError: a photo is in the index already, the width differs, a vector is not finite, or the index keeps
                features.
        """
        names = [str(Path(path)) for path in paths]
        if vectors.ndim != 3 or vectors.shape[:2] != (len(names), len(UNITS)):
            raise ValueError(f"{len(names)} photos need vectors [{len(names)}, 3, D], not {list(vectors.shape)}")
        known: set[str] = set()
        for name, row in zip(names, self._table.find(names).tolist(), strict=True):
            if row >= 0 or name in known:
                raise UserError(f"{name} is in the index already; a photo may be added once")
            known.add(name)
        self._append_vectors([(name, stamp_of(name)) for name in names], vectors, {})

    def add_encoded(
        self, photos: Sequence[tuple[str, FileStamp]], vectors: Tensor | np.ndarray, broken: Mapping[str, Broken]
    ) -> Changes:
        """Add photos that were read and encoded elsewhere.

        Those that the index has with the same stamp are passed over, and those with another one are replaced.

        Args:
            photos: Names and stamps of the n photos that could be read.
            vectors: `[n, 3, D]`; they are normalised.
            broken: The photos that could not be read.

        Raises:
            UserError: as `add` does.
        """
        table, names = self._table, [name for name, _ in photos]
        before = {name for name, row in zip(names, table.find(names).tolist(), strict=True) if row >= 0}
        stamps = table.stamps_of(names)
        new = [n for n, (name, stamp) in enumerate(photos) if name not in before or stamps[n] != stamp]
        of_broken = zip(broken.items(), table.stamps_of(list(broken)), strict=True)
        others = {name: each for (name, each), stamp in of_broken if stamp != each[0]}
        photos = [photos[n] for n in new]
        if photos or others:
            self._append_vectors(photos, vectors[new], others)
        return Changes(
            added=[Path(name) for name, _ in photos if name not in before],
            changed=[Path(name) for name, _ in photos if name in before],
            skipped=[(Path(name), reason) for name, (_, reason) in broken.items()],
        )

    def _append_vectors(
        self, photos: Sequence[tuple[str, FileStamp]], vectors: Tensor | np.ndarray, broken: Mapping[str, Broken]
    ) -> None:
        rows = unit_rows(vectors, [name for name, _ in photos])
        if self.trunk is not None and self._table.rows:
            raise UserError("this index keeps each photo's features, so it takes photos (`add_photos`), not vectors")
        self._rows.describe(replace(self._rows.about, trunk=None))
        files = [name for name, _ in photos if stamp_of(name) != UNKNOWN]
        if isinstance(self._rows, Rows) and self._rows.writer is None:  # in memory
            said: dict[str, Metadata | None] = dict.fromkeys(files)
            self._unread.update(files)
        else:
            said = dict(zip(files, map_in_threads(read_metadata, files), strict=True))
        metadata = [said.get(name, Metadata()) for name, _ in photos]
        append_batch(self._rows, Encoded(list(photos), rows, rows[:, :0], dict(broken), metadata))

    def _read_added(self, paths: Iterable[str | Path] | None = None) -> None:
        """Read the files of photos that were added by their vectors: now somebody asks for the details of these."""
        names = self._unread if paths is None else self._unread.intersection(map(str, paths))
        if names:
            self._unread = self._unread - names
            read_details(self._rows, sorted(names))

    def missing(self, synced: Path | None = None) -> list[Path]:
        """List the photos whose file is missing; of a folder that was just synced there is none, so it is not read."""
        return [path for path in self.photos if not (synced and path.is_relative_to(synced)) and is_missing(path)]

    def remove(self, paths: Iterable[str | Path]) -> list[Path]:
        """Remove photos, or all photos below a folder, and return them.

        Raises:
            UserError: a path is no photo of the index, and none is below it.
        """
        rows = self._rows_of(paths)
        removed = [self.paths[row] for row in rows]
        self._rows.remove(rows)
        return removed

    def _rows_of(self, paths: Iterable[str | Path]) -> list[int]:
        """The rows of photos, and of those below folders."""
        rows: dict[int, None] = {}
        for path in map(Path, paths):
            row = self._table.row_of(str(path))
            names = enumerate(self._table.names)
            below = (row for row, name in names if name and Path(name).is_relative_to(path))
            rows_of_path = dict.fromkeys(below if row is None else [row])
            if not rows_of_path:
                raise UserError(f"{path} is not in the index, nor any photo below it")
            rows |= rows_of_path
        return list(rows)

    # --- another model -----------------------------------------------------------------------------------------------

    def replace_vectors(
        self,
        function: Callable[[np.ndarray], Tensor | np.ndarray],
        *,
        model: str | None,
        stage: int | None = None,
        trunk: str | None = None,
    ) -> None:
        """Replace the vectors of all photos by those of another model; on disk atomically.

        An embedder of another model is dropped.

        Args:
            function: From a block of the present vectors, `[n, 3, D]`, to as many new ones; the result is normalised.
                In a folder it is called in the order of rows, and those of removed photos count: their vectors may be
                anything finite.
            model: The fingerprint of the model whose vectors they are, or stand for.
            stage: That model's stage.
            trunk: The fingerprint of that model's trunk; features of another one are dropped.

        Raises:
            UserError: there are not as many vectors as rows, or one is not finite.
        """
        kept = [FEATURES] if trunk is not None and trunk == self.trunk else []
        about = replace(self._rows.about, model=model, stage=stage, trunk=trunk if kept else None)
        compute = _row_function(lambda block: function(block.reshape(len(block), len(UNITS), -1)))
        self._rows.recompute(about, VECTORS, compute, kept)
        if self.embedder is not None and self.embedder.fingerprint() != model:
            self.embedder = None

    def refresh(self, embedder: PhotoEmbedder, *, stage: int | None = None) -> None:
        """Recompute every vector from the kept features, for a model with another readout on the same trunk.

        That is exact, and no photo is read; on disk it is atomic.

        Raises:
            UserError: no features are kept, or they are of another trunk.
        """
        import torch

        model, trunk, features = embedder.fingerprint(), embedder.trunk_fingerprint(), self.features
        if features is None and len(self):
            raise UserError("this index keeps no features: its photos have to be encoded again, or its vectors mapped")
        if features is not None and trunk != self.trunk:
            raise UserError(f"the features of this index are of trunk {self.trunk}, and the model's is {trunk}")
        about = replace(self._rows.about, model=model, stage=stage, trunk=trunk if self.trunk else None)
        compute = _row_function(lambda block: embedder.vectors_of(torch.from_numpy(block.copy())))
        self._rows.recompute(about, FEATURES, compute, [FEATURES])
        self.embedder = embedder

    def store_as(self, precision: Precision) -> None:
        """Store the vectors, and the features that are kept, in another precision; on disk atomically.

        Raises:
            UserError: there is no such precision.
        """
        check_precision(precision)
        if precision != self.precision:
            self._rows.store_as(precision)

    def settle(self) -> None:
        """Drop the rows of removed photos, choose the kind and build its structure, each where enough has changed.

        `build`, `sync`, `save` and the end of `writing` call it. Without it searches are correct, but slower.
        """
        self._rows.settle()

    # --- on disk -----------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write the index into a folder, atomically; an index in it is replaced.

        Raises:
            UserError: the disk is full, the folder is not writable, or another process writes the index.
        """
        self._read_added()
        self.settle()
        with open_writer(Path(folder)) as writer:
            self._rows.write_to(writer)

    @classmethod
    def load(cls, place: str | Path, embedder: Embedder | None = None) -> FactIndex:
        """Load a copy of an index; its vectors stay on disk, those in a folder mapped into memory.

        Later changes on disk do not reach it, and changes in it reach the disk only by `save`.

        Args:
            place: The folder of `save` or `writing`, or the address of a store (`stores.address.open_store`).
            embedder: Encodes queries and new photos; it must be the model that made the index.

        Raises:
            UserError: there is no index, it is damaged or has another format, or another model made it.
        """
        with open_store(place).read() as rows:
            return cls._open(place, rows, embedder)

    @classmethod
    def _open(cls, place: str | Path, rows: RowStore, embedder: Embedder | None) -> FactIndex:
        """The index with some rows, and the model that made it."""
        _check_embedder(embedder)
        if embedder is not None:
            model = embedder.fingerprint()  # once: it may read every weight
            if rows.table.rows:
                _check_model(rows.about.model, model, place)
            rows.about = replace(rows.about, model=model)
        index = cls()
        index.embedder, index._rows = embedder, rows
        return index

    def _rows_of_files(self, photos: Sequence[Path]) -> np.ndarray:
        """The vectors of photos that need not be in the index, `[n, 3 * D]`."""
        embedder = self._photo_model()
        return unit_rows(embedder.vectors_of(embedder.represent_images(list(map(embedder.decode, photos)))), photos)

    def _photo_model(self) -> PhotoEmbedder:
        embedder = self._model("photos")
        if not isinstance(embedder, PhotoEmbedder):
            raise UserError(
                f"a {type(embedder).__name__} encodes no photos: load the index with FactEmbedder.from_pretrained(RUN)"
            )
        return embedder

    def _model(self, purpose: str) -> Embedder:
        if self.embedder is None:
            raise UserError(
                f"this index was opened without a model and cannot encode {purpose}; load it with embedder="
            )
        return self.embedder


def _check_embedder(embedder: object) -> None:
    if not isinstance(embedder, Embedder | None):
        raise UserError(
            f"an embedder encodes texts, as FactEmbedder.from_pretrained(RUN) does, not {type(embedder).__name__}"
        )


@contextmanager
def writing(
    place: str | Path,
    embedder: Embedder | None = None,
    *,
    stage: int | None = None,
    kind: str | None = None,
    keep_features: bool | None = None,
    precision: Precision | None = None,
) -> Iterator[FactIndex]:
    """Open an index on disk for changes: each is committed when its method returns, photos batch by batch.

    Other writers of a folder are locked out within the block, and of a store refused when both change the same; readers
    see the last commit. The block may end in any way, `kill -9` included: what was committed stays.

    Args:
        place: An index, or where to create one: a folder, or the address of a store (`stores.address.open_store`).
        embedder: The model that made it; None to read it, to remove photos, or to change the model.
        stage: The embedder's stage, where it belongs to a run.
        kind: As for `FactIndex`; None keeps the present one.
        keep_features: As for `FactIndex`; used while the index is empty.
        precision: As for `FactIndex`; the vectors of an index of another one are rounded. None keeps the present one.

    Raises:
        UserError: another process writes it, another model made it, it is damaged or has another format, or the folder
            is not writable.
    """
    _check_kind(AUTO if kind is None else kind)
    check_precision(precision or "float32")
    with open_store(place).write() as rows:
        about, is_empty = rows.about, not rows.table.rows
        index = FactIndex._open(place, rows, embedder)
        if embedder is not None and is_empty:
            about = replace(_new_about(embedder, index.model, AUTO, stage, keep_features), precision=about.precision)
        stage, kind = about.stage if stage is None else stage, about.asked if kind is None else kind
        rows.describe(replace(about, stage=stage, asked=kind))
        if precision is not None:
            index.store_as(precision)
        yield index
        index.settle()


def _row_function(function: Callable[[np.ndarray], Tensor | np.ndarray]) -> RowFunction:
    """Turn vectors `[n, 3, D]` that a function computes into rows `[n, 3 * D]`, and check them."""

    def compute(block: np.ndarray, names: Sequence[str]) -> np.ndarray:
        vectors = function(block)
        if len(vectors) != len(names):
            raise UserError(f"a block of {len(names)} vectors became {len(vectors)}; each photo needs one")
        return unit_rows(vectors, [name or "a removed photo" for name in names])

    return compute


def _new_about(
    embedder: Embedder | None, model: str | None, kind: str, stage: int | None, keep_features: bool | None
) -> About:
    """The description of an empty index; `model` is the embedder's fingerprint."""
    _check_kind(kind)
    keep, trunk = keep_features, None
    if isinstance(embedder, PhotoEmbedder) and (embedder.trunk_is_frozen if keep is None else keep):
        trunk = embedder.trunk_fingerprint()
    return About(model=model, stage=stage, trunk=trunk, asked=kind)


def _check_kind(kind: str) -> None:
    if kind not in (AUTO, *KINDS):
        raise UserError(f"there is no index of kind {kind!r}; allowed are {', '.join((AUTO, *KINDS))}")


def _check_model(made_by: str | None, model: str, place: str | Path | None = None) -> None:
    """Vectors of two models are not comparable."""
    if model != made_by:
        where = f" in {place}" if place else ""
        raise UserError(
            f"the index{where} was made by model {made_by or 'unknown'}, not by {model}; bring it to that model with "
            "`tripletcl index upgrade`, or build it again"
        )
