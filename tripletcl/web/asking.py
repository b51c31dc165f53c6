"""One request to one run at one stage: the photos found, how many of them are right, and what was never trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from tripletcl.data import UNITS, Fact, FactTable
from tripletcl.evaluation import average_precision
from tripletcl.retrieval import Hit, Query, Request, answer, parse_request, unknown_units
from tripletcl.retrieval.request import Term
from tripletcl.web.galleries import Gallery, Seen
from tripletcl.web.shown import ShownRun, StageModel

Asked = Sequence[str | None]
"""What was typed: three units, or one free line."""


@dataclass(frozen=True)
class Tile:
    """A photo found: its number in the gallery, its score, and is it labelled with what was asked for?"""

    number: int
    score: float
    right: bool | None


@dataclass(frozen=True)
class Found:
    """What a run found at a stage.

    Attributes:
        tiles: Best first.
        ap: Average precision over the whole gallery; None where the truth is not known.
    """

    tiles: list[Tile]
    ap: float | None = None

    @property
    def right(self) -> int:
        """How many of those shown are right."""
        return sum(bool(tile.right) for tile in self.tiles)


def understood(asked: Asked, model: StageModel) -> Request:
    """What was typed, as a request.

    Raises:
        UserError: it asks for nothing, or cannot be read.
    """
    if len(asked) > 1:
        return Request((Term(Query(*asked)),))
    return parse_request(asked[0] or "", model.facts)


def truth(gallery: Gallery, request: Request) -> np.ndarray | None:
    """`[N]` bool, the photos labelled with all that is asked for and nothing that is excluded; None if not known."""
    right = np.ones(len(gallery), dtype=bool)
    for term in request.terms:
        labelled = gallery.labelled(term.wanted) if isinstance(term.wanted, Query) else None
        if labelled is None:
            return None
        right &= ~labelled if term.excluded else labelled
    return right


def ask(gallery: Gallery, shown: ShownRun, stage: int, request: Request, k: int) -> Found | None:
    """The k photos that fit a request best; None where this stage has no vectors of the gallery."""
    seen = gallery.seen(shown, stage)
    if seen is None:
        return None
    right = truth(gallery, request)
    hits = _ranked(seen, shown, stage, request, k if right is None else len(gallery))
    numbers = [gallery.number(hit.path) for hit in hits]
    if right is None:
        return Found([Tile(number, hit.score, None) for number, hit in zip(numbers, hits, strict=True)])
    tiles = [Tile(n, hit.score, bool(right[n])) for n, hit in zip(numbers[:k], hits, strict=False)]
    scores = torch.tensor([hit.score for hit in hits])
    ap = average_precision(scores[:, None], torch.from_numpy(right[numbers])[:, None]).item()
    return Found(tiles, ap if np.isfinite(ap) else None)


def _ranked(seen: Seen, shown: ShownRun, stage: int, request: Request, k: int) -> list[Hit]:
    """The best hits of a request; of one fact with what a read-out adds for it, as where MAP is measured."""
    if len(request.terms) > 1:
        return answer(seen.index, request, k, shown.calibration(stage))
    wanted = request.terms[0].wanted
    fact = next((n for n, fact in enumerate(shown.table.facts) if fact.units == getattr(wanted, "units", None)), None)
    if seen.closed is None or fact is None or fact >= seen.closed.shape[1]:
        return answer(seen.index, request, k)
    added = shown.table.facts[fact].order * seen.closed[:, fact].numpy()
    row = {path: row for row, path in enumerate(seen.index.paths)}
    hits = [Hit(hit.path, hit.score + float(added[row[hit.path]])) for hit in answer(seen.index, request, len(row))]
    return sorted(hits, key=lambda hit: (-hit.score, hit.path))[:k]


def ap_over_stages(gallery: Gallery, shown: ShownRun, request: Request) -> list[float] | None:
    """A request's average precision after each task, `[stages]`; None where the truth is not known."""
    if truth(gallery, request) is None:
        return None
    found = [ask(gallery, shown, stage, request, k=1) for stage in shown.run.stages()]
    return [np.nan if each is None or each.ap is None else each.ap for each in found]


def remarks(shown: ShownRun, stage: int, request: Request) -> list[str]:
    """What a reader should know of a request: words left out, and units that this stage was not taught."""
    said = [f"Left out: {' '.join(request.left_out)}."] if request.left_out else []
    model, later = shown.model(stage), shown.model(shown.last).vocabulary
    if not model.facts:
        return [*said, "Nothing is taught yet: what is found before training is found by chance."]
    for query in (term.wanted for term in request.terms if isinstance(term.wanted, Query)):
        for new in unknown_units(query, model, model.vocabulary):
            comes = new.text in later[UNITS.index(new.unit)]
            when = "comes in a later task as" if comes else "was never trained as"
            nearest = f"; the nearest word it knows is “{new.nearest}”" if new.nearest else ""
            said.append(f"“{new.text}” {when} {_a(new.unit)}: the text encoder answers{nearest}.")
    return list(dict.fromkeys(said))


def _a(unit: str) -> str:
    return f"an {unit}" if unit == "object" else f"a {unit}"


def examples(table: FactTable, groups: Sequence[Sequence[int]]) -> list[Fact]:
    """Of each task the fact with most units and then most test images: a choice that no result can sway."""
    count = np.bincount(table.rows_of("test")[:, 1], minlength=len(table.facts))
    facts = table.facts
    return [facts[max(group, key=lambda fact: (facts[fact].order, count[fact], -fact))] for group in groups]
