"""sum_n f(g_n x_n^T): per-sample weight gradients of linear layers and dense convolutions, put through f and added.

The multiplications are those of the ordinary weight gradient; what f needs beside them is one sample's gradient at a
time, held only as long as it takes to add it to the total. It is made in pieces that stay in the processor's cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tripletcl.cpu import onednn_pays, product
from tripletcl.mas.dealing import deal

Statistic = Callable[[Tensor], Tensor]
"""f, applied to a tensor that is nobody else's: it may work in place, what it returns counts."""

Columns = Callable[[Tensor], Tensor]
"""Inputs of n samples [n, C, *size] to a view [n, *J, *space] of what each output position is multiplied with."""

TILE_BYTES = 2 * 2**20
"""Of one sample's gradient between being made and being added."""

SUM_BYTES = 4 * 2**20
"""Of a product over all samples between being made and being added."""

BAND_BYTES = 4 * 2**20
"""Of the columns that are gathered at a time."""

FEW = 2**18
"""Multiplications of a sample below which its calls would cost more than its work: samples are then taken together."""

FREE_SHARE = 4
"""Of a device's free memory a chunk of samples takes one part in so many."""


def add_products(total: Tensor, g: Tensor, x: Tensor, f: Statistic, columns: Columns = lambda x: x) -> None:
    """total += sum_n f(sum_l g_nl columns(x)_nl^T), in place.

    Args:
        total: [O, J].
        g: gradients of the outputs [B, O, *space], l running over space; of total's type.
        x: inputs [B, ...] of total's type, of which `columns` makes [B, *J, *space].
        f: absolute value or square.
        columns: asked for a few samples at a time; the identity where the input is already in columns.
    """
    positions = math.prod(g.shape[2:])
    if positions == 1:
        # f is multiplicative: f(g x^T) = f(g) f(x)^T, and the sum over samples is one product.
        own, own_g = (t.reshape(len(x), -1).clone() for t in (columns(x), g))
        _add_product(total, f(own_g), f(own))
    elif total.device.type != "cpu" or total.numel() * positions < FEW:
        gradient, columns_of_one = total.numel() * total.element_size(), total.shape[1] * positions * x.element_size()
        size = samples_at_once(total.device, gradient, columns_of_one)
        add_in_chunks(total, x, g, f, lambda x, g: _products(g, columns(x)), size)
    else:
        size = samples_at_once(x.device, x[0].numel() * x.element_size())

        def add(share: slice, total: Tensor) -> None:
            for some, some_g in zip(x[share].split(size), g[share].split(size), strict=True):
                for one, one_g in zip(columns(some), some_g, strict=True):
                    _add_sample(total, one_g, one, f)

        deal(add, len(x), total)


def add_in_chunks(
    total: Tensor, x: Tensor, g: Tensor, f: Statistic, per_sample: Callable[[Tensor, Tensor], Tensor], size: int
) -> None:
    """total += sum_n f(per_sample(x, g)[n]), `size` samples at a time."""

    def add(share: slice, total: Tensor) -> None:
        ours, ours_g = x[share], g[share]
        in_chunks(lambda chunk: total.add_(f(per_sample(ours[chunk], ours_g[chunk])).sum(0)), len(ours), size)

    deal(add, len(x), total)


def in_chunks(work: Callable[[slice], object], length: int, size: int) -> None:
    """Work on `size` samples at a time, and on half as many from where memory runs out.

    Args:
        work: adds to its sums last of all, so that after running out of memory it can be done again.
    """
    start, size = 0, min(size, length)
    while start < length:
        try:
            work(slice(start, start + size))
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
        else:
            start += size


def samples_at_once(device: torch.device, *bytes_of_one: int) -> int:
    """How many samples to work on at a time, if each needs so many bytes: what fits the cache, or a device's memory."""
    room = TILE_BYTES if device.type == "cpu" else _free_bytes(device) // FREE_SHARE
    return max(1, room // sum(bytes_of_one))


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":  # what the driver has, and what torch holds in reserve
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserve
    return 2**30


def _products(g: Tensor, columns: Tensor) -> Tensor:
    """[n, O, J] of g [n, O, *space] and columns [n, *J, *space]."""
    g = g.flatten(2)
    return torch.bmm(g, columns.reshape(len(g), -1, g.shape[2]).transpose(1, 2))


def _add_product(total: Tensor, g: Tensor, x: Tensor) -> None:
    """total += g^T x for g [B, O] and x [B, J]."""
    if not onednn_pays(g, total.numel() * len(g)):
        total.addmm_(g.T, x)
        return
    height = max(1, SUM_BYTES // (total.shape[1] * total.element_size()))
    for part, columns in zip(total.split(height), g.T.split(height), strict=True):
        part.add_(product(columns, x.T))


def _add_sample(total: Tensor, g: Tensor, columns: Tensor, f: Statistic) -> None:
    """total += f(sum_l g_l columns_l^T) for g [O, *space] and columns [*J, *space]."""
    axis = columns.ndim - (g.ndim - 1)  # the first of space
    rows = max(1, BAND_BYTES * columns.shape[axis] // max(1, columns.numel() * columns.element_size()))
    if rows >= columns.shape[axis]:
        flat = columns.reshape(total.shape[1], -1)
        height = max(1, TILE_BYTES // (total.shape[1] * total.element_size()))
        for part, g_part in zip(total.split(height), g.flatten(1).split(height), strict=True):
            part.add_(f(product(g_part, flat)))
        return
    bands = zip(g.split(rows, 1), columns.split(rows, axis), strict=True)
    gradient = torch.zeros_like(total)
    for g_band, band in bands:
        gradient.add_(product(g_band.flatten(1), band.reshape(total.shape[1], -1)))
    total.add_(f(gradient))
