"""The analytic readout inside the embedder: vectors, closed scores, saving."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from tripletcl.data.facts import Fact
from tripletcl.embedding import EmbedderSpec, FactEmbedder, build_embedder
from tripletcl.embedding.saving import digest
from tripletcl.embedding.text import TextBranch
from tripletcl.embedding.text_encoders import build_text_encoder
from tripletcl.errors import UserError
from tripletcl.files import sha256

SPEC = EmbedderSpec(image_size=64, freeze_until="head", pooled=("blocks2", "blocks5"))
FACTS = [Fact("dog"), Fact("person", "riding", "horse"), Fact("person", "lying"), Fact("cat", "holding", "ball")]
WIDTH = 40


@pytest.fixture
def images() -> Tensor:
    return torch.rand(12, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def analytic_embedder(scored_by: str = "both") -> FactEmbedder:
    embedder = build_embedder(SPEC, seed=0).eval()
    embedder.install_analytic(WIDTH, 3, scored_by)
    weight = torch.randn(WIDTH, len(FACTS), generator=torch.Generator().manual_seed(1))
    embedder.set_readout(weight, FACTS)
    return embedder


def test_the_heads_answer_until_it_has_classes(images: Tensor) -> None:
    plain, installed = build_embedder(SPEC, seed=0).eval(), build_embedder(SPEC, seed=0).eval()
    installed.install_analytic(WIDTH, 3, "both")
    assert torch.equal(plain.image(images), installed.image(images))
    assert torch.equal(plain.encode_facts(FACTS)[0], installed.encode_facts(FACTS)[0])


def test_means_of_pooled_stages_follow_the_last_features(images: Tensor) -> None:
    branch = build_embedder(SPEC, seed=0).image.eval()
    x, means = (images - branch.mean) / branch.std, []
    with torch.no_grad():
        for name, stage in branch.frozen.named_children():
            x = stage(x)
            if name in SPEC.pooled:
                means.append(x.mean(dim=(2, 3)))
    assert torch.allclose(branch.represent(branch.features(images)), torch.cat([x, *means], dim=1), atol=1e-4)
    open_spec = EmbedderSpec(image_size=64, pooled=SPEC.pooled)  # the same where nothing is frozen
    trained = build_embedder(open_spec, seed=0).image.eval()
    assert torch.allclose(trained.represent(trained.features(images)), torch.cat([x, *means], dim=1), atol=1e-4)


def test_vectors_are_the_ridge_regression_onto_the_facts_text_vectors(images: Tensor) -> None:
    """By linearity: solve for the facts' indicators and weight their vectors, or solve for the vectors at once."""
    embedder = build_embedder(SPEC, seed=0).eval()
    embedder.install_analytic(WIDTH, 3, "text")
    representation = embedder.image.represent(embedder.image.features(images))
    phi = embedder.image.analytic.expand(representation).double()
    indicators = torch.eye(4, dtype=torch.float64)[torch.arange(12) % 4]
    gram = phi.T @ phi + 0.1 * torch.eye(WIDTH, dtype=torch.float64)
    embedder.set_readout(torch.linalg.solve(gram, phi.T @ indicators), FACTS)
    targets = indicators @ embedder.encode_facts(FACTS)[0].double().flatten(1)  # [12, 3 * D]
    expected = phi @ torch.linalg.solve(gram, phi.T @ targets)
    assert torch.allclose(embedder.image.readout(representation).flatten(1).double(), expected, atol=1e-4)


def test_closed_scores_belong_to_the_facts_that_were_taught(images: Tensor) -> None:
    embedder = analytic_embedder()
    representation = embedder.image.represent(embedder.image.features(images))
    facts = [Fact("bird"), FACTS[2], FACTS[0]]
    vectors, closed = embedder.vectors_and_scores(representation, facts)
    scores = embedder.image.analytic.scores(representation)
    assert not closed[:, 0].any()
    assert torch.allclose(closed[:, 1] / closed[:, 2], scores[:, 2] / scores[:, 0])
    assert torch.allclose(vectors, embedder.vectors_of(representation), atol=1e-6)
    vectors, closed = analytic_embedder("text").vectors_and_scores(representation, facts)
    assert closed is None
    assert torch.allclose(vectors, analytic_embedder("text").vectors_of(representation), atol=1e-6)


def test_closed_scores_in_blocks_are_those_computed_at_once(images: Tensor) -> None:
    facts = [Fact("bird"), *FACTS[::-1], Fact("bird", "flying")]
    fresh = build_embedder(SPEC, seed=0).eval()
    fresh.install_analytic(WIDTH, 3, "both")
    for embedder in (analytic_embedder(), fresh):
        representation = embedder.represent_images(images.mul(255).byte().numpy())
        whole, blocks = (
            embedder.vectors_and_scores(representation, facts)[1],
            embedder.closed_scores(representation, facts),
        )
        assert torch.allclose(torch.cat([blocks[:4], blocks[4:]]).T, whole, atol=1e-5)
        some, photos = torch.tensor([5, 2, 0, 2]), torch.tensor([0, 11, 3, 3])
        assert torch.allclose(blocks[some, photos], whole[photos, some], atol=1e-5)
        assert torch.allclose(blocks.of(some)[:], whole[:, some].T, atol=1e-5)
    assert analytic_embedder("text").closed_scores(representation, facts) is None
    assert build_embedder(SPEC, seed=0).closed_scores(representation, facts) is None


def test_before_the_first_task_closed_scores_are_zero_and_without_a_readout_there_are_none(images: Tensor) -> None:
    plain, installed = build_embedder(SPEC, seed=0).eval(), build_embedder(SPEC, seed=0).eval()
    installed.install_analytic(WIDTH, 3, "both")
    representation = plain.image.represent(plain.image.features(images))
    for embedder in (plain, installed):
        vectors, closed = embedder.vectors_and_scores(representation, FACTS)
        assert torch.equal(vectors, plain.vectors_of(representation))
        assert closed is None if embedder is plain else torch.equal(closed, torch.zeros(12, 4))


def test_whitening_separates_texts_and_keeps_the_order_of_their_similarity() -> None:
    plain, white = build_embedder(SPEC, seed=0), analytic_embedder()
    texts = ["dog", "person", "riding", "horse", "lying", "cat", "holding", "ball"]
    before, after = (
        F.cosine_similarity(v[:, None], v[None], dim=-1)
        for v in map(FactEmbedder.encode_units, (plain, white), (texts, texts))
    )
    off = ~torch.eye(len(texts), dtype=torch.bool)
    assert after[off].abs().mean() < 0.6 * before[off].abs().mean()
    near, far = (white.encode_units(["puppy"]) @ white.encode_units(["dog", "ball"]).T)[0]
    assert near > far


def test_saved_and_loaded(images: Tensor, tmp_path: Path) -> None:
    embedder = analytic_embedder()
    embedder.save_pretrained(tmp_path)
    loaded = FactEmbedder.from_pretrained(tmp_path)
    assert loaded.spec == embedder.spec
    assert loaded.facts == tuple(FACTS)
    assert torch.equal(loaded.image(images), embedder.image(images))
    assert torch.equal(loaded.encode_units(["dog", "kite"]), embedder.encode_units(["dog", "kite"]))


def test_impossible_settings_are_refused() -> None:
    trained_map = build_embedder(EmbedderSpec(image_size=64, text_projection=True), seed=0)
    with pytest.raises(UserError, match="text_projection to false"):
        trained_map.install_analytic(WIDTH, 0, "both")
    with pytest.raises(UserError, match="set only one of them"):
        build_embedder(EmbedderSpec(whiten=True, text_projection=True), seed=0)
    with pytest.raises(UserError, match="pooled 'blocks2' is in the frozen part"):
        build_embedder(EmbedderSpec(freeze_until="blocks3", pooled=("blocks2",)), seed=0)
    with pytest.raises(UserError, match="does not fork"):
        build_embedder(EmbedderSpec(fork_at="blocks3", pooled=("blocks2",)), seed=0)
    with pytest.raises(UserError, match=r"pooled 'head' is not possible.*blocks6"):
        build_embedder(EmbedderSpec(pooled=("head",)), seed=0)


def other_numbers(*shape: int, generator: torch.Generator | None = None) -> Tensor:
    """A torch whose random stream differs: the numbers of `torch.randn` are not promised."""
    size = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    return torch.empty(size).uniform_(-1.7, 1.7, generator=generator)


def test_a_saved_model_answers_the_same_under_another_random_stream(
    images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = analytic_embedder()
    outputs, fingerprint = embedder.image(images), embedder.fingerprint()
    embedder.save_pretrained(tmp_path)
    monkeypatch.setattr(torch, "randn", other_numbers)
    loaded = FactEmbedder.from_pretrained(tmp_path)
    assert torch.equal(loaded.image(images), outputs)
    assert loaded.fingerprint() == fingerprint


def test_the_fingerprint_covers_the_random_layer() -> None:
    embedder = analytic_embedder()
    before = embedder.fingerprint()
    embedder.image.analytic.projection.mul_(2)
    assert embedder.fingerprint() != before


def test_the_random_layer_is_stored_in_half_precision_without_loss(images: Tensor) -> None:
    state = analytic_embedder().state_dict()
    assert state["image.analytic.projection"].dtype == torch.float16
    fresh = analytic_embedder().image.analytic
    assert torch.equal(fresh.projection, state["image.analytic.projection"].float())


def test_a_readout_that_has_not_been_used_stores_no_layer(tmp_path: Path) -> None:
    embedder = build_embedder(SPEC, seed=0).eval()
    embedder.install_analytic(WIDTH, 3, "both")
    embedder.save_pretrained(tmp_path)
    loaded = FactEmbedder.from_pretrained(tmp_path)
    assert loaded.image.analytic.projection is None
    representation = torch.rand(2, sum(embedder.image.part_widths()))
    assert torch.equal(loaded.image.analytic.expand(representation), embedder.image.analytic.expand(representation))


@pytest.fixture
def former(tmp_path: Path) -> tuple[Path, FactEmbedder]:
    """A model as tripletcl 0.1 saved it, without its random layer, and the same model with it."""
    embedder = analytic_embedder()
    analytic = embedder.image.analytic
    width = sum(analytic.parts)
    layer = torch.randn(width, WIDTH, generator=torch.Generator().manual_seed(3)) / len(analytic.parts) ** 0.5
    embedder.save_pretrained(tmp_path / "former")
    path, spec = tmp_path / "former" / "model.safetensors", tmp_path / "former" / "embedder.json"
    state = load_file(path)
    del state["image.analytic.projection"]
    save_file(state, path)
    about = json.loads(spec.read_text()) | {"weights_sha256": sha256(path), "fingerprint": digest(state)}
    del about["sha256"]  # files of 0.1 have none
    spec.write_text(json.dumps(about))
    analytic.projection = layer
    return tmp_path / "former", embedder


def test_a_model_of_0_1_is_loaded_with_the_layer_and_fingerprint_it_had(
    images: Tensor, former: tuple[Path, FactEmbedder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, embedder = former
    fingerprint = json.loads((folder / "embedder.json").read_text())["fingerprint"]
    loaded = FactEmbedder.from_pretrained(folder)
    assert torch.equal(loaded.image(images), embedder.image(images))
    assert loaded.fingerprint() == fingerprint
    loaded.save_pretrained(tmp_path / "again")
    monkeypatch.setattr(torch, "randn", other_numbers)
    again = FactEmbedder.from_pretrained(tmp_path / "again")
    assert torch.equal(again.image(images), embedder.image(images))
    assert again.fingerprint() == fingerprint


def test_a_model_of_0_1_is_refused_where_its_layer_cannot_be_sampled_again(
    former: tuple[Path, FactEmbedder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "randn", other_numbers)
    with pytest.raises(UserError, match=r"tripletcl 0\.1 did not save the random layer .* load it with an older torch"):
        FactEmbedder.from_pretrained(former[0])


@pytest.mark.parametrize("texts", [["dog"], ["dog", "dog"], ["dog", "Dog", "DOG"]])
def test_texts_without_a_spread_are_not_whitened_and_a_warning_says_so(
    texts: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    branch = TextBranch(build_text_encoder("minilm"))
    branch.add_whitening()
    plain = branch(["dog", "cat"])
    branch.whiten(["dog", "cat"], floor=0.1)
    branch.whiten(texts, floor=0.1)
    assert torch.allclose(branch(["dog", "cat"]), plain, atol=1e-6)
    assert "two texts that differ, and there is only 'dog'" in caplog.text
