"""Neighbour graphs over photos (HNSW): one for each unit, one for whole rows, all on one shared storage.

Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small World
graphs", TPAMI 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np

from tripletcl.progress import report
from tripletcl.retrieval.projection import BLOCK, part_columns
from tripletcl.retrieval.table import blocks

LINKS = 16
"""Neighbours of a photo in each graph; twice as many on the lowest level."""

BUILD_BREADTH = 64
"""Candidates kept while the neighbours of a photo are searched (efConstruction)."""

BREADTH = 1600
"""Candidates kept while a query is answered (efSearch)."""

SCANNED_SHARE = 0.03
"""Where a filter leaves a smaller share of the rows, they are compared one by one: that takes no longer than a graph,
most of whose neighbours are excluded, and misses none."""


def build(rows: np.ndarray, units: int, seed: int) -> list[faiss.IndexHNSW]:
    """Build the graphs of each unit and, last, of whole rows.

    A graph links photos by their Euclidean distance, which for units of length 1 is the order of their cosines. A
    query traverses it by inner product. Its zero blocks make that the sum over the units asked for, so all graphs use
    the one storage of whole rows.

    Args:
        rows: `[N, U * d]` float16, projected.
        units: U.
        seed: Of the photos' levels.
    """
    storage = build_storage(rows)
    return [
        attach_storage(link_rows(rows[:, columns], seed, part, units + 1), storage)
        for part, columns in enumerate(part_columns(units, rows.shape[1]))
    ]


def link_rows(rows: np.ndarray, seed: int, part: int = 0, parts: int = 1) -> np.ndarray:
    """Link some rows, one part of several; return the graph without the rows, as faiss writes it."""
    graph = faiss.IndexHNSWFlat(rows.shape[1], LINKS, faiss.METRIC_L2)
    graph.hnsw.efConstruction = BUILD_BREADTH
    graph.hnsw.rng = faiss.RandomGenerator(seed)
    for block in blocks(len(rows), BLOCK):
        graph.add(np.ascontiguousarray(rows[block], dtype=np.float32))
        report("building", part * len(rows) + block.stop, parts * len(rows))
    return faiss.serialize_index(graph, faiss.IO_FLAG_SKIP_STORAGE)


def attach_storage(links: np.ndarray, storage: faiss.Index) -> faiss.IndexHNSW:
    """Read a graph, and let it compare by a storage that may be wider, and of another metric, than its links."""
    graph = faiss.deserialize_index(links, faiss.IO_FLAG_SKIP_STORAGE)
    graph.storage, graph.own_fields = storage, False
    graph.referenced_objects = [storage]  # faiss's way to keep it alive as long as the graph
    graph.d, graph.metric_type = storage.d, storage.metric_type
    graph.hnsw.is_similarity = True
    return graph


def build_storage(rows: np.ndarray) -> faiss.IndexScalarQuantizer:
    """Store rows as float16, compared by inner product."""
    storage = faiss.IndexScalarQuantizer(rows.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(np.ascontiguousarray(rows).view(np.uint8).ravel(), storage.codes)
    storage.ntotal = len(rows)
    return storage


def part_queries(queries: np.ndarray, part: int, units: int) -> np.ndarray:
    """The queries `[Q, U * d]` as any part takes them: whole rows, with zeros in the units not asked for."""
    return queries


def find(part: faiss.IndexHNSW, queries: np.ndarray, count: int, kept: np.ndarray | None) -> np.ndarray:
    """Find `count` rows for each query, `[Q, count]`, -1 for each missing; of `kept`, `[N]` bool, only those.

    Where the graph leads to too few of those, since what is near a query is excluded, they are compared one by one too.
    """
    if kept is not None and kept.sum() < SCANNED_SHARE * part.ntotal:
        return _scan(part, queries, count, kept)
    selector = None if kept is None else faiss.IDSelectorBitmap(np.packbits(kept, bitorder="little"))
    parameters = faiss.SearchParametersHNSW(efSearch=max(BREADTH, 2 * count), sel=selector)
    found = part.search(queries, count, params=parameters)[1]
    if kept is not None and len(short := np.flatnonzero((found < 0).any(axis=1))):
        found[short] = _scan(part, queries[short], count, kept)
    return found


def _scan(part: faiss.IndexHNSW, queries: np.ndarray, count: int, kept: np.ndarray) -> np.ndarray:
    """`find` by comparing copies of all rows that are kept: faiss's own test of each row for membership is slower."""
    rows = np.flatnonzero(kept)
    found = build_storage(_stored_rows(faiss.downcast_index(part.storage))[rows]).search(queries, count)[1]
    return np.where(found < 0, -1, rows[found])


def _stored_rows(storage: faiss.IndexScalarQuantizer) -> np.ndarray:
    """The rows of a storage, `[N, U * d]` float16, without a copy."""
    codes = faiss.rev_swig_ptr(storage.codes.data(), storage.codes.size())  # [N * U * d * 2] bytes
    return codes.view(np.float16).reshape(storage.ntotal, storage.d)


def to_arrays(graphs: Sequence[faiss.IndexHNSW]) -> dict[str, np.ndarray]:
    """The graphs without their storage, and the storage once."""
    links = [faiss.serialize_index(graph, faiss.IO_FLAG_SKIP_STORAGE) for graph in graphs]
    rows = _stored_rows(faiss.downcast_index(graphs[0].storage))
    return {"rows": rows} | {f"graph {part}": graph for part, graph in enumerate(links)}


def from_arrays(arrays: dict[str, np.ndarray]) -> list[faiss.IndexHNSW]:
    """The inverse of `to_arrays`."""
    storage = build_storage(arrays["rows"])
    return [attach_storage(arrays[f"graph {part}"], storage) for part in range(len(arrays) - 1)]


def bytes_per_row(units: int, width: int) -> float:
    """Memory for a photo of `units * width` numbers."""
    links = 4 * LINKS * (2 + 1 / (LINKS - 1)) + 4 + 8  # on the lowest level and above it; level; offset of the links
    return 2 * units * width + (units + 1) * links
