"""Calibration: from scores to probabilities that a photo shows something, fitted on photos with known facts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from torch import Tensor

from tripletcl.data.facts import UNITS, Fact
from tripletcl.data.labels import PairLabels
from tripletcl.errors import UserError
from tripletcl.evaluation.cosine import mean_cosines, unit_blocks
from tripletcl.retrieval.calibration import ANY, PHOTO, Calibration, Isotonic, Logistic, pattern

if TYPE_CHECKING:
    from scipy.sparse import csc_array, csr_array

FEWEST_PAIRS = 50
"""True pairs of a photo and a fact that a kind needs for its own curve; kinds with fewer share one."""
MOST_PHOTOS = 5000
"""Largest number of photos in a fit."""
MOST_PAIRS = 5_000_000
"""Largest number of pairs of a photo and a query, or a fact, in a fit; of more queries a sample is drawn."""
EXAMPLES = 200
"""Photos that the curve of example photos is fitted on, each against all others."""
NOTHING_TO_FIT = "scores cannot be calibrated by photos that show none, or all, of the facts taught"

PartOfScores = Callable[[np.ndarray, np.ndarray], Tensor]
"""From N' photos and F' facts, by their numbers, to their closed scores `[N', F']`."""

Ask = Callable[[Sequence[tuple[str | None, ...]]], Tensor]
"""From the units of Q queries to their vectors `[Q, 3, D]`, whose product with a photo's is the sum of its scores."""

Unknown = Callable[[Sequence[int] | np.ndarray], np.ndarray]
"""From facts `[F']` to `[N, F']` bool, True for the photos of which it is not known whether they show the fact."""

Curve = TypeVar("Curve")


def fit_calibration(
    model: str,
    facts: Sequence[Fact],
    image_vectors: Tensor,
    fact_vectors: Tensor,
    relevant: csr_array,
    closed: Tensor | PartOfScores | None = None,
    seed: int = 0,
    labels: PairLabels | None = None,
    ask: Ask | None = None,
) -> Calibration:
    """Fit on photos that the model was not trained on, in memory that is independent of the number of facts.

    Args:
        model: The fingerprint of the model that computed the vectors.
        facts: The F facts that it has learned.
        image_vectors: `[N, 3, D]`.
        fact_vectors: `[F, 3, D]`, zero in the units a fact lacks.
        relevant: `[N, F]` bool, the pairs of a photo and a fact that it shows.
        closed: `[N, F]` closed scores, or what gives a part of them, where the model has them.
        seed: Of the sample of photos.
        labels: Of the N photos and F facts: pairs that are not known are left out. None if every pair that is not
            relevant is a negative.
        ask: Encodes queries where their vectors are not those of the facts' units.

    Raises:
        UserError: no photo shows a fact, or all photos show all facts, as far as is known.
    """
    generator = np.random.default_rng(seed)
    photos = np.sort(generator.permutation(relevant.shape[0])[:MOST_PHOTOS])
    images, relevant = unit_blocks(image_vectors[photos]), relevant[photos].tocsc()  # read by columns
    if relevant.nnz in (0, np.prod(relevant.shape)):
        raise UserError(NOTHING_TO_FIT)
    unknown = None if labels is None else partial(labels.unknown, photos)
    queries = _fit_kinds(*_query_cosines(facts, images, fact_vectors, relevant, unknown, generator, ask), _fit_logistic)
    cosines, same = _photo_pairs(images, relevant, unknown, generator)
    if same.any() and not same.all():
        queries[PHOTO] = _fit_logistic(cosines, same)
    some = _sample(len(facts), len(photos), generator)
    sampled = [facts[fact] for fact in some]
    part = closed[photos][:, some] if isinstance(closed, Tensor) else closed and closed(photos, some)
    scores = fact_scores(images, sampled, fact_vectors[some], part)
    kinds = [pattern(fact.units) for fact in sampled]
    known = None if unknown is None else ~unknown(some)
    curves = _fit_kinds(scores, kinds, relevant[:, some].toarray(), known, _fit_isotonic)
    return Calibration(model, queries, curves, len(photos))


def _sample(count: int, photos: int, generator: np.random.Generator) -> np.ndarray:
    """Ids of queries or facts whose pairs with the photos are not more than MOST_PAIRS: all, or a random sample."""
    most = max(MOST_PAIRS // photos, 1)
    return np.arange(count) if count <= most else np.sort(generator.choice(count, most, replace=False))


def fact_scores(image_blocks: Tensor, facts: Sequence[Fact], fact_vectors: Tensor, closed: Tensor | None) -> np.ndarray:
    """`[N, F]`: the mean cosine of a photo and a fact and, where there is one, its closed score."""
    present = torch.tensor([[unit is not None for unit in fact.units] for fact in facts]).reshape(len(facts), -1)
    cosines = mean_cosines(image_blocks, unit_blocks(fact_vectors), present)
    return (cosines if closed is None else cosines + closed).double().numpy()


def _query_cosines(
    facts: Sequence[Fact],
    images: Tensor,
    fact_vectors: Tensor,
    relevant: csc_array,
    unknown: Unknown | None,
    generator: np.random.Generator,
    ask: Ask | None,
) -> tuple[np.ndarray, list[str], np.ndarray, np.ndarray | None]:
    """The queries that name some units of a fact, or a sample of them.

    Returns:
        Mean cosines `[N, Q]`, patterns, truth `[N, Q]`, and whether it is known `[N, Q]`; None if all of it is.
    """
    facts_of = list(_queries_of(facts).items())
    sampled = [facts_of[query] for query in _sample(len(facts_of), len(images), generator)]
    named = torch.tensor([[unit is not None for unit in units] for units, _ in sampled])  # [Q, U]
    truth = np.stack([relevant[:, numbers].sum(axis=1) > 0 for _, numbers in sampled], axis=1)
    known = None
    if unknown is not None:  # a photo that shows one fact answers the query, whatever is not known of others
        known = truth | np.stack([~unknown(numbers).any(axis=1) for _, numbers in sampled], axis=1)
    if ask is None:
        vectors = fact_vectors[[numbers[0] for _, numbers in sampled]] * named[:, :, None]  # [Q, U, D]
        cosines = mean_cosines(images, unit_blocks(vectors), named).double().numpy()
    else:
        blocks = ask([units for units, _ in sampled]).flatten(1).double()
        cosines = (images @ blocks.T / named.sum(dim=1)).numpy()
    return cosines, [pattern(units) for units, _ in sampled], truth, known


def _queries_of(facts: Sequence[Fact]) -> dict[tuple[str | None, ...], list[int]]:
    """Each choice of the units of facts, with the numbers of the facts that have these units."""
    facts_of: dict[tuple[str | None, ...], dict[int, None]] = {}
    for number, fact in enumerate(facts):
        for choice in itertools.product((True, False), repeat=len(fact.units)):
            units = tuple(unit if named else None for unit, named in zip(fact.units, choice, strict=True))
            if any(units):
                facts_of.setdefault(units, {})[number] = None
    return {units: list(numbers) for units, numbers in facts_of.items()}


def _photo_pairs(
    images: Tensor, relevant: csc_array, unknown: Unknown | None, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Mean cosines of examples and other photos, and whether the other photo shows all facts of the example.

    Examples without facts, and pairs of which it is not known, are left out.
    """
    examples = generator.permutation(relevant.shape[0])[:EXAMPLES]
    cosines = (images[examples] @ images.T / len(UNITS)).numpy()  # [E, N]
    shown = relevant.astype(np.int32)
    shared = (shown[examples] @ shown.T).toarray()  # [E, N] facts
    needed = shown[examples].sum(axis=1)[:, None]  # [E, 1] facts
    kept = (examples[:, None] != np.arange(relevant.shape[0])) & (needed > 0)
    if unknown is not None:
        facts = np.unique(shown[examples].tocoo().col)  # those of the examples
        possible = shown[examples][:, facts] @ unknown(facts).T.astype(np.int32)  # [E, N] facts
        kept &= (shared == needed) | (shared + possible < needed)
    return cosines[kept], (shared == needed)[kept]


def _fit_kinds(
    scores: np.ndarray,
    kinds: Sequence[str],
    truth: np.ndarray,
    known: np.ndarray | None,
    fit: Callable[[np.ndarray, np.ndarray], Curve],
) -> dict[str, Curve]:
    """A curve for each kind of column of `[N, K]` with enough true pairs, and "any" for all pairs that are known."""

    def pairs(columns: slice | list[int]) -> tuple[np.ndarray, np.ndarray]:
        kept = np.ones_like(truth) if known is None else known
        return scores[:, columns][kept[:, columns]], truth[:, columns][kept[:, columns]]

    own, true = pairs(slice(None))
    if true.all() or not true.any():
        raise UserError(NOTHING_TO_FIT)
    curves = {ANY: fit(own, true)}
    for kind in dict.fromkeys(kinds):
        own, true = pairs([column for column, other in enumerate(kinds) if other == kind])
        if true.sum() >= FEWEST_PAIRS and not true.all():
            curves[kind] = fit(own, true)
    return curves


def _fit_logistic(scores: np.ndarray, truth: np.ndarray) -> Logistic:
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(solver="newton-cholesky").fit(scores[:, None], truth)
    return Logistic(float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))


def _fit_isotonic(scores: np.ndarray, truth: np.ndarray) -> Isotonic:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression().fit(scores, truth)
    return Isotonic(fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist())
