"""Probes: a fact against photos that show it and photos that were verified not to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tripletcl.errors import UserError


def score_probe(
    scores: np.ndarray, facts: np.ndarray, shown: np.ndarray, groups: Sequence[str | None]
) -> dict[str, float]:
    """Compute how well scores tell the photos that show a fact from those that do not.

    Each photo that does not show its fact is compared with those that do; a fact needs both. Ties count half, so that
    chance is 0.5.

    - accuracy: the share of the photos that show the same fact and score higher, the mean over the photos that do not
      show theirs;
    - auc: the same share among the photos that show any fact of the comparison: the area under the ROC curve.

    Args:
        scores: `[R]`, of a photo and a fact.
        facts: `[R]`, the number of the fact.
        shown: `[R]` bool, True if the photo shows it.
        groups: `[R]`, the group of the photos that do not show it; those of others are ignored.

    Returns:
        accuracy and auc, and for each group `accuracy/GROUP` and `auc/GROUP`; facts, shown and not_shown, the numbers
        of what is compared.

    Raises:
        UserError: no fact has both kinds of photos, or a score is NaN.
    """
    if np.isnan(scores).any():
        raise UserError("a score is NaN: the model's outputs are not finite, so they cannot be compared")
    both = np.intersect1d(facts[shown], facts[~shown])
    compared = np.isin(facts, both)
    if not compared.any():
        raise UserError("no fact of the probe has both a photo that shows it and one that does not")
    trues, falses = (np.flatnonzero(compared & kind) for kind in (shown, ~shown))
    own = {fact: np.sort(scores[trues[facts[trues] == fact]]) for fact in both.tolist()}
    accuracies = np.concatenate([_shares(own[fact], scores[[row]]) for row, fact in _numbered(falses, facts)])
    result = {"facts": float(len(both)), "shown": float(len(trues)), "not_shown": float(len(falses))}
    of_group = np.array([groups[row] for row in falses.tolist()])
    for group in (None, *dict.fromkeys(of_group.tolist())):
        chosen = np.ones(len(falses), dtype=bool) if group is None else of_group == group
        rivals = trues[np.isin(facts[trues], facts[falses[chosen]])]
        suffix = "" if group is None else f"/{group}"
        result[f"accuracy{suffix}"] = float(accuracies[chosen].mean())
        result[f"auc{suffix}"] = float(_shares(np.sort(scores[rivals]), scores[falses[chosen]]).mean())
    return result


def _numbered(rows: np.ndarray, facts: np.ndarray) -> zip[tuple[int, int]]:
    return zip(rows.tolist(), facts[rows].tolist(), strict=True)


def _shares(trues: np.ndarray, falses: np.ndarray) -> np.ndarray:
    """`[M]`, for each false score the share of the true scores (ascending) that are higher; equal ones count half."""
    above = len(trues) - trues.searchsorted(falses, side="right")
    at_least = len(trues) - trues.searchsorted(falses, side="left")
    return (above + at_least) / (2 * len(trues))
