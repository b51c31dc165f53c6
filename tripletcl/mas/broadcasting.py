"""Parameters beside layers that meet the samples by broadcasting: tokens, positions, scales, tables of biases.

Where a value that depends on one parameter alone, such as a table of biases by its index, meets the samples in a sum, a
product, a concatenation or as the mask of an attention, it is expanded over them. Its gradient then has a row a sample,
without another call of a module, and is pulled back to the parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

MEETINGS = {"add", "mul", "sub", "__add__", "__mul__", "__sub__", "__radd__", "__rmul__", "__rsub__", "add_", "mul_"}
MEETINGS |= {"sub_", "__iadd__", "__imul__", "__isub__", "cat", "concat", "scaled_dot_product_attention"}
"""The functions in which a value may meet the samples."""


@dataclass(frozen=True)
class Meeting:
    """A value that met the samples.

    Attributes:
        name: Its parameter.
        value: The value, which depends on the parameter.
        rows: The value for every row of the samples, `[L, ...]`, a leaf of the graph.
    """

    name: str
    value: Tensor
    rows: Tensor

    def gradients(self, parameter: Tensor, grad: Tensor, batch: int) -> Tensor:
        """Each sample's gradient of the parameter, `[B, *shape]`, from that of the rows `[L, ...]`."""
        if self.value.ndim == grad.ndim and len(self.value) == len(grad) > 1:  # expanded by the model itself
            samples = torch.eye(batch, dtype=grad.dtype, device=grad.device).repeat_interleave(len(grad) // batch, 1)
            cotangents = samples.view(*samples.shape, *[1] * (grad.ndim - 1)) * grad  # [B, L, ...]
        else:
            cotangents = grad.unflatten(0, (batch, -1)).sum(1)
        cotangents = cotangents.reshape(batch, *self.value.shape)
        if self.value is parameter:
            return cotangents
        (rows,) = torch.autograd.grad(self.value, parameter, cotangents, retain_graph=True, is_grads_batched=True)
        return rows


class Broadcasting(TorchFunctionMode):
    """Expands the values of parameters over the samples in a forward pass.

    Args:
        parameters: Those to look at, by name.
        model: Its other parameters and its buffers are no samples.

    Attributes:
        meetings: The values that met the samples.
        failed: The names of parameters that met them in another operation.
    """

    def __init__(self, parameters: Mapping[str, Tensor], model: nn.Module) -> None:
        super().__init__()
        self.meetings: list[Meeting] = []
        self.failed: set[str] = set()
        self._values: dict[int, tuple[Tensor, str]] = {id(p): (p, name) for name, p in parameters.items()}
        self._others = {id(p) for p in model.parameters()} - self._values.keys()
        self._buffers = {id(buffer) for buffer in model.buffers()}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch, with expanded values where they meet samples."""
        kwargs = kwargs or {}
        tensors = list(_tensors((args, kwargs)))
        names = {self._values[id(t)][1] for t in tensors if id(t) in self._values}
        if not names or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        known = self._values.keys() | self._others | self._buffers
        samples = [t for t in tensors if t.is_floating_point() and id(t) not in known]
        alone = len(names) == 1 and self._others.isdisjoint(map(id, tensors))
        if not samples and alone:
            result = func(*args, **kwargs)
            if isinstance(result, Tensor) and result.requires_grad:
                self._values[id(result)] = result, next(iter(names))  # the tensor is held, so that its id stays its own
            return result
        name = getattr(func, "__name__", "")
        length = max((len(t) for t in samples if t.ndim), default=0)
        in_place = name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))
        changed = in_place and id(args[0]) in self._values
        if not alone or not length or changed or name not in MEETINGS:
            self.failed |= names
            return func(*args, **kwargs)
        ndim = max(t.ndim for t in samples)
        return func(*self._expanded(args, length, ndim), **self._expanded(kwargs, length, ndim))

    def _expanded(self, tree: Any, length: int, ndim: int) -> Any:
        """The arguments with expanded values."""
        if isinstance(tree, Tensor) and id(tree) in self._values:
            return self._rows(*self._values[id(tree)], length, ndim)
        if isinstance(tree, dict):
            return {key: self._expanded(value, length, ndim) for key, value in tree.items()}
        if type(tree) in (tuple, list):
            return type(tree)(self._expanded(part, length, ndim) for part in tree)
        return tree

    def _rows(self, value: Tensor, name: str, length: int, ndim: int) -> Tensor:
        """A value for every row, as a leaf."""
        shape = (1,) * (ndim - value.ndim) + tuple(value.shape)
        if not shape or shape[0] not in (1, length):
            self.failed.add(name)
            return value
        rows = value.detach().view(shape).expand(length, *shape[1:]).requires_grad_()
        self.meetings.append(Meeting(name, value, rows))
        return rows


def _tensors(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, tuple | list):
        for part in tree:
            yield from _tensors(part)
    elif isinstance(tree, dict):
        yield from _tensors(list(tree.values()))
