"""Commands for a run that learns more: adapt its importance, teach it a fact, list its tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tripletcl.cli.options import AsJson, IndexFolder, RunArgument, existing_folder, existing_photos, photo_files
from tripletcl.cli.output import new_table, print_rows, print_skipped, ready, say, skipped_entries, working
from tripletcl.errors import UserError

if TYPE_CHECKING:
    from tripletcl.runs.history import Adaptation, TaskRecord
    from tripletcl.runs.teach import Lesson

NAME_WIDTH, LEAST_FACTS_WIDTH = 18, 12
"""Characters of columns in the table of tasks."""


def adapt(
    run: RunArgument,
    images: Annotated[
        Path, typer.Option(help="A folder of your own photos; no labels are needed.", callback=existing_folder)
    ],
    weight: Annotated[float, typer.Option(help="Their weight, against 1 for each of the tasks.")] = 1.0,
    recompute: Annotated[bool, typer.Option("--recompute", help="Replace the importance of the tasks.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure importance on your own photos: what they show is protected most when the run learns more."""
    with working():
        from tripletcl.cpu import keep_freed_memory
        from tripletcl.runs.adapt import adapt as measure

        keep_freed_memory()
        result = measure(run, images, weight, recompute)
    if as_json:
        about = {"images": result.images, "stage": result.stage, "weight": result.weight, "recompute": recompute}
        say(json.dumps(about | {"skipped": skipped_entries(result.skipped)}))
        return
    say(f"importance measured on {result.images} photos with stage {result.stage}, weight {result.weight:g}")
    print_skipped(result.skipped)


def teach(
    run: RunArgument,
    fact: Annotated[str | None, typer.Argument(help='A fact: "person riding unicycle"; commas separate units.')] = None,
    photos: Annotated[
        list[Path] | None, typer.Argument(help="Photos that show it, or folders of them.", callback=existing_photos)
    ] = None,
    learn_all: Annotated[
        bool, typer.Option("--all", help="Learn all photos; hold none out to measure how well the fact was learned.")
    ] = False,
    take_back: Annotated[bool, typer.Option("--undo", help="Undo the last lesson.")] = False,
    index: IndexFolder = None,
    as_json: AsJson = False,
) -> None:
    """Teach a run a fact by a handful of photos, in seconds; its photo index is updated."""
    with working():
        from tripletcl.cpu import keep_freed_memory
        from tripletcl.runs.teach import teach as learn
        from tripletcl.runs.teach import undo

        keep_freed_memory()
        if take_back:
            result = undo(run, index=index)
        elif fact is None:
            raise UserError('say what the photos show: tripletcl teach RUN "person riding unicycle" PHOTO...')
        else:
            result = learn(run, fact, photo_files(photos or []), index=index, hold_out=not learn_all)
    if as_json:
        say(json.dumps({**vars(result), "fact": result.fact.units, "skipped": skipped_entries(result.skipped)}))
    else:
        _print_lesson(result, take_back)


def _print_lesson(result: Lesson, undone: bool) -> None:
    from tripletcl.report.formatting import counted, duration, fraction

    if undone:
        say(f"{result.fact} is undone: stage {result.stage} is the latest again ({duration(result.seconds)})")
    else:
        photos = (
            f"learned from {counted(result.photos, 'photo')}" if result.photos else "known from these photos already"
        )
        say(f"{result.fact} {photos}: stage {result.stage} ({duration(result.seconds)})")
        held_out = f"MAP on {counted(result.held_out, 'held-out photo')}: {fraction(result.map_held_out)}"
        say(held_out if result.held_out else "no photo was held out: of every five photos one is")
        if result.photos and result.known:
            say(f"{counted(result.known, 'photo')} had been learned before")
        if result.left_out:
            say(f"learned, and so no test photos any more: {counted(result.left_out, 'test photo')} of earlier tasks")
    if result.index is not None:
        say(f"index: {result.index}")
    print_skipped(result.skipped)


def tasks(run: RunArgument, as_json: AsJson = False) -> None:
    """List the tasks of a run: when each was learned, and how well it is still known."""
    ready()
    from tripletcl.runs.history import adaptations, task_records

    records, events = task_records(run), adaptations(run)
    if as_json:
        entries = [{**vars(task), "change": task.change} for task in records]
        say(json.dumps({"tasks": entries, "adaptations": [vars(event) for event in events]}))
        return
    _print_tasks(records, events)


def _print_tasks(records: list[TaskRecord], events: list[Adaptation]) -> None:
    from rich.console import Console

    from tripletcl.report.formatting import shortened

    rows = [row for task in records for row in _rows(task, [event for event in events if event.after == task.number])]
    console, titles = Console(), ("", "task", "facts", "images", "learned", "MAP then", "MAP now", "change")
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    widths[1] = min(widths[1], NAME_WIDTH)
    rest = console.width - sum(widths) + widths[2] - 2 * len(widths)  # what the other columns leave
    widths[2] = max(LEAST_FACTS_WIDTH, min(widths[2], rest))
    table = new_table(ruled=False)
    for title, width in zip(titles, widths, strict=True):
        left = title in ("task", "facts", "learned")
        table.add_column(title, justify="left" if left else "right", no_wrap=True, min_width=width)
    print_rows(console, table, ([shortened(cell, w) for cell, w in zip(row, widths, strict=True)] for row in rows))


def _rows(task: TaskRecord, events: list[Adaptation]) -> list[tuple[str, ...]]:
    """A task's row, and one for each time that importance was measured on photos after it."""
    from tripletcl.report.formatting import MISSING, fraction, signed

    images = MISSING if task.images is None else f"{task.images:,}"
    facts = f"{len(task.facts)}: {', '.join(task.facts)}"
    scores = fraction(task.map_then), fraction(task.map_now), signed(task.change)
    rows: list[tuple[str, ...]] = [(str(task.number), task.name, facts, images, _day(task.learned), *scores)]
    for event in events:
        how = "replaces the tasks'" if event.recompute else f"weight {event.weight:g}"
        rows.append(("", "adapted", f"{how}: {event.folder}", f"{event.images:,}", _day(event.time), "", "", ""))
    return rows


def _day(iso: str) -> str:
    return iso.partition("T")[0]
