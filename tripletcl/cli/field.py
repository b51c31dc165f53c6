"""Commands for a run that learns on: adapt its memory, teach it, look at what it knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tripletcl.cli.options import AsJson, RunArgument, ready

if TYPE_CHECKING:
    from tripletcl.runs.history import Adaptation, KnownTask
    from tripletcl.runs.teach import Taught

Index = Annotated[Path | None, typer.Option(help="Photo index that follows; default RUN/index, if it is there.")]
NAME_WIDTH, LEAST_FACTS_WIDTH = 18, 12
"""Characters in the table of tasks."""


def adapt(
    run: RunArgument,
    images: Annotated[Path, typer.Option(help="A folder of your own photos; no labels are needed.")],
    weight: Annotated[float, typer.Option(help="How much they count beside the tasks.")] = 1.0,
    recompute: Annotated[bool, typer.Option("--recompute", help="Let them stand in place of the tasks.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure importance on your own photos: what they show is what the run will hold on to when it learns on."""
    console = ready()
    from tripletcl.cli.progress import progress_bars
    from tripletcl.cpu import keep_freed_memory
    from tripletcl.runs.adapt import adapt as measure

    keep_freed_memory()
    with progress_bars(console):
        done = measure(run, images, weight, recompute)
    if as_json:
        about = {"images": done.images, "stage": done.stage, "weight": done.weight, "recompute": recompute}
        print(json.dumps(about | {"skipped": _skipped(done.skipped)}))
        return
    print(f"importance measured on {done.images} photos with stage {done.stage}, weight {done.weight:g}")
    _print_skipped(done.skipped)


def teach(
    run: RunArgument,
    fact: Annotated[str | None, typer.Argument(help='A fact: "person riding unicycle"; commas separate units.')] = None,
    photos: Annotated[list[Path] | None, typer.Argument(help="Photos that show it, or folders of them.")] = None,
    learn_all: Annotated[bool, typer.Option("--all", help="Hold none of the photos out to tell how well.")] = False,
    take_back: Annotated[bool, typer.Option("--undo", help="Take back what was taught last.")] = False,
    index: Index = None,
    as_json: AsJson = False,
) -> None:
    """Teach a run a fact by a handful of photos, in seconds; the photo index follows."""
    console = ready()
    from tripletcl.cli.progress import progress_bars
    from tripletcl.cpu import keep_freed_memory
    from tripletcl.runs.teach import teach as learn
    from tripletcl.runs.teach import undo

    keep_freed_memory()
    with progress_bars(console):
        if take_back:
            done = undo(run, index=index)
        else:
            done = learn(run, *_lesson(fact, photos or []), index=index, hold_out=not learn_all)
    if as_json:
        print(json.dumps(_as_object(done)))
    else:
        _print_taught(done, take_back)


def tasks(run: RunArgument, as_json: AsJson = False) -> None:
    """List what a run knows: when each task was learned, and how well it is still known."""
    ready()
    from tripletcl.runs.history import adaptations, known_tasks

    known, adapted = known_tasks(run), adaptations(run)
    if as_json:
        rows = [{**vars(task), "change": task.change} for task in known]
        print(json.dumps({"tasks": rows, "adaptations": [vars(event) for event in adapted]}))
        return
    _print_tasks(known, adapted)


def _lesson(fact: str | None, photos: list[Path]) -> tuple[str, list[Path]]:
    from tripletcl.data import list_images
    from tripletcl.errors import UserError

    if fact is None:
        raise UserError('say what the photos show: tripletcl teach RUN "person riding unicycle" PHOTO...')
    return fact, [found for photo in photos for found in (list_images(photo) if photo.is_dir() else [photo])]


def _as_object(done: Taught) -> dict[str, Any]:
    return {**vars(done), "fact": done.fact.units, "skipped": _skipped(done.skipped)}


def _print_taught(done: Taught, taken_back: bool) -> None:
    from tripletcl.report.formatting import fraction

    if taken_back:
        print(f"{done.fact} is taken back: stage {done.stage} is the newest again ({done.seconds:.1f} s)")
    else:
        print(f"{done.fact} learned from {done.photos} photos: stage {done.stage} ({done.seconds:.1f} s)")
        held_out = f"MAP on {done.held_out} held-out picks: {fraction(done.map_held_out)}"
        print(
            held_out if done.held_out else "none was held out: of five photos or more one in five is, to tell how well"
        )
    if done.index is not None:
        print(f"index: {done.index}")
    _print_skipped(done.skipped)


def _print_tasks(known: list[KnownTask], adapted: list[Adaptation]) -> None:
    from rich.console import Console
    from rich.table import Table

    from tripletcl.report.formatting import shortened

    rows = [row for task in known for row in _rows(task, [event for event in adapted if event.after == task.number])]
    console, titles = Console(), ("", "task", "facts", "images", "learned", "then", "MAP now", "change")
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    widths[1] = min(widths[1], NAME_WIDTH)
    widths[2] = max(LEAST_FACTS_WIDTH, min(widths[2], console.width - sum(widths) + widths[2] - 2 * len(widths)))
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title, width in zip(titles, widths, strict=True):
        left = title in ("task", "facts", "learned")
        table.add_column(title, justify="left" if left else "right", no_wrap=True, min_width=width)
    for row in rows:
        table.add_row(*(shortened(cell, width) for cell, width in zip(row, widths, strict=True)))
    console.print(table)


def _rows(task: KnownTask, adapted: list[Adaptation]) -> list[tuple[str, ...]]:
    """A task's row, and one for each time that importance was measured after it."""
    from tripletcl.report.formatting import MISSING, fraction, signed

    images = MISSING if task.images is None else f"{task.images:,}"
    facts = f"{len(task.facts)}: {', '.join(task.facts)}"
    scores = fraction(task.map_then), fraction(task.map_now), signed(task.change)
    rows: list[tuple[str, ...]] = [(str(task.number), task.name, facts, images, _day(task.learned), *scores)]
    for event in adapted:
        how = "in place of the tasks'" if event.recompute else f"weight {event.weight:g}"
        rows.append(("", "adapted", f"{how}: {event.folder}", f"{event.images:,}", _day(event.time), "", "", ""))
    return rows


def _day(iso: str) -> str:
    return iso.partition("T")[0]


def _skipped(skipped: list[tuple[Path, str]]) -> list[dict[str, str]]:
    return [{"path": str(path), "reason": reason} for path, reason in skipped]


def _print_skipped(skipped: list[tuple[Path, str]]) -> None:
    for path, reason in skipped:
        print(f"left out: {path}: {reason}")
