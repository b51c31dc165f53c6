"""Commands that search photos, and that name what photos show."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from tripletcl.cli.options import (
    After,
    AsJson,
    Before,
    Camera,
    Folder,
    IndexFolder,
    Name,
    Near,
    Orientation,
    Photos,
    RunArgument,
    Stage,
    Top,
    photo_files,
)
from tripletcl.cli.output import missing_note, new_table, print_rows, printable, ready, say
from tripletcl.errors import UserError, excerpt

if TYPE_CHECKING:
    import numpy as np

    from tripletcl.retrieval import Hit, PhotoDetails, ShownFact

MOST_CLASSES = 3
"""Classes of each photo that `recognise` prints."""


class RequestCommand(TyperCommand):
    """Refuses `dog -snow` in two words, whose second would be an option, with the form that works."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Parse the words of the command line."""
        for word in args:
            if re.fullmatch(r"-[^\W\d]\w+", word) and not word.startswith("-k"):
                raise UserError(
                    f"{excerpt(word)} would be an option; write what photos must not show after a minus and a space, "
                    'as in dog - snow, or in quotes, "dog -snow"'
                )
        return super().parse_args(ctx, args)


def query(
    run: RunArgument,
    request: Annotated[
        list[str] | None,
        typer.Argument(help='Words; with commas, "?" or quotes: units. + and - join several.', show_default=False),
    ] = None,
    like: Annotated[list[Path] | None, typer.Option(help="A photo that shows what is wanted, too.")] = None,
    unlike: Annotated[list[Path] | None, typer.Option(help="A photo that shows what is not wanted.")] = None,
    k: Top = 10,
    after: After = None,
    before: Before = None,
    folder: Folder = None,
    name: Name = None,
    camera: Camera = None,
    orientation: Orientation = None,
    near: Near = None,
    index: IndexFolder = None,
    stage: Annotated[
        int | None, typer.Option(help="The stage that the index must be of; default the one that made it.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Also draw the photos found into this PNG file.")] = None,
    export: Annotated[
        str | None,
        typer.Option(help="Also write the photos to list.txt, .csv, .json, folder:DIR, links:DIR or zip:FILE."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Find the photos that show something: `tripletcl query RUN person riding horse`, `... "?" riding "?"`,
    `... "two dogs on the beach"`, `... dog running "?" - "?" "?" snow`, `... --like photo.jpg`."""
    ready()
    from tripletcl.retrieval import Filter
    from tripletcl.retrieval.export import Export, hit_fields
    from tripletcl.retrieval.table import is_missing
    from tripletcl.runs.asking import ask
    from tripletcl.runs.collection import open_collection

    where = Filter.parse(
        after=after, before=before, folder=folder, name=name, camera=camera, orientation=orientation, near=near
    )
    place = Export.parse(export) if export else None
    photos = open_collection(run, index, stage, texts_only=not (like or unlike))
    found = ask(photos, request or (), k, like=like or (), unlike=unlike or (), where=where)
    hits, notes = found.hits, found.notes
    details = photos.index.details(hit.path for hit in hits)
    if sheet is not None:
        from tripletcl.retrieval import contact_sheet

        contact_sheet(hits, sheet, str(found.request))
    if place is not None:
        place.write(hits, details)
    if note := missing_note(run, [hit.path for hit in hits if is_missing(hit.path)]):
        notes.append(note)
    if as_json:
        entries = [hit_fields(hit, each) for hit, each in zip(hits, details, strict=True)]
        shown: dict[str, Any] = {"query": str(found.request), "filter": str(where), "stage": photos.stage}
        shown |= {"presence": list(map(asdict, found.presence)), "suggestion": found.suggestion}
        say(json.dumps(shown | {"notes": notes, "hits": entries}))
        return
    say(f"understood as {found.request}")
    if where:
        say(f"only photos {where}")
    for note in notes:
        say(note)
    _print_hits(hits, details, found.scale)
    if sheet is not None:
        say(f"contact sheet: {sheet}")
    if place is not None:
        say(f"exported: {place.path}")


def _print_hits(hits: Sequence[Hit], details: Sequence[PhotoDetails], number: str) -> None:
    from rich.console import Console

    from tripletcl.report.formatting import fraction

    if not hits:
        say("no photo is found")
        return
    table = new_table(ruled=False)
    for title in ("rank", number):
        table.add_column(title, justify="right")
    for title in ("date", "folder", "photo"):
        table.add_column(title, no_wrap=True)
    rows = [
        (
            str(rank),
            fraction(hit.score) if abs(hit.score) >= 0.0005 else f"{hit.score:.0e}",
            str(each.date or ""),
            hit.path.parent.name,
            str(hit.path),
        )
        for rank, (hit, each) in enumerate(zip(hits, details, strict=True), 1)
    ]
    console = Console()
    longest = max(len(printable(folder + path, kept="")) for *_, folder, path in rows)
    console.width = max(console.width, len(number) + longest + 40)  # a path is there to be copied
    print_rows(console, table, rows)


def describe(run: RunArgument, images: Photos, k: Top = 5, stage: Stage = None, as_json: AsJson = False) -> None:
    """Name the facts that images show, among those the run has learned, each with its probability."""
    ready()
    from tripletcl.retrieval import describe_photos
    from tripletcl.runs.collection import open_model

    images, model = photo_files(images), open_model(run, stage)
    embedder, calibration = model.load(), model.calibration()
    decoded, unreadable = _decode(images, embedder.image_size)
    facts = dict(zip(decoded, describe_photos(embedder, list(decoded.values()), k, calibration), strict=True))
    if as_json:
        _print_entries(images, unreadable, {image: {"facts": list(map(_fact, facts[image]))} for image in facts})
        return
    if calibration is None:
        scores = "relative to those of the photos that taught a fact" if embedder.levels else "cosines"
        say(f"scores are {scores}, not probabilities: there are no test images to calibrate them with")
    for image, reason in _with_reasons(images, unreadable):
        if reason is not None:
            say(f"{image}: {reason}")
            continue
        if len(images) > 1:
            say(image)
        for entry in facts[image]:
            _print_fact(entry)
        if not facts[image]:
            say("nothing that the model knows")


def _fact(entry: ShownFact) -> dict[str, Any]:
    return {"fact": entry.fact.units, "probability": entry.probability, "score": entry.score}


def _print_fact(entry: ShownFact) -> None:
    from tripletcl.report.formatting import fraction

    say(f"{fraction(entry.score if entry.probability is None else entry.probability)}  {entry.fact}")


def recognise(
    run: RunArgument,
    photos: Photos,
    task: Annotated[str | None, typer.Option(help="The task; needed if each task has its own head.")] = None,
    stage: Stage = None,
    as_json: AsJson = False,
) -> None:
    """Name the classes of a task that photos show, each with its probability."""
    ready()
    from tripletcl.report.formatting import fraction
    from tripletcl.runs.kinds import open_run
    from tripletcl.runs.stored import ObjectRun

    photos, opened = photo_files(photos), open_run(run)
    if not isinstance(opened, ObjectRun):
        raise UserError(f"{run} learned facts: use `tripletcl describe`")
    classifier = opened.classifier(stage)
    decoded, unreadable = _decode(photos, classifier.spec.image_size)
    predictions = dict(zip(decoded, classifier.predict(list(decoded.values()), task), strict=True))
    if as_json:
        _print_entries(photos, unreadable, {photo: vars(each) for photo, each in predictions.items()})
        return
    for photo, reason in _with_reasons(photos, unreadable):
        if reason is not None:
            say(f"{photo}: {reason}")
            continue
        likeliest = sorted(predictions[photo].probabilities.items(), key=lambda entry: -entry[1])[:MOST_CLASSES]
        say(f"{photo}: " + ", ".join(f"{label} {fraction(probability, 2)}" for label, probability in likeliest))


def _decode(photos: Sequence[Path], size: int) -> tuple[dict[Path, np.ndarray], dict[Path, str]]:
    """Decode photos; (pixels, the reason why a photo cannot be read), each by its path.

    Raises:
        UserError: none of them can be read.
    """
    from tripletcl.data.images import decode_image, decode_readable

    unreadable: dict[Path, str] = {}
    return dict(decode_readable(photos, partial(decode_image, size=size), unreadable)), unreadable


def _with_reasons(photos: Sequence[Path], unreadable: dict[Path, str]) -> Iterator[tuple[Path, str | None]]:
    return ((photo, unreadable.get(photo)) for photo in photos)


def _print_entries(photos: Sequence[Path], unreadable: dict[Path, str], entries: dict[Path, dict[str, Any]]) -> None:
    """Print what is known of each photo as JSON, or why it cannot be read."""
    by_photo = [{"error": reason} if reason else entries[photo] for photo, reason in _with_reasons(photos, unreadable)]
    say(json.dumps([{"image": str(photo), **entry} for photo, entry in zip(photos, by_photo, strict=True)]))
