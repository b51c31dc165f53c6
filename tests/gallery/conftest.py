"""A tiny model with its texts, and 40 photos of which three are broken."""

from __future__ import annotations

from pathlib import Path

import field
import pytest
from PIL import Image

from tripletcl.data.facts import Fact
from tripletcl.embedding import FactEmbedder, build_embedder

BROKEN = {"07.png": "not an image", "20.png": "not an image", "31.png": "no file"}


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model with whitened word vectors."""
    folder = field.workplace(tmp_path_factory.mktemp("gallery"))
    spec = field.settings(folder).model
    embedder: FactEmbedder = build_embedder(spec, 0)
    embedder.save_pretrained(folder / "model", [Fact("red", "lying"), Fact("blue", "standing", "floor")])
    return folder / "model"


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 photos in two folders; not to be changed."""
    folder = tmp_path_factory.mktemp("photos")
    colours = list(field.COLOURS)
    for number in range(40):
        field.photo(folder / ("a" if number < 15 else "b") / f"{number:02d}.png", colours[number % 6], number)
    (folder / "a" / "07.png").write_bytes(b"no image")
    (folder / "b" / "20.png").write_bytes((folder / "b" / "21.png").read_bytes()[:100])
    (folder / "b" / "31.png").unlink()
    (folder / "b" / "31.png").symlink_to("nowhere")
    Image.new("RGB", (50, 20)).save(folder / "b" / ".hidden.png")
    return folder
