"""Progress bars on a terminal; on a pipe, a plain line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

LINE_SECONDS = 30.0


class Speed(ProgressColumn):
    """How many a second, lately; over all once it is done."""

    def render(self, task: Task) -> Text:
        """Such as `38.2/s`; nothing before it is known."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s", style="progress.data.speed")


class Bars:
    """One bar a label, made when it is first heard of; bars of counts and of training steps alike."""

    def __init__(self, console: Console, progress: Progress | None) -> None:
        self.console, self.progress = console, progress
        self.bars: dict[str, TaskID] = {}
        self.printed = time.monotonic()

    def count(self, label: str, done: int, total: int) -> None:
        """Done so far of what the label names."""
        self._show(label, done, total, "")

    def step(self, task: str, done: int, total: int, loss: float) -> None:
        """Training steps done of a task, with the mean loss of the last few."""
        self._show(task, done, total, f"loss {loss:.3f}")

    def _show(self, label: str, done: int, total: int, note: str) -> None:
        if self.progress is None:
            if done == total or time.monotonic() - self.printed >= LINE_SECONDS:
                self.printed = time.monotonic()
                self.console.print(f"{label}: {done}/{total} {note}".rstrip(), highlight=False)
            return
        if label not in self.bars:
            self.bars[label] = self.progress.add_task(label, total=total, note=note)
        self.progress.update(self.bars[label], completed=done, total=total, note=note)


@contextmanager
def progress_bars(console: Console) -> Iterator[Bars]:
    """Bars that live as long as the block."""
    if not console.is_terminal:
        yield Bars(console, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Speed(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, transient=False) as progress:
        yield Bars(console, progress)
