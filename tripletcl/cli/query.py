"""Commands that ask: which photos show something, which facts a photo shows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tripletcl.cli.options import AsJson, RunArgument, Stage, Top, load_embedder, ready

if TYPE_CHECKING:
    import numpy as np

    from tripletcl.embedding import FactEmbedder
    from tripletcl.retrieval import Calibration, Hit


def query(
    run: RunArgument,
    request: Annotated[
        list[str] | None,
        typer.Argument(help='Words; with commas, a "?" or quotes: units. + and - join several.', show_default=False),
    ] = None,
    like: Annotated[list[Path] | None, typer.Option(help="A photo that shows what is wanted, too.")] = None,
    unlike: Annotated[list[Path] | None, typer.Option(help="A photo that shows what is not wanted.")] = None,
    k: Top = 10,
    index: Annotated[Path | None, typer.Option(help="Index folder; default RUN/index.")] = None,
    stage: Annotated[
        int | None, typer.Option(help="The stage that the index must be of; default the one that made it.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Also draw the photos found into this PNG file.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find the photos that show something: `tripletcl query RUN person riding horse`, `... "?" riding "?"`,
    `... "two dogs on the beach"`, `... dog running "?" - "?" "?" snow`, `... --like photo.jpg`."""
    ready()
    from tripletcl.retrieval import answer, contact_sheet, notes_on, parse_request
    from tripletcl.runs.photo_index import open_collection

    opened = open_collection(run, index, stage)
    asked = parse_request(request or (), opened.embedder.facts, like or (), unlike or ())
    notes = notes_on(asked, opened.embedder, opened.embedder.vocabulary)
    hits = answer(opened.index, asked, k, opened.calibration)
    if sheet is not None:
        contact_sheet(hits, sheet, str(asked))
    if opened.newer:
        notes.insert(0, opened.newer)
    if as_json:
        found = [{"path": str(hit.path), "score": hit.score} for hit in hits]
        print(json.dumps({"query": str(asked), "stage": opened.stage, "notes": notes, "hits": found}))
        return
    print(f"understood as {asked}")
    for note in notes:
        print(note)
    several = len(asked.terms) > 1
    _print_hits(hits, "cosines" if not several else "score" if opened.calibration is None else "probability")
    if sheet is not None:
        print(f"contact sheet: {sheet}")


def describe(
    run: RunArgument,
    images: Annotated[list[Path], typer.Argument(help="Images.")],
    k: Top = 5,
    stage: Stage = None,
    as_json: AsJson = False,
) -> None:
    """Name the facts that images show, among those the run has learned, each with the probability that it is shown."""
    ready()
    from tripletcl.data.images import decode_readable

    embedder, calibration = load_embedder(run, stage), _calibration(run, stage)
    unreadable: dict[Path, str] = {}
    pixels = dict(decode_readable(images, embedder.decode, unreadable))
    described = {
        image: {"error": f"{image}: {unreadable[image]}"}
        if image in unreadable
        else _described(embedder, pixels[image], k, calibration)
        for image in images
    }
    if as_json:
        print(json.dumps([{"image": str(image)} | found for image, found in described.items()]))
        return
    if calibration is None:
        print("scores are cosines, no probabilities: there are no test images to tell those by")
    for image, found in described.items():
        _print_described(image, found, heading=len(images) > 1)


def _calibration(run: Path, stage: int | None) -> Calibration | None:
    from tripletcl.runs.calibrate import stage_calibration
    from tripletcl.runs.layout import EMBEDDER
    from tripletcl.runs.stored import FactRun

    if (run / EMBEDDER).exists():
        return None
    opened = FactRun.open(run)
    return stage_calibration(opened, opened.stage(stage))


def _described(embedder: FactEmbedder, pixels: np.ndarray, k: int, calibration: Calibration | None) -> dict[str, Any]:
    """The facts that one image shows."""
    from tripletcl.retrieval import describe_photos

    described = describe_photos(embedder, [pixels], k, calibration)[0]
    return {"facts": [{"fact": s.fact.units, "probability": s.probability, "score": s.score} for s in described]}


def _print_described(image: Path, described: dict[str, Any], heading: bool) -> None:
    from tripletcl.report.formatting import fraction

    if heading:
        print(image)
    if "error" in described:
        print(described["error"])
        return
    for shown in described["facts"]:
        number = shown["score"] if shown["probability"] is None else shown["probability"]
        print(f"{fraction(number)}  <{', '.join(unit for unit in shown['fact'] if unit is not None)}>")


def _print_hits(hits: Sequence[Hit], number: str) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tripletcl.report.formatting import fraction

    if not hits:
        print("no photo is found")
        return
    table = Table(box=None, pad_edge=False)
    for title in ("rank", number):
        table.add_column(title, justify="right")
    table.add_column("photo", no_wrap=True)
    for rank, hit in enumerate(hits, start=1):
        score = fraction(hit.score) if abs(hit.score) >= 0.0005 else f"{hit.score:.0e}"
        table.add_row(str(rank), score, Text(str(hit.path)))
    console = Console(highlight=False)
    longest = max(len(str(hit.path)) for hit in hits)
    console.width = max(console.width, len("rank") + len(number) + longest + 8)  # a path is there to be copied
    console.print(table)
