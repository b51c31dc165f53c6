"""The loss of storing d numbers a unit: in the ten best photos, and in MAP.

    python benchmarks/projection.py --vectors runs/RUN/stages/stage-04/vectors.safetensors --table facts.csv

Recall: of the ten best by full vectors, the share among the best 50 and 200 by d numbers a unit, over rows and queries
as `benchmarks/retrieval.py` draws them; no graph and no codes, so that this is the loss of the projection only. MAP: of
the table's facts over the test photographs of the stage, ranked by d numbers a unit, and with the first 200 re-ranked
by their full vectors. The projection of the photographs is learned from the photographs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from retrieval import OTHERS, PATTERNS, TIES, sample_queries, sample_rows, stage_vectors
from safetensors.numpy import load_file

from tripletcl.data import read_table
from tripletcl.evaluation.average_precision import average_precision, mean_average_precision
from tripletcl.retrieval.projection import BLOCK, Projection, learn_projection
from tripletcl.retrieval.table import blocks

DEPTHS = (50, 200)


def main() -> None:
    options = parse()
    images, facts = stage_vectors(options.vectors)
    rng = np.random.default_rng(options.seed)
    rows = np.empty((options.rows, images[0].size), np.float32)
    sample_rows(images, rows, 0.5, 0.05, rng)
    queries = sample_queries(images, facts, options.queries, rng)
    relevant = relevance(options.table, load_file(options.vectors)["image_ids"])
    photographs, fact_vectors = images.reshape(len(images), -1), facts.reshape(len(facts), -1)
    exact = photographs @ fact_vectors.T
    print(f"{len(rows):,} rows; MAP by full vectors {mean_map(exact, relevant):.4f}\n")
    depths = " | ".join(f"recall@10 in {depth}: taught | {OTHERS[0]}" for depth in DEPTHS)
    print(f"| d | bytes | {depths} | MAP by d only | MAP re-ranked |")
    print("| --- " * (4 + 2 * len(DEPTHS)) + "|")
    for width in options.widths:
        recalls = recall(learn_projection(rows, 3, width, rng), rows, queries)
        own = learn_projection(photographs, 3, width, rng)
        scores = own.rows(photographs) @ own.queries(fact_vectors).T
        maps = [mean_map(scores, relevant), mean_map(reranked(scores, exact, DEPTHS[-1]), relevant)]
        cells = [
            f"{width}",
            f"{6 * width}",
            *(f"{value:.3f}" for value in recalls),
            *(f"{value:.4f}" for value in maps),
        ]
        print("| " + " | ".join(cells) + " |", flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", type=Path, required=True, help="a stage's vectors.safetensors")
    parser.add_argument("--table", type=Path, required=True, help="the facts its run learned")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 32, 48, 64, 96, 128, 192])
    parser.add_argument("--queries", type=int, default=60, help="of each pattern")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def relevance(table: Path, image_ids: np.ndarray) -> np.ndarray:
    """`[N, F]` bool."""
    facts = read_table(table)
    return facts.relevance("test", image_ids, np.arange(len(facts.facts))).toarray()


def mean_map(scores: np.ndarray, relevant: np.ndarray) -> float:
    return mean_average_precision(average_precision(torch.from_numpy(scores), torch.from_numpy(relevant)))


def reranked(scores: np.ndarray, exact: np.ndarray, depth: int) -> np.ndarray:
    """Scores that rank the first `depth` of each fact by their exact scores, before all others."""
    first = scores >= np.sort(scores, axis=0)[-depth]
    return np.where(first, exact + 10, scores)


def recall(projection: Projection, rows: np.ndarray, queries: dict[str, np.ndarray]) -> list[float]:
    """For each depth the mean over the seven patterns, and that for subjects never taught."""
    small = np.concatenate([projection.rows(rows[block]) for block in blocks(len(rows), BLOCK)])
    recalls = {name: np.zeros(len(DEPTHS)) for name in (*PATTERNS, OTHERS[0])}
    for name in recalls:
        for query, small_query in zip(queries[name], projection.queries(queries[name]), strict=True):
            exact = rows @ query
            least = np.partition(exact, -10)[-10] - TIES
            order = np.argsort(-(small @ small_query))
            recalls[name] += [
                min(10, (exact[order[:depth]] >= least).sum()) / 10 / len(queries[name]) for depth in DEPTHS
            ]
    taught = np.mean([recalls[name] for name in PATTERNS], axis=0)
    return [value for pair in zip(taught, recalls[OTHERS[0]], strict=True) for value in pair]


if __name__ == "__main__":
    main()
