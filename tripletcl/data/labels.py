"""Labels of pairs of an image and a fact: shown, verified not to be shown, or not known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_array

NOT_SHOWN, UNKNOWN, SHOWN = 1, 2, 3
"""The labels of a row of a table. Of several labels of a pair the largest counts; 0 is a pair without a row."""


class PairLabels:
    """The labels of N images and F facts, and which pairs are not known.

    A fact with a pair that is NOT_SHOWN is verified: a pair of it without a row is not known either. Of other facts, a
    pair without a row is a negative that is merely unlabelled.

    Args:
        pairs: `[R, 2]`, (image, fact) of each row.
        labels: `[R]` int8.
        shape: (N, F).

    Attributes:
        verified: `[F]` bool.
    """

    def __init__(self, pairs: np.ndarray, labels: np.ndarray, shape: tuple[int, int]) -> None:
        from scipy.sparse import csr_array  # a query needs none of it

        keys = pairs[:, 0] * max(1, shape[1]) + pairs[:, 1]
        order = np.lexsort((-labels, keys))  # by pair, the largest label first
        keys, first = np.unique(keys[order], return_index=True)
        images, facts = np.divmod(keys, max(1, shape[1]))
        labels = labels[order[first]]
        self.labels: csr_array = csr_array((labels, (images, facts)), shape)
        self.verified = np.zeros(shape[1], dtype=bool)
        self.verified[facts[labels == NOT_SHOWN]] = True

    def unknown(self, images: np.ndarray | slice, facts: np.ndarray | slice) -> np.ndarray:
        """`[N', F']` bool, True for the pairs of some images and facts that are not known."""
        labels = self.labels[images][:, facts].toarray()
        return (labels == UNKNOWN) | ((labels == 0) & self.verified[facts])

    def of_queries(self, images: np.ndarray | slice, groups: np.ndarray) -> PairLabels:
        """The labels of N' images and of the queries that the first F' facts are merged into.

        Args:
            images: `[N']`, or a slice.
            groups: `[F']` the query of each fact, any number; they are counted in ascending order.
        """
        queries, column = np.unique(groups, return_inverse=True)
        part = self.labels[images]
        pairs = part[:, : len(groups)].tocoo()
        of_queries = np.stack([pairs.row.astype(np.int64), column[pairs.col]], axis=1)
        return PairLabels(of_queries, pairs.data, (part.shape[0], len(queries)))

    def of_facts(self, facts: Sequence[int] | np.ndarray) -> PairLabels:
        """The labels of some facts, `[F']`."""
        pairs = self.labels[:, facts].tocoo()
        of_facts = np.stack([pairs.row, pairs.col], axis=1).astype(np.int64)
        return PairLabels(of_facts, pairs.data, (self.labels.shape[0], len(facts)))

    def count_known(self) -> np.ndarray:
        """`[F]` the number of images of each fact that it is known of."""
        images, facts = self.labels.shape
        pairs = self.labels.tocoo()
        known = pairs.data != UNKNOWN
        of_fact = np.bincount(pairs.col[known], minlength=facts)
        return np.where(self.verified, of_fact, images - np.bincount(pairs.col[~known], minlength=facts))

    def labelled(self) -> tuple[np.ndarray, np.ndarray]:
        """(images, facts) `[R']` of the pairs that are SHOWN or NOT_SHOWN."""
        pairs = self.labels.tocoo()
        known = pairs.data != UNKNOWN
        return pairs.row[known], pairs.col[known]
