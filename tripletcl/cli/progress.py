"""Progress bars on a terminal, plain lines on a pipe."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress as bars
from rich.console import Console
from rich.text import Text

from tripletcl.progress import Listener, Progress, listening

LINE_SECONDS = 30.0
"""Between two lines about the same work."""


class Speed(bars.ProgressColumn):
    """The rate of the last steps; of all, once the work is done."""

    def render(self, task: bars.Task) -> Text:
        """Such as `38.2/s`; nothing before it is known."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.1f}/s", style="progress.data.speed")


@contextmanager
def progress_bars(console: Console) -> Iterator[None]:
    """Show the progress of the work in the block."""
    if not console.is_terminal:
        with listening(_line_printer(console)):
            yield
        return
    columns = (
        bars.TextColumn("{task.description}"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        Speed(),
        bars.TimeRemainingColumn(),
        bars.TextColumn("{task.fields[note]}"),
    )
    with bars.Progress(*columns, console=console) as display, listening(_bar_mover(display)):
        yield


def _bar_mover(display: bars.Progress) -> Listener:
    """Listen by moving one bar per label."""
    ids: dict[str, bars.TaskID] = {}

    def listen(progress: Progress) -> None:
        if progress.label not in ids:
            ids[progress.label] = display.add_task(progress.label, note="")
        bar = ids[progress.label]
        display.update(bar, completed=progress.done, total=progress.total, note=_note(progress))

    return listen


def _line_printer(console: Console) -> Listener:
    """Listen by printing a line every LINE_SECONDS and at the end of each work."""
    printed = time.monotonic()

    def listen(progress: Progress) -> None:
        nonlocal printed
        if progress.done == progress.total or time.monotonic() - printed >= LINE_SECONDS:
            printed = time.monotonic()
            line = f"{progress.label}: {progress.done}/{progress.total} {_note(progress)}"
            console.print(line.rstrip(), markup=False, highlight=False)

    return listen


def _note(progress: Progress) -> str:
    return "" if progress.loss is None else f"loss {progress.loss:.3f}"
