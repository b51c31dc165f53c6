"""What a model knows before it is taught, and keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import forget_array, save_checkpoint
from torch import Tensor
from torch.nn import functional as F

from tripletcl.data.facts import Fact
from tripletcl.embedding import EmbedderSpec, FactEmbedder, TextEmbedder, build_embedder, text_base
from tripletcl.embedding.base import ImageBase, Shape, base_shape, start_image_base
from tripletcl.embedding.text_base import BREADTH, IMAGE_SHARE, SHARPNESS, TEMPERATURE, TEXT_SHARE
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
        arrays = encoded.numpy(), self.descriptions.numpy(), own.numpy(), described.numpy()
        return torch.from_numpy(text_base.seen(*arrays)).float()

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
