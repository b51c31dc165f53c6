from __future__ import annotations

import pytest
import torch
from torch import nn

from tripletcl.mas.penalty import QuadraticPenalty


def penalised(seed: int = 0) -> tuple[QuadraticPenalty, dict[str, nn.Parameter]]:
    """A penalty with random importance, and parameters that have moved away from their anchor."""
    torch.manual_seed(seed)
    parameters = {"a": nn.Parameter(torch.randn(4, 3)), "b": nn.Parameter(torch.randn(5))}
    penalty = QuadraticPenalty()
    penalty.update(parameters, {name: torch.rand_like(p) for name, p in parameters.items()})
    with torch.no_grad():
        for p in parameters.values():
            p.add_(torch.randn_like(p))
    return penalty, parameters


def written_out(penalty: QuadraticPenalty, parameters: dict[str, nn.Parameter], lam: float) -> torch.Tensor:
    return lam * sum((penalty.omega[n] * (p - penalty.anchor[n]) ** 2).sum() for n, p in parameters.items())


def test_gradient_is_that_of_the_penalty() -> None:
    penalty, parameters = penalised()
    written_out(penalty, parameters, 0.7).backward()
    expected = {name: p.grad.clone() + 1.0 for name, p in parameters.items()}
    for p in parameters.values():
        p.grad = torch.ones_like(p)
    penalty.add_gradient(0.7)
    for name, p in parameters.items():
        torch.testing.assert_close(p.grad, expected[name])


def test_a_parameter_without_gradient_does_not_escape() -> None:
    penalty, parameters = penalised()
    assert parameters["a"].grad is None
    penalty.add_gradient(1.0)
    assert parameters["a"].grad.abs().sum() > 0


def test_value_is_without_one_half() -> None:
    penalty, parameters = penalised()
    assert penalty.value(0.7) == pytest.approx(written_out(penalty, parameters, 0.7).item(), rel=1e-5)


@pytest.mark.parametrize("lam", [0.1, 3.0, 1e8])
def test_proximal_step_minimises_distance_plus_penalty(lam: float) -> None:
    penalty, parameters = penalised()
    lr, before = 0.05, {name: p.detach().clone() for name, p in parameters.items()}
    penalty.proximal_step(lr, lam)
    total = sum(((p - before[n]) ** 2).sum() / (2 * lr) for n, p in parameters.items())
    gradients = torch.autograd.grad(total + written_out(penalty, parameters, lam), list(parameters.values()))
    for p, gradient in zip(parameters.values(), gradients, strict=True):
        scale = (1 / lr + 2 * lam) * p.detach().abs().max()  # of the two terms that cancel
        assert gradient.abs().max() < 1e-5 * scale


def test_proximal_step_is_stable_where_the_gradient_form_diverges() -> None:
    penalty, parameters = penalised()
    for _ in range(50):
        penalty.proximal_step(0.1, 1e6)
    assert penalty.value(1.0) < 1e-6
    penalty, parameters = penalised()
    optimizer = torch.optim.SGD(parameters.values(), lr=0.1, momentum=0.9)
    for _ in range(50):
        optimizer.zero_grad()
        penalty.add_gradient(1e6)
        optimizer.step()
    assert not penalty.value(1.0) < 1e6


def test_importance_is_summed_and_the_anchor_moves() -> None:
    penalty, parameters = penalised()
    first = penalty.omega["a"].clone()
    penalty.update(parameters, {name: torch.ones_like(p) for name, p in parameters.items()})
    torch.testing.assert_close(penalty.omega["a"], first + 1)
    assert torch.equal(penalty.anchor["a"], parameters["a"])
    assert penalty.value(1.0) == 0
