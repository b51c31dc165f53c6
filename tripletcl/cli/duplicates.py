"""Command `tripletcl index duplicates RUN`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tripletcl.cli.index import Out, index_place
from tripletcl.cli.options import AsJson, RunArgument
from tripletcl.cli.output import say, working

if TYPE_CHECKING:
    from tripletcl.retrieval.duplicates import Duplicates

COLUMNS = ("group", "path", "width", "height", "size", "date", "bits")


def duplicates(
    run: RunArgument,
    out: Out = None,
    bits: Annotated[
        int | None, typer.Option(help="The most bits in which the hashes of two duplicates differ, of 64; default 10.")
    ] = None,
    table: Annotated[Path | None, typer.Option("--csv", help="Also write them into this table, a photo a row.")] = None,
    as_json: AsJson = False,
) -> None:
    """Find photos that are nearly the same: copies that were scaled, saved anew or cropped, and bursts.

    Nothing is deleted. The photo with the most pixels of each group comes first.
    """
    with working():
        from tripletcl.retrieval import FactIndex
        from tripletcl.retrieval.duplicates import BITS, find_duplicates

        groups = find_duplicates(FactIndex.load(index_place(run, out)), BITS if bits is None else bits)
    rows = [row for number, group in enumerate(groups, 1) for row in _rows(number, group)]
    if table is not None:
        _write(table, rows)
    if as_json:
        say(json.dumps([{"bits": group.bits, "photos": _rows(n, group)} for n, group in enumerate(groups, 1)]))
        return
    for group in groups:
        say(f"{len(group.photos)} photos, at most {group.bits} of 64 bits apart")
        for photo in group.photos:
            say(f"  {photo.path}  {photo.width} x {photo.height}")
    say(f"{len(groups)} groups, {sum(len(group.photos) - 1 for group in groups)} photos more than one of each")


def _rows(number: int, group: Duplicates) -> list[dict[str, Any]]:
    return [
        {
            "group": number,
            "path": str(photo.path),
            "width": photo.width,
            "height": photo.height,
            "size": photo.size,
            "date": None if photo.date is None else str(photo.date),
            "bits": group.bits,
        }
        for photo in group.photos
    ]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    from tripletcl.files.writing import write_atomically

    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, lambda draft: draft.write_bytes(stream.getvalue().encode(errors="surrogateescape")))
