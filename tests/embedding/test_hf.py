"""Image networks of transformers checkpoints: stages compose to the library's own features, prepared as it does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from checkpoints import SIZE, save_checkpoint
from PIL import Image
from torch import Tensor

from tripletcl.embedding import EmbedderSpec, FactEmbedder, build_backbone, build_embedder
from tripletcl.embedding.networks import trunk_settings
from tripletcl.embedding.trunk import Trunk
from tripletcl.errors import UserError

BLOCKS = ["stem", "block1", "block2", "block3", "head"]
STAGES = ["stem", "stage1", "stage2", "head"]
FAMILIES = {
    "vit": (BLOCKS, 16),
    "dinov2": (BLOCKS, 16),
    "clip": (BLOCKS, 16),
    "siglip": (BLOCKS, 16),
    "convnext": (STAGES, 16),
    "swin": (STAGES, 16),
    "beit": (["backbone"], 16),
}


@pytest.fixture(scope="module")
def image() -> Image.Image:
    """A square of the size to which every processor here scales, or larger."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))


def pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255


def own_features(folder: Path, model: transformers.PreTrainedModel, image: Image.Image) -> Tensor:
    """The pooled features of a model's image tower, of an image that its own processor prepared."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    inputs = processor(image, return_tensors="pt")
    tower = getattr(model, "vision_model", model)
    with torch.no_grad():
        return tower(**inputs).pooler_output


@pytest.mark.parametrize("kind", FAMILIES)
def test_stages_compose_to_the_librarys_own_features(kind: str, tmp_path: Path, image: Image.Image) -> None:
    model = save_checkpoint(kind, tmp_path)
    backbone = build_backbone(f"hf/{tmp_path}")
    names, width = FAMILIES[kind]
    assert list(backbone.stage_names) == names
    assert (backbone.width, backbone.crop) == (width, SIZE)
    image = image.resize((backbone.size, backbone.size))  # scaling is compared where nothing needs to be scaled
    trunk = Trunk(backbone, freeze_until="all").eval()
    expected = own_features(tmp_path, model, image)
    assert expected.std() > 0.01
    torch.testing.assert_close(trunk(pixels(image)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "swin"])
def test_stages_are_frozen_forked_pooled_and_loaded_again(kind: str, tmp_path: Path, image: Image.Image) -> None:
    names, _ = FAMILIES[kind]
    save_checkpoint(kind, tmp_path / "checkpoint")
    spec = EmbedderSpec(
        backbone=f"hf/{tmp_path / 'checkpoint'}", freeze_until=names[1], fork_at=names[2], image_size=48
    )
    embedder = build_embedder(spec, seed=0).eval()
    branch = embedder.image
    assert [name for name, _ in branch.frozen.named_children()] == names[:2]
    assert all(p.requires_grad for p in branch.branches.parameters())
    assert branch(pixels(image)).shape == (1, 3, 384)
    embedder.save_pretrained(tmp_path / "saved")
    (tmp_path / "checkpoint" / "model.safetensors").unlink()  # its description is needed, its weights are saved
    loaded = FactEmbedder.from_pretrained(tmp_path / "saved")
    assert torch.equal(loaded.image(pixels(image)), branch(pixels(image)))
    whole = replace(spec, freeze_until="all", fork_at=None, pooled=tuple(names[1:3]), weights="none")
    trunk = Trunk(**trunk_settings(whole)).eval()
    assert trunk(pixels(image)).shape[1] == sum(trunk.part_widths())
    assert len(trunk.part_widths()) == 3


def test_a_vit_without_weights_of_a_pooler_is_read_at_its_first_token(tmp_path: Path, image: Image.Image) -> None:
    model = save_checkpoint("vit", tmp_path)
    model.pooler = None
    model.save_pretrained(tmp_path)
    trunk = Trunk(build_backbone(f"hf/{tmp_path}"), freeze_until="all").eval()
    inputs = transformers.AutoImageProcessor.from_pretrained(tmp_path)(image.resize((SIZE, SIZE)), return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state[:, 0]
    torch.testing.assert_close(trunk(pixels(image.resize((SIZE, SIZE)))), expected, rtol=1e-5, atol=1e-5)


PROCESSORS = {
    "cuts a rectangle": {"crop_size": {"height": 32, "width": 24}},
    "pads": {"do_pad": True},
    "does not scale": {"do_resize": False},
    "cuts out more than it scaled to": {"crop_size": {"height": 64, "width": 64}},
    "keeps the longest edge": {"size": {"longest_edge": 40}},
}


@pytest.mark.parametrize("changes", PROCESSORS.values(), ids=PROCESSORS)
def test_a_processor_that_crops_otherwise_is_one_sentence(changes: dict, tmp_path: Path) -> None:
    save_checkpoint("clip", tmp_path, **changes)
    with pytest.raises(UserError, match=rf"the image processor of hf/{tmp_path} does not only scale") as caught:
        build_backbone(f"hf/{tmp_path}")
    assert "\n" not in str(caught.value)


def test_what_is_no_image_network_is_one_sentence(tmp_path: Path) -> None:
    save_checkpoint("bert", tmp_path / "bert")
    save_checkpoint("vit", tmp_path / "vit")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"there is no checkpoint .*bert"):
        build_backbone(f"hf/{tmp_path / 'bert'}")  # it has no image processor
    for file in (tmp_path / "vit").glob("preprocessor_config.json"):
        file.rename(tmp_path / "bert" / file.name)
    with pytest.raises(UserError, match="bert holds a BertModel, which takes no images"):
        build_backbone(f"hf/{tmp_path / 'bert'}")
    for missing in ("empty", "nowhere"):
        with pytest.raises(UserError, match=f"there is no checkpoint .*{missing}.* on this machine: give the folder"):
            build_backbone(f"hf/{tmp_path / missing}")
    save_checkpoint("vit", tmp_path / "vit")
    with pytest.raises(
        UserError, match=r"freeze_until 'block8' is not possible for hf/.*: allowed is one of stem, block1"
    ):
        build_embedder(EmbedderSpec(backbone=f"hf/{tmp_path / 'vit'}", freeze_until="block8"), seed=0)
    with pytest.raises(
        UserError, match=r"has weights of its own: model.weights is bundled, download or none, not 'x.pth'"
    ):
        build_backbone(f"hf/{tmp_path / 'vit'}", "x.pth")


@pytest.mark.parametrize("name", ["hf/nobody/nothing", "timm/resnet18", "torchvision/resnet18"])
def test_a_download_without_a_network_is_one_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", _unreachable)
    with pytest.raises(UserError, match=r"cannot be downloaded") as caught:
        build_backbone(name, "download")
    assert "\n" not in str(caught.value)


def _unreachable(*_: object, **__: object) -> None:
    from urllib.error import URLError

    raise URLError("Temporary failure in name resolution")
