"""Arguments that several commands share, and the start of each command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

ConfigArgument = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped config.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings that replace the config's: section.key=value.")]
RunArgument = Annotated[Path, typer.Argument(help="A run folder.")]
Photos = Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")]
IndexFolder = Annotated[Path | None, typer.Option("--index", help="Index folder; default RUN/index.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Stage = Annotated[int | None, typer.Option(help="The model after this task (0: before training); default the latest.")]
Top = Annotated[int, typer.Option("-k", "--top", min=1, help="Number of results.")]


def ready() -> Console:
    """Send the library's log to the terminal; returns the console for messages that are no results."""
    import logging
    import os

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from rich.console import Console

    from tripletcl.cli.output import printable

    class PrintableFormatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return printable(super().format(record))

    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("tripletcl").setLevel(logging.INFO)
    return Console(stderr=True)


@contextmanager
def working() -> Iterator[None]:
    """Show the library's log and its progress in the terminal."""
    console = ready()
    from tripletcl.cli.progress import progress_bars

    with progress_bars(console):
        yield


def photo_files(photos: list[Path]) -> list[Path]:
    """The photos, and those below each folder among them."""
    from tripletcl.data.images import list_images

    return [file for photo in photos for file in (list_images(photo) if photo.is_dir() else [photo])]
