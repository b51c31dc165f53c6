"""The classifier of objects: heads with classes of their own, saved and loaded unchanged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tripletcl.embedding.classifier import Classifier, build_classifier
from tripletcl.embedding.spec import ClassifierSpec
from tripletcl.errors import UserError

SPEC = ClassifierSpec(backbone="mlp/64-10-6", weights="none", image_size=8)
HEADS = {"letters": ("a", "b", "c"), "digits": ("1", "2")}


@pytest.fixture
def classifier() -> Classifier:
    return build_classifier(SPEC, HEADS, seed=3).eval()


def representation(classifier: Classifier, count: int = 4) -> torch.Tensor:
    images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return classifier.trunk.represent(classifier.trunk.features(images))


def test_labels_are_numbered_through_the_heads(classifier: Classifier) -> None:
    assert classifier.classes == 5
    assert classifier.starts == [0, 3]
    rows = representation(classifier)
    both = classifier.logits(rows, [0, 1])
    assert both.shape == (4, 5)
    for head, columns in enumerate((slice(0, 3), slice(3, 5))):
        by_hand = rows @ classifier.layers[head].weight.T + classifier.layers[head].bias
        assert torch.allclose(classifier.logits(rows, [head]), by_hand)
        assert torch.equal(both[:, columns], classifier.logits(rows, [head]))


def test_it_depends_on_the_seed_only() -> None:
    before = torch.get_rng_state()
    one, two, other = (build_classifier(SPEC, HEADS, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["layers.0.weight"], other["layers.0.weight"])


def test_a_readout_answers_for_the_labels_it_has(classifier: Classifier) -> None:
    rows = representation(classifier)
    plain = classifier.logits(rows, [1])
    classifier.install_analytic(16, seed=0)
    assert torch.equal(classifier.logits(rows, [1]), plain)  # it has no classes yet
    weight = torch.randn(16, 2, generator=torch.Generator().manual_seed(1))
    classifier.set_readout(weight, torch.tensor([3, 0]))
    assert classifier.analytic is not None
    scores = classifier.analytic.expand(rows) @ weight
    assert torch.allclose(classifier.logits(rows, [1])[:, 0], scores[:, 0], atol=1e-6)
    assert torch.allclose(classifier.logits(rows, [0])[:, 0], scores[:, 1], atol=1e-6)
    assert not classifier.logits(rows, [1])[:, 1].any()  # a label that it was not taught


@pytest.mark.parametrize("analytic", [False, True])
def test_saved_and_loaded(classifier: Classifier, tmp_path: Path, analytic: bool) -> None:
    if analytic:
        classifier.install_analytic(16, seed=0)
        classifier.set_readout(torch.randn(16, 5), torch.arange(5))
    classifier.save_pretrained(tmp_path)
    loaded = Classifier.from_pretrained(tmp_path)
    assert loaded.heads == classifier.heads
    assert loaded.spec == classifier.spec
    assert loaded.fingerprint() == classifier.fingerprint()
    rows = representation(classifier)
    assert torch.equal(loaded.logits(rows, [0, 1]), classifier.logits(rows, [0, 1]))
    assert not list(tmp_path.glob("*.p*"))  # no pickle


def test_damaged_and_missing_files(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no classifier: it has no classifier\.json"):
        Classifier.from_pretrained(tmp_path)
    classifier.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        Classifier.from_pretrained(tmp_path)


def test_predictions_are_the_softmax_of_a_head(classifier: Classifier) -> None:
    images = [np.full((8, 8), grey, np.uint8) for grey in (0, 128, 255)]
    predictions = classifier.predict(images, "digits")
    pixels = torch.from_numpy(np.stack(images)).float().div(255).unsqueeze(1)
    by_hand = classifier.logits(classifier.trunk.represent(classifier.trunk.features(pixels)), [1]).softmax(1)
    for prediction, row in zip(predictions, by_hand, strict=True):
        assert prediction.label == HEADS["digits"][int(row.argmax())]
        assert prediction.probability == pytest.approx(row.max().item(), abs=1e-5)
        assert sum(prediction.probabilities.values()) == pytest.approx(1, abs=1e-5)
    with pytest.raises(UserError, match="name the head to use: letters, digits"):
        classifier.predict(images)
    with pytest.raises(UserError, match="there is no head 'birds'"):
        classifier.predict(images, "birds")


def test_a_broken_photo_leaves_the_mode_as_it_was(classifier: Classifier, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    for mode in (True, False):
        classifier.train(mode)
        with pytest.raises(UserError, match=r"broken\.jpg"):
            classifier.predict([tmp_path / "broken.jpg"], "digits")
        assert classifier.training == mode


@pytest.mark.parametrize("name", ["mlp/784", "mlp/784-", "mlp/a-b", "mlp/784-0"])
def test_a_wrong_perceptron_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="mlp/784-256-256"):
        build_classifier(ClassifierSpec(backbone=name, weights="none"), HEADS, seed=0)


def test_a_perceptron_has_no_weights_to_load() -> None:
    with pytest.raises(UserError, match=r"set model\.weights to .none."):
        build_classifier(ClassifierSpec(backbone="mlp/784-256"), HEADS, seed=0)
