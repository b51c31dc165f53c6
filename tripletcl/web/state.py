"""The content of the page: a run, the runs next to it, and the photos that can be searched."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tripletcl.data import Fact
from tripletcl.data.images import Photo
from tripletcl.errors import UserError
from tripletcl.evaluation.result import LOWER_BOUND
from tripletcl.files.addresses import Place
from tripletcl.report.chart_style import Style, method_styles
from tripletcl.report.formatting import counted
from tripletcl.report.grouping import method_order
from tripletcl.runs.layout import RESULT, VECTORS, stage_folders
from tripletcl.runs.stored import FactRun
from tripletcl.web.galleries import Gallery, OwnPhotos, TestImages
from tripletcl.web.run_view import RunView, method_key, open_view, same_tasks, siblings

NO_OTHER = "none"
"""The choice of no other method next to the run."""


@dataclass(frozen=True)
class AppState:
    """A run and its surroundings as they were when they were opened; what changes on disk gives a new state.

    Attributes:
        main: The run.
        others: Runs of the same test images that may be shown next to it, by their method's name; the first by default.
        galleries: What can be searched, by key; the first by default.
        groups: The fact ids of each task of the run's table.
        versions: The version on disk of each run that was read, by its folder.
    """

    main: RunView
    others: Mapping[str, RunView]
    galleries: Mapping[str, Gallery]
    groups: Sequence[Sequence[int]]
    versions: Mapping[Path, object]

    @property
    def is_current(self) -> bool:
        """True unless a run has changed on disk since."""
        return all(_version(run) == version for run, version in self.versions.items())

    def methods(self, other: str) -> list[RunView]:
        """The run, and the other one of that method's name where there is one."""
        return [self.main, *([self.others[other]] if other in self.others else [])]

    def styles(self, other: str) -> dict[str, Style]:
        """The look of the visible methods, the same in every picture: finetune first, joint last, as in the report."""
        return method_styles(method_order(view.method for view in self.methods(other)))

    def vocabulary(self) -> list[list[str]]:
        """For each unit all texts of the run's facts, those taught last included, in alphabetical order."""
        facts: list[Fact] = [*self.main.table.facts, *self.main.model(self.main.last).facts]
        columns = zip(*(fact.units for fact in facts), strict=True)
        return [sorted({text for text in column if text is not None}, key=str.casefold) for column in columns]

    def stage_sentence(self, stage: int) -> str:
        """The facts that the run had been taught at a stage, in a sentence."""
        facts = self.main.model(stage).facts
        if stage == 0:
            return "Before training: nothing is taught yet."
        before = len(self.main.model(stage - 1).facts) if stage - 1 in self.main.stages else 0
        new = f", {len(facts) - before} of them in task {stage}" if before else ""
        return f"After task {stage} of {self.main.last}: {counted(len(facts), 'fact')} taught{new}."

    def gallery(self, key: str) -> Gallery:
        """A gallery by its key.

        Raises:
            UserError: there is no such gallery.
        """
        if key not in self.galleries:
            raise UserError("these photos are not there any more; open the page again")
        return self.galleries[key]

    def photo(self, key: str | None) -> tuple[Gallery, int]:
        """The gallery and the number that a photo's key names.

        Raises:
            UserError: there is no such photo.
        """
        name, _, number = (key or "").partition(":")
        gallery = self.gallery(name)
        if not number.isdecimal() or int(number) >= len(gallery):
            raise UserError("this photo is not there any more; search again")
        return gallery, int(number)

    def photo_paths(self, keys: Sequence[str | None]) -> list[Photo]:
        """The photos of these keys."""
        return [gallery.paths[number] for gallery, number in map(self.photo, keys)]


class LiveState:
    """The state of a page: replaced as a whole when its runs have changed on disk.

    An event of the page reads `current` once and works with that, so that it never meets the new run with the old
    photos.

    Args:
        run: A run folder.
        other: Another one, of the same data and split.
        index: An index of the user's own photos, made by a stage of the run.

    Raises:
        UserError: see `open_state`.
    """

    def __init__(self, run: Path, other: Path | None = None, index: Place | None = None) -> None:
        self.run, self.other, self.index = run, other, index
        self._lock = threading.Lock()
        self.current = open_state(run, other, index)

    def follow(self) -> AppState:
        """Open the state again if a run has changed on disk; several visitors at once open it once."""
        with self._lock:
            if not self.current.is_current:
                self.current = open_state(self.run, self.other, self.index)
            return self.current


def open_state(run: Path, other: Path | None = None, index: Place | None = None) -> AppState:
    """Open a run and those that may be shown next to it: the other given, and the other methods of its comparison.

    Args:
        run: A run folder.
        other: Another one, of the same data and split.
        index: An index of the user's own photos, made by a stage of the run.

    Raises:
        UserError: a folder holds no run or no index, a run has no model yet, the other one has other data, or no stage
            of the run made the index.
    """
    opened = FactRun.open(run)
    given = [] if other is None else [FactRun.open(other)]
    for each in given:
        _check_alike(opened, each)
    given += sorted(siblings(opened), key=lambda sibling: method_key(sibling) != LOWER_BOUND)
    # Before anything else is read: a change from now on is noticed by `LiveState.follow`.
    versions = {each.path: _version(each.path) for each in (opened, *given)}
    main = open_view(opened)
    others: dict[str, RunView] = {}
    for each in given:
        view = open_view(each, main)
        others.setdefault(view.method, view)
    galleries: list[Gallery] = [TestImages(main), *([OwnPhotos(main, index)] if index is not None else [])]
    groups = opened.read_tasks()
    return AppState(main, others, {gallery.key: gallery for gallery in galleries}, groups, versions)


def _version(run: Path) -> list[int]:
    """When each stage of a run and its figures were written, in nanoseconds."""
    return [_modified(file) for file in (*(folder / VECTORS for folder in stage_folders(run)), run / RESULT)]


def _modified(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0  # not written yet, or deleted meanwhile


def _check_alike(run: FactRun, other: FactRun) -> None:
    """Check that two runs were scored on the same images by the same facts.

    Raises:
        UserError: they were not, or are one run.
    """
    if other.path.resolve() == run.path.resolve():
        raise UserError(f"{other.path} is the run itself; name another one to show next to it")
    if not same_tasks(run, other):
        raise UserError(
            f"{other.path} has other images or tasks than {run.path}; a run can be compared with one of the same data "
            "and split"
        )
