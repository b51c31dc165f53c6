"""Every sample's own gradient of the parameters of one module, from its arguments and the gradient of its output.

This needs no rule for the module: it is called again, and differentiated for all samples at once by
`torch.func.vmap`, or for one after the other where it holds an operation that vmap cannot take. Only this module pays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from tripletcl.mas.owners import output_tensors

log = logging.getLogger("tripletcl")

ROWS_BYTES = 64 * 2**20
"""Size of the samples' gradients that are computed at a time."""

REASON = 100
"""Most characters of vmap's reason in a message."""

Function = Callable[[Mapping[str, Tensor], Any], list[Tensor]]
"""From parameters and one sample's arguments to outputs."""


class OwnGradients:
    """Computes them for one module; arguments whose gradient is wanted are given by name.

    Args:
        title: The module, for messages.
        module: Is called again.
        parameters: Name in the module -> parameter.
    """

    def __init__(self, title: str, module: nn.Module, parameters: Mapping[str, Tensor]) -> None:
        self.title, self.module = title, module
        self.parameters = {name: p.detach() for name, p in parameters.items()}
        self.one_by_one = False
        """True once vmap could not take the module."""

    def rows(
        self,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        batched: set[int | str],
        grads: Sequence[Tensor],
        batch: int,
    ) -> Iterator[tuple[slice, dict[str, Tensor]]]:
        """Yield a few samples at a time, and their gradients `[n, ...]` by the parameters' names in the module.

        Args:
            args: Positional arguments of the module's call.
            kwargs: Keyword arguments.
            batched: The positions and keywords of those that have samples on axis 0, each of one or several rows.
            grads: The gradients of the module's floating-point outputs, likewise.
            batch: The number of samples.
        """
        given: dict[int | str, Any] = dict([*enumerate(args), *kwargs.items()])
        fixed = {key: value for key, value in given.items() if key not in batched}
        samples = {str(key): _by_sample(given[key], batch) for key in batched}
        keys: dict[str, int | str] = {str(key): key for key in batched}
        cotangents = [_by_sample(grad, batch) for grad in grads]

        def outputs(parameters: Mapping[str, Tensor], sample: Mapping[str, Tensor]) -> list[Tensor]:
            values = fixed | {keys[name]: value for name, value in sample.items()}
            positional = tuple(values[place] for place in range(len(args)))
            named = {key: value for key, value in values.items() if isinstance(key, str)}
            result = output_tensors(functional_call(self.module, dict(parameters), positional, named))
            assert result is not None
            return result

        size = max(1, ROWS_BYTES // max(1, sum(p.numel() * p.element_size() for p in self.parameters.values())))
        for start in range(0, batch, size):
            chunk = slice(start, min(batch, start + size))
            some = {name: value[chunk] for name, value in samples.items()}
            yield chunk, self._gradients(outputs, some, [cotangent[chunk] for cotangent in cotangents])

    def _gradients(
        self, outputs: Function, samples: Mapping[str, Tensor], cotangents: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        if not self.one_by_one:
            try:
                return self._by_vmap(outputs, samples, cotangents)
            except RuntimeError as error:
                self.one_by_one = True
                reason = str(error).splitlines()[0][:REASON]
                log.warning(
                    "%s: gradients are taken one sample after the other, which is slow (%s)", self.title, reason
                )
        return self._by_loop(outputs, samples, cotangents)

    def _by_vmap(
        self, outputs: Function, samples: Mapping[str, Tensor], cotangents: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        def gradients(sample: Mapping[str, Tensor], cotangent: list[Tensor]) -> dict[str, Tensor]:
            pull = vjp(lambda parameters: outputs(parameters, sample), self.parameters)[1]
            return pull(cotangent)[0]

        with sdpa_kernel(SDPBackend.MATH):  # vmap would call the others for one sample after the other
            return vmap(gradients)(dict(samples), list(cotangents))

    def _by_loop(
        self, outputs: Function, samples: Mapping[str, Tensor], cotangents: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        rows: dict[str, list[Tensor]] = {name: [] for name in self.parameters}
        for number in range(len(cotangents[0])):
            parameters = {name: p.clone().requires_grad_() for name, p in self.parameters.items()}
            with torch.enable_grad():
                results = outputs(parameters, {name: value[number] for name, value in samples.items()})
                totals = [(out * c[number]).sum() for out, c in zip(results, cotangents, strict=True)]
                total = torch.stack(totals).sum()
            grads = torch.autograd.grad(total, tuple(parameters.values()), allow_unused=True, materialize_grads=True)
            for name, grad in zip(parameters, grads, strict=True):
                rows[name].append(grad)
        return {name: torch.stack(values) for name, values in rows.items()}


def _by_sample(value: Tensor, batch: int) -> Tensor:
    """`[B * k, ...]` to `[B, k, ...]`."""
    return value.reshape(batch, len(value) // batch, *value.shape[1:])
