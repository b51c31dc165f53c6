"""The arithmetic of `pieces` on a graphics processor: one launch over all tensors, memory read and written once.

A launch knows its tensors by a table of their addresses. A program works on one block of one tensor, which it finds in
a list of all blocks. The list stands as long as the tensors are the same; gradients, made anew in every step, have
their addresses sent along, a few kilobytes.
"""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from typing import Any
from weakref import ref

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.utils.weak import WeakTensorKeyDictionary

TYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
"""Whatever the type, the arithmetic is that of float32. The second list may be of another than the others: importance
is float32 at least."""

BLOCK = 4096
"""Numbers of a program."""

VECTOR = 16
"""Bytes at a multiple of which a tensor has to begin, so that many are read at a time."""

Lists = Sequence[Sequence[Tensor]]
"""Of tensors that belong together, entry by entry; those of the first list are changed."""


def try_out(device: torch.device) -> None:
    """Raise whatever stands in the way of the kernel on a device, a wrong result included."""
    for dtype in (torch.float32, torch.bfloat16):
        theta, omega, anchor, start = (
            [torch.full((2, size), value, dtype=type_, device=device) for size in (BLOCK, 3)]
            for value, type_ in ((7.0, dtype), (1.0, torch.float32), (3.0, dtype), (2.0, dtype))
        )
        left = [*draw_near(theta, omega, anchor, 1.0), *add_product(theta, omega, anchor, start, -1.0)]
        if any(left) or any((t != 4).any() for t in theta):  # half way from 7 to 3, less (3 - 2) * 1
            raise ArithmeticError("the kernel's result is wrong")


def draw_near(theta: Sequence[Tensor], omega: Sequence[Tensor], anchor: Sequence[Tensor], least: float) -> Lists:
    """`theta <- theta + r (anchor - theta)` with `r = omega / (omega + least)`, in place.

    Returns:
        The entries that it cannot serve, in as many lists.
    """
    return _launch((theta, omega, anchor), least, near=True)


def add_product(
    total: Sequence[Tensor], factor: Sequence[Tensor], end: Sequence[Tensor], start: Sequence[Tensor], scale: float
) -> Lists:
    """`total += scale (end - start) factor`, in place; returns as `draw_near`."""
    return _launch((total, factor, end, start), scale, near=False)


def _launch(lists: Lists, scalar: float, near: bool) -> Lists:
    plan = PLANS.get(lists[-1][0])
    if plan is None or not plan.fits(lists):
        plan = PLANS[lists[-1][0]] = _Plan(lists)
    if plan.rows:
        table, aligned = plan.table(lists)
        with torch.cuda.device_of(table):
            _in_one_passage[(len(plan.blocks),)](
                table, plan.lengths, plan.blocks, len(plan.rows), _in_float32(scalar),
                NEAR=near, ALIGNED=aligned, TYPE=TYPES[plan.types[0]], FACTOR=TYPES[plan.types[1]], BLOCK=BLOCK,
                num_warps=8,
            )  # fmt: skip
        increment_version([lists[0][row] for row in plan.rows])  # autograd is to know, as of any change in place
    return [[tensors[row] for row in plan.left] for tensors in lists]


def _in_float32(scalar: float) -> float:
    return torch.tensor(scalar, dtype=torch.float32).item()  # what is too large for it becomes infinite


class _Plan:
    """Which entries of some lists are served, and in which blocks."""

    def __init__(self, lists: Lists) -> None:
        first, self.types = lists[0][0], [tensors[0].dtype for tensors in lists]
        takes = all(dtype in TYPES for dtype in self.types) and {self.types[0]} == {*self.types[2:]}
        self.known = [[(ref(t), _lies(t)) for t in tensors] for tensors in lists]
        kinds = [(first.device, dtype) for dtype in self.types]
        served = [takes and _alike([_lies(t) for t in entry], kinds) for entry in zip(*lists, strict=True)]
        self.left = [row for row, yes in enumerate(served) if not yes]
        self.rows = [row for row, yes in enumerate(served) if yes and lists[0][row].numel()]
        lengths = torch.tensor([lists[0][row].numel() for row in self.rows], dtype=torch.int64)
        blocks = (lengths + BLOCK - 1) // BLOCK
        tensor = torch.arange(len(blocks)).repeat_interleave(blocks)
        block = torch.arange(len(tensor)) - (blocks.cumsum(0) - blocks)[tensor]
        self.lengths = lengths.to(first.device)
        self.blocks = torch.stack((tensor, block), 1).to(first.device, torch.int32)  # [programs, 2]
        self.sent: list[int] = []
        """The addresses in the table, list after list."""

    def fits(self, lists: Lists) -> bool:
        """Whether these are the same tensors, or others of the same shape, type and order in memory."""
        return [*map(len, lists)] == [*map(len, self.known)] and all(
            t is known() or _lies(t) == lies
            for tensors, place in zip(lists, self.known, strict=True)
            for t, (known, lies) in zip(tensors, place, strict=True)
        )

    def table(self, lists: Lists) -> tuple[Tensor, bool]:
        """The addresses of the tensors [lists, served] on the device, and whether all are multiples of `VECTOR`."""
        addresses = [tensors[row].data_ptr() for tensors in lists for row in self.rows]
        if addresses != self.sent:
            # Page-locked and new each time: the host does not wait, and does not write over what is under way.
            sending = torch.tensor(addresses, dtype=torch.int64, pin_memory=self.lengths.is_cuda)
            self.on_device = sending.to(self.lengths.device, non_blocking=True)
            self.sent, self.aligned = addresses, not any(address % VECTOR for address in addresses)
        return self.on_device, self.aligned


PLANS: MutableMapping[Tensor, _Plan] = WeakTensorKeyDictionary()
"""By the last list's first tensor, which is the anchor's: each task has its own."""


def _lies(t: Tensor) -> tuple[Any, ...]:
    """All that the kernel has to know of a tensor but its address."""
    return t.device, t.dtype, t.shape, t.stride()


def _alike(entry: list[tuple[Any, ...]], kinds: list[tuple[torch.device, torch.dtype]]) -> bool:
    """Whether an entry's tensors are of these devices and types, and their numbers lie in the same order, no gaps."""
    orders = [_order(shape, strides) for _, _, shape, strides in entry]
    same = [lies[:2] for lies in entry] == kinds and all(lies[2] == entry[0][2] for lies in entry)
    dense = 1
    for stride, size in sorted(orders[0]):
        if stride != dense:
            return False
        dense *= size
    return same and all(order == orders[0] for order in orders)


def _order(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """Stride and size of the axes along which there is anything to walk."""
    return [(stride, size) for stride, size in zip(strides, shape, strict=True) if size > 1]


@triton.jit
def _in_one_passage(  # type: ignore[no-untyped-def]
    table, lengths, blocks, tensors, scalar,
    NEAR: tl.constexpr, ALIGNED: tl.constexpr, TYPE: tl.constexpr, FACTOR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A program is a block of a tensor: all that lies in it is read once, and the first list's numbers are written."""
    program = tl.program_id(0)
    tensor = tl.load(blocks + 2 * program)
    start = tl.load(blocks + 2 * program + 1).to(tl.int64) * BLOCK
    length = tl.load(lengths + tensor)
    at = start + tl.arange(0, BLOCK)
    if start + BLOCK <= length:  # without a mask, of which the compiler cannot say that neighbours share it
        _change(table + tensor, tensors, at, None, scalar, NEAR, ALIGNED, TYPE, FACTOR)
    else:
        _change(table + tensor, tensors, at, at < length, scalar, NEAR, ALIGNED, TYPE, FACTOR)


@triton.jit
def _change(  # type: ignore[no-untyped-def]
    table, tensors, at, inside, scalar,
    NEAR: tl.constexpr, ALIGNED: tl.constexpr, TYPE: tl.constexpr, FACTOR: tl.constexpr,
):  # fmt: skip
    first = _numbers(table, ALIGNED, TYPE) + at
    a = tl.load(first, inside).to(tl.float32)
    b = tl.load(_numbers(table + tensors, ALIGNED, FACTOR) + at, inside).to(tl.float32)
    c = tl.load(_numbers(table + 2 * tensors, ALIGNED, TYPE) + at, inside).to(tl.float32)
    if NEAR:
        share = tl.div_rn(b, b + scalar)
        away = c - a  # from either end, as torch.lerp, so that a share of one arrives
        result = tl.where(tl.abs(share) < 0.5, a + share * away, c - away * (1 - share))
    else:
        d = tl.load(_numbers(table + 3 * tensors, ALIGNED, TYPE) + at, inside).to(tl.float32)
        result = a + scalar * ((c - d) * b)
    tl.store(first, result.to(TYPE), inside)


@triton.jit
def _numbers(table, ALIGNED: tl.constexpr, TYPE: tl.constexpr):  # type: ignore[no-untyped-def]
    """The pointer that an entry of the table is."""
    numbers = tl.load(table).to(tl.pointer_type(TYPE))
    return tl.multiple_of(numbers, 16) if ALIGNED else numbers  # bytes: `VECTOR`
