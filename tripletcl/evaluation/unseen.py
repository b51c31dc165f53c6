"""Zero-shot composition: facts that were never taught, made of units that were."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tripletcl.data.facts import Fact
from tripletcl.data.labels import PairLabels
from tripletcl.evaluation.average_precision import average_precision_of, mean_average_precision
from tripletcl.evaluation.equal_queries import equal_queries, merge_relevance

if TYPE_CHECKING:
    from scipy.sparse import csr_array


@dataclass(frozen=True)
class UnseenScores:
    """Scores of facts that were never taught; fractions in [0, 1], by the cosines of vectors only.

    Attributes:
        map_unseen: MAP of the unseen facts over all test images; None where none is measured.
        map_taught: MAP of the facts taught, over the same images; None where none is measured.
        chance: The score of a collapsed embedding on the unseen facts: their mean share of the test images.
        unseen: Number of unseen facts that some test images show and others do not.
        taught: Number of facts taught, likewise.
        ap: (fact, AP) of each unseen fact.
    """

    map_unseen: float | None
    map_taught: float | None
    chance: float | None
    unseen: int
    taught: int
    ap: list[tuple[str, float]]


def unseen_facts(facts: Sequence[Fact], taught_ids: Collection[int]) -> list[int]:
    """Find the facts of order 2 and 3 that were not taught, but whose units all were, in their place, in other facts.

    Args:
        facts: The F facts.
        taught_ids: Ids of the facts that were taught.

    Returns:
        Ids, ascending.
    """
    known, taught = [{facts[number].units[unit] for number in taught_ids} for unit in range(3)], set(taught_ids)
    return [
        number
        for number, fact in enumerate(facts)
        if number not in taught
        and fact.order > 1
        and all(text is None or text in known[unit] for unit, text in enumerate(fact.units))
    ]


def score_unseen(
    facts: Sequence[Fact],
    taught_ids: Collection[int],
    image_vectors: Tensor,
    fact_vectors: Tensor,
    present: Tensor,
    relevant: Tensor | csr_array,
    labels: PairLabels | None = None,
) -> UnseenScores:
    """Compute the MAP of the unseen facts and of those taught.

    Facts with equal vectors are one query (`equal_queries`); a fact merged with one that was taught is not unseen.

    Args:
        facts: The F facts.
        taught_ids: Ids of the facts that were taught.
        image_vectors: `[N, 3, D]` of the test images.
        fact_vectors: `[F, 3, D]`, zero in the units a fact lacks.
        present: `[F, 3]` bool.
        relevant: `[N, F]` bool, sparse where that would be large.
        labels: Of the N images and F facts: pairs that are not known are left out. None if all are.

    Raises:
        UserError: a vector has NaN.
    """
    groups = equal_queries(fact_vectors, present)
    queries, relevant = merge_relevance(relevant, groups)  # [Q], [N, Q]
    if labels is not None:
        labels = labels.of_queries(slice(None), groups.numpy())
    of_taught = set(groups[sorted(taught_ids)].tolist())
    new = set(groups[unseen_facts(facts, taught_ids)].tolist()) - of_taught
    values = average_precision_of(image_vectors, fact_vectors[queries], relevant, labels=labels)  # [Q]
    ap = {query: value for query, value in zip(queries.tolist(), values.tolist(), strict=True) if value == value}
    unseen, seen = ([query for query in ap if query in group] for group in (new, of_taught))
    of_unseen = torch.isin(queries, torch.tensor(unseen, dtype=torch.int64))
    ranked = relevant.shape[0] if labels is None else torch.from_numpy(labels.count_known())  # [Q]
    share = (torch.from_numpy(relevant.sum(axis=0, dtype="int64")) / ranked)[of_unseen].double().mean()
    return UnseenScores(
        map_unseen=_map(ap, unseen),
        map_taught=_map(ap, seen),
        chance=share.item() if unseen else None,
        unseen=len(unseen),
        taught=len(seen),
        ap=[(str(facts[query]), ap[query]) for query in unseen],
    )


def _map(ap: dict[int, float], queries: list[int]) -> float | None:
    return mean_average_precision(torch.tensor([ap[query] for query in queries])) if queries else None
