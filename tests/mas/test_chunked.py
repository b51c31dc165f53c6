"""The penalty's arithmetic in chunks against the formulas in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tripletcl.mas.chunked import accumulate_path_integral_, add_penalty_gradient_, chunks, proximal_step_
from tripletcl.mas.penalty import QuadraticPenalty

SHAPES = st.lists(st.lists(st.integers(0, 7), max_size=3).map(tuple), max_size=5)


def randoms(shapes: list[tuple[int, ...]], seed: int, *, positive: bool = False) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    numbers = [torch.randn(shape, generator=generator) for shape in shapes]
    return [n.square() * (n > 0) for n in numbers] if positive else numbers  # half of the importances are zero


def assert_equal(result: list[Tensor], twin: list[Tensor]) -> None:
    for value, expected in zip(result, twin, strict=True):
        torch.testing.assert_close(value.double(), expected, rtol=1e-6, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(SHAPES, st.integers(1, 40), st.integers(0, 1000))
def test_chunks_cover_each_number_once_and_none_is_too_large(
    shapes: list[tuple[int, ...]], size: int, seed: int
) -> None:
    left, right = randoms(shapes, seed), randoms(shapes, seed + 1)
    expected = [a - b for a, b in zip(left, right, strict=True)]
    for ours, others in chunks(left, right, size=size):
        assert sum(t.numel() for t in ours) <= size
        for own, other in zip(ours, others, strict=True):
            own.sub_(other)
    for value, wanted in zip(left, expected, strict=True):
        assert torch.equal(value, wanted)


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.floats(1e-6, 1e6), st.integers(0, 1000))
def test_the_proximal_step_equals_its_formula(shapes: list[tuple[int, ...]], strength: float, seed: int) -> None:
    theta, omega, anchor = (
        randoms(shapes, seed),
        randoms(shapes, seed + 1, positive=True),
        randoms(shapes, seed + 2),
    )
    before, twin = [t.clone() for t in theta], []
    for t, o, a in zip(theta, omega, anchor, strict=True):
        c = strength * o.double()
        twin.append((t.double() + c * a.double()) / (1 + c))
    proximal_step_(theta, omega, anchor, strength)
    assert_equal(theta, twin)
    for now, then, o in zip(theta, before, omega, strict=True):
        assert torch.equal(now[o == 0], then[o == 0])  # bit for bit


@settings(max_examples=40, deadline=None)
@given(SHAPES, st.integers(0, 1000))
def test_penalty_gradient_and_path_integral_equal_their_formulas(shapes: list[tuple[int, ...]], seed: int) -> None:
    theta, omega, anchor = (
        randoms(shapes, seed),
        randoms(shapes, seed + 1, positive=True),
        randoms(shapes, seed + 2),
    )
    gradient, work = randoms(shapes, seed + 3), randoms(shapes, seed + 4)
    rows = list(zip(theta, omega, anchor, gradient, work, strict=True))
    expected_work = [w.double() - g.double() * (t.double() - a.double()) for t, _, a, g, w in rows]
    expected_gradient = [g.double() + 0.6 * o.double() * (t.double() - a.double()) for t, o, a, g, _ in rows]
    accumulate_path_integral_(work, gradient, theta, anchor)
    add_penalty_gradient_(gradient, theta, omega, anchor, 0.6)
    assert_equal(work, expected_work)
    assert_equal(gradient, expected_gradient)


def test_tensors_that_are_split_not_contiguous_or_broadcast() -> None:
    """More numbers than a chunk, channels last, a transposed view, and one importance for a whole parameter."""
    theta = [torch.randn(600, 601), torch.randn(64, 80, 9, 9).contiguous(memory_format=torch.channels_last)]
    theta += [torch.randn(700, 500).t(), torch.randn(550, 530)]
    omega = [torch.rand_like(t) for t in theta[:3]] + [torch.tensor(0.7)]
    anchor = [torch.randn(t.shape) for t in theta]
    twin = []
    for t, o, a in zip(theta, omega, anchor, strict=True):
        c = 0.3 * o.double()
        twin.append((t.double() + c * a.double()) / (1 + c))
    proximal_step_(theta, omega, anchor, 0.3)
    assert_equal(theta, twin)


@pytest.mark.parametrize("strength", [1e-320, 1e-40, 1e40, 1e300])
def test_extreme_weights_give_no_nan(strength: float) -> None:
    theta, omega = [torch.tensor([1.0, 2.0, 3.0])], [torch.tensor([0.0, 1.0, 1e30])]
    proximal_step_(theta, omega, [torch.zeros(3)], strength)
    assert torch.isfinite(theta[0]).all()
    assert theta[0][0] == 1.0


def test_a_learning_rate_of_zero_changes_nothing() -> None:
    p = nn.Parameter(torch.ones(3))
    penalty = QuadraticPenalty()
    penalty.update({"p": p}, {"p": torch.ones(3)})
    with torch.no_grad():
        p.add_(1)
    penalty.after_step(0.0, 5.0)
    assert torch.equal(p, torch.full((3,), 2.0))


def test_on_other_devices_than_the_cpu_there_is_one_chunk() -> None:
    lists = [[torch.empty(shape, device="meta") for shape in ((600, 601), (3,), (700, 500))] for _ in range(2)]
    (chunk,) = chunks(*lists)
    assert [[id(t) for t in tensors] for tensors in chunk] == [[id(t) for t in tensors] for tensors in lists]
    assert list(chunks([], [])) == []


@pytest.mark.parametrize("form", ["proximal", "gradient"])
def test_parameters_in_bfloat16(form: Any) -> None:
    """Their importance is still float32."""
    p = nn.Parameter(torch.tensor([1.0, 2.0, 3.0], dtype=torch.bfloat16))
    penalty = QuadraticPenalty(form)
    penalty.update({"p": p}, {"p": torch.tensor([0.0, 1.0, 4.0])})
    with torch.no_grad():
        p.add_(2)
    penalty.before_step(0.5)
    penalty.after_step(1.0, 0.5)
    if form == "gradient":
        assert p.grad is not None
        assert p.grad.tolist() == [0.0, 2.0, 8.0]
    else:
        assert p.tolist() == pytest.approx([3.0, 3.0, 3.4], rel=2**-8)
