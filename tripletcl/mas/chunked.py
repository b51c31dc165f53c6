"""Elementwise updates of all parameters at once, in chunks that fit the CPU's cache.

Multi-tensor operations one after another create temporaries as large as the network, which are written to memory and
read back. In chunks only the arguments are read and written, once. On a GPU everything is one chunk, as a launch costs
more there than a pass through memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from tripletcl.mas.parallel import even_slices, run_threads

CHUNK = 2**18
"""Numbers of a chunk: 1 MiB of float32."""

MIN_CHUNKS = 16
"""Number of chunks from which it pays to use several threads."""

TINY = torch.finfo(torch.float32).tiny

Chunk = list[list[Tensor]]
"""For each list of tensors, those in the chunk: whole ones, or flat views of parts of them."""


def chunks(*lists: Sequence[Tensor], size: int = CHUNK) -> Iterator[Chunk]:
    """Split lists of tensors into chunks of at most `size` numbers of each list.

    Args:
        lists: All of one length. Tensors at the same position have one shape, or broadcast to that of the first list's.
    """
    if not lists[0]:
        return
    if lists[0][0].device.type != "cpu":
        yield [list(tensors) for tensors in lists]
        return
    chunk: list[tuple[Tensor, ...]] = []
    filled = 0
    for entry in zip(*lists, strict=True):
        for part in _split(entry, size):
            if chunk and filled + part[0].numel() > size:
                yield [list(tensors) for tensors in zip(*chunk, strict=True)]
                chunk, filled = [], 0
            chunk.append(part)
            filled += part[0].numel()
    if chunk:
        yield [list(tensors) for tensors in zip(*chunk, strict=True)]


def apply_chunked(work: Callable[..., object], *lists: Sequence[Tensor]) -> None:
    """Call `work` with the tensors of each chunk, in several threads where there are many chunks."""
    all_chunks = list(chunks(*lists))
    slices = even_slices(len(all_chunks)) if len(all_chunks) >= MIN_CHUNKS else [slice(None)]

    def work_on(part: slice) -> None:
        for chunk in all_chunks[part]:
            work(*chunk)

    run_threads(work_on, slices)


def _split(entry: tuple[Tensor, ...], size: int) -> Iterator[tuple[Tensor, ...]]:
    """Flat parts of tensors that belong together; the tensors themselves if small, broadcast or not contiguous."""
    first = entry[0]
    if first.numel() <= size or not all(t.is_contiguous() and t.shape == first.shape for t in entry):
        return iter((entry,))
    return zip(*(t.view(-1).split(size) for t in entry), strict=True)


def proximal_step_(theta: Sequence[Tensor], omega: Sequence[Tensor], anchor: Sequence[Tensor], strength: float) -> None:
    """`theta <- (theta + c anchor) / (1 + c)` with `c = strength omega`, in place.

    Computed as `theta + r (anchor - theta)` with `r = c / (1 + c) = omega / (omega + 1 / strength)`: three operations,
    and a parameter of no importance does not change at all.
    """
    inverse = max(1 / strength, TINY)  # 0 / 0 would be NaN

    def step(theta: list[Tensor], omega: list[Tensor], anchor: list[Tensor]) -> None:
        ratio = torch._foreach_div(omega, torch._foreach_add(omega, inverse))
        torch._foreach_lerp_(theta, anchor, [r.to(t.dtype) for r, t in zip(ratio, theta, strict=True)])

    apply_chunked(step, theta, omega, anchor)


def add_penalty_gradient_(
    gradient: Sequence[Tensor],
    theta: Sequence[Tensor],
    omega: Sequence[Tensor],
    anchor: Sequence[Tensor],
    strength: float,
) -> None:
    """`gradient += strength omega (theta - anchor)`, in place."""
    apply_chunked(partial(_add_product, strength), gradient, omega, theta, anchor)


def accumulate_path_integral_(
    work: Sequence[Tensor], gradient: Sequence[Tensor], theta: Sequence[Tensor], before: Sequence[Tensor]
) -> None:
    """`work -= gradient (theta - before)`, in place."""
    apply_chunked(partial(_add_product, -1.0), work, gradient, theta, before)


def _add_product(
    strength: float, sums: list[Tensor], factor: list[Tensor], theta: list[Tensor], origin: list[Tensor]
) -> None:
    """`sums += strength factor (theta - origin)`, in place."""
    torch._foreach_addcmul_(sums, factor, torch._foreach_sub(theta, origin), value=strength)
