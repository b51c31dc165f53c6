"""Draw the predicates that take an object, and name the objects that each takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from tripletcl.scenes.actions import dancing, jumping, kicking, running, sitting, sleeping, swimming, waving
from tripletcl.scenes.figure import Pose, moved, rearing, standing
from tripletcl.scenes.pen import Colour, polar
from tripletcl.scenes.stage import HALVES, SIZES, Stage
from tripletcl.scenes.subjects import Face
from tripletcl.scenes.things import boat, car

BALANCED = {"chair": 0.42, "cake": 0.36, "apple": 0.24, "guitar": 0.42, "umbrella": 0.6}
"""Sizes of the objects balanced on a head, if not 0.32."""


def _riding(stage: Stage) -> None:
    {"bicycle": _riding_bicycle, "skateboard": _riding_skateboard}.get(stage.thing, _riding_inside)(stage)


def _riding_bicycle(stage: Stage) -> None:
    species, rng = stage.species, stage.rng
    size = min(max((species.leg * 1.02 - species.hips * 0.45) / 0.52, 0.5), 0.8)
    hip = complex(-0.22, 0.84) * size + species.hips * 0.75j
    pitch = rng.uniform(58, 68)
    bar, pedal, turn = (0.3 + 0.98j) * size, -0.02 + 0.3j, polar(0.13, rng.uniform(0, 360))
    feet = ((pedal + turn) * size, (pedal - turn) * size)
    neck = max(species.neck_angle, 66)
    made = stage.figure(Pose(hip, pitch, (bar, bar), feet, neck, rng.uniform(-6, 6), 0))
    made.draw_back(stage.pen)
    stage.object(0j, size / rng.uniform(0.98, 1.02))
    made.draw_body(stage.pen)
    made.draw_front(stage.pen)


def _riding_skateboard(stage: Stage) -> None:
    species, rng = stage.species, stage.rng
    deck = 0.15j
    pose = rearing(species, rng, polar(0.95, rng.uniform(-10, 30)), polar(0.95, rng.uniform(160, 200)))
    hip = pose.hip + deck - 0.1j * species.leg / 0.3 * rng.uniform(0.6, 1)
    spread = rng.uniform(0.5, 0.65) * species.leg
    feet = (complex(spread, 0) + deck, complex(-spread, 0) + deck)
    pose = replace(pose, hip=hip, pitch=pose.pitch - rng.uniform(4, 14), feet=feet)
    made = stage.figure(pose)
    stage.object(0j, 0.46)
    made.draw(stage.pen)
    for y in (0.25, 0.45):
        stage.strokes([[complex(-0.62, y), complex(-0.42, y)]])


def _riding_inside(stage: Stage) -> None:
    """In a convertible or a boat: the rider is seen from the waist up."""
    species, rng = stage.species, stage.rng
    size = rng.uniform(0.56, 0.66) if stage.thing == "car" else rng.uniform(0.66, 0.76)
    hip = complex(-0.08 if stage.thing == "car" else 0.1, 0.34 * size)
    pitch = rng.uniform(76, 92)
    wheel = hip + polar(species.torso, pitch) + polar(species.arm * 0.8, -30)
    foot = hip + 0.1
    made = stage.figure(
        Pose(hip, pitch, (wheel, wheel - 0.04), (foot, foot), max(species.neck_angle, 78), rng.uniform(-6, 6), 40)
    )
    state, frame = rng.getstate(), stage.pen.frame(0j, size)
    if stage.thing == "boat":
        boat(stage.pen.frame(-0.22 * size, size), rng, hull=False)
        rng.setstate(state)  # the same colours again
    made.draw_body(stage.pen)
    made.draw_front(stage.pen)
    if stage.thing == "boat":
        boat(frame, rng, sail=False)
        stage.water = 0.13 * size
    else:
        stage.shadow.append((0.0, size))
        car(frame, rng, roof=False)


def _holding(stage: Stage) -> None:
    species, rng, thing = stage.species, stage.rng, stage.thing
    near, far = (polar(0.85, rng.uniform(-32, -14)), polar(0.8, -35))
    if thing == "balloon":
        near = polar(0.95, rng.uniform(-5, 20))
    if thing == "guitar":
        near, far = polar(0.5, -62), polar(0.9, 2)
    made = stage.figure(rearing(species, rng, far, near))
    hand = made.hands[1]
    made.draw_back(stage.pen)
    made.draw_body(stage.pen)
    if thing == "guitar":
        stage.object(hand - 0.1 - 0.13j, 0.46, -62 + rng.uniform(-8, 8), shadow=False)
    elif thing == "umbrella":
        stage.object(hand - 0.04j, max(0.9, (made.top - hand).imag / 0.62), rng.uniform(-4, 10), shadow=False)
    elif thing == "balloon":
        stage.object(hand - 0.03j, 0.55, rng.uniform(-14, 6), shadow=False)
    else:
        size = {"book": 0.3, "apple": 0.22, "cake": 0.36, "ball": 0.34}[thing]
        drop = {"book": 0.12, "apple": 0.03, "cake": 0.0, "ball": 0.17}[thing]
        stage.object(hand + 0.05 - drop * 1j, size, rng.uniform(-6, 6), shadow=False)
    made.draw_front(stage.pen)


def _pushing(stage: Stage) -> None:
    species, rng = stage.species, stage.rng
    pitch = rng.uniform(48, 58)
    hip = complex(0, species.leg * 0.88)
    shoulder = hip + polar(species.torso, pitch)
    reach = shoulder + polar(species.arm * 0.97, -8)
    neck = min(max(species.neck_angle, 50), 72)
    feet = (complex(0.03, 0), complex(-species.leg * 0.75, 0.03))
    made = stage.figure(Pose(hip, pitch, (reach, reach - 0.03j), feet, neck, rng.uniform(-14, 0), 0))
    size = SIZES[stage.thing] * 1.25
    made.draw_back(stage.pen)
    made.draw_body(stage.pen)
    stage.object(complex(made.hands[1].real + HALVES[stage.thing] * size, 0), size)
    made.draw_front(stage.pen)
    for k in (1, 1.35):
        start = complex(shoulder.real - 0.32 - 0.04 * k, 0.1 + hip.imag * k)
        stage.strokes([[start, start - 0.14]])


def _pulling(stage: Stage) -> None:
    species, rng = stage.species, stage.rng
    pose = standing(species, rng)
    if species.upright:
        shoulder = pose.hip + polar(species.torso, 70)
        hands = (shoulder + polar(0.8 * species.arm, -150), shoulder + polar(0.85 * species.arm, -165))
        stride = species.leg * 0.55
        feet = (complex(stride, 0), complex(-stride, 0))
        pose = replace(pose, pitch=pose.pitch - 20, hands=hands, feet=feet, hip=pose.hip * 0.92, neck=pose.neck - 12)
    made = stage.figure(pose)
    grip = made.hands[1] if species.upright else made.pose.hip * 0.35 + made.shoulder * 0.65
    size = SIZES[stage.thing]
    left = stage.extent(made)[0]
    knot = complex(left - 0.12, size * 0.3)
    rope: Colour = (214, 180, 120)
    made.draw_back(stage.pen)
    if species.upright:
        made.draw_body(stage.pen)
    stage.object(complex(knot.real - HALVES[stage.thing] * size, 0), size)
    if not species.upright:
        made.draw_body(stage.pen)
        girth = species.chest * 1.02j
        stage.pen.line([grip + girth, grip - girth], 0.04, rope, edge=True)
    stage.pen.line([grip, (grip + knot) / 2 - 0.03j, knot], 0.03, rope, edge=True)
    stage.pen.dot(knot, 0.03, rope, edge=True)
    made.draw_front(stage.pen)


def _watching(stage: Stage) -> None:
    species, rng = stage.species, stage.rng
    pose = standing(species, rng)
    if rng.random() < 0.5:
        pose = replace(pose, tilt=rng.uniform(4, 14))
    made = stage.figure(replace(pose, face=Face("wide")))
    made.draw(stage.pen)
    right = stage.extent(made)[2]
    size = SIZES[stage.thing] * 1.1
    spot = complex(right + rng.uniform(0.16, 0.3) + 0.55 * size * (1.8 if stage.thing == "car" else 1.2), 0)
    if stage.thing == "balloon":
        spot += rng.uniform(0.15, 0.35) * 1j
    stage.object(spot, size)
    eye = made.head + species.head * 1.75 * polar(1, pose.tilt + 8)
    goal = spot + size * 0.6j
    way = (goal - eye) / abs(goal - eye)
    for k in range(3):
        start = eye + way * (0.02 + 0.07 * k)
        stage.strokes([[start, start + way * 0.03]], 0.02)


def _balancing(stage: Stage) -> None:
    species, rng = stage.species, stage.rng
    pose = standing(species, rng)
    if species.upright:
        shoulder = pose.hip + polar(species.torso, pose.pitch)
        hands = (
            shoulder + polar(species.arm, rng.uniform(-10, 35)),
            shoulder + polar(species.arm, rng.uniform(150, 190)),
        )
        pose = replace(pose, hands=hands)
    made = stage.figure(replace(pose, tilt=rng.uniform(-4, 4)))
    made.draw(stage.pen)
    size = BALANCED.get(stage.thing, 0.32)
    stage.object(made.top, size, rng.uniform(-9, 9), shadow=False)


def _hugging(stage: Stage) -> None:
    species, rng = stage.species, stage.rng
    half = {"tree": 0.1, "ball": 0.22, "box": 0.26, "balloon": 0.1, "guitar": 0.1}[stage.thing]
    size = {"tree": 0.95, "ball": 0.46, "box": 0.48, "balloon": 0.7, "guitar": 0.66}[stage.thing]
    made = stage.figure(rearing(species, rng, polar(0.95, -4), polar(0.95, -14)))
    made = stage.figure(replace(made.pose, tilt=rng.uniform(-14, -4), face=Face("closed"), elbow=1))
    made.draw_back(stage.pen)
    front = made.shoulder.real + species.chest + half * 0.7
    low = 0.0 if stage.thing == "tree" else max(made.shoulder.imag - 0.62 * size, 0.0)
    stage.object(complex(front, low), size, shadow=stage.thing == "tree")
    made.draw_body(stage.pen)
    made.draw_front(stage.pen)
    for k in range(2):
        spot = made.head + complex(-0.12 + 0.2 * k, species.head + 0.12 + 0.1 * k)
        heart, red = stage.pen.frame(spot, rng.uniform(0.05, 0.075), rng.uniform(-15, 15)), (226, 60, 84)
        heart.blob([-1j, 0.9 + 0.1j, 0.75 + 0.85j, 0.35j, -0.75 + 0.85j, -0.9 + 0.1j], red)


def _eating(stage: Stage) -> None:
    species, rng = stage.species, stage.rng
    made = stage.figure(rearing(species, rng, polar(0.6, 10), polar(0.6, 20)))
    target = made.mouth + 0.05 - 0.03j
    made = stage.figure(replace(made.pose, hands=(target, target), face=Face(mouth=True), tilt=-4))
    made.draw_back(stage.pen)
    made.draw_body(stage.pen)
    size = {"apple": 0.22, "cake": 0.3}[stage.thing]
    stage.object(made.mouth + complex(0.1, -0.62 * size), size, rng.uniform(-10, 10), shadow=False)
    made.draw_front(stage.pen)
    for _ in range(6):
        crumb = made.mouth + complex(rng.uniform(0.0, 0.22), rng.uniform(-0.26, -0.02))
        stage.pen.dot(crumb, 0.015, (240, 208, 150), edge=True)


def _standing_on(stage: Stage) -> None:
    species, rng = stage.species, stage.rng
    size = {"box": 0.62, "chair": 0.8, "car": 0.66, "ball": 0.6, "cake": 0.6, "boat": 0.6}[stage.thing]
    high = {"box": 0.9, "chair": 0.55, "car": 0.9, "ball": 0.97, "cake": 0.8, "boat": 0.42}[stage.thing] * size
    pose = rearing(species, rng, polar(0.92, rng.uniform(-60, 30)), polar(0.92, rng.uniform(-160, -110)))
    feet = (0.07 + 0j, -0.07 + 0j)
    made = stage.figure(moved(replace(pose, feet=feet), complex(0.03, high + species.leg_radius * 0.6)))
    stage.shadow.clear()
    stage.object(0j, size / rng.uniform(0.97, 1.03))
    made.draw(stage.pen)


def _hiding(stage: Stage) -> None:
    species, rng = stage.species, stage.rng
    pose = rearing(species, rng, polar(0.8, 20), polar(0.9, -20))
    made = stage.figure(replace(pose, face=Face("wide"), tilt=rng.uniform(-6, 6)))
    made.draw(stage.pen)
    high = {"box": 0.98, "tree": 1.0, "car": 0.9, "cake": 0.9, "boat": 1.0}[stage.thing]
    size = made.shoulder.imag * rng.uniform(0.92, 1.04) / high
    spot = complex(made.shoulder.real + rng.uniform(-0.16, -0.02) - 0.06 * size, 0)
    if stage.thing == "tree":  # taller, and to one side of it
        size = made.top.imag / 1.5
        spot = complex(made.shoulder.real - 0.45 * size, 0)
    stage.object(spot, size)
    for x in (-0.3, 0.4) if stage.thing == "box" else ():  # paws on the rim
        stage.pen.dot(spot + complex(x, 0.97) * size, species.arm_radius * 1.2, stage.look.coat[0], edge=True)


@dataclass(frozen=True)
class Predicate:
    """The drawing function of a predicate, and its possible subjects and objects.

    Attributes:
        alone: True if it can be drawn without an object.
        objects: The objects it takes.
    """

    draw: Callable[[Stage], None]
    alone: bool
    objects: tuple[str, ...] = ()


PREDICATES: dict[str, Predicate] = {
    "sitting": Predicate(sitting, True),
    "running": Predicate(running, True),
    "jumping": Predicate(jumping, True),
    "sleeping": Predicate(sleeping, True),
    "swimming": Predicate(swimming, True),
    "dancing": Predicate(dancing, True),
    "waving": Predicate(waving, True, ("flag", "umbrella")),
    "kicking": Predicate(kicking, True, ("ball", "box", "balloon", "apple", "chair")),
    "riding": Predicate(_riding, False, ("bicycle", "skateboard", "car", "boat")),
    "holding": Predicate(_holding, False, ("umbrella", "balloon", "book", "guitar", "apple", "cake", "ball")),
    "pushing": Predicate(_pushing, False, ("car", "boat", "ball", "box", "chair", "bicycle")),
    "pulling": Predicate(_pulling, False, ("car", "boat", "box", "chair", "skateboard", "bicycle")),
    "watching": Predicate(
        _watching, False, ("tree", "balloon", "car", "book", "flag", "guitar", "skateboard", "cake", "bicycle")
    ),
    "balancing": Predicate(_balancing, False, ("ball", "box", "chair", "cake", "book", "apple", "guitar", "umbrella")),
    "hugging": Predicate(_hugging, False, ("tree", "ball", "box", "balloon", "guitar")),
    "eating": Predicate(_eating, False, ("apple", "cake")),
    "standing on": Predicate(_standing_on, False, ("box", "chair", "car", "ball", "cake", "boat")),
    "hiding behind": Predicate(_hiding, False, ("tree", "box", "car", "cake", "boat")),
}
"""Every predicate by name."""
