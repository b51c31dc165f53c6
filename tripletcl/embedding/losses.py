"""Losses between image outputs and text vectors; a unit that a fact lacks has zero loss and zero gradient.

Where several processes share a batch, each loss is this process's part of the mean over the whole batch
(`tripletcl.group`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from tripletcl import group

ABSENT = -1
"""The target id of a unit that a fact lacks."""


def wildcard_l2(outputs: Tensor, targets: Tensor, present: Tensor) -> Tensor:
    """Compute the mean over the batch of `sum_u present_u * ||outputs_u - targets_u||^2` (Elhoseiny et al., AAAI 2017).

    Args:
        outputs: Image vectors `[B, U, D]`.
        targets: Text vectors `[B, U, D]`; those of absent units are ignored.
        present: Which units the facts have, bool `[B, U]`.

    Raises:
        ValueError: the shapes do not match.
    """
    return group.mean(_wildcard_difference(outputs, targets, present).square().sum(dim=(1, 2)))


def wildcard_l2_root(outputs: Tensor, targets: Tensor, present: Tensor) -> Tensor:
    """Compute the mean over the batch of `sum_u present_u * ||outputs_u - targets_u||`: `wildcard_l2`, not squared.

    Its gradient is zero where a distance is zero.
    """
    difference = _wildcard_difference(outputs, targets, present)
    return group.mean(torch.linalg.vector_norm(difference, dim=-1).sum(dim=1))


def wildcard_cosine(outputs: Tensor, targets: Tensor, present: Tensor) -> Tensor:
    """Compute the mean over the batch of `sum_u present_u * (1 - cos(outputs_u, targets_u))`: directions only.

    Arguments and errors are those of `wildcard_l2`.
    """
    _check_wildcard(outputs, targets, present)
    absent = ~present.unsqueeze(-1)  # masked before the cosine: absent units may not be finite
    cosine = F.cosine_similarity(outputs.masked_fill(absent, 1.0), targets.masked_fill(absent, 1.0), dim=-1)  # [B, U]
    return group.mean(((1 - cosine) * present).sum(dim=1))


def _wildcard_difference(outputs: Tensor, targets: Tensor, present: Tensor) -> Tensor:
    _check_wildcard(outputs, targets, present)
    return (outputs - targets).masked_fill(~present.unsqueeze(-1), 0.0)  # [B, U, D]


def _check_wildcard(outputs: Tensor, targets: Tensor, present: Tensor) -> None:
    # Shapes are compared because [B, 1] or [B] would broadcast silently and unmask absent units.
    if outputs.ndim != 3 or outputs.shape != targets.shape or present.shape != outputs.shape[:2]:
        raise ValueError(
            "outputs and targets must be [B, U, D] and present [B, U], "
            f"but they are {tuple(outputs.shape)}, {tuple(targets.shape)} and {tuple(present.shape)}"
        )


def contrastive(
    outputs: Tensor,
    target_ids: Tensor,
    vectors: Sequence[Tensor],
    temperature: float | Tensor,
    exclude: Sequence[Tensor] | None = None,
) -> Tensor:
    """Compute the mean over the batch of `sum_u present_u * CE(softmax_v(cos(outputs_u, vectors_u,v) / temperature))`.

    CE is the cross entropy: each unit is classified among the candidates of the task.

    Args:
        outputs: Image vectors `[B, U, D]`.
        target_ids: The row in `vectors[u]` of each unit, int64 `[B, U]`; -1 for a unit that the fact lacks.
        vectors: For each unit u the text vectors `[V_u, D]` to choose from; V_u may be 0.
        temperature: Divisor of the cosines; a scalar tensor may be trained.
        exclude: For each unit bool `[B, V_u]`: vectors that are true for the image too, by another fact that it shows,
            and so are not negatives. The target itself is never excluded.

    Raises:
        ValueError: the shapes do not match.
    """
    _check_contrastive(outputs, target_ids, vectors, exclude)
    total = outputs[:0].sum()  # zero, and part of the graph even where no unit has a vocabulary
    for unit, candidates in enumerate(vectors):
        if len(candidates) == 0:
            continue
        ids = target_ids[:, unit]
        cosines = F.normalize(outputs[:, unit], dim=-1) @ F.normalize(candidates, dim=-1).T  # [B, V]
        logits = cosines / temperature
        if exclude is not None:
            logits = logits.masked_fill(_negatives_to_hide(exclude[unit], ids), -torch.inf)
        total = total + F.cross_entropy(logits, ids, ignore_index=ABSENT, reduction="sum")
    return total / group.total(len(outputs))


def _negatives_to_hide(exclude: Tensor, ids: Tensor) -> Tensor:
    """Clear in exclude `[B, V]` the targets, and rows of absent units, whose softmax could lose every term."""
    is_target = torch.arange(exclude.shape[1], device=ids.device) == ids.unsqueeze(1)
    return exclude & ~is_target & (ids != ABSENT).unsqueeze(1)


def _check_contrastive(
    outputs: Tensor, target_ids: Tensor, vectors: Sequence[Tensor], exclude: Sequence[Tensor] | None
) -> None:
    batch, units, width = outputs.shape
    if target_ids.shape != (batch, units) or len(vectors) != units:
        raise ValueError(
            f"outputs {tuple(outputs.shape)} need target_ids of shape {(batch, units)} and {units} vocabularies, "
            f"but got {tuple(target_ids.shape)} and {len(vectors)}"
        )
    for unit, candidates in enumerate(vectors):
        if candidates.shape != (len(candidates), width):
            raise ValueError(f"vectors[{unit}] must be [V, {width}], but it is {tuple(candidates.shape)}")
        if exclude is not None and exclude[unit].shape != (batch, len(candidates)):
            raise ValueError(
                f"exclude[{unit}] must be {(batch, len(candidates))}, but it is {tuple(exclude[unit].shape)}"
            )
        if len(candidates) == 0 and bool((target_ids[:, unit] != ABSENT).any()):
            raise ValueError(f"target_ids[:, {unit}] names vectors, but vectors[{unit}] is empty")
