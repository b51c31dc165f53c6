"""An exact index of photos that answers every wildcard pattern, and its life on disk."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import faiss
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tripletcl.data.facts import UNITS, Fact
from tripletcl.data.images import Progress
from tripletcl.errors import UserError
from tripletcl.files import sha256, write_atomically, write_text
from tripletcl.retrieval import exact_search
from tripletcl.retrieval.model import Embedder
from tripletcl.retrieval.photos import encode_photos, find_photos
from tripletcl.retrieval.query import Query, as_query, query_vectors

FORMAT = 1
HEADER = "index.json"
FIELDS = {"format", "model", "width", "vectors", "sha256", "paths"}


@dataclass(frozen=True, slots=True)
class Hit:
    """A photo found, and the sum of the cosines of the units asked for."""

    path: Path
    score: float


class FactIndex:
    """Photos by their three unit vectors, searched exactly.

    A photo is its L2-normalised subject, predicate and object vectors side by side, `[3 * D]`; a query is the same
    with a zero block for each wildcard. Their inner product is the sum of the cosines of the units asked for, so one
    index answers every pattern.

    Args:
        embedder: Encodes photos and queries; without it the index takes vectors only.

    Attributes:
        embedder: As given.
        model: The fingerprint of the model that made the vectors, None where it is not known.
        paths: The photo of each row.
        skipped: (path, reason) of the photos that could not be read; not saved.
    """

    def __init__(self, embedder: Embedder | None = None) -> None:
        self.embedder = embedder
        self.model = embedder.fingerprint() if embedder is not None else None
        self.paths: list[Path] = []
        self.skipped: list[tuple[Path, str]] = []
        self._rows: faiss.Index = faiss.IndexFlatIP(0)  # gets its width with the first photos

    @classmethod
    def build(
        cls,
        embedder: Embedder,
        folder_or_paths: str | Path | Iterable[str | Path],
        *,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> FactIndex:
        """Index the photos of a folder and its subfolders, or the given ones; see `add_photos`."""
        index = cls(embedder)
        index.add_photos(folder_or_paths, batch_size=batch_size, progress=progress)
        return index

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def width(self) -> int:
        """D, 0 before the first photo."""
        return self._rows.d // len(UNITS)

    def add_photos(
        self,
        folder_or_paths: str | Path | Iterable[str | Path],
        *,
        batch_size: int = 64,
        progress: Progress | None = None,
    ) -> None:
        """Encode and add the photos that are not in the index yet; those that cannot be read go to `skipped`.

        Args:
            folder_or_paths: A folder, searched with its subfolders, or photos.
            batch_size: Photos encoded at a time.
            progress: Called with (done, all) after each batch.

        Raises:
            UserError: there is no photo, none of the new photos can be read, or the model has changed.
        """
        embedder = self._model("photos")
        _check_model(self.model, embedder)
        known = set(self.paths)
        new = [path for path in find_photos(folder_or_paths) if path not in known]
        skipped_before = len(self.skipped)
        for start in range(0, len(new), batch_size):
            self._add_batch(new[start : start + batch_size], embedder)
            if progress is not None:
                progress(min(start + batch_size, len(new)), len(new))
        skipped = self.skipped[skipped_before:]
        if new and len(skipped) == len(new):
            raise UserError(f"none of the {len(new)} photos can be read; the first: {skipped[0][1]}")

    def _add_batch(self, paths: list[Path], embedder: Embedder) -> None:
        found = list(zip(paths, encode_photos(embedder, paths), strict=True))
        self.skipped += [(path, reason) for path, reason in found if isinstance(reason, str)]
        if readable := [(path, vectors) for path, vectors in found if isinstance(vectors, Tensor)]:
            self.add([path for path, _ in readable], torch.stack([vectors for _, vectors in readable]))

    def add(self, paths: Sequence[str | Path], vectors: Tensor | np.ndarray) -> None:
        """Add photos by their vectors.

        Args:
            paths: `[N]`.
            vectors: `[N, 3, D]`; normalised here where they are not yet.

        Raises:
            UserError: a photo is in the index already, the width is another, or a vector is not finite.
        """
        photos = [Path(path) for path in paths]
        vectors = torch.as_tensor(vectors).detach().cpu()
        if vectors.ndim != 3 or vectors.shape[:2] != (len(photos), len(UNITS)):
            raise ValueError(f"{len(photos)} photos need vectors [{len(photos)}, 3, D], not {list(vectors.shape)}")
        rows = functional.normalize(vectors.float(), dim=-1).flatten(1).numpy()  # [N, 3 * D]
        self._check_rows(photos, rows)
        if not self.paths:
            self._rows = faiss.IndexFlatIP(rows.shape[1])
        self._rows.add(rows)
        self.paths += photos

    def _check_rows(self, paths: list[Path], rows: np.ndarray) -> None:
        seen = set(self.paths)
        for path in paths:
            if path in seen:
                raise UserError(f"{path} is in the index already; a photo may be added once")
            seen.add(path)
        if self.paths and rows.shape[1] != self._rows.d:
            raise UserError(f"the index holds vectors of width {self.width}, not {rows.shape[1] // len(UNITS)}")
        if len(broken := np.flatnonzero(~np.isfinite(rows).all(axis=1))):
            raise UserError(f"the vector of {paths[broken[0]]} is not finite; the model that made it has diverged")

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
        if k < 1:
            raise UserError(f"k must be at least 1, not {k}")
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        if not len(self) or not len(vectors):
            return [[] for _ in vectors]
        if vectors.ndim != 2 or vectors.shape[1] != self._rows.d:
            raise UserError(f"the index needs query vectors [Q, {self._rows.d}], not {list(vectors.shape)}")
        if not np.isfinite(vectors).all():
            raise UserError("a query's vector is not finite, so it cannot be searched")
        return [self._hits(scores, rows, k) for scores, rows in exact_search.search(self._rows, vectors, k)]

    def _hits(self, scores: np.ndarray, rows: np.ndarray, k: int) -> list[Hit]:
        hits = [Hit(self.paths[row], score) for score, row in zip(scores.tolist(), rows.tolist(), strict=True)]
        return sorted(hits, key=lambda hit: (-hit.score, hit.path))[:k]

    def save(self, folder: str | Path) -> None:
        """Write the index into a folder, whole or not at all.

        The vectors' file is named by their content, and the header that names it is written last: at any moment the
        header on disk belongs to the vectors it names.

        Raises:
            UserError: the disk is full, or the folder may not be written.
        """
        folder = Path(folder)
        unnamed = folder / "vectors.faiss"
        write_atomically(unnamed, lambda path: faiss.write_index(self._rows, str(path)))
        digest = sha256(unnamed)
        vectors = unnamed.replace(folder / f"vectors-{digest[:16]}.faiss")
        header = {
            "format": FORMAT,
            "model": self.model,
            "width": self.width,
            "vectors": vectors.name,
            "sha256": digest,
            "paths": [str(path) for path in self.paths],
        }
        write_text(folder / HEADER, json.dumps(header, indent=1))
        for old in set(folder.glob("vectors-*.faiss")) - {vectors}:
            old.unlink()

    @classmethod
    def load(cls, folder: str | Path, embedder: Embedder | None = None) -> FactIndex:
        """Read a saved index.

        Args:
            folder: Where `save` wrote.
            embedder: The model to encode queries and new photos with; it must be the one that made the index.

        Raises:
            UserError: there is no index, it is damaged or of another format, or another model made it.
        """
        folder = Path(folder)
        header = _read_header(folder)
        index = cls(embedder)
        if embedder is not None:
            _check_model(header["model"], embedder, folder)
        index.model = header["model"]
        index.paths = [Path(path) for path in header["paths"]]
        index._rows = _read_vectors(folder, header)
        if index._rows.ntotal != len(index) or index.width != header["width"]:
            raise UserError(f"the index in {folder} is damaged: its vectors do not fit its {len(index)} photos")
        return index

    def _model(self, what: str) -> Embedder:
        if self.embedder is None:
            raise UserError(f"this index was opened without a model and cannot encode {what}; load it with embedder=")
        return self.embedder


def _check_model(made_by: str | None, embedder: Embedder, folder: Path | None = None) -> None:
    """Vectors of two models are not comparable."""
    given = embedder.fingerprint()
    if given != made_by:
        where = f" in {folder}" if folder else ""
        raise UserError(
            f"the index{where} was made by model {made_by or 'unknown'}, not by {given}; build it again with this model"
        )


def _read_header(folder: Path) -> dict[str, Any]:
    try:
        header = json.loads((folder / HEADER).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"no index in {folder}: it has no {HEADER}") from None
    except ValueError as error:
        raise UserError(f"the index in {folder} is damaged: {HEADER}: {error}") from None
    if isinstance(header, dict) and header.get("format", FORMAT) != FORMAT:
        raise UserError(f"the index in {folder} has format {header['format']}, and this version reads {FORMAT}")
    if not isinstance(header, dict) or header.keys() != FIELDS or not isinstance(header["paths"], list):
        raise UserError(f"the index in {folder} is damaged: {HEADER} needs the fields {', '.join(sorted(FIELDS))}")
    return header


def _read_vectors(folder: Path, header: dict[str, Any]) -> faiss.Index:
    """Checked before it is read: faiss may crash on a damaged file."""
    path = folder / str(header["vectors"])
    try:
        intact = sha256(path) == header["sha256"]
    except OSError as error:
        raise UserError(f"the index in {folder} is damaged: {path.name}: {error.strerror}") from None
    if not intact:
        raise UserError(f"the index in {folder} is damaged: {path.name} is not as it was written")
    return faiss.read_index(str(path))
