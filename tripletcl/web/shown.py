"""A run as the page shows it: its stages, what each was taught, its vectors and its words."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from tripletcl.compare.write import named_result
from tripletcl.data import UNITS, Fact, FactTable
from tripletcl.embedding import FactEmbedder
from tripletcl.embedding.text import TextEncoder
from tripletcl.evaluation import RunResult
from tripletcl.evaluation.result import UPPER_BOUND
from tripletcl.methods import method_name
from tripletcl.report.formatting import method_label
from tripletcl.retrieval import Calibration
from tripletcl.runs.layout import EMBEDDER, run_folders, stage_number
from tripletcl.runs.searching import stage_calibration
from tripletcl.runs.train import Run, fact_settings, saved_fingerprint
from tripletcl.web.newest import Newest

MODELS_HELD = 4
"""Models in memory at once, some 15 to 60 MB each: two methods at the stage shown and at the one before."""

_models: Newest[FactEmbedder] = Newest(MODELS_HELD)
_encoders: dict[str, TextEncoder] = {}


def load_model(folder: Path) -> FactEmbedder:
    """The model in a folder, one of the last few from memory; all share one text encoder of a kind, 90 MB."""

    def load() -> FactEmbedder:
        model = FactEmbedder.from_pretrained(folder)
        model.text.encoder = _encoders.setdefault(model.spec.text, model.text.encoder)
        return model

    return _models.get((folder, _written(folder)), load)


def _written(folder: Path) -> int:
    """Changes with the model in a folder: a stage that was taken back may be learned anew."""
    return (folder / EMBEDDER).stat().st_mtime_ns


@dataclass
class StageModel:
    """The model of a stage as retrieval needs it; its weights are read only where what lies on disk does not do.

    The vectors of the run's own words lie beside the model, so that moving from stage to stage loads nothing.

    Attributes:
        folder: The stage's folder.
        facts: What it was taught.
        words: The vector `[D]` of each word that is known without the model.
        written: When it was saved.
    """

    folder: Path
    facts: tuple[Fact, ...]
    words: dict[str, Tensor]
    written: int = 0
    reading: threading.Lock = field(default_factory=threading.Lock)

    @property
    def key(self) -> tuple[Path, int]:
        """Tells it from every other stage, and from one that was taken back."""
        return self.folder, self.written

    @property
    def vocabulary(self) -> tuple[tuple[str, ...], ...]:
        """For each unit the distinct texts among the taught facts, in order of first appearance."""
        texts = [[fact.units[unit] for fact in self.facts] for unit in range(len(UNITS))]
        return tuple(tuple(dict.fromkeys(text for text in of_unit if text is not None)) for of_unit in texts)

    def encode_units(self, texts: Sequence[str]) -> Tensor:
        """Normalised vectors `[n, D]`."""
        if new := [text for text in texts if text not in self.words]:
            with self.reading:
                self.words.update(zip(new, load_model(self.folder).encode_units(new), strict=True))
        return torch.stack([self.words[text] for text in texts])

    def encode_facts(self, facts: Sequence[Fact]) -> tuple[Tensor, Tensor]:
        """Normalised vectors `[F, 3, D]` of facts, zero for a unit that a fact lacks, and present, bool `[F, 3]`."""
        present = torch.tensor([[text is not None for text in fact.units] for fact in facts])
        vectors = torch.zeros(len(facts), len(UNITS), len(next(iter(self.words.values()))))
        vectors[present] = self.encode_units([text for fact in facts for text in fact.units if text is not None])
        return vectors, present

    def fingerprint(self) -> str:
        """Equal for two models that give equal vectors."""
        return saved_fingerprint(self.folder)


@dataclass
class ShownRun:
    """A run, its stages and its figures.

    Attributes:
        run: The run on disk.
        table: Its images and facts.
        method: Its method's name in tables and for its colour, `mas` or `mas-lam30`.
    """

    run: Run
    table: FactTable
    method: str
    models: Newest[StageModel] = field(default_factory=lambda: Newest(64))
    calibrations: Newest[Calibration | None] = field(default_factory=lambda: Newest(64))

    @property
    def label(self) -> str:
        """What people call its method, `MAS`."""
        return method_label(self.method)

    @property
    def result(self) -> RunResult | None:
        """Its figures under its method's name, or None while it is not finished."""
        result = named_result(self.run)
        return None if result is None else replace(result, method=self.method)

    @cached_property
    def joint(self) -> bool:
        """Did it learn all tasks at once? Then it has a stage before and one after."""
        return method_name(self.run.config.method) == UPPER_BOUND

    @property
    def last(self) -> int:
        """Its newest stage."""
        return max(self.run.stages())

    def stage(self, asked: int) -> int:
        """Its own stage for that of another run: joint training is before its tasks or behind them all."""
        there = list(self.run.stages())
        return there[-1] if self.joint and asked > 0 else max(s for s in there if s <= max(asked, there[0]))

    def folder(self, stage: int) -> Path:
        """Where the model of a stage lies."""
        return self.run.stage_folder(self.stage(stage))

    def model(self, stage: int) -> StageModel:
        """The model of a stage."""
        folder = self.folder(stage)
        return self.models.get((folder, _written(folder)), lambda: self._open(folder))

    def calibration(self, stage: int) -> Calibration | None:
        """What the scores of a stage mean, where that can be told."""
        return self.calibrations.get(self.model(stage).key, lambda: stage_calibration(self.run, self.stage(stage)))

    def _open(self, folder: Path) -> StageModel:
        about = json.loads((folder / EMBEDDER).read_text(encoding="utf-8"))
        vectors = self.run.vectors(stage_number(folder))["facts"]
        words = {
            text: vectors[row, unit]
            for row, fact in enumerate(self.table.facts[: len(vectors)])
            for unit, text in enumerate(fact.units)
            if text is not None
        }
        return StageModel(folder, tuple(Fact(*units) for units in about["facts"]), words, _written(folder))


def method_key(run: Run) -> str:
    """The method's name in tables and for its colour: that of its folder where a comparison gave it one."""
    result = named_result(run)
    return method_name(run.config.method) if result is None else result.method


def same_tasks(run: Run, other: Run) -> bool:
    """Were two runs given the same images, facts and split, whatever either was taught later?"""
    first, second = (fact_settings(each.path).data.model_copy(update={"further": []}) for each in (run, other))
    return first == second


def siblings(run: Run) -> list[Run]:
    """The other runs of the same comparison: in the same folder, of the same data, split and seed."""
    found = []
    for folder in run_folders(run.path.resolve().parent):
        if folder == run.path.resolve():
            continue
        other = Run.open(folder)
        if same_tasks(run, other) and run.config.seed == other.config.seed and any(other.stages()):
            found.append(other)
    return found
