"""The objects of drawn scenes: each stands on 0, is about 1 high, and faces right."""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

from tripletcl.scenes.pen import Colour, Pen, mix, polar, shade

BRIGHT: tuple[Colour, ...] = (
    (226, 70, 62), (240, 140, 50), (247, 196, 66), (88, 170, 92), (54, 156, 170),
    (66, 118, 206), (132, 88, 186), (222, 96, 150), (150, 98, 64), (236, 232, 222),
)  # fmt: skip
WOOD: tuple[Colour, ...] = ((176, 122, 72), (142, 94, 58), (204, 158, 104), (112, 76, 54))
BLACK, WHITE, STEEL = (44, 42, 50), (250, 248, 242), (150, 156, 166)


def two_colours(rng: random.Random) -> tuple[Colour, Colour]:
    """Two different bright colours."""
    one, other = rng.sample(BRIGHT, 2)
    return one, other


def bicycle(pen: Pen, rng: random.Random) -> None:
    """Saddle at -0.2 + 0.86j, handlebar at 0.38 + 0.95j, pedals around 0.3j."""
    paint = rng.choice(BRIGHT[:8])
    rear, front, pedal, saddle, head = -0.48 + 0.32j, 0.52 + 0.32j, -0.02 + 0.3j, -0.2 + 0.8j, 0.36 + 0.78j
    for hub in (rear, front):
        pen.arc(hub, 0.3, 0, 360, 0.075, BLACK)
        pen.arc(hub, 0.25, 0, 360, 0.02, STEEL)
        for angle in (20, 80, 140):
            pen.line([hub - polar(0.27, angle), hub + polar(0.27, angle)], 0.014, STEEL)
    for bar in ((rear, saddle - 0.08j, pedal, rear), (pedal, head, saddle - 0.1j), (head + 0.12j, head, front)):
        pen.line(bar, 0.06, paint, edge=True)
    pen.line([head + 0.12j, head + 0.1 + 0.17j], 0.05, BLACK)
    pen.limb([saddle - 0.1, saddle + 0.1], [0.06, 0.035], BLACK)
    pen.dot(pedal, 0.07, STEEL, edge=True)


def skateboard(pen: Pen, rng: random.Random) -> None:
    """A long deck at a height of 0.2."""
    paint, wheels = two_colours(rng)
    for x in (-0.45, 0.45):
        pen.line([x + 0.09j, x + 0.16j], 0.14, STEEL)
        pen.dot(x + 0.09j, 0.095, wheels, edge=True)
        pen.dot(x + 0.09j, 0.035, WHITE)
    pen.line([-0.9 + 0.32j, -0.68 + 0.2j, 0.68 + 0.2j, 0.9 + 0.32j], 0.09, paint, edge=True)


def car(pen: Pen, rng: random.Random, roof: bool = True) -> None:
    """A small car, 2 long and 0.9 high; without its roof it is a convertible whose seats are at 0.45j."""
    paint = rng.choice(BRIGHT)
    if roof:
        pen.blob([-0.62 + 0.42j, -0.5 + 0.78j, -0.1 + 0.93j, 0.25 + 0.82j, 0.52 + 0.42j], paint)
        pane = (188, 222, 236)
        pen.polygon([-0.46 + 0.5j, -0.4 + 0.74j, -0.1 + 0.83j, -0.1 + 0.5j], pane, edge=False)
        pen.polygon([-0.02 + 0.5j, -0.02 + 0.83j, 0.2 + 0.75j, 0.38 + 0.5j], pane, edge=False)
    else:
        pen.line([0.42 + 0.5j, 0.3 + 0.78j], 0.04, STEEL)
    pen.blob(
        [-1 + 0.2j, -1.0 + 0.46j, -0.6 + 0.53j, 0.5 + 0.53j, 0.92 + 0.42j, 1.02 + 0.22j, 0.9 + 0.12j, -0.9 + 0.12j],
        paint,
    )
    pen.line([-0.95 + 0.24j, 0.97 + 0.24j], 0.045, shade(paint, 0.72))
    pen.line([0.0 + 0.3j, 0.0 + 0.48j], 0.02, shade(paint, 0.7))
    pen.dot(0.92 + 0.35j, 0.065, (255, 240, 170))
    pen.dot(-0.97 + 0.35j, 0.05, (214, 50, 46))
    for x in (-0.58, 0.6):
        pen.dot(x + 0.16j, 0.2, BLACK, edge=True)
        pen.dot(x + 0.16j, 0.1, STEEL)


def boat(pen: Pen, rng: random.Random, sail: bool = True, hull: bool = True) -> None:
    """A sailing boat, 1.5 long; the hull's rim is at 0.4j."""
    paint, cloth = two_colours(rng)
    if sail:
        cloth = mix(cloth, WHITE, 0.45)
        pen.line([-0.12 + 0.3j, -0.12 + 1.5j], 0.05, WOOD[1], edge=True)
        pen.polygon([-0.08 + 0.52j, -0.08 + 1.46j, 0.55 + 0.52j], cloth)
        pen.polygon([-0.17 + 0.6j, -0.17 + 1.3j, -0.58 + 0.6j], shade(cloth, 0.9))
    if hull:
        pen.polygon([-0.72 + 0.4j, 0.86 + 0.46j, 0.5 + 0.0j, -0.5 + 0.0j], paint)
        pen.line([-0.74 + 0.39j, 0.88 + 0.45j], 0.07, WOOD[2], edge=True)
        pen.line([-0.62 + 0.2j, 0.66 + 0.2j], 0.05, WHITE)


def ball(pen: Pen, rng: random.Random) -> None:
    """A beach ball, a basketball or a football of radius 0.5."""
    kind, turned = rng.randrange(3), pen.frame(0.5j, 1, rng.uniform(0, 360))
    if kind == 0:
        one, other = two_colours(rng)
        turned.dot(0, 0.5, one, edge=True)
        for angle in (0, 120, 240):
            turned.polygon([0, *(polar(0.49, angle + step) for step in (0, 15, 30, 45, 60))], other, edge=False)
        turned.dot(0, 0.1, WHITE)
    elif kind == 1:
        turned.dot(0, 0.5, (226, 122, 48), edge=True)
        turned.line([-0.48, 0.48], 0.035, BLACK)
        turned.line([-0.48j, 0.48j], 0.035, BLACK)
        turned.arc(0.62, 0.42, 128, 232, 0.035, BLACK)
        turned.arc(-0.62, 0.42, -52, 52, 0.035, BLACK)
    else:
        turned.dot(0, 0.5, WHITE, edge=True)
        turned.polygon([polar(0.19, 72 * k) for k in range(5)], BLACK, edge=False)
        for k in range(5):
            turned.line([polar(0.19, 72 * k), polar(0.36, 72 * k)], 0.03, BLACK)
            turned.polygon([polar(0.36, 72 * k), polar(0.47, 72 * k + 18), polar(0.47, 72 * k - 18)], BLACK, edge=False)


def box(pen: Pen, rng: random.Random) -> None:
    """A cardboard box or a crate, 1.1 wide."""
    paint = rng.choice(WOOD[:3])
    pen.polygon([-0.55 + 0.8j, -0.3 + 1j, 0.75 + 1j, 0.55 + 0.8j], shade(paint, 1.25))
    pen.polygon([0.55, 0.55 + 0.8j, 0.75 + 1j, 0.75 + 0.2j], shade(paint, 0.75))
    pen.polygon([-0.55, 0.55, 0.55 + 0.8j, -0.55 + 0.8j], paint)
    if rng.random() < 0.5:
        pen.polygon(
            [-0.09 + 0.45j, -0.09 + 0.8j, 0.15 + 1j, 0.31 + 1j, 0.09 + 0.8j, 0.09 + 0.45j], (232, 214, 170), False
        )
        pen.polygon([-0.45 + 0.1j, -0.2 + 0.1j, -0.2 + 0.24j, -0.45 + 0.24j], WHITE, edge=False)
    else:
        for y in (0.06, 0.4, 0.74):
            pen.line([-0.5 + y * 1j, 0.5 + y * 1j], 0.1, shade(paint, 0.8))
        pen.line([-0.46 + 0.1j, 0.46 + 0.7j], 0.09, shade(paint, 0.85))


def chair(pen: Pen, rng: random.Random) -> None:
    """A wooden chair that faces right, its seat at 0.5j."""
    paint, cushion = rng.choice(WOOD + BRIGHT[:3]), rng.choice(BRIGHT)
    for x in (-0.18, 0.42):
        pen.line([x + 0.1j, x + 0.48j], 0.07, shade(paint, 0.7))
    pen.line([-0.42 + 1.1j, -0.34 + 0.5j], 0.09, paint, edge=True)
    pen.line([-0.22 + 1.16j, -0.16 + 0.5j], 0.08, shade(paint, 0.8), edge=True)
    for y in (0.72, 0.88, 1.04):
        pen.line([-0.4 + y * 1j, -0.2 + (y + 0.05) * 1j], 0.08, paint)
    for x in (-0.34, 0.32):
        pen.line([x * 1.06 + 0.03j, x + 0.48j], 0.085, paint, edge=True)
    pen.polygon([-0.4 + 0.44j, 0.4 + 0.44j, 0.5 + 0.56j, -0.2 + 0.56j], paint)
    pen.limb([-0.28 + 0.54j, 0.36 + 0.54j], [0.06, 0.06], cushion)


def tree(pen: Pen, rng: random.Random) -> None:
    """A leafy tree or a fir, 1.6 high."""
    bark = rng.choice(WOOD[1:2] + WOOD[3:])
    leaf = rng.choice(((74, 146, 70), (104, 164, 66), (52, 122, 84), (206, 128, 48), (232, 170, 190)))
    pen.limb([0.05j, 0.35j, 0.7j], [0.13, 0.09, 0.08], bark)
    if rng.random() < 0.3:
        leaf = (46, 112, 80)
        for k, y in enumerate((0.4, 0.75, 1.1)):
            half = 0.56 - 0.13 * k
            pen.polygon([-half + y * 1j, half + y * 1j, (y + 0.55) * 1j], shade(leaf, 1 + 0.08 * k))
        return
    crown = [polar(rng.uniform(0.24, 0.32), angle) + 1.1j for angle in range(0, 360, 60)]
    for spot in crown:
        pen.dot(spot, 0.3, leaf, edge=True)
    pen.dot(1.1j, 0.42, leaf)
    for spot in crown[1:4]:
        pen.dot(spot + 0.06j, 0.17, shade(leaf, 1.14))


def umbrella(pen: Pen, rng: random.Random) -> None:
    """Its grip is at 0, its top at 1.15j."""
    one, other = two_colours(rng)
    pen.line([0.1 - 0.06j, 0.08 - 0.12j, 0.02 - 0.12j, 0, 0.75j], 0.05, BLACK)
    rim = [complex(-0.66 + 0.33 * k, 0.68) for k in range(5)]
    outer = [complex(0.66 * z.real, 0.68 + 0.46 * z.imag) for z in (polar(1, a) for a in range(0, 181, 20))]
    scallops = [spot for a, b in pairwise(rim) for spot in (a, (a + b) / 2 + 0.07j)]
    pen.polygon([*outer, *scallops], one)
    for a, b in ((0, 1), (2, 3)):
        pen.polygon([1.13j, rim[a] + 0.03, (rim[a] + rim[b]) / 2 + 0.07j, rim[b] - 0.03], other, edge=False)
    pen.line([1.12j, 1.22j], 0.05, BLACK)


def balloon(pen: Pen, rng: random.Random) -> None:
    """The string's end is at 0, the top at 1.5j."""
    paint = rng.choice(BRIGHT[:8])
    bend = rng.uniform(-0.1, 0.1)
    pen.line([0, bend + 0.25j, -bend + 0.5j, 0.76j], 0.025, (240, 240, 240))
    pen.polygon([-0.07 + 0.72j, 0.07 + 0.72j, 0.83j], shade(paint, 0.8))
    pen.blob([0.8j, 0.3 + 1.02j, 0.35 + 1.25j, 0.2 + 1.45j, 1.5j, -0.2 + 1.45j, -0.35 + 1.25j, -0.3 + 1.02j], paint)
    pen.oval(-0.14 + 1.3j, 0.06, 0.11, shade(paint, 1.6), -25, edge=False)


def apple(pen: Pen, rng: random.Random) -> None:
    """An apple of radius 0.5."""
    paint = rng.choice(((212, 48, 48), (232, 84, 60), (138, 186, 66), (228, 190, 70)))
    pen.line([0.8j, 0.05 + 1.05j], 0.07, WOOD[3])
    pen.blob([0.06j, 0.3 + 0.0j, 0.5 + 0.42j, 0.36 + 0.84j, 0.82j, -0.36 + 0.84j, -0.5 + 0.42j, -0.3 + 0.0j], paint)
    pen.oval(0.24 + 1.0j, 0.2, 0.09, (96, 164, 70), 25)
    pen.oval(-0.24 + 0.58j, 0.08, 0.15, shade(paint, 1.55), -20, edge=False)


def cake(pen: Pen, rng: random.Random) -> None:
    """Two tiers with icing and burning candles."""
    icing, sponge = rng.choice(((250, 206, 220), (252, 246, 230), (122, 76, 56), (186, 226, 232))), (232, 190, 124)
    pen.limb([-0.62 + 0.03j, 0.62 + 0.03j], [0.04, 0.04], STEEL)
    for wide, low, high in ((0.54, 0.06, 0.46), (0.34, 0.46, 0.78)):
        pen.polygon([complex(-wide, low), complex(wide, low), complex(wide, high), complex(-wide, high)], sponge)
        pen.line([complex(-wide, high), complex(wide, high)], 0.12, icing, edge=True)
        for k in range(5):
            x = -wide * 0.84 + wide * 0.42 * k
            pen.limb([complex(x, high), complex(x, high - (0.17, 0.1)[k % 2])], [0.06, 0.05], icing, edge=False)
    for x in (-0.2, 0, 0.2):
        pen.line([x + 0.84j, x + 1.0j], 0.06, rng.choice(BRIGHT))
        pen.oval(x + 1.09j, 0.05, 0.09, (255, 206, 80), edge=False)
    pen.dot(0.28 + 0.86j, 0.07, (206, 40, 56))


def book(pen: Pen, rng: random.Random) -> None:
    """An open book, 1.3 wide."""
    cover = rng.choice(BRIGHT[:9])
    pen.polygon([-0.7 + 0.12j, 0.02j, 0.7 + 0.12j, 0.7 + 0.86j, 0.74j, -0.7 + 0.86j], cover)
    for side in (-1, 1):
        page = [0.1j, side * 0.32 + 0.2j, side * 0.63 + 0.2j, side * 0.63 + 0.9j, side * 0.32 + 0.92j, 0.82j]
        pen.polygon(page, WHITE)
        for y in (0.34, 0.48, 0.62, 0.76):
            pen.line([side * 0.12 + (y - 0.03) * 1j, side * 0.52 + (y + 0.03) * 1j], 0.035, (150, 148, 156))


def guitar(pen: Pen, rng: random.Random) -> None:
    """Its body is around 0.35j, its head at 1.5j."""
    paint = rng.choice((*WOOD[:3], (204, 84, 46), BRIGHT[0], BRIGHT[5]))
    pen.line([0.5j, 1.3j], 0.1, WOOD[3], edge=True)
    pen.limb([1.32j, 1.5j], [0.08, 0.1], WOOD[3])
    for y in (1.36, 1.46):
        pen.line([-0.14 + y * 1j, 0.14 + y * 1j], 0.035, STEEL)
    pen.blob(
        [0, 0.34 + 0.08j, 0.36 + 0.34j, 0.2 + 0.48j, 0.26 + 0.68j, 0.14 + 0.8j, -0.14 + 0.8j, -0.26 + 0.68j,
         -0.2 + 0.48j, -0.36 + 0.34j, -0.34 + 0.08j], paint,
    )  # fmt: skip
    pen.dot(0.5j, 0.11, BLACK)
    pen.line([-0.14 + 0.2j, 0.14 + 0.2j], 0.06, BLACK)
    pen.line([0.2j, 1.35j], 0.022, WHITE)


def flag(pen: Pen, rng: random.Random) -> None:
    """A striped cloth on a pole that is held at 0."""
    one, other = two_colours(rng)
    pen.line([-0.25j, 1.25j], 0.055, WOOD[2], edge=True)
    wave = [complex(0.03 + 0.17 * k, (0, 0.06, 0.03, -0.05, -0.04, 0.03)[k]) for k in range(6)]
    pen.polygon([*(z + 1.22j for z in wave), *(z + 0.66j for z in reversed(wave))], one)
    pen.polygon([*(z + 1.03j for z in wave), *(z + 0.85j for z in reversed(wave))], other, edge=False)
    pen.dot(1.27j, 0.05, (240, 200, 80), edge=True)


THINGS: dict[str, Callable[[Pen, random.Random], None]] = {
    "bicycle": bicycle,
    "skateboard": skateboard,
    "car": car,
    "boat": boat,
    "ball": ball,
    "box": box,
    "chair": chair,
    "tree": tree,
    "umbrella": umbrella,
    "balloon": balloon,
    "apple": apple,
    "cake": cake,
    "book": book,
    "guitar": guitar,
    "flag": flag,
}
"""The drawing function of each object."""
