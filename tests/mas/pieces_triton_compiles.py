"""Run by test_pieces_triton.py in a process of its own: the kernel compiled for a device of compute capability 9.0."""

import itertools

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from tripletcl.mas.pieces_triton import BLOCK, TYPES, _in_one_passage

NAMES = _in_one_passage.arg_names
ARGUMENTS = {"table": "*i64", "lengths": "*i64", "blocks": "*i32", "tensors": "i32", "scalar": "fp32"}


def compiled(**fixed: object) -> str:
    """The assembly."""
    types = ARGUMENTS | dict.fromkeys(fixed, "constexpr")
    source = ASTSource(_in_one_passage, types, {(NAMES.index(name),): value for name, value in fixed.items()})
    options = {"num_warps": 8}
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]


if __name__ == "__main__":
    float32 = TYPES[torch.float32]
    for near, aligned, type_ in itertools.product((True, False), (True, False), TYPES.values()):
        assembly = compiled(NEAR=near, ALIGNED=aligned, TYPE=type_, FACTOR=float32, BLOCK=BLOCK)
        reads = assembly.count("ld.global.v4.b32")
        bits = (2 if near else 3) * type_.primitive_bitwidth + float32.primitive_bitwidth
        assert (reads > 0) == aligned, "tensors that begin anywhere are read number by number"
        if aligned:  # 16 bytes at a time, of the whole blocks; each number once
            assert reads == BLOCK * bits // 8 // (16 * 32 * 8), (near, type_)
            assert "st.global.v4.b32" in assembly
