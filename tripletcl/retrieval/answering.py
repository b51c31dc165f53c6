"""Photos that fit a request: one term is ranked by cosines, several by the product of probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tripletcl.data.facts import UNITS, Query
from tripletcl.errors import UserError, check_count
from tripletcl.retrieval.calibration import ANY, PHOTO, Calibration, Logistic, pattern
from tripletcl.retrieval.filters import Filter
from tripletcl.retrieval.model import PhotoEmbedder
from tripletcl.retrieval.request import Request, Term, query_vectors
from tripletcl.retrieval.searched import Hit, Searched
from tripletcl.retrieval.table import blocks

BLOCK = 512
"""Photos scored at a time: so few that the memory of a block, in float64, is used again for the next."""
SAMPLE = 4096
"""Photos that the spread of a score is measured on, where the model has no calibration."""
STEEPNESS, EVEN_ODDS = 1.4, 4.0
"""Without a calibration: log-odds a standard deviation of a score, and standard deviations above the mean at odds 1."""
CANDIDATES, FEWEST_CANDIDATES = 20, 200
"""Candidates of an approximate index for each photo asked for, and the least number."""
FEW = 10_000
"""Photos that are scored one by one in an approximate index too, where a filter keeps no more."""


def answer(
    index: Searched,
    request: Request,
    k: int = 10,
    calibration: Calibration | None = None,
    where: Filter | None = None,
) -> list[Hit]:
    """Find the k photos that fit a request best.

    A request of one term is ranked by the sum of the cosines of its units, as in `FactIndex.search`. Several terms are
    ranked by the product of probabilities, sum of log p over the terms + sum of log(1 - p) over the excluded ones, with
    p of the model's calibration; the score is that product. Without a calibration p says how many standard deviations a
    score lies above the mean score of the index: enough for a ranking, but no probability.

    A flat index is searched exactly. An approximate one proposes candidates for each term and for all together, and
    they are scored by their stored vectors. Example photos are left out of the result. Only photos that meet the
    filter, and were taken in the days that the request names, are searched.

    Raises:
        UserError: k is not positive, an example cannot be read, no photo meets the filter, or the index has no
            embedder.
    """
    k = check_count("k", k)
    if not len(index):
        return []
    where = (where or Filter()).within(request.where)
    vectors = term_vectors(request.terms, index)
    examples = {term.wanted.resolve() for term in request.terms if isinstance(term.wanted, Path)}
    if len(request.terms) == 1:
        hits = index.search_vectors(vectors, k + len(examples), where)[0]
    else:
        hits = _rank_jointly(index, request, vectors, k + len(examples), calibration, where)
    return [hit for hit in hits if not examples or hit.path.resolve() not in examples][:k]


def term_vectors(terms: Sequence[Term], index: Searched) -> np.ndarray:
    """`[T, 3 * D]` float32, whose inner product with a photo's row is the sum of the cosines of a term's units.

    An example photo that the index holds has its vectors there; others are read.
    """
    if index.embedder is None:
        raise UserError("this index was opened without a model and cannot encode a request; load it with embedder=")
    queries = [term.wanted for term in terms if isinstance(term.wanted, Query)]
    photos = [term.wanted for term in terms if isinstance(term.wanted, Path)]
    of_queries = iter(query_vectors(queries, index.embedder))
    of_photos = iter(_photo_vectors(photos, index) if photos else ())
    return np.stack([next(of_photos if isinstance(term.wanted, Path) else of_queries) for term in terms])


def _photo_vectors(photos: list[Path], index: Searched) -> list[np.ndarray]:
    rows = {photo: index.row(photo) for photo in photos}
    vectors = {photo: index.rows([row])[0] for photo, row in rows.items() if row is not None}
    if others := [photo for photo in dict.fromkeys(photos) if photo not in vectors]:
        if not isinstance(index.embedder, PhotoEmbedder):
            raise UserError("this index was opened with a model that encodes only texts, so it takes no example photos")
        read = index.embedder.vectors_of(index.embedder.represent_images(others)).flatten(1).float().cpu().numpy()
        vectors |= dict(zip(others, read, strict=True))
    return [vectors[photo] for photo in photos]


# --- several terms ---------------------------------------------------------------------------------------------------


def _rank_jointly(
    index: Searched, request: Request, vectors: np.ndarray, k: int, calibration: Calibration | None, where: Filter
) -> list[Hit]:
    means = vectors / np.array([[_unit_count(term)] for term in request.terms], dtype=np.float32)  # [T, 3 * D]
    living = np.flatnonzero(~index.deleted)
    if calibration is not None:
        curves = [calibration.queries.get(_kind(term), calibration.queries[ANY]) for term in request.terms]
    else:
        sample = living[:: -(-len(living) // SAMPLE)]
        curves = [_curve_by_spread(scores) for scores in _mean_cosines(index, means, sample).T]
    kept = np.flatnonzero(index.kept(where))
    is_exact = index.kind == "flat" or len(kept) <= FEW
    rows = kept if is_exact else _candidates(index, request, means, curves, k, where)
    scores = _mean_cosines(index, means, rows)  # [n, T]
    logits = np.stack([curve.logit(scores[:, term]) for term, curve in enumerate(curves)])  # [T, n]
    signs = np.array([[-1.0 if term.excluded else 1.0] for term in request.terms])  # [T, 1]
    total = -np.logaddexp(0, -signs * logits).sum(axis=0)  # [n]: log sigmoid(x) = -log(1 + exp(-x))
    least = np.partition(total, -k)[-k] if k < len(total) else -np.inf
    best = [(-total[n], index.paths[rows[n]]) for n in np.flatnonzero(total >= least)]
    return [Hit(path, float(np.exp(-cost))) for cost, path in sorted(best)[:k]]


def _mean_cosines(index: Searched, means: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """`[n, T]`, each rounded to float32: equal photos have equal scores, whichever block they are in."""
    queries = means.astype(np.float64).T
    vectors = (index.rows(rows[block]).astype(np.float64) for block in blocks(len(rows), BLOCK))
    return np.concatenate([(each @ queries).astype(np.float32) for each in vectors]).astype(np.float64)


def _candidates(
    index: Searched, request: Request, means: np.ndarray, curves: Sequence[Logistic], k: int, where: Filter
) -> np.ndarray:
    """Rows that an approximate index finds for each term that is not excluded, for all of those, and for all terms."""
    weights = np.array([curve.slope for curve in curves], dtype=np.float32)  # [T]
    excluded = np.array([term.excluded for term in request.terms])
    together = [weights * ~excluded, weights * np.where(excluded, -0.5, 1)]
    queries = np.concatenate([means[~excluded], np.stack(together) @ means])
    results = index.search_rows(queries, max(CANDIDATES * k, FEWEST_CANDIDATES), where)
    return np.unique(np.concatenate([rows for _, rows in results]))


def _curve_by_spread(scores: np.ndarray) -> Logistic:
    """Odds 1 at EVEN_ODDS standard deviations above the mean, but at most at the best score."""
    spread = scores.std()
    if not spread > 0:
        return Logistic(0.0, 0.0)
    slope, even = STEEPNESS / spread, min(scores.mean() + EVEN_ODDS * spread, scores.max())
    return Logistic(float(slope), float(-slope * even))


def _kind(term: Term) -> str:
    return pattern(term.wanted.units) if isinstance(term.wanted, Query) else PHOTO


def _unit_count(term: Term) -> int:
    return sum(unit is not None for unit in term.wanted.units) if isinstance(term.wanted, Query) else len(UNITS)
