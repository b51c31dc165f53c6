"""A stored model, and the photo index that it made: commands and scripts open both by the folder of a run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tripletcl.data.facts import Fact
from tripletcl.embedding import TextEmbedder
from tripletcl.embedding.description import read_description
from tripletcl.embedding.text_vectors import TextVectors
from tripletcl.errors import UserError
from tripletcl.files.addresses import Place
from tripletcl.files.places import cache_folder
from tripletcl.retrieval import Calibration, FactIndex, about_index
from tripletcl.retrieval.stores.address import read_together
from tripletcl.runs.layout import CALIBRATION, EMBEDDER, INDEX, TEXTS
from tripletcl.runs.stages import FactStages

if TYPE_CHECKING:
    from tripletcl.embedding import FactEmbedder


@dataclass(frozen=True)
class StoredModel:
    """The model of a run's stage, or one that `save_pretrained` wrote.

    Attributes:
        folder: The folder of the model's files.
        run: Its run; None for a model that belongs to no run.
        stage: Its stage in the run.
    """

    folder: Path
    run: FactStages | None = None
    stage: int | None = None

    def load(self) -> FactEmbedder:
        """Read the model."""
        from tripletcl.embedding import FactEmbedder  # with torch, which questions do without

        embedder = FactEmbedder.from_pretrained(self.folder)
        self._add_texts(embedder.text.vectors)
        return embedder

    def load_text(self) -> TextEmbedder:
        """Read the text side of the model, which takes a fraction of the time."""
        embedder = TextEmbedder.from_pretrained(self.folder)
        self._add_texts(embedder.vectors)
        return embedder

    def _add_texts(self, vectors: TextVectors) -> None:
        """Add the vectors of texts that are stored: to load the encoder takes far longer than the rest of a query."""
        vectors.cache_in(cache_folder())
        if self.run is not None:
            vectors.load(self.run.path / TEXTS)

    def calibration(self) -> Calibration | None:
        """The meaning of its scores; None if unknown. It is fitted when it is first needed."""
        if self.run is None or self.stage is None:
            return None
        if not read_description(self.folder / EMBEDDER, "embedder")["facts"]:
            return None  # nothing was taught that photos could be right about
        stored = Calibration.load(self.run.stage_folder(self.stage) / CALIBRATION, self.run.fingerprint(self.stage))
        if stored is not None:
            return stored
        from tripletcl.runs.calibrate import stage_calibration
        from tripletcl.runs.stored import FactRun

        return stage_calibration(FactRun(self.run.path), self.stage)


def open_model(path: Path, stage: int | None = None, index: Place | None = None) -> StoredModel:
    """Find a model by the folder of its run, or by its own folder.

    Args:
        path: A run, or a folder of `save_pretrained`.
        stage: The stage; by default the latest, or the one that made the index.
        index: A photo index that the model must have made.

    Raises:
        UserError: there is no run, no such stage, or another model made the index.
    """
    if (path / EMBEDDER).exists():
        return StoredModel(path)
    run = FactStages.open(path)
    number = run.stage(stage) if index is None else _stage_for(run, index, stage)
    return StoredModel(run.stage_folder(number), run, number)


def _stage_for(run: FactStages, index: Place, stage: int | None) -> int:
    """Return the stage to use an index with: the one that made it, which must be the requested one.

    An index that names no model was filled by a script; it is used with the requested stage, or the latest.
    """
    model = about_index(index).model
    if model is None:
        return run.stage(stage)
    if stage is None:
        return run.stage_of_index(index)
    if run.fingerprint(stage) != model:
        raise UserError(
            f"the index in {index} was made by model {model}, and stage {stage} of {run.path} is "
            f"{run.fingerprint(stage)}; leave out --stage, or bring the index to the last stage with "
            f"tripletcl index upgrade {run.path}"
        )
    return stage


@dataclass(frozen=True)
class Collection:
    """Photos that can be searched.

    Attributes:
        index: With the model that made it.
        embedder: That model.
        model: The same model on disk.
    """

    index: FactIndex
    embedder: TextEmbedder | FactEmbedder
    model: StoredModel

    @property
    def stage(self) -> int | None:
        """The stage of the model; None for a model that belongs to no run."""
        return self.model.stage

    @cached_property
    def known_facts(self) -> tuple[Fact, ...]:
        """The facts that the model was taught, and what its base knows by name."""
        return self.embedder.known_facts

    @cached_property
    def known_words(self) -> tuple[str, ...]:
        """The words in which the things that the model's base knows are described, in lower case."""
        described = " ".join(self.embedder.base_descriptions).lower()
        return tuple(sorted(set(re.findall(r"[a-z]{3,}", described))))

    @cached_property
    def calibration(self) -> Calibration | None:
        """The meaning of the model's scores; None if unknown. A request of one term needs none."""
        return self.model.calibration()

    @property
    def newer(self) -> str | None:
        """A sentence for the user if the run has a later stage."""
        run, stage = self.model.run, self.stage
        if run is None or (latest := run.stage()) == stage:
            return None
        return f"this index is of stage {stage}, and the run has stage {latest}: tripletcl index upgrade {run.path}"


def open_collection(
    path: Path, index: Place | None = None, stage: int | None = None, *, texts_only: bool = False
) -> Collection:
    """Open an index with the model that made it, whichever stage of the run that is.

    Args:
        path: A run, or a folder of `save_pretrained`.
        index: The index; by default RUN/index.
        stage: The stage that must have made it; by default any.
        texts_only: Read only the text side of the model, which encodes no example photos.

    Raises:
        UserError: there is no index, no such stage, or another model made the index.
    """
    open_model(path, stage)  # without a run or a stage, that is the error, not the missing index
    folder = index or path / INDEX

    def read() -> Collection:
        model = open_model(path, stage, folder)
        embedder = model.load_text() if texts_only else model.load()
        return Collection(FactIndex.load(folder, embedder), embedder, model)

    return read_together(folder, read)
