"""From scores to probabilities that a photo shows something, fitted on photos whose facts are known."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from tripletcl.data.facts import UNITS, Fact
from tripletcl.errors import UserError
from tripletcl.evaluation.cosine import mean_cosines, unit_blocks
from tripletcl.files import write_text

FORMAT = 1
FEWEST = 50
"""True pairs (photo, what it shows) that a curve of its own needs; kinds with fewer share one."""
PHOTOS = 5000
"""Photos fitted on, at most."""
EXAMPLES = 200
"""Photos that the curve of example photos is fitted on, each against all others."""
ANY, PHOTO = "any", "photo"


@dataclass(frozen=True, slots=True)
class Logistic:
    """p = 1 / (1 + exp(-(slope * score + offset))): Platt scaling (Platt, 1999). Smooth, so it keeps every ranking."""

    slope: float
    offset: float

    def logit(self, scores: np.ndarray) -> np.ndarray:
        """log(p / (1 - p)), of any shape."""
        return self.slope * scores + self.offset


@dataclass(frozen=True, slots=True)
class Steps:
    """p as a monotone function of the score, linear between points: isotonic regression (Zadrozny & Elkan, 2002)."""

    scores: list[float]
    probabilities: list[float]

    def probability(self, scores: np.ndarray) -> np.ndarray:
        """In [0, 1], of any shape."""
        return np.interp(scores, self.scores, self.probabilities)


@dataclass(frozen=True)
class Calibration:
    """What the scores of one model mean.

    Attributes:
        model: The model's fingerprint.
        asked: How mean cosines become probabilities, by what is asked for: "SPO", "P", "SO", ... (the units that a
            query names), "photo" (an example: does a photo show all facts that it shows?), or "any" for the rest.
        shown: How a fact's score becomes a probability, by its units: "S", "SP", "SPO", or "any". The score is
            `fact_scores`'.
        photos: How many photos it was fitted on.
    """

    model: str
    asked: dict[str, Logistic]
    shown: dict[str, Steps]
    photos: int

    def save(self, path: Path) -> None:
        """Write it as JSON, whole or not at all."""
        write_text(path, json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path, model: str) -> Calibration | None:
        """What `save` wrote; None where there is nothing, or it is of another model or format."""
        try:
            about: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if about["format"] != FORMAT or about["model"] != model:
                return None
            asked = {kind: Logistic(**curve) for kind, curve in about["asked"].items()}
            shown = {order: Steps(**curve) for order, curve in about["shown"].items()}
            return cls(model, asked, shown, about["photos"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None


Curve = TypeVar("Curve")


def pattern(units: Sequence[object]) -> str:
    """Which units are named: "SPO", "S", "PO", ..."""
    return "".join(letter for letter, unit in zip("SPO", units, strict=True) if unit is not None)


def fit_calibration(
    model: str,
    facts: Sequence[Fact],
    image_vectors: Tensor,
    fact_vectors: Tensor,
    relevant: np.ndarray,
    closed: Tensor | None = None,
    seed: int = 0,
) -> Calibration:
    """Fit on photos that the model was not trained on.

    Args:
        model: The fingerprint of the model that gave the vectors.
        facts: The F facts that it was taught.
        image_vectors: `[N, 3, D]`.
        fact_vectors: `[F, 3, D]`, zero in the units a fact lacks.
        relevant: `[N, F]` bool, which photo shows which fact.
        closed: `[N, F]` closed scores, where the model has them.
        seed: Of the photos that are drawn.

    Raises:
        UserError: no photo shows a fact, or all show all.
    """
    generator = np.random.default_rng(seed)
    chosen = np.sort(generator.permutation(len(relevant))[:PHOTOS])
    images, relevant = unit_blocks(image_vectors[chosen]), relevant[chosen]
    if relevant.all() or not relevant.any():
        raise UserError("scores cannot be calibrated by photos that show none, or all, of the facts taught")
    asked = _by_kind(*_answers(facts, images, fact_vectors, relevant), _fit_logistic)
    similar, same = _photo_pairs(images, relevant, generator)
    if same.any() and not same.all():
        asked[PHOTO] = _fit_logistic(similar, same)
    scores = fact_scores(images, facts, fact_vectors, None if closed is None else closed[chosen])
    shown = _by_kind(scores, [pattern(fact.units) for fact in facts], relevant, _fit_steps)
    return Calibration(model, asked, shown, len(relevant))


def fact_scores(image_blocks: Tensor, facts: Sequence[Fact], fact_vectors: Tensor, closed: Tensor | None) -> np.ndarray:
    """`[N, F]`: the mean cosine of a photo and a fact and, where there is one, its closed score."""
    present = torch.tensor([[unit is not None for unit in fact.units] for fact in facts]).reshape(len(facts), -1)
    cosines = mean_cosines(image_blocks, unit_blocks(fact_vectors), present)
    return (cosines if closed is None else cosines + closed).double().numpy()


def _answers(
    facts: Sequence[Fact], images: Tensor, fact_vectors: Tensor, relevant: np.ndarray
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Everything that the facts can be asked by, each choice of their units: mean cosines, patterns and truth."""
    questions = _questions(facts)
    chosen = torch.tensor([[unit is not None for unit in units] for units in questions])
    vectors = fact_vectors[[numbers[0] for numbers in questions.values()]] * chosen[:, :, None]
    truth = np.stack([relevant[:, numbers].any(axis=1) for numbers in questions.values()], axis=1)
    cosines = mean_cosines(images, unit_blocks(vectors), chosen).double().numpy()
    return cosines, [pattern(units) for units in questions], truth


def _questions(facts: Sequence[Fact]) -> dict[tuple[str | None, ...], list[int]]:
    """Each choice of the units of facts, with the facts that have these units."""
    found: dict[tuple[str | None, ...], dict[int, None]] = {}
    for number, fact in enumerate(facts):
        for choice in itertools.product((True, False), repeat=len(fact.units)):
            units = tuple(unit if wanted else None for unit, wanted in zip(fact.units, choice, strict=True))
            if any(units):
                found.setdefault(units, {})[number] = None
    return {units: list(numbers) for units, numbers in found.items()}


def _photo_pairs(images: Tensor, relevant: np.ndarray, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Mean cosines of examples and the other photos, and whether these show all that the example shows."""
    examples = generator.permutation(len(relevant))[:EXAMPLES]
    cosines = (images[examples] @ images.T / len(UNITS)).numpy()  # [E, N]
    lacking = relevant[examples].astype(np.float32) @ (~relevant.T).astype(np.float32)
    others = examples[:, None] != np.arange(len(relevant))
    return cosines[others], lacking[others] == 0


def _by_kind(
    scores: np.ndarray, kinds: Sequence[str], truth: np.ndarray, fit: Callable[[np.ndarray, np.ndarray], Curve]
) -> dict[str, Curve]:
    """A curve for each kind of column that has enough true pairs, and one of all pairs, named "any"."""
    curves = {ANY: fit(scores.ravel(), truth.ravel())}
    for kind in dict.fromkeys(kinds):
        columns = [column for column, other in enumerate(kinds) if other == kind]
        true = truth[:, columns].ravel()
        if true.sum() >= FEWEST and not true.all():
            curves[kind] = fit(scores[:, columns].ravel(), true)
    return curves


def _fit_logistic(scores: np.ndarray, truth: np.ndarray) -> Logistic:
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(solver="newton-cholesky").fit(scores[:, None], truth)
    return Logistic(float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))


def _fit_steps(scores: np.ndarray, truth: np.ndarray) -> Steps:
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression().fit(scores, truth)
    return Steps(fitted.X_thresholds_.tolist(), fitted.y_thresholds_.tolist())
