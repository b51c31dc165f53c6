"""Importance of every parameter: the mean over samples of the statistic of their own gradients."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tripletcl import group
from tripletcl.continual import Inputs, Learner, Task
from tripletcl.embedding.eval_mode import eval_mode
from tripletcl.errors import UserError
from tripletcl.mas.products import Statistic
from tripletcl.mas.samples import Samples, check_samples, sample_count
from tripletcl.mas.statistics import (
    Engine,
    Scalar,
    Scope,
    Statistics,
    batch_statistic,
    check_scope,
    every_output,
    squared_norm,
    zeros_like_parameters,
)
from tripletcl.mas.taps import Forward

Output = Literal["l2", "vector"]
Per = Literal["sample", "batch"]

SCALARS: dict[str, Scalar] = {"l2": squared_norm, "vector": every_output}
"""The differentiated function of the outputs, by its name in settings."""

log = logging.getLogger("tripletcl")


def importance(
    model: nn.Module,
    batches: Iterable[Samples],
    *,
    forward: Forward | None = None,
    scalar: Scalar = squared_norm,
    statistic: Statistic = abs,
    engine: Engine = "hooks",
    scope: Scope = "global",
    per: Per = "sample",
) -> dict[str, Tensor]:
    """The MEAN over all samples of |d ||F(x)||^2 / d theta|: MAS importance omega (Aljundi et al., ECCV 2018).

    It needs no label. It is exact per sample, so it does not depend on how the samples are split into batches, nor, in
    a group of processes (`tripletcl.group`), on how they are shared: each gives its samples, perhaps none, and all get
    the mean over the samples of all.

    Args:
        model: Owns the parameters; it is used in eval mode and left in its own mode.
        batches: Tensors [B, ...], or mappings of them, on the model's device; B may differ from batch to batch.
        forward: As in `per_sample_statistic`.
        scalar: As in `per_sample_statistic`; `every_output` gives the sum over outputs of |d F_d(x) / d theta|.
        statistic: As in `per_sample_statistic`; `torch.square` gives Fisher information.
        engine: As in `per_sample_statistic`.
        scope: As in `per_sample_statistic`.
        per: "sample", or for comparison "batch", the approximation of released code: the mean over BATCHES, whatever
            their size, of |d (mean over the batch of ||F(x)||^2) / d theta|, by plain autograd whatever the engine. It
            depends on the batches, and is the same if each holds one sample.

    Returns:
        Parameter name -> importance, a tensor of the parameter's shape.

    Raises:
        UserError: There are no samples, a batch is of another type, an importance is NaN or infinite, or the arguments
            do not go together.
    """
    check_measure(scalar=scalar, engine=engine, scope=scope, per=per)
    common: dict[str, Any] = {"forward": forward, "scalar": scalar, "statistic": statistic}
    exact = Statistics(model, engine=engine, scope=scope, **common)
    total: dict[str, Tensor] = {}
    count = 0
    for batch in batches:
        check_samples(batch)
        if not sample_count(batch):
            continue
        if per == "batch":
            statistics = batch_statistic(model, batch, **common)
            total = {name: total[name].add_(value) for name, value in statistics.items()} if total else statistics
        else:
            exact.add(batch)
            total = exact.sums
        count += 1 if per == "batch" else sample_count(batch)
    if group.size() > 1:
        total = total or zeros_like_parameters(model)
        counted = next(iter(total.values())).new_tensor([count], dtype=torch.float64)
        group.add_up([counted, *total.values()])
        count = int(counted.item())
    if not count:
        raise UserError("importance needs at least one sample; the batches hold none")
    return {name: _finite(name, value.div_(count)) for name, value in total.items()}


def task_importance(learner: Learner, task: Task, inputs: Inputs, **measure: Any) -> dict[str, Tensor]:
    """The importance of the protected parameters to the learned functions on a task's `importance_items`.

    Args:
        measure: As in `importance`.

    Returns:
        Parameter name -> importance, summed over the functions; empty if the task has no importance items.
    """
    if not len(task.importance_items):
        log.info("%s has no images to measure importance on: it adds none", task.name)
        return {}
    omega: dict[str, Tensor] = {}
    with eval_mode(learner):  # also outside of the protected part: a function may run through a head
        for function, batches in learner.functions(task, _shared(inputs, measure.get("per") == "batch")):
            added = importance(learner.protected, batches, forward=function, **measure)
            omega = {name: omega[name] + value if name in omega else value for name, value in added.items()}
    return omega


def _shared(inputs: Inputs, whole_batches: bool) -> Inputs:
    """Give this process its share of the items: of consecutive ones, or, if batches have to stay whole, of batches."""

    def own(items: np.ndarray) -> Iterator[Tensor]:
        if whole_batches:
            return itertools.islice(inputs(items), group.rank(), None, group.size())
        return inputs(items[group.share(len(items))])

    return own


def check_measure(*, scalar: Scalar, engine: str, scope: str, per: str) -> None:
    """Refuse arguments of `importance` that do not go together.

    Raises:
        UserError: Names them.
    """
    check_scope(scope, scalar, engine)
    if per not in ("sample", "batch"):
        raise UserError(f"importance is taken per sample or per batch, not per {per!r}")
    if scope != "global" and per == "batch":
        raise UserError("local importance needs no gradient of a batch, so it is taken per sample only")


def _finite(name: str, value: Tensor) -> Tensor:
    # No entry is negative, so one look at the largest is enough: it is NaN if any is.
    if value.numel() and not torch.isfinite(value.max()):
        raise UserError(
            f"the importance of {name} is NaN or infinite; the inputs or the model's weights are not finite"
        )
    return value
