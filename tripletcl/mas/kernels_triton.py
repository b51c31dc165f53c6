"""Per-sample weight gradients of convolutions and linear layers on a graphics processor, in the memory of their sum.

One program owns a tile of the weight. For one sample after the other it runs over the output positions, reading the
input where the kernel would have read it (no columns are ever stored), applies f to the finished tile and adds it up.
So the gradient of a sample exists in registers only. Where the weight has too few tiles to fill the device, the samples
are dealt to several programs, whose sums are added up at the end in a fixed order.
"""

from __future__ import annotations

from typing import Any

import torch
import triton  # type: ignore[import-untyped]
import triton.language as tl  # type: ignore[import-untyped]
from torch import Tensor

from tripletcl.mas.products import Statistic

PROGRAMS = 4
"""Programs wanted for each multiprocessor of the device."""


def try_out(device: torch.device) -> None:
    """Raise whatever stands in the way of the kernel on a device, a wrong result included."""
    g, x = torch.ones(2, 16, 3, device=device), torch.full((2, 16, 3), -2.0, device=device)
    total = torch.zeros(16, 16, device=device)
    add_windows(total, x, g, torch.abs_)
    if not (total == 12).all():
        raise ArithmeticError("the kernel's result is wrong")


def add_convolution(total: Tensor, layer: Any, x: Tensor, g: Tensor, f: Statistic) -> None:
    """total += sum_n f(d s_n / d weight), in place.

    Args:
        total: as the layer's weight, [O, C / groups, *kernel], contiguous.
        layer: its kernel size, stride, dilation and groups.
        x: padded inputs [B, C, *size]; g: gradients of the outputs [B, O, *space]; of any strides, one or two axes.
        f: `torch.abs_` or `torch.square_`.
    """
    add_windows(total, x, g, f, layer.kernel_size, layer.stride, layer.dilation, layer.groups)


def add_windows(
    total: Tensor,
    x: Tensor,
    g: Tensor,
    f: Statistic,
    kernel: tuple[int, ...] = (1,),
    stride: tuple[int, ...] = (1,),
    dilation: tuple[int, ...] = (1,),
    groups: int = 1,
) -> None:
    """As `add_convolution`; with a kernel of one, [B, I, L] and [B, O, L] are the columns of a linear layer."""
    if len(kernel) == 1:
        x, g = x.unsqueeze(2), g.unsqueeze(2)
        kernel, stride, dilation = (1, *kernel), (1, *stride), (1, *dilation)
    outputs, columns = len(total) // groups, total[0].numel()
    rows = 1 if outputs == 1 else min(64, max(16, triton.next_power_of_2(outputs)))  # a product takes 16 at least
    width = min(64, max(16, triton.next_power_of_2(columns)))
    tiles = triton.cdiv(columns, width) * triton.cdiv(outputs, rows)
    splits = min(len(x), max(1, PROGRAMS * _multiprocessors(x.device) // (tiles * groups)))
    sums = total.new_empty(splits, *total.shape)
    grid = (triton.cdiv(columns, width), triton.cdiv(outputs, rows), groups * splits)
    with torch.cuda.device_of(x):
        _sum_over_samples[grid](
            x, g, sums, len(x), triton.cdiv(len(x), splits), groups, outputs, columns,
            g.shape[2] * g.shape[3], g.shape[3], *x.stride(), *g.stride(), *stride, *dilation,
            KERNEL=kernel[0] * kernel[1], KERNEL_WIDTH=kernel[1], SQUARE=f is torch.square_,
            PRECISION=_precision(x), ROWS=rows, WIDTH=width, POSITIONS=32,
        )  # fmt: skip
    total.add_(sums[0] if splits == 1 else sums.sum(0))


def _precision(x: Tensor) -> str:
    """How factors are rounded; sums are float32. The pass gives bfloat16, or float32 and torch's leave to round it."""
    if x.dtype == torch.bfloat16:
        return "bf16"
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"


def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1


@triton.jit
def _sum_over_samples(  # type: ignore[no-untyped-def]
    x, g, sums, batch, samples, groups, outputs, columns, positions, out_width,
    x_n, x_c, x_h, x_w, g_n, g_o, g_h, g_w, stride_h, stride_w, dilation_h, dilation_w,
    KERNEL: tl.constexpr, KERNEL_WIDTH: tl.constexpr, SQUARE: tl.constexpr, PRECISION: tl.constexpr,
    ROWS: tl.constexpr, WIDTH: tl.constexpr, POSITIONS: tl.constexpr,
):  # fmt: skip
    """sums[split, o, j] = sum over the split's samples n of f(sum_l g[n, o, l] x[n, column j at position l])."""
    j = tl.program_id(0) * WIDTH + tl.arange(0, WIDTH)
    o = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    group, split = tl.program_id(2) % groups, tl.program_id(2) // groups
    channel = group * (columns // KERNEL) + j // KERNEL
    tap_h, tap_w = j % KERNEL // KERNEL_WIDTH, j % KERNEL_WIDTH
    of_column = channel.to(tl.int64) * x_c + tap_h * dilation_h * x_h + tap_w * dilation_w * x_w
    of_row = (group * outputs + o).to(tl.int64) * g_o
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    first = split * samples
    x_sample, g_sample = x + first.to(tl.int64) * x_n, g + first.to(tl.int64) * g_n
    for _ in range(first, tl.minimum(batch, first + samples)):
        gradient = tl.zeros((ROWS, WIDTH), tl.float32)
        for start in range(0, positions, POSITIONS):
            at = start + tl.arange(0, POSITIONS)
            h, w, inside = at // out_width, at % out_width, at < positions
            of_input = h.to(tl.int64) * stride_h * x_h + w * stride_w * x_w
            of_output = h.to(tl.int64) * g_h + w * g_w
            seen = tl.load(
                x_sample + of_input[:, None] + of_column[None, :], inside[:, None] & (j < columns)[None, :], 0.0
            )  # [POSITIONS, WIDTH]
            if ROWS == 1:  # depthwise: too little for a matrix product
                got = tl.load(g_sample + group.to(tl.int64) * g_o + of_output, inside, 0.0)
                gradient += tl.sum(got.to(tl.float32)[:, None] * seen.to(tl.float32), 0)[None, :]
            else:
                got = tl.load(
                    g_sample + of_row[:, None] + of_output[None, :], (o < outputs)[:, None] & inside[None, :], 0.0
                )  # [ROWS, POSITIONS]
                if PRECISION == "bf16":
                    gradient = tl.dot(got, seen, gradient)
                else:
                    gradient = tl.dot(got, seen, gradient, input_precision=PRECISION)
        total += gradient * gradient if SQUARE else tl.abs(gradient)
        x_sample += x_n
        g_sample += g_n
    row = (split * groups + group).to(tl.int64) * outputs + o
    tl.store(sums + row[:, None] * columns + j[None, :], total, (o < outputs)[:, None] & (j < columns)[None, :])
