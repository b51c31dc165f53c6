"""Description of photos by the facts that they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tripletcl.data.facts import Fact
from tripletcl.data.images import ImageLike
from tripletcl.embedding import FactEmbedder
from tripletcl.embedding.embedder import CLOSED_WEIGHT
from tripletcl.errors import UserError, check_count
from tripletcl.evaluation.cosine import mean_cosines, unit_blocks
from tripletcl.retrieval.calibration import ANY, Calibration, pattern

LEAST_LIKELY = 0.1
"""The least probability with which the base's classes are named."""
SMALLEST_LEVEL = 0.1
"""The least mean score of the photos that taught a fact that scores are divided by."""


@dataclass(frozen=True, slots=True)
class ShownFact:
    """A fact that a photo may show.

    Attributes:
        score: The mean cosine over the fact's units, plus its closed score where the model has one. Without a
            calibration, a model with a base scores a fact by its closed score alone, relative to the mean of the photos
            that taught it: 1 for a photo that shows it as surely as these.
        probability: None without a calibration.
    """

    fact: Fact
    score: float
    probability: float | None = None


@torch.no_grad()
def describe(
    image_vectors: Tensor,
    facts: Sequence[Fact],
    fact_vectors: Tensor,
    present: Tensor,
    k: int = 5,
    closed: Tensor | None = None,
    calibration: Calibration | None = None,
) -> list[list[ShownFact]]:
    """Rank facts for each photo by probability, or by score where there is no calibration, and return the k best.

    The score is the mean cosine and not the sum, which would rank every fact of three units before the shorter ones.
    Ties in probability are ordered by score, and ties in score as the facts are.

    Args:
        image_vectors: `[N, 3, D]`.
        facts: The F facts to choose from.
        fact_vectors: `[F, 3, D]`, zero in the units a fact lacks.
        present: `[F, 3]` bool.
        k: More than F returns all F.
        closed: `[N, F]`, added to the mean cosine (`FactEmbedder.vectors_and_scores`).
        calibration: Of the model that computed the vectors.

    Returns:
        For each photo its facts, best first.

    Raises:
        UserError: k is not positive.
    """
    k = check_count("k", k)
    device = image_vectors.device
    scores = mean_cosines(unit_blocks(image_vectors), unit_blocks(fact_vectors.to(device)), present.to(device))
    scores = (scores if closed is None else scores + closed.to(scores)).cpu()
    if calibration is None:
        return [_best(facts, photo, None, k) for photo in scores.tolist()]
    curves = [calibration.facts.get(pattern(fact.units), calibration.facts[ANY]) for fact in facts]
    columns = [curve.probability(scores[:, fact].numpy()) for fact, curve in enumerate(curves)]  # F times [N]
    probabilities = np.stack(columns, axis=1) if columns else np.zeros(scores.shape)  # [N, F]
    pairs = zip(scores.tolist(), probabilities.tolist(), strict=True)
    return [_best(facts, *pair, k) for pair in pairs]


def describe_photos(
    embedder: FactEmbedder, photos: Sequence[ImageLike], k: int = 5, calibration: Calibration | None = None
) -> list[list[ShownFact]]:
    """`describe` photos by the facts that a model has learned, with its closed scores.

    Args:
        embedder: The model.
        photos: Paths, Pillow images, uint8 arrays, or results of `embedder.decode`.
        k: Number of facts for each.
        calibration: Of this model.

    Raises:
        UserError: k is not positive, the model has learned no fact, or a photo cannot be read.
    """
    k = check_count("k", k)
    if not embedder.facts and not embedder.base_names:
        raise UserError("this model has not been taught any fact yet, so it can describe nothing")
    representation = embedder.represent_images(photos)
    known = _describe_by_base(embedder, representation) if embedder.base_names else [[]] * len(representation)
    if not embedder.facts:
        return [_likeliest(entries, k) for entries in known]
    vectors, closed = embedder.vectors_and_scores(representation, embedder.facts)
    if embedder.spec.base and calibration is None and closed is not None and embedder.levels:
        taught = _describe_by_levels(embedder, closed, k)
        return [_likeliest([*facts, *entries], k) for facts, entries in zip(taught, known, strict=True)]
    fact_vectors, present = embedder.encode_facts(embedder.facts)
    taught = describe(vectors, embedder.facts, fact_vectors, present, k, closed, calibration)
    return [_likeliest([*facts, *entries], k) for facts, entries in zip(taught, known, strict=True)]


def _describe_by_base(embedder: FactEmbedder, representation: Tensor) -> list[list[ShownFact]]:
    """The things that the base knows by name and sees in each photo with a probability of LEAST_LIKELY or more."""
    posteriors = embedder.image.posteriors(representation.to(embedder.device)).cpu()
    likely = (posteriors >= LEAST_LIKELY).nonzero().tolist()
    shown: list[list[ShownFact]] = [[] for _ in range(len(posteriors))]
    for photo, number in likely:
        probability = float(posteriors[photo, number])
        name = embedder.base_names[number].split(", ")[0]
        shown[photo].append(ShownFact(Fact(name), probability, probability))
    return shown


def _describe_by_levels(embedder: FactEmbedder, closed: Tensor, k: int) -> list[list[ShownFact]]:
    """The taught facts by their closed scores `[N, F]`, relative to the levels of the facts."""
    levels = torch.tensor(embedder.levels).clamp(min=SMALLEST_LEVEL)
    relative = closed.cpu() / (CLOSED_WEIGHT[embedder.spec.scored_by] * levels)
    return [_best(embedder.facts, photo, None, k) for photo in relative.tolist()]


def _likeliest(facts: list[ShownFact], k: int) -> list[ShownFact]:
    return sorted(facts, key=lambda fact: (-(fact.probability or 0), -fact.score))[:k]


def _best(
    facts: Sequence[Fact], scores: Sequence[float], probabilities: Sequence[float] | None, k: int
) -> list[ShownFact]:
    ranked = [
        ShownFact(fact, score, None if probabilities is None else probabilities[number])
        for number, (fact, score) in enumerate(zip(facts, scores, strict=True))
    ]
    return _likeliest(ranked, k)
