"""Sums of f(per-sample gradient) over a batch, exactly: one forward and one backward pass for the whole batch.

The gradient of a batch's sum is not the sum of the samples' |gradients|. But at every layer the gradient with respect
to the layer's OUTPUT still has one row per sample, and from that row and the layer's input its rule (`rules`) computes
the sample's weight gradient. So parameters take no part in this backward pass: each layer's output is tapped (`taps`).
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
from tripletcl.mas.products import Statistic
from tripletcl.mas.rules import type_name
from tripletcl.mas.samples import (
    Samples,
    call_model,
    device_of,
    first_sample,
    map_tensors,
    sample_count,
    shape_of_one,
    split_samples,
)
from tripletcl.mas.taps import WAY_OUT, Forward, Tap, build_taps, check_batch_axis, find_rectified

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
        inputs: [B, ...], one sample a row, or a mapping of such tensors. Every layer with parameters must keep the
            batch on axis 0.
        forward: Computes F of `inputs`, for example `model.from_features`; if None `model` itself, called with a tensor
            or with the entries of a mapping as keyword arguments.
        scalar: s, from F's outputs [B, ...] to one number a sample [B], or to K of them [B, K], whose statistics are
            added up, sum_nk f(d s_k(F(x_n)) / d theta), by one forward and K backward passes; engine "loop" calls it
            with B = 1.
        statistic: f, `abs` (MAS importance) or `torch.square` (Fisher information).
        engine: "hooks" takes one pass a batch, for layer types that have a rule; "loop" one pass a sample, for any
            layer.
        scope: "global" differentiates the scalar of the model's outputs. "local" differentiates ||y_l||^2 of every
            layer's OWN output, its input held constant: sum_n f(d ||y_nl||^2 / d theta_l), by a forward pass only.
            "rectified" is local, but for a layer whose output enters an `nn.ReLU` takes the output of that ReLU.

    Returns:
        Parameter name (as in `model.named_parameters()`) -> a tensor of its shape, in float32 at least.

    Raises:
        UserError: An unknown engine or statistic, a scalar of the wrong shape, a scope that does not go with the other
            arguments, or a model that "hooks" cannot serve: a layer type without a rule, a layer called twice, a
            shared parameter, an input changed in place.
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
        self.checked: set[tuple[tuple[int, ...], ...]] = set()
        """The shapes of samples for which the batch axis has been checked."""

    def add(self, inputs: Samples) -> None:
        """Add a batch [B, ...] to `sums`, which are undefined after an error."""
        with _measuring(self.model, inputs, self.statistic) as inputs:
            self.sums = self.sums or _zeros(self.model)
            if self.engine == "loop":
                _by_loop(self.sums, self.model, self.forward, inputs, self.scalar, self.statistic)
                return
            taps = build_taps(
                self.model, sample_count(inputs), IN_PLACE[self.statistic], self.scope != "global", self.sums
            )
            sample = first_sample(inputs)
            if (shape := shape_of_one(inputs)) not in self.checked:
                check_batch_axis(taps, self.forward, sample)
                self.checked.add(shape)
            if self.scope == "rectified":
                find_rectified(taps, self.model, self.forward, sample)
            _by_hooks(taps, self.forward, inputs, self.scalar, self.scope)


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
        total = _zeros(model)
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
        means = [mean / number for mean in _totals(scalar, forward(samples), number)]
        for grads in _each_gradient(means, parameters):
            for name, grad in grads.items():
                total[name] += f(grad.to(total[name].dtype))


def _by_hooks(taps: list[Tap], forward: Forward, inputs: Samples, scalar: Scalar, scope: Scope) -> None:
    """Add the statistics of a batch to the taps' sums."""
    anchor = torch.zeros((), device=device_of(inputs), requires_grad=True)
    parameters = {f"{tap.path}{name}": p for tap in taps for name, p in tap.parameters.items()}
    try:
        for tap in taps:
            tap.attach(anchor)
        totals = _totals(scalar, forward(inputs), sample_count(inputs))
        if scope != "global" and any(tap.received for tap in taps):
            # The rules are done; only a stray parameter, or a layer outside of the model, still needs a gradient.
            totals = [total for total in totals if total.requires_grad]
        # The gradient of the anchor makes the backward pass visit every tap, and nothing below the first one.
        strays = [name for grads in _each_gradient(totals, {"": anchor, **parameters}) for name in grads]
    finally:
        for tap in taps:
            tap.detach()
    if strays:
        raise UserError(f"{strays[0]} is used outside the forward of its own layer; {WAY_OUT}")


def _totals(scalar: Scalar, outputs: Any, batch: int) -> list[Tensor]:
    """The K sums over the batch of the samples' K scalars."""
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
    return list(values.reshape(batch, -1).sum(0).unbind())


def _each_gradient(totals: list[Tensor], parameters: dict[str, Any]) -> Iterator[dict[str, Tensor]]:
    """For each total of one graph, the gradients of those parameters that it depends on."""
    for number, total in enumerate(totals, 1):
        if not total.requires_grad:
            raise UserError("the outputs depend on no trainable parameter; is the forward under torch.no_grad?")
        keep = number < len(totals)
        grads = torch.autograd.grad(total, tuple(parameters.values()), allow_unused=True, retain_graph=keep)
        yield {name: grad for name, grad in zip(parameters, grads, strict=True) if grad is not None}


def _zeros(model: nn.Module) -> dict[str, Tensor]:
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return {
        name: torch.zeros(p.shape, dtype=at_least_float32(p.dtype), device=p.device) for name, p in parameters.items()
    }
