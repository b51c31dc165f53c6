"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tripletcl.errors import UserError, excerpt

ConfigArgument = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped config.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings that replace the config's: section.key=value.")]
RunArgument = Annotated[Path, typer.Argument(help="A run folder.")]
Photos = Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")]
IndexFolder = Annotated[Path | None, typer.Option("--index", help="Index folder; default RUN/index.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Stage = Annotated[int | None, typer.Option(help="The model after this task (0: before training); default the latest.")]
Top = Annotated[int, typer.Option("-k", "--top", min=1, help="Number of results.")]


def photo_files(photos: list[Path]) -> list[Path]:
    """The photos, and those below each folder among them.

    Raises:
        UserError: there is no such file or folder.
    """
    from tripletcl.data.images import list_images

    if missing := [photo for photo in photos if not photo.exists()]:
        raise UserError(
            f"{excerpt(str(missing[0]), 120)}: no such file; put what has several words in quotes, as in "
            'tripletcl teach RUN "person riding unicycle" "my photo.jpg"'
        )
    return [file for photo in photos for file in (list_images(photo) if photo.is_dir() else [photo])]
