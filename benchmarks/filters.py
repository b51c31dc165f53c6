"""Search among photos that a filter keeps, against search among all: recall and time by the share that it keeps.

    python benchmarks/filters.py --rows 200000 --kinds hnsw ivfpq
    python benchmarks/filters.py --rows 1000000 --kinds scan

A row has three units of 96 numbers, each near one of a thousand things, a little of another, with noise. Two filters of
each share: photos by chance, and those that show one thing best, as the photos of a day or a folder look alike. Queries
are things in each of the seven patterns.

recall@10 is the share of the ten best by exact search among the kept rows; a row that scores as the tenth best counts.
A time is one query on one thread: candidates, their scores by the full vectors, the ten best; queries with and without
the filter take turns. "ratio" is of the medians of processor time, so it depends little on other work on the machine.
"scan" has the rows of hnsw without its graphs, which take long to build, and no time without a filter.
"""

from __future__ import annotations

import argparse
import itertools
import time

import faiss
import numpy as np

from tripletcl.retrieval import exact_search, graphs
from tripletcl.retrieval.projection import BLOCK, Projection
from tripletcl.retrieval.structures import Structure, build_structure
from tripletcl.retrieval.table import blocks

WIDTH, THINGS = 96, 1000
PATTERNS = [pattern for pattern in itertools.product([0, 1], repeat=3) if any(pattern)]
TIES = 1e-6


def main() -> None:
    options = parse()
    rng = np.random.default_rng(0)
    things = normalise(rng.standard_normal((3, THINGS, WIDTH)))
    rows = sample_rows(things, options.rows, rng)
    queries = sample_queries(things, options.queries, rng)
    for kind in options.kinds:
        start = time.process_time()
        structure = scanned(rows) if kind == "scan" else build_structure(kind, rows)
        print(f"{kind}: {len(rows):,} rows, built in {time.process_time() - start:.0f} s of processor time\n")
        print("| kept | by | recall | median | 95 % | processor | without | ratio |")
        print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        faiss.omp_set_num_threads(1)
        for share, by in itertools.product(options.keep, ("chance", "what they show")):
            order = rng.random(len(rows)) if by == "chance" else rows[:, :WIDTH] @ things[0, 0]
            excluded = np.ones(len(rows), bool)
            excluded[np.argsort(-order)[: int(share * len(rows))]] = False
            print(
                f"| {share:.1%} | {by} | " + " | ".join(measure(structure, rows, queries, excluded)) + " |", flush=True
            )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--kinds", nargs="+", choices=["hnsw", "ivfpq", "scan"], default=["hnsw", "ivfpq"])
    parser.add_argument("--keep", type=float, nargs="+", default=[0.001, 0.01, 0.05, 0.09, 0.11, 0.5, 1])
    parser.add_argument("--queries", type=int, default=10, help="for each pattern")
    return parser.parse_args()


def normalise(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def sample_rows(things: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    rows = np.empty((count, 3 * WIDTH), np.float32)
    for block in blocks(count, BLOCK):
        size = block.stop - block.start
        first, second = rng.integers(THINGS, size=(2, 3, size))
        weight = rng.uniform(0.6, 1, size=(3, size, 1)).astype(np.float32)
        noise = rng.standard_normal((3, size, WIDTH), np.float32) * 0.05
        unit = np.arange(3)[:, None]
        units = normalise(weight * things[unit, first] + (1 - weight) * things[unit, second] + noise)
        rows[block] = units.transpose(1, 0, 2).reshape(size, -1)
    return rows


def sample_queries(things: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    texts = things[np.arange(3)[:, None], rng.integers(THINGS, size=(3, count))].transpose(1, 0, 2)  # [count, 3, D]
    masked = [texts * np.array(pattern)[None, :, None] for pattern in PATTERNS]
    return np.concatenate(masked).reshape(-1, 3 * WIDTH).astype(np.float32)


def scanned(rows: np.ndarray) -> Structure:
    """The structure of kind hnsw without its links: fit for filters that keep little."""
    projection = Projection(np.zeros((3, WIDTH), np.float32), np.stack([np.eye(WIDTH, dtype=np.float32)] * 3))
    storage = graphs.build_storage(rows.astype(np.float16))
    links = graphs.link_rows(rows[:1], seed=0)
    parts = [graphs.attach_storage(links, storage) for _ in range(4)]
    for part in parts:
        part.ntotal = len(rows)
    return Structure("hnsw", len(rows), projection, parts)


def measure(structure: Structure, rows: np.ndarray, queries: np.ndarray, excluded: np.ndarray) -> list[str]:
    """The cells of a line."""
    none, kept = np.zeros(len(rows), bool), np.flatnonzero(~excluded)
    is_linked = structure.kind != "hnsw" or structure.parts[0].hnsw.levels.size() == len(rows)
    clocks: list[tuple[float, float, float]] = []
    found = []
    for query in queries:
        best, clock, processor = timed(structure, rows, query, excluded)
        without = timed(structure, rows, query, none)[2] if is_linked else np.nan
        clocks.append((clock, processor, without))
        tenth = np.sort(rows[kept] @ query)[-min(10, len(kept))]
        found.append(np.minimum((best >= tenth - TIES).sum(), 10) / min(10, len(kept)))
    clock, processor, without = 1e3 * np.array(clocks).T
    ratio = np.median(processor) / np.median(without)
    values = (np.median(clock), np.quantile(clock, 0.95), np.median(processor), np.median(without))
    return [f"{np.mean(found):.3f}", *(f"{value:.1f} ms" for value in values), f"{ratio:.2f}"]


def timed(
    structure: Structure, rows: np.ndarray, query: np.ndarray, excluded: np.ndarray
) -> tuple[np.ndarray, float, float]:
    """The ten best scores, and the seconds by the clock and of the processor.

    The search runs once before, for twice the query: its rows are the same, but a structure remembers others.
    """
    exact_search.search_by(structure, rows, 2 * query[None], 10, excluded)
    start = time.perf_counter(), time.process_time()
    [(scores, _)] = exact_search.search_by(structure, rows, query[None], 10, excluded)
    best = np.sort(scores)[::-1][:10]
    return best, time.perf_counter() - start[0], time.process_time() - start[1]


if __name__ == "__main__":
    main()
