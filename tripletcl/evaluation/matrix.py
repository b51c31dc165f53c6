"""Forgetting and transfer of a sequence, from its matrix of scores.

R is `[T + 1, T]`: R[t, i] is the score of task i (1..T, column i - 1) at stage t; stage 0 is before training, stage t
after task t. A score that is not known is None: a task that was added later was not evaluated before, and test photos
may be missing; the means are over the tasks whose scores are known. All three numbers are None where they are
undefined: a single task, a matrix that is not `[T + 1, T]` (joint training has no stages between; a sequence may have
stopped early), or nothing known.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Matrix = Sequence[Sequence[float | None]]


def forgetting(matrix: Matrix) -> float | None:
    """Compute the mean over i < T of max over t in 1..T-1 of R[t, i], minus R[T, i]. Lower is better.

    Chaudhry et al., "Riemannian walk for incremental learning", ECCV 2018.
    """
    scores = _stages_by_tasks(matrix)
    if scores is None:
        return None
    best = np.where(np.isnan(scores), -np.inf, scores)[1:-1, :-1].max(axis=0)
    return _mean(np.where(np.isfinite(best), best, np.nan) - scores[-1, :-1])


def backward_transfer(matrix: Matrix) -> float | None:
    """Compute the mean over i < T of R[T, i] - R[i, i], the effect of later tasks on earlier ones. Higher is better.

    Lopez-Paz & Ranzato, "Gradient episodic memory for continual learning", NeurIPS 2017.
    """
    scores = _stages_by_tasks(matrix)
    if scores is None:
        return None
    return _mean(scores[-1, :-1] - scores[1:].diagonal()[:-1])


def forward_transfer(matrix: Matrix) -> float | None:
    """Compute the mean over i >= 2 of R[i-1, i] - R[0, i], the effect of earlier tasks on later ones. Higher is better.

    Lopez-Paz & Ranzato, "Gradient episodic memory for continual learning", NeurIPS 2017.
    """
    scores = _stages_by_tasks(matrix)
    if scores is None:
        return None
    return _mean(scores[:-1].diagonal()[1:] - scores[0, 1:])


def _mean(values: np.ndarray) -> float | None:
    """The mean of the known values."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None


def _stages_by_tasks(matrix: Matrix) -> np.ndarray | None:
    """The matrix as `[T + 1, T]` float64, NaN for None; or None where the three numbers are undefined."""
    scores = np.array(matrix, dtype=np.float64)
    stages, tasks = scores.shape if scores.ndim == 2 else (0, 0)
    return scores if tasks > 1 and stages == tasks + 1 else None
