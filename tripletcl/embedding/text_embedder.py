"""The text side of an embedder, which encodes facts and queries; it needs no image network."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn import functional as F

from tripletcl.data.facts import UNITS, Fact
from tripletcl.embedding.saving import REMEDY, WEIGHTS_FILE, SavedModel, load_model
from tripletcl.embedding.spec import EmbedderSpec
from tripletcl.embedding.text import TextBranch, build_text_branch
from tripletcl.errors import UserError
from tripletcl.files import validated
from tripletcl.files.documents import EMBEDDER
from tripletcl.files.tensors import reading_tensors

SPEC_FILE = EMBEDDER
Parsed = tuple[EmbedderSpec, tuple[Fact, ...], tuple[str, ...]]
"""Settings, taught facts, and the names of what the base knows."""


class TextEmbedder(SavedModel):
    """Facts, and texts of their units, as vectors: enough to query a photo index.

    Attributes:
        spec: The settings of the embedder that it is a part of.
        text: The text branch.
        facts: The facts that the embedder was taught. Any other fact can be encoded, too; with a base, its texts are
            compared with the base alone.
        base_names: What the base calls the things that it knows, such as "notebook, notebook computer".
    """

    stored_part: ClassVar[str] = "text."
    """The beginning of the names of the stored weights that it loads."""

    def __init__(
        self, spec: EmbedderSpec, text: TextBranch, facts: Sequence[Fact] = (), base_names: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.spec, self.text, self.facts, self.base_names = spec, text, tuple(facts), tuple(base_names)

    @property
    def known_facts(self) -> tuple[Fact, ...]:
        """The facts that the embedder was taught, then what its base knows by name, each a subject."""
        names = (name for names in self.base_names for name in names.split(", "))
        return tuple(dict.fromkeys([*self.facts, *map(Fact, names)]))

    @property
    def vocabulary(self) -> tuple[tuple[str, ...], ...]:
        """For each unit the distinct texts of the taught facts, in order of first appearance."""
        return tuple(
            tuple(dict.fromkeys(text for fact in self.facts if (text := fact.units[unit]) is not None))
            for unit in range(len(UNITS))
        )

    def nearest_of_base(self, text: str, unit: int | None = None, count: int = 3) -> list[str]:
        """Name what answers a text that was never taught: the classes of a soft vocabulary with the most weight."""
        if self.text.base is None or not self.base_names:
            return []
        weights = self.text.base_block([self.spec.prompt(text, unit)])[0]
        return [self.base_names[number].split(", ")[0] for number in weights.topk(count).indices.tolist()]

    @torch.no_grad()
    def familiarity(self, text: str, unit: int | None = None) -> float | None:
        """Return how near a text is to what the base knows, a cosine; None if the text was taught, or without classes.

        Args:
            text: The text.
            unit: See `encode_units`.
        """
        prompt, base = self.spec.prompt(text, unit), self.text.base
        if base is None or not base.soft or any(prompt in units for units in self.prompts(self.facts)):
            return None
        return float(base.familiarity(self.text.raw([prompt]))[0])

    @torch.no_grad()
    def seen_by_base(self, text: str, vectors: Tensor, unit: int | None = None) -> Tensor:
        """Return the probability that images show what a text means to the base, `[N]`.

        Args:
            text: A text with a `familiarity`.
            vectors: The images' vectors `[N, D]` of a unit.
            unit: See `encode_units`.
        """
        assert self.text.base is not None
        own = vectors[:, : len(self.text.base.descriptions)].to(self.text.centre.device)
        return self.text.base.seen(self.text.raw([self.spec.prompt(text, unit)]), own)

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
        return self._encode([self.spec.prompt(text, unit) for text in texts])

    def _encode(self, prompts: list[str]) -> Tensor:
        """The vectors of what the encoder reads; with a base, a prompt of no taught fact has the base's block only."""
        if self.text.base is None:
            return F.normalize(self.text(prompts), dim=-1)
        taught = {text for units in self.prompts(self.facts) for text in units}
        return self.text.with_base(prompts, [prompt in taught for prompt in prompts])

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
        return _rows_of(prompts, self._encode)

    @torch.no_grad()
    def taught_vectors(self, facts: Sequence[Fact]) -> Tensor:
        """Encode facts as the targets of a readout, `[F, 3, D]`: as `encode_facts`, but without a base."""
        return _rows_of(self.prompts(facts), lambda texts: F.normalize(self.text(texts), dim=-1))[0]

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: torch.device | str = "cpu") -> Self:
        """Load a folder of `FactEmbedder.save_pretrained`; nothing is downloaded and no pickle is read.

        Args:
            folder: The folder, that of a run's stage, or that of a run, whose latest stage is loaded.
            device: The device that the model is for.

        Raises:
            UserError: a file is missing or damaged, or is of a version with other settings.
        """
        model = load_model(latest_stage(Path(folder)), SPEC_FILE, "embedder", parse, cls._build, part=cls.stored_part)
        return model.to(device).eval()

    @classmethod
    def _build(cls, parsed: Parsed) -> Self:
        """Build a model whose weights will be loaded."""
        spec, facts, names = parsed
        with torch.random.fork_rng(devices=[]):
            return cls(spec, build_text_branch(spec), facts, names)


def latest_stage(folder: Path) -> Path:
    """The latest stage in a run's folder; any other folder is returned unchanged."""
    stages = (
        [] if (folder / SPEC_FILE).exists() else [file.parent for file in folder.glob(f"stages/stage-*/{SPEC_FILE}")]
    )
    return max(stages, key=lambda stage: int(stage.name.rpartition("-")[2]), default=folder)


def _rows_of(prompts: Sequence[Sequence[str | None]], encode: Callable[[list[str]], Tensor]) -> tuple[Tensor, Tensor]:
    """Encode each distinct prompt once: vectors `[F, 3, D]`, zero without a prompt, and which are present `[F, 3]`."""
    texts = list(dict.fromkeys(text for units in prompts for text in units if text is not None))
    row = {text: i for i, text in enumerate(texts)} | {None: -1}
    vectors = F.pad(encode(texts), (0, 0, 0, 1))  # a last row of zeros, which -1 picks
    ids = torch.tensor([[row[text] for text in units] for units in prompts], device=vectors.device)
    ids = ids.reshape(len(prompts), len(UNITS)).long()
    return vectors[ids], ids >= 0


def parse(about: Mapping[str, Any]) -> Parsed:
    """Return the settings, the facts and the names of a description."""
    facts = tuple(Fact(*units) for units in about["facts"])
    return validated(EmbedderSpec, about["spec"]), facts, tuple(about.get("base_names", ()))


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
        with reading_tensors(path, REMEDY), safe_open(path, framework="pt") as file:
            return cls(file.get_slice("text.centre").get_shape()[0])

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Refuse."""
        raise UserError("this model was loaded for photos only, with text=False: load it again to encode texts")
