"""Linear layers by oneDNN against float64, and where everything stays as it ever was."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tripletcl import cpu as onednn
from tripletcl.cpu import linear_by_onednn, product

ORDINARY = F.linear
needs_onednn = pytest.mark.skipif(not onednn.AVAILABLE, reason="this torch has no oneDNN")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Every layer is large enough; the shapes of the weights whose products oneDNN made."""
    seen: list[tuple[int, ...]] = []
    made = onednn._affine

    def recorded(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        seen.append(tuple(weight.shape))
        return made(x, weight, bias)

    monkeypatch.setattr(onednn, "_affine", recorded)
    monkeypatch.setattr(onednn, "FEW", 1)
    monkeypatch.setattr(onednn, "FEW_ROWS", 0)
    return seen


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    yield
    assert F.linear is ORDINARY


LAYOUTS = ["plain", "transposed", "rows", "columns", "inner", "one row", "one column", "overlapping"]


def laid_out(size: tuple[int, int], layout: str, generator: torch.Generator) -> Tensor:
    """A random matrix, its numbers in memory in some order."""
    rows, columns = size
    wide = torch.randn(2 * rows + 1, 2 * columns + 1, generator=generator)
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


SIZES = st.sampled_from([1, 2, 3, 7, 16, 33, 64])


@needs_onednn
@settings(max_examples=150, deadline=None)
@given(
    lead=st.lists(st.integers(1, 5), min_size=1, max_size=3),
    inputs=SIZES,
    outputs=SIZES,
    layouts=st.tuples(*[st.sampled_from(LAYOUTS)] * 3),
    bias=st.sampled_from([None, "plain", "strided", "expanded"]),
    needs=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    seed=st.integers(0, 99),
)
def test_equals_float64(
    lead: list[int],
    inputs: int,
    outputs: int,
    layouts: tuple[str, str, str],
    bias: str | None,
    needs: tuple[bool, bool, bool],
    seed: int,
) -> None:
    """Result and gradients, for any leading axes, order in memory, and choice of what needs a gradient."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.Size(lead).numel()
    x = laid_out((rows, inputs), layouts[0], generator).unflatten(0, lead)
    weight = laid_out((outputs, inputs), layouts[1], generator)
    g = laid_out((rows, outputs), layouts[2], generator).unflatten(0, lead)
    values = [x, weight]
    if bias is not None:
        numbers = torch.randn(2 * outputs, generator=generator)
        values.append(
            {"plain": numbers[outputs:], "strided": numbers[::2], "expanded": numbers[:1].expand(outputs)}[bias]
        )
    ours = [v.detach().requires_grad_(need) for v, need in zip(values, needs, strict=False)]
    twin = [v.detach().double().requires_grad_(need) for v, need in zip(values, needs, strict=False)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onednn, "FEW", 1)
        patch.setattr(onednn, "FEW_ROWS", 0)
        with linear_by_onednn():
            found = F.linear(*ours)
            assert found.requires_grad == any(v.requires_grad for v in ours)
            if found.requires_grad:
                found.backward(g)
    expected = ORDINARY(*twin)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    if expected.requires_grad:
        assert "_Linear" in type(found.grad_fn).__name__
        expected.backward(g.double())
    for left, right in zip(ours, twin, strict=True):
        assert (left.grad is None) == (right.grad is None)
        if left.grad is not None and right.grad is not None:
            torch.testing.assert_close(left.grad.double(), right.grad, rtol=1e-5, atol=1e-4)


@needs_onednn
def test_only_what_is_asked_for_is_multiplied(calls: list[tuple[int, ...]]) -> None:
    """A frozen layer takes no product for its weight, the first layer none for its input."""
    net = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3), nn.Linear(3, 2))
    net[2].weight.requires_grad_(False)
    x = torch.randn(4, 5)
    with linear_by_onednn():
        net(x).sum().backward()
    forward, weight, input = [(7, 5), (3, 7), (2, 3)], [(3, 4), (5, 4)], [(3, 2), (7, 3)]
    assert sorted(calls) == sorted(forward + weight + input)
    assert net[2].weight.grad is None
    assert net[2].bias.grad is not None


@needs_onednn
def test_every_way_to_a_linear_layer(calls: list[tuple[int, ...]]) -> None:
    """Modules, the function by keywords, attention; with and without gradients, in inference mode."""
    attention = nn.MultiheadAttention(8, 2)
    x, layer = torch.randn(3, 4, 8), nn.Linear(8, 5)
    with linear_by_onednn():
        layer(x)
        F.linear(bias=layer.bias, weight=layer.weight, input=x)
        assert len(calls) == 2
        attention(x, x, x)
        assert len(calls) > 2
        calls.clear()
        with torch.no_grad():
            assert not layer(x).requires_grad
        with torch.inference_mode():
            assert layer(x).is_inference()
            assert layer(x.clone()).is_inference()
    assert calls == [(5, 8)] * 3


def ordinary_cases() -> dict[str, tuple[Tensor, Tensor, Tensor | None]]:
    x, weight, bias = torch.randn(6, 4), torch.randn(3, 4), torch.randn(3)
    return {
        "float64": (x.double(), weight.double(), bias.double()),
        "bfloat16": (x.bfloat16(), weight.bfloat16(), None),
        "meta": (x.to("meta"), weight.to("meta"), None),
        "no rows": (x[:0], weight, bias),
        "no inputs": (x[:, :0], weight[:, :0], bias),
        "no outputs": (x, weight[:0], bias[:0]),
        "one axis": (x[0], weight, bias),
        "a vector for a weight": (x, weight[0], None),
        "a bias for all": (x, weight, torch.randn(1)),
        "a subclass": (x.as_subclass(type("Own", (Tensor,), {})), weight, bias),
    }


@pytest.mark.parametrize("case", ordinary_cases())
def test_what_it_leaves_alone(case: str, calls: list[tuple[int, ...]]) -> None:
    arguments = ordinary_cases()[case]
    with linear_by_onednn():
        found = F.linear(*arguments)
    expected = ORDINARY(*arguments)
    assert type(found) is type(expected)
    assert found.shape == expected.shape
    assert found.is_meta or torch.equal(found, expected)
    assert not calls


def test_the_ordinary_error_for_shapes_that_do_not_go_together(calls: list[tuple[int, ...]]) -> None:
    with linear_by_onednn(), pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        F.linear(torch.randn(6, 4), torch.randn(3, 5))
    assert not calls


def test_not_under_autocast(calls: list[tuple[int, ...]]) -> None:
    with linear_by_onednn(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert nn.Linear(4, 3)(torch.randn(6, 4)).dtype == torch.bfloat16
    assert not calls


def test_transforms_of_functions(calls: list[tuple[int, ...]]) -> None:
    """Gradients of single samples by `torch.func`, as ever."""
    layer, x = nn.Linear(4, 3), torch.randn(6, 4)

    def squared(weight: Tensor, x: Tensor) -> Tensor:
        return F.linear(x.unsqueeze(0), weight).square().sum()

    each = torch.func.vmap(torch.func.grad(squared), (None, 0))
    expected = each(layer.weight, x)
    with linear_by_onednn():
        assert torch.equal(each(layer.weight, x), expected)
        torch.func.jvp(lambda x: F.linear(x, layer.weight), (x,), (x,))
    assert not calls


def test_small_layers_stay_ordinary() -> None:
    x, weight = torch.randn(64, 16), torch.randn(2, 16, requires_grad=True)
    with linear_by_onednn():
        found = F.linear(x, weight)
    assert torch.equal(found, ORDINARY(x, weight))
    assert "_Linear" not in type(found.grad_fn).__name__


def test_compilation_sees_the_ordinary_function(calls: list[tuple[int, ...]]) -> None:
    """One graph without a break, and none of our own in it."""
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    x = torch.randn(6, 4)
    targets: list[Any] = []

    def backend(graph: torch.fx.GraphModule, _: Any) -> Any:
        targets.extend(node.target for node in graph.graph.nodes if node.op == "call_function")
        return graph.forward

    twin = copy.deepcopy(net)
    twin(x).square().sum().backward()
    with linear_by_onednn():
        compiled = torch.compile(net, backend=backend, fullgraph=True)
        compiled(x).square().sum().backward()
    assert targets.count(ORDINARY) == 2
    assert not calls
    for left, right in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(left.grad, right.grad)
    torch._dynamo.reset()


@needs_onednn
def test_other_threads_stay_as_they_are(calls: list[tuple[int, ...]]) -> None:
    x, weight = torch.randn(6, 4), torch.randn(3, 4)
    with linear_by_onednn():
        thread = threading.Thread(target=F.linear, args=(x, weight))
        thread.start()
        thread.join()
        assert not calls
        with linear_by_onednn():
            F.linear(x, weight)
        F.linear(x, weight)
        assert len(calls) == 2


def test_nothing_is_left_of_it(calls: list[tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match="stop"), linear_by_onednn():
        raise ValueError("stop")
    assert F.linear is ORDINARY
    nn.Linear(4, 3)(torch.randn(6, 4))
    assert not calls


@needs_onednn
def test_what_others_put_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def theirs(*arguments: Tensor) -> Tensor:
        seen.append(arguments)
        return ORDINARY(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(F, "linear", theirs)
        with linear_by_onednn():
            nn.Linear(4, 3)(torch.randn(6, 4))
        assert F.linear is theirs
    assert len(seen) == 1
    with linear_by_onednn():
        nn.Linear(4, 3)(torch.randn(6, 4))
    assert len(seen) == 1


def test_oneDNN_may_be_switched_off(calls: list[tuple[int, ...]]) -> None:
    with torch.backends.mkldnn.flags(enabled=False), linear_by_onednn():
        nn.Linear(4, 3)(torch.randn(6, 4))
    assert not calls


@needs_onednn
def test_no_second_derivative(calls: list[tuple[int, ...]]) -> None:
    """It says so, where a wrong one would go unnoticed."""
    x, weight = torch.randn(6, 4, requires_grad=True), torch.randn(3, 4, requires_grad=True)
    with linear_by_onednn():
        (gradient,) = torch.autograd.grad(F.linear(x, weight).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_product(layout: str, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    g = laid_out((5, 9), "inner", generator).to(dtype)
    x = laid_out((7, 9), layout, generator).to(dtype)
    found = product(g, x)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), g.double() @ x.double().T, rtol=1e-5, atol=1e-5)
