"""A model small enough to see through: a photo is three pixels, one per unit, and a text is the name of a colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tripletcl.errors import UserError

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "dark red": (200, 40, 0)}


class ColourEmbedder:
    """A unit's vector is its colour, of length 1."""

    def __init__(self, name: str = "colours-1") -> None:
        self.name = name
        self.photos_read: list[Path] = []
        self.texts_read: list[str] = []

    def encode_images(self, paths: Sequence[Path], batch_size: int = 64, normalise: bool = True) -> Tensor:
        try:
            pixels = np.stack([np.asarray(Image.open(path).convert("RGB"))[0] for path in paths])
        except OSError as error:
            raise UserError(f"cannot read a photo: {error}") from None
        self.photos_read += paths
        return functional.normalize(torch.from_numpy(pixels).float(), dim=-1)  # [N, 3, 3]

    def encode_units(self, texts: list[str]) -> Tensor:
        self.texts_read += texts
        return functional.normalize(torch.tensor([COLOURS[text] for text in texts]).float(), dim=-1)

    def fingerprint(self) -> str:
        return self.name
