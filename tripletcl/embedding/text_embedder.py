"""The text side of an embedder, which encodes facts and queries: it needs no image network, and no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from tripletcl.data.facts import UNITS, Fact
from tripletcl.embedding import text_base
from tripletcl.embedding.description import (
    REMEDY,
    WEIGHTS_FILE,
    check_weights,
    other_weights,
    read_description,
    saved_fingerprint,
    weights_file,
)
from tripletcl.embedding.spec import EmbedderSpec
from tripletcl.embedding.taught import Taught, latest_stage, parse
from tripletcl.embedding.text_vectors import TextVectors
from tripletcl.errors import UserError
from tripletcl.files import reading
from tripletcl.files.arrays import hash_arrays, read_part
from tripletcl.files.documents import EMBEDDER, RESTORE

TEXT_PART = "text."
"""The beginning of the names of its weights in the file of a whole model."""
TEXT_DIGEST = "text_sha256"
"""The entry of a description that has the digest of these weights alone: the image network's are not read."""


class TextEmbedder(Taught):
    """Facts, and texts of their units, as vectors: enough to query a photo index.

    A text is encoded, centred, mapped and scaled to length 1, in float64 that is rounded once: a text's vector does not
    depend on the others. `FactEmbedder` computes the vectors of facts and queries by it, so both give the same bits.

    Args:
        spec: The settings of the embedder that it is a part of.
        weights: The `centre` `[E]` of the encoder's vectors, and perhaps a `projection.weight` `[D, E]`, a
            `projection.bias` `[D]` and, of a soft vocabulary, `base.descriptions` `[W, E]`.
        vectors: Of the text encoder.
        facts: The facts that the embedder was taught.
        base_names: What the base calls the things that it knows.
        fingerprint: Of the whole model.

    Attributes:
        vectors: Of the text encoder.
    """

    def __init__(
        self,
        spec: EmbedderSpec,
        weights: Mapping[str, np.ndarray],
        vectors: TextVectors,
        facts: Sequence[Fact] = (),
        base_names: Sequence[str] = (),
        fingerprint: str = "",
    ) -> None:
        self.spec, self.vectors = spec, vectors
        self.facts, self.base_names = tuple(facts), tuple(base_names)
        self._weights, self._fingerprint = weights, fingerprint

    def fingerprint(self) -> str:
        """Return that of the whole model, as it was saved."""
        return self._fingerprint

    # --- vectors -----------------------------------------------------------------------------------------------------

    def encode_units(self, texts: Sequence[str], unit: int | None = None) -> np.ndarray:
        """Encode texts of units as normalised vectors `[n, D]` float32.

        Args:
            texts: The texts.
            unit: The unit that they are of, 0 to 2, whose template they are put into; None uses none.

        Raises:
            UserError: `texts` is no list of texts.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise UserError(f"texts of units are a list, as in ['dog', 'running'], not {texts!r:.60}")
        return self._encode([self.spec.prompt(text, unit) for text in texts])

    def encode_facts(self, facts: Sequence[Fact]) -> tuple[np.ndarray, np.ndarray]:
        """Encode facts by the vectors of their units.

        Returns:
            Normalised vectors `[F, 3, D]` float32, zero for a unit that a fact lacks, and the units present, bool
            `[F, 3]`.

        Raises:
            UserError: `facts` is no list of facts.
        """
        if isinstance(facts, str | Fact) or not all(isinstance(fact, Fact) for fact in facts):
            raise UserError(f"facts are a list of Fact, as in [Fact('dog', 'running')], not {facts!r:.60}")
        prompts = self.prompts(facts)
        texts = list(dict.fromkeys(text for units in prompts for text in units if text is not None))
        row = {text: i for i, text in enumerate(texts)} | {None: -1}
        vectors = np.pad(self._encode(texts), ((0, 1), (0, 0)))  # a last row of zeros, which -1 picks
        ids = np.array([[row[text] for text in units] for units in prompts], np.int64).reshape(len(prompts), len(UNITS))
        return vectors[ids], ids >= 0

    def _encode(self, prompts: list[str]) -> np.ndarray:
        """The vectors of what the encoder reads; with a base, a prompt of no taught fact has the base's block only."""
        if not prompts:
            return np.zeros((0, self._width), np.float32)
        encoded = self.vectors(prompts)
        own = text_base.unit_length(self._project(encoded))
        if self.spec.base is None:
            return own.astype(np.float32)
        taught = {text for units in self.prompts(self.facts) for text in units}
        known = np.array([prompt in taught for prompt in prompts])
        return text_base.join(text_base.base_blocks(encoded, self._descriptions), own, known).astype(np.float32)

    def _project(self, encoded: np.ndarray) -> np.ndarray:
        vectors = encoded.astype(np.float64) - self._weights["centre"]
        if "projection.weight" not in self._weights:
            return vectors
        return vectors @ self._weights["projection.weight"].T.astype(np.float64) + self._weights["projection.bias"]

    @property
    def _descriptions(self) -> np.ndarray | None:
        """Those of a soft vocabulary."""
        return self._weights["base.descriptions"] if self.spec.base == "classes" else None

    @property
    def _width(self) -> int:
        own = len(self._weights.get("projection.bias", self._weights["centre"]))
        if self.spec.base is None:
            return own
        return own + 1 + (len(self._weights["centre"]) if self._descriptions is None else len(self._descriptions))

    # --- the base ----------------------------------------------------------------------------------------------------

    def nearest_of_base(self, text: str, unit: int | None = None, count: int = 3) -> list[str]:
        """Name what answers a text that was never taught: the classes of a soft vocabulary with the most weight."""
        if self._descriptions is None or not self.base_names:
            return []
        weights = text_base.cosines_of(self._raw(text, unit), self._descriptions)[0]
        return [self.base_names[number].split(", ")[0] for number in np.argsort(-weights, kind="stable")[:count]]

    def familiarity(self, text: str, unit: int | None = None) -> float | None:
        """Return how near a text is to what the base knows, a cosine; None if the text was taught, or without classes.

        Args:
            text: The text.
            unit: See `encode_units`.
        """
        prompt = self.spec.prompt(text, unit)
        if self._descriptions is None or any(prompt in units for units in self.prompts(self.facts)):
            return None
        return float(text_base.cosines_of(self._raw(text, unit), self._descriptions).max())

    def seen_by_base(self, text: str, vectors: np.ndarray, unit: int | None = None) -> np.ndarray:
        """Return the probability that images show what a text means to the base, `[N]`.

        Args:
            text: A text with a `familiarity`.
            vectors: The images' vectors `[N, D]` of a unit.
            unit: See `encode_units`.
        """
        assert self._descriptions is not None
        own = np.asarray(vectors)[:, : len(self._descriptions)]
        return text_base.seen(self._raw(text, unit), self._descriptions, own)

    def _raw(self, text: str, unit: int | None) -> np.ndarray:
        return self.vectors([self.spec.prompt(text, unit)])

    # --- on disk -----------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load the text side of a folder of `FactEmbedder.save_pretrained`; nothing is downloaded.

        Args:
            folder: The folder, that of a run's stage, or that of a run, whose latest stage is loaded.

        Raises:
            UserError: a file is missing or damaged, or is of a version with other settings.
        """
        folder = latest_stage(Path(folder))
        about = read_description(folder / EMBEDDER, "embedder")
        with reading(folder / EMBEDDER, f"use tripletcl {about.get('library_version')}, which wrote it, or {RESTORE}"):
            spec, facts, names = parse(about)
            if TEXT_DIGEST not in about:  # an earlier version wrote it
                check_weights(folder, about["weights_sha256"], EMBEDDER)
        weights = read_part(weights_file(folder), TEXT_PART, REMEDY)
        if about.get(TEXT_DIGEST) not in (None, hash_arrays(weights)):
            raise other_weights(folder / WEIGHTS_FILE, EMBEDDER)
        fingerprint = saved_fingerprint(folder)
        return cls(spec, weights, TextVectors(name=spec.text), facts, names, fingerprint)
