"""The fact embedder as a learner, for the training loop and the methods."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from tripletcl import group
from tripletcl.data.facts import UNITS, Fact
from tripletcl.data.labels import PairLabels
from tripletcl.embedding.embedder import FactEmbedder, ScoredBy
from tripletcl.embedding.image import ImageBranch
from tripletcl.embedding.losses import contrastive, wildcard_cosine, wildcard_l2, wildcard_l2_root
from tripletcl.embedding.readout import AnalyticReadout
from tripletcl.embedding.trunk_learner import TaskLike, TrunkLearner

LossName = Literal["contrastive", "wildcard_l2", "wildcard_l2_root", "wildcard_cosine"]
DISTANCES = {"wildcard_l2": wildcard_l2, "wildcard_l2_root": wildcard_l2_root, "wildcard_cosine": wildcard_cosine}


class Vocabulary:
    """The distinct texts of each unit among some facts, and the texts of each fact.

    Args:
        facts: The F facts.
        others: Further facts whose texts are included.

    Attributes:
        texts: For each unit u its V_u distinct texts.
        ids: `[F + others, 3]` int64, the position of each fact's unit in texts; -1 where the fact lacks the unit.
    """

    def __init__(self, facts: Sequence[Fact], others: Sequence[Fact] = ()) -> None:
        units = range(len(UNITS))
        known = (*facts, *others)
        self.texts = [list(dict.fromkeys(t for f in known if (t := f.units[u]) is not None)) for u in units]
        places = [{None: -1} | {text: place for place, text in enumerate(texts)} for texts in self.texts]
        ids = [[places[u][fact.units[u]] for u in units] for fact in known]
        self.ids = torch.tensor(ids, dtype=torch.int64).reshape(len(known), len(UNITS))

    def shown(self, targets: Tensor, unit: int) -> Tensor:
        """Find the texts of a unit that images show by any of their facts: `[B, F]` bool to `[B, V_u]` bool.

        `[B, F + others]` includes the further facts.
        """
        image, fact = targets.nonzero(as_tuple=True)
        shown = torch.zeros(len(targets), len(self.texts[unit]) + 1, dtype=torch.bool, device=targets.device)
        shown[image, self.ids[fact, unit]] = True  # the last column collects the facts that lack the unit
        return shown[:, :-1]


class FactLearner(TrunkLearner):
    """An embedder, the facts of a sequence, and a loss.

    A training item is an image with all the facts of the task that it shows (targets `[B, K]` bool over the task's K
    facts): the image is embedded once, and the loss is the mean over its (image, fact) rows.

    Args:
        embedder: The shared visual-language embedding.
        facts: All facts of the sequence; a task's `classes` are positions in it.
        loss: "contrastive", or one of DISTANCES.
        temperature: Temperature of the contrastive softmax.
        negatives: The candidates of the softmax: "task", the units of the task's facts, or "seen", those of earlier
            tasks as well. A task of one fact has no other candidates, so it always uses "seen". Only names of earlier
            tasks are used: no old image is kept in either case.
        learn_temperature: Train it (as a logarithm).
        from_features: The inputs are features of the frozen trunk, not images.
        labels: Of the training images, by the ids of items, and the facts: in the softmax, a text that an image shows
            by a fact of which that is not known is no negative. None if every pair is known.
    """

    def __init__(
        self,
        embedder: FactEmbedder,
        facts: Sequence[Fact],
        *,
        loss: LossName = "contrastive",
        temperature: float = 0.05,
        negatives: Literal["task", "seen"] = "task",
        learn_temperature: bool = False,
        from_features: bool = False,
        labels: PairLabels | None = None,
    ) -> None:
        super().__init__(from_features)
        self.embedder = embedder
        self.facts = tuple(facts)
        self.loss_name, self.negatives, self.labels = loss, negatives, labels
        self.vocabulary_facts: np.ndarray = np.empty(0, np.int64)
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)), requires_grad=learn_temperature)
        self.vocabulary = Vocabulary(())
        self.encoded: list[Tensor] = []
        self.by_vectors = False

    @property
    def network(self) -> ImageBranch:
        """The embedder's image branch."""
        return self.embedder.image

    @property
    def analytic(self) -> AnalyticReadout | None:
        """The image branch's analytic readout."""
        return self.embedder.image.analytic

    @property
    def protected(self) -> nn.Module:
        """The embedder; a learned temperature belongs to the loss, not to the learned function."""
        return self.embedder

    def readout(self, representation: Tensor) -> Tensor:
        """Map a representation `[B, C]` to un-normalised unit vectors `[B, 3, D]`."""
        return self.embedder.image.readout(representation)

    def answers(self, representation: Tensor, out: Tensor) -> tuple[Tensor]:
        """The outputs for the facts of earlier tasks: the same unit vectors."""
        return (out,)

    def begin_task(self, task: TaskLike) -> None:
        """Encode the texts of the task's facts and, as negatives, perhaps those of earlier tasks."""
        others = task.earlier_classes if self.negatives == "seen" or len(task.classes) == 1 else ()
        self.vocabulary_facts = np.concatenate([task.classes, np.asarray(others, dtype=np.int64)])
        self.vocabulary = Vocabulary([self.facts[i] for i in task.classes], [self.facts[i] for i in others])
        prompt = self.embedder.spec.prompt
        self.encoded = [
            self.embedder.text.encode([prompt(text, unit) for text in texts])
            for unit, texts in enumerate(self.vocabulary.texts)
        ]
        self.vocabulary.ids = self.vocabulary.ids.to(self.log_temperature.device)

    def loss(self, out: Tensor, batch: Any) -> Tensor:
        """Compute the mean over the batch's (image, fact) rows; `batch.targets` is `[B, K]` bool."""
        image, fact = batch.targets.nonzero(as_tuple=True)
        out, ids = out[image], self.vocabulary.ids[fact]  # [R, 3, D], [R, 3]
        vectors = [self.embedder.text.project(encoded) for encoded in self.encoded]
        if self.loss_name == "contrastive":
            shown = self._possibly_shown(batch)
            truth = [self.vocabulary.shown(shown, unit)[image] for unit in range(len(UNITS))]  # [R, V_u]
            return contrastive(out, ids, vectors, self.log_temperature.exp(), truth)
        targets = torch.stack(
            [v[ids[:, u].clamp(min=0)] if len(v) else torch.zeros_like(out[:, u]) for u, v in enumerate(vectors)], dim=1
        )
        return DISTANCES[self.loss_name](out, targets, ids >= 0)

    def _possibly_shown(self, batch: Any) -> Tensor:
        """The facts that images show, or of which that is not known: `[B, K]` bool, with `labels` `[B, K + others]`."""
        if self.labels is None:
            return batch.targets
        unknown = torch.from_numpy(self.labels.unknown(batch.items, self.vocabulary_facts)).to(batch.targets.device)
        unknown[:, : batch.targets.shape[1]] |= batch.targets
        return unknown

    def install_readout(self, width: int, seed: int, targets: ScoredBy) -> None:
        """Install an analytic readout of `width` random features; the heads answer until `set_readout`."""
        self.embedder.install_analytic(width, seed, targets)

    def indicators(self, batch: Any) -> Tensor:
        """`[B, K]`: the task's facts that an image shows, each with an equal share of the weight 1."""
        targets = batch.targets.float()
        return targets / targets.sum(dim=1, keepdim=True)

    def read_by_vectors(self) -> bool:
        """Read facts by their text vectors from now on."""
        self.embedder.score_by_text()
        self.by_vectors = True
        return True

    def class_vectors(self, classes: np.ndarray, fit: bool = False) -> Tensor:
        """`[K, 3 * D]` the unit vectors of facts; `fit` whitens by their texts, for all facts from then on."""
        facts = [self.facts[i] for i in classes]
        if fit:
            self.embedder.whiten(facts)
        return self.embedder.taught_vectors(facts).flatten(1)

    def set_readout(self, weight: Tensor, classes: np.ndarray, levels: Sequence[float] = ()) -> None:
        """Answer by the analytic readout: weight `[M, K]` for these K facts, `[M, 3 * D]` if read by their vectors."""
        facts = [self.facts[i] for i in classes]
        if self.by_vectors:
            self.embedder.set_vector_readout(weight, facts)
        else:
            self.embedder.set_readout(weight, facts, levels)

    @torch.no_grad()
    def score(self, out: Tensor, batch: Any) -> Tensor:
        """Compute `[B]` in [0, 1]: the share of an image's true units whose vector is the nearest among the task's.

        If an image shows several texts of a unit (by several facts), the nearest may be any of them.
        """
        hits, units = torch.zeros(len(out), device=out.device), torch.zeros(len(out), device=out.device)  # [B]
        for unit, encoded in enumerate(self.encoded):
            true = self.vocabulary.shown(batch.targets, unit)  # [B, V_u]
            if not true.any():
                continue
            vectors = torch.nn.functional.normalize(self.embedder.text.project(encoded), dim=-1)
            nearest = (out[:, unit] @ vectors.T).argmax(dim=1)
            hits += true.gather(1, nearest[:, None])[:, 0]
            units += true.any(dim=1)
        return hits / units.clamp(min=1)

    def functions(
        self, task: TaskLike, inputs: Callable[[np.ndarray], Iterator[Tensor]]
    ) -> Iterable[tuple[Callable[[Tensor], Tensor], Iterable[Tensor]]]:
        """Yield the image branch with the task's images, and a trained text projection with the task's unit texts."""
        yield from super().functions(task, inputs)
        projection = self.embedder.text.projection
        if projection is not None and projection.weight.requires_grad and self.encoded:
            # By one process only, the last: what it draws for the texts comes after what is drawn for all images.
            yield projection, [torch.cat(self.encoded)] if group.rank() == group.size() - 1 else []
