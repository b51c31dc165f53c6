"""The slow twin of a whole toy sequence under quadratic penalties: explicit loops, one term for every task."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from toy import ToyLearner, ToySource, toy_tasks

from tripletcl.continual import Task, Training
from tripletcl.continual.optimization import learning_rate
from tripletcl.continual.task import derived_seed, epoch_batches, steps_per_epoch

TRAINING = Training(epochs=2, batch_size=16, lr=0.05)

Named = dict[str, Tensor]
Term = tuple[float, Named, Named]
"""A weight, an importance and an anchor: weight * sum omega (theta - anchor)^2."""


class PlainSequence:
    """Trains the toy by SGD with momentum, as `run_toy` does.

    Args:
        form: "gradient" or "proximal".
        measure: (learner, task, its number) to its importance, after the task; None for the path integral of SI.
        terms: The importances and the thetas of the tasks so far to the terms of the penalty.
        xi: Of the path integral.
        training: As `run_toy` is given it.
    """

    def __init__(
        self,
        form: str,
        measure: Callable[[ToyLearner, Task, int], Named] | None,
        terms: Callable[[list[Named], list[Named]], list[Term]],
        xi: float = 0.1,
        training: Training = TRAINING,
    ) -> None:
        self.form, self.measure, self.terms, self.xi, self.training = form, measure, terms, xi, training
        self.learner = ToyLearner()
        self.omegas: list[Named] = []
        self.thetas: list[Named] = []

    def run(self, tasks: list[Task] | None = None) -> ToyLearner:
        torch.manual_seed(derived_seed(0))
        for stage, task in enumerate(tasks or toy_tasks()):
            self._task(stage, task)
        return self.learner

    def _task(self, stage: int, task: Task) -> None:
        self.momentum: Named = {}
        self.start = self._theta()
        self.work = {name: torch.zeros_like(p) for name, p in self.start.items()}
        training = self.training
        steps = steps_per_epoch(task, training.batch_size)
        for epoch in range(training.epochs):
            self.still = {"net.0.weight", "net.0.bias"} if epoch < training.head_epochs else set()
            batches = epoch_batches(
                task,
                ToySource(),
                batch_size=training.batch_size,
                seed=(0, stage, epoch),
                start=0,
                device=torch.device("cpu"),
            )
            for step, batch in enumerate(batches):
                self.learner.train()
                loss = self.learner.loss(self.learner(batch.inputs), batch)
                lr = learning_rate(training, (epoch * steps + step + 0.5) / (steps * training.epochs))
                self._step(loss, lr)
        theta = self._theta()
        if self.measure is not None:
            omega = self.measure(self.learner, task, stage)
        else:
            omega = {}
            for name, work in self.work.items():
                omega[name] = (work / ((theta[name] - self.start[name]) ** 2 + self.xi)).clamp(min=0)
        self.omegas.append(omega)
        self.thetas.append(theta)

    def _step(self, loss: Tensor, lr: float) -> None:
        terms = self.terms(self.omegas, self.thetas) if self.omegas else []
        names, parameters = zip(*self.learner.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for name, p, of_the_loss in zip(names, parameters, gradients, strict=True):
                if name in self.still:
                    continue
                before = p.clone()
                gradient = of_the_loss
                if self.form == "gradient":
                    for weight, omega, anchor in terms:
                        gradient = gradient + 2 * weight * omega[name] * (p - anchor[name])
                old = self.momentum.get(name)
                self.momentum[name] = gradient if old is None else self.training.momentum * old + gradient
                p.sub_(lr * self.momentum[name])
                if self.form == "proximal":
                    above, below = p.clone(), torch.ones_like(p)
                    for weight, omega, anchor in terms:
                        above += 2 * lr * weight * omega[name] * anchor[name]
                        below += 2 * lr * weight * omega[name]
                    p.copy_(above / below)
                self.work[name] -= of_the_loss * (p - before)

    def _theta(self) -> Named:
        return {name: p.detach().clone() for name, p in self.learner.named_parameters()}


def latest_anchor(lam: float) -> Callable[[list[Named], list[Named]], list[Term]]:
    """Every task's importance around the latest theta."""
    return lambda omegas, thetas: [(lam, omega, thetas[-1]) for omega in omegas]


def assert_near(ours: torch.nn.Module, twin: torch.nn.Module, plain: torch.nn.Module) -> None:
    """The runs are equal up to rounding, and the penalty has moved them well away from plain fine-tuning."""
    ours_, twin_, plain_ = (
        torch.cat([p.detach().flatten() for p in model.parameters()]) for model in (ours, twin, plain)
    )
    assert (ours_ - twin_).abs().max() < 2e-5
    assert (ours_ - plain_).abs().max() > 1e-2
