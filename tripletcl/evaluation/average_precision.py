"""Average precision with ties counted against the query."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tripletcl.errors import UserError
from tripletcl.evaluation.cosine import cosine_rows, unit_blocks

CELLS_PER_BLOCK, FACTS_PER_BLOCK = 12_800_000, 128
"""Scores taken at a time, and the most facts they are of: 128 x 100,000 images take some 250 MB beside the vectors."""

TILE = 256
"""Images transposed at a time: what is read and what is written stay in the processor's cache."""

SORT, CALL, FEW = 32, 15_000, 8
"""On a CPU one sort of a row costs as much as 32 comparisons of all of it, a call as much as comparing 15,000 scores,
and taking a part of a row as much as 8 comparisons of all of it."""


def average_precision(scores: Tensor, relevant: Tensor, block: int | None = None) -> Tensor:
    """The average precision of each fact over a gallery of images.

    AP_f = mean over the images p relevant to f of
    (relevant images with score >= s_p) / (all images with score >= s_p).

    An image tied with p stands before it, so a collapsed embedding (all scores equal) gets chance, P / N. This is
    scikit-learn's `average_precision_score`. There is no cut-off; the normaliser is the number P of relevant images.

    Args:
        scores: `[N, F]`, higher is better.
        relevant: `[N, F]` bool.
        block: Facts taken at a time; bounds the memory and does not change the result.

    Returns:
        `[F]` float64, NaN for a fact that no image is relevant to.

    Raises:
        UserError: a score is NaN.
    """
    _check_shapes(scores.shape, relevant)
    block = block or facts_per_block(len(scores))
    blocks = zip(_rows_of_blocks(scores.detach(), block), relevant.split(block, dim=1), strict=True)
    return torch.cat([average_precision_of_rows(rows, *_pairs(r)) for rows, r in blocks])


def average_precision_of(
    image_vectors: Tensor, fact_vectors: Tensor, relevant: Tensor, block: int | None = None
) -> Tensor:
    """`average_precision` of cosine scores that are computed block by block and never held all at once.

    Args:
        image_vectors: `[N, U, D]`, normalised here where they are not yet.
        fact_vectors: `[F, U, D]`, zero in the units a fact lacks.
        relevant: `[N, F]` bool.
        block: Facts taken at a time; bounds the memory and does not change the result.

    Returns:
        `[F]` float64, NaN for a fact that no image is relevant to.

    Raises:
        UserError: a vector holds NaN.
    """
    _check_shapes((len(image_vectors), len(fact_vectors)), relevant)
    images, facts = unit_blocks(image_vectors.detach()), unit_blocks(fact_vectors.detach())
    block = block or facts_per_block(len(images))
    blocks = zip(facts.split(block), relevant.split(block, dim=1), strict=True)
    return torch.cat([average_precision_of_rows(cosine_rows(images, f).float(), *_pairs(r)) for f, r in blocks])


def average_precision_of_rows(rows: Tensor, facts: Tensor, images: Tensor) -> Tensor:
    """`average_precision` from a row of scores for each fact and the pairs that are relevant.

    Only relevant images need a rank, so no image is put in its place: what stands at or above each of them is counted.

    Args:
        rows: `[F, N]` float32 or float64.
        facts: `[R]` the rows of the relevant (fact, image) pairs, in any order.
        images: `[R]` their columns.

    Returns:
        `[F]` float64, NaN for a fact without a pair.

    Raises:
        UserError: a score is NaN.
    """
    if not rows.numel():
        return torch.full((len(rows),), torch.nan, dtype=torch.float64, device=rows.device)
    _refuse_nan(rows)
    if rows.device.type != "cpu":
        return _by_sorting(rows, facts, images)
    return torch.from_numpy(_by_counting(rows.numpy(), facts.numpy(), images.numpy()))


def mean_average_precision(ap: Tensor) -> float:
    """MAP: the plain mean of the average precisions, over the facts that have one.

    Args:
        ap: `[F]` from `average_precision`; NaN entries (facts without a relevant image) are left out of the mean.

    Raises:
        UserError: no fact has a relevant image, so there is nothing to average.
    """
    answerable = ap[~ap.isnan()]
    if not len(answerable):
        raise UserError(f"none of the {len(ap)} facts has a relevant image in this gallery, so it has no MAP")
    return math.fsum(answerable.tolist()) / len(answerable)


def facts_per_block(images: int) -> int:
    """How many facts are scored at a time over a gallery of so many images."""
    return min(FACTS_PER_BLOCK, max(1, CELLS_PER_BLOCK // max(1, images)))


def _by_counting(rows: np.ndarray, facts: np.ndarray, images: np.ndarray) -> np.ndarray:
    """`average_precision_of_rows` in NumPy, whose sort of values is over ten times faster than torch's on a CPU."""
    values = rows[facts, images]
    order = np.lexsort((values, facts))  # fact by fact, the scores ascending
    facts, values = facts[order], values[order]
    # A fact's equal scores are one step, which begins at `first` and holds as many right images as follow in the fact.
    first = np.flatnonzero((np.diff(facts, prepend=-1) > 0) | (np.append(np.nan, values[:-1]) != values))
    of, count = facts[first], np.bincount(facts, minlength=len(rows))
    hits = count.cumsum()[of] - first
    bounds = np.searchsorted(of, np.arange(len(rows) + 1)).tolist()
    steps, space = values[first], np.empty_like(rows[0])
    above = [_at_least(row, steps[bounds[f] : bounds[f + 1]], space) for f, row in enumerate(rows)]
    precisions = hits / np.concatenate(above) * np.diff(first, append=len(values))
    with np.errstate(invalid="ignore"):  # 0 / 0: NaN
        return np.bincount(of, precisions, minlength=len(rows)) / count


def _at_least(row: np.ndarray, thresholds: np.ndarray, space: np.ndarray) -> np.ndarray | list[int]:
    """How many scores of a row are at least as high as each threshold, ascending; space is as long as the row."""
    if len(thresholds) > FEW and len(row) > CALL:
        above = row >= thresholds[0]
        if 2 * np.count_nonzero(above) <= len(row):  # what stands below all of them needs no second look
            row = np.compress(above, row)
    if len(thresholds) * (len(row) + CALL) <= SORT * len(row):
        return [int(np.count_nonzero(row >= threshold)) for threshold in thresholds]
    ascending = space[: len(row)]
    ascending[:] = row
    ascending.sort()
    return len(row) - ascending.searchsorted(thresholds)


def _by_sorting(rows: Tensor, facts: Tensor, images: Tensor) -> Tensor:
    """`average_precision_of_rows` on a device: all facts in a few calls."""
    facts, order = facts.sort(stable=True)
    images, count = images[order], facts.bincount(minlength=len(rows))
    positives = _padded(rows, facts, images, count)  # [F, P], -inf where a fact has fewer than P relevant images
    above = rows.shape[1] - torch.searchsorted(rows.sort(dim=1).values, positives)
    padding = (positives.shape[1] - count)[:, None]
    # The padding sorts first; without the clamp a true score of -inf would count the padding as hits.
    hits = positives.shape[1] - torch.searchsorted(positives.sort(dim=1).values, positives).clamp(min=padding)
    real = torch.arange(positives.shape[1], device=rows.device) < count[:, None]
    return torch.where(real, hits.double() / above, 0.0).sum(dim=1) / count  # 0 / 0: NaN


def _padded(rows: Tensor, facts: Tensor, images: Tensor, count: Tensor) -> Tensor:
    """The scores of the relevant images of each fact, `[F, P]`, with -inf after them."""
    first = count.cumsum(0) - count  # where each fact starts in the flat list
    places = torch.arange(len(facts), device=rows.device) - first[facts]
    positives = rows.new_full((len(rows), int(count.max())), -torch.inf)
    positives[facts, places] = rows[facts, images]
    return positives


def _rows_of_blocks(scores: Tensor, block: int) -> Iterator[Tensor]:
    """Scores `[N, F]` as rows `[block, N]`, float64 where float32 would round them; the next overwrite the last."""
    exact = scores.dtype in (torch.float16, torch.bfloat16, torch.float32)
    dtype = torch.float32 if exact else torch.float64
    space = np.empty((0, 0))
    for part in scores.split(block, dim=1):
        if part.device.type != "cpu" or part.T.is_contiguous():
            yield part.T.to(dtype).contiguous()
            continue
        if len(space) < part.shape[1]:
            space = np.empty(part.shape[::-1], np.float32 if exact else np.float64)  # once: new memory is slow
        rows = space[: part.shape[1]]
        _transpose(part.to(dtype).numpy(), rows)
        yield torch.from_numpy(rows)


def _transpose(columns: np.ndarray, rows: np.ndarray) -> None:
    for first in range(0, len(columns), TILE):
        rows[:, first : first + TILE] = columns[first : first + TILE].T


def _pairs(relevant: Tensor) -> tuple[Tensor, Tensor]:
    """The (fact, image) pairs that are True in `[N, F]`."""
    if relevant.device.type != "cpu":
        images, facts = relevant.nonzero(as_tuple=True)
        return facts, images
    shown = relevant.numpy()
    fact_major = shown.T.flags.c_contiguous
    places = np.flatnonzero(shown.T if fact_major else np.ascontiguousarray(shown))  # of one axis: a quick look
    first, second = map(torch.from_numpy, np.divmod(places, shown.shape[0 if fact_major else 1]))
    return (first, second) if fact_major else (second, first)


def _refuse_nan(rows: Tensor) -> None:
    """The greatest of some numbers is NaN where one of them is."""
    if bool(rows.max().isnan() if rows.device.type != "cpu" else np.isnan(rows.numpy().max())):
        raise UserError("a score is NaN: the model's outputs are not finite, so they cannot be ranked")


def _check_shapes(scores: tuple[int, ...], relevant: Tensor) -> None:
    if len(scores) != 2 or tuple(scores) != tuple(relevant.shape) or relevant.dtype != torch.bool:
        raise ValueError(
            f"scores and relevant must both be [images, facts] and relevant bool; "
            f"got scores {list(scores)} and relevant {list(relevant.shape)} {relevant.dtype}"
        )
