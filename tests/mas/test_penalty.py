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


def test_a_parameter_without_gradient_gets_the_penalty() -> None:
    penalty, parameters = penalised()
    assert parameters["a"].grad is None
    penalty.add_gradient(1.0)
    assert parameters["a"].grad.abs().sum() > 0


@pytest.mark.parametrize("form", ["gradient", "proximal"])
def test_a_frozen_parameter_does_not_change(form: str) -> None:
    penalty, parameters = penalised()
    penalty.form = form
    optimizer = torch.optim.SGD(parameters.values(), lr=0.1)
    before = {name: p.detach().clone() for name, p in parameters.items()}
    parameters["a"].requires_grad_(False)
    penalty.before_step(1.0)
    optimizer.step()
    penalty.after_step(0.1, 1.0)
    assert torch.equal(parameters["a"], before["a"])
    assert parameters["a"].grad is None
    assert not torch.equal(parameters["b"], before["b"])
    parameters["b"].requires_grad_(False)  # without trained parameters there is nothing to do
    penalty.before_step(1.0)
    penalty.after_step(0.1, 1.0)


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
    assert written_out(penalty, parameters, 1.0) < 1e-6
    penalty, parameters = penalised()
    optimizer = torch.optim.SGD(parameters.values(), lr=0.1, momentum=0.9)
    for _ in range(50):
        optimizer.zero_grad()
        penalty.add_gradient(1e6)
        optimizer.step()
    assert not written_out(penalty, parameters, 1.0) < 1e6


def test_importance_is_summed_and_the_anchor_moves() -> None:
    penalty, parameters = penalised()
    first = penalty.omega["a"].clone()
    penalty.update(parameters, {name: torch.ones_like(p) for name, p in parameters.items()})
    torch.testing.assert_close(penalty.omega["a"], first + 1)
    assert torch.equal(penalty.anchor["a"], parameters["a"])
    assert written_out(penalty, parameters, 1.0) == 0


def test_weights_of_the_old_and_the_new_importance() -> None:
    penalty, parameters = penalised()
    first, new = penalty.omega["a"].clone(), {name: torch.rand_like(p) for name, p in parameters.items()}
    penalty.update(parameters, new, keep=0.3, add=0.6)
    torch.testing.assert_close(penalty.omega["a"], 0.3 * first + 0.6 * new["a"])


@pytest.mark.parametrize("keep", [1.0, 0.5])
def test_mean_anchor_is_the_sum_of_the_tasks_own_penalties(keep: float) -> None:
    """Their gradients are the same at any theta; some parameters are important to no task, or to one only."""
    torch.manual_seed(0)
    parameters = {"a": nn.Parameter(torch.randn(4, 3)), "b": nn.Parameter(torch.randn(5))}
    penalty, terms = QuadraticPenalty(), []
    for task in range(4):
        omega = {name: torch.rand_like(p) * (torch.rand_like(p) > 0.5) * 10**task for name, p in parameters.items()}
        omega["b"][0] = 0
        terms = [(keep * weight, *term) for weight, *term in terms]
        terms.append((2.0, omega, {name: p.detach().clone() for name, p in parameters.items()}))
        penalty.update(parameters, omega, keep=keep, add=2.0, anchor="mean")
        with torch.no_grad():
            for p in parameters.values():
                p.add_(torch.randn_like(p))
    sum(
        (w * omega[n] * (p - anchor[n]) ** 2).sum() for w, omega, anchor in terms for n, p in parameters.items()
    ).backward()
    expected = {name: p.grad for name, p in parameters.items()}
    for p in parameters.values():
        p.grad = None
    penalty.add_gradient(1.0)
    for name, p in parameters.items():
        torch.testing.assert_close(p.grad, expected[name], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("anchor", ["latest", "mean"])
def test_a_task_without_importance_adds_none(anchor: str) -> None:
    penalty, parameters = penalised()
    omega, old = penalty.omega["a"].clone(), penalty.anchor["a"].clone()
    penalty.update(parameters, {}, keep=0.5, anchor=anchor)
    assert torch.equal(penalty.omega["a"], omega)
    assert torch.equal(penalty.anchor["a"], parameters["a"] if anchor == "latest" else old)
    nothing = QuadraticPenalty()
    nothing.update(parameters, {}, anchor=anchor)
    before = parameters["a"].detach().clone()
    nothing.after_step(0.1, 1.0)
    assert not nothing.active
    assert torch.equal(parameters["a"], before)


def test_a_state_dict_does_not_change() -> None:
    penalty, parameters = penalised()
    state = penalty.state_dict()
    kept = {key: {name: value.clone() for name, value in state[key].items()} for key in ("omega", "anchor")}
    penalty.update(parameters, {name: torch.ones_like(p) for name, p in parameters.items()}, anchor="mean")
    penalty.after_step(0.1, 1.0)
    for key, named in kept.items():
        for name, value in named.items():
            assert torch.equal(state[key][name], value)


def test_only_the_chosen_form_is_applied() -> None:
    for form in ("proximal", "gradient"):
        penalty, parameters = penalised()
        penalty.form, before = form, parameters["a"].detach().clone()
        penalty.before_step(1.0)
        assert (parameters["a"].grad is not None) == (form == "gradient")
        penalty.after_step(0.1, 1.0)
        assert torch.equal(parameters["a"], before) == (form == "gradient")


def test_the_scale_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    penalty, parameters = penalised()
    penalty.update(parameters, {"a": torch.full((4, 3), 2.0), "b": torch.full((5,), 5.0)}, keep=0)
    penalty.after_step(0.2, 0.0)
    penalty.after_step(0.1, 0.0)
    with caplog.at_level("INFO", "tripletcl"):
        penalty.log_scale("task 2", 3.0)
    assert "importance after task 2: mean 2.88, max 5 over 17 parameters; lr * 2 * lam * max = 6:" in caplog.text


def test_stored_tensors_have_the_memory_layout_of_the_parameter() -> None:
    """Importance is measured and saved in contiguous tensors, whatever the layout of the model's weights."""
    layer = nn.Conv2d(3, 4, 3, bias=False).to(memory_format=torch.channels_last)
    penalty, omega = QuadraticPenalty(), torch.rand(4, 3, 3, 3)
    penalty.update({"weight": layer.weight}, {"weight": omega})
    saved = {key: {"weight": getattr(penalty, key)["weight"].contiguous()} for key in ("omega", "anchor")}
    again = QuadraticPenalty()
    again.load_state_dict({**saved, "peak_lr": 0.0}, {"weight": layer.weight})
    for each in (penalty, again):
        assert torch.equal(each.omega["weight"], omega)
        assert torch.equal(each.anchor["weight"], layer.weight)
        assert each.omega["weight"].stride() == each.anchor["weight"].stride() == layer.weight.stride()
    assert saved["omega"]["weight"].is_contiguous()
