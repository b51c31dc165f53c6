"""Photos that fit a request: one term by its cosines, several by the product of probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tripletcl.data.facts import UNITS
from tripletcl.data.query import Query
from tripletcl.errors import UserError
from tripletcl.retrieval.calibration import ANY, PHOTO, Calibration, Logistic, pattern
from tripletcl.retrieval.index import FactIndex, Hit
from tripletcl.retrieval.model import Embedder, PhotoEmbedder
from tripletcl.retrieval.query import query_vectors
from tripletcl.retrieval.request import Request, Term

ROWS = 8192
"""Photos scored at a time."""
SAMPLE = 4096
"""Photos that the spread of a score is read off, where the model has no calibration."""
STEEPNESS, MIDDLE = 1.4, 4.0
"""Without a calibration: log-odds a standard deviation of a score, and how many above the mean the odds are even."""
WIDER = 20
"""Candidates of an approximate index for each photo asked for."""


def answer(index: FactIndex, request: Request, k: int = 10, calibration: Calibration | None = None) -> list[Hit]:
    """The k photos that fit a request best.

    A request of one term is ranked by the sum of the cosines of its units, as `FactIndex.search` ranks. Several are
    ranked by the product of probabilities, sum of log p over the terms + sum of log(1 - p) over the excluded ones, p
    by the model's calibration; that product is the score. Without a calibration, p tells how far a score lies above the
    mean score of the index, in standard deviations: enough to rank by, but no probability.

    A flat index is searched exactly. An approximate one proposes candidates by every term alone and by all together,
    and they are scored by their stored vectors. Example photos are not found themselves.

    Raises:
        UserError: k is not positive, an example cannot be read, or the index has no embedder.
    """
    if k < 1:
        raise UserError(f"k must be at least 1, not {k}")
    if not len(index):
        return []
    vectors = term_vectors(request.terms, index.embedder)
    examples = {term.wanted.resolve() for term in request.terms if isinstance(term.wanted, Path)}
    if len(request.terms) == 1:
        hits = index.search_vectors(vectors, k + len(examples))[0]
    else:
        hits = _joined(index, request, vectors, k + len(examples), calibration)
    return [hit for hit in hits if not examples or hit.path.resolve() not in examples][:k]


def term_vectors(terms: Sequence[Term], embedder: Embedder | None) -> np.ndarray:
    """`[T, 3 * D]` float32, whose inner product with a photo's row is the sum of the cosines of the units asked for."""
    if embedder is None:
        raise UserError("this index was opened without a model and cannot encode a request; load it with embedder=")
    queries = [term.wanted for term in terms if isinstance(term.wanted, Query)]
    photos = [term.wanted for term in terms if isinstance(term.wanted, Path)]
    asked = iter(query_vectors(queries, embedder))
    examples = iter(_photo_vectors(photos, embedder) if photos else ())
    return np.stack([next(examples if isinstance(term.wanted, Path) else asked) for term in terms])


def _photo_vectors(photos: list[Path], embedder: Embedder) -> np.ndarray:
    if not isinstance(embedder, PhotoEmbedder):
        raise UserError("this index was opened with a model of texts alone, so it cannot be asked by a photo")
    return embedder.vectors_of(embedder.represent_images(photos)).flatten(1).float().cpu().numpy()


# --- several terms ---------------------------------------------------------------------------------------------------


def _joined(
    index: FactIndex, request: Request, vectors: np.ndarray, k: int, calibration: Calibration | None
) -> list[Hit]:
    means = vectors / np.array([[_units(term)] for term in request.terms], dtype=np.float32)
    living = np.flatnonzero(~index.deleted)
    if calibration is not None:
        curves = [calibration.asked.get(_kind(term), calibration.asked[ANY]) for term in request.terms]
    else:
        sample = living[:: -(-len(living) // SAMPLE)]
        curves = [_by_spread(scores) for scores in _mean_cosines(index, means, sample).T]
    rows = living if index.kind == "flat" else _candidates(index, request, means, curves, k)
    scores = _mean_cosines(index, means, rows)
    logits = np.stack([curve.logit(scores[:, place]) for place, curve in enumerate(curves)])  # [T, n]
    signs = np.array([[-1.0 if term.excluded else 1.0] for term in request.terms])
    total = -np.logaddexp(0, -signs * logits).sum(axis=0)  # log sigmoid(x) = -log(1 + exp(-x))
    least = np.partition(total, -k)[-k] if k < len(total) else -np.inf
    best = [(-total[place], index.paths[rows[place]]) for place in np.flatnonzero(total >= least)]
    return [Hit(path, float(np.exp(-cost))) for cost, path in sorted(best)[:k]]


def _mean_cosines(index: FactIndex, means: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`[n, T]`, each rounded to float32: equal photos have equal scores, whichever block they stand in."""
    queries = means.astype(np.float64).T
    blocks = (rows[start : start + ROWS] for start in range(0, len(rows), ROWS))
    scores = [(index.rows(block).astype(np.float64) @ queries).astype(np.float32) for block in blocks]
    return np.concatenate(scores).astype(np.float64)


def _candidates(
    index: FactIndex, request: Request, means: np.ndarray, curves: Sequence[Logistic], k: int
) -> np.ndarray:
    """Rows that an approximate index finds by each term that is to be shown, by all of them, and by all terms."""
    weights = np.array([curve.slope for curve in curves], dtype=np.float32)
    excluded = np.array([term.excluded for term in request.terms])
    together = [weights * ~excluded, weights * np.where(excluded, -0.5, 1)]
    queries = np.concatenate([means[~excluded], np.stack(together) @ means])
    return np.unique(np.concatenate([rows for _, rows in index.search_rows(queries, max(WIDER * k, 200))]))


def _by_spread(scores: np.ndarray) -> Logistic:
    """Even odds at MIDDLE standard deviations above the mean, but at most at the best score that there is."""
    spread = scores.std()
    if not spread > 0:
        return Logistic(0.0, 0.0)
    slope, even = STEEPNESS / spread, min(scores.mean() + MIDDLE * spread, scores.max())
    return Logistic(float(slope), float(-slope * even))


def _kind(term: Term) -> str:
    return pattern(term.wanted.units) if isinstance(term.wanted, Query) else PHOTO


def _units(term: Term) -> int:
    return sum(unit is not None for unit in term.wanted.units) if isinstance(term.wanted, Query) else len(UNITS)
