"""Slow and obviously right twins of the evaluation."""

from __future__ import annotations

import math


def average_precision_by_loops(scores: list[float], relevant: list[bool]) -> float:
    """Count, for each relevant image, the images with at least its score; NaN where no order is wrong."""
    if all(relevant):
        return math.nan
    precisions = []
    for score, is_relevant in zip(scores, relevant, strict=True):
        if is_relevant:
            above = [other for other, s in zip(relevant, scores, strict=True) if s >= score]
            precisions.append(sum(above) / len(above))
    return sum(precisions) / len(precisions) if precisions else math.nan


def filtered_ranks_by_loops(scores: list[list[float]], relevant: list[list[bool]]) -> list[int]:
    """One rank for each true (image, fact) pair, in row-major order."""
    ranks = []
    for row, truth in zip(scores, relevant, strict=True):
        for fact, is_true in enumerate(truth):
            if is_true:
                wrong = [score for score, other in zip(row, truth, strict=True) if not other]
                ranks.append(1 + sum(score >= row[fact] for score in wrong))
    return ranks


def cosine(a: list[float], b: list[float]) -> float:
    length = math.sqrt(math.fsum(x * x for x in a)) * math.sqrt(math.fsum(x * x for x in b))
    return math.fsum(x * y for x, y in zip(a, b, strict=True)) / length
