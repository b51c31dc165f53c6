"""The analytic control: features that stand still, and a ridge regression updated task by task from two sums.

Of every image's random features phi (`tripletcl.embedding.readout`) and its class indicators y only

    G = sum_n phi_n phi_n^T,    C = sum_n phi_n y_n^T

are kept. After each task `W = (G + ridge * I)^-1 C` is the ridge regression on ALL images so far: exactly what training
on everything at once gives, in whatever order the tasks came (recursive least squares; ACIL, Zhuang et al., NeurIPS
2022; RanPAC, McDonnell et al., NeurIPS 2023). Columns of C are added as classes arrive.

Targets, for facts: the indicators of the facts themselves ("indicators", closed vocabulary), their unit text vectors
("text", open vocabulary: a linear function of the same W), or the sum of both scores ("both").

Deviations: an image shares the weight 1 among the facts that it shows; the ridge parameter is a setting, where RanPAC
searches for it; the features are normalised per image and not by the first task, so nothing depends on which task was
first.

Limits: what the frozen network does not see cannot be read out, so far from the photographs it was pretrained on, on
drawings and digits, it stays below joint training of a trunk; memory is quadratic in the number of random features
(4,000: 128 MB) and grows by a column a class.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from tripletcl.continual import Batch, Inputs, Learner, Method, Properties, Task
from tripletcl.errors import UserError


class Analytic(Method):
    """Ridge regression from random features of a trunk that stands still; exact, whatever the order of the tasks.

    Args:
        features: M, the number of random ReLU features.
        ridge: Weight of the squared norm of W; phi has length 1 on average.
        targets: "text", "indicators" or "both"; learners without texts know indicators alone.
        trunk: "pretrained" never trains it; "first" trains it, with the heads, on the first task alone.
        seed: Of the random layer.
    """

    name: ClassVar[str] = "analytic"
    stands_still: ClassVar[bool] = True
    properties: ClassVar[Properties] = Properties(
        constant_memory=False, problem_agnostic=False, unlabeled=False, consistent=True
    )

    def __init__(
        self,
        features: Annotated[int, Ge(1)] = 4000,
        ridge: Annotated[float, Gt(0)] = 0.15,
        targets: Literal["text", "indicators", "both"] = "both",
        trunk: Literal["pretrained", "first"] = "pretrained",
        seed: int = 0,
    ) -> None:
        if features < 1 or ridge <= 0:
            raise UserError(f"features is {features} and ridge {ridge}, but both must be greater than 0")
        self.features, self.ridge, self.targets, self.trunk, self.seed = features, ridge, targets, trunk, seed
        self.learned = False
        self.classes: list[int] = []

    def start(self, learner: Learner, inputs: Inputs) -> None:
        super().start(learner, inputs)
        learner.install_readout(self.features, self.seed, self.targets)
        self.gram = torch.zeros(self.features, self.features, dtype=torch.float64)
        self.correlation = torch.zeros(self.features, 0, dtype=torch.float64)

    def before_task(self, task: Task) -> None:
        if self.learned or self.trunk == "pretrained":
            self.learner.requires_grad_(False)

    @torch.no_grad()
    def after_task(self, task: Task) -> None:
        self.learned = True
        self.learner.eval()
        columns = self._columns(task.classes)
        for phi, indicators in self._rows(task):
            self.gram = self.gram.to(phi.device).add_(phi.T @ phi)
            self.correlation = self.correlation.to(phi.device)
            self.correlation[:, columns] += (phi.T @ indicators).double()
        self.learner.set_readout(self.solution(), np.array(self.classes))

    def _rows(self, task: Task) -> Iterator[tuple[Tensor, Tensor]]:
        """Random features `[B, M]` and indicators `[B, K]` of the task's images."""
        start = 0
        for inputs in self.inputs(task.items):
            rows = slice(start, start := start + len(inputs))
            targets = torch.from_numpy(task.targets[rows]).to(inputs.device)
            batch = Batch(inputs, targets, task.items[rows])
            yield self.learner.expand(self.learner.represent(inputs).float()), self.learner.indicators(batch)

    def _columns(self, classes: np.ndarray) -> list[int]:
        """The columns of C that belong to these classes; new classes get new ones."""
        self.classes += [c for c in classes.tolist() if c not in self.classes]
        self.correlation = nn.functional.pad(self.correlation, (0, len(self.classes) - self.correlation.shape[1]))
        return [self.classes.index(c) for c in classes.tolist()]

    def solution(self) -> Tensor:
        """W `[M, K]`, in float64."""
        regularised = self.gram.clone()
        regularised.diagonal().add_(self.ridge)
        return torch.cholesky_solve(self.correlation, torch.linalg.cholesky(regularised))

    def state_dict(self) -> dict[str, Any]:
        return {
            "learned": self.learned,
            "gram": self.gram,
            "correlation": self.correlation,
            "classes": list(self.classes),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learned = state["learned"]
        self.gram, self.correlation = state["gram"], state["correlation"]
        self.classes = list(state["classes"])
