"""The command for a folder of photos: a model, an index and the page, without any labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tripletcl.cli.options import existing_folder
from tripletcl.cli.output import print_skipped, say, working
from tripletcl.cli.serve import serve


def photos(
    folder: Annotated[Path, typer.Argument(help="A folder of photos.", callback=existing_folder)],
    out: Annotated[Path, typer.Option(help="Folder of the run: model and index.")] = Path("runs/photos"),
    pair: Annotated[
        Path | None, typer.Option(help="A CLIP or SigLIP checkpoint to start from, instead of the bundled network.")
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="A text encoder for other languages: a folder of sentence-transformers.")
    ] = None,
    page: Annotated[bool, typer.Option("--serve/--no-serve", help="Serve the page.")] = True,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 is any free one.")] = 7860,
) -> None:
    """Search a folder of photos: a model that knows photographs, an index, and the page. Again: only what is new.

    No labels are needed, and everything that is taught later adds to it. The page needs pip install "tripletcl[ui]".
    """
    if page:
        from tripletcl.web.server import check_gradio

        check_gradio()
    with working():
        from tripletcl.runs.photos import collect

        done = collect(folder.absolute(), out, pair, text)
    changes = done.changes
    counts = f"{len(changes.added):,} new, {len(changes.removed):,} removed" if changes else "nothing new"
    say(f"{done.photos:,} photos in {done.run}: {counts}")
    print_skipped(changes.skipped if changes else ())
    say(f"ask:   tripletcl query {done.run} dog")
    say(f'teach: tripletcl teach {done.run} "person riding unicycle" a.jpg b.jpg c.jpg')
    if page:
        serve(done.run, port=port)
