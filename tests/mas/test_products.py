"""Convolutions and products of any shape, computed in parts of any size, against autograd on one sample at a time."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_products import summed_products
from torch import Tensor, nn

from tripletcl import cpu
from tripletcl.mas import convolutions, products, rules
from tripletcl.mas.products import add_products, in_chunks

SIZES = st.sampled_from([1, 100, 1000, 10**9])


def of_rule(layer: nn.Module, x: Tensor, g: Tensor, f: Any) -> dict[str, Tensor]:
    total = {name: torch.ones_like(p.detach()) for name, p in layer.named_parameters()}
    with torch.no_grad():
        rules.RULES[rules.type_name(layer)](layer, x, g, f, total)
    return {name: value - 1 for name, value in total.items()}  # the rule adds to the total


@st.composite
def convolution(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, ...]]:
    """A layer and the spatial shape of its input."""
    axes = draw(st.integers(1, 3))
    each = lambda low, high: tuple(draw(st.integers(low, high)) for _ in range(axes))  # noqa: E731
    kernel, dilation = each(1, 5 if axes == 2 else 3), each(1, 2)
    groups = draw(st.sampled_from([1, 1, 2, 4]))
    per_group = draw(st.sampled_from([1, 3]))
    layer = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[axes](
        groups * per_group, groups * draw(st.integers(1, 3)), kernel, each(1, 3), each(0, 2), dilation, groups
    )
    return layer.double(), tuple(
        d * (k - 1) + 1 + draw(st.integers(0, 4)) for k, d in zip(kernel, dilation, strict=True)
    )


@settings(max_examples=60, deadline=None)
@given(convolution(), SIZES, SIZES, st.sampled_from([0, 2**18]), st.booleans(), st.sampled_from(["abs_", "square_"]))
def test_any_convolution_in_parts_of_any_size(
    case: tuple[nn.Module, tuple[int, ...]], tile: int, band: int, few: int, channels_last: bool, name: str
) -> None:
    torch.manual_seed(0)
    layer, size = case
    f = getattr(torch, name)
    x = torch.randn(3, layer.in_channels, *size, dtype=torch.float64)
    g = torch.randn_like(layer(x)).detach()
    if channels_last and x.ndim == 4:
        x, g = x.to(memory_format=torch.channels_last), g.to(memory_format=torch.channels_last)
    before = x.clone(), g.clone()
    with pytest.MonkeyPatch.context() as patch:
        for constant, value in (("TILE_BYTES", tile), ("BAND_BYTES", band), ("MIN_MULTIPLICATIONS", few)):
            patch.setattr(products, constant, value)
        ours = of_rule(layer, x, g, f)
    torch.testing.assert_close(ours["weight"], summed_products(layer, x, g, f), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(ours["bias"], f(g.flatten(2).sum(2)).sum(0), rtol=1e-10, atol=1e-10)
    assert torch.equal(x, before[0])
    assert torch.equal(g, before[1])


@pytest.mark.parametrize("onednn", [True, False])
@pytest.mark.parametrize("f", [torch.abs_, torch.square_])
@pytest.mark.parametrize("shape", [(40, 300, 49), (300, 40, 20), (5, 7, 9000)], ids=str)
def test_products_in_float32(
    shape: tuple[int, int, int], f: Any, onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large enough for one sample a call; the last in several bands, the rows of the others in several tiles."""
    if onednn and not cpu.AVAILABLE:
        pytest.skip("this torch has no oneDNN")
    outputs, inputs, positions = shape
    for constant, value in (("TILE_BYTES", 2**14), ("BAND_BYTES", 2**17)):
        monkeypatch.setattr(products, constant, value)
    monkeypatch.setattr(cpu, "AVAILABLE", onednn)
    torch.manual_seed(0)
    g, x = torch.randn(4, outputs, positions), torch.randn(4, positions, inputs).transpose(1, 2)
    total = torch.zeros(outputs, inputs)
    add_products(total, g, x, f)
    expected = f(torch.einsum("nol,nil->noi", g.double(), x.double())).sum(0)
    assert (total - expected).abs().max() <= 1e-5 * expected.max()


@pytest.mark.parametrize("size", [1, 3, 8, 100])
def test_half_as_many_samples_when_memory_runs_out(size: int) -> None:
    """Memory for two samples: whatever the first chunk, each sample is counted exactly once."""
    done: list[int] = []
    tried: list[int] = []

    def work(chunk: slice) -> None:
        samples = list(range(7))[chunk]
        tried.append(len(samples))
        if len(samples) > 2:
            raise torch.OutOfMemoryError("no room")
        done.extend(samples)

    in_chunks(work, 7, size)
    assert done == [*range(7)]
    assert tried == sorted(tried, reverse=True) or tried[-1] == 1


def test_not_even_one_sample_fits() -> None:
    def work(chunk: slice) -> None:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(torch.OutOfMemoryError):
        in_chunks(work, 7, 4)


LAYERS = [
    (nn.Conv2d(3, 5, 3, padding=1), (3, 6, 6)),
    (nn.Conv2d(4, 4, 3, groups=4), (4, 6, 6)),
    (nn.BatchNorm2d(4), (4, 5, 5)),
    (nn.GroupNorm(2, 4), (4, 5, 5)),
    (nn.LayerNorm(5), (4, 5)),
]


@pytest.mark.parametrize(("layer", "shape"), LAYERS, ids=str)
def test_no_sample_is_counted_twice_when_memory_runs_out(
    layer: nn.Module, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out in f, at the worst moment: everything before it is done, nothing is added yet."""
    layer.double().eval()
    x = torch.randn(6, *shape, dtype=torch.float64)
    g = torch.randn_like(layer(x)).detach()
    expected = of_rule(layer, x, g, torch.abs_)
    failures = []

    def scarce(gradients: Tensor) -> Tensor:
        if gradients.ndim > 1 and len(gradients) > 2 and gradients.shape[0] != layer.weight.shape[0]:
            failures.append(len(gradients))
            raise torch.OutOfMemoryError("no room")
        return gradients.abs_()

    bias = type(layer).__name__.startswith(("Conv", "LayerNorm"))  # their bias is one small sum, computed at once
    total = {
        name: torch.zeros_like(p.detach()) for name, p in layer.named_parameters() if not (bias and name == "bias")
    }
    with torch.no_grad():
        rules.RULES[rules.type_name(layer)](layer, x, g, scarce, total)
    assert failures
    for name, value in total.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-12, atol=1e-12)


def test_windows_of_a_depthwise_kernel_leave_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of every size from 3 to 8, in a buffer that begins as NaN."""
    monkeypatch.setattr(Tensor, "new_empty", lambda self, *shape: self.new_full(shape, torch.nan))
    for height, width in ((3, 8), (4, 7), (5, 5), (6, 3), (8, 8)):
        layer = nn.Conv2d(3, 6, (height, width), stride=(1, 2), groups=3).double()
        x = torch.randn(2, 3, 9, 10, dtype=torch.float64)
        g = torch.randn_like(layer(x)).detach()
        ours = convolutions._in_windows(x, g, layer).abs().sum(0)
        torch.testing.assert_close(ours, summed_products(layer, x, g, torch.abs), rtol=1e-10, atol=1e-10)


def test_one_position_that_sees_padding_only() -> None:
    """The padded input has as many numbers as the kernel, none of them from the input."""
    layer = nn.Conv2d(1, 1, kernel_size=1, stride=(1, 3), padding=(0, 1)).double()
    x, g = torch.randn(2, 1, 1, 1, dtype=torch.float64), torch.randn(2, 1, 1, 1, dtype=torch.float64)
    assert of_rule(layer, x, g, torch.abs_)["weight"].item() == pytest.approx(0)
    assert summed_products(layer, x, g, torch.abs_).item() == 0
