"""sum_n f(g_n x_n^T): per-sample weight gradients of linear layers and dense convolutions, put through f and added.

It takes the multiplications of the ordinary weight gradient. In addition, f needs the gradient of one sample at a time,
which is held only until it is added to the total, and computed in tiles that stay in the CPU's cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from tripletcl.cpu import onednn_pays, product
from tripletcl.mas.parallel import map_samples

Statistic = Callable[[Tensor], Tensor]
"""f, which may change its argument in place; its result counts."""

Columns = Callable[[Tensor], Tensor]
"""Inputs of n samples [n, C, *size] to a view [n, *J, *space]: the J inputs of each output position."""

TILE_BYTES = 2 * 2**20
"""Size of the part of a sample's gradient that is computed before it is added."""

SUM_BYTES = 4 * 2**20
"""Size of the part of a product over all samples that is computed before it is added."""

BAND_BYTES = 4 * 2**20
"""Size of the columns that are gathered at a time."""

MIN_MULTIPLICATIONS = 2**18
"""Multiplications of one sample below which several samples are computed in one call."""

FREE_SHARE = 4
"""A chunk of samples takes at most one part in so many of a device's free memory."""


def add_products(total: Tensor, g: Tensor, x: Tensor, f: Statistic, columns: Columns = lambda x: x) -> None:
    """total += sum_n f(sum_l g_nl columns(x)_nl^T), in place.

    Args:
        total: [O, J].
        g: Gradients of the outputs [B, O, *space] in total's type; l runs over space.
        x: Inputs [B, ...] in total's type, from which `columns` makes [B, *J, *space].
        f: Absolute value or square.
        columns: Called with a few samples at a time; by default the inputs are columns already.
    """
    positions = math.prod(g.shape[2:])
    if positions == 1:
        # f is multiplicative: f(g x^T) = f(g) f(x)^T, and the sum over samples is one product.
        x, g = (t.reshape(len(x), -1).clone() for t in (columns(x), g))  # [B, J], [B, O]
        _add_product(total, f(g), f(x))
    elif total.device.type != "cpu" or total.numel() * positions < MIN_MULTIPLICATIONS:
        gradient, columns_of_one = total.numel() * total.element_size(), total.shape[1] * positions * x.element_size()
        size = samples_at_once(total.device, gradient, columns_of_one)
        add_in_chunks(total, x, g, f, lambda x, g: _products(g, columns(x)), size)
    else:
        size = samples_at_once(x.device, x[0].numel() * x.element_size())

        def add(share: slice, total: Tensor) -> None:
            for x_chunk, g_chunk in zip(x[share].split(size), g[share].split(size), strict=True):
                for sample, g_sample in zip(columns(x_chunk), g_chunk, strict=True):  # [*J, *space], [O, *space]
                    _add_sample(total, g_sample, sample, f)

        map_samples(add, len(x), total)


def add_in_chunks(
    total: Tensor, x: Tensor, g: Tensor, f: Statistic, per_sample: Callable[[Tensor, Tensor], Tensor], size: int
) -> None:
    """total += sum_n f(per_sample(x, g)[n]), `size` samples at a time."""

    def add(share: slice, total: Tensor) -> None:
        x_share, g_share = x[share], g[share]
        in_chunks(lambda chunk: total.add_(f(per_sample(x_share[chunk], g_share[chunk])).sum(0)), len(x_share), size)

    map_samples(add, len(x), total)


def in_chunks(work: Callable[[slice], object], length: int, size: int) -> None:
    """Work on `size` samples at a time, and on half as many whenever memory runs out.

    Args:
        work: Adds to its sums as its last step, so that it can be repeated after running out of memory.
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


def samples_at_once(device: torch.device, *bytes_per_sample: int) -> int:
    """The number of samples whose bytes fit the CPU's cache, or a share of a device's free memory."""
    room = TILE_BYTES if device.type == "cpu" else _free_bytes(device) // FREE_SHARE
    return max(1, room // sum(bytes_per_sample))


def _free_bytes(device: torch.device) -> int:
    if device.type == "cuda":  # free memory of the driver, and torch's own reserve
        reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + reserve
    return 2**30


def _products(g: Tensor, columns: Tensor) -> Tensor:
    """[n, O, J] from g [n, O, *space] and columns [n, *J, *space]."""
    g = g.flatten(2)  # [n, O, L]
    return torch.bmm(g, columns.reshape(len(g), -1, g.shape[2]).transpose(1, 2))


def _add_product(total: Tensor, g: Tensor, x: Tensor) -> None:
    """total += g^T x for g [B, O] and x [B, J]."""
    if not onednn_pays(g, total.numel() * len(g)):
        total.addmm_(g.T, x)
        return
    height = max(1, SUM_BYTES // (total.shape[1] * total.element_size()))
    for rows, g_rows in zip(total.split(height), g.T.split(height), strict=True):
        rows.add_(product(g_rows, x.T))


def _add_sample(total: Tensor, g: Tensor, columns: Tensor, f: Statistic) -> None:
    """total += f(sum_l g_l columns_l^T) for g [O, *space] and columns [*J, *space]."""
    axis = columns.ndim - (g.ndim - 1)  # the first axis of space
    band = max(1, BAND_BYTES * columns.shape[axis] // max(1, columns.numel() * columns.element_size()))
    if band >= columns.shape[axis]:
        flat = columns.reshape(total.shape[1], -1)  # [J, L]
        height = max(1, TILE_BYTES // (total.shape[1] * total.element_size()))
        for rows, g_rows in zip(total.split(height), g.flatten(1).split(height), strict=True):
            rows.add_(f(product(g_rows, flat)))
        return
    gradient = torch.zeros_like(total)
    for g_band, columns_band in zip(g.split(band, 1), columns.split(band, axis), strict=True):
        gradient.add_(product(g_band.flatten(1), columns_band.reshape(total.shape[1], -1)))
    total.add_(f(gradient))
