"""The penalty in one launch, without a graphics processor: by Triton's interpreter, and by its compiler."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from test_kernels_triton import run

from tripletcl.mas import pieces


def test_one_launch_equals_the_formulas() -> None:
    run("pieces_triton_cases.py", TRITON_INTERPRET="1")


def test_it_compiles_for_a_device_that_is_not_there(tmp_path: Path) -> None:
    """In each type; where tensors begin at multiples of 16 bytes, so many are read at a time."""
    run("pieces_triton_compiles.py", TRITON_CACHE_DIR=str(tmp_path))


def test_only_what_the_kernels_give_back_is_done_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that do nothing, and give back the second entry: the order of the lists is theirs and back again."""

    class Kernels:
        @staticmethod
        def draw_near(*lists: list[torch.Tensor]) -> list[list[torch.Tensor]]:
            return [tensors[1:] for tensors in lists[:-1]]

        add_product = draw_near

    def drawn() -> list[list[torch.Tensor]]:
        return [[torch.full((3,), float(10 * column + row)) for row in (1, 2)] for column in range(4)]

    for function, scalars in ((pieces.draw_near, (0.5,)), (pieces.add_pull, (0.5,)), (pieces.add_work, ())):
        count = 3 if function is pieces.draw_near else 4
        alone, beside = drawn()[:count], drawn()[:count]
        function(*alone, *scalars)
        with monkeypatch.context() as patch:
            patch.setattr(pieces, "_kernels", lambda tensors: Kernels)
            function(*beside, *scalars)
        assert torch.equal(beside[0][0], drawn()[0][0])
        assert torch.equal(beside[0][1], alone[0][1])
        assert not torch.equal(beside[0][1], drawn()[0][1])
