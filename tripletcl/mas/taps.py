"""Hooks on the modules of a model that pass each module's input and output gradient on, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tripletcl.errors import UserError
from tripletcl.mas.float32 import at_least_float32
from tripletcl.mas.own_gradients import OwnGradients
from tripletcl.mas.owners import Owner, batched_arguments, output_tensors
from tripletcl.mas.products import Statistic
from tripletcl.mas.rules import DROPS, RULES, type_name
from tripletcl.mas.samples import Samples

Forward = Callable[[Any], Any]

WAY_OUT = 'engine "loop" (`method.engine=loop` on the command line) takes any model, one sample at a time, global scope'


@dataclass
class Pass:
    """One forward and backward pass of a batch.

    Attributes:
        batch: The number of samples.
        f: The statistic, as a function that may work in place.
        sums: Parameter name -> the sum of the statistics, which the taps add to.
        local: Differentiate the squared norm of every layer's own output, going forward.
        rows: Parameter name -> the gradients of all samples so far, `[B, ...]`, where several calls use it.
        paused: True while a module is called again to differentiate it: the taps then do nothing.
        received: True once a tap has received a gradient.
        failed: Path of a module -> why its samples' gradients are not known.
        met_otherwise: Names of parameters that met the samples, but not by broadcasting.
    """

    batch: int
    f: Statistic
    sums: dict[str, Tensor]
    local: bool = False
    rows: dict[str, Tensor] = field(default_factory=dict)
    paused: bool = False
    received: bool = False
    failed: dict[str, UserError] = field(default_factory=dict)
    met_otherwise: set[str] = field(default_factory=set)

    def add_rows(self, name: str, rows: Tensor, chunk: slice = slice(None)) -> None:
        """Add gradients of the samples of a chunk, `[n, ...]`, by one of several uses of a parameter."""
        total = self.sums[name]
        if name not in self.rows:
            self.rows[name] = total.new_zeros(self.batch, *total.shape)
        self.rows[name][chunk] += rows

    def finish(self) -> None:
        """Add the statistics of the parameters that several calls use: their gradients are added up first."""
        for name, rows in self.rows.items():
            self.sums[name].add_(self.f(rows).sum(0))
        self.rows = {}


class Tap:
    """The hooks of one module: its input is kept going forward, its gradients are computed coming backward.

    Args:
        owner: The module and its parameters.
    """

    def __init__(self, owner: Owner) -> None:
        self.owner, self.layer = owner, owner.module
        parameters = dict(owner.module.named_parameters(remove_duplicate=False))
        self.parameters: dict[str, Tensor] = {name: parameters[name] for name in owner.names}
        self.rectified = False
        """True if the output enters a ReLU that counts as part of the layer, in a local scope."""
        self.handles: list[RemovableHandle] = []
        self.inputs: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        """The arguments of the calls that have begun and not ended."""
        self.calls = 0
        self.own = None if owner.by_rule else OwnGradients(self.title, owner.module, self.parameters)

    @property
    def title(self) -> str:
        """The module in messages."""
        return f"{self.owner.path or 'the model'} ({type_name(self.layer)})"

    def attach(self, pass_: Pass, anchor: Tensor) -> None:
        """Register the hooks.

        Args:
            pass_: What the gradients are added to.
            anchor: A scalar that requires a gradient, through which the backward pass reaches every tap.
        """
        self.pass_, self.anchor, self.calls, self.inputs = pass_, anchor, 0, []
        # Last before and first after the module: other hooks may change its input and its output.
        self.handles.append(self.layer.register_forward_pre_hook(self._enter, with_kwargs=True))
        if self.owner.by_rule and type_name(self.layer) in DROPS:
            self.handles.append(self.at_output(self._tap_affine))
            self.handles.append(self.layer.register_forward_hook(lambda *_: self._set_trainable(True), prepend=True))
        else:
            self.handles.append(self.layer.register_forward_hook(self._leave, prepend=True))

    def at_output(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Register a function that is called with a layer's output, and may replace it."""
        if inner := DROPS.get(type_name(self.layer)):
            return self.layer.get_submodule(inner).register_forward_pre_hook(lambda _, args: hook(args[0]))
        return self.layer.register_forward_hook(lambda _, args, output: hook(output), prepend=True)

    def detach(self) -> None:
        """Remove the hooks."""
        for handle in self.handles:
            handle.remove()
        self.handles, self.inputs = [], []
        self._set_trainable(True)

    @property
    def _works(self) -> bool:
        return torch.is_grad_enabled() and not self.pass_.paused

    def _enter(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not self._works:
            return
        self.calls += 1
        if self.calls > len(self.owner.calls.outputs):
            self.fail(f"is called more often than the {len(self.owner.calls.outputs)} times that one sample showed")
            return
        keep = Tensor.detach if self.owner.by_rule else _copy
        values = {key: keep(value) for key, value in batched_arguments(args, kwargs).items()}
        self.inputs.append(
            (
                tuple(values.get(place, value) for place, value in enumerate(args)),
                {key: values.get(key, value) for key, value in kwargs.items()},
            )
        )
        self._set_trainable(False)

    def _leave(self, layer: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if not self._works:
            return output
        self._set_trainable(len(self.inputs) <= 1)
        if not self.inputs:  # one call too many
            return output
        if self.owner.by_rule:
            return self._tap_affine(output)
        given, number = self.inputs.pop(), self.calls - 1 - len(self.inputs)
        tensors = output_tensors(output)
        if isinstance(output, Tensor) and len(output) == 1 < self.pass_.batch:  # the same for all samples
            output = output.repeat(self.pass_.batch, *[1] * (output.ndim - 1))
            tensors = [output]
        if tensors is None or [len(t) for t in tensors] != self._lengths(self.owner.calls.outputs[number]):
            return self.fail("does not keep the batch on axis 0", output)
        tapped = iter(_OutputGradients.apply(partial(self._receive_own, given, number), self.anchor, *tensors))
        if isinstance(output, Tensor):
            return next(tapped)
        return type(output)(next(tapped) if part is not None and part.is_floating_point() else part for part in output)

    def _tap_affine(self, output: Tensor) -> Tensor:
        if not self._works:
            return output
        args, kwargs = self.inputs.pop()  # from here on the graph holds it
        input = next(iter((*args, *kwargs.values())))
        rows, batch = self.owner.calls.outputs[0][0], self.pass_.batch
        if len(input) == len(output) == 1 < batch:  # the same for all samples, such as positions
            input, output = (value.repeat(batch, *[1] * (value.ndim - 1)) for value in (input, output))
        if not len(input) == len(output) == self.pass_.batch * rows:
            return self.fail("does not keep the batch on axis 0", output)
        if self.pass_.local:  # d ||y||^2 / d y = 2 y is known at once, and so is d ||relu(y)||^2 / d y = 2 relu(y)
            with torch.no_grad():
                self.receive(input, 2 * (output.relu() if self.rectified else output))
            return output
        return _OutputGradient.apply(output, self.anchor, input, self)

    def receive(self, input: Tensor, grad_output: Tensor) -> None:
        """Call the rule with the layer's input and the gradient of its output."""
        dtype, batch = at_least_float32(grad_output.dtype), self.pass_.batch
        x, g = input.to(dtype) if input.is_floating_point() else input, grad_output.to(dtype)
        if len(x) != batch:  # several rows a sample
            x, g = (value.reshape(batch, -1, *value.shape[1:]) for value in (x, g))
        sums = {name: self.pass_.sums[full] for name, full in self.owner.names.items()}
        with torch.autocast(grad_output.device.type, enabled=False):  # a local scope calls this going forward
            RULES[type_name(self.layer)](self.layer, x, g, self.pass_.f, sums)
        self.pass_.received = True

    def _receive_own(self, given: tuple[tuple[Any, ...], dict[str, Any]], number: int, grads: Sequence[Tensor]) -> None:
        """Differentiate the module itself for every sample."""
        assert self.own is not None
        args, kwargs = given
        lengths = self.owner.calls.inputs[number]
        tensors = batched_arguments(args, kwargs)
        batched = {key for key, value in tensors.items() if len(value) == self.pass_.batch * lengths.get(key, 0)}
        if strange := {key for key in tensors.keys() - batched if len(tensors[key]) != lengths.get(key)}:
            self.fail(f"is called with {len(strange)} tensors that have neither samples nor a fixed length")
            return
        self.pass_.paused = True
        try:
            for chunk, rows in self.own.rows(args, kwargs, batched, grads, self.pass_.batch):
                self._add(chunk, rows)
        finally:
            self.pass_.paused = False
        self.pass_.received = True

    def _add(self, chunk: slice, rows: dict[str, Tensor]) -> None:
        for name, full in self.owner.names.items():
            total = self.pass_.sums[full]
            value = rows[name].to(total.dtype, copy=True)  # it may be a view of a gradient that goes on
            if full in self.owner.alone:
                total.add_(self.pass_.f(value).sum(0))
            else:
                self.pass_.add_rows(full, value, chunk)

    def _lengths(self, of_one: Sequence[int]) -> list[int]:
        return [self.pass_.batch * length for length in of_one]

    def _set_trainable(self, flag: bool) -> None:
        # False only inside the module's own forward: a use anywhere else still reaches autograd, and is found there.
        for parameter in self.parameters.values():
            parameter.requires_grad_(flag)

    def fail(self, problem: str, output: Any = None) -> Any:
        """Record that the gradients are not known; returns the output, which stays as it is."""
        assert self.owner.path is not None
        self.pass_.failed[self.owner.path] = self.error(problem)
        return output

    def error(self, problem: str) -> UserError:
        """An error that names the module and the way out."""
        return UserError(f"{self.title} {problem}; {WAY_OUT}")


class _OutputGradient(torch.autograd.Function):
    """The identity going forward; gives the gradient to a layer's rule going backward.

    An autograd function rather than a tensor hook: the anchor puts it into the graph where nothing else needs a
    gradient, and the output stays an ordinary tensor that an in-place activation may overwrite.
    """

    @staticmethod
    def forward(ctx: Any, output: Tensor, anchor: Tensor, input: Tensor, tap: Tap) -> Tensor:
        ctx.tap = tap
        ctx.save_for_backward(input)
        ctx.mark_dirty(output)
        return output

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        try:
            (input,) = ctx.saved_tensors
        except RuntimeError:
            ctx.tap.fail("has its input changed in place after it was called")
        else:
            ctx.tap.receive(input, grad_output)
        return grad_output, None, None, None


class _OutputGradients(torch.autograd.Function):
    """The same for the outputs of a module without a rule, whose arguments were copied."""

    @staticmethod
    def forward(ctx: Any, receive: Callable[[Sequence[Tensor]], None], anchor: Tensor, *outputs: Tensor) -> Any:
        ctx.receive = receive
        return tuple(output.clone() for output in outputs)  # they may be views, and may be overwritten later

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        ctx.receive(grads)
        return None, None, *grads


def find_rectified(taps: list[Tap], model: nn.Module, forward: Forward, sample: Samples) -> None:
    """Mark the taps whose layer's output is the very tensor that enters an `nn.ReLU`."""
    outputs: list[tuple[Tensor, Tap]] = []

    def leave(tap: Tap, output: Tensor) -> None:
        outputs.append((output, tap))

    def enter(input: Tensor) -> None:
        for output, tap in outputs:
            tap.rectified |= output is input

    handles = [tap.at_output(partial(leave, tap)) for tap in taps]
    relus = [module for module in model.modules() if isinstance(module, nn.ReLU)]
    handles += [relu.register_forward_pre_hook(lambda _, args: enter(args[0])) for relu in relus]
    try:
        with torch.no_grad():
            forward(sample)
    finally:
        for handle in handles:
            handle.remove()


def _copy(value: Tensor) -> Tensor:
    return value.detach().clone()
