"""Importance of every parameter: the mean over samples of the statistic of their own gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from tripletcl.errors import UserError
from tripletcl.mas.rules import Statistic
from tripletcl.mas.statistics import Scalar, per_sample_statistic, squared_norm


def importance(
    model: nn.Module,
    batches: Iterable[Tensor],
    *,
    forward: Callable[[Tensor], Any] | None = None,
    scalar: Scalar = squared_norm,
    statistic: Statistic = abs,
    engine: str = "hooks",
    progress: Callable[[int], object] | None = None,
) -> dict[str, Tensor]:
    """The MEAN over all samples of |d ||F(x)||^2 / d theta|: MAS importance omega (Aljundi et al., ECCV 2018).

    It needs no label. It is exact per sample, so it does not depend on how the samples fall into batches.

    Args:
        model: the parameters' owner; it is used in eval mode and left in its own.
        batches: tensors [B, ...] on the model's device; B may differ from batch to batch.
        forward, scalar, statistic, engine: as in `per_sample_statistic`; `statistic=torch.square` gives Fisher
            information.
        progress: called with the number of samples of each batch once it is done.

    Returns:
        Parameter name -> importance, a tensor of the parameter's shape.

    Raises:
        UserError: there are no samples, a batch is not a tensor, or an importance is NaN or infinite.
    """
    total: dict[str, Tensor] = {}
    samples = 0
    for batch in batches:
        if not isinstance(batch, Tensor):
            raise UserError(f"importance takes batches of inputs alone, tensors [B, ...], not {type(batch).__name__}")
        if not len(batch):
            continue
        summed = per_sample_statistic(model, batch, forward=forward, scalar=scalar, statistic=statistic, engine=engine)
        total = {name: total[name].add_(value) for name, value in summed.items()} if total else summed
        samples += len(batch)
        if progress:
            progress(len(batch))
    if not samples:
        raise UserError("importance needs at least one sample; the batches hold none")
    return {name: _finite(name, value.div_(samples)) for name, value in total.items()}


def _finite(name: str, value: Tensor) -> Tensor:
    if not torch.isfinite(value).all():
        raise UserError(
            f"the importance of {name} is NaN or infinite; the inputs or the model's weights are not finite"
        )
    return value
