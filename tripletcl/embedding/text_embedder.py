"""The text side of an embedder, which encodes facts and queries; it needs no image network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from tripletcl.data.facts import UNITS, Fact
from tripletcl.embedding.saving import SavedModel, load_model
from tripletcl.embedding.spec import EmbedderSpec
from tripletcl.embedding.text import TextBranch, build_text_branch
from tripletcl.errors import UserError
from tripletcl.files import validated
from tripletcl.files.documents import EMBEDDER

SPEC_FILE = EMBEDDER
Parsed = tuple[EmbedderSpec, tuple[Fact, ...]]


class TextEmbedder(SavedModel):
    """Facts, and texts of their units, as vectors: enough to query a photo index.

    Attributes:
        spec: The settings of the embedder that it is a part of.
        text: The text branch.
        facts: The facts that the embedder was taught; only a record, since any fact can be encoded.
    """

    stored_part: ClassVar[str] = "text."
    """The beginning of the names of the stored weights that it loads."""

    def __init__(self, spec: EmbedderSpec, text: TextBranch, facts: Sequence[Fact] = ()) -> None:
        super().__init__()
        self.spec, self.text, self.facts = spec, text, tuple(facts)

    @property
    def vocabulary(self) -> tuple[tuple[str, ...], ...]:
        """For each unit the distinct texts of the taught facts, in order of first appearance."""
        return tuple(
            tuple(dict.fromkeys(text for fact in self.facts if (text := fact.units[unit]) is not None))
            for unit in range(len(UNITS))
        )

    @torch.no_grad()
    def encode_units(self, texts: Sequence[str], unit: int | None = None) -> Tensor:
        """Encode texts of units as normalised vectors `[n, D]`.

        Args:
            texts: The texts.
            unit: The unit that they are of, 0 to 2, whose template they are put into; None uses none.

        Raises:
            UserError: `texts` is no list of texts.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise UserError(f"texts of units are a list, as in ['dog', 'running'], not {texts!r:.60}")
        return F.normalize(self.text([self.spec.prompt(text, unit) for text in texts]), dim=-1)

    def prompts(self, facts: Sequence[Fact]) -> list[list[str | None]]:
        """Return what the text encoder reads for each unit of each fact; None for a unit that a fact lacks."""
        return [
            [None if text is None else self.spec.prompt(text, unit) for unit, text in enumerate(fact.units)]
            for fact in facts
        ]

    def encode_facts(self, facts: Sequence[Fact]) -> tuple[Tensor, Tensor]:
        """Encode facts by the vectors of their units.

        Returns:
            Normalised vectors `[F, 3, D]`, zero for a unit that a fact lacks, and the units present, bool `[F, 3]`.

        Raises:
            UserError: `facts` is no list of facts.
        """
        if isinstance(facts, str | Fact) or not all(isinstance(fact, Fact) for fact in facts):
            raise UserError(f"facts are a list of Fact, as in [Fact('dog', 'running')], not {facts!r:.60}")
        prompts = self.prompts(facts)
        texts = list(dict.fromkeys(text for units in prompts for text in units if text is not None))
        row = {text: i for i, text in enumerate(texts)} | {None: -1}
        vectors = F.pad(self.encode_units(texts), (0, 0, 0, 1))  # a last row of zeros, which -1 picks
        ids = torch.tensor([[row[text] for text in units] for units in prompts], device=vectors.device)
        ids = ids.reshape(len(facts), len(UNITS)).long()
        return vectors[ids], ids >= 0

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: torch.device | str = "cpu") -> Self:
        """Load a folder of `FactEmbedder.save_pretrained`; nothing is downloaded and no pickle is read.

        Raises:
            UserError: a file is missing or damaged, or is of a version with other settings.
        """
        model = load_model(Path(folder), SPEC_FILE, "embedder", _parse, cls._build, part=cls.stored_part)
        return model.to(device).eval()

    @classmethod
    def _build(cls, parsed: Parsed) -> Self:
        """Build a model whose weights will be loaded."""
        spec, facts = parsed
        with torch.random.fork_rng(devices=[]):
            return cls(spec, build_text_branch(spec), facts)


def _parse(about: Mapping[str, Any]) -> Parsed:
    return validated(EmbedderSpec, about["spec"]), tuple(Fact(*units) for units in about["facts"])
