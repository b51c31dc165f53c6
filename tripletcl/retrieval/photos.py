"""Photos to vectors, past those that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from torch import Tensor

from tripletcl.data.images import SUFFIXES, list_images
from tripletcl.errors import UserError
from tripletcl.retrieval.model import Embedder


def find_photos(folder_or_paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """The photos of a folder and its subfolders, sorted; or the given paths, each once.

    Raises:
        UserError: the folder does not exist or holds no photo.
    """
    if not isinstance(folder_or_paths, str | Path):
        return list(dict.fromkeys(map(Path, folder_or_paths)))
    photos = list_images(folder_or_paths)
    if not photos:
        raise UserError(f"no photo in {folder_or_paths}; photos end in {', '.join(sorted(SUFFIXES))}")
    return photos


def encode_photos(embedder: Embedder, paths: list[Path]) -> list[Tensor | str]:
    """The vectors `[3, D]` of each photo, or the reason why it cannot be read.

    The model reads many photos at once and refuses them all where one is broken, so a refused batch is halved until
    the broken ones stand alone.
    """
    try:
        return list(embedder.encode_images(paths))
    except UserError as error:
        if len(paths) == 1:
            return [str(error)]
        half = len(paths) // 2
        return encode_photos(embedder, paths[:half]) + encode_photos(embedder, paths[half:])
