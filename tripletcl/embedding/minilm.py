"""The bundled sentence encoder all-MiniLM-L6-v2 (Wang et al., NeurIPS 2020) in NumPy.

A text has a few words, and six small layers read it in milliseconds. To import torch and transformers for that takes
three seconds of processor time, most of what a query would take. The tests compare it with the network in transformers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from tripletcl.embedding.published import MINILM_WIDTH, minilm_folder
from tripletcl.files import stat_file

if TYPE_CHECKING:
    from tokenizers import Tokenizer

LAYERS, HEADS, EPSILON, LONGEST = 6, 12, 1e-12, 512
"""As in the network's config.json; LONGEST tokens are read, its number of positions."""

MAPS = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attended": "attention.output.dense",
    "inner": "intermediate.dense",
    "outer": "output.dense",
}
NORMS = {"after_attention": "attention.output.LayerNorm", "after_maps": "output.LayerNorm"}
"""Names of a layer's linear maps and layer norms in the file."""

Affine = tuple[np.ndarray, np.ndarray]
"""A weight, of a linear map transposed to `[in, out]`, and a bias."""


@dataclass(frozen=True)
class Layer:
    """The weights of a layer of BERT (Devlin et al., NAACL 2019), each under its name in MAPS or NORMS."""

    query: Affine
    key: Affine
    value: Affine
    attended: Affine
    inner: Affine
    outer: Affine
    after_attention: Affine
    after_maps: Affine

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Map hidden states `[T, C]`."""
        states = normalise(states + apply(self._attend(states), self.attended), self.after_attention)
        return normalise(states + apply(gelu(apply(states, self.inner)), self.outer), self.after_maps)

    def _attend(self, states: np.ndarray) -> np.ndarray:
        query, key, value = (
            apply(states, each).reshape(len(states), HEADS, -1).swapaxes(0, 1)  # [H, T, C / H]
            for each in (self.query, self.key, self.value)
        )
        scores = query @ key.swapaxes(1, 2) / np.float32(query.shape[2] ** 0.5)  # [H, T, T]
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        attended = weights / weights.sum(axis=2, keepdims=True) @ value
        return attended.swapaxes(0, 1).reshape(states.shape)


class MiniLM:
    """The bundled encoder: a text's vector is the mean of its last hidden states, on the CPU, one text at a time."""

    width = MINILM_WIDTH

    def __deepcopy__(self, memo: dict) -> MiniLM:
        return self

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Encode texts as vectors `[n, 384]` float32.

        Raises:
            UserError: the installed weights are missing, or are not the published ones.
        """
        return np.stack([self._encode(text) for text in texts]) if texts else np.zeros((0, self.width), np.float32)

    def _encode(self, text: str) -> np.ndarray:
        weights, layers = self._weights
        tokens = self._tokenizer.encode(text).ids
        states = weights["word"][tokens] + weights["kind"][0] + weights["position"][: len(tokens)]  # [T, C]
        states = normalise(states, (weights["weight"], weights["bias"]))
        for layer in layers:
            states = layer(states)
        return states.mean(axis=0)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of all that a vector depends on: files, libraries, processor."""
        folder = minilm_folder(checked=False)
        stamps = [(file.name, stat_file(file)) for file in (folder / "model.safetensors", folder / "tokenizer.json")]
        processor = np.show_config(mode="dicts")["SIMD Extensions"]
        made_by = np.__version__, version("tokenizers"), version("scipy"), repr(processor)
        return hashlib.sha256(repr(("minilm", str(folder), stamps, made_by)).encode()).hexdigest()[:16]

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(minilm_folder(checked=False) / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.enable_truncation(LONGEST)
        return tokenizer

    @cached_property
    def _weights(self) -> tuple[dict[str, np.ndarray], list[Layer]]:
        """The weights of the embeddings by name, and the layers; read on first use."""
        from safetensors.numpy import load_file

        stored = load_file(minilm_folder() / "model.safetensors")
        names = {
            "word": "word_embeddings.weight",
            "kind": "token_type_embeddings.weight",
            "position": "position_embeddings.weight",
            "weight": "LayerNorm.weight",
            "bias": "LayerNorm.bias",
        }
        embeddings = {own: stored[f"embeddings.{name}"] for own, name in names.items()}
        return embeddings, [_layer(stored, f"encoder.layer.{number}") for number in range(LAYERS)]


@cache
def bundled_encoder() -> MiniLM:
    """The encoder of all models of this process: its weights take 90 MB."""
    return MiniLM()


def _layer(stored: dict[str, np.ndarray], start: str) -> Layer:
    maps = {own: (stored[f"{start}.{name}.weight"].T, stored[f"{start}.{name}.bias"]) for own, name in MAPS.items()}
    norms = {own: (stored[f"{start}.{name}.weight"], stored[f"{start}.{name}.bias"]) for own, name in NORMS.items()}
    return Layer(**maps, **norms)


def apply(states: np.ndarray, affine: Affine) -> np.ndarray:
    """Map states `[T, in]` to `[T, out]`."""
    weight, bias = affine
    return states @ weight + bias


def normalise(states: np.ndarray, affine: Affine) -> np.ndarray:
    """Layer norm of states `[T, C]`."""
    centred = states - states.mean(axis=1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=1, keepdims=True) + np.float32(EPSILON))
    return centred / deviation * affine[0] + affine[1]


def gelu(x: np.ndarray) -> np.ndarray:
    """`x Phi(x)`, Phi the distribution function of a standard normal variable (Hendrycks & Gimpel, 2016)."""
    from scipy.special import erf  # loaded late: a text whose vector is stored needs none

    return x * (1 + erf(x * np.float32(0.5**0.5))) * np.float32(0.5)
