"""Compatibility of a gallery that an old model embedded with the queries of a newer one.

M[s, t] is the MAP of the queries of model t (the model after task t) over a gallery that model s embedded: for s < t a
stale index, for s = t a re-embedded one. There are three groups of facts:

    all   those taught up to max(s, t)
    old   those taught up to min(s, t): both models know them
    new   those taught after min(s, t), up to max(s, t): only the newer model knows them
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from tripletcl.data.labels import PairLabels
from tripletcl.evaluation.average_precision import average_precision_of

if TYPE_CHECKING:
    from scipy.sparse import csr_array

GROUPS = ("all", "old", "new")


@dataclass(frozen=True)
class Compatibility:
    """Scores of a gallery of model s with the queries of a later model t, on the same facts throughout.

    Attributes:
        gallery: s.
        queries: t > s.
        group: The group of facts: "all", "old" or "new".
        before: M(s, s): the old model searching its own gallery.
        stale: M(s, t): the new model searching the old gallery.
        reembedded: M(t, t): the new model searching its own gallery.
    """

    gallery: int
    queries: int
    group: str
    before: float
    stale: float
    reembedded: float

    @property
    def compatible(self) -> bool:
        """The empirical criterion of backward compatibility, M(s, t) > M(s, s).

        Shen et al., "Towards backward-compatible representation learning", CVPR 2020. Strictly
        greater: with a frozen text branch the two are equal, and an update gains nothing on an old gallery.
        """
        return self.stale > self.before

    @property
    def update_gain(self) -> float | None:
        """(M(s, t) - M(s, s)) / (M(t, t) - M(s, s)): the part of the update's gain that needs no re-embedding.

        Shen et al., CVPR 2020, divide by the gain of a new model that was trained without regard to the old one; here
        it is the new model itself. None if the new model is no better than the old one.
        """
        gain = self.reembedded - self.before
        return (self.stale - self.before) / gain if gain > 0 else None


def cross_average_precision(
    galleries: Sequence[Tensor],
    queries: Sequence[Tensor],
    relevant: Tensor | csr_array,
    labels: PairLabels | None = None,
) -> np.ndarray:
    """Compute the average precision of each query of each model over each model's gallery.

    Args:
        galleries: For each of S models `[N, 3, D]`, the same images.
        queries: For each of them `[Q, 3, D]`, the same facts; zero in the units a fact lacks.
        relevant: `[N, Q]` bool.
        labels: See `average_precision_of`.

    Returns:
        `[S, S, Q]`, the galleries first; NaN for a fact that no or every image is relevant to.
    """
    return np.stack([[average_precision_of(g, q, relevant, labels=labels).numpy() for q in queries] for g in galleries])


def facts_of(group: str, gallery: int, queries: int, first_task: np.ndarray) -> np.ndarray:
    """Select the facts of a group, `[Q]` bool, by the task `[Q]` that each was first taught in (from 1)."""
    older, newer = min(gallery, queries), max(gallery, queries)
    bounds = {"all": (0, newer), "old": (0, older), "new": (older, newer)}[group]
    return (bounds[0] < first_task) & (first_task <= bounds[1])


def mean_of(ap: np.ndarray, facts: np.ndarray) -> float | None:
    """Compute MAP of some facts, without those that are not measured (NaN); None if none is.

    Args:
        ap: `[Q]`.
        facts: `[Q]` bool.
    """
    answerable = ap[facts & ~np.isnan(ap)]
    return float(answerable.mean()) if len(answerable) else None


def compatibility_matrix(
    ap: np.ndarray, stages: Sequence[int], first_task: np.ndarray, group: str
) -> list[list[float | None]]:
    """Compute M[s, t], one row per gallery and one column per query model; None if the group has no fact.

    Args:
        ap: `[S, S, Q]` from `cross_average_precision`.
        stages: The S models, ascending.
        first_task: `[Q]` the task that each fact was first taught in, from 1.
        group: "all", "old" or "new".
    """
    return [
        [mean_of(ap[row, column], facts_of(group, s, t, first_task)) for column, t in enumerate(stages)]
        for row, s in enumerate(stages)
    ]


def compatibilities(ap: np.ndarray, stages: Sequence[int], first_task: np.ndarray, group: str) -> list[Compatibility]:
    """Compare every gallery s with every later model t, on the same facts throughout; arguments as above."""
    pairs = []
    for row, s in enumerate(stages):
        for column, t in list(enumerate(stages))[row + 1 :]:
            facts = facts_of(group, s, t, first_task)
            before, stale, reembedded = (
                mean_of(ap[g, q], facts) for g, q in ((row, row), (row, column), (column, column))
            )
            if before is not None and stale is not None and reembedded is not None:
                pairs.append(Compatibility(s, t, group, before, stale, reembedded))
    return pairs


def average_compatibility(pairs: Sequence[Compatibility]) -> float | None:
    """Compute AC = 2 / (S (S - 1)) sum over s < t of [M(s, t) > M(s, s)]: the share of pairs that are compatible.

    The average multi-model compatibility of Biondi et al., "CoReS: Compatible representations via stationarity", TPAMI
    2023. None without a pair.
    """
    return sum(pair.compatible for pair in pairs) / len(pairs) if pairs else None


def average_accuracy(matrix: Sequence[Sequence[float | None]]) -> float | None:
    """Compute AA = 2 / (S (S + 1)) sum over s <= t of M(s, t): the mean over galleries and models not older than them.

    The average multi-model accuracy of Biondi et al., TPAMI 2023, of MAP. None if a group has no facts.
    """
    values = [value for row, line in enumerate(matrix) for value in line[row:]]
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None
