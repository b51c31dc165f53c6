"""A photo index in a store: recall and time of queries, filters, and of an upgrade, against what is asked.

    python benchmarks/stores.py --rows 100000
    python benchmarks/stores.py --rows 100000 --vectors runs/RUN/stages/stage-04/vectors.safetensors

A row has three units of 96 numbers, each near one of a thousand things, a little of another, with noise
(`benchmarks/filters.py`); with `--vectors`, of the photographs of a stage (`benchmarks/retrieval.py`). Queries are 60
for each of the seven patterns; the filters keep every 25th and every 1000th photo, by their folder.

recall@10 is the share of the ten best by plain products with the stored vectors; a row that scores as the tenth best
counts. A time is one query by the clock, its scores and paths included. The upgrade maps every vector by a map that is
learned from 500 photos, and builds the lists again.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import filters
import numpy as np
import retrieval
import torch

from tripletcl.retrieval import FactIndex, Filter, writing
from tripletcl.retrieval.stores.address import open_store
from tripletcl.retrieval.table import blocks
from tripletcl.retrieval.upgrade import upgrade_vectors
from tripletcl.retrieval.vector_map import learn_map

TIES = 1e-6
FILTERS = {25: Filter(folder="d07"), 1000: Filter(folder="e123")}
PATTERNS = ["".join(unit for unit, named in zip("SPO", each, strict=True) if named) for each in filters.PATTERNS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=60, help="for each pattern")
    parser.add_argument("--vectors", type=Path, help="a stage's vectors.safetensors")
    parser.add_argument("--store", help="address of the index; default a Lance table in a temporary folder")
    options = parser.parse_args()
    rows, queries = drawn(options)
    with tempfile.TemporaryDirectory() as folder:
        measure(options.store or f"{folder}/photos.lance", rows, queries)


def drawn(options: argparse.Namespace) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """`[N, 3 * D]` rows, and `[Q, 3 * D]` queries of each pattern."""
    rng = np.random.default_rng(0)
    if options.vectors is not None:
        images, facts = retrieval.stage_vectors(options.vectors)
        rows = np.empty((options.rows, images[0].size), np.float32)
        retrieval.sample_rows(images, rows, 0.5, 0.05, rng)
        queries = retrieval.sample_queries(images, facts, options.queries, rng)
        return rows, {pattern: queries[pattern] for pattern in PATTERNS}
    things = filters.normalise(rng.standard_normal((3, filters.THINGS, filters.WIDTH)))
    rows = filters.sample_rows(things, options.rows, rng)
    queries = np.split(filters.sample_queries(things, options.queries, rng), len(PATTERNS))
    return rows, dict(zip(PATTERNS, queries, strict=True))


def measure(address: str, rows: np.ndarray, queries: dict[str, np.ndarray]) -> None:
    names = [f"/photos/d{row % 25:02}/e{row % 1000:03}/{row:08}.jpg" for row in range(len(rows))]
    print(f"{len(rows):,} rows of {rows.shape[1]}, load average {os.getloadavg()[0]:.1f}")
    print("| | asked | measured |")
    print("| --- | --- | --- |")
    with timed("written and put into lists"), writing(address) as index:
        for block in blocks(len(rows), 10_000):
            index.add(names[block], rows[block].reshape(-1, 3, rows.shape[1] // 3))
    line("bytes a photo", "", f"{open_store(address).size() / len(rows):,.0f}")
    index = FactIndex.load(address)
    search(index, queries)
    for share, where in FILTERS.items():
        filtered(index, queries, share, where)
    generator = torch.Generator().manual_seed(0)
    before = torch.from_numpy(rows[:500].reshape(500, 3, -1))
    after = before + 0.05 * torch.randn(before.shape, generator=generator)
    learned = learn_map(before, torch.nn.functional.normalize(after, dim=-1))
    with timed("upgrade of all photos", "<= 60 s"), writing(address) as other:
        other.replace_vectors(lambda block: upgrade_vectors(learned, torch.from_numpy(block.copy())), model="later")
    print(f"\nnow {FactIndex.load(address).why}; a reader that was open has model {index.model}")


def line(what: str, asked: str, measured: str) -> None:
    print(f"| {what} | {asked} | {measured} |", flush=True)


@contextmanager
def timed(what: str, asked: str = "") -> Iterator[None]:
    start = time.perf_counter()
    yield
    line(what, asked, f"{time.perf_counter() - start:.1f} s")


def search(index: FactIndex, queries: dict[str, np.ndarray]) -> None:
    stored, recalls, seconds = index.rows(), {}, []
    for pattern, vectors in queries.items():
        found = [answered(index, query) for query in vectors]
        seconds += [each[1] for each in found]
        recalls[pattern] = np.mean([recall(stored, query, each[0]) for query, each in zip(vectors, found, strict=True)])
    wildcards = [value for pattern, value in recalls.items() if pattern != "SPO"]
    line("recall of full facts", ">= .98", f"{recalls['SPO']:.3f}")
    line("of wildcards", ">= .98", f"{np.mean(wildcards):.3f}")
    line("of the worst pattern", ">= .95", f"{min(recalls.values()):.3f} ({min(recalls, key=lambda p: recalls[p])})")
    median, slow = np.quantile(np.array(seconds) * 1e3, [0.5, 0.95])
    line("median of a query, 95 %", "<= 60 ms", f"{median:.1f} ms, {slow:.1f} ms")


def filtered(index: FactIndex, queries: dict[str, np.ndarray], share: int, where: Filter) -> None:
    kept = np.flatnonzero(index.kept(where))
    stored, recalls, seconds, fewest = index.rows(kept), [], [], 10
    for query in np.concatenate([vectors[:10] for vectors in queries.values()]):
        scores, clock = answered(index, query, where)
        fewest = min(fewest, len(scores))
        recalls.append(recall(stored, query, scores))
        seconds.append(clock)
    line(f"filter 1/{share}: fewest results", f"{min(10, len(kept))}", f"{fewest}")
    line("recall", ">= .95", f"{np.mean(recalls):.3f}")
    line("median", "", f"{np.median(seconds) * 1e3:.1f} ms")


def answered(index: FactIndex, query: np.ndarray, where: Filter | None = None) -> tuple[np.ndarray, float]:
    """The ten best scores with their paths, and the seconds; the search runs once before."""
    index.search_vectors(query[None], 10, where)
    start = time.perf_counter()
    [hits] = index.search_vectors(query[None], 10, where)
    return np.array([hit.score for hit in hits]), time.perf_counter() - start


def recall(stored: np.ndarray, query: np.ndarray, scores: np.ndarray) -> float:
    products = stored @ query
    tenth = np.partition(products, -10)[-10] if len(products) > 10 else products.min()
    return min(10, (scores >= tenth - TIES).sum()) / min(10, len(products))


if __name__ == "__main__":
    main()
