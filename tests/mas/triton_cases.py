"""Run by test_kernels_triton.py in a process of its own: the kernel, interpreted on the processor, against its twin."""

import torch
from reference_products import summed_products
from torch import Tensor, nn

from tripletcl.mas import kernels_triton as kernels
from tripletcl.mas.precision import rounding

LAYERS = [
    (nn.Conv2d(3, 5, 1), (4, 5)),
    (nn.Conv2d(3, 20, 3), (7, 6)),
    (nn.Conv2d(7, 5, (3, 2), stride=(2, 3), dilation=(1, 2)), (9, 10)),
    (nn.Conv2d(4, 6, 3, groups=2), (5, 8)),
    (nn.Conv2d(4, 4, 3, groups=4), (8, 6)),
    (nn.Conv2d(4, 8, 5, stride=2, groups=4), (9, 7)),
    (nn.Conv1d(3, 4, 3, stride=2), (9,)),
]


def check(ours: Tensor, reference: Tensor, what: object) -> None:
    assert reference.max() > 0
    assert (ours - reference).abs().max() <= 1e-5 * reference.max(), what


def convolutions(last: bool) -> None:
    for layer, size in LAYERS:
        x = torch.randn(5, layer.in_channels, *size)
        if last and x.ndim == 4:
            x = x.to(memory_format=torch.channels_last)
        g = torch.randn_like(layer(x)).detach()
        for f in (torch.abs_, torch.square_):
            total = torch.ones_like(layer.weight.detach())
            kernels.add_convolution(total, layer, x, g, f)
            check(total - 1, summed_products(layer, x, g, f), (layer, f, last))


def linear() -> None:
    x, g = torch.randn(4, 33, 70).transpose(1, 2), torch.randn(4, 33, 20).transpose(1, 2)
    total = torch.zeros(20, 70)
    kernels.add_windows(total, x, g, torch.abs_)
    expected = torch.einsum("nol,nil->noi", g, x).abs().sum(0)
    check(total, expected, "linear")
    kernels.try_out(torch.device("cpu"))


def precisions() -> None:
    """Taken from the factors' type and from torch's permission to round."""
    whole, half = torch.zeros(1), torch.zeros(1, dtype=torch.bfloat16)
    for precision, expected in (("float32", "ieee"), ("tf32", "tf32"), ("bf16", "tf32")):
        with rounding(precision):
            assert kernels._precision(whole) == expected
            assert kernels._precision(half) == "bf16"
    layer = nn.Conv2d(4, 4, 3, groups=4)  # no matrix product, which the interpreter gets wrong in bfloat16
    x = torch.randn(3, 4, 8, 6).bfloat16()
    g = torch.randn_like(layer(x.float())).detach().bfloat16()
    total = torch.zeros_like(layer.weight.detach())
    kernels.add_convolution(total, layer, x, g, torch.abs_)
    check(total, summed_products(layer, x.float(), g.float(), torch.abs_), "sums of bfloat16 factors in float32")


def samples_dealt_out() -> None:
    kernels.PROGRAMS = 3
    x, g = torch.randn(7, 3, 4), torch.randn(7, 5, 4)
    total = torch.zeros(5, 3)
    kernels.add_windows(total, x, g, torch.abs_)
    check(total, torch.einsum("nol,nil->noi", g, x).abs().sum(0), "three programs for seven samples")


if __name__ == "__main__":
    torch.manual_seed(0)
    convolutions(last=False)
    convolutions(last=True)
    samples_dealt_out()
    linear()
    precisions()
