"""A run as the page shows it: its stages, their models, vectors and calibrations."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

from tripletcl.compare.write import named_result
from tripletcl.data import FactTable
from tripletcl.embedding import FactEmbedder, TextEmbedder
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.evaluation.result import UPPER_BOUND
from tripletcl.methods import method_name
from tripletcl.report.formatting import method_label
from tripletcl.retrieval import Calibration
from tripletcl.runs.calibrate import stage_calibration
from tripletcl.runs.collection import StoredModel
from tripletcl.runs.layout import EMBEDDER, run_folders, stage_number
from tripletcl.runs.stored import FactRun

MODELS_HELD = 4
"""Models in memory at once, some 15 to 60 MB each: two methods at the stage shown and at the one before."""

STAGES_HELD = 64
"""Stages of a run in memory, the text side of each."""

_loading = threading.Lock()


def load_model(folder: Path) -> FactEmbedder:
    """Load the model in a folder, unless it is one of the last few."""
    with _loading:  # two visitors of one stage load it once
        return _load(folder, saved_at(folder))


def load_text(folder: Path) -> TextEmbedder:
    """Load the text side of the model in a folder, unless it is one of the last: it needs no image network."""
    with _loading:
        return _load_text(folder, saved_at(folder))


@lru_cache(MODELS_HELD)
def _load(folder: Path, _saved_at: int) -> FactEmbedder:
    return StoredModel(folder, FactRun(folder.parents[1])).load()


@lru_cache(STAGES_HELD)
def _load_text(folder: Path, _saved_at: int) -> TextEmbedder:
    return StoredModel(folder, FactRun(folder.parents[1])).load_text()


def saved_at(folder: Path) -> int:
    """When a stage's model was saved, in nanoseconds: a stage that was undone may be learned again."""
    return (folder / EMBEDDER).stat().st_mtime_ns


@dataclass(frozen=True, eq=False)
class RunView:
    """A run as it was when it was opened.

    Attributes:
        run: The run on disk.
        table: Its images and facts.
        method: Its method's name in tables and for its colour, `mas` or `mas-lam30`.
        stages: The stages that have a model, in order.
        result: Its figures under its method's name; None while it is not finished.
    """

    run: FactRun
    table: FactTable
    method: str
    stages: tuple[int, ...]
    result: RunResult | None

    @property
    def label(self) -> str:
        """The method's name as people write it, `MAS`."""
        return method_label(self.method)

    @cached_property
    def joint(self) -> bool:
        """True if it learned all tasks at once: it has a stage before and one after."""
        return method_name(self.run.settings.method) == UPPER_BOUND

    @property
    def last(self) -> int:
        """The latest stage."""
        return self.stages[-1]

    def stage(self, other: int) -> int:
        """The run's own stage next to another run's: the latest up to it; joint training has one for all tasks."""
        if self.joint and other > 0:
            return self.last
        return max(stage for stage in self.stages if stage <= max(other, self.stages[0]))

    def folder(self, stage: int) -> Path:
        """The folder of a stage's model."""
        return self.run.stage_folder(self.stage(stage))

    def key(self, stage: int) -> tuple[Path, int]:
        """Identifies a stage's model in caches: its folder, and when it was saved."""
        folder = self.folder(stage)
        return folder, saved_at(folder)

    def model(self, stage: int) -> TextEmbedder:
        """The text side of a stage's model."""
        return load_text(self.folder(stage))

    def calibration(self, stage: int) -> Calibration | None:
        """The meaning of a stage's scores; None where it cannot be known."""
        return self._calibrations(*self.key(stage))

    @cached_property
    def _calibrations(self) -> Callable[[Path, int], Calibration | None]:
        return lru_cache(STAGES_HELD)(lambda folder, _saved_at: stage_calibration(self.run, stage_number(folder)))


def open_view(run: FactRun, main: RunView | None = None) -> RunView:
    """Read a run's stages and figures.

    Args:
        run: The run.
        main: The run that it is shown next to; two of one method are distinguished by the folder's name.

    Raises:
        UserError: it has no model yet, or its table is missing or damaged.
    """
    if not run.stages or (run.first_tasks and not any(run.stages)):
        raise UserError(f"{run.path} has no model of any stage yet; train it first")
    method, result = method_key(run), named_result(run)
    if main is not None and method == main.method:
        method = f"{method} ({run.path.name})"
    shared = main is not None and run.own_settings.data == main.run.own_settings.data
    table = main.table if main is not None and shared else run.table()
    figures = result if result is not None and result.tasks else None  # before its first task a run has none
    return RunView(run, table, method, tuple(run.stages), figures and replace(figures, method=method))


def method_key(run: FactRun) -> str:
    """The method's name in tables and for its colour: that of its folder where a comparison gave it one."""
    result = named_result(run)
    return method_name(run.settings.method) if result is None else result.method


def same_tasks(run: FactRun, other: FactRun) -> bool:
    """True if two runs were given the same images, facts and split, whatever either was taught later."""
    first, second = (each.settings.data.model_copy(update={"further": []}) for each in (run, other))
    if first != second:
        return False
    own, theirs = run.data_digests, other.data_digests
    return all(own[name] == theirs[name] for name in own.keys() & theirs.keys())


def siblings(run: FactRun) -> list[FactRun]:
    """The other runs of the same comparison: in the same folder, of the same data, split and seed."""
    own = run.path.resolve()
    others = (_open_facts(folder) for folder in run_folders(own.parent) if folder != own)
    return [
        other
        for other in others
        if other is not None
        and same_tasks(run, other)
        and other.settings.seed == run.settings.seed
        and any(other.stages)
    ]


def _open_facts(folder: Path) -> FactRun | None:
    """Open a run; None where it learned objects, or its settings cannot be read."""
    try:
        run = FactRun.open(folder)
        _ = run.settings  # read here, where an error is caught
    except UserError:
        return None
    return run
