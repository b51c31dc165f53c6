"""The stage that a predicate is drawn on: a pen, an individual, and the object's usual size."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from tripletcl.scenes.figure import Figure, Pose
from tripletcl.scenes.pen import Colour, Pen, bounds
from tripletcl.scenes.subjects import Look, Species
from tripletcl.scenes.things import THINGS, WHITE

SIZES = {
    "bicycle": 0.75, "skateboard": 0.42, "car": 0.62, "boat": 0.52, "ball": 0.36, "box": 0.46, "chair": 0.52,
    "tree": 0.85, "umbrella": 0.62, "balloon": 0.55, "apple": 0.28, "cake": 0.44, "book": 0.4,
    "guitar": 0.55, "flag": 0.75,
}  # fmt: skip
"""Size of each object's unit relative to a subject about 1 high."""

HALVES = {"bicycle": 0.75, "skateboard": 0.9, "car": 1.0, "boat": 0.7, "ball": 0.46, "box": 0.55, "chair": 0.4}
"""Half the width of the objects that are pushed or pulled, in their own units."""


@dataclass
class Stage:
    """The stage that a predicate's function draws on.

    Attributes:
        thing: The object, or "" if there is none.
        mirrored: True if the finished picture will be mirrored; letters are then drawn mirrored.
        water: Height of the water's surface if the scene is at sea, else None.
        shadow: Places on the ground (x, half width) where a shadow falls.
    """

    pen: Pen
    rng: random.Random
    species: Species
    look: Look
    thing: str = ""
    mirrored: bool = False
    water: float | None = None
    shadow: list[tuple[float, float]] = field(default_factory=list)

    def figure(self, pose: Pose) -> Figure:
        """The subject in this pose, with its shadow below."""
        made = Figure(self.species, self.look, pose)
        middle = (pose.hip + made.shoulder).real / 2
        self.shadow.append((middle, abs((made.shoulder - pose.hip).real) / 2 + self.species.hips * 1.3))
        return made

    def object(self, at: complex, size: float | None = None, degrees: float = 0.0, shadow: bool = True) -> None:
        """Draw the object at this place; size None is its usual size."""
        scale = (SIZES[self.thing] if size is None else size) * self.rng.uniform(0.9, 1.1)
        if shadow:
            self.shadow.append((at.real, 0.5 * scale))
        THINGS[self.thing](self.pen.frame(at, scale, degrees), self.rng)

    def extent(self, figure: Figure) -> tuple[float, float, float, float]:
        """The box (left, bottom, right, top) that the figure will fill."""
        trial = Pen()
        figure.draw(trial)
        return bounds(trial.marks)

    def strokes(self, lines: list[list[complex]], width: float = 0.017, colour: Colour = WHITE) -> None:
        """Comic strokes that show a motion."""
        for line in lines:
            self.pen.line(line, width, colour, edge=True)
