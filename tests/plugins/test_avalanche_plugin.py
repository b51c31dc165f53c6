"""ExactMASPlugin in Avalanche's own training loop."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from tripletcl.mas import importance

pytest.importorskip("avalanche")

from avalanche.benchmarks import nc_benchmark
from avalanche.models import MultiHeadClassifier, MultiTaskModule
from avalanche.training.plugins import EvaluationPlugin
from avalanche.training.supervised import Naive

from tripletcl.plugins.avalanche import ExactMASPlugin

INPUTS = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
CLASSES = torch.arange(40) % 4


class Samples(Dataset):
    """Inputs of four classes."""

    targets = CLASSES.tolist()

    def __len__(self) -> int:
        return len(INPUTS)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return INPUTS[index], self.targets[index]


class Heads(MultiTaskModule):
    """A trunk and a head for each task; the head of a task is added when it comes."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(6, 5), nn.ReLU())
        self.classifier = MultiHeadClassifier(5, initial_out_features=2)

    def forward(self, x: Tensor, task_labels: Tensor) -> Tensor:
        return self.classifier(self.trunk(x), task_labels)


def train(plugin: ExactMASPlugin | None, model: nn.Module, size: int = 8, tasks: bool = False, lr: float = 0.1) -> Any:
    """Learn two experiences of two classes; yields the model after each."""
    benchmark = nc_benchmark(
        Samples(), Samples(), 2, task_labels=tasks, shuffle=False, class_ids_from_zero_in_each_exp=tasks
    )
    torch.manual_seed(0)
    strategy = Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=size,
        train_epochs=3,
        plugins=[] if plugin is None else [plugin],
        evaluator=EvaluationPlugin(loggers=[]),
    )
    for experience in benchmark.train_stream:
        strategy.train(experience)
        yield


def single(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4))


@pytest.mark.parametrize("alpha", [0.5, 0.25, None])
@pytest.mark.parametrize("size", [1, 7])
def test_importance_is_that_of_one_sample_at_a_time_whatever_the_batch_size(alpha: float | None, size: int) -> None:
    model, plugin, expected = single(), ExactMASPlugin(alpha=alpha), None
    for number, _ in enumerate(train(plugin, model, size)):
        samples = INPUTS[number == CLASSES // 2]
        task = importance(model, [samples], engine="loop")
        keep, add = (1.0, 1.0) if alpha is None else (alpha, 1 - alpha)
        expected = task if expected is None else {name: keep * expected[name] + add * task[name] for name in task}
        assert plugin.mas is not None
        torch.testing.assert_close(plugin.mas.omega, expected, rtol=1e-5, atol=1e-6)


def test_heads_of_tasks_are_protected() -> None:
    model, plugin, before = Heads(), ExactMASPlugin(), dict[str, Tensor]()
    for number, _ in enumerate(train(plugin, model, tasks=True)):
        samples, labels = INPUTS[number == CLASSES // 2], torch.full((20,), number)
        task = importance(model, [samples], forward=lambda x, labels=labels: model(x, labels[: len(x)]), engine="loop")
        assert plugin.mas is not None
        share = 0.5 if number else 1.0
        for name in ("trunk.0.weight", f"classifier.classifiers.{number}.classifier.weight"):
            earlier = before.get(name, torch.zeros(()))
            torch.testing.assert_close(plugin.mas.omega[name], 0.5 * earlier + share * task[name], rtol=1e-5, atol=1e-6)
        before = dict(plugin.mas.omega)


@pytest.mark.parametrize("penalty", ["proximal", "gradient"])
def test_a_weight_holds_what_was_learned_and_zero_is_plain_training(penalty: Any) -> None:
    moved = {}
    for lam in (None, 0.0, 5.0):
        model = single()
        plugin = None if lam is None else ExactMASPlugin(lam, penalty=penalty)
        steps = train(plugin, model, lr=0.05)
        next(steps)
        anchor = [p.detach().clone() for p in model.parameters()]
        list(steps)
        moved[lam] = torch.cat([(p - q).flatten() for p, q in zip(model.parameters(), anchor, strict=True)]).detach()
    assert torch.equal(moved[None], moved[0.0])
    assert moved[5.0].norm() < 0.7 * moved[0.0].norm()
