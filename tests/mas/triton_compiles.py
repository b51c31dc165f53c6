"""Run by test_kernels_triton.py in a process of its own: the kernel compiled for a device of compute capability 9.0."""

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tripletcl.mas.kernels_triton import _sum_over_samples

NAMES = _sum_over_samples.arg_names
CASES = [(64, precision) for precision in ("ieee", "tf32", "bf16")] + [(1, "ieee"), (1, "bf16")]


def compiled(rows: int, precision: str) -> str:
    """The assembly for tiles of so many rows; one row is the depthwise case."""
    fixed = {"KERNEL": 9, "KERNEL_WIDTH": 3, "SQUARE": False, "PRECISION": precision}
    fixed |= {"ROWS": rows, "WIDTH": 32, "POSITIONS": 32, "stride_h": 1, "groups": 1}
    factors = "*bf16" if precision == "bf16" else "*fp32"
    types = dict.fromkeys(NAMES, "i32") | {"x": factors, "g": factors, "sums": "*fp32"}
    types |= dict.fromkeys(fixed, "constexpr")
    source = ASTSource(_sum_over_samples, types, {(NAMES.index(name),): value for name, value in fixed.items()})
    return triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"]


if __name__ == "__main__":
    for rows, precision in CASES:
        assert ("mma" in compiled(rows, precision)) == (precision != "ieee" and rows > 1), (rows, precision)
