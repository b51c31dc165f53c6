"""The backgrounds of drawn scenes, and their light: nothing here is a unit of any fact."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from tripletcl.scenes.pen import Colour, mix, shade
from tripletcl.scenes.things import BRIGHT, WHITE

HOURS: dict[str, tuple[Colour, Colour, Colour]] = {
    "day": ((92, 168, 232), (206, 234, 248), (255, 255, 255)),
    "grey": ((168, 182, 196), (222, 226, 228), (232, 236, 242)),
    "dusk": ((132, 104, 176), (255, 190, 132), (255, 222, 196)),
    "morning": ((150, 200, 226), (255, 228, 188), (255, 246, 226)),
    "night": ((50, 56, 118), (112, 112, 178), (170, 176, 224)),
}
"""Sky above, sky at the horizon, and the light that falls on everything."""


@dataclass(frozen=True)
class Place:
    """A drawn background at double size.

    Attributes:
        image: RGB.
        light: What every pixel is multiplied by, as a colour.
        front: Colour of the grass, stones or waves in front of the figure.
        kind: Its name in `PLACES`, or "sea".
    """

    image: Image.Image
    light: Colour
    front: Colour
    kind: str


def draw_place(rng: random.Random, side: int, sea: bool, floor: float) -> Place:
    """Draw a random place; floor is the height of its horizon as a fraction of the side from the top."""
    kind = "sea" if sea else rng.choice(tuple(PLACES))
    hour = rng.choices(tuple(HOURS), (4, 2, 2, 2, 2))[0]
    top, low, light = HOURS[hour]
    image = _gradient(side, top, low)
    draw = ImageDraw.Draw(image)
    level = round(side * floor)
    if kind == "room":
        front = _room(draw, rng, side, level)
        light = mix(light, (255, 236, 206), 0.6)
    else:
        _sky(draw, rng, side, level, hour)
        front = (_sea if sea else PLACES[kind])(draw, rng, side, level)
    return Place(image, light, front, kind)


def _gradient(side: int, top: Colour, low: Colour) -> Image.Image:
    rows = np.linspace(0, 1, side, dtype=np.float32)[:, None] ** 1.3
    column = np.array(top, np.float32) * (1 - rows) + np.array(low, np.float32) * rows
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(column.astype(np.uint8)[:, None], (side, side, 3))))


def _sky(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, level: int, hour: str) -> None:
    x, y, r = rng.uniform(0.1, 0.9) * side, rng.uniform(0.06, 0.2) * side, rng.uniform(0.04, 0.06) * side
    if hour == "night":
        for _ in range(18):
            a, b, s = rng.uniform(0, side), rng.uniform(0, level), rng.choice((0.6, 1.0, 1.6)) * side / 256
            draw.ellipse((a - s, b - s, a + s, b + s), (232, 232, 250))
        draw.ellipse((x - r, y - r, x + r, y + r), (250, 248, 226))
        draw.ellipse((x - 0.4 * r, y - 1.2 * r, x + 1.4 * r, y + 0.7 * r), (58, 62, 124))
        return
    if hour != "grey":
        draw.ellipse((x - r, y - r, x + r, y + r), (255, 236, 160) if hour != "dusk" else (255, 160, 110))
    cloud = {"day": WHITE, "grey": (200, 208, 216), "dusk": (240, 176, 178), "morning": (255, 246, 236)}[hour]
    for _ in range(rng.randrange(4)):
        x, y, r = rng.uniform(0, side), rng.uniform(0.05, 0.35) * side, rng.uniform(0.03, 0.055) * side
        for dx, dy, s in ((-1.5, 0.2, 0.7), (-0.6, -0.25, 1.0), (0.5, -0.05, 0.9), (1.4, 0.25, 0.65)):
            a, b, s = x + dx * r, y + dy * r, s * r
            draw.ellipse((a - s, b - s, a + s, b + s), cloud)
        draw.rectangle((x - 1.5 * r, y + 0.3 * r, x + 1.4 * r, y + 0.9 * r), cloud)


def _fine(side: int) -> int:
    """The width of a thin line in pixels."""
    return max(1, side // 128)


def _hills(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, level: int, colour: Colour, rise: float) -> None:
    phase, waves = rng.uniform(0, 6.3), rng.uniform(0.8, 2.0)
    spots = [
        (x, level - rise * side * (0.55 + 0.45 * math.sin(phase + waves * 6.3 * x / side)))
        for x in range(0, side + 1, side // 16)
    ]
    draw.polygon([(0, level + 2), *spots, (side, level + 2)], colour)


def _speckle(
    draw: ImageDraw.ImageDraw,
    rng: random.Random,
    side: int,
    level: int,
    colours: Sequence[Colour],
    count: int,
    flat: float,
) -> None:
    """Stones, flowers or tufts on the ground, larger when nearer."""
    for _ in range(count):
        depth = rng.random()
        x, y, r = rng.uniform(0, side), level + depth * (side - level), side * (0.004 + 0.012 * depth)
        draw.ellipse((x - r, y - r * flat, x + r, y + r * flat), rng.choice(colours))


def _ground(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, level: int, colour: Colour) -> Colour:
    """Fill the ground with bands that grow lighter towards the horizon."""
    draw.rectangle((0, level, side, side), colour)
    for k in range(3):
        y = level + (side - level) * (0.0, 0.12, 0.34)[k]
        draw.rectangle((0, y, side, side), shade(colour, (1.14, 1.07, 1.0)[k]))
    return colour


def _meadow(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, level: int) -> Colour:
    grass = rng.choice(((122, 182, 86), (150, 190, 92), (96, 164, 100), (190, 184, 100)))
    _hills(draw, rng, side, level, mix(grass, (150, 190, 210), 0.45), rng.uniform(0.08, 0.2))
    _hills(draw, rng, side, level, mix(grass, (80, 130, 100), 0.3), rng.uniform(0.02, 0.09))
    _ground(draw, rng, side, level, grass)
    if rng.random() < 0.35:
        rail, y = (222, 206, 180), level + 0.02 * side
        for x in range(-side // 20, side, side // 9):
            draw.rectangle((x, y - 0.09 * side, x + side * 0.022, y + 0.03 * side), rail)
        for dy in (0.06, 0.01):
            draw.rectangle((0, y - dy * side, side, y - (dy - 0.016) * side), rail)
    _speckle(
        draw, rng, side, level, (WHITE, (250, 214, 90), (236, 130, 160), shade(grass, 0.8)), rng.randrange(8, 30), 0.9
    )
    return shade(grass, 0.78)


def _beach(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, level: int) -> Colour:
    sand, sea = rng.choice(((240, 220, 164), (230, 204, 150))), rng.choice(((64, 150, 190), (70, 176, 186)))
    top = level - 0.14 * side
    draw.rectangle((0, top, side, level + 4), sea)
    for _ in range(5):
        x, y = rng.uniform(0, side), rng.uniform(top + 4, level - 3)
        draw.line((x, y, x + side * 0.1, y), shade(sea, 1.3), _fine(side))
    _ground(draw, rng, side, level, sand)
    draw.rectangle((0, level - 2, side, level + 3), (250, 250, 246))
    _speckle(draw, rng, side, level, (shade(sand, 0.86), (250, 240, 226), (226, 160, 140)), rng.randrange(6, 24), 0.7)
    return shade(sand, 0.86)


def _snow(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, level: int) -> Colour:
    rock = rng.choice(((126, 142, 172), (110, 124, 150)))
    for _ in range(rng.randrange(2, 5)):
        x, wide, high = rng.uniform(0, side), rng.uniform(0.2, 0.36) * side, rng.uniform(0.14, 0.34) * side
        draw.polygon([(x - wide, level + 2), (x, level - high), (x + wide, level + 2)], rock)
        cap = [(0, 0), (0.3, 0.3), (0.12, 0.24), (0, 0.34), (-0.14, 0.24), (-0.3, 0.3)]
        draw.polygon([(x + a * wide, level - high + b * high) for a, b in cap], (248, 250, 252))
    _ground(draw, rng, side, level, (222, 232, 242))
    if rng.random() < 0.6:
        for _ in range(40):
            x, y, r = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0.004, 0.01) * side
            draw.ellipse((x - r, y - r, x + r, y + r), WHITE)
    _speckle(draw, rng, side, level, ((204, 216, 232), (172, 182, 200)), rng.randrange(2, 12), 0.5)
    return (236, 242, 248)


def _desert(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, level: int) -> Colour:
    sand = rng.choice(((230, 168, 104), (216, 150, 110), (238, 190, 124)))
    _hills(draw, rng, side, level, mix(sand, (190, 110, 110), 0.4), rng.uniform(0.12, 0.24))
    _hills(draw, rng, side, level, shade(sand, 0.9), rng.uniform(0.03, 0.12))
    _ground(draw, rng, side, level, sand)
    _speckle(draw, rng, side, level, (shade(sand, 0.75), (150, 120, 104), shade(sand, 0.88)), rng.randrange(4, 18), 0.6)
    return shade(sand, 0.8)


def _city(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, level: int) -> Colour:
    x = -rng.uniform(0.0, 0.1) * side
    while x < side:
        wide, high = rng.uniform(0.12, 0.22) * side, rng.uniform(0.18, 0.5) * side
        wall = rng.choice(((170, 150, 150), (140, 150, 172), (196, 160, 130), (120, 126, 146), (206, 190, 168)))
        draw.rectangle((x, level - high, x + wide, level), wall)
        pane = rng.choice(((250, 226, 150), shade(wall, 0.7), (200, 224, 236)))
        for a in np.arange(x + 0.025 * side, x + wide - 0.03 * side, 0.055 * side):
            for b in np.arange(level - high + 0.03 * side, level - 0.06 * side, 0.075 * side):
                draw.rectangle((a, b, a + 0.028 * side, b + 0.04 * side), pane)
        x += wide + rng.choice((0, 0, 0.03)) * side
    street = rng.choice(((150, 150, 156), (126, 128, 138), (184, 170, 156)))
    _ground(draw, rng, side, level, street)
    draw.rectangle((0, level, side, level + 0.045 * side), shade(street, 1.35))
    y = level + 0.7 * (side - level)
    for k in range(-1, 6):
        a = (k * 0.24 + rng.random() * 0.02) * side
        draw.rectangle((a, y, a + 0.12 * side, y + 0.012 * side), shade(street, 1.4))
    return shade(street, 0.8)


def _room(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, level: int) -> Colour:
    wall = mix(rng.choice(BRIGHT), (244, 236, 222), rng.uniform(0.55, 0.8))
    floor = rng.choice(((190, 144, 100), (160, 116, 84), (214, 186, 150), (150, 150, 160)))
    draw.rectangle((0, 0, side, level), wall)
    if rng.random() < 0.5:
        for left in range(0, side, side // 10):
            draw.rectangle((left, 0, left + side // 24, level), shade(wall, 1.15))
    x, y = rng.uniform(0.05, 0.65) * side, rng.uniform(0.06, 0.16) * side
    wide, high = rng.uniform(0.18, 0.3) * side, rng.uniform(0.18, 0.28) * side
    rim, bar = side / 50, side / 128
    draw.rectangle((x - rim, y - rim, x + wide + rim, y + high + rim), (246, 242, 232))
    if rng.random() < 0.5:
        draw.rectangle((x, y, x + wide, y + high), rng.choice(((176, 216, 240), (70, 78, 132), (250, 210, 170))))
        draw.rectangle((x + wide / 2 - bar, y, x + wide / 2 + bar, y + high), (246, 242, 232))
        draw.rectangle((x, y + high / 2 - bar, x + wide, y + high / 2 + bar), (246, 242, 232))
    else:
        draw.rectangle((x, y, x + wide, y + high), mix(rng.choice(BRIGHT), WHITE, 0.3))
        draw.polygon([(x, y + high), (x + wide * 0.4, y + high * 0.4), (x + wide, y + high)], shade(wall, 0.7))
    _ground(draw, rng, side, level, floor)
    for k in range(-3, 9):
        draw.line((side * 0.18 * k, side, side * (0.3 + 0.1 * k), level), shade(floor, 0.86), _fine(side))
    draw.rectangle((0, level - 0.02 * side, side, level), shade(wall, 1.4))
    if rng.random() < 0.5:
        y = level + 0.62 * (side - level)
        draw.ellipse((side * 0.05, y - 0.08 * side, side * 0.95, y + 0.1 * side), mix(rng.choice(BRIGHT), floor, 0.35))
    return shade(floor, 0.75)


def _sea(draw: ImageDraw.ImageDraw, rng: random.Random, side: int, level: int) -> Colour:
    water = rng.choice(((62, 146, 196), (64, 170, 186), (50, 120, 176)))
    if rng.random() < 0.7:
        _hills(
            draw,
            rng,
            side,
            level,
            rng.choice(((110, 150, 130), (150, 160, 180), (196, 170, 130))),
            rng.uniform(0.04, 0.16),
        )
    _ground(draw, rng, side, level, water)
    for _ in range(14):
        depth = rng.random()
        x, y, r = rng.uniform(0, side), level + depth * (side - level), side * (0.02 + 0.04 * depth)
        draw.arc((x - r, y - r * 0.4, x + r, y + r * 0.4), 200, 340, shade(water, 1.35), _fine(side))
    return water


PLACES: dict[str, Callable[[ImageDraw.ImageDraw, random.Random, int, int], Colour]] = {
    "meadow": _meadow,
    "beach": _beach,
    "snow": _snow,
    "desert": _desert,
    "city": _city,
    "room": _room,
}
"""The backgrounds of scenes on land."""


def draw_front(draw: ImageDraw.ImageDraw, rng: random.Random, place: Place, side: int) -> None:
    """Grass, a bush or mounds in front of the figure: they hide a part of it."""
    if rng.random() < 0.4:
        return
    colour, edge, wide = place.front, side * rng.uniform(0.93, 0.98), side / 85
    if place.kind == "meadow":
        for _ in range(rng.randrange(20, 60)):
            x, high = rng.uniform(0, side), rng.uniform(0.03, 0.1) * side
            lean = rng.uniform(-0.03, 0.03) * side
            draw.polygon(
                [(x - wide, side), (x + lean, edge - high), (x + wide, side)], shade(colour, rng.uniform(0.85, 1.15))
            )
    elif place.kind in ("beach", "snow", "desert"):
        x = rng.choice((rng.uniform(-0.05, 0.2), rng.uniform(0.8, 1.05))) * side
        for _ in range(4):
            a, r = x + rng.uniform(-0.12, 0.12) * side, rng.uniform(0.05, 0.11) * side
            draw.ellipse((a - r * 1.3, side - r, a + r * 1.3, side + r), shade(colour, rng.uniform(0.9, 1.1)))


@lru_cache(maxsize=4)
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    line = np.linspace(-1, 1, size, dtype=np.float32)
    return line[None, :, None], line[:, None, None]


def light_up(image: Image.Image, rng: random.Random, light: Colour) -> Image.Image:
    """Multiply with the hour's light, a slant of light, a vignette and a brightness; then perhaps blur; add noise."""
    x, y = _grid(image.width)
    angle, slant = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 0.22)
    field = 1 + slant * (math.cos(angle) * x + math.sin(angle) * y) - rng.uniform(0.0, 0.12) * (x * x + y * y)
    tint = np.array(light, np.float32) / 255 * rng.uniform(0.9, 1.1)
    if rng.random() < 0.25:
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.6) * image.width / 128))
    pixels = np.asarray(image).astype(np.float32)
    pixels *= field * tint
    grain = np.frombuffer(rng.randbytes(pixels.size), np.uint8).reshape(pixels.shape)
    pixels += (grain.astype(np.float32) - 127.5) * (rng.uniform(1.0, 4.5) / 74)  # 74 = standard deviation of the grain
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
