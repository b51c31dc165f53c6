"""From the boxes of a record to whole pixels of its photo."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tripletcl.data.fact_sets.record import Box
from tripletcl.data.images import PixelBox, clamp


class Part(NamedTuple):
    """A part of a photo; `extent` as in `FactRecord`."""

    box: Box
    extent: tuple[float, float] | None = None


def union(boxes: Sequence[Box]) -> Box:
    """The smallest box around some boxes."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def pixel_box(part: Part, size: tuple[int, int]) -> PixelBox | None:
    """The pixels that a part covers of a photo of this (width, height); None if there are none."""
    across, down = (1.0, 1.0) if part.extent is None else (size[0] / part.extent[0], size[1] / part.extent[1])
    left, top, right, bottom = part.box
    box = math.floor(left * across), math.floor(top * down), math.ceil(right * across), math.ceil(bottom * down)
    return clamp(box, size)
