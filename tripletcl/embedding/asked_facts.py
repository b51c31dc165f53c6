"""Taught facts that a query asks, each by its own score, which is read out of the vectors of photos.

The taught block of a photo (`tripletcl.embedding.base`) is `x = sum_k s_k t_k` over the taught facts, with their scores
s in the photo and their text vectors t, three units side by side. Facts share units, so their vectors are not
orthogonal: by cosines, `<person, playing, guitar>` is found in a photo of air hockey, which has two units of three. The
score itself is a linear function of x,

    s_k ~ x . (T^T T + RIDGE I)^-1 t_k    (T has a row t_k for each fact),

the ridge regression from vectors to scores, so that an index of inner products can be asked for it.

A query asks the facts that have all of its units, each with weight 1. Where no taught fact has them, it asks

- the facts whose things are of the kinds that it names, or that are named by their kinds (`kinds_of`): "animal"
  those of dogs, "kid on a motorbike" those of a person and a motorcycle. Each one has weight 1, with the share KIND. A
  single word by which the base calls something is left to the base.
- else the facts whose words are near its own, by the cosines c of the sentence encoder, with weights
  `softmax(STEEPNESS c)`: as far as the nearest one is nearer than NEAR, and nearer than any thing that the base knows
  by name.

Measured in docs/measured/paraphrases.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from tripletcl.data.facts import UNITS, Fact
from tripletcl.data.nouns import kinds_of, known_kind, plain_noun
from tripletcl.embedding.text_base import IMAGE_SHARE

PREDICATE = UNITS.index("predicate")

RIDGE = 0.1
"""Ridge of the regression from vectors to scores."""
STEEPNESS = 30.0
"""Factor of the cosines of a query and the facts that are near it."""
NEAR = 0.6
"""Least cosine of the words of a query and those of a fact that it asks, too."""
KIND = 0.4
"""Share of the facts that a query asks by the kinds of things."""
WEIGHT = 6.0
"""Weight of a taught fact's score relative to the cosines of the base."""
NAMED = 0.1
"""Least weight of a near fact that a reader is told of."""


@dataclass(frozen=True)
class Asked:
    """Taught facts that a query asks.

    Attributes:
        weights: `[F]` of the taught facts.
        share: g, 1 for facts that have all units of the query, KIND for those of its kinds, and `(c - NEAR) /
            (1 - NEAR)` for near ones.
        cosine: c, that of the nearest fact; None where the words themselves decide.
    """

    weights: np.ndarray
    share: float
    cosine: float | None = None

    @property
    def is_named(self) -> bool:
        """True if the query names the facts by their own units."""
        return self.share == 1


class Names(Protocol):
    """The things that the base of a model knows by name."""

    def has(self, noun: str) -> bool:
        """True if something is called by a noun."""

    def familiarity(self, encoded: np.ndarray) -> float:
        """The largest cosine of a text, by the encoder's vector `[E]`, and a name."""


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

    def asked(self, units: Sequence[str | None], names: Names) -> Asked | None:
        """Find the facts that a query asks; None if it asks none.

        Args:
            units: Of the query; None for a wildcard.
            names: What the base knows.
        """
        return self._with_units(units) or self._of_kinds(units, names) or self._near(units, names)

    def block(self, asked: Asked) -> np.ndarray:
        """The taught block `[3, D]` of a query, whose product with that of a photo is the weighted sum of scores."""
        return (asked.weights @ self.readers).reshape(len(UNITS), -1)

    @cached_property
    def _words(self) -> np.ndarray:
        return self.encode([" ".join(filter(None, fact.units)) for fact in self.facts])  # [F, E]

    @cached_property
    def _having_kind(self) -> dict[tuple[int, str], set[int]]:
        """The facts whose subject or object is of a kind."""
        facts: dict[tuple[int, str], set[int]] = defaultdict(set)
        for (unit, text), numbers in self._having.items():
            for noun in kinds_of(text) if unit != PREDICATE else ():
                facts[unit, noun] |= numbers
        return dict(facts)

    def _with_units(self, units: Sequence[str | None]) -> Asked | None:
        return self._in_all([self._having.get((unit, text.casefold())) for unit, text in enumerate(units) if text], 1.0)

    def _of_kinds(self, units: Sequence[str | None], names: Names) -> Asked | None:
        texts = [(unit, text.casefold()) for unit, text in enumerate(units) if text]
        if len(texts) == 1 and names.has(texts[0][1]):
            return None
        return self._in_all([self._having.get(each) or self._by_kind(*each) for each in texts], KIND)

    def _by_kind(self, unit: int, text: str) -> set[int] | None:
        """The facts with a thing of this kind in a unit, else those with the nearest thing of which this is a kind."""
        if unit == PREDICATE:
            return None
        narrower = self._having_kind.get((unit, plain_noun(text)))
        if narrower or (kind := known_kind(text, self._texts[unit])) is None:
            return narrower
        return self._having[unit, kind]

    @cached_property
    def _texts(self) -> list[set[str]]:
        """Those of each unit, in lower case."""
        return [{text for place, text in self._having if place == unit} for unit in range(len(UNITS))]

    def _in_all(self, groups: Sequence[set[int] | None], share: float) -> Asked | None:
        """The facts that are in all groups, each with weight 1; None without any."""
        numbers = set.intersection(*(group or set() for group in groups)) if groups else set()
        if not numbers:
            return None
        weights = np.zeros(len(self.facts))
        weights[list(numbers)] = 1
        return Asked(weights, share)

    def _near(self, units: Sequence[str | None], names: Names) -> Asked | None:
        encoded = self.encode([" ".join(filter(None, units))])[0]
        cosines = self._words @ encoded  # [F]
        nearest = float(cosines.max())
        if nearest <= max(NEAR, names.familiarity(encoded)):
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
