"""Photos as short codes in lists of similar photos (IVF-PQ): one set of lists for each unit, one for whole rows.

Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", TPAMI 2011.
"""

from __future__ import annotations

from collections.abc import Sequence

import faiss
import numpy as np

from tripletcl.data.splits import sample
from tripletcl.progress import report
from tripletcl.retrieval.projection import BLOCK, part_columns
from tripletcl.retrieval.table import blocks

LISTS = 2
"""Number of lists, as a multiple of the square root of the number of photos."""

PROBED_SHARE, FEWEST_PROBED = 20, 32
"""One list in 20 is searched, and at least 32."""

ITERATIONS = 10
"""Of k-means."""

SAMPLES_PER_LIST = 64
"""Photos, for each list, that the centroids and the codes are learned from."""

FEWEST_SAMPLES = 10_000
"""Photos that the codes are learned from at least; a smaller sample is repeated."""


def build(rows: np.ndarray, units: int, seed: int) -> list[faiss.IndexIVF]:
    """Build the lists of each unit and, last, of whole rows.

    A list holds the photos nearest to its centroid, each as its difference from the centroid. Whole rows are product
    quantised, a byte for every `units` numbers. A single unit takes a byte a number: half a collection may show the
    same subject nearly equally well, and only fine steps distinguish those photos.

    Args:
        rows: `[N, U * d]` float16, projected.
        units: U.
        seed: Of the sample and the centroids.
    """
    generator = np.random.default_rng(seed)
    count = min(len(rows), int(LISTS * len(rows) ** 0.5))
    numbers = sample(np.arange(len(rows)), max(SAMPLES_PER_LIST * count, FEWEST_SAMPLES), generator)
    sampled = rows[numbers].astype(np.float32)  # [n, U * d]
    *of_units, whole = part_columns(units, rows.shape[1])
    parts = [_scalar_lists(sampled[:, columns], count, seed) for columns in of_units]
    parts.append(_product_lists(sampled, count, rows.shape[1] // units, seed))
    for part, columns in enumerate([*of_units, whole]):
        _fill(parts[part], rows[:, columns], part, units + 1)
    return parts


def _scalar_lists(sample: np.ndarray, count: int, seed: int) -> faiss.IndexIVF:
    code, metric = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    centroids, width = _learn_centroids(sample, count, seed), sample.shape[1]
    return _train(faiss.IndexIVFScalarQuantizer(centroids, width, count, code, metric, True), sample)


def _product_lists(sample: np.ndarray, count: int, codes: int, seed: int) -> faiss.IndexIVF:
    centroids, width = _learn_centroids(sample, count, seed), sample.shape[1]
    lists = faiss.IndexIVFPQ(centroids, width, count, codes, 8, faiss.METRIC_INNER_PRODUCT)
    settings = lists.pq.cp
    settings.seed, settings.niter, settings.min_points_per_centroid = seed, ITERATIONS, 1
    settings.max_points_per_centroid = FEWEST_SAMPLES // lists.pq.ksub
    lists.by_residual = True
    return _train(lists, sample)


def _learn_centroids(sample: np.ndarray, count: int, seed: int) -> faiss.IndexFlat:
    """Run k-means; photos are assigned to the nearest centroid, not to that of the largest inner product."""
    limits = {"min_points_per_centroid": 1, "max_points_per_centroid": SAMPLES_PER_LIST}
    means = faiss.Kmeans(sample.shape[1], count, seed=seed, niter=ITERATIONS, **limits)
    means.train(np.ascontiguousarray(sample))
    centroids = faiss.IndexFlatL2(sample.shape[1])
    centroids.add(means.centroids)
    return centroids


def _train(lists: faiss.IndexIVF, sample: np.ndarray) -> faiss.IndexIVF:
    lists.train(np.resize(sample, (max(len(sample), FEWEST_SAMPLES), sample.shape[1])))
    return lists


def _fill(lists: faiss.IndexIVF, rows: np.ndarray, part: int, parts: int) -> None:
    """Add all rows, then let queries choose the lists by inner product."""
    for block in blocks(len(rows), BLOCK):
        lists.add(np.ascontiguousarray(rows[block], dtype=np.float32))
        report("building", part * len(rows) + block.stop, parts * len(rows))
    centroids = faiss.downcast_index(lists.quantizer)
    by_product = faiss.IndexFlatIP(centroids.d)
    by_product.add(centroids.reconstruct_n(0, centroids.ntotal))
    lists.quantizer = by_product
    lists.referenced_objects = [by_product]  # faiss's way to keep it alive as long as the lists


def part_queries(queries: np.ndarray, part: int, units: int) -> np.ndarray:
    """The queries `[Q, U * d]` as a part takes them: its unit `[Q, d]`, or whole rows with zeros for wildcards."""
    return np.ascontiguousarray(queries[:, part_columns(units, queries.shape[1])[part]])


def find(part: faiss.IndexIVF, queries: np.ndarray, count: int, kept: np.ndarray | None) -> np.ndarray:
    """Find `count` rows for each query, `[Q, count]`, -1 for each missing; of `kept`, `[N]` bool, only those.

    As many of those rows are compared as of all without a filter: the fewer are kept, the more lists are searched.
    """
    left = part.ntotal if kept is None else int(kept.sum())
    selector = None if kept is None else faiss.IDSelectorBitmap(np.packbits(kept, bitorder="little"))
    enough = 2 * count * part.nlist // left  # lists with twice as many photos
    probed = max(part.nlist // PROBED_SHARE, FEWEST_PROBED) * part.ntotal // left
    parameters = faiss.SearchParametersIVF(nprobe=min(part.nlist, max(probed, enough)), sel=selector)
    return part.search(queries, count, params=parameters)[1]


def to_arrays(lists: Sequence[faiss.IndexIVF]) -> dict[str, np.ndarray]:
    """The parts as faiss writes them."""
    return {f"lists {part}": faiss.serialize_index(each) for part, each in enumerate(lists)}


def from_arrays(arrays: dict[str, np.ndarray]) -> list[faiss.IndexIVF]:
    """The inverse of `to_arrays`."""
    return [faiss.deserialize_index(arrays[f"lists {part}"]) for part in range(len(arrays))]


def bytes_per_row(units: int, width: int) -> float:
    """Memory for a photo of `units * width` numbers, without the centroids."""
    return units * (width + 8) + width + 8  # a unit: a byte a number; a whole row: a byte for U numbers; row numbers
