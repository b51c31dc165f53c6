"""Neighbour graphs over photos (HNSW): one for each unit, one for whole rows, and one storage that they share.

Malkov and Yashunin, "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small World
graphs", TPAMI 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np

from tripletcl.progress import report
from tripletcl.retrieval.projection import blocks

LINKS = 16
"""Neighbours of a photo in each graph; twice as many on the lowest level."""

BUILD_BREADTH = 64
"""Photos kept in view while a photo's neighbours are searched."""

BREADTH = 1600
"""Photos kept in view while a query is answered."""


def build(rows: np.ndarray, units: int, seed: int) -> list[faiss.IndexHNSW]:
    """Graphs of each unit and, last, of whole rows.

    A graph joins photos by their Euclidean distance, which for units of length 1 is the order of their cosines. A
    query goes along it by inner product. Its blocks of zeros make that the sum over the units it asks for, so all
    graphs read the one storage of whole rows.

    Args:
        rows: `[N, U * d]` float16, projected.
        units: U.
        seed: Of the photos' levels.
    """
    storage = shared_storage(rows)
    return [
        over(storage, linked(rows[:, columns], seed, number, units + 1))
        for number, columns in enumerate(parts(units, rows.shape[1]))
    ]


def linked(rows: np.ndarray, seed: int, part: int = 0, parts: int = 1) -> np.ndarray:
    """Link some rows, one part of several; return the graph without the rows, as faiss writes it."""
    graph = faiss.IndexHNSWFlat(rows.shape[1], LINKS, faiss.METRIC_L2)
    graph.hnsw.efConstruction = BUILD_BREADTH
    graph.hnsw.rng = faiss.RandomGenerator(seed)
    for block in blocks(len(rows)):
        graph.add(np.ascontiguousarray(rows[block], dtype=np.float32))
        report("building", part * len(rows) + block.stop, parts * len(rows))
    return faiss.serialize_index(graph, faiss.IO_FLAG_SKIP_STORAGE)


def over(storage: faiss.Index, links: np.ndarray) -> faiss.IndexHNSW:
    """A graph over a storage that may be wider than what it was linked by, and compare otherwise."""
    graph = faiss.deserialize_index(links, faiss.IO_FLAG_SKIP_STORAGE)
    graph.storage, graph.own_fields = storage, False
    graph.referenced_objects = [storage]  # faiss's way to keep it alive as long as the graph
    graph.d, graph.metric_type = storage.d, storage.metric_type
    graph.hnsw.is_similarity = True
    return graph


def parts(units: int, width: int) -> list[slice]:
    """The columns of each unit and, last, all."""
    each = width // units
    return [slice(unit * each, (unit + 1) * each) for unit in range(units)] + [slice(0, width)]


def shared_storage(rows: np.ndarray) -> faiss.IndexScalarQuantizer:
    """Rows of float16, compared by inner product."""
    storage = faiss.IndexScalarQuantizer(rows.shape[1], faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    faiss.copy_array_to_vector(np.ascontiguousarray(rows).view(np.uint8).ravel(), storage.codes)
    storage.ntotal = len(rows)
    return storage


def questions(queries: np.ndarray, part: int, units: int) -> np.ndarray:
    """What a part is asked: whole rows, with zeros in the units not asked for."""
    return queries


def parameters(part: faiss.Index, wanted: int, selector: faiss.IDSelector | None) -> faiss.SearchParameters:
    """How to find that many rows."""
    return faiss.SearchParametersHNSW(efSearch=max(BREADTH, 2 * wanted), sel=selector)


def arrays(graphs: Sequence[faiss.IndexHNSW]) -> dict[str, np.ndarray]:
    """The graphs without their storage, and the storage once."""
    storage = faiss.downcast_index(graphs[0].storage)
    codes = faiss.rev_swig_ptr(storage.codes.data(), storage.codes.size())
    links = [faiss.serialize_index(graph, faiss.IO_FLAG_SKIP_STORAGE) for graph in graphs]
    rows = codes.view(np.float16).reshape(storage.ntotal, storage.d)
    return {"rows": rows} | {f"graph {number}": each for number, each in enumerate(links)}


def restored(kept: dict[str, np.ndarray]) -> list[faiss.IndexHNSW]:
    """The inverse of `arrays`."""
    storage = shared_storage(kept["rows"])
    return [over(storage, kept[f"graph {number}"]) for number in range(len(kept) - 1)]


def memory_bytes(graphs: Sequence[faiss.IndexHNSW]) -> int:
    """What they take in memory."""
    links = [graph.hnsw for graph in graphs]
    sizes = (4 * each.neighbors.size() + 8 * each.offsets.size() + 4 * each.levels.size() for each in links)
    return faiss.downcast_index(graphs[0].storage).codes.size() + sum(sizes)


def bytes_a_row(units: int, width: int) -> float:
    """What a photo takes of that."""
    links = 4 * LINKS * (2 + 1 / (LINKS - 1)) + 4 + 8  # on the lowest level and above; level; where they begin
    return 2 * units * width + (units + 1) * links
