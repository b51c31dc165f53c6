"""The text branch: a frozen text encoder, and a map on top of it that may be trained."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tripletcl.data.facts import UNITS
from tripletcl.embedding.base import TextBase, base_shape, start_text_base
from tripletcl.embedding.spec import EmbedderSpec
from tripletcl.embedding.text_encoders import TextEncoder, TransformerEncoder, build_text_encoder
from tripletcl.errors import UserError, excerpt
from tripletcl.files.tensors import TensorFile, read_cached, write_tensors

log = logging.getLogger("tripletcl")

LEAST_SPREAD = 1e-12
"""Variance of text vectors, relative to their squared length, that is more than rounding."""

TEXTS_NAMED = 3
"""Texts that a message names."""

ALIKE_SHARE = 0.05
"""The largest share of the words of a run that the text encoder may confuse with others; one always may be."""


def words_alike(encode: Callable[[Sequence[str]], Tensor], words: Sequence[str]) -> list[list[str]]:
    """Group the words that an encoder cannot tell apart, as those of a script that it does not know: their vectors are
    equal. Words unlike all others are left out.
    """
    words = list(dict.fromkeys(words))
    groups: dict[bytes, list[str]] = {}
    for word, vector in zip(words, encode(words).cpu().numpy(), strict=True):
        groups.setdefault(vector.tobytes(), []).append(word)
    return [group for group in groups.values() if len(group) > 1]


def check_words(encode: Callable[[Sequence[str]], Tensor], words: Sequence[str]) -> None:
    """Check that an encoder tells words apart; a few that it cannot are named in a warning.

    Raises:
        UserError: more than one word, and more than ALIKE_SHARE of all, have the vector of another one.
    """
    groups = words_alike(encode, words)
    confused = sum(len(group) - 1 for group in groups)
    if not confused:
        return
    examples = "; ".join(", ".join(map(excerpt, group[:TEXTS_NAMED])) for group in groups[:TEXTS_NAMED])
    sentence = f"the text encoder cannot tell {confused} of {len(set(words))} words from another one, as {examples}"
    if confused > max(1, ALIKE_SHARE * len(set(words))):
        raise UserError(f"{sentence}: translate them, or set model.text to an encoder that knows them")
    log.warning("%s; these are one word to the run", sentence)


class TextBranch(nn.Module):
    """Maps texts to vectors: encode, subtract a centre, apply a map if there is one, and scale to length 1.

    The encoder is not part of the state_dict; the centre and the map are.

    Args:
        encoder: From `build_text_encoder`.
        projection: Width D of a trained linear map after the encoder; None for no map.
        normalise: Scale every vector to length 1.
    """

    centre: Tensor

    def __init__(self, encoder: TextEncoder, *, projection: int | None = None, normalise: bool = True) -> None:
        super().__init__()
        self.encoder = encoder
        self.normalise = normalise
        self.projection = None if projection is None else nn.Linear(encoder.width, projection)
        self.width = encoder.width if projection is None else projection
        self.register_buffer("centre", torch.zeros(encoder.width))
        self.base: TextBase | None = None
        self._encoded: dict[str, Tensor] = {}
        self._cache: Path | None = None

    def forward(self, texts: Sequence[str]) -> Tensor:
        """Map texts to vectors `[n, D]`."""
        return self.project(self.encode(texts))

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Encode texts and subtract the centre, `[n, E]`; the result never changes, so a training loop may keep it."""
        return self._raw(texts).to(self.centre.device) - self.centre

    def project(self, encoded: Tensor) -> Tensor:
        """Apply the rest of `forward` to results of `encode`: `[n, E]` to `[n, D]`."""
        vectors = encoded if self.projection is None else self.projection(encoded)
        return F.normalize(vectors, dim=-1) if self.normalise else vectors

    def start_base(self) -> tuple[str, ...]:
        """Set the base of an untrained model; returns the names of what it knows, none without a base."""
        return () if self.base is None else start_text_base(self.base, self._raw)

    def with_base(self, texts: Sequence[str], known: Sequence[bool]) -> Tensor:
        """Map texts to whole vectors of length 1: with a base `[n, W + D + 1]`, else `forward`, `[n, D]`.

        Args:
            texts: The texts.
            known: For each, whether it was taught.
        """
        taught = F.normalize(self(texts), dim=-1)
        if self.base is None:
            return taught
        mask = torch.tensor(known, dtype=torch.bool, device=taught.device)
        return self.base.join(self.base_block(texts), taught, mask)

    def base_block(self, texts: Sequence[str]) -> Tensor:
        """Map texts to their base blocks `[n, W]`."""
        assert self.base is not None
        return self.base(self.raw(texts))

    def raw(self, texts: Sequence[str]) -> Tensor:
        """Return the encoder's own vectors `[n, E]`."""
        return self._raw(texts).to(self.centre.device)

    def set_centre(self, texts: Sequence[str]) -> None:
        """Subtract the mean vector of these texts from now on (Elhoseiny et al., AAAI 2017).

        Raises:
            UserError: the centre is set already, or there are fewer than two distinct texts.
        """
        if self.centre.any():
            raise UserError("the centre of the text vectors is set already; moving it would move every target")
        if len(set(texts)) < 2:
            raise UserError(f"the centre of the text vectors needs two distinct texts or more, but got {list(texts)}")
        self.centre.copy_(self._raw(texts).mean(dim=0))

    def add_whitening(self) -> None:
        """Add a linear map after the encoder that is never trained: the identity, until `whiten` sets it."""
        self.projection = nn.Linear(self.encoder.width, self.width, device=self.centre.device).requires_grad_(False)
        nn.init.eye_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)

    @torch.no_grad()
    def whiten(self, texts: Sequence[str], floor: float) -> None:
        """Set the map to `x -> A (x - mean)`, `A = (cov + floor * largest eigenvalue of cov)^(-1/2)`, of these texts.

        A sentence encoder maps all short texts into a narrow cone (unrelated words have a cosine near .3). Their common
        part says nothing about a photo; whitening removes it. The floor limits the scaling of directions that these
        texts hardly use, so that other texts keep their meaning. Texts with one common vector have no spread to divide
        by: the map is then the identity, and a warning says so.
        """
        vectors = self.encode(list(dict.fromkeys(texts))).double()  # [n, E]
        assert self.projection is not None
        mean = vectors.mean(0)
        values, directions = torch.linalg.eigh((vectors - mean).T @ (vectors - mean) / len(vectors))  # [E], [E, E]
        if values.max() <= LEAST_SPREAD * vectors.square().sum(1).mean():
            some = ", ".join(map(repr, list(dict.fromkeys(texts))[:TEXTS_NAMED]))
            log.warning("text vectors are not whitened: that takes two texts that differ, and there is only %s", some)
            nn.init.eye_(self.projection.weight)
            nn.init.zeros_(self.projection.bias)
            return
        matrix = directions @ torch.diag((values.clamp(min=0) + floor * values.max()).rsqrt()) @ directions.T
        self.projection.weight.copy_(matrix)
        self.projection.bias.copy_(-matrix @ mean)

    def save_encoded(self, path: Path) -> None:
        """Write the encoder's vectors of all texts so far, whole or not at all, unless the file has them all."""
        if self._encoded.keys() - (read_cached(path, _parse_encoded) or {}).keys():
            _write_encoded(path, self._encoded)

    def load_encoded(self, path: Path) -> None:
        """Read the vectors that `save_encoded` wrote with the same encoder; a missing or damaged file has none."""
        self._encoded |= read_cached(path, _parse_encoded) or {}

    def cache_in(self, folder: Path) -> None:
        """Keep what a transformer encodes in a folder, for all runs with this encoder."""
        if isinstance(self.encoder, TransformerEncoder) and self.encoder.fingerprint is not None:
            self._cache = folder / f"texts-{self.encoder.fingerprint}.safetensors"

    def _raw(self, texts: Sequence[str]) -> Tensor:
        new = [text for text in dict.fromkeys(texts) if text not in self._encoded]
        if new:
            self._encoded |= self._encode(new)
        return torch.stack([self._encoded[text] for text in texts]) if texts else torch.zeros(0, len(self.centre))

    def _encode(self, texts: list[str]) -> dict[str, Tensor]:
        """Encode texts, or take them from the cache."""
        if self._cache is None:
            return dict(zip(texts, self.encoder.encode(texts), strict=True))
        stored = read_cached(self._cache, _parse_encoded) or {}
        if new := [text for text in texts if text not in stored]:
            stored |= zip(new, self.encoder.encode(new), strict=True)
            with suppress(UserError):  # a full disk, or a folder that may not be written: it only saves time
                _write_encoded(self._cache, stored)
        return {text: stored[text].clone() for text in texts}  # not views of the vectors of all texts


def _write_encoded(path: Path, encoded: dict[str, Tensor]) -> None:
    tensors = {"vectors": torch.stack(list(encoded.values()))}
    write_tensors(path, tensors, {"texts": json.dumps(list(encoded))})


def _parse_encoded(stored: TensorFile) -> dict[str, Tensor]:
    return dict(zip(json.loads(stored.about["texts"]), stored.tensors["vectors"], strict=True))


def build_text_branch(spec: EmbedderSpec, encoder: TextEncoder | None = None) -> TextBranch:
    """Build the text branch of an embedder; random weights come from torch's global generator.

    Args:
        spec: The embedder's settings.
        encoder: By default that of the settings.

    Raises:
        UserError: the encoder does not exist, or its width does not suit the other settings.
    """
    encoder = encoder or build_text_encoder(spec.text)
    if not spec.text_projection and encoder.width != spec.width:
        raise UserError(
            f"the vectors of text encoder {spec.text!r} are {encoder.width} wide but width is {spec.width}: "
            f"set width to {encoder.width}, or text_projection to true"
        )
    if spec.text_prompts and (
        len(spec.text_prompts) != len(UNITS) or any("{}" not in each for each in spec.text_prompts)
    ):
        raise UserError(
            f"model.text_prompts is {list(spec.text_prompts)}: give a template with {{}} for each of {', '.join(UNITS)}"
        )
    if spec.text_projection and spec.whiten:
        raise UserError("whiten and text_projection are two maps of the text vectors; set only one of them")
    projection = spec.width if spec.text_projection else None
    branch = TextBranch(encoder, projection=projection, normalise=spec.text_normalise)
    if spec.whiten:
        branch.add_whitening()
    if (shape := base_shape(spec)) is not None:
        branch.base = TextBase(encoder.width, shape)
    return branch
