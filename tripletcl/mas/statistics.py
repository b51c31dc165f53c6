"""Sums of f(per-sample gradient) over a batch, exactly: one forward and one backward pass for the whole batch.

The gradient of a batch's sum is not the sum of the samples' |gradients|. But at every layer the gradient with respect
to the layer's OUTPUT still has one row a sample, and from that row and the layer's input its rule (see `rules`) makes
the sample's weight gradient. So parameters take no part in this backward pass: each layer's output is tapped instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from tripletcl.embedding.eval_mode import eval_mode
from tripletcl.errors import UserError
from tripletcl.mas.float32 import at_least_float32, exact_float32
from tripletcl.mas.products import Statistic
from tripletcl.mas.rules import DROPS, RULES, type_name

Scalar = Callable[[Tensor], Tensor]
"""Outputs [B, ...] to one number a sample [B], or to K of them [B, K]."""

Engine = Literal["hooks", "loop"]
Scope = Literal["global", "local", "rectified"]

WAY_OUT = 'engine "loop" (`method.engine=loop` on the command line) takes any model, one sample at a time, global scope'


def squared_norm(outputs: Tensor) -> Tensor:
    """||F(x)||^2 of each sample, over everything but the batch axis (Aljundi et al., ECCV 2018): [B, ...] -> [B]."""
    return outputs.reshape(len(outputs), -1).square().sum(1)


def every_output(outputs: Tensor) -> Tensor:
    """F_1(x) ... F_D(x) of each sample: [B, ...] -> [B, D], D passes backward."""
    return outputs.reshape(len(outputs), -1)


def per_sample_statistic(
    model: nn.Module,
    inputs: Tensor,
    *,
    forward: Callable[[Tensor], Any] | None = None,
    scalar: Scalar = squared_norm,
    statistic: Statistic = abs,
    engine: Engine = "hooks",
    scope: Scope = "global",
) -> dict[str, Tensor]:
    """The SUM over a batch of the statistic of every sample's own gradient: sum_n f(d s(F(x_n)) / d theta).

    Taken in eval mode and in float32 at least, whatever torch is set to; modes, settings, flags and hooks are as before
    afterwards, also after an error.

    Args:
        model: the parameters' owner; those with `requires_grad` are in the result.
        inputs: [B, ...], one sample a row. Every layer with parameters must keep the batch on axis 0.
        forward: what computes F of `inputs`, `model` itself if None; `model.from_features`, say.
        scalar: s, from F's outputs [B, ...] to one number a sample [B], or to K of them [B, K], whose statistics are
            added up, sum_nk f(d s_k(F(x_n)) / d theta), by one pass forward and K passes backward; engine "loop" calls
            it with B = 1.
        statistic: f, `abs` (MAS importance) or `torch.square` (Fisher information).
        engine: "hooks" is one pass a batch, for layer types that have a rule; "loop" one pass a sample, for any layer.
        scope: "global" differentiates the scalar of the model's outputs. "local" differentiates ||y_l||^2 of every
            layer's OWN output, its input held constant: sum_n f(d ||y_nl||^2 / d theta_l), by a forward pass alone.
            "rectified" is local, but a layer whose output enters an `nn.ReLU` has that ReLU's output for its own.

    Returns:
        Parameter name (as in `model.named_parameters()`) -> a tensor of its shape, in float32 at least.

    Raises:
        UserError: an unknown engine or statistic, a scalar of the wrong shape, a scope that does not go with
            the other arguments, or a model that "hooks" cannot serve: a layer type without a rule, a layer called
            twice, a shared parameter, an input changed in place.
    """
    statistics = Statistics(model, forward=forward, scalar=scalar, statistic=statistic, engine=engine, scope=scope)
    statistics.add(inputs)
    return statistics.sums


class Statistics:
    """The statistics of batch after batch, added up where they lie.

    What a batch costs beyond its passes is thereby paid once: new memory for the sums, and the sample that shows where
    the batch axis is. Arguments as in `per_sample_statistic`.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        forward: Callable[[Tensor], Any] | None = None,
        scalar: Scalar = squared_norm,
        statistic: Statistic = abs,
        engine: Engine = "hooks",
        scope: Scope = "global",
    ) -> None:
        check_scope(scope, scalar, engine)
        self.model, self.scalar, self.statistic = model, scalar, statistic
        self.forward = forward or model
        self.engine, self.scope = engine, scope
        self.sums: dict[str, Tensor] = {}
        self.seen: set[torch.Size] = set()
        """The shapes of samples whose batch axis has been looked at."""

    def add(self, inputs: Tensor) -> None:
        """Add a batch [B, ...] to `sums`, which are worth nothing after an error."""
        with _measuring(self.model, inputs, self.statistic) as inputs:
            self.sums = self.sums or _zeros(self.model)
            if self.engine == "loop":
                _by_loop(self.sums, self.model, self.forward, inputs, self.scalar, self.statistic)
                return
            taps = _taps(self, len(inputs))
            if inputs.shape[1:] not in self.seen:
                _check_batch_axis(taps, self.forward, inputs[:1])
                self.seen.add(inputs.shape[1:])
            if self.scope == "rectified":
                _find_rectified(taps, self.model, self.forward, inputs[:1])
            _by_hooks(taps, self.forward, inputs, self.scalar, self.scope)


def batch_statistic(
    model: nn.Module,
    inputs: Tensor,
    *,
    forward: Callable[[Tensor], Any] | None = None,
    scalar: Scalar = squared_norm,
    statistic: Statistic = abs,
) -> dict[str, Tensor]:
    """The statistic of the gradient of the batch's MEAN: f(d (1/B sum_n s(F(x_n))) / d theta), by plain autograd.

    This is what released code takes for importance. It is not the mean of the samples' statistics, which may have other
    signs and cancel out here, and it depends on the batch size; for comparison only. Arguments as in
    `per_sample_statistic`; with a batch of one sample it is the same.
    """
    with _measuring(model, inputs, statistic) as inputs:
        total = _zeros(model)
        _by_loop(total, model, forward or model, inputs, scalar, statistic, size=len(inputs))
        return total


def check_scope(scope: str, scalar: Scalar, engine: str) -> None:
    """Refuse what no combination of the arguments of `per_sample_statistic` can mean.

    Raises:
        UserError: an unknown engine or scope, or a local scope with an engine or a scalar that it does not have.
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
def _measuring(model: nn.Module, inputs: Tensor, statistic: Statistic) -> Iterator[Tensor]:
    """Eval mode with gradients, in exact float32, without autocast around; gives the inputs, fit for autograd."""
    if statistic not in IN_PLACE:
        raise UserError(f"the statistic of a gradient is abs or torch.square, not {statistic!r}")
    if not any(p.requires_grad for p in model.parameters()):
        raise UserError(f"{type_name(model)} has no trainable parameters, so none has an importance")
    no_autocast = torch.autocast(inputs.device.type, enabled=False)
    with torch.inference_mode(False), torch.enable_grad(), no_autocast, exact_float32(), eval_mode(model):
        yield inputs.clone() if inputs.is_inference() else inputs.detach()


def _by_loop(
    total: dict[str, Tensor],
    model: nn.Module,
    forward: Callable[[Tensor], Any],
    inputs: Tensor,
    scalar: Scalar,
    f: Statistic,
    size: int = 1,
) -> None:
    """Add the sum over chunks of `size` samples of f(gradient of the chunk's mean)."""
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    for samples in inputs.split(size):
        means = [mean / len(samples) for mean in _totals(scalar, forward(samples), len(samples))]
        for grads in _each_gradient(means, parameters):
            for name, grad in grads.items():
                total[name] += f(grad.to(total[name].dtype))


def _by_hooks(taps: list[_Tap], forward: Callable[[Tensor], Any], inputs: Tensor, scalar: Scalar, scope: Scope) -> None:
    anchor = torch.zeros((), device=inputs.device, requires_grad=True)
    parameters = {f"{tap.path}{name}": p for tap in taps for name, p in tap.parameters.items()}
    try:
        for tap in taps:
            tap.attach(anchor)
        totals = _totals(scalar, forward(inputs), len(inputs))
        if scope != "global" and any(tap.received for tap in taps):
            totals = [total for total in totals if total.requires_grad]  # by a stray, or a layer outside the model
        # Asking for the anchor makes the engine visit every tap, and nothing below the first one.
        for tap in taps:
            tap.passes = len(totals)
        strays = [name for grads in _each_gradient(totals, {"": anchor, **parameters}) for name in grads]
    finally:
        for tap in taps:
            tap.detach()
    if strays:
        raise UserError(f"{strays[0]} is used outside the forward of its own layer; {WAY_OUT}")


ENGINES, SCOPES = ("hooks", "loop"), ("global", "local", "rectified")

IN_PLACE: dict[Statistic, Statistic] = {abs: torch.abs_, torch.abs: torch.abs_, torch.square: torch.square_}
"""The statistics, and their forms for what need not be kept."""


class _Tap:
    """One layer's place in the pass: keeps the input going forward, calls the rule coming backward."""

    def __init__(self, path: str, layer: nn.Module, batch: int, statistics: Statistics) -> None:
        self.path, self.layer, self.batch = path, layer, batch
        self.f, self.local = IN_PLACE[statistics.statistic], statistics.scope != "global"
        sums = statistics.sums
        self.parameters = _own_trainable(layer)
        self.sums = {name: sums[f"{path}{name}"] for name in self.parameters if f"{path}{name}" in sums}
        self.received = False
        self.handles: list[RemovableHandle] = []
        self.input: Tensor | None = None
        self.version = 0
        self.rectified = False
        """A ReLU is what the output enters, and counts as part of the layer; of a local scope."""
        self.calls = 0
        self.passes = 1
        """Passes backward that are still to come: the input is kept for as long."""

    def attach(self, anchor: Tensor) -> None:
        self.anchor = anchor
        # Last before and first after the layer: other hooks may change what goes in and what comes out.
        self.handles.append(self.layer.register_forward_pre_hook(self._enter, with_kwargs=True))
        if type_name(self.layer) in DROPS:
            self.handles.append(self.at_output(self._tap))
            self.handles.append(self.layer.register_forward_hook(lambda *_: self._train(True), prepend=True))
        else:
            self.handles.append(self.layer.register_forward_hook(self._leave, prepend=True))

    def at_output(self, see: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Show the layer's output to a function, which may replace it."""
        if inner := DROPS.get(type_name(self.layer)):
            return self.layer.get_submodule(inner).register_forward_pre_hook(lambda _, args: see(args[0]))
        return self.layer.register_forward_hook(lambda _, args, output: see(output), prepend=True)

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
        if self.local:  # d ||y||^2 / d y = 2 y is known at once, and so is d ||relu(y)||^2 / d y = 2 relu(y)
            with torch.no_grad():
                self._receive(2 * (output.relu() if self.rectified else output))
            return output
        return _OutputGradient.apply(output, self.anchor, self._receive)

    def _receive(self, grad_output: Tensor) -> None:
        assert self.input is not None
        if self.input._version != self.version:
            raise self.error("has its input changed in place after it was called")
        dtype = at_least_float32(self.input.dtype)
        rule = RULES[type_name(self.layer)]
        with torch.autocast(grad_output.device.type, enabled=False):  # of a local scope it is called going forward
            rule(self.layer, self.input.to(dtype), grad_output.to(dtype), self.f, self.sums)
        self.received = True
        self.passes -= 1
        if not self.passes:
            self.input = None

    def _train(self, flag: bool) -> None:
        # False only inside the layer's own forward: a use anywhere else still reaches autograd, and is found there.
        for parameter in self.parameters.values():
            parameter.requires_grad_(flag)

    def error(self, what: str) -> UserError:
        return UserError(f"{self.path.rstrip('.') or 'the model'} ({type_name(self.layer)}) {what}; {WAY_OUT}")


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


def _taps(statistics: Statistics, batch: int) -> list[_Tap]:
    taps = []
    owners: dict[Tensor, str] = {}
    for path, module in statistics.model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            raise UserError(f"{path} has no running statistics, so it mixes the samples of a batch; {WAY_OUT}")
        tap = _Tap(f"{path}." if path else "", module, batch, statistics)
        for name, parameter in tap.parameters.items():
            if parameter in owners:
                raise UserError(f"{owners[parameter]} and {tap.path}{name} are one parameter; {WAY_OUT}")
            owners[parameter] = f"{tap.path}{name}"
        if tap.parameters:
            _check_rule(tap)
            taps.append(tap)
    return taps


def _check_rule(tap: _Tap) -> None:
    if type_name(tap.layer) not in RULES:
        allowed = ", ".join(sorted({name.rpartition(".")[2] for name in RULES}))
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
    _pass_by(handles, forward, sample)


def _find_rectified(taps: list[_Tap], model: nn.Module, forward: Callable[[Tensor], Any], sample: Tensor) -> None:
    """Mark the taps whose layer's output is the very tensor that enters an `nn.ReLU`."""
    outputs: list[tuple[Tensor, _Tap]] = []

    def leave(tap: _Tap, output: Tensor) -> None:
        outputs.append((output, tap))

    def enter(entering: Tensor) -> None:
        for output, tap in outputs:
            tap.rectified |= output is entering

    handles = [tap.at_output(partial(leave, tap)) for tap in taps]
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    handles += [relu.register_forward_pre_hook(lambda _, args: enter(args[0])) for relu in relus]
    _pass_by(handles, forward, sample)


def _pass_by(handles: list[RemovableHandle], forward: Callable[[Tensor], Any], sample: Tensor) -> None:
    """Let a sample pass hooks that only look, and remove them."""
    try:
        with torch.no_grad():
            forward(sample)
    finally:
        for handle in handles:
            handle.remove()


def _own_trainable(layer: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in layer.named_parameters(recurse=False) if p.requires_grad}


def _totals(scalar: Scalar, outputs: Any, batch: int) -> list[Tensor]:
    """The K sums over the batch of the samples' K scalars."""
    values = scalar(outputs)
    if values.ndim not in (1, 2) or len(values) != batch:
        raise UserError(
            f"the scalar must give one number a sample, shape [{batch}], or K of them, shape [{batch}, K], "
            f"not {[*values.shape]}"
        )
    return list(values.reshape(batch, -1).sum(0).unbind())


def _each_gradient(totals: list[Tensor], parameters: dict[str, Any]) -> Iterator[dict[str, Tensor]]:
    """For each of the totals of one graph, the gradients of those parameters that it depends on."""
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
