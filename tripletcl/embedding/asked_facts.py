"""Taught facts that a query asks, each by its own score, which is read out of the vectors of photos.

The taught block of a photo (`tripletcl.embedding.base`) is `x = sum_k s_k t_k` over the taught facts, with their scores
s in the photo and their text vectors t, three units side by side. Facts share units, so their vectors are not
orthogonal: by cosines, `<person, playing, guitar>` is found in a photo of air hockey, which has two units of three. The
score itself is a linear function of x,

    s_k ~ x . (T^T T + RIDGE I)^-1 t_k    (T has a row t_k for each fact),

the ridge regression from vectors to scores, so that an index of inner products can be asked for it.

A query asks the facts that have all of its units, each with weight 1. One that no taught fact has asks the facts whose
words are near its own, by the cosines c of the sentence encoder, with weights `softmax(STEEPNESS c)`: as far as the
nearest one is nearer than NEAR, and nearer than any thing that the base knows by name. Measured in
docs/measured/paraphrases.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tripletcl.data.facts import UNITS, Fact
from tripletcl.embedding.text_base import IMAGE_SHARE

RIDGE = 0.1
"""Ridge of the regression from vectors to scores."""
STEEPNESS = 30.0
"""Factor of the cosines of a query and the facts that are near it."""
NEAR = 0.6
"""Least cosine of the words of a query and those of a fact that it asks, too."""
WEIGHT = 6.0
"""Weight of a taught fact's score relative to the cosines of the base."""
NAMED = 0.1
"""Least weight of a near fact that a reader is told of."""


@dataclass(frozen=True)
class Asked:
    """Taught facts that a query asks.

    Attributes:
        weights: `[F]` of the taught facts.
        share: g, 1 for facts that have all units of the query, and `(c - NEAR) / (1 - NEAR)` for near ones.
        cosine: c, that of the nearest fact; 1 where the query's own facts are asked.
    """

    weights: np.ndarray
    share: float
    cosine: float

    @property
    def is_near(self) -> bool:
        """True if the facts are others than those that the query names."""
        return self.cosine < 1


class TaughtFacts:
    """The facts that a model was taught, as they are asked.

    Args:
        facts: The F facts.
        targets: `[F, 3, D]` their taught vectors.
        encode: The encoder of texts, `[n, E]` of length 1; used only for queries that no fact has all units of.
    """

    def __init__(self, facts: Sequence[Fact], targets: np.ndarray, encode: Callable[[list[str]], np.ndarray]) -> None:
        self.facts, self.encode = tuple(facts), encode
        rows = targets.reshape(len(targets), -1).astype(np.float64)
        gram = rows.T @ rows + RIDGE * np.eye(rows.shape[1])
        self.readers = np.linalg.solve(gram, rows.T).T  # [F, 3 * D]
        self._having: dict[tuple[int, str], set[int]] = {}
        for number, fact in enumerate(self.facts):
            for unit, text in enumerate(fact.units):
                if text is not None:
                    self._having.setdefault((unit, text.casefold()), set()).add(number)

    def asked(self, units: Sequence[str | None], familiarity: Callable[[np.ndarray], float]) -> Asked | None:
        """Find the facts that a query asks; None if it asks none.

        Args:
            units: Of the query; None for a wildcard.
            familiarity: Of the encoder's vector of a text: the largest cosine with a name that the base knows.
        """
        return self._with_units(units) or self._near(" ".join(filter(None, units)), familiarity)

    def block(self, asked: Asked) -> np.ndarray:
        """The taught block `[3, D]` of a query, whose product with that of a photo is the weighted sum of scores."""
        return (asked.weights @ self.readers).reshape(len(UNITS), -1)

    @cached_property
    def _words(self) -> np.ndarray:
        return self.encode([" ".join(filter(None, fact.units)) for fact in self.facts])  # [F, E]

    def _with_units(self, units: Sequence[str | None]) -> Asked | None:
        """Each fact that has all units of a query, with weight 1."""
        named = [self._having.get((unit, text.casefold()), set()) for unit, text in enumerate(units) if text]
        numbers = sorted(set.intersection(*named)) if named else []
        if not numbers:
            return None
        weights = np.zeros(len(self.facts))
        weights[numbers] = 1
        return Asked(weights, 1.0, 1.0)

    def _near(self, text: str, familiarity: Callable[[np.ndarray], float]) -> Asked | None:
        words = self.encode([text])[0]
        cosines = self._words @ words  # [F]
        nearest = float(cosines.max())
        if nearest <= max(NEAR, familiarity(words)):
            return None
        weights = np.exp(STEEPNESS * (cosines - nearest))
        return Asked(weights / weights.sum(), (nearest - NEAR) / (1 - NEAR), nearest)


def query_vector(own: np.ndarray, taught: np.ndarray, share: float) -> np.ndarray:
    """Make the vector of a query, `[3, W + D + 1]`: its product with a photo's is

        (sum_u cos_u + WEIGHT g n s) / (1 + (WEIGHT - 1) g),

    with the cosines of the base, the score s of the taught facts, their share g and the query's n units. For facts that
    the query names (g = 1) that is about n s, n for a photo that shows them; without any (g = 0) the sum of cosines.

    Args:
        own: The base blocks `[3, W]`, zero for a wildcard.
        taught: The taught block `[3, D]` whose product with a photo's is s.
        share: g.
    """
    count = int(own.any(axis=1).sum())
    whole = np.concatenate([own, WEIGHT * share * count / (1 - IMAGE_SHARE) ** 0.5 * taught], axis=1)
    return np.pad(whole / (1 + (WEIGHT - 1) * share), ((0, 0), (0, 1)))


def taught_vectors(blocks: np.ndarray, width: int) -> np.ndarray:
    """Make vectors `[n, 3, W + D + 1]` of taught blocks `[n, 3 * D]`: their product with a photo's is that of blocks.

    Args:
        blocks: The blocks.
        width: W.
    """
    units = blocks.reshape(len(blocks), len(UNITS), -1) / (1 - IMAGE_SHARE) ** 0.5
    return np.pad(units, ((0, 0), (0, 0), (width, 1)))
