"""oneDNN's products against float64, and memory that stays with the process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tripletcl import cpu
from tripletcl.cli.app import app
from tripletcl.cpu import MALLOC_OPTIONS, keep_freed_memory, onednn_pays, product
from tripletcl.errors import UserError

LAYOUTS = ["plain", "transposed", "rows", "columns", "inner", "one row", "one column", "overlapping"]


def laid_out(size: tuple[int, int], layout: str) -> Tensor:
    """A random matrix in some memory layout."""
    rows, columns = size
    wide = torch.randn(2 * rows + 1, 2 * columns + 1, generator=torch.Generator().manual_seed(0))
    return {
        "plain": lambda: wide[:rows, :columns].contiguous(),
        "transposed": lambda: wide[:rows, :columns].t().contiguous().t(),
        "rows": lambda: wide[1::2, :columns],
        "columns": lambda: wide[:rows, 1::2],
        "inner": lambda: wide[1 : 1 + rows, 1 : 1 + columns],
        "one row": lambda: wide[:1, :columns].expand(rows, columns),
        "one column": lambda: wide[:rows, :1].expand(rows, columns),
        "overlapping": lambda: wide.flatten()[: rows + columns].as_strided((rows, columns), (1, 1)),
    }[layout]()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("sizes", [(5, 9, 7), (1, 64, 33), (16, 1, 1), (3, 2, 0), (0, 4, 3), (200, 300, 100)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("g_layout", ["plain", "inner", "one row", "transposed"])
def test_product_equals_float64(g_layout: str, layout: str, sizes: tuple[int, int, int], dtype: torch.dtype) -> None:
    rows, length, columns = sizes
    g = laid_out((rows, length), g_layout).to(dtype)
    x = laid_out((columns, length), layout).to(dtype)
    result = product(g, x)
    assert result.dtype == dtype
    tolerance = 1e-2 * length if dtype == torch.bfloat16 else 1e-5 * length**0.5
    torch.testing.assert_close(result.double(), g.double() @ x.double().T, rtol=tolerance, atol=tolerance)


def test_without_onednn_products_are_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    g, x = torch.randn(50, 60), torch.randn(70, 60)
    assert onednn_pays(g, 2**30) == cpu.AVAILABLE
    monkeypatch.setattr(cpu, "AVAILABLE", False)
    assert torch.equal(product(g, x), g @ x.T)
    assert not onednn_pays(g, 2**30)


def test_onednn_pays_for_large_float32_products_only() -> None:
    assert not onednn_pays(torch.ones(2, 2), 100)
    assert not onednn_pays(torch.ones(2, 2, dtype=torch.float64), 2**30)
    assert not onednn_pays(torch.ones(2, 2, device="meta"), 2**30)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[int, int]:
    """Options and values that are passed to a `mallopt` that does nothing."""
    calls: dict[int, int] = {}
    monkeypatch.setattr(cpu, "_glibc_function", lambda name: calls.__setitem__)
    for variable in MALLOC_OPTIONS:
        monkeypatch.delenv(variable, raising=False)
    return calls


def test_freed_memory_is_kept(calls: dict[int, int]) -> None:
    keep_freed_memory()
    assert calls == dict(MALLOC_OPTIONS.values())


def test_options_that_a_user_has_set_are_left_alone(calls: dict[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MALLOC_TOP_PAD_", "1000")
    keep_freed_memory()
    assert MALLOC_OPTIONS["MALLOC_TOP_PAD_"][0] not in calls
    assert len(calls) == len(MALLOC_OPTIONS) - 1


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert cpu._glibc_function("mallopt") is None
    keep_freed_memory()


@pytest.mark.parametrize("arguments", [["train"], ["teach", "."], ["adapt", ".", "--images", "."]])
def test_commands_that_train_keep_freed_memory(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("learns: nothing\n")
    monkeypatch.setattr(cpu, "keep_freed_memory", lambda: calls.append(arguments))
    with pytest.raises(UserError):
        app(arguments)
    assert calls == [arguments]
