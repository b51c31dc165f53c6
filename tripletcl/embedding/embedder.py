"""The image and the text branch together: build, embed, save and load."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from tripletcl.data.facts import UNITS, Fact
from tripletcl.data.images import ImageLike
from tripletcl.embedding.base import base_shape, start_image_base
from tripletcl.embedding.description import REMEDY, WEIGHTS_FILE
from tripletcl.embedding.eval_mode import eval_mode
from tripletcl.embedding.image import ImageBranch
from tripletcl.embedding.networks import trunk_settings
from tripletcl.embedding.pairs import start_at_projection, with_pair
from tripletcl.embedding.readout import ClosedScores
from tripletcl.embedding.saving import SavedModel, digest, load_model, save_model
from tripletcl.embedding.spec import EmbedderSpec
from tripletcl.embedding.taught import Parsed, Taught, latest_stage, parse
from tripletcl.embedding.text import TextBranch, build_text_branch
from tripletcl.embedding.text_embedder import TEXT_DIGEST, TextEmbedder
from tripletcl.embedding.text_vectors import TextEncoder
from tripletcl.embedding.trunk import decode, default_batch_size, pixel_batches
from tripletcl.errors import UserError, check_path
from tripletcl.files import reading
from tripletcl.files.arrays import hash_arrays, read_part
from tripletcl.files.documents import EMBEDDER

ScoredBy = Literal["text", "indicators", "both"]
CLOSED_WEIGHT = {"both": 8.0, "indicators": 1e4}
"""Weight of a closed score relative to the mean cosine, whose spread over images is four to eight times larger."""
READOUT_ROWS = 1024
"""Representations per call of the readout: an analytic one expands each to thousands of random features."""


class FactEmbedder(Taught, SavedModel):
    """Images and facts as vectors in one space, three units of width D each.

    Build one with `build_embedder` or `FactEmbedder.from_pretrained`.

    Attributes:
        image: The image branch.
        text: The text branch; see `Taught` for the others.
    """

    def __init__(
        self,
        spec: EmbedderSpec,
        image: ImageBranch,
        text: TextBranch,
        facts: Sequence[Fact] = (),
        base_descriptions: Sequence[str] = (),
        levels: Sequence[float] = (),
    ) -> None:
        super().__init__()  # images first: sums over all parameters keep their order, and their last bits
        self.spec, self.image, self.text = spec, image, text
        self.facts, self.base_descriptions, self.levels = tuple(facts), tuple(base_descriptions), tuple(levels)

    @property
    def image_size(self) -> int:
        """Side of the square input in pixels."""
        return self.spec.image_size

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.image.mean.device

    # --- texts -------------------------------------------------------------------------------------------------------

    @property
    def texts(self) -> TextEmbedder:
        """The text side as it is now."""
        known = self.facts, self.base_descriptions, self.levels
        return TextEmbedder(self.spec, self.text.arrays(), self.text.vectors, *known)

    def encode_units(self, texts: Sequence[str], unit: int | None = None) -> Tensor:
        """Encode texts of units as normalised vectors `[n, D]`; see `TextEmbedder.encode_units`."""
        return torch.from_numpy(self.texts.encode_units(texts, unit)).to(self.device)

    def encode_facts(self, facts: Sequence[Fact]) -> tuple[Tensor, Tensor]:
        """Encode facts by the vectors of their units, `[F, 3, D]`, and the units present; without a gradient.

        See `TextEmbedder.encode_facts`.
        """
        vectors, present = self.texts.encode_facts(facts)
        return torch.from_numpy(vectors).to(self.device), torch.from_numpy(present).to(self.device)

    @torch.no_grad()
    def taught_vectors(self, facts: Sequence[Fact]) -> Tensor:
        """Encode facts as the targets of a readout, `[F, 3, D]`: as `encode_facts`, but without a base."""
        plain = dataclasses.replace(self.spec, base=None)
        vectors, _ = TextEmbedder(plain, self.text.arrays(), self.text.vectors).encode_facts(facts)
        return torch.from_numpy(vectors).to(self.device)

    def nearest_of_base(self, text: str, unit: int | None = None, count: int = 3) -> list[str]:
        """Name what answers a text that was never taught; see `TextEmbedder.nearest_of_base`."""
        return self.texts.nearest_of_base(text, unit, count)

    def familiarity(self, text: str, unit: int | None = None) -> float | None:
        """Return how near a text is to what the base knows; see `TextEmbedder.familiarity`."""
        return self.texts.familiarity(text, unit)

    def seen_by_base(self, text: str, vectors: np.ndarray, unit: int | None = None) -> np.ndarray:
        """Return the evidence that images show what a text means; see `TextEmbedder.seen_by_base`."""
        return self.texts.seen_by_base(text, vectors, unit)

    def encode_queries(self, queries: Sequence[Sequence[str | None]]) -> np.ndarray | None:
        """Encode queries as wholes; see `TextEmbedder.encode_queries`."""
        return self.texts.encode_queries(queries)

    def also_asked(self, units: Sequence[str | None]) -> tuple[list[Fact], float | None]:
        """Name the taught facts that a query asks although it does not name them; see `TextEmbedder.also_asked`."""
        return self.texts.also_asked(units)

    def encode_levelled(self, units: Sequence[str | None]) -> np.ndarray:
        """Encode each taught fact that a query asks; see `TextEmbedder.encode_levelled`."""
        return self.texts.encode_levelled(units)

    # --- images ------------------------------------------------------------------------------------------------------

    def encode_images(
        self,
        images: Sequence[ImageLike | Tensor],
        batch_size: int | None = None,
        normalise: bool = True,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Embed images in eval mode, `[N, 3, D]`: `vectors_of(represent_images(...))`.

        Args:
            images: Paths, Pillow images, uint8 arrays or tensors of any size, or results of `decode`, in any mixture.
            batch_size: See `represent_images`.
            normalise: Scale each unit's vector to length 1.
            device: The model is moved there and stays there; None leaves it where it is.

        Raises:
            UserError: an image cannot be decoded, or is of a type that is none.
        """
        if device is not None:
            _move(self, device)
        return self.vectors_of(self.represent_images(images, batch_size), normalise)

    def decode(self, image: ImageLike | Tensor) -> np.ndarray:
        """Decode an image to the model's input, uint8 `[3, S, S]`; a decoded image is returned unchanged.

        Threads may call it while the model computes.

        Raises:
            UserError: the image cannot be decoded.
        """
        return decode(image, self.image_size)

    @torch.no_grad()
    def represent_images(self, images: Sequence[ImageLike | Tensor], batch_size: int | None = None) -> Tensor:
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

    def set_readout(self, weight: Tensor, facts: Sequence[Fact], levels: Sequence[float] = ()) -> None:
        """Answer by the analytic readout.

        The unit vectors of an image become the sum of those of the taught facts, each weighted by its score: by
        linearity this is the ridge regression from random features to the facts' text vectors.

        Args:
            weight: The weights of the readout, `[M, K]`.
            facts: The K facts.
            levels: Of each fact the mean score of the photos that taught it, 0 where that is not known.
        """
        assert self.image.analytic is not None
        self.facts, self.levels = tuple(facts), tuple(levels)
        self.whiten(facts)
        self.image.analytic.solve(weight, self.taught_vectors(facts))

    def whiten(self, facts: Sequence[Fact]) -> None:
        """Whiten the text vectors by the texts of these facts."""
        texts = [text for units in self.prompts(facts) for text in units if text is not None]
        self.text.whiten(texts, self.spec.whitening_floor)

    def score_by_text(self) -> None:
        """Score facts by their text vectors only, whatever the readout was installed for."""
        self.spec = dataclasses.replace(self.spec, scored_by="text")

    def set_vector_readout(self, weight: Tensor, facts: Sequence[Fact]) -> None:
        """Answer by an analytic readout whose outputs are the unit vectors, not the scores of single facts.

        Args:
            weight: The weights of the readout, `[M, 3 * D]`.
            facts: The facts that were taught.
        """
        assert self.image.analytic is not None
        self.facts, self.levels = tuple(facts), ()
        self.image.analytic.solve(weight, torch.eye(weight.shape[1]).unflatten(1, (len(UNITS), -1)))

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
            outputs = torch.tensordot(scores, analytic.targets, dims=1)
            vectors = F.normalize(self.image.with_base(representation.to(self.device), outputs), dim=-1)
        if self.spec.scored_by == "text" or analytic is None:
            return vectors, None
        scores = F.pad(scores, (0, 1))  # [N, K + 1]: a last column of zeros, which -1 picks
        return vectors, CLOSED_WEIGHT[self.spec.scored_by] * scores[:, self._columns_of(facts)]

    @torch.no_grad()
    def closed_scores(self, representation: Tensor, facts: Sequence[Fact]) -> ClosedScores | None:
        """The closed scores of `vectors_and_scores`, to be computed in blocks of facts where `[N, F]` is too large."""
        analytic = self.image.analytic
        if self.spec.scored_by == "text" or analytic is None:
            return None
        phi = torch.cat([analytic.expand(rows.to(self.device)) for rows in representation.split(READOUT_ROWS)])
        weight = F.pad(CLOSED_WEIGHT[self.spec.scored_by] * analytic.weight, (0, not analytic.classes))
        return ClosedScores(phi, weight, self._columns_of(facts))

    def _columns_of(self, facts: Sequence[Fact]) -> Tensor:
        """`[F]` the column of each fact in the analytic readout, -1 for one that it does not know."""
        assert self.image.analytic is not None
        column = {fact: number for number, fact in enumerate(self.facts[: self.image.analytic.classes])}
        return torch.tensor([column.get(fact, -1) for fact in facts], dtype=torch.int64, device=self.device)

    @property
    def trunk_is_frozen(self) -> bool:
        """True if nothing below the readout will be trained, so that representations hold for later stages.

        This is so with an analytic readout that has classes, and in a network that is frozen to its end.
        """
        analytic = self.image.analytic is not None and self.image.analytic.classes > 0
        return analytic or not self.image.has_trainable_stages

    def trunk_fingerprint(self) -> str:
        """Compute 16 hex digits that are equal for two models with equal results of `represent_images`."""
        readout = ("heads.", "analytic.", "base.")
        trunk = {name: x for name, x in self.image.state_dict().items() if not name.startswith(readout)}
        return digest(trunk, self.spec.backbone, self.spec.image_size, *self.spec.pooled, *self.spec.network_sizes)

    def save_pretrained(self, folder: str | Path, facts: Sequence[Fact] | None = None) -> None:
        """Write `embedder.json` and `model.safetensors` with all image weights, each whole or not at all.

        Args:
            folder: The folder; created if it is missing.
            facts: The facts that it was taught; by default `self.facts`.
        """
        facts = self.facts if facts is None else facts
        about: dict[str, Any] = {"spec": dataclasses.asdict(self.spec), "facts": [fact.units for fact in facts]}
        about[TEXT_DIGEST] = hash_arrays(self.text.arrays())
        if self.base_descriptions:
            about["base_descriptions"] = self.base_descriptions
        if self.levels and len(self.levels) == len(facts):
            about["levels"] = self.levels
        save_model(Path(folder), EMBEDDER, self, about)

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: torch.device | str = "cpu", *, text: bool = True) -> Self:
        """Load a folder of `save_pretrained`; nothing is downloaded and no pickle is read.

        Args:
            folder: The folder, that of a run's stage, or that of a run, whose latest stage is loaded.
            device: Of the weights.
            text: Load the text encoder as well; without it photos are embedded as ever, and texts are refused.

        Raises:
            UserError: a file is missing or damaged, or is of a version with other settings.
        """
        folder = latest_stage(check_path("a model", folder))
        build = partial(cls._build, encoder=None if text else NoTextEncoder.of(folder))
        return _move(load_model(folder, EMBEDDER, "embedder", parse, build), device).eval()

    @classmethod
    def _build(cls, parsed: Parsed, encoder: TextEncoder | None = None) -> Self:
        spec, facts, known, levels = parsed
        embedder = build_embedder(dataclasses.replace(spec, weights="none"), seed=0, encoder=encoder)
        if spec.random_features:
            embedder.image.install_analytic(spec.random_features, spec.random_seed)
        return cls(spec, embedder.image, embedder.text, facts, known, levels)


Moved = TypeVar("Moved", bound="FactEmbedder")


def _move(embedder: Moved, device: torch.device | str) -> Moved:
    """Move a model to a device.

    Raises:
        UserError: there is none of this name here.
    """
    try:
        return embedder.to(device)
    except (AssertionError, RuntimeError, TypeError) as error:  # as torch says it of a GPU that is missing
        raise UserError(f"no device {device!r} can be used here: {str(error).splitlines()[0]}") from error


class NoTextEncoder:
    """Stands in for the text encoder of a model that embeds photos only.

    Args:
        width: Of the encoder's vectors.
    """

    def __init__(self, width: int) -> None:
        self.width = width

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Stand in for the encoder of a saved model, whose width is that of the stored centre.

        Raises:
            UserError: the weights are missing or damaged.
        """
        path = folder / WEIGHTS_FILE
        with reading(path, REMEDY):
            return cls(len(read_part(path, "text.", REMEDY)["centre"]))

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Refuse."""
        raise UserError("this model was loaded for photos only, with text=False: load it again to encode texts")


def build_embedder(
    spec: EmbedderSpec,
    seed: int,
    *,
    cache: Path | None = None,
    texts: Path | None = None,
    encoder: TextEncoder | None = None,
) -> FactEmbedder:
    """Build an embedder; random weights depend on the seed only, and no global generator is used.

    Args:
        spec: The settings.
        seed: Of random weights.
        cache: A folder of text vectors, for all runs (`TextVectors.cache_in`).
        texts: A file of vectors of texts that were encoded before (`TextVectors.save`).
        encoder: The text encoder; by default that of the settings.

    Raises:
        UserError: a setting has an unknown name, or the widths of image and text differ.
    """
    spec = with_pair(spec)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reach the GPUs' generators too
        image = ImageBranch(
            **trunk_settings(spec),
            width=spec.width,
            fork_at=spec.fork_at,
            hidden=spec.hidden,
            head_std=spec.head_std,
            base=base_shape(spec),
        )
        text = build_text_branch(spec, encoder)
    if cache is not None:
        text.vectors.cache_in(cache)
    if texts is not None:
        text.vectors.load(texts)
    if spec.weights == "none":
        return FactEmbedder(spec, image, text)
    if spec.pair is not None:
        start_at_projection(spec, image.heads)
    if image.base is not None:
        start_image_base(spec, image.base, image.heads)
    return FactEmbedder(spec, image, text, base_descriptions=text.start_base())
