"""The text side of what a model knows before it is taught (`tripletcl.embedding.base`), in NumPy.

All is computed in float64 and rounded once, so that a text's vector does not depend on the others.
"""

from __future__ import annotations

import numpy as np

SHARPNESS, TEMPERATURE = 20.0, 1.5
"""Factor of the cosines of a text and the descriptions of classes; temperature of the posteriors. Both are measured in
docs/measured/base.md."""

BREADTH = 12.0
"""Factor of the cosines of a text and the descriptions, where the classes that a text means are told from others."""

IMAGE_SHARE, TEXT_SHARE = 0.5, 0.2
"""Shares of the base block in the squared length of an image's vector, and of that of a text that was taught."""

SMALLEST = np.finfo(np.float32).tiny


def unit_length(vectors: np.ndarray) -> np.ndarray:
    """Scale vectors `[n, D]` to length 1; that of zeros stays zero."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def cosines_of(encoded: np.ndarray, descriptions: np.ndarray) -> np.ndarray:
    """`[n, W]` the cosines of texts, by the encoder's vectors `[n, E]`, and the descriptions of classes `[W, E]`."""
    return unit_length(encoded.astype(np.float64)) @ descriptions.astype(np.float64, copy=False).T


def base_blocks(encoded: np.ndarray, descriptions: np.ndarray | None) -> np.ndarray:
    """Compute base blocks `[n, W]` of length 1 of the encoder's vectors `[n, E]`.

    Args:
        encoded: The vectors.
        descriptions: Of the classes of a soft vocabulary, `[W, E]`; None for a pair of encoders, whose space it is.
    """
    if descriptions is None:
        return unit_length(encoded.astype(np.float64))
    outputs = SHARPNESS * cosines_of(encoded, descriptions)
    weights = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.sqrt(weights / weights.sum(axis=1, keepdims=True))


def seen(cosines: np.ndarray, own: np.ndarray, described: np.ndarray) -> np.ndarray:
    """Compute the evidence that images show what a text means: `sum_c p_c exp(BREADTH (cos_c - max cos))`.

    The posteriors p are those at temperature 1. A class whose description has the words of the text counts whole.

    Args:
        cosines: Of the text and the descriptions of the classes, `[W]`.
        own: Base blocks `[N, W]` of images, of any length.
        described: `[W]` bool, the classes whose description has all words of the text.

    Returns:
        `[N]`.
    """
    posteriors = np.maximum(own.astype(np.float64), 0) ** (2 * TEMPERATURE)
    posteriors = posteriors / np.maximum(posteriors.sum(axis=1, keepdims=True), SMALLEST)
    return posteriors @ np.where(described, 1.0, np.exp(BREADTH * (cosines - cosines.max())))


def join(own: np.ndarray, taught: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Make whole vectors `[n, W + D + 1]` of length 1.

    Args:
        own: Base blocks `[n, W]` of length 1.
        taught: Taught blocks `[n, D]` of length 1.
        known: `[n]` bool, True for a text that was taught; the others get no taught block.
    """
    share = np.where(known, TEXT_SHARE, 1.0)[:, None]
    return np.concatenate([np.sqrt(share) * own, np.sqrt(1 - share) * taught, np.zeros((len(own), 1))], axis=1)
