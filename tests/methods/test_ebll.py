from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toy import MultiHeadToy, ToyLearner, ToySource, assert_same, run_multi_head, run_toy, toy_tasks, weights

from tripletcl.continual import Batch, Method, Task, Training, plain_batches
from tripletcl.continual.task import derived_seed
from tripletcl.errors import UserError
from tripletcl.methods.ebll import BATCH_SIZE, EBLL, code_distance, encode, train_autoencoder
from tripletcl.methods.lwf import LwF

SGD = Training(epochs=3, batch_size=16, lr=0.05)
ADAMW = Training(epochs=2, batch_size=16, lr=0.01, optimizer="adamw", weight_decay=0.1)


class PlainAutoencoder(nn.Module):
    """The slow twin: standardisation, encoder and decoder as separate modules."""

    def __init__(self, mean: Tensor, std: Tensor, code: int, generator: torch.Generator) -> None:
        super().__init__()
        self.live = std > 0.1 * std.mean()
        self.mean, self.std, self.columns = mean, std, int(self.live.sum())
        width = min(code, self.columns // 2)
        with torch.random.fork_rng():  # nn.Linear samples initial weights that are not used
            self.encoder, self.decoder = nn.Linear(self.columns, width), nn.Linear(width, self.columns)
        for layer, fan_in in ((self.encoder, self.columns), (self.decoder, width)):
            for p in layer.parameters():
                nn.init.uniform_(p, -(fan_in**-0.5), fan_in**-0.5, generator=generator)

    def code(self, h: Tensor) -> Tensor:
        return torch.sigmoid(self.encoder((h - self.mean)[..., self.live] / self.std[self.live]))

    def forward(self, h: Tensor) -> Tensor:
        rebuilt = self.mean.repeat(len(h), 1)
        rebuilt[:, self.live] = self.decoder(self.code(h)) * self.std[self.live] + self.mean[self.live]
        return rebuilt


def head_of(learner: nn.Module, task: int) -> Callable[[Tensor], Tensor]:
    """The function of a task, by its number."""
    return learner.heads[task] if isinstance(learner, MultiHeadToy) else learner.readout


def plainly_trained(learner: nn.Module, task: Task, method: EBLL, number: int) -> PlainAutoencoder:
    """A task's autoencoder by the equations, on a frozen copy of the learner."""
    learner = copy.deepcopy(learner).eval().requires_grad_(False)
    h = learner.represent(ToySource().batch(task.items, None))
    spread = ((h - h.mean(0)) ** 2).mean(0).sqrt()
    generator = torch.Generator().manual_seed(derived_seed(method.seed, number))
    autoencoder = PlainAutoencoder(h.mean(0), spread, method.code, generator)
    live = autoencoder.live
    optimizer = torch.optim.Adam(autoencoder.parameters(), lr=method.lr)
    for _ in range(method.epochs):
        for rows in torch.randperm(len(h), generator=generator).split(BATCH_SIZE):
            rebuilt = autoencoder(h[rows])
            reconstruction = (((rebuilt - h[rows])[:, live] / spread[live]) ** 2).sum(1).mean() / live.sum()
            targets = torch.from_numpy(task.targets[rows.numpy()])
            loss = learner.loss(head_of(learner, number)(rebuilt), Batch(rebuilt, targets, task.items[rows.numpy()]))
            optimizer.zero_grad()
            (reconstruction + method.task_weight * loss).backward()
            optimizer.step()
    return autoencoder


class PlainEBLL(Method):
    """The slow twin of the method: a deep copy as the teacher, a list of autoencoders, loops over samples."""

    name = "plain"

    def __init__(self, like: EBLL) -> None:
        self.like, self.autoencoders = like, []

    def before_task(self, task: Task) -> None:
        self.old = copy.deepcopy(self.learner).eval()

    def extra_loss(self, batch: Batch, representation: Tensor, out: Tensor) -> Tensor | float:
        if not self.autoencoders:
            return 0.0
        h_old = self.old.represent(batch.inputs).detach()
        codes = torch.zeros(())
        for autoencoder in self.autoencoders:
            for new, old in zip(representation, h_old, strict=True):
                codes = codes + ((autoencoder.code(new) - autoencoder.code(old).detach()) ** 2).sum() / 2
        outputs = torch.zeros(())
        for task in range(len(self.autoencoders) if isinstance(self.learner, MultiHeadToy) else 1):
            new = head_of(self.learner, task)(representation)
            old = head_of(self.old, task)(h_old).detach()
            outputs = outputs + ((new - old) ** 2).sum() / (old**2).sum()
        return self.like.lam * outputs + self.like.code_lam * codes / len(out)

    def after_task(self, task: Task) -> None:
        self.autoencoders.append(plainly_trained(self.learner, task, self.like, len(self.autoencoders)))


class Watched(EBLL):
    """Records its memory, and checks that training an autoencoder changes nothing else."""

    def start(self, *arguments: Any) -> None:
        super().start(*arguments)
        self.bytes: list[int] = []

    def after_task(self, task: Task) -> None:
        state, before = torch.get_rng_state(), weights(self.learner)
        modes = [m.training for m in self.learner.modules()]
        gradients = [p.grad if p.grad is None else p.grad.clone() for p in self.learner.parameters()]
        super().after_task(task)
        assert torch.equal(torch.get_rng_state(), state)
        assert [m.training for m in self.learner.modules()] == modes
        assert all(torch.equal(p, before[name]) for name, p in self.learner.named_parameters())
        assert all(torch.equal(p.grad, g) for p, g in zip(self.learner.parameters(), gradients, strict=True))
        self.bytes.append(self.memory_bytes())


def trained_encoder(task: Task, **settings: Any) -> tuple[EBLL, ToyLearner]:
    """A method after one task, without any training of the learner."""
    method, learner, source = EBLL(**settings), ToyLearner(), ToySource()
    method.start(learner, lambda items: plain_batches(source, items, 16))
    method.after_task(task)
    return method, learner


@pytest.mark.parametrize("run", [run_toy, run_multi_head])
def test_a_run_equals_that_of_the_twin(tmp_path: Path, run: Callable[..., Any]) -> None:
    settings = {"lam": 0.3, "code_lam": 0.5, "epochs": 5, "task_weight": 0.7, "seed": 3}
    ours, _ = run(tmp_path / "ours", EBLL(**settings), training=SGD)
    plain, _ = run(tmp_path / "plain", PlainEBLL(EBLL(**settings)), training=SGD)
    lwf, _ = run(tmp_path / "lwf", LwF(lam=0.3), training=SGD)
    for name, value in weights(ours).items():
        torch.testing.assert_close(value, weights(plain)[name], rtol=1e-3, atol=1e-5)
    assert not torch.allclose(ours.net[0].weight, lwf.net[0].weight, atol=1e-3)


def test_encoder_is_that_of_the_plain_autoencoder() -> None:
    task = toy_tasks(1)[0]
    method, learner = trained_encoder(task, code=3, epochs=10)
    plain = plainly_trained(learner, task, method, 0)
    h = 10 * torch.randn(20, 8, generator=torch.Generator().manual_seed(2))
    assert encode(method.encoders[0], h).shape == (20, 3)
    torch.testing.assert_close(encode(method.encoders[0], h), plain.code(h).detach(), rtol=1e-3, atol=1e-4)


def test_code_distance_is_that_of_the_equation() -> None:
    generator = torch.Generator().manual_seed(0)
    encoders = [
        {"weight": torch.randn(k, 5, generator=generator), "bias": torch.randn(k, generator=generator)} for k in (2, 3)
    ]
    new, old = torch.randn(2, 4, 5, generator=generator)
    total = 0.0
    for encoder in encoders:
        for n, o in zip(new, old, strict=True):
            codes = [1 / (1 + torch.exp(-(encoder["weight"] @ h + encoder["bias"]))) for h in (n, o)]
            total += ((codes[0] - codes[1]) ** 2).sum().item() / 2
    assert code_distance(encoders, new, old).item() == pytest.approx(total / 4, rel=1e-5)
    assert code_distance(encoders, old, old) == 0


@pytest.mark.parametrize("training", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_zero_weights_are_finetune_and_zero_code_lam_is_lwf_bit_for_bit(tmp_path: Path, training: Training) -> None:
    plain, _ = run_toy(tmp_path / "plain", Method(), training=training)
    method = EBLL(lam=0, code_lam=0)
    assert_same(plain, run_toy(tmp_path / "ebll", method, training=training)[0])
    assert method.memory_bytes() == 0
    lwf, _ = run_toy(tmp_path / "lwf", LwF(lam=0.7, target="cosine"), training=training)
    ebll, _ = run_toy(tmp_path / "no codes", EBLL(lam=0.7, code_lam=0, target="cosine"), training=training)
    assert_same(lwf, ebll)


def test_memory_grows_by_one_encoder_a_task_and_nothing_else_changes(tmp_path: Path) -> None:
    method = Watched(code=3, epochs=2)
    learner, _ = run_toy(tmp_path, method, tasks=toy_tasks(6), training=SGD)
    encoder, teacher = 4 * (3 * 8 + 3), sum(4 * p.numel() for p in learner.parameters())
    assert not EBLL.properties.constant_memory
    assert method.bytes == [encoder] + [teacher + n * encoder for n in range(2, 7)]


def test_the_larger_code_lam_the_less_the_codes_move(tmp_path: Path) -> None:
    first, second = toy_tasks()[:2]
    inputs, training = ToySource().batch(second.items, None), Training(epochs=20, batch_size=16, lr=0.05)
    old = run_toy(tmp_path / "first", Method(), tasks=[first], training=training)[0].eval()
    moved = []
    for code_lam in (1e-9, 1.0, 10.0):
        method = EBLL(lam=0, code_lam=code_lam)
        learner, _ = run_toy(tmp_path / str(code_lam), method, tasks=[first, second], training=training)
        with torch.no_grad():
            ours = code_distance(method.encoders[:1], learner.eval().represent(inputs), old.represent(inputs))
        moved.append(ours.item())
    assert moved == sorted(moved, reverse=True)
    assert moved[-1] < 0.2 * moved[0]


def low_rank(rank: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(400, rank, generator=generator) @ torch.randn(rank, 12, generator=generator)
    return 5 + 3 * mixed + 0.01 * torch.randn(400, 12, generator=generator)


def autoencode(features: Tensor, code: int, task_weight: float = 0.0, **settings: Any) -> tuple[dict, float]:
    generator = torch.Generator().manual_seed(settings.pop("seed", 0))
    loss = settings.pop("loss", lambda rebuilt, rows: rebuilt.square().mean())
    return train_autoencoder(
        features, loss, code=code, epochs=60, lr=0.02, task_weight=task_weight, generator=generator, **settings
    )


def test_a_code_as_wide_as_the_rank_of_the_features_reconstructs_them_and_a_narrower_one_does_not() -> None:
    assert autoencode(low_rank(2), 4)[1] < 0.05
    assert 0.3 < autoencode(low_rank(6), 1)[1] < 1.0  # 1: no better than the mean


def test_the_task_decides_what_is_reconstructed() -> None:
    """One feature in twelve matters to the task: a code too narrow for all of them encodes that one."""
    features = torch.randn(400, 12, generator=torch.Generator().manual_seed(0))

    def loss(rebuilt: Tensor, rows: Tensor) -> Tensor:
        return (rebuilt[:, 7] - features[rows, 7]).square().mean()

    for task_weight, low, high in ((0.0, 0.0, 0.5), (10.0, 0.9, 1.0)):
        encoder, _ = autoencode(features, 1, task_weight, loss=loss)
        code = encode(encoder, features)[:, 0]
        assert low <= abs(np.corrcoef(code, features[:, 7])[0, 1]) <= high


def test_features_that_hardly_vary_are_not_encoded() -> None:
    features = low_rank(2)
    features[:, 0] = 3.0
    features[:, 5] *= 1e-3
    encoder, _ = autoencode(features, 4)
    assert (encoder["weight"] == 0).all(dim=0).nonzero()[:, 0].tolist() == [0, 5]
    moved = features + torch.eye(12)[0] + torch.eye(12)[5]
    assert torch.equal(encode(encoder, moved), encode(encoder, features))


def test_equal_representations_have_one_code() -> None:
    encoder, error = autoencode(torch.ones(5, 4), 2)
    assert error == 0
    assert (encode(encoder, torch.randn(3, 4)) == 0.5).all()


def test_initial_weights_and_order_depend_on_the_seed_and_the_task_number() -> None:
    task = toy_tasks()[0]
    encoders = []
    for seed in (0, 0, 1):
        method, _ = trained_encoder(task, seed=seed, epochs=1)
        method.after_task(task)
        encoders += [encoder["weight"] for encoder in method.encoders]
    assert torch.equal(encoders[0], encoders[2])
    assert torch.equal(encoders[1], encoders[3])
    distinct = [encoders[0], encoders[1], encoders[4], encoders[5]]
    assert not any(torch.allclose(a, b) for i, a in enumerate(distinct) for b in distinct[:i])


def test_code_is_narrower_than_what_it_encodes() -> None:
    features = low_rank(2)
    assert [len(autoencode(features, code)[0]["bias"]) for code in (1, 4, 64)] == [1, 4, 6]
    features[:, :5] = 1.0  # leaves 7 that vary
    assert len(autoencode(features, 64)[0]["bias"]) == 3


def test_the_reconstruction_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="tripletcl"):
        trained_encoder(toy_tasks()[0])
    assert "autoencoder of task 1: " in caplog.text


def test_properties() -> None:
    assert EBLL().properties == EBLL.properties
    assert not EBLL.properties.unlabeled
    assert not EBLL(target="logits").properties.problem_agnostic


def test_mistakes() -> None:
    for settings in ({"code": 0}, {"epochs": 0}, {"lr": 0.0}, {"lr": float("nan")}):
        with pytest.raises(UserError, match="an autoencoder needs at least 1"):
            EBLL(**settings)
    for name in ("lam", "code_lam", "task_weight"):
        with pytest.raises(UserError, match=f"{name} is -1"):
            EBLL(**{name: -1})
    with pytest.raises(UserError, match="temperature is 0"):
        EBLL(temperature=0)
    with pytest.raises(UserError, match="autoencoder of task 1 diverged; try a smaller lr"):
        trained_encoder(toy_tasks()[0], lr=1e30)
