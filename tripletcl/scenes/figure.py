"""One jointed body for every subject: a pose places hips, hands and feet, and the limbs follow.

On two legs or on four, a body is hips, torso, shoulders, neck, head, tail and four limbs of two bones; only the torso's
pitch and the proportions differ. So a horse can stand up and ride a bicycle.
"""

from __future__ import annotations

import cmath
import random
from dataclasses import dataclass, field

from tripletcl.scenes.pen import Colour, Pen, mix, polar, shade
from tripletcl.scenes.subjects import Face, Look, Species
from tripletcl.scenes.things import BLACK, STEEL


@dataclass
class Pose:
    """The places of a body's parts, in world units (the ground at height 0) and degrees.

    Attributes:
        pitch: Direction from hips to shoulders.
        hands, feet: Targets of the (far, near) limbs; one out of reach is approached as far as the limb goes.
        neck: Direction from shoulders to head.
        tilt: Turn of the head about its centre.
        elbow: 1 or -1, the side to which the arms bend.
    """

    hip: complex
    pitch: float
    hands: tuple[complex, complex]
    feet: tuple[complex, complex]
    neck: float
    tilt: float = 0.0
    swing: float = 0.0
    elbow: int = -1
    face: Face = field(default_factory=Face)


class Figure:
    """A subject in a pose: its anchor points, and its drawing from back to front.

    Attributes:
        shoulder, head, top, mouth: Places a relation may refer to.
        hands, feet: Where the (far, near) limbs really end.
    """

    def __init__(self, species: Species, look: Look, pose: Pose) -> None:
        self.species, self.look, self.pose = species, look, pose
        self.shoulder = pose.hip + polar(species.torso, pose.pitch)
        self.head = self.shoulder + polar(species.neck + species.chest * 0.4 + species.head * 0.6, pose.neck)
        self.top = self.head + polar(species.head * species.crown, 90 + pose.tilt)
        self.mouth = self.head + species.head * polar(1.0, pose.tilt - 35)
        arms = [_two_bones(self.shoulder, hand, species.arm, pose.elbow) for hand in pose.hands]
        legs = [_two_bones(pose.hip, foot, species.leg, 1) for foot in pose.feet]
        self._arms, self._legs = arms, legs
        self.hands, self.feet = (arms[0][2], arms[1][2]), (legs[0][2], legs[1][2])

    def draw_back(self, pen: Pen) -> None:
        """Tail and the far limbs."""
        back = self.pose.hip - polar(self.species.hips * 0.75, self.pose.pitch) + polar(0.04, self.pose.pitch + 90)
        lean = min(self.pose.pitch, 25)  # a body that stands upright still has its tail behind it
        self.species.draw_tail(pen.frame(back, 1, lean), self.look, self.pose.swing)
        self._leg(pen, 0, 0.8)
        self._arm(pen, 0, 0.8)

    def draw_body(self, pen: Pen) -> None:
        """The near leg, torso, neck and head."""
        species, pose, look = self.species, self.pose, self.look
        erect = pose.pitch > 68
        if erect:
            self._leg(pen, 1, 1.0)
        self._torso(pen)
        if not erect:
            self._leg(pen, 1, 1.0)
        self._neck(pen)
        species.draw_head(pen.frame(self.head, species.head, pose.tilt), look, pose.face)

    def draw_front(self, pen: Pen) -> None:
        """The near arm."""
        self._arm(pen, 1, 1.0)

    def draw(self, pen: Pen) -> None:
        """The whole figure."""
        self.draw_back(pen)
        self.draw_body(pen)
        self.draw_front(pen)

    def _leg(self, pen: Pen, side: int, light: float) -> None:
        thick, leg = self.species.leg_radius, self._legs[side]
        skin, foot = self._limb_colours(legs=True)
        pen.limb(leg, [thick * 1.25, thick, thick * 0.85], shade(skin, light))
        pen.limb([leg[2], leg[2] + thick * 0.9], [thick * 0.95, thick * 0.85], shade(foot, light))

    def _arm(self, pen: Pen, side: int, light: float) -> None:
        thick, arm = self.species.arm_radius, self._arms[side]
        skin, hand = self._limb_colours(legs=False)
        pen.limb(arm, [thick * 1.15, thick, thick * 0.85], shade(skin, light * 0.97))
        pen.dot(arm[2], thick * 1.1, shade(hand, light), edge=True)
        if self.species.marks == "panel":
            pen.dot(arm[1], thick * 1.2, shade(STEEL, light), edge=True)

    def _limb_colours(self, legs: bool) -> tuple[Colour, Colour]:
        look, marks = self.look, self.species.marks
        coat, light, dark = look.coat
        if marks == "clothes":
            return (look.trousers, mix(look.hair, BLACK, 0.4)) if legs else (look.shirt, coat)
        if marks == "panel":
            return shade(coat, 0.85), light if legs else coat
        if marks == "feathers":
            return (dark, dark) if legs else (coat, coat)
        hoofed = marks in ("spots", "plain")
        return coat, dark if hoofed else mix(coat, light, 0.5)

    def _torso(self, pen: Pen) -> None:
        species, pose = self.species, self.pose
        coat, light, dark = self.look.coat
        body = pen.frame(pose.hip, 1, pose.pitch)  # hips at 0, shoulders at +torso, the back on +j
        length, hips, chest = species.torso, species.hips, species.chest
        if species.marks == "panel":
            wide = chest * 0.98 * 1j
            body.polygon([-0.08 - wide, length + 0.06 - wide, length + 0.06 + wide, -0.08 + wide], coat)
            body.polygon(
                [0.05 - wide * 0.7, length - 0.02 - wide * 0.7, length - 0.02 + wide * 0.4, 0.05 + wide * 0.4],
                light,
                False,
            )
            body.dot(length * 0.7 - wide * 0.35, 0.035, dark)
            body.dot(length * 0.35 - wide * 0.35, 0.03, (220, 90, 80))
            return
        fill = self.look.shirt if species.marks == "clothes" else coat
        if species.marks == "plates":
            for k in range(3):
                spot = length * (0.1 + 0.4 * k) + (hips + (chest - hips) * 0.4 * k) * 1j
                body.polygon([spot - 0.07 - 0.03j, spot + 0.08j - 0.02, spot + 0.07 - 0.03j], dark)
        body.limb([0, length], [hips, chest], fill)
        self._markings(body, fill)

    def _markings(self, body: Pen, fill: Colour) -> None:
        species = self.species
        _, light, dark = self.look.coat
        length, hips, chest = species.torso, species.hips, species.chest
        if species.marks == "clothes":
            body.limb([-0.01, 0.02], [hips * 0.99, hips * 0.98], self.look.trousers, edge=False)
            body.line([0.08 + hips * 0.95j, 0.08 - hips * 0.95j], 0.03, shade(self.look.trousers, 0.7))
        elif species.marks in ("belly", "plates", "feathers"):
            body.limb([-hips * 0.3j, length * 0.85 - chest * 0.35j], [hips * 0.68, chest * 0.6], light, edge=False)
        elif species.marks == "patch":
            body.oval(length * 0.3 + hips * 0.25j, 0.1, 0.07, dark, 10, edge=False)
            body.dot(length * 0.85 - chest * 0.5j, chest * 0.45, light)
        elif species.marks == "stripes":
            for k in range(4):
                x = length * (0.05 + 0.25 * k)
                body.line([x + hips * 0.92j, x - 0.02 + hips * 0.25j], 0.028, dark)
        elif species.marks == "spots":
            for k, y in enumerate((0.35, -0.45, 0.5, -0.3, 0.4)):
                body.oval(length * 0.26 * k - 0.03 + hips * y * 1j, 0.05, 0.042, dark, 30 * k, edge=False)

    def _neck(self, pen: Pen) -> None:
        species, look = self.species, self.look
        coat, _, dark = look.coat
        fill = STEEL if species.marks == "panel" else coat
        base = species.chest * 0.75 if not species.upright else species.neck_radius
        base = min(base, species.neck_radius * 1.9)
        pen.limb([self.shoulder, self.head], [base, species.neck_radius], fill, edge=species.neck > 0.02)
        along = self.head - self.shoulder
        side = 1j * along / abs(along)
        if species.neck > 0.2:  # a long neck carries mane or spots
            for k in range(1, 6):
                spot = self.shoulder + along * k / 6
                if species.marks == "spots":
                    pen.oval(spot + side * 0.02 * (-1) ** k, 0.036, 0.03, dark, 40 * k, edge=False)
                else:
                    pen.dot(spot + side * (base + (species.neck_radius - base) * k / 6), 0.055, dark)
        if look.scarf is not None and species.marks != "panel":
            spot = self.shoulder + along * (0.45 if species.neck > 0.2 else 0.5)
            wide = side * species.neck_radius * 1.25
            pen.line([spot + wide, spot - wide], 0.06, look.scarf, edge=True)
            pen.limb([spot - wide * 0.5, spot - wide * 0.6 - 0.13j], [0.025, 0.04], look.scarf)


def _two_bones(root: complex, target: complex, length: float, side: int) -> list[complex]:
    """[root, joint, end] of two equal bones that reach for the target and bend to their left (1) or right (-1)."""
    reach = target - root
    if reach == 0:
        reach = -1e-6j
    reach *= min(1.0, 0.995 * length / abs(reach))
    rise = max((length / 2) ** 2 - abs(reach / 2) ** 2, 0.0) ** 0.5
    joint = root + reach / 2 + side * 1j * cmath.rect(rise, cmath.phase(reach))
    return [root, joint, root + reach]


def standing(species: Species, rng: random.Random) -> Pose:
    """The way the species stands or walks, on two or four legs."""
    step = rng.uniform(0.02, 0.09)
    hip = species.leg * 0.97j
    feet = (complex(step + 0.01, 0), complex(-step, 0)) if rng.random() < 0.5 else (complex(-step, 0), complex(step, 0))
    pitch = species.pitch + rng.uniform(-4, 4)
    shoulder = hip + polar(species.torso, pitch)
    if species.upright:
        hands = tuple(shoulder + polar(species.arm * 0.92, -90 + rng.uniform(-30, 40)) for _ in range(2))
    else:
        reach = rng.uniform(0.01, 0.08)
        hands = (complex(shoulder.real - reach, 0), complex(shoulder.real + reach, 0))
    neck = species.neck_angle + rng.uniform(-8, 8)
    return Pose(hip, pitch, (hands[0], hands[1]), feet, neck, rng.uniform(-10, 10), rng.uniform(-20, 20))


def rearing(species: Species, rng: random.Random, far: complex, near: complex) -> Pose:
    """Upright on the hind legs, hands at these places relative to the shoulders in units of the arm's length."""
    hip = species.leg * 0.97j
    pitch = (min(species.pitch, 90) if species.upright else 76) + rng.uniform(-4, 4)
    pitch = max(pitch, 72)
    shoulder = hip + polar(species.torso, pitch)
    step = rng.uniform(0.04, 0.1)
    hands = (shoulder + far * species.arm, shoulder + near * species.arm)
    neck = max(species.neck_angle, 78) + rng.uniform(-5, 5)
    return Pose(
        hip, pitch, hands, (complex(step, 0), complex(-step, 0)), neck, rng.uniform(-8, 8), rng.uniform(-20, 20)
    )


def moved(pose: Pose, by: complex) -> Pose:
    """Move the pose."""
    return Pose(
        pose.hip + by, pose.pitch, (pose.hands[0] + by, pose.hands[1] + by), (pose.feet[0] + by, pose.feet[1] + by),
        pose.neck, pose.tilt, pose.swing, pose.elbow, pose.face,
    )  # fmt: skip
