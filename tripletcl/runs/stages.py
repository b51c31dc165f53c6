"""Models that a run stores: found by the names of files and by descriptions, without reading weights."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from tripletcl.embedding.description import saved_fingerprint
from tripletcl.errors import UserError
from tripletcl.files import damaged
from tripletcl.files.addresses import Place
from tripletcl.files.documents import read_settings, settings_file
from tripletcl.files.places import stage_folder, stage_folders, stage_number
from tripletcl.runs.layout import INDEX, VECTORS

SECTIONS = ("data", "model", "training", "method")
"""Of the settings of every run."""


class Stages:
    """The stages of a run in a folder, whatever it learns.

    Args:
        path: The folder.
    """

    learns: ClassVar[str]
    """See `Config`."""
    last_file: ClassVar[str]
    """The file of a stage's folder that is written last."""
    refusal: ClassVar[str]
    """The message for a run that learned something else."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a run.

        Raises:
            UserError: the folder holds no run, or one that learned something else.
        """
        run = cls(path)
        run.check_kind()
        return run

    def check_kind(self) -> None:
        """Check that the run learned what this class is about.

        Raises:
            UserError: it learned something else, or the folder holds no run.
        """
        if self.values.get("learns", "facts") != self.learns:
            raise UserError(f"{self.path} {self.refusal}")

    @cached_property
    def values(self) -> dict[str, Any]:
        """The settings as they were given, unchecked."""
        return stored_values(self.path)

    @property
    def stages(self) -> list[int]:
        """The stages whose model is stored, in order; 0 is the model before training."""
        return [stage_number(folder) for folder in stage_folders(self.path) if (folder / self.last_file).exists()]

    def stage(self, number: int | None = None) -> int:
        """Return a stage whose model is stored, by default the latest.

        Raises:
            UserError: there is no such stage.
        """
        stages = self.stages
        stage = stages[-1] if stages and number is None else number
        if stage is None or stage not in stages:
            raise UserError(f"{self.path} has no model of stage {stage}; there are {stages or 'none'}")
        return stage

    def stage_folder(self, stage: int | None = None) -> Path:
        """Return the folder of a stage's model, by default of the latest; see `stage`."""
        return stage_folder(self.path, self.stage(stage))


class FactStages(Stages):
    """The stages of a run that learned facts."""

    learns: ClassVar[str] = "facts"
    last_file: ClassVar[str] = VECTORS
    refusal: ClassVar[str] = (
        "learned to recognise objects, and this is asked of runs that learned facts; such a run can be trained, "
        "evaluated, compared and reported"
    )

    def fingerprint(self, stage: int | None = None) -> str:
        """Return the fingerprint of a stage's model, by default of the latest."""
        return saved_fingerprint(self.stage_folder(stage))

    def stage_of(self, fingerprint: str | None) -> int | None:
        """Return the latest stage whose model has a fingerprint; None if there is none."""
        folders = {stage: stage_folder(self.path, stage) for stage in reversed(self.stages)}
        return next((stage for stage, folder in folders.items() if saved_fingerprint(folder) == fingerprint), None)

    @property
    def index(self) -> Path:
        """The folder of the run's photo index, which need not exist."""
        return self.path / INDEX

    def stage_of_index(self, index: Place | None = None) -> int:
        """Return the stage whose model made a photo index, by default the run's own.

        Raises:
            UserError: there is no index, or it was made by another model.
        """
        from tripletcl.retrieval import about_index  # loads faiss, which training does not need

        folder = index or self.index
        model = about_index(folder).model
        if (stage := self.stage_of(model)) is None:
            raise UserError(
                f"the index in {folder} was made by model {model or 'unknown'}, which is no stage of {self.path} (its "
                f"latest is {self.fingerprint()}); index the photos with this run"
            )
        return stage


def stored_values(folder: Path) -> dict[str, Any]:
    """Read the settings of a run as they were given, unchecked.

    Raises:
        UserError: the folder holds no run; runs that are directly below it are named. Or the file was cut: what it
            lacks would be another setting.
    """
    path = settings_file(folder)
    values = read_settings(path)
    if missing := [section for section in SECTIONS if section not in values]:
        raise damaged(path, f"it lacks {missing[0]!r}")
    return values
