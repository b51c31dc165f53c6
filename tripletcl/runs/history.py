"""What a run knows: task by task, when it was learned, and how well it is still known."""

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
class KnownTask:
    """A task that a run has learned.

    Attributes:
        number: From 1.
        name: "task 1", the file name of a further table, or "taught: <fact>".
        facts: What it taught.
        images: How many training images it has; None where the table that says so is gone.
        learned: When, as ISO time.
        stage: The first model that knows it.
        map_then: MAP of its facts just after it was learned, on its own test images (a single fact's: on all); None
            where there were none.
        map_now: The same with the newest model; None where its test images are gone.
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
        """What became of its MAP since."""
        return None if self.map_then is None or self.map_now is None else self.map_now - self.map_then


@dataclass(frozen=True)
class Adaptation:
    """Photos that importance was measured on (`tripletcl adapt`).

    Attributes:
        after: The stage that was the newest then.
        time: When, as ISO time.
        images: How many photos.
        folder: Where they lay.
        weight: How much they count beside the tasks.
        recompute: Does that stand in place of what the tasks before had left?
    """

    after: int
    time: str
    images: int
    folder: str
    weight: float
    recompute: bool


def known_tasks(folder: Path) -> list[KnownTask]:
    """What a run has learned so far, in order.

    Raises:
        UserError: there is no run.
    """
    known = _Known(FactRun.open(folder))
    return [known.task(number) for number in range(1, known.count + 1)]


def adaptations(folder: Path) -> list[Adaptation]:
    """Where a run's importance was measured on a user's own photos, in order."""
    lines = logged(FactRun.open(folder), "adapt")
    return [Adaptation(**{field.name: line[field.name] for field in fields(Adaptation)}) for line in lines]


def logged(run: FactRun, kind: str) -> list[dict[str, Any]]:
    """Read the lines of one kind in a run's metrics."""
    return [line for line in run.metrics if line["kind"] == kind]


class _Known:
    """Reads a run's tasks; joint training learned all of them in one stage."""

    def __init__(self, run: FactRun) -> None:
        self.run, self.further = run, run.settings.data.further
        self.joint = build_method(run.settings.method).joint
        self.lines = {line["after"]: line for line in logged(run, "stage")}
        self.first = run.first_tasks
        self.groups: list[list[int]] = run.read_tasks()

    @property
    def count(self) -> int:
        there, learned = self.first + len(self.further), max(self.lines, default=0)
        return min(there, learned) if not self.joint or not learned else there

    def task(self, number: int) -> KnownTask:
        further = max(number - self.first, 0)
        stage = 1 if self.joint else number
        line = self.lines[stage]
        return KnownTask(
            number,
            self._name(number, further),
            self._facts(number, further),
            line["items"] if "items" in line and not self.joint else self._images(number, further),
            line.get("time") or _written(self.run.stage_folder(stage)),
            stage,
            _score(line, number),
            _score(self.lines[1 if self.joint else min(self.count, max(self.lines))], number),
        )

    def _name(self, number: int, further: int) -> str:
        if not further:
            return f"task {number}"
        entry = self.further[further - 1]
        return f"taught: {entry.taught}" if entry.taught is not None else Path(entry.table).name

    def _facts(self, number: int, further: int) -> tuple[str, ...]:
        """What a task taught, as the run itself has it: the first table may be gone."""
        if further:
            return tuple(
                map(str, read_table(self.run.own_settings.data.further[further - 1].table, absolute=True).facts)
            )
        if self.joint:
            start = sum(map(len, self.groups[: number - 1]))
            return self._taught(1)[start : start + len(self.groups[number - 1])]
        before = set(self._taught(number - 1))
        return tuple(fact for fact in self._taught(number) if fact not in before)

    def _taught(self, stage: int) -> tuple[str, ...]:
        return tuple(map(str, self.run.taught(stage)))

    def _images(self, number: int, further: int) -> int | None:
        if not self._tables:
            return None
        rows = self._tables[further].rows_of("train", None if further else self.groups[number - 1])
        return len(np.unique(rows[:, 0]))

    @cached_property
    def _tables(self) -> list[FactTable]:
        try:
            return self.run.tables()
        except UserError:
            return []


def _written(stage: Path) -> str:
    seconds = (stage / EMBEDDER).stat().st_mtime
    return datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")


def _score(line: dict[str, Any], number: int) -> float | None:
    scores = line["map_tasks"]
    return scores[number - 1] if number <= len(scores) else None
