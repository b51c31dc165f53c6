"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tripletcl.errors import UserError, excerpt
from tripletcl.files.documents import EMBEDDER, settings_file


def existing_run(run: Path | None) -> Path | None:
    """A run folder, or that of a saved model; any other is refused before anything heavy is imported.

    Raises:
        UserError: the folder holds neither.
    """
    if run is not None and not (run / EMBEDDER).exists():
        settings_file(run)
    return run


def existing_photos(photos: list[Path] | None) -> list[Path]:
    """Photos, and folders of photos.

    Raises:
        UserError: there is no such file or folder.
    """
    photos = photos or []
    if missing := [photo for photo in photos if not photo.exists()]:
        raise UserError(
            f"{excerpt(str(missing[0]), 120)}: no such file; put what has several words in quotes, as in "
            'tripletcl teach RUN "person riding unicycle" "my photo.jpg"'
        )
    return photos


def existing_file(file: Path) -> Path:
    """A file to be read.

    Raises:
        UserError: there is no such file.
    """
    if not file.exists():
        raise UserError(f"{file} cannot be read: No such file or directory")
    return file


def existing_folder(folder: Path) -> Path:
    """A folder of photos.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"the image folder {folder} does not exist")
    return folder


ConfigArgument = Annotated[str, typer.Argument(help="A YAML file, or the name of a shipped config.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Settings that replace the config's: section.key=value.")]
RunArgument = Annotated[Path, typer.Argument(help="A run folder.", callback=existing_run)]
Photos = Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.", callback=existing_photos)]
IndexFolder = Annotated[
    str | None, typer.Option("--index", "--store", help="Index folder, or the address of a store; default RUN/index.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Stage = Annotated[int | None, typer.Option(help="The model after this task (0: before training); default the latest.")]
Top = Annotated[int, typer.Option("-k", "--top", min=1, help="Number of results.")]


After = Annotated[str | None, typer.Option(help="Only photos from this day on: 2019, 2019-06 or 2019-06-30.")]
Before = Annotated[str | None, typer.Option(help="Only photos up to this day: 2019 is its last day.")]
Folder = Annotated[str | None, typer.Option(help="Only photos below a folder of this name: Alps, 2019/Alps.")]
Name = Annotated[str | None, typer.Option(help="Only files with such a name: 'IMG_*'.")]
Camera = Annotated[str | None, typer.Option(help="Only photos of a camera whose name has this in it.")]
Orientation = Annotated[str | None, typer.Option(help="Only photos that are landscape, portrait or square.")]
Near = Annotated[str | None, typer.Option(help="Only photos taken near a place: latitude,longitude,km.")]


def photo_files(photos: list[Path]) -> list[Path]:
    """The photos, and those below each folder among them."""
    from tripletcl.data.images import list_images

    return [file for photo in photos for file in (list_images(photo) if photo.is_dir() else [photo])]
