"""Draw one picture of a fact: the figure in a random background and light."""

from __future__ import annotations

import random

from PIL import Image, ImageChops, ImageDraw

from tripletcl.data.facts import Fact
from tripletcl.errors import UserError
from tripletcl.scenes.actions import neutral
from tripletcl.scenes.backdrop import Place, draw_front, draw_place, light_up
from tripletcl.scenes.pen import Pen, bounds, mix, render, shade
from tripletcl.scenes.relations import PREDICATES
from tripletcl.scenes.stage import Stage
from tripletcl.scenes.subjects import SUBJECTS
from tripletcl.scenes.things import WHITE

OVERSAMPLING = 2
"""Everything is drawn larger by this factor and then reduced, which smooths the edges."""


def draw_scene(fact: Fact, size: int = 128, seed: int | random.Random = 0) -> Image.Image:
    """Draw a fact: order 1 in a neutral pose, order 2 in action, order 3 in relation with its object.

    Args:
        fact: A fact of the scenes' vocabulary (`SUBJECTS`, `PREDICATES` and the objects each predicate takes).
        size: Side of the square picture in pixels, at least 32.
        seed: The picture depends only on this seed, or on a generator's state.

    Returns:
        An RGB image.

    Raises:
        UserError: The fact cannot be drawn, or the size is too small.
    """
    _check(fact, size)
    rng = seed if isinstance(seed, random.Random) else random.Random(seed)
    species = SUBJECTS[fact.subject]
    mirrored = rng.random() < 0.5
    stage = Stage(Pen(), rng, species, species.look(rng), fact.object or "", mirrored)
    (PREDICATES[fact.predicate].draw if fact.predicate else neutral)(stage)
    side = size * OVERSAMPLING
    scale, zero = _placement(stage, side)
    floor = zero.imag / side - rng.uniform(0.08, 0.3) * (1 if stage.water is None else 0.7)
    place = draw_place(rng, side, stage.water is not None, min(max(floor, 0.4), 0.8))
    _paint(place, stage, scale, zero)
    draw_front(ImageDraw.Draw(place.image), rng, place, side)
    image = place.image.reduce(OVERSAMPLING)
    if mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return light_up(image, rng, place.light)


def _check(fact: Fact, size: int) -> None:
    if size < 32:
        raise UserError(f"a scene of {size} pixels is too small to draw; at least 32 are needed")
    if fact.subject not in SUBJECTS:
        raise UserError(f"no scene shows the subject {fact.subject!r}; there are {', '.join(SUBJECTS)}")
    if fact.predicate is None:
        return
    if fact.predicate not in PREDICATES:
        raise UserError(f"no scene shows the predicate {fact.predicate!r}; there are {', '.join(PREDICATES)}")
    predicate = PREDICATES[fact.predicate]
    allowed = predicate.objects + ((None,) if predicate.alone else ())
    if fact.object not in allowed:
        names = ", ".join(name or "no object" for name in allowed)
        raise UserError(f"no scene shows {fact}; {fact.predicate!r} goes with {names}")


def _placement(stage: Stage, side: int) -> tuple[float, complex]:
    """Pixels a world unit, and the pixel of world 0: the figure fills a random share of the frame, wholly inside it."""
    left, bottom, right, top = bounds(stage.pen.marks)
    rng, longest = stage.rng, max(right - left, top - bottom)
    share = rng.uniform(0.62, 0.94) if stage.thing else rng.uniform(0.42, 0.85)
    scale = share * side / longest
    margin = 0.03 * side
    x = rng.uniform(margin, side - margin - scale * (right - left)) - scale * left
    lowest = side - margin
    highest = max(0.66 * side, scale * (top - bottom) + margin)
    return scale, complex(x, rng.uniform(min(highest, lowest), lowest) + scale * bottom)


def _paint(place: Place, stage: Stage, scale: float, zero: complex) -> None:
    """Shadows, the figure with a shaded rim, and the water before it."""
    image, side = place.image, place.image.width
    veil = Image.new("L", image.size)
    if stage.water is None:
        pencil = ImageDraw.Draw(veil)
        for x, half in stage.shadow:
            a, r = zero.real + scale * x, scale * half
            pencil.ellipse((a - r, zero.imag - r * 0.17, a + r, zero.imag + r * 0.2), 90)
        image.paste(shade(place.front, 0.3), mask=veil)
    layer = Image.new("RGBA", image.size)
    render(ImageDraw.Draw(layer), stage.pen.marks, scale, zero, side / 150)
    body = layer.getchannel("A")
    image.paste(layer, mask=body)
    step = max(2, side // 50)
    rim = ImageChops.subtract(body, ImageChops.offset(body, -step, -step))
    image.paste((40, 30, 70), mask=rim.point(lambda v: v * 0.28))
    if stage.water is not None:
        _flood(place, stage, zero.imag - scale * stage.water)


def _flood(place: Place, stage: Stage, surface: float) -> None:
    """Blend the parts below the water's surface with the water."""
    image, side, rng = place.image, place.image.width, stage.rng
    wave = [(x, surface + (3 if k % 2 else -2) * side / 256) for k, x in enumerate(range(0, side + 15, side // 18))]
    veil = Image.new("L", image.size)
    ImageDraw.Draw(veil).polygon([(0, side), *wave, (side + 20, side)], rng.randrange(190, 235))
    image.paste(shade(place.front, 0.95), mask=veil)
    draw = ImageDraw.Draw(image)
    draw.line(wave, mix(place.front, WHITE, 0.55), max(2, side // 100))
    for _ in range(8):
        x, y, r = rng.uniform(0, side), rng.uniform(surface, side), rng.uniform(0.03, 0.07) * side
        draw.arc((x - r, y - r * 0.4, x + r, y + r * 0.4), 200, 340, mix(place.front, WHITE, 0.35), max(1, side // 128))
