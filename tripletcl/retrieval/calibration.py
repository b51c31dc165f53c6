"""Meaning of scores: curves from cosines to the probability that a photo shows something, stored as JSON."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tripletcl.errors import UserError
from tripletcl.files import read_json, reading, validated, write_json

log = logging.getLogger("tripletcl")

FORMAT = 1
ANY, PHOTO = "any", "photo"


@dataclass(frozen=True, slots=True)
class Logistic:
    """p = 1 / (1 + exp(-(slope * score + offset))): Platt scaling (Platt, 1999). It keeps every ranking."""

    slope: float
    offset: float

    def logit(self, scores: np.ndarray) -> np.ndarray:
        """log(p / (1 - p)), in the shape of the scores."""
        return self.slope * scores + self.offset


@dataclass(frozen=True, slots=True)
class Isotonic:
    """A monotone function of the score, linear between points: isotonic regression (Zadrozny & Elkan, 2002)."""

    scores: list[float]
    probabilities: list[float]

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """p in [0, 1], in the shape of the scores."""
        return np.interp(scores, self.scores, self.probabilities)


@dataclass(frozen=True)
class Calibration:
    """The meaning of the scores of one model.

    Attributes:
        model: The model's fingerprint.
        queries: From the mean cosine of a query to a probability, by the units that the query names: "SPO", "P",
            "SO", ...; "photo" for an example (does a photo show all facts of the example?); "any" for the rest.
        facts: From a fact's score (`fact_scores`) to a probability, by its units: "S", "SP", "SPO", or "any".
        photos: Number of photos in the fit.
    """

    model: str
    queries: dict[str, Logistic]
    facts: dict[str, Isotonic]
    photos: int

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically."""
        curves = {
            "asked": {kind: asdict(curve) for kind, curve in self.queries.items()},
            "shown": {kind: asdict(curve) for kind, curve in self.facts.items()},
        }
        write_json(path, {"format": FORMAT, "model": self.model, **curves, "photos": self.photos})

    @classmethod
    def load(cls, path: Path, model: str) -> Calibration | None:
        """Read a file of `save`; None for a missing or damaged file, or one of another model or format."""
        if not path.exists():
            return None
        try:
            content = read_json(path, "it is fitted again")
            with reading(path, "it is fitted again"):
                if content["format"] != FORMAT or content["model"] != model:
                    return None
                queries = validated(dict[str, Logistic], content["asked"])
                return cls(model, queries, validated(dict[str, Isotonic], content["shown"]), content["photos"])
        except UserError as error:
            log.warning("%s", error)
            return None


def pattern(units: Sequence[object]) -> str:
    """The letters of the units that are named: "SPO", "S", "PO", ..."""
    return "".join(letter for letter, unit in zip("SPO", units, strict=True) if unit is not None)
