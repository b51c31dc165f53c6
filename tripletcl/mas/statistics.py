"""Sums of f(per-sample gradient) over a batch, exactly: one forward and one backward pass for the whole batch.

The gradient of a batch's sum is not the sum of the samples' |gradients|. But at every layer the gradient with respect
to the layer's OUTPUT still has one row a sample, and from that row and the layer's input its rule (see `rules`) makes
the sample's weight gradient. So parameters take no part in this backward pass: each layer's output is tapped instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from tripletcl.errors import UserError
from tripletcl.mas.rules import OUTPUT_ENTERS, RULES, Statistic

Scalar = Callable[[Tensor], Tensor]

WAY_OUT = 'engine "loop" (`method.engine=loop` on the command line) takes any model, one sample at a time'


def squared_norm(outputs: Tensor) -> Tensor:
    """||F(x)||^2 of each sample, over everything but the batch axis (Aljundi et al., ECCV 2018): [B, ...] -> [B]."""
    return outputs.reshape(len(outputs), -1).square().sum(1)


def per_sample_statistic(
    model: nn.Module,
    inputs: Tensor,
    *,
    forward: Callable[[Tensor], Any] | None = None,
    scalar: Scalar = squared_norm,
    statistic: Statistic = abs,
    engine: str = "hooks",
) -> dict[str, Tensor]:
    """The SUM over a batch of the statistic of every sample's own gradient: sum_n f(d s(F(x_n)) / d theta).

    Taken in eval mode and without autocast; modes, flags and hooks are as before afterwards, also after an error.

    Args:
        model: the parameters' owner; those with `requires_grad` are in the result.
        inputs: [B, ...], one sample a row. Every layer with parameters must keep the batch on axis 0.
        forward: what computes F of `inputs`, `model` itself if None; `model.from_features`, say.
        scalar: s, from F's outputs [B, ...] to one number a sample [B]; engine "loop" calls it with B = 1.
        statistic: f, `abs` (MAS importance) or `torch.square` (Fisher information).
        engine: "hooks" is one pass a batch, for the layer types in `RULES`; "loop" one pass a sample, for any layer.

    Returns:
        Parameter name (as in `model.named_parameters()`) -> a tensor of its shape, in float32 at least.

    Raises:
        UserError: an unknown engine or statistic, a scalar of the wrong shape, or a model that "hooks" cannot serve:
            a layer type without a rule, a layer called twice, a shared parameter, an input changed in place.
    """
    if engine not in ENGINES:
        raise UserError(f"there is no importance engine {engine!r}; the engines are {', '.join(ENGINES)}")
    if statistic not in (abs, torch.abs, torch.square):
        raise UserError(f"the statistic of a gradient is abs or torch.square, not {statistic!r}")
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError(f"{_type_name(model)} has no trainable parameters, so none has an importance")
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(inputs.device.type, enabled=False):
        inputs = inputs.clone() if inputs.is_inference() else inputs.detach()
        with eval_mode(model):
            return ENGINES[engine](model, forward or model, inputs, scalar, statistic)


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Eval mode inside, and every module's own mode again outside."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _by_loop(
    model: nn.Module, forward: Callable[[Tensor], Any], inputs: Tensor, scalar: Scalar, f: Statistic
) -> dict[str, Tensor]:
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    result = {name: _zeros_like(p) for name, p in parameters.items()}
    for sample in inputs.split(1):
        total = _total(scalar, forward(sample), 1)
        for name, grad in _gradients(total, parameters).items():
            result[name] += f(grad.to(result[name].dtype))
    return result


def _by_hooks(
    model: nn.Module, forward: Callable[[Tensor], Any], inputs: Tensor, scalar: Scalar, f: Statistic
) -> dict[str, Tensor]:
    anchor = torch.zeros((), device=inputs.device, requires_grad=True)
    taps = _taps(model, len(inputs), f, anchor)
    parameters = {f"{tap.path}{name}": p for tap in taps for name, p in tap.parameters.items()}
    _check_batch_axis(taps, forward, inputs[:1])
    try:
        for tap in taps:
            tap.attach()
        total = _total(scalar, forward(inputs), len(inputs))
        # Asking for the anchor makes the engine visit every tap, and nothing below the first one.
        strays = _gradients(total, {"": anchor, **parameters})
    finally:
        for tap in taps:
            tap.detach()
    if strays:
        raise UserError(f"{next(iter(strays))} is used outside the forward of its own layer; {WAY_OUT}")
    found = {f"{tap.path}{name}": value for tap in taps for name, value in tap.found.items()}
    return {name: found.get(name, _zeros_like(p)) for name, p in parameters.items()}


ENGINES = {"hooks": _by_hooks, "loop": _by_loop}


class _Tap:
    """One layer's place in the pass: keeps the input going forward, calls the rule coming backward."""

    def __init__(self, path: str, layer: nn.Module, batch: int, f: Statistic, anchor: Tensor) -> None:
        self.path, self.layer, self.batch, self.f, self.anchor = path, layer, batch, f, anchor
        self.parameters = _own_trainable(layer)
        self.found: dict[str, Tensor] = {}
        self.handles: list[RemovableHandle] = []
        self.input: Tensor | None = None
        self.version = 0
        self.calls = 0

    def attach(self) -> None:
        # Last before and first after the layer: other hooks may change what goes in and what comes out.
        self.handles.append(self.layer.register_forward_pre_hook(self._enter, with_kwargs=True))
        inner = OUTPUT_ENTERS.get(type(self.layer))
        if inner:
            submodule = self.layer.get_submodule(inner)
            self.handles.append(submodule.register_forward_pre_hook(lambda _, args: self._tap(args[0])))
            self.handles.append(self.layer.register_forward_hook(lambda *_: self._train(True), prepend=True))
        else:
            self.handles.append(self.layer.register_forward_hook(self._leave, prepend=True))

    def detach(self) -> None:
        for handle in self.handles:
            handle.remove()
        self._train(True)

    def _enter(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not torch.is_grad_enabled():
            return
        self.calls += 1
        if self.calls > 1:
            raise self.error("is called more than once in a forward pass")
        self.input = next(iter((*args, *kwargs.values()))).detach()  # shares the version counter
        self.version = self.input._version
        self._train(False)

    def _leave(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        self._train(True)
        return self._tap(output)

    def _tap(self, output: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return output
        assert self.input is not None
        if not len(self.input) == len(output) == self.batch:
            raise self.error(f"does not keep the batch of {self.batch} on axis 0: its output is {[*output.shape]}")
        return _OutputGradient.apply(output, self.anchor, self._backward)

    def _backward(self, grad_output: Tensor) -> None:
        assert self.input is not None
        if self.input._version != self.version:
            raise self.error("has its input changed in place after it was called")
        dtype = _at_least_float32(self.input.dtype)
        values = RULES[type(self.layer)](self.layer, self.input.to(dtype), grad_output.to(dtype), self.f)
        self.found = {name: values[name] for name in self.parameters}
        self.input = None

    def _train(self, flag: bool) -> None:
        # False only inside the layer's own forward: a use anywhere else still reaches autograd, and is found there.
        for parameter in self.parameters.values():
            parameter.requires_grad_(flag)

    def error(self, what: str) -> UserError:
        return UserError(f"{self.path.rstrip('.') or 'the model'} ({_type_name(self.layer)}) {what}; {WAY_OUT}")


class _OutputGradient(torch.autograd.Function):
    """The identity going forward; shows the gradient to a function going backward.

    A function of its own, not a tensor hook: the anchor puts it into the graph where nothing else needs a gradient,
    and the output stays an ordinary tensor that an in-place activation may overwrite.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, anchor: Tensor, receive: Callable[[Tensor], None]) -> Tensor:
        ctx.receive = receive
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None]:
        ctx.receive(grad_output)
        return grad_output, None, None


def _taps(model: nn.Module, batch: int, f: Statistic, anchor: Tensor) -> list[_Tap]:
    taps = []
    owners: dict[Tensor, str] = {}
    for path, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise UserError(f"{path} has no running statistics, so it mixes the samples of a batch; {WAY_OUT}")
        tap = _Tap(f"{path}." if path else "", module, batch, f, anchor)
        for name, parameter in tap.parameters.items():
            if parameter in owners:
                raise UserError(f"{owners[parameter]} and {tap.path}{name} are one parameter; {WAY_OUT}")
            owners[parameter] = f"{tap.path}{name}"
        if tap.parameters:
            _check_rule(tap)
            taps.append(tap)
    return taps


def _check_rule(tap: _Tap) -> None:
    if type(tap.layer) not in RULES:
        allowed = ", ".join(sorted({kind.__name__ for kind in RULES}))
        raise tap.error(f"owns trainable parameters and is none of the layer types with an exact rule ({allowed})")
    others = tap.parameters.keys() - {"weight", "bias"}
    if others:
        raise tap.error(f"owns trainable parameters ({', '.join(sorted(others))}) besides weight and bias")


def _check_batch_axis(taps: list[_Tap], forward: Callable[[Tensor], Any], sample: Tensor) -> None:
    """One sample alone shows where the batch is: an axis that only happens to be as long as it is no batch."""

    def check(tap: _Tap, output: Tensor) -> None:
        if len(output) != 1:
            raise tap.error(f"does not keep the batch on axis 0: for one sample its output is {[*output.shape]}")

    handles = [tap.layer.register_forward_hook(lambda _, args, output, tap=tap: check(tap, output)) for tap in taps]
    try:
        with torch.no_grad():
            forward(sample)
    finally:
        for handle in handles:
            handle.remove()


def _own_trainable(layer: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in layer.named_parameters(recurse=False) if p.requires_grad}


def _total(scalar: Scalar, outputs: Any, batch: int) -> Tensor:
    values = scalar(outputs)
    if values.shape != (batch,):
        raise UserError(f"the scalar must give one number a sample, shape [{batch}], not {[*values.shape]}")
    return values.sum()


def _gradients(total: Tensor, parameters: dict[str, Any]) -> dict[str, Tensor]:
    """The gradients of those parameters that `total` depends on."""
    if not total.requires_grad:
        raise UserError("the outputs depend on no trainable parameter; is the forward under torch.no_grad?")
    grads = torch.autograd.grad(total, tuple(parameters.values()), allow_unused=True)
    return {name: grad for name, grad in zip(parameters, grads, strict=True) if grad is not None}


def _zeros_like(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter, dtype=_at_least_float32(parameter.dtype), requires_grad=False)


def _at_least_float32(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _type_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__name__}"
