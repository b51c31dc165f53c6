"""The classifier of objects as a learner: what the training loop and the methods see of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tripletcl.embedding.classifier import Classifier
from tripletcl.embedding.fact_learner import TaskLike
from tripletcl.errors import UserError


class ObjectLearner(nn.Module):
    """A classifier, and the cross entropy over the classes of an item's own head.

    Several heads: each task has its own and is known when one asks. The trunk alone is protected: no later task trains
    the head of an earlier one. One head for all tasks: all is shared, and all is protected.

    Args:
        classifier: The trunk with its heads.
        from_features: The inputs are features of the frozen trunk, not images.
    """

    def __init__(self, classifier: Classifier, *, from_features: bool = False) -> None:
        super().__init__()
        self.classifier, self.from_features = classifier, from_features
        head_of_label = [head for head, classes in enumerate(classifier.heads.values()) for _ in classes]
        self.head_of_label = np.array(head_of_label)
        self.playing: list[int] = []
        """The heads of the task at hand; joint training has several."""
        self.before: list[np.ndarray] = []
        """For each head that was taught before, its labels among those of the tasks before."""
        self.column, self.head_of_column = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.int64)
        self.classes = torch.empty(0, dtype=torch.int64)

    @property
    def protected(self) -> nn.Module:
        """What the tasks share."""
        return self.classifier if len(self.classifier.heads) == 1 else self.classifier.trunk

    def forward(self, inputs: Tensor) -> Tensor:
        """Images or features `[B, ...]` to the logits `[B, K]` of the heads in play."""
        return self.readout(self.represent(inputs))

    def represent(self, inputs: Tensor) -> Tensor:
        """Images or features `[B, ...]` to the representation `[B, C]` that the heads read."""
        trunk = self.classifier.trunk
        return trunk.represent(inputs if self.from_features else trunk.features(inputs))

    def readout(self, representation: Tensor) -> Tensor:
        """A representation `[B, C]` to the logits `[B, K]` of the heads in play."""
        return self.classifier.logits(representation, self.playing)

    def answers(self, representation: Tensor, out: Tensor) -> Sequence[Tensor]:
        """The logits of the labels that were taught before, one tensor `[B, K]` for each head that has some."""
        found = []
        for labels in self.before:
            head = int(self.head_of_label[labels[0]])
            columns = torch.from_numpy(labels - self.classifier.starts[head]).to(representation.device)
            found.append(self.classifier.logits(representation, [head])[:, columns])
        return found

    def trunk(self) -> Iterable[nn.Parameter]:
        """The parameters of `represent`."""
        return self.classifier.trunk.parameters()

    def begin_task(self, task: TaskLike) -> None:
        """Put the heads of the task's labels in play, and know those of the tasks before."""
        device, heads = self.classifier.device, self.head_of_label
        self.playing = np.unique(heads[task.classes]).tolist()
        seen = np.unique(task.seen)
        self.before = [seen[heads[seen] == head] for head in np.unique(heads[seen])] if len(seen) else []
        labels = np.flatnonzero(np.isin(heads, self.playing))
        column = np.full(len(heads), -1)
        column[labels] = np.arange(len(labels))
        self.column = torch.from_numpy(column).to(device)
        self.head_of_column = torch.from_numpy(heads[labels]).to(device)
        self.classes = torch.from_numpy(np.asarray(task.classes, dtype=np.int64)).to(device)

    def loss(self, out: Tensor, batch: Any) -> Tensor:
        """Mean cross entropy; `batch.targets` are labels `[B]`."""
        columns = self.column[batch.targets]
        return F.cross_entropy(self._of_own_head(out, columns), columns)

    @torch.no_grad()
    def score(self, out: Tensor, batch: Any) -> Tensor:
        """`[B]`, 1 where the class of an item's own head with the highest logit is the true one, else 0."""
        columns = self.column[batch.targets]
        return (self._of_own_head(out, columns).argmax(dim=1) == columns).float()

    def _of_own_head(self, out: Tensor, columns: Tensor) -> Tensor:
        """Logits `[B, K]` with those of other heads than an item's own taken out: its task is known."""
        if len(self.playing) == 1:
            return out
        own = self.head_of_column == self.head_of_column[columns].unsqueeze(1)
        return out.masked_fill(~own, -torch.inf)

    def install_readout(self, width: int, seed: int, targets: Literal["text", "indicators", "both"]) -> None:
        """Make room for an analytic read-out; classes have no text, so its targets are indicators.

        Raises:
            UserError: targets are texts alone.
        """
        if targets == "text":
            raise UserError("classes of objects have no text vectors: set method analytic's targets to indicators")
        self.classifier.install_analytic(width, seed)

    def expand(self, representation: Tensor) -> Tensor:
        """A representation `[B, C]` to its random features `[B, M]`."""
        assert self.classifier.analytic is not None
        return self.classifier.analytic.expand(representation)

    def indicators(self, batch: Any) -> Tensor:
        """`[B, K]`: which of the task's classes an item is of."""
        return (batch.targets.unsqueeze(1) == self.classes).float()

    def set_readout(self, weight: Tensor, classes: np.ndarray) -> None:
        """Answer by the analytic read-out: weight `[M, K]` for these K labels."""
        self.classifier.read_out(weight, torch.from_numpy(classes))

    def functions(
        self, task: TaskLike, inputs: Callable[[np.ndarray], Iterator[Tensor]]
    ) -> Iterable[tuple[Callable[[Tensor], Tensor], Iterable[Tensor]]]:
        """The logits of the heads in play on the task's images: those of the task that was just learned."""
        yield self.forward, inputs(task.importance_items)
