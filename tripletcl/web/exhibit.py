"""What a page is about: a run, the others that may stand beside it, and the photos that can be searched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tripletcl.errors import UserError
from tripletcl.evaluation.result import LOWER_BOUND
from tripletcl.experiments.facts import load_table
from tripletcl.report.drawing import Style, method_styles
from tripletcl.report.formatting import counted
from tripletcl.report.grouping import method_order
from tripletcl.runs.layout import EMBEDDER, TASKS
from tripletcl.runs.train import Run
from tripletcl.web.galleries import Gallery, OwnPhotos, TestImages
from tripletcl.web.shown import ShownRun, method_key, same_tasks, siblings

ALONE = "none"
"""What is chosen where no other method is to stand beside the run."""


@dataclass
class Exhibit:
    """A run and its surroundings.

    Attributes:
        main: The run.
        others: Runs of the same test images that may stand beside it, by their method's name; the first by default.
        galleries: What can be searched, by key; the first by default.
        folders: Of the run, the other one and the index, as they were opened.
        read_at: The run's state on disk at that time.
    """

    main: ShownRun
    others: dict[str, ShownRun]
    galleries: dict[str, Gallery]
    folders: tuple[Path, Path | None, Path | None]
    read_at: object = None

    def follow(self) -> None:
        """Read it anew where the run was taught, or something was taken back, from elsewhere."""
        if self.read_at != _state(self.main.run):
            self.refresh()

    def refresh(self) -> None:
        """Read all of it anew: the run has learned something, or something was taken back."""
        fresh = open_exhibit(*self.folders)
        self.main, self.others, self.galleries = fresh.main, fresh.others, fresh.galleries
        self.read_at = fresh.read_at

    def beside(self, method: str) -> list[ShownRun]:
        """The run, and the other one of that method's name where there is one."""
        return [self.main, *([self.others[method]] if method in self.others else [])]

    def styles(self, beside: str) -> dict[str, Style]:
        """How the methods shown are drawn, the same in every picture: finetune first, joint last, as in the report."""
        return method_styles(method_order(shown.method for shown in self.beside(beside)))

    @property
    def groups(self) -> list[list[int]]:
        """The fact ids of each task that the run's table has."""
        return json.loads((self.main.run.path / TASKS).read_text(encoding="utf-8"))

    def vocabulary(self) -> list[list[str]]:
        """For each unit all texts that the run's facts have, those taught last included, in alphabetical order."""
        facts = dict.fromkeys([*self.main.table.facts, *self.main.model(self.main.last).facts])
        columns = zip(*(fact.units for fact in facts), strict=True)
        return [sorted({text for text in column if text is not None}, key=str.casefold) for column in columns]

    def stage_sentence(self, stage: int) -> str:
        """What the run had been taught at a stage."""
        taught = self.main.model(stage).facts
        if stage == 0:
            return "Before training: nothing is taught yet."
        before = len(self.main.model(stage - 1).facts) if stage - 1 in set(self.main.run.stages()) else 0
        new = f", {len(taught) - before} of them in task {stage}" if before else ""
        return f"After task {stage} of {self.main.last}: {counted(len(taught), 'fact')} taught{new}."

    def photo(self, key: str) -> tuple[Gallery, int]:
        """The gallery and the number that a photo's key names.

        Raises:
            UserError: there is no such photo.
        """
        name, _, number = key.partition(":")
        gallery = self.galleries.get(name)
        if gallery is None or not number.isdecimal() or int(number) >= len(gallery):
            raise UserError("this photo is not there any more; search again")
        return gallery, int(number)

    def photo_paths(self, keys: Sequence[str]) -> list[Path]:
        """The files of photos by their keys."""
        return [gallery.path(number) for gallery, number in map(self.photo, keys)]


def open_exhibit(run: Path, other: Path | None = None, index: Path | None = None) -> Exhibit:
    """Open a run and what may stand beside it: the other given, and the other methods of its comparison.

    Args:
        run: A run folder.
        other: Another one, of the same data and split.
        index: An index of the user's own photos, made by a stage of the run.

    Raises:
        UserError: a folder holds no run or no index, a run has no model yet, the other one has other data, or no stage
            of the run made the index.
    """
    opened = Run.open(run)
    state = _state(opened)
    main = _shown(opened)
    others: dict[str, ShownRun] = {}
    if other is not None:
        beside = _shown(Run.open(other), main)
        _check_alike(main, beside)
        others[beside.method] = beside
    for sibling in sorted(siblings(main.run), key=lambda each: method_key(each) != LOWER_BOUND):
        beside = _shown(sibling, main)
        others.setdefault(beside.method, beside)
    galleries: list[Gallery] = [TestImages(main), *([OwnPhotos(main, index)] if index is not None else [])]
    return Exhibit(main, others, {gallery.key: gallery for gallery in galleries}, (run, other, index), state)


def _state(run: Run) -> object:
    """Changes when the run learns or something is taken back."""
    return [(stage, (run.stage_folder(stage) / EMBEDDER).stat().st_mtime_ns) for stage in run.stages()]


def _shown(run: Run, main: ShownRun | None = None) -> ShownRun:
    if not any(run.stages()):
        raise UserError(f"{run.path} has no model of any stage yet; train it first")
    method = method_key(run)
    if main is None:
        return ShownRun(run, load_table(run.config), method)
    if method == main.method:
        method = f"{method} ({run.path.name})"
    return ShownRun(run, main.table if run.config.data == main.run.config.data else load_table(run.config), method)


def _check_alike(main: ShownRun, other: ShownRun) -> None:
    """Two runs are compared on the same images, told apart by the same facts."""
    if other.run.path.resolve() == main.run.path.resolve():
        raise UserError(f"{other.run.path} is the run itself; beside it can stand another one")
    if not same_tasks(main.run, other.run):
        raise UserError(
            f"{other.run.path} has other images or tasks than {main.run.path}; beside a run can stand one of the same "
            "data and split"
        )
