"""One CLIP-like checkpoint as both branches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from checkpoints import SIZE, save_checkpoint, tokenizer
from PIL import Image
from torch.nn import functional as F

from tripletcl.data.facts import Fact
from tripletcl.embedding import EmbedderSpec, FactEmbedder, build_embedder
from tripletcl.errors import UserError

PROMPTS = ("a photo of a {}", "a person {}", "the {}")
FACT = Fact("dog", "riding", "horse")


@pytest.mark.parametrize(("kind", "fork_at"), [("clip", None), ("clip", "block2"), ("siglip", None)])
def test_before_any_task_a_fact_has_the_scores_of_the_checkpoint(
    kind: str, fork_at: str | None, tmp_path: Path
) -> None:
    model = save_checkpoint(kind, tmp_path / "pair", size={"height": SIZE, "width": SIZE}, do_center_crop=False)
    spec = EmbedderSpec(pair=str(tmp_path / "pair"), text_prompts=PROMPTS, image_size=SIZE, fork_at=fork_at)
    embedder = build_embedder(spec, seed=0).eval()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), np.uint8))
    inputs = transformers.AutoImageProcessor.from_pretrained(tmp_path / "pair")(image, return_tensors="pt")
    padding = {"padding": "max_length", "max_length": 12} if kind == "siglip" else {}
    expected = []
    with torch.no_grad():
        shown = model.get_image_features(**inputs)
        shown = F.normalize(getattr(shown, "pooler_output", shown), dim=-1)
        for prompt, text in zip(PROMPTS, FACT.units, strict=True):
            tokens = tokenizer()(prompt.replace("{}", text), return_tensors="pt", **padding)
            read = model.get_text_features(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"])
            expected.append(F.normalize(getattr(read, "pooler_output", read), dim=-1))
    vectors, facts = embedder.encode_images([image]), embedder.encode_facts([FACT])[0]
    torch.testing.assert_close(vectors[0], shown.expand(3, -1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(facts[0], torch.cat(expected), rtol=1e-5, atol=1e-5)
    embedder.save_pretrained(tmp_path / "saved")
    loaded = FactEmbedder.from_pretrained(tmp_path / "saved")
    assert torch.equal(loaded.encode_images([image]), vectors)
    assert torch.equal(loaded.encode_facts([FACT])[0], facts)
    assert loaded.spec == embedder.spec


def test_what_is_no_pair_is_one_sentence(tmp_path: Path) -> None:
    for kind in ("clip", "vit", "siglip"):
        save_checkpoint(kind, tmp_path / kind)
    tower = transformers.CLIPVisionModel.from_pretrained(tmp_path / "clip")
    tower.save_pretrained(tmp_path / "tower")
    pair = EmbedderSpec(pair=str(tmp_path / "clip"))
    wrong = {
        "is a vit, but a pair is a CLIP or SigLIP": EmbedderSpec(pair=str(tmp_path / "vit")),
        "is a clip_vision_model, but a pair is": EmbedderSpec(pair=str(tmp_path / "tower")),
        "there is no checkpoint .*nowhere": EmbedderSpec(pair=str(tmp_path / "nowhere")),
        r"model.text is 'glove', but model.pair .* makes it .*clip': leave one out": replace(pair, text="glove"),
        r"model.width is 512, but model.pair .* makes it 10: leave one out": replace(pair, width=512),
        r"model.hidden adds a map that does not start at the projection": replace(pair, hidden=8),
    }
    for message, spec in wrong.items():
        with pytest.raises(UserError, match=message) as caught:
            build_embedder(spec, seed=0)
        assert "\n" not in str(caught.value)
    config = transformers.AutoConfig.from_pretrained(tmp_path / "siglip")
    config.text_config.projection_size = 12
    with torch.random.fork_rng():
        transformers.AutoModel.from_config(config).save_pretrained(tmp_path / "siglip")
    with pytest.raises(UserError, match="do not meet: images give vectors of 16 numbers, texts of 12"):
        build_embedder(EmbedderSpec(pair=str(tmp_path / "siglip")), seed=0)
