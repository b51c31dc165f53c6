"""The learner of objects: an item's own head answers, and only what the tasks share is protected."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tripletcl.continual import Batch, Task
from tripletcl.embedding.classifier import build_classifier
from tripletcl.embedding.object_learner import ObjectLearner
from tripletcl.embedding.spec import ClassifierSpec
from tripletcl.errors import UserError

SPEC = ClassifierSpec(backbone="mlp/64-10-6", weights="none", image_size=8)


def learner_of(heads: dict[str, tuple[str, ...]]) -> ObjectLearner:
    return ObjectLearner(build_classifier(SPEC, heads, seed=0)).eval()


def task_of(classes: list[int], seen: tuple[int, ...] = ()) -> Task:
    items = np.arange(4)
    return Task(
        "t", items, np.array(classes)[items % len(classes)], np.array(classes), earlier_classes=np.array(seen, np.int64)
    )


def batch_of(targets: list[int]) -> Batch:
    inputs = torch.rand(len(targets), 1, 8, 8, generator=torch.Generator().manual_seed(len(targets)))
    return Batch(inputs, torch.tensor(targets), np.arange(len(targets)))


MULTI = {"one": ("a", "b"), "two": ("c", "d", "e")}


def test_the_head_of_the_task_is_active() -> None:
    learner = learner_of(MULTI)
    learner.begin_task(task_of([2, 3, 4], seen=(0, 1)))
    batch = batch_of([2, 4, 3])
    out = learner(batch.inputs)
    rows = learner.represent(batch.inputs)
    assert torch.equal(out, learner.classifier.logits(rows, [1]))
    assert torch.allclose(learner.loss(out, batch), F.cross_entropy(out, torch.tensor([0, 2, 1])))
    assert torch.equal(learner.score(out, batch), (out.argmax(1) == torch.tensor([0, 2, 1])).float())
    (old,) = learner.answers(rows, learner.readout(rows))
    assert torch.equal(old, learner.classifier.logits(rows, [0]))


def test_several_heads_at_once_each_item_by_its_own() -> None:
    """Joint training: the loss is the mean over the items of the cross entropy over their own head's classes."""
    learner = learner_of(MULTI)
    learner.begin_task(task_of([0, 1, 2, 3, 4]))
    batch = batch_of([1, 4, 0, 2])
    out = learner(batch.inputs)
    rows = learner.represent(batch.inputs)
    one_by_one = []
    for row, label in zip(rows, batch.targets.tolist(), strict=True):
        head = int(label >= 2)
        logits = learner.classifier.logits(row[None], [head])
        one_by_one.append(F.cross_entropy(logits, torch.tensor([label - 2 * head])))
    assert torch.allclose(learner.loss(out, batch), torch.stack(one_by_one).mean())
    assert set(learner.score(out, batch).tolist()) <= {0.0, 1.0}
    assert learner.answers(rows, learner.readout(rows)) == []


def test_a_loss_reaches_no_other_head() -> None:
    learner = learner_of(MULTI)
    learner.begin_task(task_of([2, 3, 4], seen=(0, 1)))
    batch = batch_of([2, 3])
    learner.loss(learner(batch.inputs), batch).backward()
    assert learner.classifier.layers[0].weight.grad is None
    assert learner.classifier.layers[1].weight.grad is not None


def test_what_is_protected() -> None:
    assert not any(name.startswith("layers") for name, _ in learner_of(MULTI).protected.named_parameters())
    shared = learner_of({"all": ("0", "1", "2")})
    assert {id(p) for p in shared.protected.parameters()} == {id(p) for p in shared.parameters()}


def test_one_head_for_all_answers_for_the_classes_seen() -> None:
    learner = learner_of({"all": ("0", "1", "2", "3")})
    learner.begin_task(task_of([2, 3], seen=(0, 1)))
    batch = batch_of([3, 2])
    rows = learner.represent(batch.inputs)
    assert learner(batch.inputs).shape == (2, 4)  # it has to tell a digit from all
    (old,) = learner.answers(rows, learner.readout(rows))
    assert torch.equal(old, learner.classifier.logits(rows, [0])[:, :2])
    assert torch.equal(learner.indicators(batch), torch.tensor([[0.0, 1.0], [1.0, 0.0]]))


def test_a_readout_of_texts_is_refused() -> None:
    with pytest.raises(UserError, match="set method analytic's targets to indicators"):
        learner_of(MULTI).install_readout(8, 0, "text")
