"""Words that a text encoder cannot tell apart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tripletcl.embedding.text_vectors import TEXTS_NAMED
from tripletcl.errors import UserError, excerpt

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger("tripletcl")

ALIKE_SHARE = 0.05
"""The largest share of the words of a run that the text encoder may confuse with others; one always may be."""


def words_alike(encode: Callable[[Sequence[str]], np.ndarray | Tensor], words: Sequence[str]) -> list[list[str]]:
    """Group the words that an encoder cannot tell apart, as those of a script that it does not know: their vectors are
    equal. Words unlike all others are left out.
    """
    words = list(dict.fromkeys(words))
    groups: dict[bytes, list[str]] = {}
    for word, vector in zip(words, np.asarray(encode(words)), strict=True):
        groups.setdefault(vector.tobytes(), []).append(word)
    return [group for group in groups.values() if len(group) > 1]


def check_words(encode: Callable[[Sequence[str]], np.ndarray | Tensor], words: Sequence[str]) -> None:
    """Check that an encoder tells words apart; a few that it cannot are named in a warning.

    Raises:
        UserError: more than one word, and more than ALIKE_SHARE of all, have the vector of another one.
    """
    groups = words_alike(encode, words)
    confused = sum(len(group) - 1 for group in groups)
    if not confused:
        return
    examples = "; ".join(", ".join(map(excerpt, group[:TEXTS_NAMED])) for group in groups[:TEXTS_NAMED])
    sentence = f"the text encoder cannot tell {confused} of {len(set(words))} words from another one, as {examples}"
    if confused > max(1, ALIKE_SHARE * len(set(words))):
        raise UserError(f"{sentence}: translate them, or set model.text to an encoder that knows them")
    log.warning("%s; these are one word to the run", sentence)
