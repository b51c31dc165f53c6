"""The text side of an embedder, which encodes facts and queries: it needs no image network, and no torch."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Self

import numpy as np

from tripletcl.data.facts import UNITS, Fact
from tripletcl.data.words import singular, word_forms
from tripletcl.embedding import text_base
from tripletcl.embedding.asked_facts import NAMED, Asked, TaughtFacts, query_vector, taught_vectors
from tripletcl.embedding.description import (
    REMEDY,
    WEIGHTS_FILE,
    check_fit,
    check_weights,
    other_weights,
    read_description,
    saved_fingerprint,
    weights_file,
)
from tripletcl.embedding.spec import EmbedderSpec
from tripletcl.embedding.taught import Taught, latest_stage, parse
from tripletcl.embedding.text_vectors import TextVectors
from tripletcl.errors import UserError, check_path
from tripletcl.files import reading
from tripletcl.files.arrays import hash_arrays, read_part
from tripletcl.files.documents import EMBEDDER, RESTORE

MOST_LEVELLED = 20
"""Taught facts of a query whose presence is looked for."""
REMEMBERED = 2**15
"""Texts of queries whose vectors are remembered, some 50 MB: a server is asked for ever."""
LATEST = 64
"""Texts and queries whose vectors are remembered: the parts of one answer ask for the same ones."""
TEXT_PART = "text."
"""The beginning of the names of its weights in the file of a whole model."""
TEXT_DIGEST = "text_sha256"
"""The entry of a description that has the digest of these weights alone: the image network's are not read."""


class ClassNames:
    """The classes of a soft vocabulary by name; a pair of encoders has none, and knows every text itself.

    Args:
        names: What each class is called: "notebook, notebook computer".
        encoded: The encoder's vectors `[2 * W, E]` of what the classes are and are called.
    """

    def __init__(self, names: Sequence[str] = (), encoded: np.ndarray | None = None) -> None:
        self.encoded = encoded
        self.words = {singular(word.strip(",")) for each in names for word in each.split()}

    def has(self, noun: str) -> bool:
        """True if a class is called by a noun, perhaps among other words."""
        return self.encoded is None or singular(noun) in self.words

    def familiarity(self, encoded: np.ndarray) -> float:
        """The largest cosine of a text, by the encoder's vector `[E]`, and what a class is called, or is."""
        return math.inf if self.encoded is None else float(text_base.cosines_of(encoded[None], self.encoded).max())


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
        base_descriptions: The things that the base knows.
        levels: Of each fact the mean score of the photos that taught it.
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
        base_descriptions: Sequence[str] = (),
        levels: Sequence[float] = (),
        fingerprint: str = "",
    ) -> None:
        self.spec, self.vectors = spec, vectors
        self.facts, self.base_descriptions, self.levels = tuple(facts), tuple(base_descriptions), tuple(levels)
        self._weights, self._fingerprint = weights, fingerprint
        self._query, self._asked = lru_cache(LATEST)(self._encode_query), lru_cache(LATEST)(self._find_asked)
        self._cosines, self._described = lru_cache(LATEST)(self._compare), lru_cache(LATEST)(self._find_described)

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
        known = np.array([prompt in self._taught_prompts for prompt in prompts])
        return text_base.join(text_base.base_blocks(encoded, self._descriptions), own, known).astype(np.float32)

    @cached_property
    def _taught_prompts(self) -> frozenset[str | None]:
        return frozenset(text for units in self.prompts(self.facts) for text in units)

    def _project(self, encoded: np.ndarray) -> np.ndarray:
        vectors = encoded.astype(np.float64) - self._weights["centre"]
        if "projection.weight" not in self._weights:
            return vectors
        return vectors @ self._weights["projection.weight"].T.astype(np.float64) + self._weights["projection.bias"]

    @cached_property
    def _descriptions(self) -> np.ndarray | None:
        """Those of a soft vocabulary, in float64."""
        return self._weights["base.descriptions"].astype(np.float64) if self.spec.base == "classes" else None

    @property
    def _width(self) -> int:
        own = len(self._weights.get("projection.bias", self._weights["centre"]))
        if self.spec.base is None:
            return own
        return own + 1 + (len(self._weights["centre"]) if self._descriptions is None else len(self._descriptions))

    # --- taught facts ------------------------------------------------------------------------------------------------

    def encode_queries(self, queries: Sequence[Sequence[str | None]]) -> np.ndarray | None:
        """Encode queries as wholes, `[Q, 3, D]` float32, by what they ask of the base and of taught facts.

        See `tripletcl.embedding.asked_facts.query_vector`.

        Args:
            queries: The units of each one, None for a wildcard.

        Returns:
            None for a model without a base, whose queries are the vectors of their units.
        """
        if self.spec.base is None or not queries:
            return None
        return np.stack([self._query(tuple(units)) for units in queries])

    def _encode_query(self, units: tuple[str | None, ...]) -> np.ndarray:
        named = [unit for unit, text in enumerate(units) if text is not None]
        encoded = self.vectors([self.spec.prompt(str(units[unit]), unit) for unit in named])
        blocks = text_base.base_blocks(encoded, self._descriptions)  # [n, W]
        own = np.zeros((len(UNITS), blocks.shape[1]))
        own[named] = blocks
        asked = self.asked_facts(units)
        if asked is None:
            nothing = np.zeros((len(UNITS), self._width - own.shape[1] - 1))
            return query_vector(own, nothing, 0.0).astype(np.float32)
        return query_vector(own, self._taught_facts.block(asked), asked.share).astype(np.float32)

    def asked_facts(self, units: Sequence[str | None]) -> Asked | None:
        """Find the taught facts that a query asks; None without any, or without a base."""
        return None if self.spec.base is None or not self.facts else self._asked(tuple(units))

    def _find_asked(self, units: tuple[str | None, ...]) -> Asked | None:
        return self._taught_facts.asked(units, self._names)

    def also_asked(self, units: Sequence[str | None]) -> tuple[list[Fact], float | None]:
        """Name the taught facts that a query asks although it does not name them, and the cosine of the nearest; no
        cosine where they are of the kinds that it names.
        """
        asked = self.asked_facts(units)
        if asked is None or asked.is_named:
            return [], None
        order = np.argsort(-asked.weights, kind="stable").tolist()
        return [self.facts[number] for number in order if asked.weights[number] >= NAMED], asked.cosine

    def encode_levelled(self, units: Sequence[str | None]) -> np.ndarray:
        """Encode each taught fact that a query asks, at most MOST_LEVELLED, `[n, 3, D]` float32.

        The product with a photo's vector is the fact's score in the photo, relative to the mean of those that taught
        it: the fact's level. Facts without one are left out.
        """
        asked = self.asked_facts(units)
        if asked is None or not self.levels:
            return np.zeros((0, len(UNITS), self._width), np.float32)
        levels = np.array(self.levels)
        named = np.flatnonzero((asked.weights >= NAMED) & (levels > 0))[:MOST_LEVELLED]
        if not len(named):
            return np.zeros((0, len(UNITS), self._width), np.float32)
        blocks = self._taught_facts.readers[named] / levels[named, None]
        return taught_vectors(blocks, self._width - 1 - blocks.shape[1] // len(UNITS)).astype(np.float32)

    @cached_property
    def _taught_facts(self) -> TaughtFacts:
        prompts = self.prompts(self.facts)
        texts = list(dict.fromkeys(text for units in prompts for text in units if text is not None))
        own = dict(zip(texts, text_base.unit_length(self._project(self.vectors(texts))), strict=True))
        nothing = np.zeros_like(next(iter(own.values())))
        targets = np.array([[nothing if text is None else own[text] for text in units] for units in prompts])
        return TaughtFacts(self.facts, targets, lambda words: text_base.unit_length(self.vectors(words).astype(float)))

    @cached_property
    def _names(self) -> ClassNames:
        if self._descriptions is None:
            return ClassNames()
        return ClassNames(self.base_names, np.concatenate([self._descriptions, self._weights["base.names"]]))

    # --- the base ----------------------------------------------------------------------------------------------------

    def nearest_of_base(self, text: str, unit: int | None = None, count: int = 3) -> list[str]:
        """Name what answers a text that was never taught: the classes of a soft vocabulary with the most weight."""
        if self._descriptions is None or not self.base_descriptions:
            return []
        weights = self._cosines(self.spec.prompt(text, unit))
        nearest = np.argsort(-weights, kind="stable")[:count]
        return [re.split("[:,] ", self.base_descriptions[number], maxsplit=1)[0] for number in nearest]

    def familiarity(self, text: str, unit: int | None = None) -> float | None:
        """Return how near a text is to what the base knows, a cosine; None if the text was taught, or without classes.

        Args:
            text: The text.
            unit: See `encode_units`.
        """
        prompt = self.spec.prompt(text, unit)
        if self._descriptions is None or prompt in self._taught_prompts:
            return None
        return float(self._cosines(prompt).max())

    def seen_by_base(self, text: str, vectors: np.ndarray, unit: int | None = None) -> np.ndarray:
        """Return the evidence that images show what a text means to the base, `[N]` in [0, 1].

        Args:
            text: A text with a `familiarity`.
            vectors: The images' vectors `[N, D]` of a unit.
            unit: See `encode_units`.
        """
        assert self._descriptions is not None
        own = np.asarray(vectors)[:, : len(self._descriptions)]
        return text_base.seen(self._cosines(self.spec.prompt(text, unit)), own, self._described(text))

    def _compare(self, prompt: str) -> np.ndarray:
        """The cosines `[W]` of what the encoder reads and the descriptions."""
        assert self._descriptions is not None
        return text_base.cosines_of(self.vectors([prompt]), self._descriptions)[0]

    def _find_described(self, text: str) -> np.ndarray:
        """`[W]` bool, the descriptions that have all words of a text."""
        words = word_forms(text)
        return np.array([words <= each for each in self._description_words])

    @cached_property
    def _description_words(self) -> list[frozenset[str]]:
        return [word_forms(each) for each in self.base_descriptions]

    # --- on disk -----------------------------------------------------------------------------------------------------

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Self:
        """Load the text side of a folder of `FactEmbedder.save_pretrained`; nothing is downloaded.

        Args:
            folder: The folder, that of a run's stage, or that of a run, whose latest stage is loaded.

        Raises:
            UserError: a file is missing or damaged, or is of a version with other settings.
        """
        folder = latest_stage(check_path("a model", folder))
        about = read_description(folder / EMBEDDER, "embedder")
        with reading(folder / EMBEDDER, f"use tripletcl {about.get('library_version')}, which wrote it, or {RESTORE}"):
            spec, facts, known, levels = parse(about)
            if TEXT_DIGEST not in about:  # an earlier version wrote it
                check_weights(folder, about["weights_sha256"], EMBEDDER)
        weights = read_part(weights_file(folder), TEXT_PART, REMEDY)
        if about.get(TEXT_DIGEST) not in (None, hash_arrays(weights)):
            raise other_weights(folder / WEIGHTS_FILE, EMBEDDER)
        check_fit(folder, about, _expected_shapes(spec, weights, len(known)), _named_shapes(weights))
        fingerprint = saved_fingerprint(folder)
        return cls(spec, weights, TextVectors(name=spec.text, kept=REMEMBERED), facts, known, levels, fingerprint)


def _expected_shapes(spec: EmbedderSpec, weights: Mapping[str, np.ndarray], classes: int) -> dict[str, tuple[int, ...]]:
    """The shapes of the arrays that the settings ask for; E is the width of the centre."""
    encoded = len(weights.get("centre", ()))
    shapes: dict[str, tuple[int, ...]] = {"centre": (encoded,)}
    if spec.whiten or spec.text_projection:
        shapes |= {"projection.weight": (spec.width, encoded), "projection.bias": (spec.width,)}
    if spec.base is not None:
        rows = classes if spec.base == "classes" else 0
        shapes |= dict.fromkeys(("base.names", "base.descriptions"), (rows, encoded))
    return {f"{TEXT_PART}{name}": shape for name, shape in shapes.items()}


def _named_shapes(weights: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    return {f"{TEXT_PART}{name}": array.shape for name, array in weights.items()}
