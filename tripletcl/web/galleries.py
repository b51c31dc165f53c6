"""What can be searched on the page: a run's test images, and the user's own photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from tripletcl.data import UNITS, Fact
from tripletcl.errors import UserError
from tripletcl.retrieval import FactIndex, Query, about_index
from tripletcl.runs.layout import INDEX
from tripletcl.runs.train import Run
from tripletcl.web.newest import Newest
from tripletcl.web.shown import ShownRun, load_model

INDEX_BYTES = 1 << 29
"""Of the vectors of the stages held in memory, where that is more than two."""

PHOTOS_MOVED = 50_000
"""Of more photos than this the vectors of another stage are not computed while someone waits."""


@dataclass(frozen=True)
class Seen:
    """Photos as a run's stage sees them.

    Attributes:
        index: To be searched; of each photo its path.
        numbers: `[rows]` the gallery's number of each row of the index.
        closed: `[rows, F]` what is added to the mean cosine with each fact of the run's table, where there is such.
    """

    index: FactIndex
    numbers: np.ndarray
    closed: Tensor | None = None

    def vectors(self, row: int) -> Tensor:
        """The unit vectors `[3, D]` of a row."""
        return torch.from_numpy(np.array(self.index.rows([row])[0])).reshape(len(UNITS), -1)

    def row(self, number: int) -> int | None:
        """Where a photo stands; None where this stage has not seen it."""
        found = np.flatnonzero(self.numbers == number)
        return int(found[0]) if len(found) else None


class Gallery(Protocol):
    """Photos that can be searched; the page knows a photo by its number alone."""

    key: str
    title: str

    def __len__(self) -> int: ...

    def seen(self, shown: ShownRun, stage: int) -> Seen | None:
        """The photos as a run's stage sees them; None where its vectors of them are not known."""

    def unseen(self, shown: ShownRun) -> str:
        """Why they are not known, in a sentence."""

    def path(self, number: int) -> Path:
        """The file of a photo."""

    def number(self, path: Path) -> int:
        """The number of a photo."""

    def labels(self, number: int) -> list[Fact]:
        """The facts that the photo is known to show."""

    def labelled(self, query: Query) -> np.ndarray | None:
        """`[N]` bool, which photos are labelled with a fact that has the units asked for; None where none is."""


class TestImages:
    """The images that a run's MAP is measured on; of each stage its vectors of them lie in the run folder."""

    __test__ = False  # no test of pytest's
    key = "test"

    def __init__(self, shown: ShownRun) -> None:
        table, known = shown.table, shown.run.vectors(shown.last)
        entry: dict[Path, int] = {}  # a file that several tables name is one photo
        for image in known["image_ids"].tolist():
            entry.setdefault(table.paths[image], image)
        self.paths, self.facts = list(entry), table.facts
        self.title = f"{len(self.paths):,} test images"
        self._numbers = {path: number for number, path in enumerate(self.paths)}
        self._shows = table.relevance("test", np.array(list(entry.values())), np.arange(len(table.facts)))  # [N, F]
        bytes_each = known["images"].numel() * known["images"].element_size()
        self._seen: Newest[Seen] = Newest(max(2, INDEX_BYTES // max(1, bytes_each)))

    def __len__(self) -> int:
        return len(self.paths)

    def seen(self, shown: ShownRun, stage: int) -> Seen:
        """The test images with the vectors of a stage."""
        model = shown.model(stage)

        def look() -> Seen:
            vectors = shown.run.vectors(shown.stage(stage))
            row_of = {shown.table.paths[image]: row for row, image in enumerate(vectors["image_ids"].tolist())}
            known = {self._numbers[path]: row for path, row in row_of.items() if path in self._numbers}
            rows, numbers = list(known.values()), np.array(list(known))
            index = FactIndex(kind="flat")
            index.add([self.paths[number] for number in numbers], vectors["images"][rows])
            index.embedder = model
            return Seen(index, numbers, vectors["closed"][rows] if "closed" in vectors else None)

        return self._seen.get(model.key, look)

    def unseen(self, shown: ShownRun) -> str:
        """Never asked: every stage has seen them."""
        return ""

    def path(self, number: int) -> Path:
        """The file of an image."""
        return self.paths[number]

    def number(self, path: Path) -> int:
        """The number of an image."""
        return self._numbers[path]

    def labels(self, number: int) -> list[Fact]:
        """The facts of an image's rows."""
        return [self.facts[fact] for fact in np.flatnonzero(self._shows[number])]

    def labelled(self, query: Query) -> np.ndarray | None:
        """`[N]` bool; None where no fact of the test images has the units asked for."""
        facts = [number for number, fact in enumerate(self.facts) if has_units(fact, query.units)]
        found = self._shows[:, facts].any(axis=1)
        return np.asarray(found) if found.any() else None


class OwnPhotos:
    """The photos of an index. Other stages than its own see them where it keeps what they all see of a photo."""

    key = "own"

    def __init__(self, shown: ShownRun, folder: Path) -> None:
        self.run, self.folder = shown.run.path, folder
        self.stage = stage_of_index(shown, folder)
        self.index = FactIndex.load(folder, shown.model(self.stage))
        self._rows = rows = np.flatnonzero(~self.index.deleted)
        self.paths = [self.index.paths[int(row)] for row in rows]
        self.title = f"your {len(self.paths):,} photos"
        self._numbers = {path: number for number, path in enumerate(self.paths)}
        self._row_numbers = np.full(len(self.index.deleted), -1)
        self._row_numbers[rows] = np.arange(len(rows))
        self._seen: Newest[Seen | None] = Newest(2)

    def __len__(self) -> int:
        return len(self.paths)

    def seen(self, shown: ShownRun, stage: int) -> Seen | None:
        """The photos as the index has them, or their vectors computed anew from what it keeps of each photo."""
        if shown.run.path == self.run and shown.stage(stage) == self.stage:
            return Seen(self.index, self._row_numbers)
        return self._seen.get(shown.model(stage).key, lambda: self._moved(shown, stage))

    def _moved(self, shown: ShownRun, stage: int) -> Seen | None:
        features = self.index.features
        if features is None or len(self) > PHOTOS_MOVED:
            return None
        model = load_model(shown.folder(stage))
        if model.trunk_fingerprint() != self.index.trunk:
            return None
        index = FactIndex(kind="flat")
        index.add(self.paths, model.vectors_of(torch.from_numpy(np.asarray(features)[self._rows])))
        index.embedder = shown.model(stage)
        return Seen(index, np.arange(len(self)))

    def unseen(self, shown: ShownRun) -> str:
        """Which stage the photos were indexed by."""
        return f"These photos were indexed as of task {self.stage}; other stages and methods have not seen them."

    def path(self, number: int) -> Path:
        """The file of a photo."""
        return self.paths[number]

    def number(self, path: Path) -> int:
        """The number of a photo."""
        return self._numbers[path]

    def labels(self, number: int) -> list[Fact]:
        """Nothing is known of what they show."""
        return []

    def labelled(self, query: Query) -> np.ndarray | None:
        """Nothing is known of what they show."""
        return None


def usual_index(run: Path) -> Path | None:
    """RUN/index, where it is there and a stage of the run made it."""
    try:
        made_by = about_index(run / INDEX).model
    except UserError:
        return None
    return run / INDEX if made_by is not None and Run.open(run).stage_of(made_by) is not None else None


def stage_of_index(shown: ShownRun, folder: Path) -> int:
    """The stage whose model made an index.

    Raises:
        UserError: there is no index, or no stage of the run made it.
    """
    made_by = about_index(folder).model
    stage = shown.run.stage_of(made_by) if made_by is not None else None
    if stage is None:
        raise UserError(
            f"the index in {folder} was made by no stage of {shown.run.path}; index the photos with this run"
        )
    return stage


def has_units(fact: Fact, wanted: Sequence[str | None]) -> bool:
    """Does a fact have the units that are not None? Capitals do not matter."""
    return all(w is None or w.casefold() == (own or "").casefold() for w, own in zip(wanted, fact.units, strict=True))
