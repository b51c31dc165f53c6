"""Facts that a model was taught, and the names that its base knows; without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tripletcl.data.facts import UNITS, Fact
from tripletcl.embedding.spec import EmbedderSpec
from tripletcl.files import validated
from tripletcl.files.documents import EMBEDDER

Parsed = tuple[EmbedderSpec, tuple[Fact, ...], tuple[str, ...], tuple[float, ...]]
"""Settings, taught facts, the descriptions of what the base knows, and the levels of the facts."""


class Taught:
    """Facts, and the words that name their units.

    Attributes:
        spec: The settings of the embedder.
        facts: The facts that it was taught. Any other fact can be encoded, too; with a base, its texts are compared
            with the base alone.
        base_descriptions: The things that the base knows, such as "notebook, notebook computer: a small computer".
        levels: Of each taught fact the mean score of the photos that taught it; empty where that is not known.
    """

    spec: EmbedderSpec
    facts: tuple[Fact, ...]
    base_descriptions: tuple[str, ...]
    levels: tuple[float, ...]

    @property
    def base_names(self) -> tuple[str, ...]:
        """The names of the things that the base knows, such as "notebook, notebook computer"."""
        return tuple(each.partition(": ")[0] for each in self.base_descriptions)

    @property
    def known_facts(self) -> tuple[Fact, ...]:
        """The facts that the embedder was taught, then what its base knows by name, each a subject."""
        if not self.base_descriptions:
            return self.facts
        names = (name for names in self.base_names for name in names.split(", "))
        return tuple(dict.fromkeys([*self.facts, *map(Fact, names)]))

    @property
    def vocabulary(self) -> tuple[tuple[str, ...], ...]:
        """For each unit the distinct texts of the taught facts, in order of first appearance."""
        return tuple(
            tuple(dict.fromkeys(text for fact in self.facts if (text := fact.units[unit]) is not None))
            for unit in range(len(UNITS))
        )

    def prompts(self, facts: Sequence[Fact]) -> list[list[str | None]]:
        """Return what the text encoder reads for each unit of each fact; None for a unit that a fact lacks."""
        return [
            [None if text is None else self.spec.prompt(text, unit) for unit, text in enumerate(fact.units)]
            for fact in facts
        ]


def latest_stage(folder: Path) -> Path:
    """The latest stage in a run's folder; any other folder is returned unchanged."""
    stages = [] if (folder / EMBEDDER).exists() else [file.parent for file in folder.glob(f"stages/stage-*/{EMBEDDER}")]
    return max(stages, key=lambda stage: int(stage.name.rpartition("-")[2]), default=folder)


def parse(about: Mapping[str, Any]) -> Parsed:
    """Return the settings, the facts, what the base knows and the levels of a description."""
    facts = tuple(Fact(*units) for units in about["facts"])
    known, levels = tuple(about.get("base_descriptions", ())), tuple(about.get("levels", ()))
    return validated(EmbedderSpec, about["spec"]), facts, known, levels
