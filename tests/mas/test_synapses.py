"""MAS, EWC and SI in a loop of one's own."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_rules import assert_equal
from torch import Tensor, distributed, nn

from tripletcl.continual.task import derived_seed
from tripletcl.errors import UserError
from tripletcl.mas import (
    ElasticWeightConsolidation,
    MemoryAwareSynapses,
    QuadraticPenalty,
    SynapticIntelligence,
    importance,
)
from tripletcl.mas.fisher import gaussian_projections

LR = 0.1


def network(outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, outputs))


def inputs(seed: int = 0, count: int = 10) -> Tensor:
    return torch.randn(count, 4, generator=torch.Generator().manual_seed(seed))


def loader(seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    return [(part, torch.zeros(len(part), dtype=torch.int64)) for part in inputs(seed).split(4)]


def loss_of(model: nn.Module, label: int, share: slice = slice(None)) -> Tensor:
    samples = inputs(7)[share]
    return nn.functional.cross_entropy(model(samples), torch.full((len(samples),), label))


def learn(
    model: nn.Module,
    protection: Any | None,
    steps: int = 5,
    add_penalty: bool = False,
    label: int = 1,
    lr: float = LR,
    share: slice = slice(None),
) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = loss_of(model, label, share)
        (loss + protection.penalty() if protection is not None and add_penalty else loss).backward()
        optimizer.step()
        if protection is not None and not add_penalty:
            protection.step(lr)
        elif isinstance(protection, SynapticIntelligence):
            protection.record()


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
    value.model.zero_grad()
    value.penalty().backward()
    gradients = [p.grad.clone() for p in value.model.parameters()]
    value.add_gradient()
    for p, gradient in zip(value.model.parameters(), gradients, strict=True):
        torch.testing.assert_close(p.grad, 2 * gradient)
    penalty.after_step(LR, 3.0)
    assert_equal(dict(model.named_parameters()), dict(twin.named_parameters()), 1e-6)


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


LIBRARY = [MemoryAwareSynapses, ElasticWeightConsolidation, SynapticIntelligence]


@pytest.mark.parametrize("of", LIBRARY)
@pytest.mark.parametrize("add_penalty", [False, True])
def test_a_large_weight_keeps_what_is_important_and_zero_is_plain_training(of: Any, add_penalty: bool) -> None:
    models = {lam: network() for lam in (None, 0.0, 3.0)}
    changes = {}
    for lam, model in models.items():
        protection = None if lam is None else of(model, lam=lam)
        learn(model, protection, steps=20, add_penalty=add_penalty)
        if protection is not None:
            protection.consolidate(loader())
            protection.lam *= 1 / max(value.max().item() for value in protection.omega.values())
        anchor = copy.deepcopy(model)
        learn(model, protection, steps=20, add_penalty=add_penalty, label=0)
        omega = {} if protection is None else protection.omega
        changes[lam] = {
            name: (p - q).square().mul(omega.get(name, torch.ones(())))
            for (name, p), q in zip(model.named_parameters(), anchor.parameters(), strict=True)
        }
    assert_equal(dict(models[0.0].named_parameters()), dict(models[None].named_parameters()), 0)
    assert sum(c.sum() for c in changes[3.0].values()) < 0.5 * sum(c.sum() for c in changes[0.0].values())


@pytest.mark.parametrize("of", LIBRARY)
def test_a_head_that_grows_keeps_the_importance_of_its_old_rows(of: Any) -> None:
    model = network()
    protection = of(model, lam=1e6)
    learn(model, protection)
    protection.consolidate(loader())
    old, omega = model[2].weight.detach().clone(), protection.omega["2.weight"].clone()
    wider = nn.Linear(6, 5)
    with torch.no_grad():
        wider.weight[:3], wider.bias[:3] = model[2].weight, model[2].bias
    model[2], new = wider, wider.weight[3:].detach().clone()
    learn(model, protection, label=4)
    important = omega > 1e-3
    assert important.any()
    assert torch.allclose(model[2].weight[:3][important], old[important], atol=1e-3)
    assert (model[2].weight[3:] - new).abs().max() > 1e-3
    protection.consolidate(loader())
    assert protection.omega["2.weight"].shape == (5, 6)
    model[2] = nn.Linear(6, 2)
    with pytest.raises(UserError, match=re.escape("2.weight had shape [5, 6] and now has [2, 6]")):
        protection.step(LR)


@pytest.mark.parametrize("of", LIBRARY)
def test_a_state_is_restored_bit_for_bit_and_frozen_parameters_stay(of: Any) -> None:
    """In the middle of the second task, before or after the model's own state."""
    model = network()
    model[0].requires_grad_(False)
    protection = of(model, lam=2.0)
    learn(model, protection)
    protection.consolidate(loader())
    assert set(protection.omega) == {"2.weight", "2.bias"}
    learn(model, protection, steps=3)
    twin = network()
    twin[0].requires_grad_(False)
    restored = of(twin, lam=2.0)
    restored.load_state_dict(copy.deepcopy(protection.state_dict()))
    twin.load_state_dict(model.state_dict())
    for each, network_of in ((protection, model), (restored, twin)):
        learn(network_of, each)
        each.consolidate(loader())
    assert_equal(dict(twin.named_parameters()), dict(model.named_parameters()), 0)
    assert_equal(restored.omega, protection.omega, 0)
    with pytest.raises(UserError, match=r"the model has no such parameter"):
        of(nn.Linear(4, 2)).load_state_dict(protection.state_dict())


@pytest.mark.parametrize("of", LIBRARY)
def test_what_is_stored_follows_the_model_to_another_device(of: Any) -> None:
    model = network()
    protection = of(model)
    learn(model, protection)
    protection.consolidate(loader())
    model.to("meta")
    protection.step(LR)
    assert {value.device.type for value in (*protection.omega.values(), *protection.anchor.values())} == {"meta"}


@pytest.mark.parametrize("of", [MemoryAwareSynapses, ElasticWeightConsolidation])
def test_under_autocast_importance_is_exact_and_the_penalty_float32(of: Any) -> None:
    plain, protection = of(network()), of(network())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        protection.consolidate(loader())
        assert protection.penalty().dtype == torch.float32
    plain.consolidate(loader())
    assert_equal(protection.omega, plain.omega, 1e-6)


@pytest.mark.parametrize("of", LIBRARY)
def test_wrapped_models_are_unwrapped(of: Any) -> None:
    model = network()
    for wrapped in (nn.DataParallel(model), torch.compile(model), torch.compile(nn.DataParallel(model))):
        protection = of(wrapped)
        assert protection.model is model
        learn(model, protection)
        protection.consolidate(loader())
        assert set(protection.omega) == set(dict(model.named_parameters()))


@pytest.mark.slow
@pytest.mark.parametrize("in_place", [False, True])
def test_a_compiled_model_has_the_importance_of_the_plain_one(in_place: bool) -> None:
    plain, model = network(), network()
    if in_place:
        model.compile(backend="aot_eager")
    compiled = model if in_place else torch.compile(model, backend="aot_eager")
    for lam in (0.5, 2.0):
        twin, protection = MemoryAwareSynapses(plain, lam), MemoryAwareSynapses(compiled, lam)
        learn(plain, twin)
        learn(compiled, protection)
        twin.consolidate(loader())
        protection.consolidate(loader(), forward=compiled)
        assert_equal(protection.omega, twin.omega, 1e-5)
        learn(plain, twin)
        learn(compiled, protection)
        assert_equal(dict(model.named_parameters()), dict(plain.named_parameters()), 1e-5)


def in_a_process(rank: int, place: str, queue: Any) -> None:
    """Learn as one of two processes, on every other sample."""
    distributed.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
    stored = {}
    for of in LIBRARY:
        model = nn.parallel.DistributedDataParallel(network())
        protection = of(model, lam=2.0)
        learn(model, protection, share=slice(rank, None, 2))
        parts = [part[rank::2] for part in inputs().split(4)]
        protection.consolidate([parts[0], *parts[1:][: 2 - rank]])  # ranks may differ in their number of samples
        learn(model, protection, share=slice(rank, None, 2), label=0)
        stored[of.__name__] = (
            {name: p.tolist() for name, p in model.module.named_parameters()},
            {name: value.tolist() for name, value in protection.omega.items()},
        )
    queue.put((rank, stored))
    distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_of_data_parallel_training_share_one_importance(tmp_path: Path) -> None:
    context = torch.multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=in_a_process, args=(rank, str(tmp_path / "store"), queue)) for rank in (0, 1)]
    for process in processes:
        process.start()
    found = dict(queue.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    assert found[0] == found[1]
    for of in LIBRARY:
        model = network()
        protection = of(model, lam=2.0)
        learn(model, protection)
        halves = [inputs()[0:4:2], inputs()[4:8:2], inputs()[8:10:2], inputs()[1:4:2], inputs()[5:8:2]]
        protection.consolidate([torch.cat(halves)])
        omega = found[0][of.__name__][1]
        if of is not ElasticWeightConsolidation:  # whose noise is of a process's own samples
            assert_equal({name: torch.tensor(value) for name, value in omega.items()}, protection.omega, 1e-4)


@pytest.mark.parametrize("engine", ["hooks", "loop"])
def test_elastic_weight_consolidation_is_the_mean_squared_gradient_of_each_samples_loss(engine: Any) -> None:
    model, loss = network(), nn.CrossEntropyLoss(reduction="none")
    labels = torch.arange(10) % 3
    ewc = ElasticWeightConsolidation(model, gamma=0.5)
    ewc.consolidate(zip(inputs().split(4), labels.split(4), strict=True), loss=loss, engine=engine)
    expected = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    for x, y in zip(inputs(), labels, strict=True):
        grads = torch.autograd.grad(loss(model(x[None]), y[None])[0], tuple(model.parameters()))
        for total, grad in zip(expected.values(), grads, strict=True):
            total += grad.square() / 10
    assert_equal(ewc.omega, expected, 1e-5)
    named = [{"x": x, "label": y} for x, y in zip(inputs().split(4), labels.split(4), strict=True)]
    ewc.consolidate(named, loss=loss, forward=lambda batch: model(batch["x"]), weight=2.0)
    assert_equal(ewc.omega, {name: 2.5 * value for name, value in expected.items()}, 1e-5)


def test_elastic_weight_consolidation_without_labels_is_that_of_the_method() -> None:
    model = network()
    ewc = ElasticWeightConsolidation(model, draws=3, seed=5)
    for task in range(2):
        ewc.consolidate(loader(task))
    noises = [gaussian_projections(np.random.default_rng(derived_seed(5, task)), 3) for task in range(2)]
    each = [importance(model, [inputs(t)], scalar=noise, statistic=torch.square) for t, noise in enumerate(noises)]
    assert_equal(ewc.omega, {name: each[0][name] + each[1][name] for name in each[0]}, 1e-5)


@pytest.mark.parametrize("add_penalty", [False, True])
def test_synaptic_intelligence_records_the_decrease_of_the_loss(add_penalty: bool) -> None:
    """Small steps: w adds up to the decrease of the loss alone, without the penalty."""
    model = network()
    si = SynapticIntelligence(model, lam=1e-3)
    learn(model, si, add_penalty=add_penalty)
    si.consolidate()
    before, start = loss_of(model, 0).item(), copy.deepcopy(model)
    learn(model, si, steps=400, add_penalty=add_penalty, label=0, lr=1e-3)
    work = {name: value.clone() for name, value in si._path.work.items()}
    assert sum(value.sum().item() for value in work.values()) == pytest.approx(
        before - loss_of(model, 0).item(), rel=0.02
    )
    omega = {name: value.clone() for name, value in si.omega.items()}
    si.consolidate()
    for (name, p), q in zip(model.named_parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(si.omega[name] - omega[name], (work[name] / ((p - q) ** 2 + 0.1)).relu())


def test_bad_input_of_the_library_is_one_sentence() -> None:
    model = network()
    with pytest.raises(UserError, match=r"call step\(lr\) after optimizer.step\(\) and before optimizer.zero_grad\(\)"):
        SynapticIntelligence(model).consolidate()
    with pytest.raises(UserError, match="xi is 0"):
        SynapticIntelligence(model, xi=0)
    with pytest.raises(UserError, match="gamma is 2"):
        ElasticWeightConsolidation(model, gamma=2)
    ewc = ElasticWeightConsolidation(model)
    with pytest.raises(UserError, match=r'one number a sample, \[1\], not \[\]: reduction="none"'):
        ewc.consolidate(loader(), loss=nn.CrossEntropyLoss())
    with pytest.raises(UserError, match=r"a loss needs batches \(inputs, labels\).* one of them is a Tensor without"):
        ewc.consolidate([inputs()], loss=nn.CrossEntropyLoss(reduction="none"))
    with pytest.raises(UserError, match="weight is -1"):
        MemoryAwareSynapses(model).consolidate(loader(), weight=-1)


@pytest.mark.parametrize("of", LIBRARY)
@pytest.mark.parametrize("lam", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(of: Any, lam: float) -> None:
    with pytest.raises(UserError, match="lam is "):
        of(network(), lam=lam)
