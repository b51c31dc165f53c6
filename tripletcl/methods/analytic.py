"""The analytic control: features that stand still, and a ridge regression updated task by task from two sums.

Of every image's random features phi (`tripletcl.embedding.readout`) and its class indicators y only

    G = sum_n phi_n phi_n^T,    C = sum_n phi_n y_n^T

are kept. After each task `W = (G + ridge * I)^-1 C` is the ridge regression on ALL images so far: exactly what training
on everything at once gives, in whatever order the tasks came (recursive least squares; ACIL, Zhuang et al., NeurIPS
2022; RanPAC, McDonnell et al., NeurIPS 2023). Columns of C are added as classes arrive.

A task of a few images alone (a lesson of a handful of photos) does not touch the sums: its rows P, Y are kept beside
them, and with `A = G + ridge * I` and the solution `W` of the sums alone, by the matrix inversion lemma,

    U = A^-1 P^T,    W' = W + U (I + P U)^-1 (Y - P W)

is the solution of everything, without a new factor of A. So the sums, which are large, stay on disk as they are, and
what was learned last can be taken back by leaving its rows out.

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
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from tripletcl.continual import Batch, Inputs, Learner, Method, Properties, Task
from tripletcl.errors import UserError

FEATURES_PER_ROW = 32
"""So many random features for each row that is kept beside the sums: with more rows, a new factor costs no more."""

Later = dict[str, Tensor]
"""Rows that are not in the sums: "phi" `[n, M]` and the class indicators "shown" `[n, K]`."""


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
    freezes_protected: ClassVar[bool] = True
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
        self.later: Later = {}
        self._ahead: Future[tuple[Tensor, Tensor]] | None = None
        """What `_solved` gives for the sums as they stand, or will."""

    def start(self, learner: Learner, inputs: Inputs) -> None:
        super().start(learner, inputs)
        learner.install_readout(self.features, self.seed, self.targets)
        self.gram = torch.zeros(self.features, self.features, dtype=torch.float64)
        self.correlation = torch.zeros(self.features, 0, dtype=torch.float64)

    def prefetch(self, state: dict[str, Any]) -> None:
        self._ahead = ThreadPoolExecutor(1).submit(self._solved, state["gram"], state["correlation"])

    def before_task(self, task: Task) -> None:
        if self.learned or self.trunk == "pretrained":
            self.learner.requires_grad_(False)

    @torch.no_grad()
    def after_task(self, task: Task) -> None:
        self.learner.eval()
        columns = self._columns(task.classes)
        kept = len(self.later["phi"]) if self.later else 0
        if self.learned and (kept + len(task)) * FEATURES_PER_ROW <= self.features:
            self._keep(columns, *map(torch.cat, zip(*self._rows(task), strict=True)))
        else:
            self._add(columns, self._rows(task))
        self.learned = True
        self.learner.set_readout(self.solution(), np.array(self.classes))

    def _add(self, columns: list[int], rows: Iterator[tuple[Tensor, Tensor]]) -> None:
        """Add rows to the sums, those that were kept beside them first."""
        self.correlation = self._widened(self.correlation)
        if self.later:
            phi, shown = self.later["phi"].double(), self._widened(self.later["shown"]).double()
            self.gram = self.gram.to(phi.device).add_(phi.T @ phi)
            self.correlation = self.correlation.to(phi.device).add_(phi.T @ shown)
        for phi, indicators in rows:
            self.gram = self.gram.to(phi.device).add_(phi.T @ phi)
            self.correlation = self.correlation.to(phi.device)
            self.correlation[:, columns] += (phi.T @ indicators).double()
        self.later, self._ahead = {}, None

    def _keep(self, columns: list[int], phi: Tensor, indicators: Tensor) -> None:
        """Keep rows beside the sums."""
        shown = indicators.new_zeros(len(phi), len(self.classes))
        shown[:, columns] = indicators
        if self.later:
            phi = torch.cat([self.later["phi"].to(phi), phi])
            shown = torch.cat([self._widened(self.later["shown"]).to(shown), shown])
        self.later = {"phi": phi, "shown": shown}

    def _rows(self, task: Task) -> Iterator[tuple[Tensor, Tensor]]:
        """Random features `[B, M]` and indicators `[B, K]` of the task's images."""
        start = 0
        for inputs in self.inputs(task.items):
            rows = slice(start, start := start + len(inputs))
            targets = torch.from_numpy(task.targets[rows]).to(inputs.device)
            batch = Batch(inputs, targets, task.items[rows])
            yield self.learner.expand(self.learner.represent(inputs).float()), self.learner.indicators(batch)

    def _columns(self, classes: np.ndarray) -> list[int]:
        """The columns that belong to these classes; new classes get new ones."""
        self.classes += [c for c in classes.tolist() if c not in self.classes]
        return [self.classes.index(c) for c in classes.tolist()]

    def _widened(self, columns: Tensor) -> Tensor:
        """A column for every class, zeros for those that came later."""
        return nn.functional.pad(columns, (0, len(self.classes) - columns.shape[1]))

    def solution(self) -> Tensor:
        """W `[M, K]`, in float64."""
        ahead = self._solved(self.gram, self.correlation) if self._ahead is None else self._ahead.result()
        factor, weight = (part.to(self.gram.device) for part in ahead)
        weight = self._widened(weight)
        if not self.later:
            return weight
        phi, shown = self.later["phi"].to(weight), self._widened(self.later["shown"]).to(weight)
        solved = _solve(factor, phi.T)  # U, [M, n]
        inner = phi @ solved
        inner.diagonal().add_(1)
        return weight + solved @ torch.linalg.solve(inner, shown - phi @ weight)

    @torch.no_grad()
    def _solved(self, gram: Tensor, correlation: Tensor) -> tuple[Tensor, Tensor]:
        """The Cholesky factor of `A = G + ridge * I`, and `A^-1 C`; A is factorised in its place: it may be large."""
        regularised = gram.clone()
        regularised.diagonal().add_(self.ridge)
        columns = regularised.mT  # A is symmetric, and LAPACK reads columns
        factor = torch.linalg.cholesky(columns, out=columns)
        return factor, _solve(factor, correlation)

    def state_dict(self) -> dict[str, Any]:
        return {
            "learned": self.learned,
            "gram": self.gram,
            "correlation": self.correlation,
            "classes": list(self.classes),
            "later": dict(self.later),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learned = state["learned"]
        self.gram, self.correlation = state["gram"], state["correlation"]
        self.classes = list(state["classes"])
        self.later = dict(state.get("later", {}))


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    """`A^-1 right` by A's Cholesky factor, which `torch.cholesky_solve` would copy."""
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)
