"""Draw the predicates that need no object: each function draws one subject doing something.

Figures face right; the finished picture is mirrored at random.
"""

from __future__ import annotations

from dataclasses import replace

from tripletcl.scenes.figure import Figure, Pose, rearing, standing
from tripletcl.scenes.pen import polar
from tripletcl.scenes.stage import SIZES, Stage
from tripletcl.scenes.subjects import Face
from tripletcl.scenes.things import BLACK, BRIGHT


def neutral(stage: Stage) -> None:
    """Standing or walking, for a fact without a predicate."""
    stage.figure(standing(stage.species, stage.rng)).draw(stage.pen)


def sitting(stage: Stage) -> None:
    """On the ground, four-legged ones on their haunches."""
    species, rng = stage.species, stage.rng
    hip = (species.hips * 0.95 + 0.01) * 1j
    pitch = rng.uniform(84, 98) if species.upright else rng.uniform(56, 66)
    shoulder = hip + polar(species.torso, pitch)
    if species.upright:
        feet = (species.leg * 0.93 + 0.05j, species.leg * 0.85 + 0.03j)
        lap = shoulder + polar(species.arm * 0.75, -60)
        hands = (lap + rng.uniform(0, 0.08), lap)
    else:
        feet = (species.leg * 0.55 + 0.0j, species.leg * 0.5 + 0.0j)
        hands = (complex(shoulder.real + 0.08, 0), complex(shoulder.real + 0.02, 0))
    neck = max(species.neck_angle, 70) + rng.uniform(-6, 6)
    pose = Pose(hip, pitch, hands, feet, neck, rng.uniform(-10, 10), rng.uniform(-65, -40))
    stage.figure(pose).draw(stage.pen)


def running(stage: Stage) -> None:
    """Stretched out over the ground, with dust and lines of speed."""
    species, rng = stage.species, stage.rng
    leg, arm = species.leg, species.arm
    hip = complex(0, leg * 0.92 + 0.05)
    pitch = species.pitch - rng.uniform(12, 22) if species.upright else rng.uniform(2, 12)
    shoulder = hip + polar(species.torso, pitch)
    stride = rng.uniform(0.9, 1.1)
    if species.upright:
        feet = (hip + polar(leg * 0.9, -28 * stride), hip + polar(leg * 0.95, -148))
        hands = (shoulder + polar(arm * 0.75, -150), shoulder + polar(arm * 0.75, 5 * stride))
    else:
        feet = (hip + polar(leg * 0.97, -150), hip + polar(leg * 0.97, -138 * stride))
        hands = (shoulder + polar(arm * 0.97, -25), shoulder + polar(arm * 0.97, -42 * stride))
    neck = species.neck_angle - 8
    made = stage.figure(
        Pose(hip, pitch, hands, feet, neck, rng.uniform(-8, 8), -25, face=Face(mouth=rng.random() < 0.5))
    )
    left, _, _, top = stage.extent(made)
    for k in range(3):
        y = top * (0.25 + 0.25 * k)
        stage.strokes([[complex(left - 0.22 - 0.05 * (k % 2), y), complex(left - 0.04, y)]])
    for x, r in ((-0.05, 0.05), (-0.14, 0.035), (-0.2, 0.022)):
        stage.pen.dot(complex(left + x + 0.1, r), r, (236, 228, 214), edge=True)
    made.draw(stage.pen)


def jumping(stage: Stage) -> None:
    """High above its shadow."""
    species, rng = stage.species, stage.rng
    leg, arm, lift = species.leg, species.arm, rng.uniform(0.3, 0.45)
    hip = complex(0, leg + lift)
    pitch = species.pitch + rng.uniform(-10, 6) if species.upright else rng.uniform(22, 36)
    shoulder = hip + polar(species.torso, pitch)
    if species.upright:
        feet = (hip + polar(leg * 0.8, -45), hip + polar(leg * 0.8, -130))
        hands = (shoulder + polar(arm * 0.95, 40), shoulder + polar(arm * 0.95, 140))
    else:
        feet = (hip + polar(leg * 0.9, -120), hip + polar(leg * 0.9, -135))
        hands = (shoulder + polar(arm * 0.85, 5), shoulder + polar(arm * 0.8, -20))
    neck = species.neck_angle + 12
    made = stage.figure(Pose(hip, pitch, hands, feet, neck, rng.uniform(-5, 15), -30, face=Face("wide", True)))
    made.draw(stage.pen)
    for k in (-1, 0, 1):
        stage.strokes([[complex(0.14 * k + 0.05, 0.04 + lift * 0.15), complex(0.14 * k + 0.05, lift * 0.6)]])
    stage.pen.dot(0.05, 0.001, BLACK)  # keeps the ground inside the picture


def sleeping(stage: Stage) -> None:
    """Lying with closed eyes on a pillow."""
    species, rng = stage.species, stage.rng
    lie = species.hips * 0.95j
    if species.upright:
        pitch, hip = rng.uniform(0, 4), -0.1 + lie
        feet = (hip - species.leg * 0.97 - 0.02j, hip - species.leg * 0.9 - 0.04j)
        shoulder = hip + polar(species.torso, pitch)
        hands = (shoulder - 0.2 - 0.06j, shoulder + species.arm * (-0.6 - 0.05j))
    else:
        pitch, hip = rng.uniform(-3, 1), lie
        feet = (complex(0.16, 0.03), complex(0.1, 0.02))
        shoulder = hip + polar(species.torso, pitch)
        hands = (complex(shoulder.real + 0.24, 0.03), complex(shoulder.real + 0.16, 0.02))
    neck = rng.uniform(2, 10) if species.upright else min(species.neck_angle, 14)
    tilt = rng.uniform(24, 40) if species.upright else rng.uniform(-12, 4)
    made = stage.figure(Pose(hip, pitch, hands, feet, neck, tilt, 25, face=Face("closed")))
    pillow = complex(made.head.real, max(made.head.imag - species.head, 0.0) * 0.5)
    stage.pen.limb([pillow - 0.17 + 0.045j, pillow + 0.17 + 0.045j], [0.075, 0.075], rng.choice(BRIGHT))
    made.draw(stage.pen)
    for k, size in enumerate((0.05, 0.07, 0.095)):
        spot = made.head + complex(0.1 + 0.13 * k, species.head + 0.1 + 0.15 * k)
        side = -1 if stage.mirrored else 1
        corners = [
            spot + size * complex(side * z.real, z.imag) for z in (-0.5 + 0.6j, 0.5 + 0.6j, -0.5 - 0.6j, 0.5 - 0.6j)
        ]
        stage.strokes([corners], 0.028)


def swimming(stage: Stage) -> None:
    """Half under water, with splashes."""
    species, rng = stage.species, stage.rng
    hip, pitch = -0.1 + 0j, rng.uniform(14, 26)
    shoulder = hip + polar(species.torso, pitch)
    stroke = rng.choice(((40, -150), (-40, 135), (20, 120)))
    hands = (shoulder + polar(species.arm, stroke[0]), shoulder + polar(species.arm, stroke[1]))
    feet = (hip + polar(species.leg, 190), hip + polar(species.leg, 172))
    neck = max(species.neck_angle - 10, 40) if not species.upright else rng.uniform(50, 66)
    made = Figure(
        species,
        stage.look,
        Pose(hip, pitch, hands, feet, neck, rng.uniform(-4, 8), 10, 1, Face(mouth=rng.random() < 0.3)),
    )
    made.draw(stage.pen)
    stage.water = shoulder.imag - 0.02
    splash = (232, 246, 252)
    for spot in (made.feet[1], made.hands[0]):
        for k in range(4):
            stage.pen.dot(
                complex(spot.real, stage.water) + polar(rng.uniform(0.08, 0.17), 40 + 33 * k),
                rng.uniform(0.014, 0.03),
                splash,
                True,
            )


def dancing(stage: Stage) -> None:
    """One leg kicked up, amid notes."""
    species, rng = stage.species, stage.rng
    far, near = rng.choice(((60, -150), (75, 150), (-35, 140)))
    pose = rearing(species, rng, polar(0.95, far), polar(0.93, near))
    kick = pose.hip + polar(species.leg * 0.92, rng.uniform(-48, -30))
    support = complex(pose.hip.real - 0.03, 0)
    lean = rng.uniform(-12, 12)
    pose = replace(
        pose, feet=(kick, support), pitch=pose.pitch + lean, tilt=rng.uniform(-18, 18), elbow=rng.choice((-1, 1))
    )
    made = stage.figure(replace(pose, face=Face(mouth=True)))
    made.draw(stage.pen)
    left, _, right, top = stage.extent(made)
    for spot in (complex(left - 0.06, top * 0.85), complex(right + 0.06, top * 0.95), complex(right + 0.1, top * 0.55)):
        note, colour = stage.pen.frame(spot, rng.uniform(0.9, 1.2), rng.uniform(-15, 15)), rng.choice(BRIGHT[:8])
        note.line([0.04 + 0.01j, 0.04 + 0.15j, 0.1 + 0.11j], 0.026, colour, edge=True)
        note.oval(0, 0.05, 0.036, colour, 20)


def waving(stage: Stage) -> None:
    """A hand next to the head, perhaps with the object in it."""
    species, rng = stage.species, stage.rng
    side = rng.choice((rng.uniform(8, 22), rng.uniform(134, 150)))  # next to the head, never across the face
    pose = rearing(species, rng, polar(0.9, -115), polar(0.97, side))
    made = stage.figure(replace(pose, face=Face(mouth=rng.random() < 0.6)))
    hand = made.hands[1]
    made.draw_back(stage.pen)
    made.draw_body(stage.pen)
    if stage.thing:
        degrees = rng.uniform(-45, -25) if side < 90 else rng.uniform(-20, 15)
        stage.object(hand, 0.5 if stage.thing == "flag" else 0.42, degrees, shadow=False)
    made.draw_front(stage.pen)
    for start in (-35, 145) if not stage.thing else ():
        spots = [hand + polar(radius, start + angle) for radius in (0.11, 0.17) for angle in (-22, 0, 22)]
        stage.strokes([spots[:3], spots[3:]])


def kicking(stage: Stage) -> None:
    """One leg straight out, perhaps at the object that flies off."""
    species, rng = stage.species, stage.rng
    pose = rearing(species, rng, polar(0.9, 165), polar(0.9, -140))
    foot = pose.hip + polar(species.leg * 0.99, rng.uniform(-12, 14))
    pose = replace(pose, pitch=pose.pitch + rng.uniform(14, 24), feet=(complex(-0.03, 0), foot))
    made = stage.figure(pose)
    made.draw(stage.pen)
    made_foot = made.feet[1] + species.leg_radius * 1.4
    spikes = [made_foot + 0.06 + polar((0.14, 0.065)[k % 2], 36 * k) for k in range(10)]
    stage.pen.polygon(spikes, (255, 222, 90))
    if stage.thing:
        size = SIZES[stage.thing]
        reach = {"balloon": 1.15 - 0.4j, "ball": 0.55 - 0.45j}.get(stage.thing, 0.7 - 0.4j)
        reach = complex(min(reach.real, 0.62), reach.imag)
        stage.object(made_foot + size * reach, size, rng.uniform(-30, 12), shadow=False)
