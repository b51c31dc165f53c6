"""A run on disk: its settings, tables, stages and figures. Reading it writes nothing."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import cached_property
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import torch
from torch import Tensor

from tripletcl.config import Config, FactConfig, ObjectConfig, dump_config, parse_config
from tripletcl.continual import RunFolder
from tripletcl.continual.run_folder import RESULT_REMEDY
from tripletcl.data import Fact, FactTable
from tripletcl.data.contents import describe_change, table_digest
from tripletcl.embedding.classifier import Classifier
from tripletcl.embedding.description import REMEDY, read_description
from tripletcl.embedding.spec import EmbedderSpec
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.experiments.object_tasks import describe_task_change, describe_tasks, partition_sets, read_sets
from tripletcl.experiments.tables import count_first_tasks, load_numbered, load_tables, table_file
from tripletcl.files import damaged, reading, sha256, validated, verified, write_json, write_text
from tripletcl.files.documents import RESTORE, settings_file
from tripletcl.files.tensors import read_tensors
from tripletcl.runs.fact_scores import read_fact_scores
from tripletcl.runs.layout import (
    BASE_TABLE,
    CLASSIFIER,
    EMBEDDER,
    FACT_SCORES,
    METRICS,
    RESULT,
    SETTINGS,
    TASKS,
    VECTORS,
    follow_up_table,
)
from tripletcl.runs.stages import FactStages, Stages, stored_values

Settings = TypeVar("Settings", bound=Config)


class StoredRun(Stages, Generic[Settings]):
    """A run in a folder, whatever it learns.

    Args:
        path: The folder.
        settings: As given; read from the folder, and checked, when they are first needed.
        folder: The files that every run has.
    """

    def __init__(self, path: Path, settings: Settings | None = None, folder: RunFolder | None = None) -> None:
        super().__init__(path)
        self.folder = folder or RunFolder(self.path, last_file=self.last_file)
        if settings is not None:
            self.settings = settings

    @classmethod
    def create(cls, path: Path, settings: Settings) -> Self:
        """Open the run with these settings in a folder, or create it.

        Raises:
            UserError: the folder holds a run with other settings, or something else.
        """
        folder = RunFolder(path, settings_text(settings, path), environment(), last_file=cls.last_file)
        return cls(path, settings, folder)

    @cached_property
    def settings(self) -> Settings:
        """The settings as they were given; checked when they are first needed."""
        return parse_config(self.values, str(self.path / SETTINGS))  # type: ignore[return-value]  # by `learns`

    @property
    def data_digests(self) -> dict[str, str]:
        """A hash of everything that the run learned from, as far as known, by its name."""
        return {}

    def locked(self) -> AbstractContextManager[None]:
        """Hold the run against other processes."""
        return self.folder.locked()

    @property
    def result(self) -> RunResult | None:
        """The run's figures, or None while it is not finished."""
        return read_result(self.folder)

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """All complete lines of the run's metrics."""
        return self.folder.metrics

    def stage_lines(self, stages: Iterable[int]) -> list[dict[str, Any]]:
        """Return the line of the metrics with the figures of each of some stages.

        Raises:
            UserError: the figures of a stage are missing.
        """
        lines = {line.get("after"): line for line in self.metrics if line["kind"] == "stage"}
        wanted = list(stages)
        if missing := [stage for stage in wanted if stage not in lines]:
            raise UserError(f"{self.path / METRICS} has no figures of stage {missing[0]}: {RESTORE}")
        return [lines[stage] for stage in wanted]

    def read_tasks(self) -> list[Any]:
        """Read what was stored about the tasks; empty if training has not begun."""
        return read_tasks(self.path)


class FactRun(StoredRun[FactConfig], FactStages):
    """A run that learns facts."""

    @classmethod
    def create(cls, path: Path, settings: FactConfig) -> Self:
        """Open the run with these settings in a folder, or create it.

        Raises:
            UserError: the folder holds a run of other settings, one that has learned more since, or one whose tables or
                photos have changed since; or something else.
        """
        if (path / SETTINGS).exists():
            stored = cls.open(path).settings
            first = stored.model_copy(update={"data": stored.data.model_copy(update={"further": []})})
            if stored != settings and stored.data.further and first == settings:
                raise UserError(
                    f"{path} has learned follow-up tables since; continue it with `tripletcl train --continue {path}`"
                )
        run = super().create(path, settings)
        run._check_tables()
        return run

    def _check_tables(self) -> None:
        """Check that the tables that the settings name are still those that the run learned from.

        Raises:
            UserError: one has other rows, or photos of another content. What is missing by now is not checked.
        """
        own = self.own_settings
        files = {number: table_file(self.settings, number) for number in range(1 + len(self.settings.data.further))}
        given = {n: file for n, file in files.items() if file != table_file(own, n) and file.exists()}
        before = self.tables() if given else []
        for number, file in given.items():
            change = describe_change(before[number], load_numbered(self.settings, number, before[:number]))
            if change is not None:
                raise UserError(
                    f"{file} has changed since {self.path} learned from it: {change}; name another folder, or remove "
                    "this one"
                )

    @classmethod
    @contextmanager
    def changing(cls, path: Path) -> Iterator[Self]:
        """Open a run under its lock, to change it.

        Raises:
            UserError: the folder holds no run of facts, or another process holds it.
        """
        settings_file(path)  # what is no run is refused before it is locked
        run = cls(path)
        with run.locked():
            run.check_kind()
            run.folder.kept_from = run.undo_stage
            yield run

    # --- settings and tables -----------------------------------------------------------------------------------------

    @property
    def own_settings(self) -> FactConfig:
        """The settings with the tables that are stored in the run in place of those that were given."""
        if not started(self.path):
            return self.settings
        data = self.settings.data
        further = [
            entry.model_copy(update={"table": str(check_table(self.path, stored).absolute())})
            if (stored := follow_up_table(self.path, number)).exists()
            else entry
            for number, entry in enumerate(data.further, 1)
        ]
        changes: dict[str, Any] = {"further": further, "fold": False}  # the stored tables have been folded
        if (self.path / BASE_TABLE).exists() and data.table != "scenes":
            own = str(check_table(self.path, self.path / BASE_TABLE).absolute())
            column = data.stored_task_column
            changes |= {"table": own, "root": None, "task_column": column}
        return self.settings.model_copy(update={"data": data.model_copy(update=changes)})

    def tables(self) -> list[FactTable]:
        """Read the first table and the follow-up tables."""
        return load_tables(self.own_settings, stored=started(self.path))

    def table(self) -> FactTable:
        """Read all tables as one."""
        first, *further = self.tables()
        return first.join(further)

    @cached_property
    def first_tasks(self) -> int:
        """The number of tasks that the facts of the first table are partitioned into."""
        return count_first_tasks(self.own_settings)

    @property
    def task_count(self) -> int:
        """The number of tasks, learned or not."""
        return self.first_tasks + len(self.settings.data.further)

    @property
    def undo_stage(self) -> int | None:
        """The stage before the lessons that came last, to which they can be undone; None without one."""
        lessons = list(takewhile(lambda entry: entry.taught is not None, reversed(self.settings.data.further)))
        return self.task_count - len(lessons) if lessons else None

    def change(self, settings: FactConfig) -> None:
        """Store other settings; the figures, which belong to the former ones, are removed first."""
        (self.path / RESULT).unlink(missing_ok=True)
        write_text(self.path / SETTINGS, dump_config(settings))
        self.settings = settings
        self.folder.kept_from = self.undo_stage

    @property
    def data_digests(self) -> dict[str, str]:
        """A hash of the first table by the contents of its photos, whatever their names, as far as these are known.

        Drawn scenes are named by their settings.
        """
        if self.settings.data.table == "scenes":
            return {BASE_TABLE: f"{self.settings.data.scenes} of {self.settings.model.image_size} pixels"}
        base = self.path / BASE_TABLE
        digest = table_digest(check_table(self.path, base)) if base.exists() else None
        return {} if digest is None else {BASE_TABLE: digest}

    # --- stages ------------------------------------------------------------------------------------------------------

    def taught(self, stage: int | None = None) -> list[Fact]:
        """Read the facts that a stage had been taught."""
        path = self.stage_folder(stage) / EMBEDDER
        about = read_description(path, "embedder")
        with reading(path):
            return [Fact(*units) for units in about["facts"]]

    def spec(self, stage: int | None = None) -> EmbedderSpec:
        """Read the settings of a stage's model."""
        path = self.stage_folder(stage) / EMBEDDER
        about = read_description(path, "embedder")
        with reading(path):
            return validated(EmbedderSpec, about["spec"])

    def vectors(self, stage: int | None = None) -> dict[str, Tensor]:
        """Read a stage's vectors of the test images and of all facts."""
        path = self.stage_folder(stage) / VECTORS
        vectors = read_tensors(path, REMEDY).tensors
        if missing := {"image_ids", "images", "facts", "present"} - vectors.keys():
            raise damaged(path, f"it lacks {min(missing)}", REMEDY)
        return vectors


class ObjectRun(StoredRun[ObjectConfig]):
    """A run that learns to recognise objects."""

    learns: ClassVar[str] = "objects"
    last_file: ClassVar[str] = CLASSIFIER
    refusal: ClassVar[str] = "learned facts: ask it with `tripletcl describe`"

    @classmethod
    def create(cls, path: Path, settings: ObjectConfig) -> Self:
        """Open the run with these settings in a folder, or create it.

        Raises:
            UserError: the folder holds a run of other settings, or one whose sets have changed since; or something
                else.
        """
        run = super().create(path, settings)
        # What is missing by now is not checked.
        if started(path) and all(Path(entry.root).expanduser().exists() for entry in settings.data.sets):
            check_sets(path, describe_tasks(settings, partition_sets(settings.data, read_sets(settings))))
        return run

    @property
    def data_digests(self) -> dict[str, str]:
        """A hash of the images of each task, whatever their names, as far as these are known."""
        tasks = self.read_tasks()
        return {task["name"]: task["content"] for task in tasks if task.get("content") is not None}

    def classifier(self, stage: int | None = None) -> Classifier:
        """Load the model of a stage, by default the latest."""
        return Classifier.from_pretrained(self.stage_folder(stage))


def started(folder: Path) -> bool:
    """True if anything has been computed in a run folder."""
    return (folder / METRICS).exists()


def read_tasks(folder: Path) -> list[Any]:
    """Read what was stored about the tasks of a run; empty if training has not begun.

    Raises:
        UserError: the file is damaged.
    """
    return _task_file(folder)["tasks"]


def write_tasks(folder: Path, tasks: Sequence[Any], new_tables: Iterable[Path] = ()) -> None:
    """Store what is to be known about the tasks of a run, with the SHA-256 of each table that it stores.

    Args:
        new_tables: Those that have just been written.
    """
    new = {path.name for path in new_tables}
    known = {name: digest for name, digest in _task_file(folder)["tables"].items() if name not in new}
    tables = sorted((folder / BASE_TABLE).parent.glob("*.csv"))
    digests = {path.name: known.get(path.name) or sha256(path) for path in tables}
    write_json(folder / TASKS, {"tasks": tasks, "tables": digests}, indent=None)


def check_sets(folder: Path, tasks: Sequence[Mapping[str, Any]]) -> None:
    """Check that the tasks of objects that a run stores are still those of its sets; see `describe_tasks`.

    Raises:
        UserError: the sets have changed since the run learned from them.
    """
    before = read_tasks(folder)
    if before and (change := describe_task_change(before, tasks)) is not None:
        raise UserError(
            f"the sets have changed since {folder} learned from them: {change}; name another folder, or remove this one"
        )


def check_table(folder: Path, path: Path) -> Path:
    """Return a table that a run stores, if it is as it was written.

    Raises:
        UserError: it has changed since.
    """
    if _task_file(folder)["tables"].get(path.name) not in (None, sha256(path)):
        raise damaged(path, f"its SHA-256 is not the one in {TASKS}")
    return path


def _task_file(folder: Path) -> dict[str, Any]:
    path = folder / TASKS
    if not path.exists():
        return {"tasks": [], "tables": {}}
    with reading(path):
        values = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(values, list):  # version 0.1 wrote the tasks alone
            return {"tasks": values, "tables": {}}
        return {"tables": {}, "tasks": values["tasks"], **verified(values)}


def read_result(folder: RunFolder) -> RunResult | None:
    """Read a run's figures; None while it is not finished.

    Raises:
        UserError: the file is damaged.
    """
    if (values := folder.result) is None:
        return None
    try:
        result = RunResult.from_dict(values)
    except UserError as error:
        raise damaged(folder.path / RESULT, error, RESULT_REMEDY) from error
    return with_fact_scores(result, folder)


def with_fact_scores(result: RunResult, folder: RunFolder) -> RunResult:
    """Add the scores of single facts, which the last stage stores; those of version 0.1 are in the result.

    Raises:
        UserError: their file is damaged.
    """
    path = folder.stage_folder(len(result.matrix) - 1) / FACT_SCORES
    return result if result.ap or not path.exists() else replace(result, **read_fact_scores(path))


def settings_text(config: Config, folder: Path) -> str:
    """Return the text of the folder's settings if they mean this config, else the config's own text.

    Another version writes the same settings in another way. What `tripletcl compare` runs is no part of a run.
    """
    path = folder / SETTINGS
    same = path.exists() and _single(parse_config(stored_values(folder), str(path))) == _single(config)
    return path.read_text(encoding="utf-8") if same else dump_config(config)


def _single(config: Config) -> Config:
    return config.model_copy(update={"compare": None})


def environment() -> dict[str, str]:
    """Return the versions and the machine, which are stored with every run."""
    packages = ("tripletcl", "torch", "torchvision", "timm", "transformers", "faiss-cpu", "numpy")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "gpu": device,
    }
