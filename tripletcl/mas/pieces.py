"""Elementwise work on all parameters at once, in pieces that stay in the CPU's cache.

A multi-tensor operation after another makes temporaries as large as the network: they go to memory and come back, and
each time their pages are asked for anew. Piece by piece only what is asked for is read and written, once. On a GPU
everything is taken in one piece, because there a launch costs more than a passage of memory saves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from tripletcl.mas.dealing import at_once, shares_of

PIECE = 2**18
"""Numbers of a piece: 1 MiB of float32."""

MANY = 16
"""Pieces from which on to wake other threads costs little beside their work."""

TINY = torch.finfo(torch.float32).tiny

Piece = list[list[Tensor]]
"""For each list that was given, its tensors of the piece: whole ones, or flat views of parts of them."""


def pieces(*lists: Sequence[Tensor], size: int = PIECE) -> Iterator[Piece]:
    """Cut lists of tensors that belong together, entry by entry, into pieces of at most `size` numbers each.

    Args:
        lists: As long as one another; the tensors of an entry have one shape, or broadcast to that of the first.
    """
    if not lists[0]:
        return
    if lists[0][0].device.type != "cpu":
        yield [list(tensors) for tensors in lists]
        return
    piece: list[tuple[Tensor, ...]] = []
    filled = 0
    for entry in zip(*lists, strict=True):
        for part in _cut(entry, size):
            if piece and filled + part[0].numel() > size:
                yield [list(tensors) for tensors in zip(*piece, strict=True)]
                piece, filled = [], 0
            piece.append(part)
            filled += part[0].numel()
    if piece:
        yield [list(tensors) for tensors in zip(*piece, strict=True)]


def in_pieces(work: Callable[..., object], *lists: Sequence[Tensor]) -> None:
    """Call `work` with the tensors of each piece, on the CPU by several threads at once where there are many pieces."""
    found = list(pieces(*lists))
    shares = shares_of(len(found)) if len(found) >= MANY else [slice(None)]

    def share(of: slice) -> None:
        for piece in found[of]:
            work(*piece)

    at_once(share, shares)


def _cut(entry: tuple[Tensor, ...], size: int) -> Iterator[tuple[Tensor, ...]]:
    """The tensors of one entry as flat parts; as they are where they are small, broadcast or not laid out in a row."""
    first = entry[0]
    if first.numel() <= size or not all(t.is_contiguous() and t.shape == first.shape for t in entry):
        return iter((entry,))
    return zip(*(t.view(-1).split(size) for t in entry), strict=True)


def draw_near(theta: Sequence[Tensor], omega: Sequence[Tensor], anchor: Sequence[Tensor], strength: float) -> None:
    """`theta <- (theta + c anchor) / (1 + c)` with `c = strength omega`, in place.

    As `theta + r (anchor - theta)` with `r = c / (1 + c) = omega / (omega + 1 / strength)`: three operations, and what
    is not important stays as it is, bit for bit.
    """
    least = max(1 / strength, TINY)  # 0 / 0 would be no number

    def draw(theta: list[Tensor], omega: list[Tensor], anchor: list[Tensor]) -> None:
        share = torch._foreach_div(omega, torch._foreach_add(omega, least))
        torch._foreach_lerp_(theta, anchor, [s.to(t.dtype) for s, t in zip(share, theta, strict=True)])

    in_pieces(draw, theta, omega, anchor)


def add_pull(
    gradient: Sequence[Tensor],
    theta: Sequence[Tensor],
    omega: Sequence[Tensor],
    anchor: Sequence[Tensor],
    strength: float,
) -> None:
    """`gradient += strength omega (theta - anchor)`, in place."""
    in_pieces(partial(_add_product, strength), gradient, omega, theta, anchor)


def add_work(
    work: Sequence[Tensor], gradient: Sequence[Tensor], theta: Sequence[Tensor], before: Sequence[Tensor]
) -> None:
    """`work -= gradient (theta - before)`, in place."""
    in_pieces(partial(_add_product, -1.0), work, gradient, theta, before)


def _add_product(
    strength: float, sums: list[Tensor], factor: list[Tensor], theta: list[Tensor], origin: list[Tensor]
) -> None:
    """`sums += strength factor (theta - origin)`, in place."""
    torch._foreach_addcmul_(sums, factor, torch._foreach_sub(theta, origin), value=strength)
