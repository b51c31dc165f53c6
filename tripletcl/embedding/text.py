"""The text branch: a frozen text encoder, and a map on top of it that may be trained."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tripletcl.data.facts import UNITS
from tripletcl.embedding.base import TextBase, base_shape, start_text_base
from tripletcl.embedding.spec import EmbedderSpec
from tripletcl.embedding.text_encoders import build_text_encoder
from tripletcl.embedding.text_vectors import TEXTS_NAMED, TextEncoder, TextVectors
from tripletcl.errors import UserError

log = logging.getLogger("tripletcl")

LEAST_SPREAD = 1e-12
"""Variance of text vectors, relative to their squared length, that is more than rounding."""


class TextBranch(nn.Module):
    """Maps texts to vectors: encode, subtract a centre, apply a map if there is one, and scale to length 1.

    The encoder is not part of the state_dict; the centre and the map are. Training uses this; a trained model's texts
    are encoded by `TextEmbedder`.

    Args:
        encoder: From `build_text_encoder`.
        projection: Width D of a trained linear map after the encoder; None for no map.
        normalise: Scale every vector to length 1.

    Attributes:
        vectors: The encoder's vectors, each computed once; deep copies share them.
    """

    centre: Tensor

    def __init__(self, encoder: TextEncoder, *, projection: int | None = None, normalise: bool = True) -> None:
        super().__init__()
        self.encoder = encoder
        self.vectors = TextVectors(encoder)
        self.normalise = normalise
        self.projection = None if projection is None else nn.Linear(encoder.width, projection)
        self.width = encoder.width if projection is None else projection
        self.register_buffer("centre", torch.zeros(encoder.width))
        self.base: TextBase | None = None

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
        """Set the base of an untrained model; returns what it knows, in words; none without a base."""
        return () if self.base is None else start_text_base(self.base, self._raw)

    def arrays(self) -> dict[str, np.ndarray]:
        """The weights as arrays, for `TextEmbedder`; those on the CPU are shared."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.state_dict().items()}

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

    def _raw(self, texts: Sequence[str]) -> Tensor:
        return torch.from_numpy(self.vectors(texts)) if texts else torch.zeros(0, len(self.centre))


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
