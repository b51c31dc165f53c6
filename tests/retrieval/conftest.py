"""Models and photos shared by the retrieval tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from colour_embedder import COLOURS, ColourEmbedder
from PIL import Image


@pytest.fixture
def embedder() -> ColourEmbedder:
    return ColourEmbedder()


@pytest.fixture
def other_embedder() -> ColourEmbedder:
    return ColourEmbedder("colours-2")


@pytest.fixture
def photo(tmp_path: Path) -> Callable[..., Path]:
    """Write a photo of three colours into the folder "photos"."""

    def write(name: str, *colours: str) -> Path:
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array([[COLOURS[colour] for colour in colours]], dtype=np.uint8)).save(path)
        return path

    return write
