"""Tiny checkpoints with random weights, saved as other libraries, or an earlier tripletcl, save theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch import nn

from tripletcl.files import sha256

SIZE, PATCH = 32, 8
TINY = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
PATCHES = {"image_size": SIZE, "patch_size": PATCH}
SPECIAL = ["[PAD]", "[UNK]", "[BOS]", "[EOS]"]
WORDS = [*SPECIAL, "a", "photo", "of", "the", "dog", "cat", "person", "riding", "horse", "running", "ball"]
TEXT = {**TINY, "vocab_size": len(WORDS), "max_position_embeddings": 12, "bos_token_id": 2, "eos_token_id": 3}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]


def config_of(kind: str) -> Any:
    """The config of a tiny model."""
    vision = {**TINY, **PATCHES}
    stages = {"depths": [1, 2], "hidden_dropout_prob": 0.1, "image_size": SIZE, "patch_size": 2}
    settings: dict[str, dict[str, Any]] = {
        "vit": vision,
        "dinov2": {**vision, "mlp_ratio": 2},
        "beit": vision,
        "convnext": {"hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2, "image_size": SIZE},
        "swin": {**stages, "embed_dim": 8, "num_heads": [1, 2], "window_size": 4},
        "clip": {"text_config": {**TEXT, "pad_token_id": 0}, "vision_config": vision, "projection_dim": 10},
        "siglip": {"text_config": {**TEXT, "pad_token_id": 0}, "vision_config": vision},
        "bert": TEXT,
    }
    return transformers.AutoConfig.for_model(kind, **settings[kind])


def save_checkpoint(kind: str, folder: Path, **processor: Any) -> Any:
    """Save a model with random weights, its image processor or tokenizer, or both; returns the model."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(config_of(kind)).eval()
        for parameter in model.parameters():  # so that no bias, scale or position is 0
            nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    if kind != "bert":
        processor_of(kind, **processor).save_pretrained(folder)
    if kind in ("bert", "clip", "siglip"):
        tokenizer().save_pretrained(folder)
    return model


def processor_of(kind: str, **changes: Any) -> Any:
    settings: dict[str, Any] = {"image_mean": MEAN, "image_std": STD, "size": {"height": SIZE, "width": SIZE}}
    if kind in ("clip", "dinov2"):
        settings |= {"size": {"shortest_edge": 40}, "crop_size": {"height": SIZE, "width": SIZE}}
    if kind == "convnext":
        settings |= {"size": {"shortest_edge": SIZE}, "crop_pct": 0.8}
    names = {"clip": "CLIP", "dinov2": "Bit", "convnext": "ConvNext", "siglip": "Siglip"}
    return getattr(transformers, f"{names.get(kind, 'ViT')}ImageProcessor")(**settings | changes)


def tokenizer() -> Any:
    """Words between [BOS] and [EOS]."""
    model = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    model.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[BOS]", 2), ("[EOS]", 3)]
    model.post_processor = processors.TemplateProcessing(single="[BOS] $A [EOS]", special_tokens=ends)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "bos_token": "[BOS]", "eos_token": "[EOS]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=model, model_max_length=12, **names)


def save_sentence_encoder(folder: Path, modes: list[str], normalise: bool, longest: int | None = None) -> Any:
    """Save a BERT as sentence-transformers does: with its pooling, and its normalisation if there is one."""
    model = save_checkpoint("bert", folder)
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalise else [])]
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(zip(kinds, ["", "1_Pooling", "2_Normalize"], strict=False))
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    known = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    pooling = {"word_embedding_dimension": 16} | {f"pooling_mode_{mode}": mode in modes for mode in known}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    if longest is not None:
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": longest}))
    return model


def forget_array(folder: Path, name: str) -> None:
    """Leave an array out of a saved model, as if a version that did not know it had written the folder."""
    weights, description = folder / "model.safetensors", folder / "embedder.json"
    tensors, about = load_file(weights), json.loads(description.read_text())
    del tensors[name]
    save_file(tensors, weights)
    for digest in ("sha256", "text_sha256"):
        del about[digest]
    description.write_text(json.dumps({**about, "weights_sha256": sha256(weights)}))
