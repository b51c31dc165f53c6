"""Memory Aware Synapses in a loop of one's own."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from test_rules import assert_equal
from torch import Tensor, nn

from tripletcl.errors import UserError
from tripletcl.mas import MemoryAwareSynapses, QuadraticPenalty, importance

LR = 0.1


def network(outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, outputs))


def inputs(seed: int = 0, count: int = 10) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def loader(seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    return [(part, torch.zeros(len(part), dtype=torch.int64)) for part in inputs(seed).split(4)]


def learn(model: nn.Module, mas: MemoryAwareSynapses | None, steps: int = 5, add_penalty: bool = False) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=LR)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs(7)), torch.ones(10, dtype=torch.int64))
        (loss + mas.penalty() if mas is not None and add_penalty else loss).backward()
        optimizer.step()
        if mas is not None and not add_penalty:
            mas.step(LR)


def test_consolidating_adds_the_exact_importance_of_a_task_and_moves_the_anchor() -> None:
    model = network()
    mas = MemoryAwareSynapses(model)
    assert mas.penalty() == 0
    mas.consolidate(loader(0))
    first = importance(model, [inputs(0)])
    assert_equal(mas.omega, first, 1e-6)
    learn(model, mas)
    mas.consolidate(loader(1), weight=2.0)
    second = importance(model, [inputs(1)])
    assert_equal(mas.omega, {name: first[name] + 2 * second[name] for name in first}, 1e-6)
    assert_equal(mas.anchor, dict(model.named_parameters()), 0)


def test_a_step_is_that_of_the_penalty_and_penalty_its_value() -> None:
    model, twin = network(), network()
    mas, penalty = MemoryAwareSynapses(model, lam=3.0), QuadraticPenalty()
    mas.consolidate(loader())
    penalty.update(dict(twin.named_parameters()), importance(twin, [inputs()]))
    learn(model, mas, steps=1)
    learn(twin, None, steps=1)
    expected = sum(
        3.0 * (penalty.omega[name] * (p - penalty.anchor[name]) ** 2).sum() for name, p in twin.named_parameters()
    )
    value = copy.deepcopy(mas)
    value.model.load_state_dict(twin.state_dict())
    torch.testing.assert_close(value.penalty(), expected)
    penalty.after_step(LR, 3.0)
    assert_equal(dict(model.named_parameters()), dict(twin.named_parameters()), 1e-6)


@pytest.mark.parametrize("add_penalty", [False, True])
def test_a_large_weight_keeps_what_is_important_and_zero_is_plain_training(add_penalty: bool) -> None:
    moved = {}
    for lam in (0.0, 3.0):
        model = network()
        mas = MemoryAwareSynapses(model, lam=lam)
        mas.consolidate(loader())
        learn(model, mas, steps=20, add_penalty=add_penalty)
        moved[lam] = mas.omega["2.weight"].mul((model[2].weight - mas.anchor["2.weight"]).square()).sum().item()
    plain = network()
    learn(plain, None, steps=20)
    anchor = network()[2].weight
    free = (mas.omega["2.weight"] * (plain[2].weight - anchor).square()).sum().item()
    assert moved[0.0] == pytest.approx(free)
    assert moved[3.0] < 0.5 * free


def test_a_head_that_grows_keeps_the_importance_of_its_old_rows() -> None:
    model = network()
    mas = MemoryAwareSynapses(model, lam=1e6)
    mas.consolidate(loader())
    old, omega = model[2].weight.detach().clone(), mas.omega["2.weight"].clone()
    wider = nn.Linear(6, 5)
    with torch.no_grad():
        wider.weight[:3], wider.bias[:3] = model[2].weight, model[2].bias
    model[2], new = wider, wider.weight[3:].detach().clone()
    learn(model, mas)
    important = omega > 1e-3
    assert torch.allclose(model[2].weight[:3][important], old[important], atol=1e-3)
    assert (model[2].weight[3:] - new).abs().max() > 1e-3
    mas.consolidate(loader(1))
    assert mas.omega["2.weight"].shape == (5, 6)
    model[2] = nn.Linear(6, 2)
    with pytest.raises(UserError, match=re.escape("2.weight had shape [5, 6] and now has [2, 6]")):
        mas.step(LR)


def test_a_state_is_restored_bit_for_bit_and_frozen_parameters_stay() -> None:
    model = network()
    model[0].requires_grad_(False)
    mas = MemoryAwareSynapses(model, lam=2.0)
    mas.consolidate(loader())
    assert set(mas.omega) == {"2.weight", "2.bias"}
    twin = copy.deepcopy(model)
    restored = MemoryAwareSynapses(twin, lam=2.0)
    restored.load_state_dict(mas.state_dict())
    learn(model, mas)
    learn(twin, restored)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    with pytest.raises(UserError, match=r"the model has no such parameter"):
        MemoryAwareSynapses(nn.Linear(4, 2)).load_state_dict(mas.state_dict())


class Named(nn.Module):
    """A model as transformers has them: named tensors in, a mapping out."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network()

    def forward(self, values: Tensor, mask: Tensor, scale: float = 1.0, labels: Tensor | None = None) -> dict[str, Any]:
        return {"logits": scale * self.body(values * mask[:, None])}


@pytest.mark.parametrize("engine", ["hooks", "loop"])
def test_batches_may_be_mappings_and_tuples(engine: str) -> None:
    model = Named()
    mask = (torch.arange(10) % 3 > 0).float()
    whole = [{"values": inputs(), "mask": mask, "scale": 2.0, "labels": torch.zeros(10)}]
    mas = MemoryAwareSynapses(model)
    with pytest.raises(UserError, match=r"the outputs are a dict, .* lambda inputs: model\(\*\*inputs\)\.logits"):
        mas.consolidate(whole, engine=engine)
    mas.consolidate(whole, forward=lambda batch: model(**batch)["logits"], engine=engine)
    expected = importance(model.body, [inputs() * mask[:, None]], forward=lambda x: 2 * model.body(x))
    assert_equal({name.removeprefix("body."): value for name, value in mas.omega.items()}, expected, 1e-6)
    by_hand = MemoryAwareSynapses(model.body)
    by_hand.consolidate([("id", inputs())], select=lambda batch: batch[1], engine=engine)
    assert_equal(by_hand.omega, importance(model.body, [inputs()]), 1e-6)
    with pytest.raises(UserError, match=r"one row for each sample, but they have \{'values': 10, 'mask': 3\}"):
        mas.consolidate([{"values": inputs(), "mask": mask[:3]}])
    with pytest.raises(UserError, match=r"tensors \[B, \.\.\.\] or mappings of them, not str"):
        mas.consolidate(["photo.jpg"])


def test_wrapped_models_are_unwrapped() -> None:
    model = network()
    for wrapped in (nn.DataParallel(model), torch.compile(model), torch.compile(nn.DataParallel(model))):
        mas = MemoryAwareSynapses(wrapped)
        assert mas.model is model
        mas.consolidate(loader())
        assert set(mas.omega) == set(dict(model.named_parameters()))


def test_under_autocast_importance_is_exact_and_the_penalty_float32() -> None:
    model = network()
    mas = MemoryAwareSynapses(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mas.consolidate(loader())
        assert mas.penalty().dtype == torch.float32
    assert_equal(mas.omega, importance(model, [inputs()]), 1e-6)


@pytest.mark.parametrize("lam", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(lam: float) -> None:
    with pytest.raises(UserError, match="lam is "):
        MemoryAwareSynapses(network(), lam=lam)
