"""The history of a run: each task that it learned, when, and how well its facts are known now."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tripletcl.data import FactTable, read_table
from tripletcl.errors import UserError
from tripletcl.methods import build_method
from tripletcl.runs.layout import EMBEDDER
from tripletcl.runs.stored import FactRun


@dataclass(frozen=True)
class TaskRecord:
    """A task that a run has learned.

    Attributes:
        number: From 1.
        name: "task 1", the file name of a follow-up table, or "taught: <fact>".
        facts: The facts that it taught.
        images: The number of its training images; None if the table is missing.
        learned: The time, in ISO format.
        stage: The first stage after it.
        map_then: MAP of its facts just after it was learned, over its own test images, or over all for a single fact;
            None without test images.
        map_now: The same with the latest model; None if the test images are missing.
    """

    number: int
    name: str
    facts: tuple[str, ...]
    images: int | None
    learned: str
    stage: int
    map_then: float | None
    map_now: float | None

    @property
    def change(self) -> float | None:
        """The change of its MAP since."""
        return None if self.map_then is None or self.map_now is None else self.map_now - self.map_then


@dataclass(frozen=True)
class Adaptation:
    """A measurement of importance on a user's photos (`tripletcl adapt`).

    Attributes:
        after: The latest stage at that time.
        time: In ISO format.
        images: The number of photos.
        folder: Their folder.
        weight: The factor of their importance; that of the tasks counts 1.
        recompute: True if it replaced the importance of the tasks.
    """

    after: int
    time: str
    images: int
    folder: str
    weight: float
    recompute: bool


def task_records(folder: Path) -> list[TaskRecord]:
    """List the tasks that a run has learned so far, in order.

    Raises:
        UserError: there is no run, or its metrics lack the figures of a stage.
    """
    history = _History(FactRun.open(folder))
    return [history.record(number) for number in range(1, history.count + 1)]


def adaptations(folder: Path) -> list[Adaptation]:
    """List the measurements of importance on a user's photos, in order."""
    lines = [line for line in FactRun.open(folder).metrics if line["kind"] == "adapt"]
    return [Adaptation(**{field.name: line[field.name] for field in fields(Adaptation)}) for line in lines]


class _History:
    """Reads the tasks of a run; joint training learned all of them in one stage."""

    def __init__(self, run: FactRun) -> None:
        self.run, self.follow_ups = run, run.own_settings.data.further
        self.joint = build_method(run.settings.method).joint
        run.stage_lines(run.stages if run.result is not None else run.stages[:-1])  # a kill may cost the last one
        self.lines = {line["after"]: line for line in run.metrics if line["kind"] == "stage"}
        self.groups: list[list[int]] = run.read_tasks()

    @property
    def count(self) -> int:
        latest = max(self.lines, default=0)
        return self.run.task_count if self.joint and latest else min(self.run.task_count, latest)

    def record(self, number: int) -> TaskRecord:
        follow_up = max(number - self.run.first_tasks, 0)
        stage = 1 if self.joint else number
        line, latest = self.lines[stage], self.lines[1 if self.joint else min(self.count, max(self.lines))]
        return TaskRecord(
            number,
            self._name(number, follow_up),
            self._facts(number, follow_up),
            line["items"] if "items" in line and not self.joint else self._count_images(number, follow_up),
            line.get("time") or _time_written(self.run.stage_folder(stage)),
            stage,
            _score(line, number),
            _score(latest, number),
        )

    def _name(self, number: int, follow_up: int) -> str:
        if not follow_up:
            return f"task {number}"
        entry = self.run.settings.data.further[follow_up - 1]
        return f"taught: {entry.taught}" if entry.taught is not None else Path(entry.table).name

    def _facts(self, number: int, follow_up: int) -> tuple[str, ...]:
        """Return the facts of a task from what the run stores: the first table may be missing."""
        if follow_up:
            return tuple(map(str, read_table(self.follow_ups[follow_up - 1].table, absolute=True, fold=False).facts))
        if self.joint:
            start = sum(map(len, self.groups[: number - 1]))
            return self._taught(1)[start : start + len(self.groups[number - 1])]
        before = set(self._taught(number - 1))
        return tuple(fact for fact in self._taught(number) if fact not in before)

    def _taught(self, stage: int) -> tuple[str, ...]:
        return tuple(map(str, self.run.taught(stage)))

    def _count_images(self, number: int, follow_up: int) -> int | None:
        if not self._tables:
            return None
        rows = self._tables[follow_up].rows_of("train", None if follow_up else self.groups[number - 1])
        return len(np.unique(rows[:, 0]))

    @cached_property
    def _tables(self) -> list[FactTable]:
        try:
            return self.run.tables()
        except UserError:
            return []


def _time_written(stage: Path) -> str:
    """Return the time at which a stage was written; early runs did not log it."""
    seconds = (stage / EMBEDDER).stat().st_mtime
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _score(line: dict[str, Any], number: int) -> float | None:
    scores = line["map_tasks"]
    return scores[number - 1] if number <= len(scores) else None
