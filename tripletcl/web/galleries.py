"""The photos that can be searched on the page: a run's test images, and the user's own photos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tripletcl.data import UNITS, Fact
from tripletcl.data.images import Photo
from tripletcl.errors import UserError
from tripletcl.files.addresses import Place
from tripletcl.retrieval import FactIndex, Query
from tripletcl.retrieval.stores.address import read_together
from tripletcl.runs.stored import FactRun
from tripletcl.web.run_view import RunView, load_model

INDEX_BYTES = 1 << 29
"""Most memory for vectors of the test images by several stages; two stages are held in any case."""

MOST_REEMBEDDED = 50_000
"""Of more photos than this the vectors of another stage are not computed while someone waits."""


@dataclass(frozen=True)
class EmbeddedPhotos:
    """Photos with their vectors by the model of one stage.

    Attributes:
        index: The vectors, by the photos' paths.
        numbers: `[rows]` the number in the gallery of each row of the index.
        closed: `[rows, F]` what a closed readout adds to the mean cosine with each fact of the run's table; None
            without such a readout.
    """

    index: FactIndex
    numbers: np.ndarray
    closed: Tensor | None = None

    def vectors(self, row: int) -> Tensor:
        """The unit vectors `[3, D]` of a row."""
        return torch.from_numpy(np.array(self.index.rows([row])[0])).reshape(len(UNITS), -1)

    def row(self, number: int) -> int | None:
        """The row of a photo; None where this stage has no vectors of it."""
        rows = np.flatnonzero(self.numbers == number)
        return int(rows[0]) if len(rows) else None


class Gallery:
    """Photos that can be searched; the page knows a photo by its number only.

    Attributes:
        key: Its name within the page.
        title: "24 test images".
        paths: The photos' files, or the regions of them that are searched.
    """

    key: str
    title: str

    def __init__(self, paths: Sequence[Photo]) -> None:
        self.paths = list(paths)
        self._numbers = {Path(str(path)): number for number, path in enumerate(self.paths)}

    def __len__(self) -> int:
        return len(self.paths)

    def number(self, path: Path) -> int:
        """The number of a photo by its name in an index."""
        return self._numbers[path]

    def embedded(self, view: RunView, stage: int) -> EmbeddedPhotos | None:
        """The photos by the model of a run's stage; None where its vectors of them are not known."""
        raise NotImplementedError

    def why_missing(self) -> str:
        """Why vectors are not known, in a sentence."""
        return ""

    def labels(self, number: int) -> list[Fact]:
        """The facts that a photo is labelled with."""
        return []

    def labelled(self, query: Query) -> np.ndarray | None:
        """`[N]` bool, the photos labelled with a fact that matches the query; None where no fact of a label does."""
        return None

    def unknown(self, query: Query) -> np.ndarray:
        """`[N]` bool, the photos of which it is not known whether they show a fact that matches the query."""
        return np.zeros(len(self), dtype=bool)


class TestImages(Gallery):
    """The images that a run's MAP is measured on; every stage has stored its vectors of them."""

    __test__ = False  # no test of pytest's
    key = "test"

    def __init__(self, view: RunView) -> None:
        table, stored = view.table, view.run.vectors(view.last)
        image_of: dict[Photo, int] = {}  # a file that several tables name is one photo
        for image in stored["image_ids"].tolist():
            image_of.setdefault(table.photos[image], image)
        super().__init__(list(image_of))
        self.title, self.facts = f"{len(self):,} test images", table.facts
        self._images = np.array(list(image_of.values()))
        self._relevance = table.relevance("test", self._images, np.arange(len(table.facts)))
        self._labels = None if table.labels is None else table.pair_labels("test")
        stage_bytes = stored["images"].numel() * stored["images"].element_size()
        self._embedded = lru_cache(max(2, INDEX_BYTES // max(1, stage_bytes)))(self._read)

    def embedded(self, view: RunView, stage: int) -> EmbeddedPhotos:
        """The test images with the vectors that the stage has stored."""
        return self._embedded(view, view.stage(stage), *view.key(stage))

    def _read(self, view: RunView, stage: int, _folder: Path, _saved_at: int) -> EmbeddedPhotos:
        vectors = view.run.vectors(stage)
        row_of = {Path(str(view.table.photos[image])): row for row, image in enumerate(vectors["image_ids"].tolist())}
        row_by_number = {self._numbers[path]: row for path, row in row_of.items() if path in self._numbers}
        rows, numbers = list(row_by_number.values()), np.array(list(row_by_number))
        index = FactIndex(kind="flat")
        index.add([str(self.paths[number]) for number in numbers], vectors["images"][rows])
        index.embedder = view.model(stage)
        return EmbeddedPhotos(index, numbers, vectors["closed"][rows] if "closed" in vectors else None)

    def labels(self, number: int) -> list[Fact]:
        """The facts of an image's rows."""
        return [self.facts[fact] for fact in np.sort(self._relevance[[number]].indices)]

    def labelled(self, query: Query) -> np.ndarray | None:
        """`[N]` bool; None where no fact of the test images matches the query."""
        facts = [number for number, fact in enumerate(self.facts) if query.matches(fact)]
        labelled = self._relevance[:, facts].sum(axis=1) > 0
        return labelled if labelled.any() else None

    def unknown(self, query: Query) -> np.ndarray:
        """`[N]` bool: none of the facts that match the query is known to be shown, and of some that is not known."""
        facts = np.array([number for number, fact in enumerate(self.facts) if query.matches(fact)], dtype=np.int64)
        if self._labels is None:
            return super().unknown(query)
        shown = self._relevance[:, facts].sum(axis=1) > 0
        return self._labels.unknown(self._images, facts).any(axis=1) & ~shown


class OwnPhotos(Gallery):
    """The photos of an index, without labels; a stage of another model has vectors of them if the trunk is the same."""

    key = "own"

    def __init__(self, view: RunView, folder: Place) -> None:
        def read() -> tuple[int, FactIndex]:
            stage = view.run.stage_of_index(folder)
            return stage, FactIndex.load(folder, view.model(stage))

        self.run, (self.stage, self.index) = view.run.path, read_together(folder, read)
        self._rows = np.flatnonzero(~self.index.deleted)
        super().__init__(self.index.photos)
        self.title = f"your {len(self):,} photos"
        self._row_numbers = np.full(len(self.index.deleted), -1)
        self._row_numbers[self._rows] = np.arange(len(self))
        self._reembedded = lru_cache(2)(self._reembed)

    def embedded(self, view: RunView, stage: int) -> EmbeddedPhotos | None:
        """The photos as the index stores them, or their vectors recomputed from the features that it stores."""
        if view.run.path == self.run and view.stage(stage) == self.stage:
            return EmbeddedPhotos(self.index, self._row_numbers)
        return self._reembedded(view, view.stage(stage), *view.key(stage))

    def _reembed(self, view: RunView, stage: int, folder: Path, _saved_at: int) -> EmbeddedPhotos | None:
        features = self.index.features
        if features is None or len(self) > MOST_REEMBEDDED:
            return None
        model = load_model(folder)
        if model.trunk_fingerprint() != self.index.trunk:
            return None
        index = FactIndex(kind="flat")
        own = torch.from_numpy(np.asarray(features)[self._rows]).float()
        index.add([str(path) for path in self.paths], model.vectors_of(own))
        index.embedder = view.model(stage)
        return EmbeddedPhotos(index, np.arange(len(self)))

    def why_missing(self) -> str:
        """The stage that the photos were indexed by."""
        return f"These photos were indexed as of task {self.stage}; other stages and methods have no vectors of them."


def default_index(folder: Path) -> Path | None:
    """RUN/index; None where there is none, or no stage of the run made it."""
    run = FactRun.open(folder)
    try:
        run.stage_of_index()
    except UserError:
        return None
    return run.index
