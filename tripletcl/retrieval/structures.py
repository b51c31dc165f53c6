"""Structures that propose candidates for a query among many photos; the choice between them; their file."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import faiss
import numpy as np

from tripletcl.errors import UserError
from tripletcl.retrieval import graphs, quantised
from tripletcl.retrieval.precision import to_float32
from tripletcl.retrieval.projection import BLOCK, Projection, learn_projection
from tripletcl.retrieval.shared_block import Unfolded
from tripletcl.retrieval.table import blocks

FLAT = "flat"
MODULES: dict[str, ModuleType] = {"hnsw": graphs, "ivfpq": quantised}
KINDS = (FLAT, *MODULES)

UNIT_WIDTH = 96
"""Numbers kept of each unit; docs/measured/retrieval.md has measurements of fewer."""

FOUND = 400
"""Rows that are found for one query, though fewer may be proposed: a page of photos and the presence of a word take the
first of the same rows, and the graph is searched once for both."""

REMEMBERED = 256
"""Queries whose rows are remembered."""

MAGIC = "tripletcl structure 1"

FLAT_NUMBERS, FLAT_MILLISECONDS = 100_000 * 3 * 384, 20
"""Numbers that one thread compares with a query, and the time it takes."""

MEMORY_SHARE = 0.25
"""Share of the machine's memory that graphs may take."""


@dataclass
class Structure:
    """Proposes candidates for queries with any wildcards; the caller computes their scores.

    A query for a single unit is answered by that unit's part, any other by the part of whole rows, where the zeros of a
    wildcard drop out of the inner product.

    Attributes:
        kind: "hnsw" or "ivfpq".
        count: Number of photos that it covers, rows 0 to count - 1.
        projection: From a photo's vectors to the numbers in the parts.
        parts: A search structure for each unit, and one for whole rows.
    """

    kind: str
    count: int
    projection: Projection
    parts: Sequence[faiss.Index]

    _recent: dict[bytes, np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    def candidates(self, queries: np.ndarray, k: int, excluded: np.ndarray | None = None) -> list[np.ndarray]:
        """Propose rows that most likely include the k best of each query.

        Args:
            queries: `[Q, U * D]` float32, a zero block for a wildcard.
            k: Number of photos to be found in the end.
            excluded: `[count]` bool, rows that must not be proposed.

        Returns:
            For each query several times k row numbers (int64), each once, the nearest first. All rows where there are
            few; fewer than k where most rows near a query are excluded.
        """
        if not len(queries):
            return []
        left = self.count - (0 if excluded is None else int(excluded.sum()))
        count = candidate_count(k)
        if count >= left:
            rows = np.arange(self.count) if excluded is None else np.flatnonzero(~excluded)
            return [rows.copy() for _ in queries]
        kept = None if excluded is None or left == self.count else ~excluded
        if len(queries) > 1 or count > FOUND:
            return self._find(queries, count, kept)
        return [self._find_once(queries, min(FOUND, left), kept)[:count].copy()]

    def _find_once(self, query: np.ndarray, count: int, kept: np.ndarray | None) -> np.ndarray:
        """`_find` for one query `[1, U * D]`, unless it is one of the last that were asked."""
        digest = hashlib.sha256(query.tobytes())
        digest.update(b"" if kept is None else np.packbits(kept).data)
        key = digest.digest()
        rows = self._recent.pop(key, None)
        self._recent[key] = rows = self._find(query, count, kept)[0] if rows is None else rows
        for old in list(self._recent)[:-REMEMBERED]:  # without a lock, which a forked child might wait for
            self._recent.pop(old, None)
        return rows

    def _find(self, queries: np.ndarray, count: int, kept: np.ndarray | None) -> list[np.ndarray]:
        """The rows that are nearest to each query, `count` of those that are kept, where there are as many."""
        projected = self.projection.queries(np.asarray(queries, dtype=np.float32))  # [Q, U * d]
        parts = self._parts_for(queries)
        proposals: list[np.ndarray] = [np.zeros(0, np.int64)] * len(queries)
        for part in np.unique(parts):
            positions = np.flatnonzero(parts == part)  # of the queries for this part
            rows_of = self._search(part, projected[positions], count, kept)  # [len(positions), count]
            for position, rows in zip(positions, rows_of, strict=True):
                proposals[position] = rows[rows >= 0]
        return proposals

    def _parts_for(self, queries: np.ndarray) -> np.ndarray:
        """The number of the part that answers each query, `[Q]`."""
        units = len(self.projection.means)
        named = queries.reshape(len(queries), units, -1).any(axis=2)  # [Q, U]: False for a wildcard
        return np.where(named.sum(axis=1) == 1, named.argmax(axis=1), units)

    def _search(self, part: int, queries: np.ndarray, count: int, kept: np.ndarray | None) -> np.ndarray:
        """`[Q, count]` rows among those that are kept, -1 where there are fewer."""
        module = MODULES[self.kind]
        part_queries = module.part_queries(queries, part, len(self.projection.means))
        return module.find(self.parts[part], part_queries, count, kept)

    def save(self, path: Path) -> None:
        """Write it into one file."""
        projection = {"means": self.projection.means, "bases": self.projection.bases}
        arrays = projection | MODULES[self.kind].to_arrays(self.parts)
        _write_arrays(path, {"kind": self.kind, "count": self.count}, arrays)


def load_structure(path: Path) -> Structure:
    """Read a file of `Structure.save`.

    Raises:
        UserError: the file is missing, or has changed since it was written.
    """
    about, arrays = _read_arrays(path)
    projection = Projection(np.array(arrays.pop("means")), np.array(arrays.pop("bases")))
    return Structure(about["kind"], about["count"], projection, MODULES[about["kind"]].from_arrays(arrays))


def build_structure(kind: str, vectors: np.ndarray | Unfolded, *, units: int = 3, seed: int = 0) -> Structure:
    """Build a structure over photos; the same rows and seed give the same one.

    Args:
        kind: "hnsw": neighbour graphs, fast; "ivfpq": short codes in lists, a tenth of the vectors' memory.
        vectors: `[N, units * D]` float32 or float16, each unit of length 1; read block by block, so it may be a memory
            map.
        units: Blocks of a row.
        seed: Of everything random.

    Raises:
        UserError: there is no such kind.
    """
    if kind not in MODULES:
        raise UserError(f"no structure {kind!r}; there are {', '.join(MODULES)}, and flat needs none")
    if not len(vectors) or vectors.shape[1] % units:
        raise ValueError(f"needs rows of {units} blocks of one width, not {list(vectors.shape)}")
    projection = learn_projection(vectors, units, UNIT_WIDTH, np.random.default_rng(seed))
    rows = np.empty((len(vectors), units * projection.width), np.float16)
    for block in blocks(len(vectors), BLOCK):
        rows[block] = projection.rows(to_float32(vectors[block]))
    return Structure(kind, len(rows), projection, MODULES[kind].build(rows, units, seed))


def choose_kind(count: int, width: int, memory_bytes: int | None = None, *, units: int = 3) -> tuple[str, str]:
    """Choose the kind for a number of photos, and give the reason in a sentence.

    Args:
        count: Number of photos.
        width: Numbers in a row.
        memory_bytes: The machine's memory; by default it is measured.
        units: Blocks of a row.
    """
    most = FLAT_NUMBERS // max(width, 1)
    if count <= most:
        milliseconds = max(1, round(FLAT_MILLISECONDS * count / most))
        return FLAT, f"flat: {count:,} photos are searched exactly, in about {milliseconds} ms; hnsw above {most:,}"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if memory_bytes is None else memory_bytes
    unit_width = min(UNIT_WIDTH, width // units)
    graph_bytes = count * graphs.bytes_per_row(units, unit_width)
    size = f"graphs over {count:,} photos take {_gigabytes(graph_bytes)}"
    if graph_bytes <= MEMORY_SHARE * memory:
        return (
            "hnsw",
            f"hnsw: more than the {most:,} photos that are searched exactly in {FLAT_MILLISECONDS} ms; {size}",
        )
    codes = _gigabytes(count * quantised.bytes_per_row(units, unit_width))
    share = f"{MEMORY_SHARE:.0%} of the memory, {_gigabytes(MEMORY_SHARE * memory)}"
    return "ivfpq", f"ivfpq: {size}, more than {share}; codes take {codes}"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def candidate_count(k: int) -> int:
    """Candidates for k photos: enough to include those that the projection ranks lower than they deserve."""
    return 5 * k + 150


# --- the file --------------------------------------------------------------------------------------------------------


def _write_arrays(path: Path, about: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a line `MAGIC <sha256 of the rest>`, a line of JSON, and the bytes of the arrays one after another."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    layout = [[name, array.dtype.str, array.shape] for name, array in arrays.items()]
    header = json.dumps({"about": about, "arrays": layout}).encode() + b"\n"
    with path.open("wb") as file:
        file.write(f"{MAGIC} {_digest(header, arrays.values())}\n".encode() + header)
        for array in arrays.values():
            array.tofile(file)


def _read_arrays(path: Path) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a file of `_write_arrays`; nothing in it is used before its digest is checked.

    The arrays are mapped into memory, read-only.
    """
    try:
        with path.open("rb") as file:
            first, header, start = file.readline(200), file.readline(), file.tell()
        if not first.startswith(f"{MAGIC} ".encode()):
            raise ValueError(f"it does not begin with {MAGIC!r}")
        content = np.memmap(path, np.uint8, mode="r")
        if _digest(header, [content[start:]]) != first.decode().split()[-1]:
            raise ValueError("it has changed since it was written")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is damaged: {getattr(error, 'strerror', None) or error}") from None
    described = json.loads(header)
    arrays = {}
    for name, dtype, shape in described["arrays"]:
        size = np.dtype(dtype).itemsize * int(np.prod(shape))
        arrays[name] = content[start : start + size].view(dtype).reshape(shape)
        start += size
    return described["about"], arrays


def _digest(header: bytes, arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256(header)
    for array in arrays:
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
