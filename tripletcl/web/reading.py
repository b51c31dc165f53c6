"""The facts that a photo shows, read by a run's stage."""

from __future__ import annotations

from pathlib import Path

from tripletcl.data import decode_image
from tripletcl.retrieval import ShownFact, describe, describe_photos
from tripletcl.web.galleries import Seen
from tripletcl.web.pictures import checked
from tripletcl.web.shown import ShownRun, load_model


def read_photo(path: Path, shown: ShownRun, stage: int, k: int) -> list[ShownFact]:
    """The k facts of those taught so far that a photo shows best; none before the first task.

    Raises:
        UserError: it is no image, or too large.
    """
    model = load_model(shown.folder(stage))
    pixels = decode_image(checked(path), model.image_size, path.name)
    if not model.facts:
        return []
    return describe_photos(model, [pixels], k, shown.calibration(stage))[0]


def read_seen(seen: Seen, row: int, shown: ShownRun, stage: int, k: int) -> list[ShownFact]:
    """`read_photo` of one that the stage has seen, from its vectors alone."""
    model = shown.model(stage)
    if not model.facts:
        return []
    closed = None
    if seen.closed is not None:
        number = {fact: number for number, fact in enumerate(shown.table.facts)}
        closed = seen.closed[[row]][:, [number[fact] for fact in model.facts]]
    facts, present = model.encode_facts(model.facts)
    vectors = seen.vectors(row)[None]
    return describe(vectors, model.facts, facts, present, k, closed, shown.calibration(stage))[0]
