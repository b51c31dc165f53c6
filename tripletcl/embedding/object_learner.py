"""The classifier of objects as a learner, for the training loop and the methods."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tripletcl import group
from tripletcl.embedding.classifier import Classifier
from tripletcl.embedding.readout import AnalyticReadout
from tripletcl.embedding.trunk import Trunk
from tripletcl.embedding.trunk_learner import TaskLike, TrunkLearner
from tripletcl.errors import UserError


class ObjectLearner(TrunkLearner):
    """A classifier, and the cross entropy over the classes of an item's own head.

    With several heads, each task has its own and the task of an item is known. Only the trunk is protected: no later
    task trains the head of an earlier one. With one head for all tasks, everything is shared and protected.

    Args:
        classifier: The trunk with its heads.
        from_features: The inputs are features of the frozen trunk, not images.

    Attributes:
        active: The heads of the current task; joint training has several.
        labels_before: For each head with labels of earlier tasks, those labels.
    """

    def __init__(self, classifier: Classifier, *, from_features: bool = False) -> None:
        super().__init__(from_features)
        self.classifier = classifier
        self.head_of_label = np.repeat(np.arange(len(classifier.heads)), [len(c) for c in classifier.heads.values()])
        self.active: list[int] = []
        self.labels_before: list[np.ndarray] = []
        self.column, self.head_of_column = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
        self.classes = torch.empty(0, dtype=torch.int64)

    @property
    def network(self) -> Trunk:
        """The classifier's trunk."""
        return self.classifier.trunk

    @property
    def analytic(self) -> AnalyticReadout | None:
        """The classifier's analytic readout."""
        return self.classifier.analytic

    @property
    def protected(self) -> nn.Module:
        """The part that the tasks share."""
        return self.classifier if len(self.classifier.heads) == 1 else self.classifier.trunk

    def readout(self, representation: Tensor) -> Tensor:
        """Map a representation `[B, C]` to the logits `[B, K]` of the active heads."""
        return self.classifier.logits(representation, self.active)

    def answers(self, representation: Tensor, out: Tensor) -> Sequence[Tensor]:
        """The logits of the labels of earlier tasks, one tensor `[B, K]` for each head that has some."""
        logits = []
        for labels in self.labels_before:
            head = int(self.head_of_label[labels[0]])
            columns = torch.from_numpy(labels - self.classifier.starts[head]).to(representation.device)
            logits.append(self.classifier.logits(representation, [head])[:, columns])
        return logits

    def begin_task(self, task: TaskLike) -> None:
        """Activate the heads of the task's labels, and note the labels of earlier tasks."""
        device, heads = self.classifier.device, self.head_of_label
        self.active = np.unique(heads[task.classes]).tolist()
        seen = np.unique(task.earlier_classes)
        self.labels_before = [seen[heads[seen] == head] for head in np.unique(heads[seen])] if len(seen) else []
        labels = np.flatnonzero(np.isin(heads, self.active))  # [K] in the order of the logits
        column = np.full(len(heads), -1)
        column[labels] = np.arange(len(labels))
        self.column = torch.from_numpy(column).to(device)
        self.head_of_column = torch.from_numpy(heads[labels]).to(device)
        self.classes = torch.from_numpy(np.asarray(task.classes, dtype=np.int64)).to(device)

    def loss(self, out: Tensor, batch: Any) -> Tensor:
        """Compute the mean cross entropy; `batch.targets` are labels `[B]`."""
        columns = self.column[batch.targets]
        return F.cross_entropy(self._of_own_head(out, columns), columns, reduction="sum") / group.total(len(out))

    @torch.no_grad()
    def score(self, out: Tensor, batch: Any) -> Tensor:
        """Compute `[B]`: 1 if the class of an item's own head with the highest logit is the true one, else 0."""
        columns = self.column[batch.targets]
        return (self._of_own_head(out, columns).argmax(dim=1) == columns).float()

    def _of_own_head(self, out: Tensor, columns: Tensor) -> Tensor:
        """Logits `[B, K]` with -inf for heads other than an item's own, since its task is known."""
        if len(self.active) == 1:
            return out
        own = self.head_of_column == self.head_of_column[columns].unsqueeze(1)  # [B, K]
        return out.masked_fill(~own, -torch.inf)

    def install_readout(self, width: int, seed: int, targets: Literal["text", "indicators", "both"]) -> None:
        """Install an analytic readout; classes have no text, so its targets are indicators.

        Raises:
            UserError: targets are texts only.
        """
        if targets == "text":
            raise UserError("classes of objects have no text vectors: set method analytic's targets to indicators")
        self.classifier.install_analytic(width, seed)

    def indicators(self, batch: Any) -> Tensor:
        """`[B, K]`: 1 for the class of an item among the task's classes, else 0."""
        return (batch.targets.unsqueeze(1) == self.classes).float()

    def set_readout(self, weight: Tensor, classes: np.ndarray, levels: Sequence[float] = ()) -> None:
        """Answer by the analytic readout: weight `[M, K]` for these K labels."""
        self.classifier.set_readout(weight, torch.from_numpy(classes))
