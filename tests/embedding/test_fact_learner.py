from __future__ import annotations

from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tripletcl.data import Fact
from tripletcl.data.labels import NOT_SHOWN, SHOWN, UNKNOWN, PairLabels
from tripletcl.embedding.fact_learner import FactLearner, Vocabulary
from tripletcl.embedding.spec import EmbedderSpec
from tripletcl.embedding.text import TextBranch
from tripletcl.mas import importance

FACTS = (
    Fact("dog"),
    Fact("dog", "running"),
    Fact("cat", "holding", "ball"),
    Fact("dog", "holding", "kite"),
    Fact("cat"),
)
WIDTH = 5


class Letters:
    """A text encoder that needs no model."""

    width = 7

    def encode(self, texts: list[str]) -> Tensor:
        vectors = [torch.randn(7, generator=torch.Generator().manual_seed(sum(map(ord, t)))) for t in texts]
        return torch.stack(vectors) if vectors else torch.zeros(0, 7)


class TinyImages(nn.Module):
    """Stands for the image branch: the inputs are `[B, 4]`."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3 * WIDTH)

    def features(self, images: Tensor) -> Tensor:
        return images

    def represent(self, features: Tensor) -> Tensor:
        return features

    def readout(self, representation: Tensor) -> Tensor:
        return self.layer(representation).unflatten(1, (3, WIDTH))


class TinyEmbedder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spec = EmbedderSpec()
        self.image, self.text = TinyImages(), TextBranch(Letters(), projection=WIDTH)


def learner_and_batch(loss: str) -> tuple[FactLearner, SimpleNamespace, SimpleNamespace]:
    torch.manual_seed(0)
    learner = FactLearner(TinyEmbedder(), FACTS, loss=loss, temperature=0.3)
    task = SimpleNamespace(
        classes=np.array([0, 1, 2, 3]), earlier_classes=np.array([], int), importance_items=np.arange(6)
    )
    learner.begin_task(task)
    targets = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 1], [0, 0, 1, 0], [0, 0, 1, 1], [0, 1, 0, 0], [1, 0, 0, 0]]).bool()
    return learner, task, SimpleNamespace(inputs=torch.randn(6, 4), targets=targets)


def written_out(learner: FactLearner, out: Tensor, targets: Tensor, name: str, unknown: Tensor | None = None) -> Tensor:
    """Loop over (image, fact) rows and units, as the definition says."""
    possible = targets if unknown is None else targets | unknown
    rows, total = targets.nonzero().tolist(), torch.zeros(())
    known = FACTS[:4]
    for image, fact in rows:
        facts_shown = [known[k] for k in possible[image].nonzero().flatten().tolist()]
        for u in range(3):
            text = known[fact].units[u]
            if text is None:
                continue
            target = learner.embedder.text([text])[0]
            if name == "wildcard_cosine":
                total = total + 1 - nn.functional.cosine_similarity(out[image, u], target, dim=0)
                continue
            if name != "contrastive":
                distance = (out[image, u] - target).norm()
                total = total + (distance.square() if name == "wildcard_l2" else distance)
                continue
            also_true = {f.units[u] for f in facts_shown} - {text}
            rivals = [t for t in dict.fromkeys(f.units[u] for f in known) if t is not None and t not in also_true]
            vectors = learner.embedder.text(rivals)
            cosines = nn.functional.cosine_similarity(out[image, u][None], vectors) / 0.3
            total = total - torch.log_softmax(cosines, 0)[rivals.index(text)]
    return total / len(rows)


@pytest.mark.parametrize("name", ["contrastive", "wildcard_l2", "wildcard_l2_root", "wildcard_cosine"])
def test_loss_and_gradient_equal_the_definition(name: str) -> None:
    learner, _, batch = learner_and_batch(name)
    parameters = list(learner.embedder.parameters())
    fast = learner.loss(learner(batch.inputs), batch)
    slow = written_out(learner, learner(batch.inputs), batch.targets, name)
    torch.testing.assert_close(fast, slow)
    for left, right in zip(torch.autograd.grad(fast, parameters), torch.autograd.grad(slow, parameters), strict=True):
        torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-4)


def test_a_fact_that_is_not_known_is_no_negative() -> None:
    learner, task, batch = learner_and_batch("contrastive")
    batch.items = np.array([7, 3, 5, 1, 0, 2])
    rows = np.array([[7, 2], [3, 2], [5, 0], [5, 1], [1, 0], [2, 3]])
    labels = np.array([UNKNOWN, NOT_SHOWN, UNKNOWN, SHOWN, NOT_SHOWN, UNKNOWN], dtype=np.int8)
    plain = learner.loss(learner(batch.inputs), batch)
    learner.labels = PairLabels(rows, labels, (9, len(FACTS)))
    assert learner.labels.verified.tolist() == [True, False, True, False, False]
    unknown = torch.zeros(6, 4, dtype=torch.bool)
    for place, item in enumerate(batch.items.tolist()):
        for fact in range(4):
            own = {label for row, label in zip(rows.tolist(), labels.tolist(), strict=True) if row == [item, fact]}
            unknown[place, fact] = UNKNOWN in own or (not own and fact in (0, 2))
    loss = learner.loss(learner(batch.inputs), batch)
    torch.testing.assert_close(loss, written_out(learner, learner(batch.inputs), batch.targets, "contrastive", unknown))
    assert loss < plain
    learner.negatives, others = "seen", SimpleNamespace(classes=task.classes[:3], earlier_classes=np.array([3]))
    learner.begin_task(others)
    batch.targets = batch.targets[:, :3] | ~batch.targets[:, :3].any(dim=1, keepdim=True)
    learner.loss(learner(batch.inputs), batch).backward()  # facts of earlier tasks have labels, too


def test_one_output_answers_the_facts_of_all_tasks() -> None:
    learner = FactLearner(TinyEmbedder(), FACTS)
    representation, out = torch.zeros(2, 4), torch.zeros(2, 3, 5)
    assert learner.answers(representation, out)[0] is out
    assert len(learner.answers(representation, out)) == 1


def test_units_that_no_fact_has_get_no_gradient() -> None:
    learner, _, batch = learner_and_batch("contrastive")
    learner.begin_task(SimpleNamespace(classes=np.array([0, 4]), earlier_classes=np.array([], int)))
    batch.targets = torch.tensor([[True, False], [False, True]] * 3)
    out = learner(batch.inputs).requires_grad_()
    (gradient,) = torch.autograd.grad(learner.loss(out, batch), out)
    assert gradient[:, 0].abs().sum() > 0
    assert torch.equal(gradient[:, 1:], torch.zeros_like(gradient[:, 1:]))


def test_a_learned_temperature_is_trained_but_is_not_protected() -> None:
    learner, task, batch = learner_and_batch("contrastive")
    learner.log_temperature.requires_grad_(True)
    learner.loss(learner(batch.inputs), batch).backward()
    assert learner.log_temperature.grad != 0
    (image, batches), (text, units) = learner.functions(task, lambda items: iter([batch.inputs[items]]))
    omega = importance(learner.protected, batches, forward=image)
    assert set(omega) == {name for name, _ in learner.protected.named_parameters()}
    assert omega["image.layer.weight"].abs().sum() > 0
    assert importance(learner.protected, units, forward=text)["text.projection.weight"].abs().sum() > 0


def test_seen_negatives_add_the_names_of_earlier_tasks() -> None:
    learner, _, batch = learner_and_batch("contrastive")
    batch.targets = torch.tensor([[True, False], [False, True]] * 3)

    def loss(classes: list[int], seen: list[int]) -> torch.Tensor:
        learner.begin_task(SimpleNamespace(classes=np.array(classes), earlier_classes=np.array(seen, int)))
        return learner.loss(learner(batch.inputs), batch)

    assert loss([0, 3], [2]) == loss([0, 3], [])
    learner.negatives = "seen"
    assert loss([0, 3], [2]) > loss([0, 3], [])


@pytest.mark.parametrize("negatives", ["task", "seen"])
def test_a_task_of_one_fact_uses_the_units_seen_as_negatives(negatives: Literal["task", "seen"]) -> None:
    learner, _, batch = learner_and_batch("contrastive")
    learner.negatives = negatives
    batch.targets = torch.ones(6, 1, dtype=torch.bool)
    learner.begin_task(SimpleNamespace(classes=np.array([0]), earlier_classes=np.array([], int)))
    assert learner.loss(learner(batch.inputs), batch) == 0, "a softmax over dog only has nothing to learn"
    learner.begin_task(SimpleNamespace(classes=np.array([0]), earlier_classes=np.array([2])))
    out = learner(batch.inputs)
    cosines = nn.functional.cosine_similarity(out[:, :1], learner.embedder.text(["dog", "cat"])[None], dim=-1) / 0.3
    torch.testing.assert_close(learner.loss(out, batch), -torch.log_softmax(cosines, 1)[:, 0].mean())


def test_vocabulary() -> None:
    vocabulary = Vocabulary(FACTS)
    assert vocabulary.texts == [["dog", "cat"], ["running", "holding"], ["ball", "kite"]]
    assert vocabulary.ids.tolist() == [[0, -1, -1], [0, 0, -1], [1, 1, 0], [0, 1, 1], [1, -1, -1]]
    shown = [[False, False], [True, False], [False, True], [False, True], [False, False]]
    assert vocabulary.shown(torch.eye(5, dtype=torch.bool), 1).tolist() == shown
    assert Vocabulary(FACTS[:1], FACTS[2:3]).texts == [["dog", "cat"], ["holding"], ["ball"]]


def test_score_is_the_share_of_units_whose_vector_is_nearest() -> None:
    learner, _, batch = learner_and_batch("contrastive")
    out = learner(batch.inputs)
    vectors = [learner.embedder.text(texts) for texts in learner.vocabulary.texts]
    expected = []
    for n, row in enumerate(batch.targets):
        hits = []
        for unit, texts in enumerate(learner.vocabulary.texts):
            true = {FACTS[f].units[unit] for f in row.nonzero()[:, 0]} - {None}
            if true:
                cosines = nn.functional.cosine_similarity(out[n, unit], vectors[unit], dim=-1)
                hits.append(texts[int(cosines.argmax())] in true)
        expected.append(sum(hits) / len(hits))
    assert learner.score(out, batch).tolist() == pytest.approx(expected)
