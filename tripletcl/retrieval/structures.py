"""Where to look among many photos: structures that propose candidates for a query, and when which is worth it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import faiss
import numpy as np

from tripletcl.errors import UserError
from tripletcl.retrieval import graphs, quantised
from tripletcl.retrieval.array_file import read_arrays, write_arrays
from tripletcl.retrieval.projection import BLOCK, Projection, blocks, learn_projection

FLAT = "flat"
MADE_BY: dict[str, ModuleType] = {"hnsw": graphs, "ivfpq": quantised}
KINDS = (FLAT, *MADE_BY)

UNIT_WIDTH = 96
"""Numbers kept of each unit: what fewer cost is measured in docs/measured/retrieval.md."""

MAGIC = "tripletcl structure 1"

FLAT_NUMBERS, FLAT_MILLISECONDS = 100_000 * 3 * 384, 20
"""Numbers that one thread compares with a query in so many milliseconds."""

MEMORY_SHARE = 0.25
"""The part of the machine's memory that graphs may take."""


@dataclass
class Structure:
    """Proposes candidates for queries of any pattern of wildcards; their scores are for the caller to compute.

    A query for a single unit is answered by that unit's part, any other by the part of whole rows, where a wildcard's
    zeros leave it out of the inner product.

    Attributes:
        kind: "hnsw" or "ivfpq".
        count: Photos it covers, rows 0 to count - 1.
        projection: What the parts hold of a photo.
        parts: A search structure for each unit, and one for whole rows.
    """

    kind: str
    count: int
    projection: Projection
    parts: Sequence[faiss.Index]

    def candidates(self, queries: np.ndarray, k: int, deleted: np.ndarray | None = None) -> list[np.ndarray]:
        """Rows among which the best k of each query most likely are.

        Args:
            queries: `[Q, U * D]` float32, a block of zeros for a wildcard.
            k: Photos wanted in the end.
            deleted: `[count]` bool, rows that must not be proposed.

        Returns:
            For each query several times k row numbers (int64), each once, in no particular order. All rows where there
            are few; fewer than k may be found where most of what is near a query is deleted.
        """
        if not len(queries):
            return []
        selector = None if deleted is None or not deleted.any() else _living(deleted)
        wanted = _wanted(k)
        if wanted >= self.count - (0 if deleted is None else int(deleted.sum())):
            rows = np.arange(self.count) if deleted is None else np.flatnonzero(~deleted)
            return [rows.copy() for _ in queries]
        projected = self.projection.queries(np.asarray(queries, dtype=np.float32))
        chosen = self._parts_for(queries)
        found: list[np.ndarray] = [np.zeros(0, np.int64)] * len(queries)
        for part in np.unique(chosen):
            places = np.flatnonzero(chosen == part)
            for place, rows in zip(places, self._search(part, projected[places], wanted, selector), strict=True):
                found[place] = rows[rows >= 0]
        return found

    def _parts_for(self, queries: np.ndarray) -> np.ndarray:
        """The number of the part that answers each query, `[Q]`."""
        units = len(self.projection.means)
        asked = queries.reshape(len(queries), units, -1).any(axis=2)  # [Q, U]
        return np.where(asked.sum(axis=1) == 1, asked.argmax(axis=1), units)

    def _search(self, part: int, queries: np.ndarray, wanted: int, selector: faiss.IDSelector | None) -> np.ndarray:
        """`[Q, wanted]` rows, -1 where there are fewer."""
        made_by, index = MADE_BY[self.kind], self.parts[part]
        questions = made_by.questions(queries, part, len(self.projection.means))
        return index.search(questions, wanted, params=made_by.parameters(index, wanted, selector))[1]

    def memory_bytes(self) -> int:
        """What it takes in memory, without the photos' full vectors."""
        projection = self.projection.means.nbytes + self.projection.bases.nbytes
        return projection + int(MADE_BY[self.kind].memory_bytes(self.parts))

    def save(self, path: Path) -> None:
        """Write it into one file."""
        write_arrays(path, MAGIC, {"kind": self.kind, "count": self.count}, self._arrays())

    def _arrays(self) -> dict[str, np.ndarray]:
        projection = {"means": self.projection.means, "bases": self.projection.bases}
        return projection | MADE_BY[self.kind].arrays(self.parts)


def load_structure(path: Path) -> Structure:
    """What `Structure.save` wrote.

    Raises:
        UserError: the file is not there, or not as it was written.
    """
    about, arrays = read_arrays(path, MAGIC)
    projection = Projection(np.array(arrays.pop("means")), np.array(arrays.pop("bases")))
    return Structure(about["kind"], about["count"], projection, MADE_BY[about["kind"]].restored(arrays))


def build_structure(kind: str, vectors: np.ndarray, *, units: int = 3, seed: int = 0) -> Structure:
    """A structure over photos; the same rows and seed give the same one.

    Args:
        kind: "hnsw": neighbour graphs, fast; "ivfpq": short codes in lists, a tenth of the vectors' memory.
        vectors: `[N, units * D]` float32, each unit of length 1; read a block at a time, so a memory map will do.
        units: Blocks of a row.
        seed: Of everything random.

    Raises:
        UserError: there is no such kind.
    """
    if kind not in MADE_BY:
        raise UserError(f"no structure {kind!r}; there are {', '.join(MADE_BY)}, and flat needs none")
    if not len(vectors) or vectors.shape[1] % units:
        raise ValueError(f"needs rows of {units} blocks of one width, not {list(vectors.shape)}")
    projection = learn_projection(vectors, units, UNIT_WIDTH, np.random.default_rng(seed))
    rows = np.empty((len(vectors), units * projection.width), np.float16)
    for block in blocks(len(vectors), BLOCK):
        rows[block] = projection.rows(vectors[block])
    return Structure(kind, len(rows), projection, MADE_BY[kind].build(rows, units, seed))


def choose_kind(count: int, width: int, memory_bytes: int | None = None, *, units: int = 3) -> tuple[str, str]:
    """Which kind suits so many photos, and a sentence that says why.

    Args:
        count: Photos.
        width: Numbers of a row.
        memory_bytes: The machine's memory; measured where it is not given.
        units: Blocks of a row.
    """
    most = FLAT_NUMBERS // max(width, 1)
    if count <= most:
        milliseconds = max(1, round(FLAT_MILLISECONDS * count / most))
        return FLAT, f"flat: {count:,} photos are searched exactly, in about {milliseconds} ms; hnsw above {most:,}"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if memory_bytes is None else memory_bytes
    kept = min(UNIT_WIDTH, width // units)
    needed = count * graphs.bytes_a_row(units, kept)
    size = f"graphs over {count:,} photos take {_gigabytes(needed)}"
    if needed <= MEMORY_SHARE * memory:
        return (
            "hnsw",
            f"hnsw: more than the {most:,} photos that are searched exactly in {FLAT_MILLISECONDS} ms; {size}",
        )
    codes = _gigabytes(count * quantised.bytes_a_row(units, kept))
    share = f"{MEMORY_SHARE:.0%} of the memory, {_gigabytes(MEMORY_SHARE * memory)}"
    return "ivfpq", f"ivfpq: {size}, more than {share}; codes take {codes}"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def _wanted(k: int) -> int:
    """Candidates for k photos: enough that what the projection puts out of order is among them."""
    return 5 * k + 150


def _living(deleted: np.ndarray) -> faiss.IDSelector:
    return faiss.IDSelectorBitmap(np.packbits(~deleted, bitorder="little"))
