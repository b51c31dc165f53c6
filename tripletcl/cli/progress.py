"""Progress bars on a terminal; on a pipe, a plain line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import rich.progress
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tripletcl.progress import Progress, listening

LINE_SECONDS = 30.0
"""Between two lines about the same work."""


class Speed(ProgressColumn):
    """How many a second, lately; over all once it is done."""

    def render(self, task: Task) -> Text:
        """Such as `38.2/s`; nothing before it is known."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s", style="progress.data.speed")


class _Bars:
    """A listener that shows one bar per label."""

    def __init__(self, bars: rich.progress.Progress) -> None:
        self.bars = bars
        self.ids: dict[str, TaskID] = {}

    def __call__(self, progress: Progress) -> None:
        if progress.label not in self.ids:
            self.ids[progress.label] = self.bars.add_task(progress.label, note="")
        bar = self.ids[progress.label]
        self.bars.update(bar, completed=progress.done, total=progress.total, note=_note(progress))


class _Lines:
    """A listener that prints a line every LINE_SECONDS and at the end of each work."""

    def __init__(self, console: Console) -> None:
        self.console, self.printed = console, time.monotonic()

    def __call__(self, progress: Progress) -> None:
        if progress.done == progress.total or time.monotonic() - self.printed >= LINE_SECONDS:
            self.printed = time.monotonic()
            line = f"{progress.label}: {progress.done}/{progress.total} {_note(progress)}"
            self.console.print(line.rstrip(), highlight=False)


def _note(progress: Progress) -> str:
    return "" if progress.loss is None else f"loss {progress.loss:.3f}"


@contextmanager
def progress_bars(console: Console) -> Iterator[None]:
    """Show the progress of the work in the block."""
    if not console.is_terminal:
        with listening(_Lines(console)):
            yield
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Speed(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with rich.progress.Progress(*columns, console=console) as bars, listening(_Bars(bars)):
        yield
