"""Photos in short codes, in lists of photos that are alike (IVF-PQ): one set of lists for each unit, one of whole rows.

Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", TPAMI 2011.
"""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np

from tripletcl.data.splits import sample
from tripletcl.progress import report
from tripletcl.retrieval.projection import blocks

LISTS = 2
"""Lists, as a multiple of the square root of the number of photos."""

PROBED, LEAST_PROBED = 20, 32
"""One list in as many is looked through, and at least so many lists."""

ROUNDS = 10
"""Rounds of k-means."""

SAMPLED = 64
"""Photos a list that the centroids and the codes are learned from."""

LEAST = 10_000
"""Photos that the codes are learned from at least; those there are, again and again, where there are fewer."""


def build(rows: np.ndarray, units: int, seed: int) -> list[faiss.IndexIVF]:
    """Lists of each unit and, last, of whole rows.

    A list holds the photos nearest to its centroid, as what is left when the centroid is taken away: for whole rows
    in product quantisation, a byte for every `units` numbers; for a single unit in a byte a number, since half a
    collection may show the same subject nearly equally well, and only fine steps tell those photos apart.

    Args:
        rows: `[N, U * d]` float16, projected.
        units: U.
        seed: Of the sample and the centroids.
    """
    generator = np.random.default_rng(seed)
    count = min(len(rows), int(LISTS * len(rows) ** 0.5))
    sampled = rows[sample(np.arange(len(rows)), max(SAMPLED * count, LEAST), generator)].astype(np.float32)
    width = rows.shape[1] // units
    built = []
    for unit in range(units):
        columns = slice(unit * width, (unit + 1) * width)
        lists = _scalar_lists(sampled[:, columns], count, seed)
        built.append(_filled(lists, rows[:, columns], part=unit, parts=units + 1))
    return [*built, _filled(_product_lists(sampled, count, width, seed), rows, part=units, parts=units + 1)]


def _scalar_lists(sample: np.ndarray, count: int, seed: int) -> faiss.IndexIVF:
    code, metric = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    centroids, width = _centroids(sample, count, seed), sample.shape[1]
    return _trained(faiss.IndexIVFScalarQuantizer(centroids, width, count, code, metric, True), sample)


def _product_lists(sample: np.ndarray, count: int, codes: int, seed: int) -> faiss.IndexIVF:
    centroids, width = _centroids(sample, count, seed), sample.shape[1]
    lists = faiss.IndexIVFPQ(centroids, width, count, codes, 8, faiss.METRIC_INNER_PRODUCT)
    learning = lists.pq.cp
    learning.seed, learning.niter, learning.min_points_per_centroid = seed, ROUNDS, 1
    learning.max_points_per_centroid = LEAST // lists.pq.ksub
    lists.by_residual = True
    return _trained(lists, sample)


def _centroids(sample: np.ndarray, count: int, seed: int) -> faiss.IndexFlat:
    """k-means; photos go to the centroid that is nearest, not to that of the largest inner product."""
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": SAMPLED}
    means = faiss.Kmeans(sample.shape[1], count, seed=seed, niter=ROUNDS, **limits)
    means.train(np.ascontiguousarray(sample))
    centroids = faiss.IndexFlatL2(sample.shape[1])
    centroids.add(means.centroids)
    return centroids


def _trained(lists: faiss.IndexIVF, sample: np.ndarray) -> faiss.IndexIVF:
    lists.train(np.resize(sample, (max(len(sample), LEAST), sample.shape[1])))
    return lists


def _filled(lists: faiss.IndexIVF, rows: np.ndarray, part: int, parts: int) -> faiss.IndexIVF:
    """With all rows in it, and asked by inner product from now on."""
    for block in blocks(len(rows)):
        lists.add(np.ascontiguousarray(rows[block], dtype=np.float32))
        report("building", part * len(rows) + block.stop, parts * len(rows))
    centroids = faiss.downcast_index(lists.quantizer)
    asked = faiss.IndexFlatIP(centroids.d)
    asked.add(centroids.reconstruct_n(0, centroids.ntotal))
    lists.quantizer = asked
    lists.referenced_objects = [asked]
    return lists


def questions(queries: np.ndarray, part: int, units: int) -> np.ndarray:
    """What a part is asked: its unit alone, or whole rows with zeros in the units not asked for."""
    if part == units:
        return queries
    width = queries.shape[1] // units
    return np.ascontiguousarray(queries[:, part * width : (part + 1) * width])


def parameters(part: faiss.IndexIVF, wanted: int, selector: faiss.IDSelector | None) -> faiss.SearchParameters:
    """How to find that many rows."""
    enough = 2 * wanted * part.nlist // part.ntotal  # where every other photo looked at is a candidate
    probed = min(part.nlist, max(part.nlist // PROBED, LEAST_PROBED, enough))
    return faiss.SearchParametersIVF(nprobe=probed, sel=selector)


def arrays(lists: Sequence[faiss.IndexIVF]) -> dict[str, np.ndarray]:
    """As faiss writes them."""
    return {f"lists {number}": faiss.serialize_index(each) for number, each in enumerate(lists)}


def restored(kept: dict[str, np.ndarray]) -> list[faiss.IndexIVF]:
    """The inverse of `arrays`."""
    return [faiss.deserialize_index(kept[f"lists {number}"]) for number in range(len(kept))]


def memory_bytes(lists: Sequence[faiss.IndexIVF]) -> int:
    """What they take in memory: codes and row numbers, centroids, code books."""
    rows = sum(each.ntotal * (each.code_size + 8) for each in lists)
    return rows + sum(4 * each.nlist * each.d for each in lists) + 4 * lists[-1].pq.centroids.size()


def bytes_a_row(units: int, width: int) -> float:
    """What a photo takes of that, but for centroids."""
    return units * (width + 8) + width + 8  # each unit in a byte a number, whole rows in a byte for U; row numbers
