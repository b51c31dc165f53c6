"""A request to one run at one stage: the photos found, which of them are right, and the facts that a photo shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from tripletcl.data import UNITS, decode_image
from tripletcl.embedding import TextEmbedder
from tripletcl.evaluation import average_precision
from tripletcl.retrieval import (
    Hit,
    Query,
    Request,
    ShownFact,
    answer,
    describe,
    describe_photos,
    parse_request,
    unknown_units,
)
from tripletcl.retrieval.request import Term, with_article
from tripletcl.web.galleries import EmbeddedPhotos, Gallery
from tripletcl.web.run_view import RunView, load_model


@dataclass(frozen=True)
class Tile:
    """A photo that a search found.

    Attributes:
        number: Its number in the gallery.
        score: The score of the request.
        right: True if it is labelled with what was asked for; None where the labels do not tell.
    """

    number: int
    score: float
    right: bool | None


@dataclass(frozen=True)
class Answer:
    """The photos that a run finds at a stage.

    Attributes:
        tiles: Best first.
        ap: Average precision over the whole gallery; None where the labels do not tell.
    """

    tiles: list[Tile]
    ap: float | None = None

    @property
    def right(self) -> int:
        """The number of tiles that are right."""
        return sum(bool(tile.right) for tile in self.tiles)


def read_request(typed: Sequence[str | None], model: TextEmbedder) -> Request:
    """Read what was typed: three units, or one free line.

    Raises:
        UserError: it asks for nothing, or cannot be read.
    """
    if len(typed) == len(UNITS):
        return Request((Term(Query(*typed)),))
    return parse_request(" ".join(filter(None, typed)), model.facts)


def relevance(gallery: Gallery, request: Request) -> np.ndarray | None:
    """`[N]` bool, the photos labelled with all that is asked for and nothing that is excluded; None if not known."""
    relevant = np.ones(len(gallery), dtype=bool)
    for term in request.terms:
        labelled = gallery.labelled(term.wanted) if isinstance(term.wanted, Query) else None
        if labelled is None:
            return None
        relevant &= ~labelled if term.excluded else labelled
    return relevant


def search(gallery: Gallery, view: RunView, stage: int, request: Request, k: int) -> Answer | None:
    """Find the k photos that fit a request best; None where this stage has no vectors of the gallery."""
    photos = gallery.embedded(view, stage)
    if photos is None:
        return None
    relevant = relevance(gallery, request)
    hits = _ranked(photos, view, stage, request, k if relevant is None else len(gallery))
    numbers = [gallery.number(hit.path) for hit in hits]
    if relevant is None:
        return Answer([Tile(number, hit.score, None) for number, hit in zip(numbers, hits, strict=True)])
    known = ~np.any([gallery.unknown(term.wanted) for term in request.terms if isinstance(term.wanted, Query)], axis=0)
    rights = [bool(relevant[n]) if known[n] else None for n in numbers[:k]]
    tiles = [Tile(n, hit.score, right) for n, hit, right in zip(numbers, hits, rights, strict=False)]
    ranked = [(hit.score, n) for n, hit in zip(numbers, hits, strict=True) if known[n]]
    scores, rows = torch.tensor([score for score, _ in ranked]), [n for _, n in ranked]
    ap = average_precision(scores[:, None], torch.from_numpy(relevant[rows])[:, None]).item()
    return Answer(tiles, ap if np.isfinite(ap) else None)


def _ranked(photos: EmbeddedPhotos, view: RunView, stage: int, request: Request, k: int) -> list[Hit]:
    """The best hits of a request; a closed readout adds its scores of a fact that it knows, as in the measured MAP."""
    if len(request.terms) > 1:
        return answer(photos.index, request, k, view.calibration(stage))
    wanted = request.terms[0].wanted
    fact = next((n for n, fact in enumerate(view.table.facts) if fact.units == getattr(wanted, "units", None)), None)
    if photos.closed is None or fact is None or fact >= photos.closed.shape[1]:
        return answer(photos.index, request, k)
    added = view.table.facts[fact].order * photos.closed[:, fact].numpy()
    row = {path: row for row, path in enumerate(photos.index.paths)}
    hits = [Hit(hit.path, hit.score + float(added[row[hit.path]])) for hit in answer(photos.index, request, len(row))]
    return sorted(hits, key=lambda hit: (-hit.score, hit.path))[:k]


def ap_by_stage(gallery: Gallery, view: RunView, request: Request) -> list[float] | None:
    """A request's average precision after each task, `[stages]`; None where the labels do not tell."""
    if relevance(gallery, request) is None:
        return None
    answers = [search(gallery, view, stage, request, k=1) for stage in view.stages]
    return [np.nan if each is None or each.ap is None else each.ap for each in answers]


def remarks(view: RunView, stage: int, request: Request) -> list[str]:
    """Remarks on a request for its reader: words left out, and units that this stage was not taught."""
    sentences = [f"Left out: {' '.join(request.left_out)}."] if request.left_out else []
    model, later = view.model(stage), view.model(view.last).vocabulary
    if not model.facts:
        return [*sentences, "Nothing is taught yet: what is found before training is found by chance."]
    for query in (term.wanted for term in request.terms if isinstance(term.wanted, Query)):
        for unit in unknown_units(query, model, model.vocabulary):
            is_later = unit.text in later[UNITS.index(unit.unit)]
            when = "comes in a later task as" if is_later else "was never trained as"
            nearest = f"; the nearest word it knows is “{unit.nearest}”" if unit.nearest else ""
            sentences.append(f"“{unit.text}” {when} {with_article(unit.unit)}: the text encoder answers{nearest}.")
    return list(dict.fromkeys(sentences))


# --- the facts of a photo --------------------------------------------------------------------------------------------


def facts_in_file(path: Path, view: RunView, stage: int, k: int) -> list[ShownFact]:
    """The k facts of those taught so far that a photo shows best; none before the first task.

    Raises:
        UserError: it is no image, or too large.
    """
    model = load_model(view.folder(stage))
    pixels = decode_image(path, model.image_size, path.name)
    if not model.facts:
        return []
    return describe_photos(model, [pixels], k, view.calibration(stage))[0]


def facts_in_row(photos: EmbeddedPhotos, row: int, view: RunView, stage: int, k: int) -> list[ShownFact]:
    """As `facts_in_file`, of a photo in a gallery, from its vectors only."""
    model = view.model(stage)
    if not model.facts:
        return []
    closed = None
    if photos.closed is not None:
        number = {fact: number for number, fact in enumerate(view.table.facts)}
        closed = photos.closed[[row]][:, [number[fact] for fact in model.facts]]
    facts, present = map(torch.from_numpy, model.encode_facts(model.facts))
    vectors = photos.vectors(row)[None]  # [1, 3, D]
    return describe(vectors, model.facts, facts, present, k, closed, view.calibration(stage))[0]
