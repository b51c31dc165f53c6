"""An index of float16 against one of float32: bytes a photo, the ten best they share, and the time of a query.

    python benchmarks/precision.py --rows 50000 --kinds flat hnsw

A row has three units of 384 numbers, each near one of a thousand things, a little of another, with noise; some rows
resemble each other closely. Queries are things in each of the seven patterns. "shared" is the share of the ten best of
float32 whose score by the full vectors is reached by the ten of float16; "score" is the largest difference of a score.
A time is one query on one thread, median of processor time; both precisions take turns.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import torch

from tripletcl.retrieval import FactIndex, writing
from tripletcl.retrieval.table import blocks

WIDTH, THINGS, TIES = 384, 1000, 1e-6
PATTERNS = [pattern for pattern in itertools.product([0, 1], repeat=3) if any(pattern)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--kinds", nargs="+", default=["flat", "hnsw"])
    parser.add_argument("--queries", type=int, default=10, help="for each pattern")
    options = parser.parse_args()
    faiss.omp_set_num_threads(1)
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    things = normalise(rng.standard_normal((3, THINGS, WIDTH)))
    rows, queries = sample_rows(things, options.rows, rng), sample_queries(things, options.queries, rng)
    print("| kind | bytes a photo | of float16 | shared | score | float32 | float16 |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for kind in options.kinds:
        with tempfile.TemporaryDirectory() as folder:
            print(f"| {kind} | " + " | ".join(measure(Path(folder), kind, rows, queries)) + " |", flush=True)


def normalise(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)).astype(np.float32)


def sample_rows(things: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`[count, 3, WIDTH]`."""
    rows, unit = np.empty((count, 3, WIDTH), np.float32), np.arange(3)[:, None]
    for block in blocks(count, 10_000):
        size = block.stop - block.start
        first, second = rng.integers(THINGS, size=(2, 3, size))
        weight = rng.uniform(0.6, 1, size=(3, size, 1)).astype(np.float32)
        mixed = weight * things[unit, first] + (1 - weight) * things[unit, second]
        mixed += rng.standard_normal(mixed.shape, np.float32) * 0.02
        rows[block] = normalise(mixed).transpose(1, 0, 2)
    return rows


def sample_queries(things: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    texts = things[np.arange(3)[:, None], rng.integers(THINGS, size=(3, count))].transpose(1, 0, 2)
    masked = [texts * np.array(pattern)[None, :, None] for pattern in PATTERNS]
    return np.concatenate(masked).reshape(-1, 3 * WIDTH).astype(np.float32)


def measure(folder: Path, kind: str, rows: np.ndarray, queries: np.ndarray) -> list[str]:
    """The cells of a line."""
    names = [f"{row:07}" for row in range(len(rows))]
    indexes = []
    for precision in ("float32", "float16"):
        with writing(folder / precision, kind=kind, precision=precision) as index:
            index.add(names, rows)
        indexes.append(FactIndex.load(folder / precision))
    shared, largest, seconds = [], 0.0, []
    flat = rows.reshape(len(rows), -1)
    for query in queries:
        found = [timed(index, query) for index in indexes]
        seconds.append([each[2] for each in found])
        (scores, _, _), (rounded, numbers, _) = found
        exact = (flat[numbers].astype(np.float64) * query).sum(axis=1)
        shared.append((exact >= scores[-1] - TIES).mean())
        largest = max(largest, float(np.abs(exact - rounded).max()))
    sizes = [next((folder / each).glob("vectors-*")).stat().st_size / len(rows) for each in ("float32", "float16")]
    milliseconds = np.median(np.array(seconds), axis=0) * 1e3
    cells = [f"{size:,.0f}" for size in sizes] + [f"{np.mean(shared):.4f}", f"{largest:.1e}"]
    return cells + [f"{value:.1f} ms" for value in milliseconds]


def timed(index: FactIndex, query: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Scores and rows of the ten best, and the seconds of the processor.

    The search runs once before, for twice the query: its rows are the same, but a structure remembers others.
    """
    index.search_rows(2 * query[None], 10)
    start = time.process_time()
    [(scores, rows)] = index.search_rows(query[None], 10)
    return scores, rows, time.process_time() - start


if __name__ == "__main__":
    main()
