"""The embedder as a whole: build, embed, save, load."""

from __future__ import annotations

import copy
import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import BaseModel, ValidationError

from tripletcl.data.facts import Fact
from tripletcl.embedding import EmbedderSpec, FactEmbedder, TextEmbedder, build_embedder
from tripletcl.embedding.embedder import ScoredBy
from tripletcl.errors import UserError

SPEC = EmbedderSpec(fork_at="blocks5", freeze_until="blocks2", image_size=64)
FACTS = [Fact("dog"), Fact("person", "riding", "horse"), Fact("person", "lying")]


@pytest.fixture(scope="module")
def embedder() -> FactEmbedder:
    embedder = build_embedder(SPEC, seed=0)
    embedder.text.set_centre(["dog", "person", "riding", "horse"])
    return embedder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(5)]
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(path)
    return paths


def test_images_may_be_paths_pictures_or_arrays(embedder: FactEmbedder, pictures: list[Path]) -> None:
    vectors = embedder.encode_images(pictures, batch_size=2)
    assert vectors.shape == (5, 3, 384)
    assert torch.allclose(vectors.norm(dim=-1), torch.ones(5, 3), atol=1e-5)
    assert not vectors.requires_grad
    loaded = [Image.open(path) for path in pictures]
    for same in (loaded, [np.asarray(image) for image in loaded]):
        assert torch.allclose(embedder.encode_images(same), vectors, atol=1e-4)
    outputs = embedder.encode_images(pictures, normalise=False)
    assert torch.allclose(torch.nn.functional.normalize(outputs, dim=-1), vectors, atol=1e-4)
    assert not torch.allclose(outputs, vectors)
    assert embedder.encode_images([]).shape == (0, 3, 384)


def test_vectors_are_the_readout_of_representations(embedder: FactEmbedder, pictures: list[Path]) -> None:
    representation = embedder.represent_images(pictures, batch_size=2)
    assert representation.shape == (5, 2 * 1280)
    assert torch.equal(embedder.vectors_of(representation), embedder.encode_images(pictures, batch_size=2))
    outputs = embedder.vectors_of(representation, normalise=False)
    assert torch.equal(outputs, embedder.encode_images(pictures, batch_size=2, normalise=False))
    assert embedder.represent_images([]).shape == (0, 2 * 1280)
    assert embedder.vectors_of(representation[:0]).shape == (0, 3, 384)


def test_decoded_images_are_used_unchanged(embedder: FactEmbedder, pictures: list[Path]) -> None:
    decoded = [embedder.decode(path) for path in pictures]
    assert all(pixels.shape == (3, 64, 64) and embedder.decode(pixels) is pixels for pixels in decoded)
    assert torch.equal(embedder.encode_images(decoded), embedder.encode_images(pictures))


def test_the_trunk_is_everything_below_the_readout(embedder: FactEmbedder, pictures: list[Path]) -> None:
    before = embedder.trunk_fingerprint(), embedder.represent_images(pictures[:2])
    assert not embedder.trunk_is_frozen
    for tensor in (embedder.image.heads[1].bias, embedder.text.centre):
        with torch.no_grad():
            tensor[0] += 1
            assert embedder.trunk_fingerprint() == before[0]
            assert torch.equal(embedder.represent_images(pictures[:2]), before[1])
            tensor[0] -= 1
    for tensor in (embedder.image.branches[1].head.bn2.bias, embedder.image.frozen.stem.bn1.running_mean):
        with torch.no_grad():
            tensor[0] += 1
            assert embedder.trunk_fingerprint() != before[0]
            tensor[0] -= 1
    larger = build_embedder(dataclasses.replace(SPEC, image_size=96), seed=0)
    assert larger.trunk_fingerprint() != before[0]


def test_a_network_frozen_to_its_end_has_a_frozen_trunk() -> None:
    assert build_embedder(EmbedderSpec(freeze_until="head", image_size=64), seed=0).trunk_is_frozen


def test_images_are_scaled_to_the_unit_interval(embedder: FactEmbedder) -> None:
    array = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pixels = torch.from_numpy(array.transpose(2, 0, 1).copy())[None] / 255
    embedder.eval()
    with torch.no_grad():
        expected = embedder.image(pixels)
    assert torch.allclose(embedder.encode_images([array], normalise=False), expected, atol=1e-5)


def test_encoding_keeps_the_mode(embedder: FactEmbedder, pictures: list[Path]) -> None:
    embedder.train()
    embedder.encode_images(pictures[:1])
    assert embedder.image.training
    embedder.eval()
    embedder.encode_images(pictures[:1])
    assert not embedder.image.training


def test_a_broken_image_is_named(embedder: FactEmbedder, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"broken\.jpg"):
        embedder.encode_images([tmp_path / "broken.jpg"])


def test_facts_have_zero_rows_for_units_they_lack(embedder: FactEmbedder) -> None:
    vectors, present = embedder.encode_facts(FACTS)
    assert present.tolist() == [[True, False, False], [True, True, True], [True, True, False]]
    assert not vectors[~present].any()
    assert torch.allclose(vectors[present].norm(dim=-1), torch.ones(6), atol=1e-5)
    assert torch.equal(vectors[1, 2], embedder.encode_units(["horse"])[0])
    assert torch.equal(vectors[1, 0], vectors[2, 0])
    none, no_units = embedder.encode_facts([])
    assert none.shape == (0, 3, 384)
    assert no_units.shape == (0, 3)


def test_a_saved_embedder_gives_equal_vectors(embedder: FactEmbedder, pictures: list[Path], tmp_path: Path) -> None:
    with torch.no_grad():
        for parameter in embedder.image.parameters():
            parameter.mul_(1.01)
    embedder.save_pretrained(tmp_path / "model", facts=FACTS)
    loaded = FactEmbedder.from_pretrained(tmp_path / "model")
    assert torch.equal(loaded.encode_images(pictures), embedder.encode_images(pictures))
    assert torch.equal(loaded.encode_facts(FACTS)[0], embedder.encode_facts(FACTS)[0])
    assert loaded.fingerprint() == embedder.fingerprint()
    assert loaded.spec == SPEC
    assert loaded.facts == tuple(FACTS)
    assert loaded.vocabulary == (("dog", "person"), ("riding", "lying"), ("horse",))
    assert loaded.image_size == 64
    assert not any(p.requires_grad for p in loaded.image.frozen.parameters())
    assert {path.name for path in (tmp_path / "model").iterdir()} == {"embedder.json", "model.safetensors"}
    loaded.save_pretrained(tmp_path / "again")
    for name in ("embedder.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


@pytest.mark.parametrize("scored_by", [None, "both"])
def test_the_text_side_is_loaded_by_itself(
    embedder: FactEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scored_by: ScoredBy | None
) -> None:
    if scored_by is not None:
        embedder = copy.deepcopy(embedder)
        embedder.install_analytic(8, 0, scored_by)
        embedder.set_readout(torch.ones(8, len(FACTS)), FACTS)
    embedder.save_pretrained(tmp_path, facts=FACTS)
    generator = torch.get_rng_state()
    monkeypatch.setattr("tripletcl.embedding.networks.build_backbone", None)  # not called
    loaded = TextEmbedder.from_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), generator)
    assert loaded.fingerprint() == embedder.fingerprint()
    assert (loaded.spec, loaded.facts) == (embedder.spec, tuple(FACTS))
    assert loaded.vocabulary == (("dog", "person"), ("riding", "lying"), ("horse",))
    texts = ["dog", "black cat"]
    assert np.array_equal(loaded.encode_units(texts), embedder.encode_units(texts).numpy())
    about = json.loads((tmp_path / "embedder.json").read_text())
    del about["fingerprint"], about["sha256"]
    (tmp_path / "embedder.json").write_text(json.dumps(about))  # as earlier versions wrote it
    assert TextEmbedder.from_pretrained(tmp_path).fingerprint() == embedder.fingerprint()


def test_the_fingerprint_is_saved_with_the_weights(embedder: FactEmbedder, tmp_path: Path) -> None:
    embedder.save_pretrained(tmp_path)
    about = json.loads((tmp_path / "embedder.json").read_text())
    assert about.pop("sha256")
    assert about.pop("fingerprint") == embedder.fingerprint()
    (tmp_path / "embedder.json").write_text(json.dumps(about))  # as earlier versions wrote it
    assert FactEmbedder.from_pretrained(tmp_path).fingerprint() == embedder.fingerprint()


def test_loading_needs_no_pretrained_weights(
    embedder: FactEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder.save_pretrained(tmp_path)
    monkeypatch.setattr("tripletcl.embedding.backbones.BUNDLED", {})
    assert FactEmbedder.from_pretrained(tmp_path).fingerprint() == embedder.fingerprint()


def test_the_fingerprint_covers_every_weight(embedder: FactEmbedder) -> None:
    before = embedder.fingerprint()
    assert len(before) == 16
    assert embedder.fingerprint() == before
    for tensor in (embedder.image.heads[1].bias, embedder.image.frozen.stem.bn1.running_mean, embedder.text.centre):
        with torch.no_grad():
            tensor[0] += 1
            assert embedder.fingerprint() != before
            tensor[0] -= 1


def test_a_loaded_embedder_computes_its_fingerprint_only_once_its_weights_differ(
    embedder: FactEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = embedder.fingerprint()
    embedder.save_pretrained(tmp_path)
    loaded = FactEmbedder.from_pretrained(tmp_path)
    for tensor in (loaded.image.heads[1].bias, loaded.image.frozen.stem.bn1.running_mean, loaded.text.centre):
        with torch.no_grad():
            before = tensor.clone()
            tensor[0] += 1
            assert loaded.fingerprint() != fingerprint
            tensor.copy_(before)
    with monkeypatch.context() as patch:
        patch.setattr("tripletcl.embedding.saving.digest", None)  # not called
        assert loaded.fingerprint() == fingerprint
        assert copy.deepcopy(loaded).fingerprint() == fingerprint
    loaded.image.requires_grad_(True)
    loaded.image(torch.rand(1, 3, 64, 64)).sum().backward()
    torch.optim.SGD(loaded.parameters(), lr=1.0).step()
    trained = loaded.fingerprint()
    assert trained != fingerprint
    loaded.load_state_dict(embedder.state_dict())
    assert loaded.fingerprint() == fingerprint
    loaded.install_analytic(8, 0, "both")
    assert loaded.fingerprint() not in (fingerprint, trained)


def test_the_seed_decides_and_global_generators_are_not_used(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("dog 1 2\ncat 3 4\n")
    spec = EmbedderSpec("timm/resnet10t", "none", width=6, hidden=4, text=str(tmp_path / "v.txt"), text_projection=True)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    first = build_embedder(spec, seed=3)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]
    torch.rand(3)
    assert build_embedder(spec, seed=3).fingerprint() == first.fingerprint()
    assert build_embedder(spec, seed=4).fingerprint() != first.fingerprint()


def test_widths_must_agree(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("dog 1 2\ncat 3 4\n")
    with pytest.raises(UserError, match=r"2 wide but width is 384: set width to 2, or text_projection"):
        build_embedder(EmbedderSpec(text=str(tmp_path / "v.txt")), seed=0)


@pytest.fixture
def saved(embedder: FactEmbedder, tmp_path: Path) -> Path:
    embedder.save_pretrained(tmp_path / "saved", facts=FACTS)
    return tmp_path / "saved"


def refused(folder: Path, match: str) -> None:
    with pytest.raises(UserError, match=match):
        FactEmbedder.from_pretrained(folder)


def test_missing_files_are_named(saved: Path) -> None:
    refused(saved / "elsewhere", r"elsewhere holds no embedder: it has no embedder\.json")
    (saved / "model.safetensors").rename(saved / "pytorch_model.bin")
    refused(saved, r"no model\.safetensors.*pickle.*pytorch_model\.bin is not read")


def test_damaged_files_are_named(saved: Path) -> None:
    weights, spec = saved / "model.safetensors", saved / "embedder.json"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    refused(saved, r"model\.safetensors is damaged")
    weights.write_bytes(whole)
    about = json.loads(spec.read_text())
    assert about.pop("sha256")  # as in files of version 0.1
    for wrong, match in (
        ("{", r"embedder\.json is damaged"),
        ("[]", r"embedder\.json is damaged"),
        (json.dumps({**about, "facts": None}), r"embedder\.json"),
        (json.dumps({"spec": about["spec"], "facts": []}), r"lacks 'weights_sha256'"),
        (json.dumps({**about, "spec": {"newer": 1}}), r"newer.*use tripletcl .*, which wrote it"),
        (json.dumps({**about, "spec": {**about["spec"], "hidden": 7}}), r"does not fit embedder\.json"),
    ):
        spec.write_text(wrong)
        refused(saved, match)


def test_an_interrupted_save_is_noticed(saved: Path, embedder: FactEmbedder, monkeypatch: pytest.MonkeyPatch) -> None:
    """New weights next to an old description are refused."""

    def full_disk(path: Path, values: object) -> None:
        raise OSError(28, "No space left on device")

    with torch.no_grad():
        embedder.image.heads[0].bias.add_(1)
    monkeypatch.setattr("tripletcl.embedding.saving.write_json", full_disk)
    with pytest.raises(OSError, match="No space"):
        embedder.save_pretrained(saved)
    refused(saved, r"its SHA-256 is not the one in embedder\.json")


def test_the_spec_is_a_typed_section_of_a_config() -> None:
    class Config(BaseModel):
        model: EmbedderSpec = EmbedderSpec()

    assert Config.model_validate({"model": {"width": 300}}).model == EmbedderSpec(width=300)
    for wrong in ({"widht": 300}, {"width": "broad"}):
        with pytest.raises(ValidationError):
            Config.model_validate({"model": wrong})
    with pytest.raises(dataclasses.FrozenInstanceError):
        EmbedderSpec().width = 3  # type: ignore[misc]


def test_arguments_of_other_types_are_refused_in_a_sentence(embedder: FactEmbedder, pictures: list[Path]) -> None:
    for facts in (["dog"], "dog", [("dog", "running")], FACTS[0], [None]):
        with pytest.raises(UserError, match=r"facts are a list of Fact, as in \[Fact\('dog', 'running'\)\], not"):
            embedder.encode_facts(facts)
    for texts in ("dog", [5]):
        with pytest.raises(UserError, match="texts of units are a list"):
            embedder.encode_units(texts)
    for image in (pictures[0], str(pictures[0]), np.zeros((64, 64, 3), np.uint8)):
        with pytest.raises(UserError, match=r"images are a list of images: give \[image\] instead of one"):
            embedder.encode_images(image)
    for batch_size, message in ((0, "at least 1, not 0"), (-1, "at least 1, not -1"), (1.5, "a whole number, not 1.5")):
        with pytest.raises(UserError, match=f"batch_size must be {message}"):
            embedder.encode_images(pictures, batch_size)
    for images in (None, 5, iter(pictures)):
        with pytest.raises(UserError, match=r"images are a list of images, not (NoneType|int|list_iterator)"):
            embedder.encode_images(images)
    with pytest.raises(UserError, match="no device 'tpu' can be used here: "):
        embedder.encode_images(pictures, device="tpu")
    assert len(embedder.encode_images(np.zeros((2, 3, 64, 64), np.uint8))) == 2


def test_tensors_arrays_and_pictures_are_the_same_images(embedder: FactEmbedder, pictures: list[Path]) -> None:
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in pictures]
    tensors = [torch.from_numpy(array.transpose(2, 0, 1).copy()) for array in arrays]
    expected = embedder.encode_images(arrays)
    assert torch.equal(embedder.encode_images(tensors, device="cpu"), expected)
    assert torch.equal(embedder.encode_images([tensors[0], *arrays[1:]]), expected)
    with pytest.raises(UserError, match="a uint8 array or tensor, not int"):
        embedder.encode_images([arrays[0], 7])
    with pytest.raises(UserError, match="allowed is uint8"):
        embedder.encode_images([tensors[0] / 255])
    with pytest.raises(UserError, match="give \\[image\\] instead of one Tensor"):
        embedder.encode_images(tensors[0])


def test_a_runs_folder_is_its_latest_stage(embedder: FactEmbedder, tmp_path: Path) -> None:
    for stage in ("stage-09", "stage-10", "stage-100"):
        embedder.save_pretrained(tmp_path / "stages" / stage)
    (tmp_path / "stages" / "stage-101").mkdir()  # not written yet
    (tmp_path / "stages" / "stage-09" / "embedder.json").write_text("{}")
    assert FactEmbedder.from_pretrained(tmp_path).fingerprint() == embedder.fingerprint()
    with pytest.raises(UserError, match="nowhere"):
        FactEmbedder.from_pretrained(tmp_path / "nowhere")
