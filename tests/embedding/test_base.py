"""What a model knows before it is taught, and keeps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import forget_array, save_checkpoint
from torch import Tensor
from torch.nn import functional as F

from tripletcl.data.facts import Fact
from tripletcl.embedding import EmbedderSpec, FactEmbedder, TextEmbedder, build_embedder, text_base, text_embedder
from tripletcl.embedding.base import ImageBase, Shape, base_shape, start_image_base
from tripletcl.embedding.text_base import BREADTH, IMAGE_SHARE, SHARPNESS, TEMPERATURE, TEXT_SHARE
from tripletcl.embedding.text_vectors import TextVectors
from tripletcl.errors import UserError


@dataclass
class Words:
    """The text side of a soft vocabulary, with tensors in and out."""

    descriptions: Tensor

    def __call__(self, encoded: Tensor) -> Tensor:
        return torch.from_numpy(text_base.base_blocks(encoded.numpy(), self.descriptions.numpy())).float()

    def familiarity(self, encoded: Tensor) -> Tensor:
        return torch.from_numpy(text_base.cosines_of(encoded.numpy(), self.descriptions.numpy()).max(axis=1))

    def seen(self, encoded: Tensor, own: Tensor, described: Tensor) -> Tensor:
        [cosines] = text_base.cosines_of(encoded.numpy(), self.descriptions.numpy())
        return torch.from_numpy(text_base.seen(cosines, own.numpy(), described.numpy())).float()

    @staticmethod
    def join(own: Tensor, taught: Tensor, known: Tensor) -> Tensor:
        return torch.from_numpy(text_base.join(own.numpy(), taught.numpy(), known.numpy())).float()


def soft_bases() -> tuple[ImageBase, Words]:
    generator = torch.Generator().manual_seed(0)
    image = ImageBase(6, Shape(4, soft=True))
    image.weight.copy_(torch.randn(4, 6, generator=generator))
    image.bias.copy_(torch.randn(4, generator=generator))
    return image, Words(F.normalize(torch.randn(4, 5, generator=generator), dim=1))


def test_a_soft_vocabulary_scores_by_the_bhattacharyya_coefficient() -> None:
    image, text = soft_bases()
    representation, encoded = torch.randn(3, 9), torch.randn(2, 5)  # the features come first, then pooled stages
    scores = image(representation) @ text(encoded).T
    for photo in range(3):
        logits = [sum(w * x for w, x in zip(row, representation[photo], strict=False)) for row in image.weight]
        outputs = [math.exp((float(x) + float(b)) / TEMPERATURE) for x, b in zip(logits, image.bias, strict=True)]
        for word in range(2):
            cosines = [float(F.cosine_similarity(encoded[word], each, dim=0)) for each in text.descriptions]
            weights = [math.exp(SHARPNESS * cosine) for cosine in cosines]
            pairs = zip(outputs, weights, strict=True)
            expected = sum(math.sqrt(p / sum(outputs) * w / sum(weights)) for p, w in pairs)
            assert float(scores[photo, word]) == pytest.approx(expected, abs=1e-5)


def test_what_a_text_means_is_seen_by_the_posteriors_of_its_classes_at_temperature_1() -> None:
    image, text = soft_bases()
    representation, encoded = torch.randn(3, 6), torch.randn(1, 5)
    posteriors = torch.nn.functional.linear(representation, image.weight, image.bias).softmax(1)
    cosines = F.cosine_similarity(encoded, text.descriptions)
    expected = (posteriors * (BREADTH * (cosines - cosines.max())).exp()).sum(1)
    none = torch.zeros(4, dtype=torch.bool)
    torch.testing.assert_close(text.seen(encoded, 0.3 * image(representation), none), expected)
    described = torch.tensor([False, True, False, True])  # these count whole
    whole = (posteriors * (BREADTH * (cosines - cosines.max())).exp().masked_fill(described, 1)).sum(1)
    torch.testing.assert_close(text.seen(encoded, 0.3 * image(representation), described), whole)
    assert float(text.familiarity(encoded)[0]) == pytest.approx(float(cosines.max()))


def test_whole_vectors_have_length_1_and_their_product_is_the_sum_of_both_blocks() -> None:
    image, text = soft_bases()
    representation, encoded = torch.randn(3, 6), torch.randn(2, 5)
    outputs = torch.randn(3, 3, 7) * torch.tensor([0.01, 0.1, 1.0])[:, None, None]  # the last ones are cut to 1
    taught = F.normalize(torch.randn(2, 7), dim=1)
    photos = image.join(representation, outputs)
    words = text.join(text(encoded), taught, torch.tensor([True, False]))
    torch.testing.assert_close(photos.norm(dim=2), torch.ones(3, 3))
    torch.testing.assert_close(words.norm(dim=1), torch.ones(2))
    by_base = (image(representation) @ text(encoded).T)[:, None]  # [N, 1, n]
    by_lessons = F.normalize(outputs, dim=2) * outputs.norm(dim=2, keepdim=True).clamp(max=1) @ taught.T  # [N, U, n]
    both = (IMAGE_SHARE * TEXT_SHARE) ** 0.5 * by_base + ((1 - IMAGE_SHARE) * (1 - TEXT_SHARE)) ** 0.5 * by_lessons
    torch.testing.assert_close((photos @ words.T)[..., 0], both[..., 0])
    torch.testing.assert_close((photos @ words.T)[..., 1], IMAGE_SHARE**0.5 * by_base[..., 1].expand(-1, 3))


def test_the_classifier_of_the_network_is_read_from_its_installed_weights() -> None:
    spec = EmbedderSpec(base="classes", image_size=64, freeze_until="all")
    image = ImageBase(1280, Shape(1000, soft=True))
    start_image_base(spec, image, torch.nn.ModuleList())
    assert image.weight.abs().max() > 0
    assert image.bias.abs().max() > 0
    assert base_shape(spec) == Shape(1000, soft=True)
    assert base_shape(EmbedderSpec()) is None


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> EmbedderSpec:
    folder = tmp_path_factory.mktemp("pair")
    save_checkpoint("clip", folder)
    return EmbedderSpec(pair=str(folder), base="pair", image_size=32, freeze_until="all")


def photos(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, 3, 32, 32), np.uint8)


def test_before_any_lesson_a_pair_answers_by_its_own_space_and_stays_so_for_what_is_not_taught(
    pair: EmbedderSpec, tmp_path: Path
) -> None:
    plain = build_embedder(EmbedderSpec(pair=pair.pair, image_size=32, freeze_until="all"), seed=0).eval()
    embedder = build_embedder(pair, seed=0).eval()
    representation = embedder.represent_images(list(photos(5)))
    cosines = plain.vectors_of(plain.represent_images(list(photos(5)))) @ plain.encode_units(["dog", "cat"]).T
    scores = embedder.vectors_of(representation) @ embedder.encode_units(["dog", "cat"]).T
    torch.testing.assert_close(scores, IMAGE_SHARE**0.5 * cosines)
    embedder.install_analytic(16, 0, "text")
    embedder.set_readout(torch.rand(16, 2), [Fact("dog"), Fact("person", "riding", "horse")])
    after = embedder.vectors_of(representation) @ embedder.encode_units(["dog", "cat"]).T
    torch.testing.assert_close(after[..., 1], scores[..., 1])
    assert not torch.allclose(after[..., 0], scores[..., 0])
    embedder.save_pretrained(tmp_path)
    loaded = FactEmbedder.from_pretrained(tmp_path)
    assert torch.equal(loaded.vectors_of(representation), embedder.vectors_of(representation))
    assert torch.equal(loaded.encode_units(["dog", "cat"]), embedder.encode_units(["dog", "cat"]))
    assert loaded.trunk_fingerprint() == embedder.trunk_fingerprint()


class Letters:
    """Encodes a text by the number of each of its letters."""

    width = 26

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return np.array([[text.count(chr(97 + letter)) + 0.1 for letter in range(26)] for text in texts], np.float32)


def text_side() -> TextEmbedder:
    """A base of three classes, of which two facts were taught."""
    known = ["dog, hound: an animal", "kite: a toy", "bird: an animal that flies"]
    encoded = text_base.unit_length(Letters().encode(known).astype(float))
    weights = {"centre": np.zeros(26, np.float32), "base.descriptions": encoded, "base.names": encoded[:2] ** 2}
    facts = [Fact("dog", "running"), Fact("person", "riding", "horse")]
    return TextEmbedder(EmbedderSpec(base="classes"), weights, TextVectors(Letters()), facts, known, [0.3, 0.4])


def test_what_is_asked_again_is_remembered_and_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The slow twin is an embedder that nobody has asked anything."""
    monkeypatch.setattr(text_embedder, "LATEST", 3)
    embedder, seen = text_side(), np.random.default_rng(0).random((4, 3), np.float32)
    words = ["dog", "person", "a kite", "rider", "dogs running", "animal"]
    for word in [*words, *words[::-1], *words]:
        for units in ((word, None, None), (None, word, None), ("dog", "running", word), (word, "riding", "horse")):
            fresh = text_side()
            np.testing.assert_array_equal(embedder.encode_queries([units]), fresh.encode_queries([list(units)]))
            np.testing.assert_array_equal(embedder.encode_levelled(units), fresh.encode_levelled(units))
            assert embedder.also_asked(units) == fresh.also_asked(units)
        for unit in (None, 0, 1):
            assert embedder.familiarity(word, unit) == text_side().familiarity(word, unit)
            assert embedder.nearest_of_base(word, unit) == text_side().nearest_of_base(word, unit)
            again = embedder.seen_by_base(word, seen, unit)
            np.testing.assert_array_equal(again, text_side().seen_by_base(word, seen, unit))


def test_one_answer_computes_what_a_word_means_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[int] = []
    compare = text_base.cosines_of
    monkeypatch.setattr(text_base, "cosines_of", lambda *arrays: compared.append(1) or compare(*arrays))
    embedder = text_side()
    for _ in range(2):
        embedder.encode_queries([("bird", None, None)])
        embedder.also_asked(["bird", None, None])
        embedder.familiarity("bird", 0)
        embedder.nearest_of_base("bird", 0)
        embedder.seen_by_base("bird", np.ones((2, 3), np.float32), 0)
    assert len(compared) == 3  # its base block, the names near it, and the classes


def test_what_has_no_base_is_one_sentence(pair: EmbedderSpec) -> None:
    with pytest.raises(UserError, match=r"there is no model\.pair"):
        base_shape(EmbedderSpec(base="pair"))
    with pytest.raises(UserError, match=r"no classifier of torchvision/resnet18 is installed"):
        base_shape(EmbedderSpec(base="classes", backbone="torchvision/resnet18"))


@pytest.mark.parametrize("side", [TextEmbedder, FactEmbedder])
def test_a_model_of_another_version_is_one_sentence_with_the_command_that_makes_it_anew(
    pair: EmbedderSpec, tmp_path: Path, side: type[TextEmbedder | FactEmbedder]
) -> None:
    stage = tmp_path / "run/stages/stage-00"
    build_embedder(pair, seed=0).save_pretrained(stage)
    side.from_pretrained(stage)
    forget_array(stage, "text.base.names")
    expected = (
        f"{tmp_path}/run was made by another version of tripletcl: model.safetensors does not fit embedder.json (it "
        "lacks text.base.names); make it anew with tripletcl photos FOLDER --out NEW"
    )
    with pytest.raises(UserError) as refused:
        side.from_pretrained(stage)
    assert str(refused.value) == expected


@pytest.mark.parametrize("side", [TextEmbedder, FactEmbedder])
def test_arrays_of_other_shapes_are_named(tmp_path: Path, side: type[TextEmbedder | FactEmbedder]) -> None:
    """Those of a base whose classes the description does not name."""
    spec = EmbedderSpec(base="classes", image_size=64, freeze_until="all", weights="none")
    build_embedder(spec, seed=0).save_pretrained(tmp_path)
    reason = r"text\.base\.names is \[1000, 384\], not \[0, 384\]"
    if side is FactEmbedder:
        forget_array(tmp_path, "image.base.weight")
        reason = r"it lacks image\.base\.weight"
    with pytest.raises(UserError, match=rf"^{tmp_path} was made by another version .*\({reason}\); make it anew"):
        side.from_pretrained(tmp_path)
