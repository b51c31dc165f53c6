"""A tiny transparent model: a photo is three pixels, one for each unit, and a text is the name of a colour."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from tripletcl.errors import UserError

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "dark red": (200, 40, 0)}
TURN = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])


class ColourEmbedder:
    """A unit's vector is its colour, normalised; its trunk is the identity, and frozen if told so."""

    def __init__(self, name: str = "colours-1", trunk_is_frozen: bool = False) -> None:
        self.name, self.trunk_is_frozen = name, trunk_is_frozen
        self.photos_read: list[Path] = []
        self.texts_read: list[str] = []

    def decode(self, image: Path) -> np.ndarray:
        try:
            pixels = np.asarray(Image.open(image).convert("RGB"))[0]
        except OSError as error:
            raise UserError(f"cannot read a photo: {error}") from None
        self.photos_read.append(image)
        return pixels

    def represent_images(self, images: Sequence[Any]) -> Tensor:
        pixels = [image if isinstance(image, np.ndarray) else self.decode(image) for image in images]
        return torch.from_numpy(np.stack(pixels)).float().flatten(1)  # [N, 9]

    def vectors_of(self, representation: Tensor, normalise: bool = True) -> Tensor:
        return functional.normalize(representation.unflatten(1, (3, 3)), dim=-1)

    def encode_images(self, images: Sequence[Any], batch_size: int = 64, normalise: bool = True) -> Tensor:
        return self.vectors_of(self.represent_images(images))

    def encode_units(self, texts: list[str], unit: int | None = None) -> Tensor:
        self.texts_read += texts
        return functional.normalize(torch.tensor([COLOURS[text] for text in texts]).float(), dim=-1)

    def fingerprint(self) -> str:
        return self.name

    def trunk_fingerprint(self) -> str:
        return "pixels"


class TurnedEmbedder(ColourEmbedder):
    """A newer model: every unit vector, of photos and of texts, is rotated."""

    def __init__(self, trunk: str = "other pixels", trunk_is_frozen: bool = False) -> None:
        super().__init__("turned", trunk_is_frozen)
        self.trunk = trunk

    def vectors_of(self, representation: Tensor, normalise: bool = True) -> Tensor:
        return super().vectors_of(representation) @ TURN

    def encode_units(self, texts: list[str], unit: int | None = None) -> Tensor:
        return super().encode_units(texts) @ TURN

    def trunk_fingerprint(self) -> str:
        return self.trunk
