"""An index of photos that answers every wildcard pattern, and follows its photos and its model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
import torch
from torch import Tensor

from tripletcl.data.facts import UNITS, Fact
from tripletcl.data.images import none_readable
from tripletcl.data.query import Query, as_query
from tripletcl.errors import UserError
from tripletcl.progress import report
from tripletcl.retrieval.database import About
from tripletcl.retrieval.exact_search import Found
from tripletcl.retrieval.model import Embedder, PhotoEmbedder
from tripletcl.retrieval.photos import Encoded, encode_photos, find_photos, unit_rows
from tripletcl.retrieval.query import query_vectors
from tripletcl.retrieval.rows import AUTO, Rows
from tripletcl.retrieval.store import Contents, Writer, open_reader, open_writer
from tripletcl.retrieval.structures import KINDS
from tripletcl.retrieval.sync import Changes, plan
from tripletcl.retrieval.table import FEATURES, UNKNOWN, VECTORS, Paths, Stamp, blocks, stamp_of

Vectors = Tensor | np.ndarray | Callable[[np.ndarray], Tensor | np.ndarray]


@dataclass(frozen=True, slots=True)
class Hit:
    """A photo found, and the sum of the cosines of the units asked for."""

    path: Path
    score: float


class FactIndex:
    """Photos by their three unit vectors.

    A photo is its L2-normalised subject, predicate and object vectors side by side, `[3 * D]`; a query is the same
    with a zero block for each wildcard. Their inner product is the sum of the cosines of the units asked for, so one
    index answers every pattern.

    A flat index compares a query with every photo. A structure ("hnsw", "ivfpq") proposes candidates among those it
    covers; photos added since are searched exactly, and every score is computed from the stored vectors. Rows keep
    their number until photos have been removed and `settle` moves the others together.

    This is an index in memory, or a copy of one on disk (`load`); `writing` gives one whose changes are on disk.

    Args:
        embedder: Encodes photos and queries; without it the index takes vectors only.
        kind: "flat", "hnsw", "ivfpq", or "auto": by size.
        stage: The embedder's stage, where it belongs to a run.
        keep_features: Keep each photo's representation, from which `refresh` computes the vectors of a later stage
            without reading a photo; by default where the embedder's trunk stands still.

    Attributes:
        embedder: As given.

    Raises:
        UserError: there is no such kind.
    """

    def __init__(
        self,
        embedder: Embedder | None = None,
        kind: str = AUTO,
        *,
        stage: int | None = None,
        keep_features: bool | None = None,
    ) -> None:
        self.embedder = embedder
        model = None if embedder is None else embedder.fingerprint()
        self._held = Rows(_about(embedder, model, kind, stage, keep_features))

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

    # --- what it holds -----------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._held.table.row_of)

    @property
    def width(self) -> int:
        """D, 0 before the first photo."""
        return self._held.table.vectors.shape[1] // len(UNITS)

    @property
    def paths(self) -> Sequence[Path]:
        """The photo of each row; `Path()` where it was removed."""
        return Paths(self._held.table.names)

    @property
    def photos(self) -> list[Path]:
        """The photos that are there, in the order of their rows."""
        return [Path(name) for name in self._held.table.names if name]

    @property
    def deleted(self) -> np.ndarray:
        """`[rows]` bool: was the photo of this row removed?"""
        return self._held.table.deleted.rows

    @property
    def features(self) -> np.ndarray | None:
        """`[rows, C]` float32, the representation of each row's photo; None where they are not kept."""
        return self._held.table.arrays[FEATURES].rows if FEATURES in self._held.table.arrays else None

    @property
    def model(self) -> str | None:
        """The fingerprint of the model whose vectors these are; None where it is not known."""
        return self._held.about.model

    @property
    def stage(self) -> int | None:
        """That model's stage, where it belongs to a run."""
        return self._held.about.stage

    @property
    def trunk(self) -> str | None:
        """The fingerprint of the trunk that the features came from; None where none are kept."""
        return self._held.about.trunk

    @property
    def kind(self) -> str:
        """What it is: "flat", "hnsw" or "ivfpq"."""
        return self._held.about.kind

    @property
    def why(self) -> str:
        """Why it is of this kind, in a sentence."""
        return self._held.about.why

    @property
    def skipped(self) -> list[tuple[Path, str]]:
        """The photos that could not be read, with the reason; they are tried again when their file has changed."""
        return [(Path(name), reason) for name, (_, reason) in sorted(self._held.table.broken.items())]

    def rows(self, numbers: Sequence[int] | np.ndarray | slice = slice(None)) -> np.ndarray:
        """The vectors of some rows, `[n, 3 * D]` float32; of all by default."""
        return self._held.table.vectors[numbers]

    # --- asking ------------------------------------------------------------------------------------------------------

    @overload
    def search(self, query: str | Query | Fact, k: int = 10) -> list[Hit]: ...  # type: ignore[overload-overlap]

    @overload
    def search(self, query: Sequence[str | Query | Fact], k: int = 10) -> list[list[Hit]]: ...

    def search(
        self, query: str | Query | Fact | Sequence[str | Query | Fact], k: int = 10
    ) -> list[Hit] | list[list[Hit]]:
        """The k photos that show a query best, by the sum of the cosines of the units asked for.

        Args:
            query: A `Query`, a `Fact` (the units it lacks are wildcards) or a string for `parse_query`; or a list of
                them, searched together. A list of strings is a list of queries, not of units.
            k: More than the index holds gives all.

        Returns:
            Hits, best first, ties by path; for a list of queries a list of them each.

        Raises:
            UserError: k is not positive, the query cannot be read, or the index has no embedder.
        """
        if isinstance(query, str | Query | Fact):
            return self.search([query], k)[0]
        vectors = query_vectors([as_query(each) for each in query], self._model("queries"))
        return self.search_vectors(vectors, k)

    def search_vectors(self, vectors: np.ndarray, k: int = 10) -> list[list[Hit]]:
        """`search` for vectors made by `query_vectors`.

        Args:
            vectors: `[Q, 3 * D]`, each unit's block of length 1, or zero for a wildcard.
            k: More than the index holds gives all.

        Raises:
            UserError: k is not positive, or the width is not the index's.
        """
        return [
            [Hit(self.paths[row], score) for score, row in zip(scores.tolist(), rows.tolist(), strict=True)]
            for scores, rows in self.search_rows(vectors, k)
        ]

    def search_rows(self, vectors: np.ndarray, k: int = 10) -> list[Found]:
        """`search_vectors`, but scores (float32) and row numbers, `[k]` each, for each query."""
        if k < 1:
            raise UserError(f"k must be at least 1, not {k}")
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if not len(self) or not len(vectors):
            return [(np.zeros(0, np.float32), np.zeros(0, np.int64)) for _ in vectors]
        if vectors.ndim != 2 or vectors.shape[1] != self._held.table.vectors.shape[1]:
            needed = self._held.table.vectors.shape[1]
            raise UserError(f"the index needs query vectors [Q, {needed}], not {list(vectors.shape)}")
        if not np.isfinite(vectors).all():
            raise UserError("a query's vector is not finite, so it cannot be searched")
        return self._held.search(vectors, k)

    # --- its life ----------------------------------------------------------------------------------------------------

    def add_photos(
        self,
        folder_or_paths: str | Path | Iterable[str | Path],
        *,
        batch_size: int = 64,
    ) -> Changes:
        """Encode and add the photos that are new, and again those whose file has changed.

        Photos that cannot be read go to `skipped`, and are tried again when their file has changed.

        Args:
            folder_or_paths: A folder, searched with its subfolders, or photos.
            batch_size: Photos encoded at a time and, on disk, kept at a time.

        Raises:
            UserError: there is no photo, none of the new photos can be read, or the model has changed.
        """
        names = [str(path) for path in find_photos(folder_or_paths)]
        return self._bring_in(plan(self._held.table, names).encode, names, batch_size)

    def update(self, paths: Iterable[str | Path], *, batch_size: int = 64) -> Changes:
        """Encode photos of the index again, whether their file has changed or not.

        Raises:
            UserError: a photo is not in the index.
        """
        names = [self._held.table.names[row] for row in self._rows_of(paths)]
        return self._bring_in(names, names, batch_size)

    def sync(
        self,
        folder: str | Path,
        *,
        batch_size: int = 64,
    ) -> Changes:
        """Bring the index to what is in a folder and its subfolders.

        New photos are added, those whose file has another size or time of modification are encoded again, and those
        whose file is gone leave. Photos of other folders stay as they are.

        Args:
            folder: As it was given before: paths are compared as they are written.
            batch_size: Photos encoded at a time and, on disk, kept at a time.

        Raises:
            UserError: there is no photo (a drive that is not there empties no index), none can be read, or the model
                is not the index's.
        """
        names = [str(path) for path in find_photos(folder)]
        todo = plan(self._held.table, names, Path(folder))
        changes = self._bring_in(todo.encode, names, batch_size)
        gone = [row for name in todo.gone if (row := self._held.table.row_of.get(name)) is not None]
        removed = [self._held.table.names[row] for row in gone]
        self._held.remove(gone, [name for name in todo.gone if name in self._held.table.broken])
        self.settle()
        return replace(changes, removed=[Path(name) for name in removed])

    def _bring_in(self, encode: list[str], names: list[str], batch_size: int) -> Changes:
        """Encode photos; `names` are those whose readers are told what was skipped."""
        embedder = self._model("photos")
        if not isinstance(embedder, PhotoEmbedder):
            raise TypeError(f"a {type(embedder).__name__} encodes no photos")
        _check_model(self.model, embedder.fingerprint())
        before, done = set(self._held.table.row_of), 0
        for batch in encode_photos(embedder, encode, batch_size):
            self._append(batch)
            done += len(batch.photos) + len(batch.broken)
            report("embedding", done, len(encode))
        skipped = [(Path(name), self._held.table.broken[name][1]) for name in names if name in self._held.table.broken]
        if skipped and len(skipped) == len(names):
            raise none_readable(dict(skipped))
        read = [name for name in encode if name in self._held.table.row_of]
        return Changes(
            added=[Path(name) for name in read if name not in before],
            changed=[Path(name) for name in read if name in before],
            skipped=skipped,
        )

    def _append(self, batch: Encoded) -> None:
        """Add a batch, in the place of the rows that its photos had."""
        arrays = {}
        if batch.photos:
            self._check_width(batch.vectors)
            arrays = {VECTORS: batch.vectors} | ({FEATURES: batch.features} if self.trunk is not None else {})
        self._held.append(batch.photos, (self.model, self.stage), arrays, batch.broken)

    def _check_width(self, rows: np.ndarray) -> None:
        if self._held.table.rows and rows.shape[1] != self._held.table.vectors.shape[1]:
            wrong = rows.shape[1] // len(UNITS)
            raise UserError(f"the index holds vectors of width {self.width}, not {wrong}")

    def add(self, paths: Sequence[str | Path], vectors: Tensor | np.ndarray) -> None:
        """Add photos by their vectors.

        Args:
            paths: `[N]`.
            vectors: `[N, 3, D]`; normalised here where they are not yet.

        Raises:
            UserError: a photo is in the index already, the width is another, a vector is not finite, or the index
                keeps features.
        """
        names = [str(Path(path)) for path in paths]
        vectors = torch.as_tensor(vectors)
        if vectors.ndim != 3 or vectors.shape[:2] != (len(names), len(UNITS)):
            raise ValueError(f"{len(names)} photos need vectors [{len(names)}, 3, D], not {list(vectors.shape)}")
        seen = set(self._held.table.row_of)
        for name in names:
            if name in seen:
                raise UserError(f"{name} is in the index already; a photo may be added once")
            seen.add(name)
        rows = unit_rows(vectors, names)
        self._keep_no_features()
        photos = [(name, _stamp_or_unknown(name)) for name in names]
        self._append(Encoded(photos, rows, rows[:, :0], {}))

    def _keep_no_features(self) -> None:
        if self.trunk is not None and self._held.table.rows:
            raise UserError("this index keeps each photo's features, so it takes photos (`add_photos`), not vectors")
        self._held.describe(replace(self._held.about, trunk=None))

    def remove(self, paths: Iterable[str | Path]) -> list[Path]:
        """Take photos out, or all photos below a folder.

        Returns:
            The photos taken out.

        Raises:
            UserError: a path is no photo of the index, and none lies below it.
        """
        rows = self._rows_of(paths)
        removed = [self.paths[row] for row in rows]
        self._held.remove(rows)
        return removed

    def _rows_of(self, paths: Iterable[str | Path]) -> list[int]:
        """The rows of photos, and of those below folders."""
        rows: dict[int, None] = {}
        for path in map(Path, paths):
            row = self._held.table.row_of.get(str(path))
            below = (at for name, at in self._held.table.row_of.items() if Path(name).is_relative_to(path))
            found = dict.fromkeys(below if row is None else [row])
            if not found:
                raise UserError(f"{path} is not in the index, nor any photo below it")
            rows |= found
        return list(rows)

    def replace_vectors(
        self, vectors: Vectors, *, model: str | None, stage: int | None = None, trunk: str | None = None
    ) -> None:
        """Give every photo another vector: those of another model. On disk whole or not at all.

        `embedder` is then None unless it is of that model; set it to go on.

        Args:
            vectors: `[rows, 3, D]`, or what makes a block of them of a block of the present ones, `[n, 3, D]`, called
                in the order of rows; normalised here. Rows of removed photos count, and may hold anything finite.
            model: The fingerprint of the model whose vectors they are, or pass for.
            stage: That model's stage.
            trunk: The fingerprint of that model's trunk; features from another one are dropped.

        Raises:
            UserError: there are not as many vectors as rows, or one is not finite.
        """
        if not callable(vectors) and len(vectors) != self._held.table.rows:
            raise UserError(f"an index of {self._held.table.rows} rows needs as many new vectors, not {len(vectors)}")
        kept = [FEATURES] if trunk is not None and trunk == self.trunk else []
        about = replace(self._held.about, model=model, stage=stage, trunk=trunk if kept else None)
        self._held.rewrite(about, replace(self._held.table), {VECTORS: self._new_rows(vectors)}, kept)
        if self.embedder is not None and self.embedder.fingerprint() != model:
            self.embedder = None

    def _new_rows(self, vectors: Vectors) -> Iterator[np.ndarray]:
        """`[n, 3 * D]` block by block."""
        done = 0
        for block in blocks(self._held.table.vectors):
            here = slice(done, done := done + len(block))
            new = vectors(block.reshape(len(block), len(UNITS), -1)) if callable(vectors) else vectors[here]
            names = [name or "a removed photo" for name in self._held.table.names[here]]
            if len(new) != len(names):
                raise UserError(f"a block of {len(names)} vectors became {len(new)}; each photo needs one")
            yield unit_rows(torch.as_tensor(new), names)

    def refresh(self, embedder: PhotoEmbedder, *, stage: int | None = None) -> None:
        """Compute every vector anew from the kept features, for a model with another read-out on the same trunk.

        That is exact, and no photo is read; on disk the index is of the new model whole or not at all.

        Raises:
            UserError: no features are kept, or they are of another trunk.
        """
        model, trunk, features = embedder.fingerprint(), embedder.trunk_fingerprint(), self.features
        if len(self) and features is None:
            raise UserError("this index keeps no features: its photos have to be encoded again, or its vectors mapped")
        if features is not None and trunk != self.trunk:
            raise UserError(f"the features of this index are of trunk {self.trunk}, and the model's is {trunk}")
        new = self._read_out(embedder, features) if features is not None else iter(())
        table = replace(self._held.table, origins=[(model, stage)] * self._held.table.rows)
        about = replace(self._held.about, model=model, stage=stage, trunk=trunk if self.trunk else None)
        self._held.rewrite(about, table, {VECTORS: new}, [FEATURES])
        self.embedder = embedder

    def _read_out(self, embedder: PhotoEmbedder, features: np.ndarray) -> Iterator[np.ndarray]:
        done = 0
        for block in blocks(features):
            names = self._held.table.names[done : (done := done + len(block))]
            yield unit_rows(embedder.vectors_of(torch.from_numpy(block.copy())), names)

    def settle(self) -> None:
        """Move the rows together, choose the kind, build its structure: each where enough has changed.

        `build`, `sync`, `save` and the end of `writing` do so. Searches are right without it, only slower.
        """
        self._held.settle()

    # --- on disk -----------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write the index into a folder, whole or not at all; an index that is there is replaced.

        Raises:
            UserError: the disk is full, the folder may not be written, or another process writes it.
        """
        self.settle()
        with open_writer(Path(folder)) as writer:
            self._held.write_to(writer)

    @classmethod
    def load(cls, folder: str | Path, embedder: Embedder | None = None) -> FactIndex:
        """A copy of the index in a folder, as it is now; its vectors stay on disk and are mapped into memory.

        What is written later does not reach it, and what is changed in it does not reach the disk but by `save`.

        Args:
            folder: Where `save` or `writing` wrote.
            embedder: The model to encode queries and new photos with; it must be the one that made the index.

        Raises:
            UserError: there is no index, it is damaged or of another format, or another model made it.
        """
        with open_reader(Path(folder)) as contents:
            index = cls._opened(Path(folder), contents, embedder)
            index._held.structure()  # while its file is sure to be there
        return index

    @classmethod
    def _opened(
        cls, folder: Path, contents: Contents, embedder: Embedder | None, writer: Writer | None = None
    ) -> FactIndex:
        """What was read from a folder, with the model that made it."""
        about = contents.about
        if embedder is not None:
            model = embedder.fingerprint()  # once: it may read every weight
            if contents.table.rows:
                _check_model(about.model, model, folder)
            about = replace(about, model=model)
        index = cls()
        index.embedder, index._held = embedder, Rows(about, contents, writer)
        return index

    def _model(self, what: str) -> Embedder:
        if self.embedder is None:
            raise UserError(f"this index was opened without a model and cannot encode {what}; load it with embedder=")
        return self.embedder


@contextmanager
def writing(
    folder: str | Path,
    embedder: Embedder | None = None,
    *,
    stage: int | None = None,
    kind: str | None = None,
    keep_features: bool | None = None,
) -> Iterator[FactIndex]:
    """An index on disk to change: what its methods did is there when they return, photos batch by batch.

    Other writers are kept out as long as the block lasts; readers see what was committed last. The block may end in any
    way, `kill -9` included: the next one finds all that was committed.

    Args:
        folder: An index, or where to make one.
        embedder: The model that made it; None to look at it, to remove photos, or to change the model.
        stage: The embedder's stage, where it belongs to a run.
        kind: As for `FactIndex`; None leaves it as it is.
        keep_features: As for `FactIndex`; heeded while the index is empty.

    Raises:
        UserError: another process writes it, another model made it, it is damaged or of another format, or the folder
            may not be written.
    """
    folder = Path(folder)
    _check_kind(AUTO if kind is None else kind)
    with open_writer(folder) as writer:
        contents = writer.read()
        index = FactIndex._opened(folder, contents, embedder, writer)
        about = contents.about
        if embedder is not None and not contents.table.rows:
            about = _about(embedder, index.model, AUTO, stage, keep_features)
        stage, kind = about.stage if stage is None else stage, about.asked if kind is None else kind
        index._held.describe(replace(about, stage=stage, asked=kind))
        try:
            yield index
            index.settle()
        finally:
            index._held.writer = None  # from here on it is a copy


def _about(
    embedder: Embedder | None, model: str | None, kind: str, stage: int | None, keep_features: bool | None
) -> About:
    """What a new index says of itself; `model` is the embedder's fingerprint."""
    _check_kind(kind)
    keep, trunk = keep_features, None
    if isinstance(embedder, PhotoEmbedder) and (embedder.trunk_is_frozen if keep is None else keep):
        trunk = embedder.trunk_fingerprint()
    return About(model=model, stage=stage, trunk=trunk, asked=kind)


def _check_kind(kind: str) -> None:
    if kind not in (AUTO, *KINDS):
        raise UserError(f"there is no index of kind {kind!r}; allowed are {', '.join((AUTO, *KINDS))}")


def _check_model(made_by: str | None, given: str, folder: Path | None = None) -> None:
    """Vectors of two models are not comparable."""
    if given != made_by:
        where = f" in {folder}" if folder else ""
        raise UserError(
            f"the index{where} was made by model {made_by or 'unknown'}, not by {given}; bring it to that model with "
            "`tripletcl index upgrade`, or build it again"
        )


def _stamp_or_unknown(name: str) -> Stamp:
    try:
        return stamp_of(name)
    except OSError:
        return UNKNOWN
