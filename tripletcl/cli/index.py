"""Commands that keep an index of photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tripletcl.cli.options import RunArgument, Stage, load_embedder, ready


def index(
    run: RunArgument,
    images: Annotated[Path, typer.Argument(help="A folder of images.")],
    out: Annotated[Path | None, typer.Option(help="Index folder; default RUN/index.")] = None,
    stage: Stage = None,
) -> None:
    """Embed a folder of images with a run's model, so that `query` can search it."""
    console = ready()
    from tripletcl.cli.progress import progress_bars
    from tripletcl.retrieval import FactIndex

    embedder = load_embedder(run, stage)
    with progress_bars(console) as bars:
        built = FactIndex.build(embedder, images, progress=lambda done, total: bars.count("embedding", done, total))
    folder = out or run / "index"
    built.save(folder)
    print(f"{len(built)} images indexed in {folder}")
    for path, reason in built.skipped:
        print(f"left out: {path}: {reason}")
