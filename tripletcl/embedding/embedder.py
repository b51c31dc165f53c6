"""The image and the text branch together: build, embed, save and load."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tripletcl.data.facts import UNITS, Fact
from tripletcl.data.images import ImageLike
from tripletcl.embedding.backbones import build_backbone
from tripletcl.embedding.eval_mode import eval_mode
from tripletcl.embedding.image import ImageBranch
from tripletcl.embedding.saving import SavedModel, digest, load_model, save_model
from tripletcl.embedding.spec import EmbedderSpec
from tripletcl.embedding.text import TextBranch, build_text_encoder
from tripletcl.embedding.trunk import decode, default_batch_size, pixel_batches
from tripletcl.errors import UserError
from tripletcl.files import validated

SPEC_FILE = "embedder.json"
ScoredBy = Literal["text", "indicators", "both"]
CLOSED_WEIGHT = {"both": 8.0, "indicators": 1e4}
"""Weight of a closed score relative to the mean cosine, whose spread over images is four to eight times larger."""
READOUT_ROWS = 1024
"""Representations per call of the readout: an analytic one expands each to thousands of random features."""


class FactEmbedder(SavedModel):
    """Images and facts as vectors in one space, three units of width D each.

    Build one with `build_embedder` or `FactEmbedder.from_pretrained`.

    Attributes:
        spec: The settings that it was built from.
        image: The image branch.
        text: The text branch.
        facts: The facts that it was taught; only a record, since any fact can be encoded.
    """

    def __init__(self, spec: EmbedderSpec, image: ImageBranch, text: TextBranch, facts: Sequence[Fact] = ()) -> None:
        super().__init__()
        self.spec, self.image, self.text, self.facts = spec, image, text, tuple(facts)

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return self.spec.image_size

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.image.mean.device

    @property
    def vocabulary(self) -> tuple[tuple[str, ...], ...]:
        """For each unit the distinct texts of the taught facts, in order of first appearance."""
        return vocabulary_of(self.facts)

    def encode_images(
        self, images: Sequence[ImageLike], batch_size: int | None = None, normalise: bool = True
    ) -> Tensor:
        """Embed images in eval mode, `[N, 3, D]`: `vectors_of(represent_images(...))`.

        Args:
            images: Paths, Pillow images, uint8 arrays of any size, or results of `decode`.
            batch_size: See `represent_images`.
            normalise: Scale each unit's vector to length 1.

        Raises:
            UserError: an image cannot be decoded.
        """
        return self.vectors_of(self.represent_images(images, batch_size), normalise)

    def decode(self, image: ImageLike) -> np.ndarray:
        """Decode an image to the model's input, uint8 `[3, S, S]`; a decoded image is returned unchanged.

        Threads may call it while the model computes.

        Raises:
            UserError: the image cannot be decoded.
        """
        return decode(image, self.image_size)

    @torch.no_grad()
    def represent_images(self, images: Sequence[ImageLike], batch_size: int | None = None) -> Tensor:
        """Compute the input of the readout in eval mode: pooled features `[N, C]`, with a fork `[N, 2C]`.

        Args:
            images: As for `encode_images`.
            batch_size: Images per pass; by default `default_batch_size`.

        Raises:
            UserError: an image cannot be decoded.
        """
        batch_size = default_batch_size(self.device) if batch_size is None else batch_size
        batches = pixel_batches(images, self.image_size, batch_size, self.device)
        with eval_mode(self.image):
            blocks = [self.image.represent(self.image.features(pixels)).float() for pixels in batches]
        return torch.cat(blocks) if blocks else torch.zeros(0, sum(self.image.part_widths()), device=self.device)

    @torch.no_grad()
    def vectors_of(self, representation: Tensor, normalise: bool = True) -> Tensor:
        """Compute the vectors `[N, 3, D]` of representations `[N, C]` in eval mode.

        Args:
            representation: From `represent_images`, on any device.
            normalise: Scale each unit's vector to length 1.
        """
        with eval_mode(self.image):
            blocks = [self.image.readout(rows.to(self.device)).float() for rows in representation.split(READOUT_ROWS)]
        vectors = torch.cat(blocks)
        return F.normalize(vectors, dim=-1) if normalise else vectors

    @torch.no_grad()
    def encode_units(self, texts: Sequence[str]) -> Tensor:
        """Encode texts of units as normalised vectors `[n, D]`.

        Raises:
            UserError: `texts` is no list of texts.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise UserError(f"texts of units are a list, as in ['dog', 'running'], not {texts!r:.60}")
        return F.normalize(self.text(texts), dim=-1)

    def encode_facts(self, facts: Sequence[Fact]) -> tuple[Tensor, Tensor]:
        """Encode facts: normalised vectors `[F, 3, D]`, zero for a missing unit, and present units, bool `[F, 3]`."""
        return encode_facts(facts, self.encode_units)

    def install_analytic(self, width: int, seed: int, scored_by: ScoredBy) -> None:
        """Install an analytic readout; the heads answer until `set_readout` is called.

        Args:
            width: Number of random features.
            seed: Seed of the random layer.
            scored_by: See `EmbedderSpec.scored_by`.

        Raises:
            UserError: the text branch has a trained map.
        """
        if self.spec.text_projection:
            raise UserError("an analytic readout needs frozen text vectors; set model.text_projection to false")
        self.image.install_analytic(width, seed)
        if not self.spec.whiten:
            self.text.add_whitening()
        self.spec = dataclasses.replace(
            self.spec, random_features=width, random_seed=seed, scored_by=scored_by, whiten=True
        )

    def set_readout(self, weight: Tensor, facts: Sequence[Fact]) -> None:
        """Answer by the analytic readout.

        The unit vectors of an image become the sum of those of the taught facts, each weighted by its score: by
        linearity this is the ridge regression from random features to the facts' text vectors.

        Args:
            weight: The weights of the readout, `[M, K]`.
            facts: The K facts.
        """
        assert self.image.analytic is not None
        self.facts = tuple(facts)
        self.text.whiten([text for fact in facts for text in fact.units if text is not None], self.spec.whitening_floor)
        self.image.analytic.solve(weight, self.encode_facts(facts)[0])

    @torch.no_grad()
    def vectors_and_scores(self, representation: Tensor, facts: Sequence[Fact]) -> tuple[Tensor, Tensor | None]:
        """Compute vectors of images, and closed scores of facts, which are added to the mean cosine.

        Args:
            representation: `[N, C]` from `represent_images`.
            facts: The F facts.

        Returns:
            The vectors `[N, 3, D]` of `vectors_of`, and the closed scores `[N, F]`: 0 for facts that were not taught;
            None if facts are scored by their text only.
        """
        analytic = self.image.analytic
        if analytic is None or not analytic.classes:
            vectors, scores = self.vectors_of(representation), torch.zeros(len(representation), 0, device=self.device)
        else:
            scores = torch.cat([analytic.scores(rows.to(self.device)) for rows in representation.split(READOUT_ROWS)])
            vectors = F.normalize(torch.tensordot(scores, analytic.targets, dims=1), dim=-1)
        if self.spec.scored_by == "text" or analytic is None:
            return vectors, None
        column = {fact: number for number, fact in enumerate(self.facts[: analytic.classes])}
        columns = torch.tensor([column.get(fact, -1) for fact in facts], dtype=torch.int64, device=self.device)
        scores = F.pad(scores, (0, 1))  # [N, K + 1]: a last column of zeros, which -1 picks
        return vectors, CLOSED_WEIGHT[self.spec.scored_by] * scores[:, columns]

    @property
    def trunk_is_frozen(self) -> bool:
        """True if nothing below the readout will be trained, so that representations hold for later stages.

        This is so with an analytic readout that has classes, and in a network that is frozen to its end.
        """
        analytic = self.image.analytic is not None and self.image.analytic.classes > 0
        return analytic or not self.image.has_trainable_stages

    def trunk_fingerprint(self) -> str:
        """Compute 16 hex digits that are equal for two models with equal results of `represent_images`."""
        readout = ("heads.", "analytic.")
        trunk = {name: x for name, x in self.image.state_dict().items() if not name.startswith(readout)}
        return digest(trunk, self.spec.backbone, self.spec.image_size, *self.spec.pooled)

    def save_pretrained(self, folder: str | Path, facts: Sequence[Fact] | None = None) -> None:
        """Write `embedder.json` and `model.safetensors` with all image weights, each whole or not at all.

        Args:
            folder: The folder; created if it is missing.
            facts: The facts that it was taught; by default `self.facts`.
        """
        facts = self.facts if facts is None else facts
        about = {"spec": dataclasses.asdict(self.spec), "facts": [fact.units for fact in facts]}
        save_model(Path(folder), SPEC_FILE, self, about)

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: torch.device | str = "cpu") -> FactEmbedder:
        """Load a folder of `save_pretrained`; nothing is downloaded and no pickle is read.

        Raises:
            UserError: a file is missing or damaged, or is of a version with other settings.
        """
        return load_model(Path(folder), SPEC_FILE, "embedder", _parse, _rebuild).to(device).eval()


def _parse(about: Mapping[str, Any]) -> tuple[EmbedderSpec, tuple[Fact, ...]]:
    return validated(EmbedderSpec, about["spec"]), tuple(Fact(*units) for units in about["facts"])


def _rebuild(parsed: tuple[EmbedderSpec, tuple[Fact, ...]]) -> FactEmbedder:
    """Build an embedder whose weights will be loaded."""
    spec, facts = parsed
    embedder = build_embedder(dataclasses.replace(spec, weights="none"), seed=0)
    if spec.random_features:
        embedder.image.install_analytic(spec.random_features, spec.random_seed)
    embedder.spec, embedder.facts = spec, facts
    return embedder


def vocabulary_of(facts: Sequence[Fact]) -> tuple[tuple[str, ...], ...]:
    """List for each unit the distinct texts among facts, in order of first appearance."""
    return tuple(
        tuple(dict.fromkeys(text for fact in facts if (text := fact.units[unit]) is not None))
        for unit in range(len(UNITS))
    )


def encode_facts(facts: Sequence[Fact], encode_units: Callable[[Sequence[str]], Tensor]) -> tuple[Tensor, Tensor]:
    """Encode facts by the vectors of their units.

    Args:
        facts: The F facts.
        encode_units: Gives n distinct texts their vectors `[n, D]`.

    Returns:
        Vectors `[F, 3, D]`, zero for a unit that a fact lacks, and which units are present, bool `[F, 3]`.

    Raises:
        UserError: `facts` is no list of facts.
    """
    if isinstance(facts, str | Fact) or not all(isinstance(fact, Fact) for fact in facts):
        raise UserError(f"facts are a list of Fact, as in [Fact('dog', 'running')], not {facts!r:.60}")
    texts = list(dict.fromkeys(text for fact in facts for text in fact.units if text is not None))
    row = {text: i for i, text in enumerate(texts)} | {None: -1}
    vectors = F.pad(encode_units(texts), (0, 0, 0, 1))  # a last row of zeros, which -1 picks
    ids = torch.tensor([[row[text] for text in fact.units] for fact in facts], device=vectors.device)
    ids = ids.reshape(len(facts), len(UNITS)).long()
    return vectors[ids], ids >= 0


def build_embedder(spec: EmbedderSpec, seed: int) -> FactEmbedder:
    """Build an embedder; random weights depend on the seed only, and no global generator is used.

    Raises:
        UserError: a setting has an unknown name, or the widths of image and text differ.
    """
    encoder = build_text_encoder(spec.text)
    if not spec.text_projection and encoder.width != spec.width:
        raise UserError(
            f"the vectors of text encoder {spec.text!r} are {encoder.width} wide but width is {spec.width}: "
            f"set width to {encoder.width}, or text_projection to true"
        )
    if spec.text_projection and spec.whiten:
        raise UserError("whiten and text_projection are two maps of the text vectors; set only one of them")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs' generators too
        image = ImageBranch(
            build_backbone(spec.backbone, spec.weights),
            spec.width,
            freeze_until=spec.freeze_until,
            fork_at=spec.fork_at,
            hidden=spec.hidden,
            head_std=spec.head_std,
            pooled=spec.pooled,
        )
        projection = spec.width if spec.text_projection else None
        text = TextBranch(encoder, projection=projection, normalise=spec.text_normalise)
        if spec.whiten:
            text.add_whitening()
    return FactEmbedder(spec, image, text)
