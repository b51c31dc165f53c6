"""Sums of f(per-sample gradient) over a batch, exactly: one forward and one backward pass for the whole batch.

The gradient of a batch's sum is not the sum of the samples' |gradients|. But at every layer the gradient with respect
to the layer's OUTPUT still has one row per sample, and from that row and the layer's input its rule (`rules`) computes
the sample's weight gradient. So parameters take no part in this backward pass: each layer's output is tapped (`taps`).
Parameters beside layers are expanded over the samples (`broadcasting`). Any other module is differentiated by itself,
from the same two (`own_gradients`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from tripletcl.embedding.eval_mode import eval_mode
from tripletcl.errors import UserError
from tripletcl.mas.float32 import at_least_float32, exact_float32
from tripletcl.mas.hooks import Hooks, each_gradient
from tripletcl.mas.products import Statistic
from tripletcl.mas.rules import type_name
from tripletcl.mas.samples import (
    Samples,
    call_model,
    device_of,
    map_tensors,
    sample_count,
    split_samples,
)
from tripletcl.mas.taps import Forward

Scalar = Callable[[Tensor], Tensor]
"""Outputs [B, ...] to one number a sample [B], or to K of them [B, K]."""

Engine = Literal["hooks", "loop"]
Scope = Literal["global", "local", "rectified"]

ENGINES, SCOPES = get_args(Engine), get_args(Scope)

IN_PLACE: dict[Statistic, Statistic] = {abs: torch.abs_, torch.abs: torch.abs_, torch.square: torch.square_}
"""The statistics, each with its in-place form."""


def squared_norm(outputs: Tensor) -> Tensor:
    """||F(x)||^2 of each sample, over all axes but the batch's (Aljundi et al., ECCV 2018): [B, ...] -> [B]."""
    return outputs.reshape(len(outputs), -1).square().sum(1)


def every_output(outputs: Tensor) -> Tensor:
    """F_1(x) ... F_D(x) of each sample: [B, ...] -> [B, D]. It takes D backward passes."""
    return outputs.reshape(len(outputs), -1)


def per_sample_statistic(
    model: nn.Module,
    inputs: Samples,
    *,
    forward: Forward | None = None,
    scalar: Scalar = squared_norm,
    statistic: Statistic = abs,
    engine: Engine = "hooks",
    scope: Scope = "global",
) -> dict[str, Tensor]:
    """The SUM over a batch of the statistic of every sample's own gradient: sum_n f(d s(F(x_n)) / d theta).

    Computed in eval mode and in float32 at least, whatever torch's settings are; modes, settings, flags and hooks are
    as before afterwards, also after an error.

    Args:
        model: Owns the parameters; those with `requires_grad` are in the result.
        inputs: [B, ...], one sample a row, or a mapping of such tensors.
        forward: Computes F of `inputs`, for example `model.from_features`; if None `model` itself, called with a tensor
            or with the entries of a mapping as keyword arguments.
        scalar: s, from F's outputs [B, ...] to one number a sample [B], or to K of them [B, K], whose statistics are
            added up, sum_nk f(d s_k(F(x_n)) / d theta), by one forward and K backward passes; engine "loop" calls it
            with B = 1.
        statistic: f, `abs` (MAS importance) or `torch.square` (Fisher information).
        engine: "hooks" takes one pass a batch; "loop" one pass a sample, without any assumption on the model.
        scope: "global" differentiates the scalar of the model's outputs. "local" differentiates ||y_l||^2 of every
            layer's OWN output, its input held constant: sum_n f(d ||y_nl||^2 / d theta_l), by a forward pass only.
            "rectified" is local, but for a layer whose output enters an `nn.ReLU` takes the output of that ReLU.

    Returns:
        Parameter name (as in `model.named_parameters()`) -> a tensor of its shape, in float32 at least.

    Raises:
        UserError: An unknown engine or statistic, a scalar of the wrong shape, a scope that does not go with the other
            arguments, or a model that mixes the samples of a batch or does other things for other samples.
    """
    statistics = Statistics(model, forward=forward, scalar=scalar, statistic=statistic, engine=engine, scope=scope)
    statistics.add(inputs)
    return statistics.sums


class Statistics:
    """Accumulates the statistics of batch after batch; arguments as in `per_sample_statistic`.

    The sums are allocated, and the batch axis is checked, once instead of for every batch.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        forward: Forward | None = None,
        scalar: Scalar = squared_norm,
        statistic: Statistic = abs,
        engine: Engine = "hooks",
        scope: Scope = "global",
    ) -> None:
        check_scope(scope, scalar, engine)
        self.model, self.scalar, self.statistic = model, scalar, statistic
        self.forward = forward or partial(call_model, model)
        self.engine, self.scope = engine, scope
        self.sums: dict[str, Tensor] = {}
        self.hooks: Hooks | None = None

    def add(self, inputs: Samples) -> None:
        """Add a batch [B, ...] to `sums`, which are undefined after an error."""
        with _measuring(self.model, inputs, self.statistic) as inputs:
            self.sums = self.sums or zeros_like_parameters(self.model)
            if self.engine == "loop":
                _by_loop(self.sums, self.model, self.forward, inputs, self.scalar, self.statistic)
                return
            if self.hooks is None:
                values = partial(_values, self.scalar)
                self.hooks = Hooks(self.model, self.forward, values, IN_PLACE[self.statistic], self.scope)
            self.hooks.add(self.sums, inputs)


def batch_statistic(
    model: nn.Module,
    inputs: Samples,
    *,
    forward: Forward | None = None,
    scalar: Scalar = squared_norm,
    statistic: Statistic = abs,
) -> dict[str, Tensor]:
    """The statistic of the gradient of the batch's MEAN: f(d (1/B sum_n s(F(x_n))) / d theta), by plain autograd.

    Released code uses this as importance. It is not the mean of the samples' statistics, as gradients of different
    signs cancel, and it depends on the batch size; for comparison only. Arguments as in `per_sample_statistic`, which
    gives the same for a batch of one sample.
    """
    with _measuring(model, inputs, statistic) as inputs:
        total = zeros_like_parameters(model)
        _by_loop(
            total, model, forward or partial(call_model, model), inputs, scalar, statistic, size=sample_count(inputs)
        )
        return total


def check_scope(scope: str, scalar: Scalar, engine: str) -> None:
    """Refuse arguments of `per_sample_statistic` that do not go together.

    Raises:
        UserError: An unknown engine or scope, or a local scope with an engine or a scalar that it does not have.
    """
    if engine not in ENGINES:
        raise UserError(f"there is no importance engine {engine!r}; the engines are {', '.join(ENGINES)}")
    if scope not in SCOPES:
        raise UserError(f"there is no scope {scope!r} of importance; the scopes are {', '.join(SCOPES)}")
    if scope != "global" and scalar is not squared_norm:
        raise UserError('local importance is that of the squared norm of every layer\'s own output: output "l2" only')
    if scope != "global" and engine != "hooks":
        raise UserError('local importance is defined by the rules for layer types: it takes engine "hooks" only')


@contextmanager
def _measuring(model: nn.Module, inputs: Samples, statistic: Statistic) -> Iterator[Samples]:
    """Eval mode with gradients, in exact float32, without autocast; yields the inputs, ready for autograd."""
    if statistic not in IN_PLACE:
        raise UserError(f"the statistic of a gradient is abs or torch.square, not {statistic!r}")
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError(f"{type_name(model)} has no trainable parameters, so none has an importance")
    no_autocast = torch.autocast(device_of(inputs).type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), no_autocast, exact_float32(), eval_mode(model):
        yield map_tensors(inputs, lambda tensor: tensor.clone() if tensor.is_inference() else tensor.detach())


def _by_loop(
    total: dict[str, Tensor],
    model: nn.Module,
    forward: Forward,
    inputs: Samples,
    scalar: Scalar,
    f: Statistic,
    size: int = 1,
) -> None:
    """Add f(gradient of the chunk's mean) for every chunk of `size` samples."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for samples in split_samples(inputs, size):
        number = sample_count(samples)
        values = _values(scalar, forward(samples), number).reshape(number, -1)
        for grads in each_gradient(values.mean(0).unbind(), parameters):
            for name, grad in grads.items():
                total[name] += f(grad.to(total[name].dtype))


def _values(scalar: Scalar, outputs: Any, batch: int) -> Tensor:
    """The scalars `[B]` or `[B, K]` of a batch's outputs.

    Raises:
        UserError: they have another shape.
    """
    if not isinstance(outputs, Tensor) and scalar in (squared_norm, every_output):
        raise UserError(
            f"the outputs are a {type(outputs).__name__}, of which importance cannot know what to protect: give a "
            "`forward` that returns one tensor [B, ...], such as lambda inputs: model(**inputs).logits"
        )
    values = scalar(outputs)
    if values.ndim not in (1, 2) or len(values) != batch:
        raise UserError(
            f"the scalar must give one number a sample, shape [{batch}], or K of them, shape [{batch}, K], "
            f"not {[*values.shape]}"
        )
    return values


def zeros_like_parameters(model: nn.Module) -> dict[str, Tensor]:
    """The sums of no sample: zeros for every parameter that requires a gradient, in float32 at least."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {
        name: torch.zeros(p.shape, dtype=at_least_float32(p.dtype), device=p.device) for name, p in parameters.items()
    }
