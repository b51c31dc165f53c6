"""Run by test_pieces_triton.py in a process of its own: one launch, interpreted on the processor, against its twins."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tripletcl.mas import PenaltyForm, QuadraticPenalty, pieces
from tripletcl.mas import pieces_triton as kernels

SHAPES = [(), (0,), (3, 0, 2), (1,), (7,), (kernels.BLOCK,), (3, kernels.BLOCK - 1), (8, 5, 3, 3)]
CLOSE = {torch.float32: 5e-6, torch.bfloat16: 2e-2, torch.float16: 2e-3}


def drawn(dtype: torch.dtype, seed: int, positive: bool = False) -> list[Tensor]:
    """Numbers of the shapes in two layouts, each between two NaNs that nothing may read or write."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for shape in SHAPES:
        numbers = torch.randn(shape, generator=generator)
        numbers = numbers.square() * (numbers > 0) if positive else numbers
        room = torch.full((numbers.numel() + 16,), math.nan, dtype=dtype)
        inside = room[8 : 8 + numbers.numel()].view(shape)
        found.append(inside.copy_(numbers))
    return [*found, found[-1].contiguous(memory_format=torch.channels_last)]


def check(found: Sequence[Tensor], twins: Sequence[Tensor], what: object) -> None:
    for value, twin in zip(found, twins, strict=True):
        tolerance = CLOSE[value.dtype]
        torch.testing.assert_close(value.double(), twin, rtol=tolerance, atol=tolerance, msg=lambda m: f"{what}: {m}")


def nothing_left(lists: kernels.Lists) -> None:
    assert not any(lists)


def as_the_formulas_say(dtype: torch.dtype, strength: float, importance: torch.dtype = torch.float32) -> None:
    theta, anchor, gradient, work = (drawn(dtype, seed) for seed in range(4))
    omega = drawn(importance, 5, positive=True)
    before = [t.clone() for t in theta]
    rows = [[t.double() for t in row] for row in zip(theta, omega, anchor, gradient, work, strict=True)]
    versions = [t._version for t in (*theta, *anchor)]
    nothing_left(kernels.draw_near(theta, omega, anchor, 1 / strength))
    changed = [int(t.numel() > 0) for t in theta] + [0] * len(anchor)
    assert [t._version for t in (*theta, *anchor)] == [then + n for then, n in zip(versions, changed, strict=True)]
    check(theta, [(t + strength * o * a) / (1 + strength * o) for t, o, a, _, _ in rows], ("near", dtype, strength))
    for now, then, o in zip(theta, before, omega, strict=True):
        assert torch.equal(now[o == 0], then[o == 0])  # bit for bit
    nothing_left(kernels.add_product(work, gradient, before, anchor, -1.0))
    check(work, [w - g * (t - a) for t, _, a, g, w in rows], ("work", dtype))
    for _ in range(2):  # gradients of the same places, then others of the same shapes
        pulled = [g + 0.6 * o * (t - a) for t, o, a, g, _ in rows]
        nothing_left(kernels.add_product(gradient, omega, before, anchor, 0.6))
        check(gradient, pulled, ("pull", dtype))
        gradient = drawn(dtype, 2)
    for t in (*theta, *work):
        assert t._base is None or t._base.isnan().sum() == 16  # nothing was written beside it


def as_operation_by_operation() -> None:
    """What is infinite, no number, or at the end of the range comes out as by torch's own operations."""
    values = torch.tensor([0.0, -0.0, 1.0, -2.5, 1e-42, 1e-30, 3e38, -3e38, math.inf, -math.inf, math.nan])
    theta, omega, anchor, gradient = (
        t.flatten() for t in torch.meshgrid(values, values.abs(), values, values[:3], indexing="ij")
    )
    for strength in (1e-320, 1e-40, 0.3, 1e40, 1e300):
        near, twin = [theta.clone()], [theta.clone()]
        kernels.draw_near(near, [omega], [anchor], max(1 / strength, pieces.TINY))
        pieces.draw_near(twin, [omega], [anchor], strength)
        torch.testing.assert_close(near, twin, rtol=1e-6, atol=0, equal_nan=True)
        pull = [gradient.clone()]
        kernels.add_product(pull, [omega], [theta], [anchor], strength)
        scale = torch.tensor(strength, dtype=torch.float32)
        twin = [gradient + scale * ((theta - anchor) * omega)]
        torch.testing.assert_close(pull, twin, rtol=1e-6, atol=1e-44, equal_nan=True)


def what_it_does_not_serve_is_given_back() -> None:
    """One number for a whole parameter, another type or order in memory, gaps; the others are done all the same."""
    theta = [torch.randn(4, 6) for _ in range(6)]
    theta[3] = torch.randn(4, 12)[:, ::2]
    omega = [torch.rand(4, 6) for _ in range(6)]
    omega[1], omega[2], omega[4] = torch.tensor(0.5), torch.rand(6, 4).t(), omega[4].bfloat16()
    anchor = [torch.randn(4, 6) for _ in range(6)]
    before = [t.clone() for t in theta]
    left = kernels.draw_near(theta, omega, anchor, 1.0)
    assert [[id(t) for t in tensors] for tensors in left] == [
        [id(tensors[row]) for row in range(1, 5)] for tensors in (theta, omega, anchor)
    ]
    for row, (now, then) in enumerate(zip(theta, before, strict=True)):
        assert torch.equal(now, then) == (row in range(1, 5))


def tensors_that_moved() -> None:
    """The plan is kept from step to step, and noticed to be old where a parameter's memory or the anchor is new."""
    theta, omega, anchor = [torch.zeros(5000), torch.zeros(3)], [torch.ones(5000), torch.ones(3)], drawn_pair()
    for step in range(4):
        if step == 1:
            theta[0].data = torch.zeros(5000)
        if step == 2:
            anchor = drawn_pair()
        if step == 3:  # the same places, another shape
            theta, omega, anchor = ([ts[0][:2500].view(50, 50), ts[1]] for ts in (theta, omega, anchor))
        twin = [(t.double() + a.double()) / 2 for t, a in zip(theta, anchor, strict=True)]
        nothing_left(kernels.draw_near(theta, omega, anchor, 1.0))
        check(theta, twin, step)
    del anchor
    assert not len(kernels.PLANS)


def a_sequence(form: PenaltyForm) -> list[Tensor]:
    """Two tasks of three steps under the penalty, gradients anew in each; beside it the w of Synaptic Intelligence."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 2)
    )
    model.register_parameter("scale", nn.Parameter(torch.tensor(0.5)))
    parameters, penalty = dict(model.named_parameters()), QuadraticPenalty(form)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    work = [torch.zeros_like(p) for p in model.parameters()]
    for task in range(3):
        for _ in range(3):
            before = [p.detach().clone() for p in model.parameters()]
            optimizer.zero_grad()
            (model(torch.randn(2, 3, 5, 5)) * model.scale).square().mean().backward()
            if task:
                penalty.before_step(0.8)
            gradient = [p.grad for p in model.parameters()]
            optimizer.step()
            if task:
                penalty.after_step(0.1, 0.8)
            with torch.no_grad():
                pieces.add_work(work, gradient, list(model.parameters()), before)
        penalty.update(parameters, {name: torch.rand(p.shape) for name, p in parameters.items()}, anchor="mean")
    return [*(p.detach() for p in model.parameters()), *work]


def as_without_the_kernels() -> None:
    for form in ("proximal", "gradient"):
        plain = a_sequence(form)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(pieces, "_kernels", lambda tensors: kernels)
            patch.setattr(pieces, "pieces", nothing_in_pieces)
            fused = a_sequence(form)
        torch.testing.assert_close(fused, plain, rtol=1e-5, atol=1e-6)


def nothing_in_pieces(*lists: Sequence[Tensor]) -> list[Any]:
    nothing_left(lists)
    return []


def drawn_pair() -> list[Tensor]:
    return [torch.randn(5000), torch.randn(3)]


if __name__ == "__main__":
    np.seterr(all="ignore")  # the interpreter calculates with NumPy, which warns of what is wanted here
    kernels.try_out(torch.device("cpu"))
    for each in kernels.TYPES:
        as_the_formulas_say(each, 0.7)
        as_the_formulas_say(each, 0.7, each)
    as_the_formulas_say(torch.float32, 1e6)
    as_operation_by_operation()
    what_it_does_not_serve_is_given_back()
    as_without_the_kernels()
    kernels.PLANS.clear()
    tensors_that_moved()
