"""The image and the text branch together: build, embed, score, save and load."""

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

SPEC_FILE = "embedder.json"
ScoredBy = Literal["text", "indicators", "both"]
CLOSED_WEIGHT = {"both": 8.0, "indicators": 1e4}
"""Against the mean cosine: a fact's score spreads over the images about a quarter to an eighth as far as its cosine."""
READOUT_ROWS = 1024
"""Representations read out at a time: an analytic read-out expands each to thousands of random features."""


class FactEmbedder(SavedModel):
    """Images and facts as vectors in one space, three units of width D each.

    Build one with `build_embedder` or `FactEmbedder.from_pretrained`.

    Attributes:
        spec: What it was built from.
        image: The image branch.
        text: The text branch.
        facts: The facts it has been taught; only a record, any fact can be encoded.
    """

    def __init__(self, spec: EmbedderSpec, image: ImageBranch, text: TextBranch, facts: Sequence[Fact] = ()) -> None:
        super().__init__()
        self.spec, self.image, self.text, self.facts = spec, image, text, tuple(facts)

    @property
    def image_size(self) -> int:
        """Pixels of the square that images are cut to."""
        return self.spec.image_size

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.image.mean.device

    @property
    def vocabulary(self) -> tuple[tuple[str, ...], ...]:
        """For each unit the distinct texts among the taught facts, in order of first appearance."""
        return vocabulary_of(self.facts)

    def encode_images(
        self, images: Sequence[ImageLike], batch_size: int | None = None, normalise: bool = True
    ) -> Tensor:
        """Vectors `[N, 3, D]` of images, in eval mode: `vectors_of` what `represent_images` returns.

        Args:
            images: Paths, Pillow images, uint8 arrays of any size, or what `decode` returned.
            batch_size: How many at a time; see `represent_images`.
            normalise: Give each unit's vector length 1.

        Raises:
            UserError: an image cannot be decoded.
        """
        return self.vectors_of(self.represent_images(images, batch_size), normalise)

    def decode(self, image: ImageLike) -> np.ndarray:
        """An image as the model sees it, uint8 `[3, S, S]`; what this returned before is passed on as it is.

        Threads may call it while the model works.

        Raises:
            UserError: the image cannot be decoded.
        """
        return decode(image, self.image_size)

    @torch.no_grad()
    def represent_images(self, images: Sequence[ImageLike], batch_size: int | None = None) -> Tensor:
        """What the read-out reads of images, in eval mode: pooled features `[N, C]`, with a fork `[N, 2C]`.

        Args:
            images: As for `encode_images`.
            batch_size: How many at a time; by default `default_batch_size`.

        Raises:
            UserError: an image cannot be decoded.
        """
        batches = pixel_batches(images, self.image_size, batch_size or default_batch_size(self.device), self.device)
        with eval_mode(self.image):
            branch = self.image
            blocks = [branch.represent(branch.features(x)).float() for x in batches]
            if not blocks:  # nothing to read the width from
                blocks = [branch.represent(branch.features(self._blank())).float()[:0]]
        return torch.cat(blocks)

    @torch.no_grad()
    def vectors_of(self, representation: Tensor, normalise: bool = True) -> Tensor:
        """Vectors `[N, 3, D]` of what `represent_images` returned, `[N, C]`, in eval mode.

        Args:
            representation: On any device.
            normalise: Give each unit's vector length 1.
        """
        with eval_mode(self.image):
            blocks = [self.image.readout(rows.to(self.device)).float() for rows in representation.split(READOUT_ROWS)]
        vectors = torch.cat(blocks)
        return F.normalize(vectors, dim=-1) if normalise else vectors

    def _blank(self) -> Tensor:
        return torch.zeros(1, 3, self.image_size, self.image_size, device=self.device)

    @torch.no_grad()
    def encode_units(self, texts: Sequence[str]) -> Tensor:
        """Normalised vectors `[n, D]` of unit texts."""
        return F.normalize(self.text(texts), dim=-1)

    def encode_facts(self, facts: Sequence[Fact]) -> tuple[Tensor, Tensor]:
        """Normalised vectors `[F, 3, D]` of facts, zero for a unit that a fact lacks, and present, bool `[F, 3]`."""
        return encode_facts(facts, self.encode_units)

    def install_analytic(self, width: int, seed: int, scored_by: ScoredBy) -> None:
        """Make room for an analytic read-out in place of the heads; these answer until `read_out` is called.

        Args:
            width: Number of random features.
            seed: Of the random layer.
            scored_by: See `EmbedderSpec.scored_by`.

        Raises:
            UserError: the text has a trained map, or a width of its own.
        """
        if self.spec.text_projection:
            raise UserError(
                "an analytic read-out needs text vectors that stand still; set model.text_projection to false"
            )
        self.image.install_analytic(width, seed)
        if not self.spec.whiten:
            self.text.add_whitening()
        self.spec = dataclasses.replace(
            self.spec, random_features=width, random_seed=seed, scored_by=scored_by, whiten=True
        )

    def set_readout(self, weight: Tensor, facts: Sequence[Fact]) -> None:
        """Answer by the analytic read-out from now on.

        The unit vectors of an image become the sum of those of the facts taught, each weighed by its score: by
        linearity that is the ridge regression from random features onto the facts' text vectors.

        Args:
            weight: `[M, K]`, the read-out's weights.
            facts: The K facts.
        """
        assert self.image.analytic is not None
        self.facts = tuple(facts)
        self.text.whiten([text for fact in facts for text in fact.units if text is not None], self.spec.whitening_floor)
        self.image.analytic.solve(weight, self.encode_facts(facts)[0])

    @torch.no_grad()
    def answers(self, representation: Tensor, facts: Sequence[Fact]) -> tuple[Tensor, Tensor | None]:
        """`vectors_of` and `closed_scores` at once: an analytic read-out then expands a representation only once."""
        analytic = self.image.analytic
        if analytic is None or not analytic.classes:
            return self.vectors_of(representation), self.closed_scores(representation, facts)
        scores = torch.cat([analytic.scores(rows.to(self.device)) for rows in representation.split(READOUT_ROWS)])
        vectors = F.normalize(torch.tensordot(scores, analytic.targets, dims=1), dim=-1)
        return vectors, self._closed(scores, facts)

    def closed_scores(self, representation: Tensor, facts: Sequence[Fact]) -> Tensor | None:
        """What is added to the mean cosine, `[N, F]`: the scores of facts that were taught; 0 for all others.

        Args:
            representation: `[N, C]` from `image.represent`.
            facts: The F facts.

        Returns:
            None where facts are scored by their text alone.
        """
        if self.spec.scored_by == "text" or self.image.analytic is None:
            return None
        return self._closed(self.image.analytic.scores(representation), facts)

    def _closed(self, scores: Tensor, facts: Sequence[Fact]) -> Tensor | None:
        """The columns `[N, F]` of the read-out's scores `[N, K]` that belong to facts."""
        if self.spec.scored_by == "text" or self.image.analytic is None:
            return None
        known = {fact: column for column, fact in enumerate(self.facts[: self.image.analytic.classes])}
        columns = torch.tensor([known.get(fact, -1) for fact in facts], dtype=torch.int64, device=self.device)
        scores = F.pad(scores, (0, 1))  # a last column of zeros, which -1 picks
        return CLOSED_WEIGHT[self.spec.scored_by] * scores[:, columns]

    @staticmethod
    def score(image_vectors: Tensor, fact_vectors: Tensor) -> Tensor:
        """How well facts fit images, `[N, F]`: the sum over the units that a fact has of the cosine.

        Args:
            image_vectors: `[N, 3, D]`, normalised or not.
            fact_vectors: `[F, 3, D]`, normalised or not; zero for a unit that a fact lacks.
        """
        images, facts = (F.normalize(vectors, dim=-1).flatten(1) for vectors in (image_vectors, fact_vectors))
        return images @ facts.T

    @property
    def trunk_is_frozen(self) -> bool:
        """Is nothing below the read-out trained any more?

        So it is behind an analytic read-out that knows classes, and in a network frozen to its end: what
        `represent_images` returned then holds for the stages to come.
        """
        analytic = self.image.analytic is not None and self.image.analytic.classes > 0
        return analytic or not self.image.trunk_is_open

    def trunk_fingerprint(self) -> str:
        """16 hex digits, equal for two models whose `represent_images` returns the same."""
        readout = ("heads.", "analytic.")
        trunk = {name: x for name, x in self.image.state_dict().items() if not name.startswith(readout)}
        return digest(trunk, self.spec.backbone, self.spec.image_size, *self.spec.pooled)

    def save_pretrained(self, folder: str | Path, facts: Sequence[Fact] | None = None) -> None:
        """Write `embedder.json` and `model.safetensors` with all image weights, each whole or not at all.

        Args:
            folder: Where; made if need be.
            facts: The facts it has been taught; by default `self.facts`.
        """
        known = self.facts if facts is None else facts
        about = {"spec": dataclasses.asdict(self.spec), "facts": [fact.units for fact in known]}
        save_model(Path(folder), SPEC_FILE, self, about)

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: torch.device | str = "cpu") -> FactEmbedder:
        """Load what `save_pretrained` wrote; nothing is downloaded and no pickle is read.

        Raises:
            UserError: a file is missing, damaged, or of a version that knows other settings.
        """
        return load_model(Path(folder), SPEC_FILE, "embedder", ("spec", "facts"), _parse, _rebuild).to(device).eval()


def _parse(about: Mapping[str, Any]) -> tuple[EmbedderSpec, tuple[Fact, ...]]:
    return EmbedderSpec(**about["spec"]), tuple(Fact(*units) for units in about["facts"])


def _rebuild(parsed: tuple[EmbedderSpec, tuple[Fact, ...]]) -> FactEmbedder:
    """Build an embedder whose weights will all be loaded."""
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
    """
    texts = list(dict.fromkeys(text for fact in facts for text in fact.units if text is not None))
    row = {text: i for i, text in enumerate(texts)} | {None: -1}
    vectors = F.pad(encode_units(texts), (0, 0, 0, 1))  # a last row of zeros, which -1 picks
    ids = torch.tensor([[row[text] for text in fact.units] for fact in facts], device=vectors.device)
    ids = ids.reshape(len(facts), len(UNITS)).long()
    return vectors[ids], ids >= 0


def build_embedder(spec: EmbedderSpec, seed: int) -> FactEmbedder:
    """Build an embedder; what starts at random depends on the seed alone, and no global generator moves.

    Raises:
        UserError: a setting names nothing known, or the widths of image and text differ.
    """
    encoder = build_text_encoder(spec.text)
    if not spec.text_projection and encoder.width != spec.width:
        raise UserError(
            f"the vectors of text encoder {spec.text!r} are {encoder.width} wide but width is {spec.width}: "
            f"set width to {encoder.width}, or text_projection to true"
        )
    if spec.text_projection and spec.whiten:
        raise UserError("whiten and text_projection are two maps of the text vectors; set one of them alone")
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
