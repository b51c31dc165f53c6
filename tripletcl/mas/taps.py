"""Hooks on a model's layers that pass each layer's input and output gradient to the rule of its type."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tripletcl.errors import UserError
from tripletcl.mas.float32 import at_least_float32
from tripletcl.mas.products import Statistic
from tripletcl.mas.rules import DROPS, RULES, type_name
from tripletcl.mas.samples import Samples

Forward = Callable[[Any], Any]

WAY_OUT = 'engine "loop" (`method.engine=loop` on the command line) takes any model, one sample at a time, global scope'

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class Tap:
    """The hooks of one layer: its input is kept going forward, its rule is called coming backward.

    Args:
        path: The layer's name in the model with a dot at its end; empty for the model itself.
        batch: The number of samples.
        f: The statistic, as a function that may work in place.
        local: Differentiate the squared norm of the layer's own output, going forward.
        sums: The sums of all parameters by their full names.
    """

    def __init__(
        self, path: str, layer: nn.Module, batch: int, f: Statistic, local: bool, sums: dict[str, Tensor]
    ) -> None:
        self.path, self.layer, self.batch = path, layer, batch
        self.f, self.local = f, local
        self.parameters = {name: p for name, p in layer.named_parameters(recurse=False) if p.requires_grad}
        self.sums = {name: sums[f"{path}{name}"] for name in self.parameters if f"{path}{name}" in sums}
        self.received = False
        """True once the rule was called."""
        self.rectified = False
        """True if the output enters a ReLU that counts as part of the layer, in a local scope."""
        self.handles: list[RemovableHandle] = []
        self.input: Tensor | None = None
        self.calls = 0

    def attach(self, anchor: Tensor) -> None:
        """Register the hooks.

        Args:
            anchor: A scalar that requires a gradient, through which the backward pass reaches every tap.
        """
        self.anchor = anchor
        # Last before and first after the layer: other hooks may change its input and its output.
        self.handles.append(self.layer.register_forward_pre_hook(self._enter, with_kwargs=True))
        if type_name(self.layer) in DROPS:
            self.handles.append(self.at_output(self._tap))
            self.handles.append(self.layer.register_forward_hook(lambda *_: self._set_trainable(True), prepend=True))
        else:
            self.handles.append(self.layer.register_forward_hook(self._leave, prepend=True))

    def at_output(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
        """Register a function that is called with the layer's output, and may replace it."""
        if inner := DROPS.get(type_name(self.layer)):
            return self.layer.get_submodule(inner).register_forward_pre_hook(lambda _, args: hook(args[0]))
        return self.layer.register_forward_hook(lambda _, args, output: hook(output), prepend=True)

    def detach(self) -> None:
        """Remove the hooks."""
        for handle in self.handles:
            handle.remove()
        self._set_trainable(True)

    def _enter(self, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not torch.is_grad_enabled():
            return
        self.calls += 1
        if self.calls > 1:
            raise self.error("is called more than once in a forward pass")
        self.input = next(iter((*args, *kwargs.values()))).detach()
        self._set_trainable(False)

    def _leave(self, layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        self._set_trainable(True)
        return self._tap(output)

    def _tap(self, output: Tensor) -> Tensor:
        if not torch.is_grad_enabled():
            return output
        input, self.input = self.input, None  # from here on the graph holds it
        assert input is not None
        if not len(input) == len(output) == self.batch:
            raise self.error(f"does not keep the batch of {self.batch} on axis 0: its output is {[*output.shape]}")
        if self.local:  # d ||y||^2 / d y = 2 y is known at once, and so is d ||relu(y)||^2 / d y = 2 relu(y)
            with torch.no_grad():
                self.receive(input, 2 * (output.relu() if self.rectified else output))
            return output
        return _OutputGradient.apply(output, self.anchor, input, self)

    def receive(self, input: Tensor, grad_output: Tensor) -> None:
        """Call the rule with the layer's input and the gradient of its output."""
        dtype = at_least_float32(input.dtype)
        with torch.autocast(grad_output.device.type, enabled=False):  # a local scope calls this going forward
            RULES[type_name(self.layer)](self.layer, input.to(dtype), grad_output.to(dtype), self.f, self.sums)
        self.received = True

    def _set_trainable(self, flag: bool) -> None:
        # False only inside the layer's own forward: a use anywhere else still reaches autograd, and is found there.
        for parameter in self.parameters.values():
            parameter.requires_grad_(flag)

    def error(self, problem: str) -> UserError:
        """An error that names the layer and the way out."""
        return UserError(f"{self.path.rstrip('.') or 'the model'} ({type_name(self.layer)}) {problem}; {WAY_OUT}")


class _OutputGradient(torch.autograd.Function):
    """The identity going forward; gives the gradient to a tap going backward.

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
        except RuntimeError as error:
            raise ctx.tap.error("has its input changed in place after it was called") from error
        ctx.tap.receive(input, grad_output)
        return grad_output, None, None, None


def build_taps(model: nn.Module, batch: int, f: Statistic, local: bool, sums: dict[str, Tensor]) -> list[Tap]:
    """A tap for every layer that owns trainable parameters; arguments as in `Tap`.

    Raises:
        UserError: A layer that the rules cannot serve, or a parameter that two layers share.
    """
    taps = []
    owners: dict[Tensor, str] = {}
    for path, module in model.named_modules():
        if isinstance(module, BATCH_NORMS) and module.running_mean is None:
            raise UserError(f"{path} has no running statistics, so it mixes the samples of a batch; {WAY_OUT}")
        tap = Tap(f"{path}." if path else "", module, batch, f, local, sums)
        for name, parameter in tap.parameters.items():
            if parameter in owners:
                raise UserError(f"{owners[parameter]} and {tap.path}{name} are one parameter; {WAY_OUT}")
            owners[parameter] = f"{tap.path}{name}"
        if tap.parameters:
            _check_rule(tap)
            taps.append(tap)
    return taps


def _check_rule(tap: Tap) -> None:
    if type_name(tap.layer) not in RULES:
        allowed = ", ".join(sorted({name.rpartition(".")[2] for name in RULES}))
        raise tap.error(f"owns trainable parameters and is none of the layer types with an exact rule ({allowed})")
    others = tap.parameters.keys() - {"weight", "bias"}
    if others:
        raise tap.error(f"owns trainable parameters ({', '.join(sorted(others))}) besides weight and bias")


def check_batch_axis(taps: list[Tap], forward: Forward, sample: Samples) -> None:
    """Refuse layers that do not keep the batch on axis 0.

    It takes a batch of one sample to tell: in a larger one another axis may happen to be as long.
    """

    def check(tap: Tap, output: Tensor) -> None:
        if len(output) != 1:
            raise tap.error(f"does not keep the batch on axis 0: for one sample its output is {[*output.shape]}")

    handles = [tap.layer.register_forward_hook(lambda _, args, output, tap=tap: check(tap, output)) for tap in taps]
    _run_observed(handles, forward, sample)


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
    _run_observed(handles, forward, sample)


def _run_observed(handles: list[RemovableHandle], forward: Forward, sample: Samples) -> None:
    """Run a sample past hooks that change nothing, and remove them."""
    try:
        with torch.no_grad():
            forward(sample)
    finally:
        for handle in handles:
            handle.remove()
