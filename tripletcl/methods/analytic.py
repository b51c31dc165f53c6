"""The analytic control: features of a frozen trunk, and a ridge regression updated task by task from two sums.

Of every image's random features phi (`tripletcl.embedding.readout`) and its class indicators y only

    G = sum_n phi_n phi_n^T,    C = sum_n phi_n y_n^T

are stored. After each task `W = (G + ridge * I)^-1 C` is the ridge regression on ALL images so far: exactly the result
of training on everything at once, whatever the order of the tasks (recursive least squares; ACIL, Zhuang et al.,
NeurIPS 2022; RanPAC, McDonnell et al., NeurIPS 2023). C gets more columns as classes arrive.

A task of a few images (few-shot) does not change the sums: its rows P, Y are stored in addition, as pending. With
`A = G + ridge * I` and the solution `W` of the sums, by the matrix inversion lemma,

    U = A^-1 P^T,    W' = W + U (I + P U)^-1 (Y - P W)

is the solution of everything, without another factorisation of A. So the sums, which are large, stay unchanged on disk,
and the latest task can be undone by leaving its rows out.

A task whose labels do not mention the classes of earlier tasks (`Task.earlier_unknown`: a few-shot lesson, a follow-up
table) has no targets for their columns. Zeros would state that its images show none of them. The columns get the
current outputs `P W` as targets instead. Since

    (A + P^T P) W = C + P^T (P W),

their solution then stays exactly as it was: such a task adds its own classes and changes no other.

Targets, for facts: the indicators of the facts themselves ("indicators", closed vocabulary), their unit text vectors
("text", open vocabulary: a linear function of the same W), or the sum of both scores ("both").

The sums grow by a column a class. Where the columns would take more than SUMS_BYTES, the text vectors of the classes
take their place: with the vectors V of the classes, one a row,

    C V = sum_n phi_n (y_n V)^T

has as many columns as a vector has numbers, however many classes there are, and is all that the targets "text" need.
V is whitened by the classes known at that moment and stays so. Scores of single classes are no longer known, which a
warning says.

Deviations: an image distributes the weight 1 over the facts that it shows; the ridge parameter is a setting, where
RanPAC searches for it; the features are normalised per image and not by the first task, so that nothing depends on
which task was first.

Limits: a readout cannot find what the frozen network does not represent, so that on drawings and digits, far from the
photographs of its pretraining, it stays below joint training of a trunk; memory is quadratic in the number of random
features (4,000: 128 MB) and grows by a column a class, as long as there are few classes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from tripletcl import group
from tripletcl.continual import Inputs, Learner, Method, Properties, Task
from tripletcl.errors import UserError

log = logging.getLogger("tripletcl")

SUMS_BYTES = 2**29
"""The most that the columns of classes may take in the sums: 16,777 classes of 4,000 random features."""

FEATURES_PER_ROW = 32
"""Random features for each pending row, at least: with more rows another factorisation is as cheap."""

LEVEL_DIGITS = 4
"""Decimals of a level: the order of sums, which several processes change, does not reach them."""

Pending = dict[str, Tensor]
"""Rows that are not in the sums: "phi" `[n, M]` and the class indicators "shown" `[n, K]`; or nothing."""


class Analytic(Method):
    """Ridge regression from random features of a frozen trunk; exact, whatever the order of the tasks.

    Args:
        features: M, the number of random ReLU features.
        ridge: Weight of the squared norm of W; phi has length 1 on average.
        targets: "text", "indicators" or "both"; learners without texts have indicators only.
        trunk: "pretrained" never trains it; "first" trains it, with the heads, on the first task only.
        seed: Of the random layer.

    Raises:
        UserError: A number out of its range.
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
        self.has_learned = False
        self.classes: list[int] = []
        """The class of each column, or the classes whose vectors the columns are."""
        self.by_vectors = False
        self.levels: dict[int, float] = {}
        """Of each class the mean score of its own images; empty where the columns are those of vectors."""
        self.pending: Pending = {}
        self._solution_future: Future[tuple[Tensor, Tensor]] | None = None
        """The result of `_solve_sums` for the current sums, if it was started in advance."""

    def start(self, learner: Learner, inputs: Inputs) -> None:
        super().start(learner, inputs)
        learner.install_readout(self.features, self.seed, self.targets)
        self.gram = torch.zeros(self.features, self.features, dtype=torch.float64)
        self.correlation = torch.zeros(self.features, 0, dtype=torch.float64)

    def prefetch(self, state: dict[str, Any]) -> None:
        self._solution_future = ThreadPoolExecutor(1).submit(self._solve_sums, state["gram"], state["correlation"])

    def before_task(self, task: Task) -> None:
        if self.has_learned or self.trunk == "pretrained":
            self.learner.requires_grad_(False)

    @torch.no_grad()
    def after_task(self, task: Task) -> None:
        self.learner.eval()
        if not self.by_vectors:
            self._limit_columns(task.classes)
        earlier = self.solution() if task.earlier_unknown and self.has_learned else None
        columns = self._columns_of(task.classes)
        pending = len(self.pending["phi"]) if self.pending else 0
        few = self.has_learned and (pending + len(task)) * FEATURES_PER_ROW <= self.features
        mine = slice(len(task)) if few else group.share(len(task))
        rows = self._rows(task, mine) if earlier is None else self._complete_rows(task, mine, columns, earlier)
        own = _OwnImages(slice(None) if earlier is None else columns)
        targets = columns if earlier is None else slice(None)
        if few:
            self._append_pending(targets, *map(torch.cat, zip(*own.watched(rows), strict=True)))
        else:
            self._add_to_sums(targets, own.watched(rows))
        self.has_learned = True
        solution = self.solution()
        if isinstance(columns, list):
            self.levels |= zip(task.classes.tolist(), own.levels(solution[:, columns], shared=not few), strict=True)
        self.learner.set_readout(
            solution, np.array(self.classes), [self.levels.get(each, 0.0) for each in self.classes]
        )

    @property
    def can_adapt(self) -> bool:
        return True

    @torch.no_grad()
    def add_importance(self, task: Task, weight: float, recompute: bool = False) -> None:
        """Add unlabelled images to the sums, each with its own outputs as its target.

        `(A + weight * P^T P) W = C + weight * P^T (P W)`: the solution stays exactly as it was. The next task changes
        the outputs of images like these less, and so learns what sets its own images apart from them.

        Args:
            task: The images are its `importance_items`.
            weight: Of an image relative to one of a task; 0 changes nothing.
            recompute: Not possible: the sums of the tasks are what the method knows.

        Raises:
            UserError: `recompute` is asked for.
        """
        if recompute:
            raise UserError("analytic keeps what it knows in its sums, so they cannot be replaced by those of photos")
        self.learner.eval()
        weights = self.solution() if self.classes else None
        for inputs in self.inputs(task.importance_items):
            phi = self.learner.expand(self.learner.represent(inputs).float()).double()
            self.gram = self.gram.to(phi.device).add_(phi.T @ phi, alpha=weight)
            if weights is not None:
                self.correlation = self._with_all_columns(self.correlation).to(phi.device)
                self.correlation.add_(phi.T @ (phi @ weights), alpha=weight)
        self.has_learned, self._solution_future = True, None

    def _limit_columns(self, new: np.ndarray) -> None:
        """Replace the columns of classes by those of their vectors, if new classes would make too many."""
        classes = np.array(list(dict.fromkeys([*self.classes, *new.tolist()])))
        if 8 * self.features * len(classes) <= SUMS_BYTES or not self.learner.read_by_vectors():
            return
        log.warning(
            "analytic: the sums of %d classes would take %.1f GiB; facts are scored by their text vectors from here on",
            *(len(classes), 8 * self.features * len(classes) / 2**30),
        )
        vectors = self.learner.class_vectors(classes, fit=True)[: len(self.classes)]  # [K, W]
        self.correlation = self._with_all_columns(self.correlation)
        self.correlation = self.correlation @ vectors.to(self.correlation)
        if self.pending:
            phi, shown = self._pending_rows(self.pending["phi"])
            self.pending = {"phi": phi, "shown": shown @ vectors.to(shown)}
        self.by_vectors, self.levels, self._solution_future = True, {}, None

    def _add_to_sums(self, columns: list[int] | slice, rows: Iterator[tuple[Tensor, Tensor]]) -> None:
        """Add the pending rows to the sums, then those of a task."""
        self.correlation = self._with_all_columns(self.correlation)
        if self.pending:
            phi, indicators = (t.double() for t in self._pending_rows(self.pending["phi"]))
            self.gram = self.gram.to(phi.device).add_(phi.T @ phi)
            self.correlation = self.correlation.to(phi.device).add_(phi.T @ indicators)
        if group.size() > 1:
            self._add_shared_sums(columns, rows)
        else:
            for phi, indicators in rows:
                self.gram = self.gram.to(phi.device).add_(phi.T @ phi)
                self.correlation = self.correlation.to(phi.device)
                self.correlation[:, columns] += (phi.T @ indicators).double()
        self.pending, self._solution_future = {}, None

    def _add_shared_sums(self, columns: list[int] | slice, rows: Iterator[tuple[Tensor, Tensor]]) -> None:
        """Sum the rows of this process up, perhaps none, and add the sums of all processes."""
        device = next(self.learner.parameters()).device
        self.gram, self.correlation = self.gram.to(device), self.correlation.to(device)
        gram, correlation = torch.zeros_like(self.gram), torch.zeros_like(self.correlation[:, columns])
        for phi, indicators in rows:
            gram += phi.T @ phi
            correlation += (phi.T @ indicators).double()
        group.add_up([gram, correlation])
        self.gram += gram
        self.correlation[:, columns] += correlation

    def _append_pending(self, columns: list[int] | slice, phi: Tensor, indicators: Tensor) -> None:
        """Store the rows of a task in addition to the sums."""
        wide = self._with_all_columns(indicators.new_zeros(len(phi), 0))  # [n, K]
        wide[:, columns] = indicators
        if self.pending:
            earlier_phi, earlier = self._pending_rows(phi)
            phi, wide = torch.cat([earlier_phi, phi]), torch.cat([earlier.to(wide), wide])
        self.pending = {"phi": phi, "shown": wide}

    def _pending_rows(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """The features `[n, M]` and indicators `[n, K]` of the pending rows, in the type of a tensor."""
        return self.pending["phi"].to(like), self._with_all_columns(self.pending["shown"]).to(like)

    def _rows(self, task: Task, mine: slice) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield random features `[B, M]` and indicators `[B, K]`, or vectors `[B, W]`, of some of the task's images."""
        vectors, start = self.learner.class_vectors(task.classes) if self.by_vectors else None, mine.start or 0
        for inputs in self.inputs(task.items[mine]):
            rows = slice(start, start := start + len(inputs))
            phi = self.learner.expand(self.learner.represent(inputs).float())
            indicators = self.learner.indicators(task.batch(inputs, rows))
            yield phi, indicators if vectors is None else _sparse_product(indicators, vectors)

    def _complete_rows(
        self, task: Task, mine: slice, columns: list[int] | slice, earlier: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield random features `[B, M]` and targets `[B, K]` for all classes: outputs of an earlier solution `[M, K']`
        for those that the task's labels do not mention. The vectors of its own classes are added to those outputs.
        """
        for phi, indicators in self._rows(task, mine):
            targets = self._with_all_columns((phi.to(earlier) @ earlier).to(phi))  # [B, K]
            targets[:, columns] = indicators + targets[:, columns] if self.by_vectors else indicators
            yield phi, targets

    def _columns_of(self, classes: np.ndarray) -> list[int] | slice:
        """The columns of these classes; new classes get new columns, unless the columns are those of vectors."""
        column = {c: number for number, c in enumerate(dict.fromkeys([*self.classes, *classes.tolist()]))}
        self.classes = list(column)
        return slice(None) if self.by_vectors else [column[c] for c in classes.tolist()]

    def _with_all_columns(self, matrix: Tensor) -> Tensor:
        """Append zeros for the classes that arrived later."""
        columns = self.correlation.shape[1] if self.by_vectors else len(self.classes)
        return nn.functional.pad(matrix, (0, columns - matrix.shape[1]))

    def solution(self) -> Tensor:
        """W `[M, K]`, in float64."""
        future = self._solution_future
        solution = self._solve_sums(self.gram, self.correlation) if future is None else future.result()
        factor, weight = (part.to(self.gram.device) for part in solution)
        weight = self._with_all_columns(weight)
        if not self.pending:
            return weight
        phi, indicators = self._pending_rows(weight)
        solved = _solve(factor, phi.T)  # U, [M, n]
        inner = phi @ solved  # [n, n]
        inner.diagonal().add_(1)
        return weight + solved @ torch.linalg.solve(inner, indicators - phi @ weight)

    @torch.no_grad()
    def _solve_sums(self, gram: Tensor, correlation: Tensor) -> tuple[Tensor, Tensor]:
        """The Cholesky factor of `A = G + ridge * I`, which may be large and so is computed in place, and `A^-1 C`."""
        regularised = gram.clone()
        regularised.diagonal().add_(self.ridge)
        columns = regularised.mT  # A is symmetric, and LAPACK reads columns
        factor = torch.linalg.cholesky(columns, out=columns)
        return factor, _solve(factor, correlation)

    def state_dict(self) -> dict[str, Any]:
        return {
            "learned": self.has_learned,
            "gram": self.gram,
            "correlation": self.correlation,
            "classes": list(self.classes),
            "later": dict(self.pending),
            "by_vectors": self.by_vectors,
            "levels": [self.levels.get(each, 0.0) for each in self.classes],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.has_learned = state["learned"]
        self.gram, self.correlation = state["gram"], state["correlation"]
        self.classes = list(state["classes"])
        self.pending = dict(state.get("later", {}))
        self.levels = dict(zip(self.classes, state.get("levels", ()), strict=False))  # none from an earlier version
        self.by_vectors = state.get("by_vectors", False) and self.learner.read_by_vectors()


class _OwnImages:
    """Sums the random features of the images of each class of a task up, from which their mean scores follow.

    Args:
        columns: Those of the task's classes in the targets.
    """

    def __init__(self, columns: list[int] | slice) -> None:
        self.columns = columns
        self.sums: tuple[Tensor, Tensor] | None = None  # of phi `[M, K]`, and of the weights `[K]`

    def watched(self, rows: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Pass random features `[B, M]` and targets `[B, K]` on."""
        for phi, targets in rows:
            shown = targets[:, self.columns].to(phi)
            new = phi.T @ shown, shown.sum(dim=0)
            self.sums = new if self.sums is None else (self.sums[0] + new[0], self.sums[1] + new[1])
            yield phi, targets

    def levels(self, solution: Tensor, shared: bool) -> list[float]:
        """The mean score of each class in its own images, by the columns of a solution `[M, K]`.

        Args:
            solution: The columns.
            shared: True if each process has a share of the images, perhaps none.
        """
        nothing = torch.zeros_like(solution), solution.new_zeros(solution.shape[1])
        phi, weight = (each.to(solution) for each in self.sums or nothing)
        if shared and group.size() > 1:
            group.add_up([phi, weight])
        means = (phi * solution).sum(dim=0) / weight.clamp(min=torch.finfo(weight.dtype).tiny)
        return [round(mean, LEVEL_DIGITS) for mean in means.tolist()]


def _sparse_product(indicators: Tensor, vectors: Tensor) -> Tensor:
    """`indicators @ vectors` of `[B, K]`, few of which are not 0."""
    row, column = indicators.nonzero(as_tuple=True)
    parts = indicators[row, column, None] * vectors[column]
    return vectors.new_zeros(len(indicators), vectors.shape[1]).index_add_(0, row, parts)


def _solve(factor: Tensor, right: Tensor) -> Tensor:
    """`A^-1 right` by A's Cholesky factor, of which `torch.cholesky_solve` would make a copy."""
    half = torch.linalg.solve_triangular(factor, right, upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True)
