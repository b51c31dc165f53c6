"""Text encoders of transformers and sentence-transformers folders equal the libraries' own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints import save_checkpoint, save_sentence_encoder, tokenizer
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from tripletcl.data.facts import Fact
from tripletcl.embedding import EmbedderSpec, FactEmbedder, build_embedder, build_text_encoder, text_encoders
from tripletcl.errors import UserError

TEXTS = ["dog", "a person riding the horse", "cat running"]


def tokens_of(text: str, **options: object) -> dict[str, Tensor]:
    return dict(tokenizer()(text, return_tensors="pt", **options))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_a_text_tower_gives_its_projected_output(kind: str, tmp_path: Path) -> None:
    model = save_checkpoint(kind, tmp_path)
    padding = {"padding": "max_length", "max_length": 12} if kind == "siglip" else {}
    encoder = build_text_encoder(str(tmp_path))
    with torch.no_grad():
        expected = [
            model.get_text_features(**{k: v for k, v in tokens_of(t, **padding).items() if k != "token_type_ids"})
            for t in TEXTS
        ]
    rows = torch.cat([getattr(each, "pooler_output", each) for each in expected])
    assert rows.std() > 0.01
    assert encoder.width == rows.shape[1]
    torch.testing.assert_close(encoder.encode(TEXTS), rows, rtol=1e-5, atol=1e-5)
    long = " ".join(["dog"] * 40)
    assert encoder.encode([long]).isfinite().all()  # cut to the tower's positions


def pooled(states: Tensor, mode: str) -> Tensor:
    """One number at a time."""
    count, width = states.shape
    column = [[float(states[row, place]) for row in range(count)] for place in range(width)]
    ways = {
        "cls_token": lambda x: x[0],
        "mean_tokens": lambda x: sum(x) / count,
        "max_tokens": max,
        "mean_sqrt_len_tokens": lambda x: sum(x) / count**0.5,
        "weightedmean_tokens": lambda x: sum((i + 1) * v for i, v in enumerate(x)) / sum(range(1, count + 1)),
        "lasttoken": lambda x: x[-1],
    }
    return torch.tensor([ways[mode](x) for x in column])


POOLINGS = [
    (["mean_tokens"], True),
    (["cls_token"], False),
    (["cls_token", "max_tokens"], True),
    (["mean_sqrt_len_tokens"], False),
    (["weightedmean_tokens"], False),
    (["lasttoken"], True),
]


@pytest.mark.parametrize(("modes", "normalise"), POOLINGS)
def test_a_folder_of_sentence_transformers_is_read_as_it_says(
    modes: list[str], normalise: bool, tmp_path: Path
) -> None:
    model = save_sentence_encoder(tmp_path, modes, normalise, longest=5)
    encoder = build_text_encoder(str(tmp_path))
    assert encoder.width == 16 * len(modes)
    for text in TEXTS:
        with torch.no_grad():
            states = model(**tokens_of(text, truncation=True, max_length=5)).last_hidden_state[0]
        assert len(states) <= 5
        expected = torch.cat([pooled(states, mode) for mode in modes])
        expected = F.normalize(expected, dim=0) if normalise else expected
        torch.testing.assert_close(encoder.encode([text])[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("activation", "bias", "parts"), [("Tanh", True, "dn"), ("Identity", False, "nd")])
def test_linear_layers_follow_the_pooling_in_their_order(
    activation: str, bias: bool, parts: str, tmp_path: Path
) -> None:
    model = save_sentence_encoder(tmp_path, ["mean_tokens"], False)
    layer = nn.Linear(16, 6, bias=bias).requires_grad_(False)
    add_part(tmp_path, {"d": "Dense", "n": "Normalize"}[parts[0]], layer, activation)
    add_part(tmp_path, {"d": "Dense", "n": "Normalize"}[parts[1]], layer, activation)
    encoder = build_text_encoder(str(tmp_path))
    assert encoder.width == 6
    apply = {
        "d": lambda x: torch.tanh(layer(x)) if activation == "Tanh" else layer(x),
        "n": lambda x: x / x.norm(),
    }
    for text in TEXTS:
        with torch.no_grad():
            pooling = model(**tokens_of(text)).last_hidden_state[0].mean(0)
        expected = apply[parts[1]](apply[parts[0]](pooling))
        torch.testing.assert_close(encoder.encode([text])[0], expected, rtol=1e-5, atol=1e-5)
    before = encoder.fingerprint
    save_file({"linear.weight": torch.zeros(6, 16)}, next(tmp_path.glob("*_Dense")) / "model.safetensors")
    text_encoders._transformer.cache_clear()
    assert build_text_encoder(str(tmp_path)).fingerprint != before


def add_part(folder: Path, kind: str, layer: nn.Linear, activation: str) -> None:
    """Append a part as sentence-transformers saves it."""
    modules = json.loads((folder / "modules.json").read_text())
    path = f"{len(modules)}_{kind}"
    modules.append({"idx": len(modules), "name": path, "path": path, "type": f"sentence_transformers.models.{kind}"})
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / path).mkdir()
    if kind == "Dense":
        about = {
            "in_features": 16,
            "out_features": 6,
            "activation_function": f"torch.nn.modules.activation.{activation}",
        }
        (folder / path / "config.json").write_text(json.dumps(about))
        save_file({f"linear.{k}": v for k, v in layer.state_dict().items()}, folder / path / "model.safetensors")


def test_poolings_may_be_named_as_newer_releases_do(tmp_path: Path) -> None:
    save_sentence_encoder(tmp_path / "old", ["cls_token"], True)
    save_sentence_encoder(tmp_path / "new", ["mean_tokens"], True)
    (tmp_path / "new" / "1_Pooling" / "config.json").write_text('{"embedding_dimension": 16, "pooling_mode": "cls"}')
    old, new = (build_text_encoder(str(tmp_path / name)).encode(TEXTS) for name in ("old", "new"))
    assert torch.equal(old, new)


LAYERS = {
    "lstm": (None, ""),
    "narrow": (nn.Linear(9, 6), "Tanh"),
    "bent": (nn.Linear(16, 6), "Softmax"),
    "bare": (nn.Linear(16, 6), "Tanh"),
}


def test_folders_of_another_kind_are_one_sentence(tmp_path: Path) -> None:
    save_checkpoint("vit", tmp_path / "vit")
    save_sentence_encoder(tmp_path / "dense", ["mean_tokens"], False)
    save_sentence_encoder(tmp_path / "strange", ["mean_tokens"], False)
    save_sentence_encoder(tmp_path / "cut", ["mean_tokens"], False)
    modules = tmp_path / "dense" / "modules.json"
    modules.write_text(modules.read_text().replace("models.Pooling", "models.Dense"))
    for name, (layer, activation) in LAYERS.items():
        save_sentence_encoder(tmp_path / name, ["mean_tokens"], False)
        add_part(tmp_path / name, "Dense" if layer else "LSTM", layer or nn.Linear(1, 1), activation)
    (tmp_path / "bare" / "2_Dense" / "model.safetensors").unlink()
    (tmp_path / "strange" / "1_Pooling" / "config.json").write_text('{"pooling_mode": "median"}')
    (tmp_path / "cut" / "1_Pooling" / "config.json").unlink()
    messages = {
        "vit": "is a vit, which reads no texts",
        "dense": "does not begin with a model and a pooling",
        "lstm": "has the part LSTM; after the pooling only Dense and Normalize are read",
        "narrow": "a linear layer takes 9 numbers, and the pooling gives 16",
        "bent": "has the activation Softmax; known are Identity",
        "bare": "there is no weights file .*pytorch_model.bin",
        "strange": "pools by 'median'; known are cls",
        "cut": "is not a whole folder of sentence-transformers",
        "nowhere": "there is no text encoder .* on this machine",
    }
    for name, message in messages.items():
        with pytest.raises(UserError, match=message) as caught:
            build_text_encoder(str(tmp_path / name)).encode(["dog"])
        assert "\n" not in str(caught.value)


def test_a_template_for_each_unit_is_what_the_encoder_reads(tmp_path: Path) -> None:
    save_checkpoint("clip", tmp_path / "clip")
    prompts = ("a photo of a {}", "person {}", "the {}")
    spec = EmbedderSpec(
        backbone="timm/test_efficientnet", weights="none", text=str(tmp_path / "clip"), text_prompts=prompts, width=10
    )
    embedder, plain = build_embedder(spec, seed=0), build_embedder(replace(spec, text_prompts=()), seed=0)
    vectors, present = embedder.encode_facts([Fact("dog", "running", "dog"), Fact("cat")])
    expected = plain.encode_units(["a photo of a dog", "person running", "the dog", "a photo of a cat"])
    assert torch.equal(vectors[present], expected)
    assert torch.equal(embedder.encode_units(["dog"], 2), expected[2:3])
    assert torch.equal(embedder.encode_units(["dog"]), plain.encode_units(["dog"]))
    embedder.save_pretrained(tmp_path / "saved")
    assert torch.equal(
        FactEmbedder.from_pretrained(tmp_path / "saved").encode_facts([Fact("dog")])[0][0, 0], expected[0]
    )
    for wrong in (("a {}",), ("a", "{}", "{}")):
        with pytest.raises(UserError, match=r"model.text_prompts is .*: give a template with \{\} for each of subject"):
            build_embedder(replace(spec, text_prompts=wrong), seed=0)
    with pytest.raises(UserError, match=r"text encoder .*clip' are 10 wide but width is 384: set width to 10"):
        build_embedder(replace(spec, width=384), seed=0)
