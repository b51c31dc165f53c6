"""The subjects of drawn scenes: proportions, coats, heads, tails and markings.

A head is drawn in a frame whose unit is the head's radius, and looks right.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tripletcl.scenes.pen import Colour, Pen, mix, polar, shade
from tripletcl.scenes.things import BLACK, BRIGHT, STEEL, WHITE

Coat = tuple[Colour, Colour, Colour]
"""Main colour, light colour (muzzle, belly), dark colour (ears, mane, hooves)."""


@dataclass(frozen=True)
class Face:
    """The face of a head: "open", "wide" or "closed" eyes, and the mouth open or not."""

    eyes: str = "open"
    mouth: bool = False


@dataclass(frozen=True)
class Look:
    """One individual's colours and clothes."""

    coat: Coat
    shirt: Colour
    trousers: Colour
    hair: Colour
    long_hair: bool
    scarf: Colour | None


@dataclass(frozen=True)
class Species:
    """Proportions in units of about one standing height; angles in degrees.

    Attributes:
        pitch: Direction from hips to shoulders when it stands: about 90 on two legs, 0 on four.
        neck_angle: Direction from shoulders to head when it stands.
        arm, leg: Whole lengths of the front and hind limbs.
        marks: What its body shows: clothes, a panel, a belly, feathers, plates, a patch, stripes, spots, or plain.
        crown: Height of what stands on its head above the head's centre, in head radii.
    """

    pitch: float
    torso: float
    chest: float
    hips: float
    neck: float
    neck_radius: float
    neck_angle: float
    head: float
    arm: float
    leg: float
    arm_radius: float
    leg_radius: float
    coats: tuple[Coat, ...]
    draw_head: Callable[[Pen, Look, Face], None]
    draw_tail: Callable[[Pen, Look, float], None]
    marks: str = "belly"
    crown: float = 1.0

    @property
    def upright(self) -> bool:
        """True if it stands on two legs."""
        return self.pitch > 45

    def look(self, rng: random.Random) -> Look:
        """A random individual."""
        shirt, trousers = rng.sample(BRIGHT, 2)
        hair = rng.choice(((52, 40, 36), (104, 66, 40), (196, 140, 70), (150, 70, 42), (120, 118, 122)))
        scarf = rng.choice(BRIGHT) if rng.random() < 0.3 else None
        return Look(rng.choice(self.coats), shirt, mix(trousers, BLACK, 0.35), hair, rng.random() < 0.5, scarf)


def _eyes(pen: Pen, face: Face, near: complex, gap: float, radius: float) -> None:
    for spot in (near + gap, near):
        if face.eyes == "closed":
            pen.arc(spot + radius * 0.4j, radius, 200, 340, radius * 0.55, BLACK)
            continue
        white = radius * (1.35 if face.eyes == "wide" else 1.0)
        pen.dot(spot, white, WHITE, edge=True)
        pen.dot(spot + white * 0.3, radius * 0.68, (34, 28, 32))
        pen.dot(spot + white * (0.45 + 0.25j), radius * 0.22, WHITE)


def _smile(pen: Pen, face: Face, centre: complex, radius: float) -> None:
    if face.mouth:
        pen.oval(centre - radius * 0.6j, radius * 0.75, radius * 0.8, (132, 38, 48), edge=False)
    else:
        pen.arc(centre, radius, 205, 335, 0.09, (70, 40, 44))


def _person(pen: Pen, look: Look, face: Face) -> None:
    skin = look.coat[0]
    if look.long_hair:
        pen.limb([-0.45 + 0.3j, -0.62 - 0.5j, -0.7 - 1.15j], [0.6, 0.46, 0.3], look.hair)
    pen.dot(-0.1 + 0.1j, 1.02, look.hair, edge=True)
    pen.dot(0.08 - 0.1j, 0.88, skin)
    pen.blob(
        [-0.95 + 0.15j, -0.6 + 0.95j, 0.1 + 1.18j, 0.75 + 0.85j, 0.98 + 0.3j, 0.45 + 0.5j, -0.35 + 0.3j],
        look.hair,
        False,
    )
    pen.dot(-0.62 - 0.15j, 0.2, shade(skin, 0.9))
    _eyes(pen, face, 0.16 - 0.02j, 0.5, 0.15)
    pen.dot(0.5 - 0.26j, 0.1, shade(skin, 0.82))
    _smile(pen, face, 0.42 - 0.36j, 0.28)


def _robot(pen: Pen, look: Look, face: Face) -> None:
    metal, light, glow = look.coat
    pen.line([0.8j, 1.35j], 0.14, STEEL)
    pen.dot(1.42j, 0.2, glow, edge=True)
    pen.limb([-1.0, 1.0], [0.26, 0.26], shade(metal, 0.7))
    pen.polygon([-0.92 - 0.75j, 0.92 - 0.75j, 0.92 + 0.82j, -0.92 + 0.82j], metal)
    pen.polygon([-0.68 - 0.05j, 0.78 - 0.05j, 0.78 + 0.55j, -0.68 + 0.55j], (40, 48, 62), edge=False)
    for x in (-0.26, 0.4):
        if face.eyes == "closed":
            pen.line([x - 0.17 + 0.2j, x + 0.17 + 0.2j], 0.1, glow)
        else:
            pen.dot(x + 0.25j, 0.26 if face.eyes == "wide" else 0.19, glow)
    pen.line([-0.45 - 0.42j, 0.55 - 0.42j], 0.4 if face.mouth else 0.24, light)
    for x in (-0.3, -0.05, 0.2, 0.45):
        pen.line([x - 0.52j, x - 0.32j], 0.06, BLACK)


def _dog(pen: Pen, look: Look, face: Face) -> None:
    coat, light, dark = look.coat
    pen.oval(0.5 + 0.75j, 0.28, 0.5, dark, 30)
    pen.dot(0, 0.95, coat, edge=True)
    pen.limb([0.5 - 0.25j, 1.15 - 0.3j], [0.52, 0.4], light)
    if face.mouth:
        pen.limb([0.85 - 0.6j, 0.95 - 0.95j], [0.2, 0.2], (232, 110, 120))
    pen.arc(0.95 - 0.25j, 0.4, 200, 310, 0.08, BLACK)
    pen.oval(1.42 - 0.1j, 0.24, 0.19, BLACK, edge=False)
    _eyes(pen, face, 0.1 + 0.3j, 0.6, 0.19)
    pen.blob([-0.45 + 0.85j, -0.95 + 0.55j, -1.1 - 0.35j, -0.75 - 0.8j, -0.4 - 0.3j, -0.2 + 0.5j], dark)


def _cat(pen: Pen, look: Look, face: Face) -> None:
    coat, light, dark = look.coat
    for x, lean in ((0.5, 0.12), (-0.55, -0.12)):
        pen.polygon([x - 0.42 + 0.55j, x + lean + 1.5j, x + 0.42 + 0.6j], coat)
        pen.polygon([x - 0.2 + 0.65j, x + lean + 1.22j, x + 0.22 + 0.7j], (236, 160, 160), edge=False)
    pen.oval(0, 1.06, 0.92, coat)
    for x in (-0.25, 0.02, 0.29):
        pen.line([x + 0.55j, x * 1.1 + 0.86j], 0.12, dark)
    pen.oval(0.42 - 0.35j, 0.5, 0.34, light, edge=False)
    _eyes(pen, face, 0.02 + 0.14j, 0.72, 0.22)
    pen.polygon([0.32 - 0.12j, 0.58 - 0.12j, 0.45 - 0.3j], (222, 110, 120), edge=False)
    _smile(pen, face, 0.45 - 0.38j, 0.2)
    for y in (-0.2, -0.38):
        pen.line([0.85 + y * 1j, 1.45 + (y * 1.7 + 0.12) * 1j], 0.05, WHITE)
        pen.line([-0.1 + y * 1j, -0.75 + (y * 1.7 + 0.12) * 1j], 0.05, WHITE)


def _horse(pen: Pen, look: Look, face: Face) -> None:
    coat, light, dark = look.coat
    pen.polygon([0.15 + 0.5j, 0.42 + 1.25j, 0.55 + 0.45j], shade(coat, 0.85))
    pen.limb([-0.1 + 0.15j, 0.6 - 0.35j, 1.35 - 0.95j], [0.78, 0.62, 0.46], coat)
    pen.limb([1.25 - 0.88j, 1.42 - 1.02j], [0.44, 0.44], light, edge=False)
    pen.dot(1.56 - 0.86j, 0.1, BLACK)
    pen.arc(1.2 - 0.95j, 0.36, 220, 320, 0.09, BLACK)
    pen.polygon([-0.4 + 0.6j, -0.12 + 1.45j, 0.2 + 0.62j], coat)
    pen.limb([0.35 + 0.62j, -0.2 + 0.78j, -0.72 + 0.3j, -0.9 - 0.5j], [0.2, 0.3, 0.3, 0.26], dark)
    _eyes(pen, face, 0.3 + 0.12j, 0.48, 0.18)


def _elephant(pen: Pen, look: Look, face: Face) -> None:
    coat, light, dark = look.coat
    lift = 0.7 if face.mouth else 0.0
    pen.dot(0, 0.95, coat, edge=True)
    trunk = [0.75 - 0.1j, 1.15 - 0.6j, 1.2 - 1.2j + lift * (0.2 + 0.4j), 1.55 - 1.6j + lift * (0.4 + 1.2j)]
    pen.limb(trunk, [0.44, 0.34, 0.27, 0.22], coat)
    pen.limb([0.55 - 0.5j, 0.85 - 0.95j, 1.2 - 1.0j], [0.13, 0.1, 0.03], WHITE)
    _eyes(pen, face, 0.4 + 0.3j, 0.4, 0.16)
    pen.blob([-0.15 + 0.85j, -0.9 + 1.1j, -1.55 + 0.5j, -1.45 - 0.6j, -0.85 - 0.95j, -0.25 - 0.4j], dark)
    pen.blob([-0.3 + 0.6j, -0.85 + 0.8j, -1.3 + 0.4j, -1.2 - 0.45j, -0.8 - 0.65j, -0.4 - 0.2j], light, edge=False)


def _bear(pen: Pen, look: Look, face: Face) -> None:
    coat, light, dark = look.coat
    for spot in (0.55 + 0.78j, -0.62 + 0.75j):
        pen.dot(spot, 0.36, coat, edge=True)
        pen.dot(spot, 0.19, dark)
    pen.dot(0, 1.0, coat, edge=True)
    pen.oval(0.6 - 0.3j, 0.56, 0.44, light)
    pen.oval(0.82 - 0.08j, 0.23, 0.17, BLACK, edge=False)
    _eyes(pen, face, 0.06 + 0.25j, 0.66, 0.16)
    _smile(pen, face, 0.72 - 0.32j, 0.22)


def _rabbit(pen: Pen, look: Look, face: Face) -> None:
    coat, light, _ = look.coat
    for x, tilt in ((0.3, -4), (-0.35, 14)):
        ear = pen.frame(complex(x, 0.7), 1, tilt)
        ear.oval(0.85j, 0.27, 0.98, coat)
        ear.oval(0.85j, 0.13, 0.72, (240, 172, 178), edge=False)
    pen.oval(0, 1.0, 0.92, coat)
    pen.oval(0.5 - 0.36j, 0.5, 0.36, light, edge=False)
    _eyes(pen, face, 0.08 + 0.16j, 0.66, 0.2)
    pen.oval(0.62 - 0.14j, 0.14, 0.1, (226, 110, 126), edge=False)
    pen.polygon([0.48 - 0.42j, 0.76 - 0.42j, 0.76 - 0.72j, 0.48 - 0.72j], WHITE, edge=False)
    pen.line([0.62 - 0.24j, 0.62 - 0.44j, 0.62 - 0.7j], 0.05, BLACK)


def _giraffe(pen: Pen, look: Look, face: Face) -> None:
    coat, light, dark = look.coat
    for x in (0.1, -0.35):
        pen.line([x + 0.6j, x - 0.05 + 1.35j], 0.2, coat, edge=True)
        pen.dot(x - 0.05 + 1.42j, 0.2, dark, edge=True)
    pen.oval(-0.9 + 0.45j, 0.55, 0.24, coat, 160)
    pen.limb([0, 0.65 - 0.3j, 1.3 - 0.65j], [0.85, 0.66, 0.5], coat)
    pen.limb([1.2 - 0.6j, 1.45 - 0.72j], [0.5, 0.46], light, edge=False)
    pen.dot(1.62 - 0.5j, 0.1, BLACK)
    pen.arc(1.2 - 0.65j, 0.42, 220, 320, 0.1, BLACK)
    _eyes(pen, face, 0.2 + 0.25j, 0.62, 0.24)


def _penguin(pen: Pen, look: Look, face: Face) -> None:
    coat, light, _ = look.coat
    pen.dot(0, 1.0, coat, edge=True)
    pen.oval(0.35 - 0.1j, 0.62, 0.66, light, edge=False)
    beak = (244, 158, 50)
    if face.mouth:
        pen.polygon([0.5 - 0.25j, 1.35 - 0.62j, 0.5 - 0.5j], shade(beak, 0.8))
    pen.polygon([0.45 + 0.05j, 1.55 - 0.2j, 0.45 - 0.36j], beak)
    _eyes(pen, face, 0.1 + 0.25j, 0.62, 0.18)


def _lion(pen: Pen, look: Look, face: Face) -> None:
    coat, light, dark = look.coat
    for k in range(10):
        pen.dot(polar(0.98, 36 * k) - 0.1, 0.46, dark, edge=True)
    pen.dot(-0.1, 1.05, dark)
    for spot in (0.62 + 0.72j, -0.6 + 0.72j):
        pen.dot(spot, 0.26, coat, edge=True)
    pen.dot(0.05, 0.84, coat)
    pen.oval(0.46 - 0.34j, 0.46, 0.34, light, edge=False)
    pen.polygon([0.26 - 0.04j, 0.7 - 0.04j, 0.48 - 0.26j], (112, 60, 50), edge=False)
    _eyes(pen, face, 0.04 + 0.22j, 0.56, 0.15)
    _smile(pen, face, 0.48 - 0.34j, 0.2)


def _pig(pen: Pen, look: Look, face: Face) -> None:
    coat, _, dark = look.coat
    pen.polygon([0.2 + 0.7j, 0.75 + 1.2j, 0.85 + 0.5j], dark)
    pen.dot(0, 1.0, coat, edge=True)
    pen.limb([0.65 - 0.18j, 0.98 - 0.2j], [0.46, 0.4], coat)
    pen.oval(1.08 - 0.2j, 0.3, 0.4, dark)
    for y in (-0.08, -0.34):
        pen.oval(complex(1.12, y), 0.08, 0.09, shade(dark, 0.5), edge=False)
    _eyes(pen, face, 0.16 + 0.3j, 0.52, 0.16)
    _smile(pen, face, 0.5 - 0.5j, 0.24)
    pen.polygon([-0.75 + 0.6j, -0.55 + 1.3j, 0.08 + 0.85j, -0.3 + 0.5j], dark)


def _dinosaur(pen: Pen, look: Look, face: Face) -> None:
    coat, light, dark = look.coat
    for spot in (-0.35 + 0.95j, -0.85 + 0.55j, -1.0):
        pen.polygon([spot - 0.25 - 0.2j, spot * 1.5, spot + 0.25 + 0.15j], dark)
    jaw = -0.62j if face.mouth else -0.36j
    pen.limb([0.1 - 0.3j, 1.15 + jaw], [0.5, 0.32], light)
    for x in (0.75, 1.0, 1.25):
        pen.polygon([x - 0.12 - 0.1j, x + 0.12 - 0.1j, x - 0.38j], WHITE, edge=False)
    pen.limb([0.0 + 0.1j, 0.6 + 0.1j, 1.2 + 0.08j], [0.82, 0.56, 0.42], coat)
    pen.dot(1.42 + 0.25j, 0.08, BLACK)
    _eyes(pen, face, 0.18 + 0.42j, 0.44, 0.2)


def _monkey(pen: Pen, look: Look, face: Face) -> None:
    coat, light, _ = look.coat
    for spot in (1.0 + 0.1j, -1.0 + 0.05j):
        pen.dot(spot, 0.42, coat, edge=True)
        pen.dot(spot, 0.25, light)
    pen.dot(0, 1.0, coat, edge=True)
    for spot in (-0.08 + 0.2j, 0.48 + 0.2j):
        pen.dot(spot, 0.44, light)
    pen.oval(0.22 - 0.36j, 0.66, 0.46, light, edge=False)
    _eyes(pen, face, -0.02 + 0.18j, 0.46, 0.17)
    pen.dot(0.16 - 0.16j, 0.06, BLACK)
    pen.dot(0.32 - 0.16j, 0.06, BLACK)
    _smile(pen, face, 0.24 - 0.36j, 0.3)


def _no_tail(pen: Pen, look: Look, swing: float) -> None:
    """Persons, robots and penguins have none."""


def _curved_tail(
    pen: Pen, look: Look, swing: float, bends: tuple[float, ...], radii: tuple[float, ...], fill: Colour
) -> None:
    spots, angle = [0j], 180 + swing
    for bend in bends:
        angle += bend
        spots.append(spots[-1] + polar(0.1, angle))
    pen.limb(spots, radii, fill)


def _dog_tail(pen: Pen, look: Look, swing: float) -> None:
    _curved_tail(pen, look, swing, (-40, -35, -30), (0.04, 0.035, 0.03, 0.015), look.coat[0])


def _cat_tail(pen: Pen, look: Look, swing: float) -> None:
    _curved_tail(pen, look, swing, (-20, -40, -25, 35, 40), (0.03,) * 6, look.coat[0])


def _monkey_tail(pen: Pen, look: Look, swing: float) -> None:
    _curved_tail(pen, look, swing, (35, -30, -45, -60, -60, -50), (0.024,) * 7, look.coat[0])


def _horse_tail(pen: Pen, look: Look, swing: float) -> None:
    _curved_tail(pen, look, swing, (10, 45, 25, 10), (0.03, 0.05, 0.06, 0.05, 0.015), look.coat[2])


def _tuft_tail(pen: Pen, look: Look, swing: float) -> None:
    _curved_tail(pen, look, swing, (30, 25, -30, -30), (0.024,) * 5, look.coat[0])
    pen.limb([-0.3 - 0.19j + polar(0.04, 90 + swing), -0.37 - 0.21j], [0.05, 0.04], look.coat[2])


def _elephant_tail(pen: Pen, look: Look, swing: float) -> None:
    _curved_tail(pen, look, swing, (40, 40), (0.025, 0.02, 0.03), look.coat[2])


def _puff_tail(pen: Pen, look: Look, swing: float) -> None:
    pen.dot(-0.03 - 0.02j, 0.07, look.coat[1], edge=True)


def _curl_tail(pen: Pen, look: Look, swing: float) -> None:
    pen.arc(-0.07 + 0.01j, 0.05, 0, 320, 0.03, look.coat[2])


def _dinosaur_tail(pen: Pen, look: Look, swing: float) -> None:
    for k in range(3):
        pen.polygon([-0.1 * k - 0.02 + 0.06j, -0.1 * k - 0.1 + 0.17j, -0.1 * k - 0.14 + 0.03j], look.coat[2])
    _curved_tail(pen, look, swing * 0.3, (10, 5, -15, -20), (0.16, 0.12, 0.085, 0.05, 0.015), look.coat[0])


_SKINS = (
    ((246, 208, 178), WHITE, BLACK), ((226, 172, 130), WHITE, BLACK),
    ((168, 112, 78), WHITE, BLACK), ((112, 74, 54), WHITE, BLACK),
)  # fmt: skip
_METALS = (
    ((176, 188, 200), (220, 226, 232), (255, 206, 84)), ((120, 168, 196), (214, 226, 232), (255, 150, 90)),
    ((214, 182, 120), (238, 228, 206), (110, 226, 240)), ((196, 120, 112), (236, 220, 216), (150, 240, 160)),
)  # fmt: skip
_DOGS = (
    ((206, 156, 96), (244, 222, 184), (140, 92, 54)), ((240, 234, 222), (252, 248, 240), (120, 82, 58)),
    ((112, 80, 60), (206, 166, 124), (70, 50, 42)), ((84, 82, 90), (226, 222, 220), (48, 46, 54)),
)  # fmt: skip
_CATS = (
    ((238, 158, 82), (252, 230, 204), (196, 104, 48)), ((148, 150, 160), (232, 232, 236), (96, 98, 110)),
    ((92, 84, 90), (228, 222, 222), (54, 48, 56)), ((244, 230, 204), (254, 248, 236), (196, 160, 118)),
)  # fmt: skip
_HORSES = (
    ((150, 94, 58), (216, 178, 140), (66, 44, 38)), ((226, 220, 212), (244, 226, 220), (150, 142, 140)),
    ((92, 66, 54), (170, 130, 108), (40, 34, 36)), ((202, 150, 94), (240, 216, 180), (244, 232, 206)),
)  # fmt: skip
_ELEPHANTS = (
    ((146, 152, 166), (206, 176, 182), (122, 128, 144)), ((128, 130, 136), (190, 162, 162), (106, 108, 116)),
    ((156, 146, 142), (216, 184, 176), (132, 122, 120)),
)  # fmt: skip
_BEARS = (
    ((138, 92, 60), (214, 172, 128), (96, 62, 44)), ((92, 66, 54), (186, 146, 112), (62, 46, 40)),
    ((240, 238, 232), (252, 250, 246), (196, 190, 186)), ((176, 126, 78), (234, 202, 158), (128, 88, 56)),
)  # fmt: skip
_RABBITS = (
    ((236, 232, 230), (252, 250, 250), (190, 180, 178)), ((176, 158, 144), (238, 228, 218), (130, 112, 100)),
    ((150, 148, 156), (234, 232, 236), (108, 106, 114)), ((206, 164, 118), (246, 230, 208), (160, 118, 78)),
)  # fmt: skip
_GIRAFFES = (
    ((244, 204, 112), (252, 234, 190), (170, 104, 54)), ((236, 186, 120), (250, 228, 192), (148, 84, 50)),
)  # fmt: skip
_PENGUINS = (
    ((54, 58, 76), (250, 248, 244), (244, 158, 50)), ((74, 92, 126), (246, 246, 248), (240, 140, 60)),
)  # fmt: skip
_LIONS = (
    ((230, 176, 96), (250, 226, 176), (166, 92, 46)), ((216, 156, 88), (244, 216, 170), (112, 66, 44)),
    ((238, 198, 130), (252, 236, 200), (200, 120, 56)),
)  # fmt: skip
_PIGS = (
    ((246, 178, 178), (252, 206, 204), (228, 138, 146)), ((240, 194, 180), (250, 214, 204), (216, 150, 138)),
    ((226, 156, 164), (244, 190, 196), (196, 112, 126)),
)  # fmt: skip
_DINOSAURS = (
    ((108, 178, 96), (212, 226, 150), (238, 140, 66)), ((86, 160, 156), (204, 230, 206), (236, 190, 80)),
    ((150, 124, 186), (222, 208, 232), (246, 196, 90)), ((196, 120, 86), (240, 210, 164), (112, 76, 110)),
)  # fmt: skip
_MONKEYS = (
    ((136, 90, 60), (240, 204, 164), (92, 60, 44)), ((100, 74, 66), (226, 184, 152), (66, 50, 46)),
    ((192, 130, 76), (248, 220, 180), (132, 84, 50)),
)  # fmt: skip

SUBJECTS: dict[str, Species] = {
    #                 pitch torso chest  hips   neck  thick angle  head  arm   leg   arm r  leg r
    "person": Species(90, 0.28, 0.105, 0.095, 0.06, 0.05, 90, 0.175, 0.34, 0.38, 0.042, 0.052,
        _SKINS, _person, _no_tail, "clothes"),
    "robot": Species(90, 0.27, 0.15, 0.14, 0.05, 0.04, 90, 0.18, 0.36, 0.32, 0.04, 0.045,
        _METALS, _robot, _no_tail, "panel", 1.5),
    "dog": Species(2, 0.42, 0.14, 0.12, 0.10, 0.09, 50, 0.165, 0.28, 0.28, 0.042, 0.048,
        _DOGS, _dog, _dog_tail, "patch"),
    "cat": Species(2, 0.42, 0.115, 0.12, 0.08, 0.08, 48, 0.165, 0.26, 0.26, 0.036, 0.04,
        _CATS, _cat, _cat_tail, "stripes"),
    "horse": Species(3, 0.46, 0.145, 0.15, 0.27, 0.085, 56, 0.135, 0.44, 0.44, 0.036, 0.042,
        _HORSES, _horse, _horse_tail, "plain"),
    "elephant": Species(4, 0.42, 0.22, 0.215, 0.08, 0.14, 28, 0.19, 0.36, 0.36, 0.08, 0.085,
        _ELEPHANTS, _elephant, _elephant_tail, "plain"),
    "bear": Species(4, 0.42, 0.19, 0.205, 0.08, 0.14, 34, 0.18, 0.31, 0.3, 0.075, 0.08,
        _BEARS, _bear, _puff_tail),
    "rabbit": Species(12, 0.26, 0.12, 0.16, 0.06, 0.09, 55, 0.16, 0.24, 0.2, 0.036, 0.055,
        _RABBITS, _rabbit, _puff_tail, "belly", 2.3),
    "giraffe": Species(8, 0.36, 0.135, 0.125, 0.55, 0.06, 72, 0.115, 0.46, 0.43, 0.036, 0.04,
        _GIRAFFES, _giraffe, _tuft_tail, "spots", 1.4),
    "penguin": Species(90, 0.25, 0.16, 0.19, 0.03, 0.12, 90, 0.17, 0.3, 0.23, 0.05, 0.045,
        _PENGUINS, _penguin, _no_tail, "feathers"),
    "lion": Species(3, 0.44, 0.155, 0.13, 0.11, 0.11, 44, 0.165, 0.3, 0.3, 0.05, 0.054,
        _LIONS, _lion, _tuft_tail),
    "pig": Species(2, 0.38, 0.19, 0.2, 0.07, 0.13, 18, 0.165, 0.26, 0.25, 0.045, 0.048,
        _PIGS, _pig, _curl_tail, "plain"),
    "dinosaur": Species(62, 0.32, 0.13, 0.19, 0.10, 0.1, 66, 0.17, 0.22, 0.32, 0.034, 0.08,
        _DINOSAURS, _dinosaur, _dinosaur_tail, "plates"),
    "monkey": Species(84, 0.27, 0.12, 0.13, 0.05, 0.06, 84, 0.175, 0.42, 0.29, 0.038, 0.044,
        _MONKEYS, _monkey, _monkey_tail),
}  # fmt: skip
"""Every subject by name."""
