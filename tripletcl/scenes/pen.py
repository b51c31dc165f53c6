"""A pen that collects marks in world units, and converts them to pixels once the whole figure is known.

Points are complex numbers: x to the right, y up, the ground at y = 0. Every frame is a similarity
`z -> origin + turn z`, so circles stay circles and one complex product moves, turns and scales a part.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from PIL import ImageDraw

Colour = tuple[int, int, int]

CIRCLE = [cmath.rect(1.0, 2 * math.pi * k / 22) for k in range(22)]
SPLINE = [
    ((-t + 2 * t**2 - t**3) / 2, (2 - 5 * t**2 + 3 * t**3) / 2, (t + 4 * t**2 - 3 * t**3) / 2, (-(t**2) + t**3) / 2)
    for t in (0.0, 0.2, 0.4, 0.6, 0.8)
]
"""Catmull-Rom weights of four neighbouring points, at five places between the middle two."""


def polar(radius: float, degrees: float) -> complex:
    """The point at this distance and angle from 0."""
    return cmath.rect(radius, math.radians(degrees))


def shade(colour: Colour, factor: float) -> Colour:
    """A colour made darker (factor < 1) or lighter (factor > 1, towards white)."""
    if factor <= 1:
        return int(colour[0] * factor), int(colour[1] * factor), int(colour[2] * factor)
    return mix(colour, (255, 255, 255), factor - 1)


def mix(one: Colour, other: Colour, amount: float) -> Colour:
    """Mix two colours; `amount` is the share of the second."""
    red, green, blue = (round(a + (b - a) * amount) for a, b in zip(one, other, strict=True))
    return red, green, blue


class Mark(NamedTuple):
    """A filled polygon (radii None) or a chain of circles joined by tapered bars, with or without a dark edge."""

    points: list[complex]
    radii: list[float] | None
    fill: Colour
    edge: bool


@dataclass
class Pen:
    """Adds marks to a list, in its own frame."""

    marks: list[Mark] = field(default_factory=list)
    origin: complex = 0j
    turn: complex = 1 + 0j

    def frame(self, origin: complex, scale: float = 1.0, degrees: float = 0.0) -> Pen:
        """A pen on the same list whose 0 lies at origin and whose unit is scaled and turned."""
        return Pen(self.marks, self.origin + self.turn * origin, self.turn * polar(scale, degrees))

    def polygon(self, points: Sequence[complex], fill: Colour, edge: bool = True) -> None:
        self.marks.append(Mark([self.origin + self.turn * z for z in points], None, fill, edge))

    def blob(self, points: Sequence[complex], fill: Colour, edge: bool = True) -> None:
        """A smooth closed shape through the points."""
        n = len(points)
        around = [(points[k - 1], points[k], points[(k + 1) % n], points[(k + 2) % n]) for k in range(n)]
        self.polygon([a * p + b * q + c * r + d * s for p, q, r, s in around for a, b, c, d in SPLINE], fill, edge)

    def oval(
        self, centre: complex, wide: float, high: float, fill: Colour, degrees: float = 0, edge: bool = True
    ) -> None:
        """An ellipse of these half axes."""
        turn = polar(1.0, degrees)
        self.polygon([centre + turn * complex(z.real * wide, z.imag * high) for z in CIRCLE], fill, edge)

    def limb(self, points: Sequence[complex], radii: Sequence[float], fill: Colour, edge: bool = True) -> None:
        """Circles of these radii at the points, joined into one tapered body."""
        scale = abs(self.turn)
        places = [self.origin + self.turn * z for z in points]
        self.marks.append(Mark(places, [r * scale for r in radii], fill, edge))

    def dot(self, centre: complex, radius: float, fill: Colour, edge: bool = False) -> None:
        self.limb([centre], [radius], fill, edge)

    def line(self, points: Sequence[complex], width: float, fill: Colour, edge: bool = False) -> None:
        self.limb(points, [width / 2] * len(points), fill, edge)

    def arc(self, centre: complex, radius: float, start: float, stop: float, width: float, fill: Colour) -> None:
        """Part of a circle's line, from one angle to another (degrees, anticlockwise)."""
        steps = max(3, int(abs(stop - start) / 24))
        angles = (start + (stop - start) * k / steps for k in range(steps + 1))
        self.line([centre + polar(radius, a) for a in angles], width, fill)


def bounds(marks: Sequence[Mark]) -> tuple[float, float, float, float]:
    """The box (left, bottom, right, top) around the marks, in world units."""
    points = np.array([z for mark in marks for z in mark.points])
    reach = np.array([r for mark in marks for r in (mark.radii or [0.0] * len(mark.points))])
    x, y = points.real, points.imag
    return (x - reach).min(), (y - reach).min(), (x + reach).max(), (y + reach).max()


def render(draw: ImageDraw.ImageDraw, marks: Sequence[Mark], scale: float, zero: complex, edge: float) -> None:
    """Draw the marks: `scale` pixels a world unit, world 0 at pixel `zero` (y down), dark edges `edge` pixels wide."""
    for mark in marks:
        pixels = [zero + scale * z.conjugate() for z in mark.points]
        ink = shade(mark.fill, 0.5)
        if mark.radii is None:
            corners = [(z.real, z.imag) for z in pixels]
            if mark.edge:
                draw.line([*corners, corners[0], corners[1]], ink, round(2 * edge))
            draw.polygon(corners, mark.fill)
        else:
            radii = [scale * r for r in mark.radii]
            if mark.edge:
                _chain(draw, pixels, [r + edge for r in radii], ink)
            _chain(draw, pixels, radii, mark.fill)


def _chain(draw: ImageDraw.ImageDraw, points: list[complex], radii: list[float], fill: Colour) -> None:
    for z, r in zip(points, radii, strict=True):
        if r > 0.7:  # smaller ones would vanish in the bar next to them
            draw.ellipse((z.real - r, z.imag - r, z.real + r, z.imag + r), fill)
    for a, b, r, s in zip(points, points[1:], radii, radii[1:], strict=False):
        if a == b:
            continue
        normal = 1j * (b - a) / abs(b - a)
        quad = (a + normal * r, b + normal * s, b - normal * s, a - normal * r)
        draw.polygon([(z.real, z.imag) for z in quad], fill)
