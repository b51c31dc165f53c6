"""Commands that ask: which photos show a fact, which facts a photo shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tripletcl.cli.options import AsJson, RunArgument, Stage, Top, load_embedder, ready


def query(
    run: RunArgument,
    units: Annotated[list[str], typer.Argument(help="subject predicate object; ? for any; quote or use commas.")],
    k: Top = 10,
    index: Annotated[Path | None, typer.Option(help="Index folder; default RUN/index.")] = None,
    stage: Stage = None,
    as_json: AsJson = False,
) -> None:
    """Find the images that show a fact: `tripletcl query RUN person riding horse`, `... ? riding ?`."""
    ready()
    from tripletcl.retrieval import FactIndex, parse_query, unknown_units

    asked = parse_query(units)
    embedder = load_embedder(run, stage)
    searched = FactIndex.load(index or run / "index", embedder)
    hits = searched.search(asked, k)
    notes = [
        f"{new.text!r} was never trained as a {new.unit}: answered by the text encoder (nearest known: {new.nearest})"
        for new in unknown_units(asked, embedder, embedder.vocabulary)
    ]
    if as_json:
        found = [{"path": str(hit.path), "score": hit.score} for hit in hits]
        print(json.dumps({"query": str(asked), "notes": notes, "hits": found}))
        return
    for note in notes:
        print(note)
    for hit in hits:
        print(f"{hit.score:.3f}  {hit.path}")


def describe(
    run: RunArgument,
    image: Annotated[Path, typer.Argument(help="An image.")],
    k: Top = 5,
    stage: Stage = None,
    as_json: AsJson = False,
) -> None:
    """Name the facts that an image shows, among those the run has learned."""
    ready()
    from tripletcl.retrieval import describe as rank_facts

    embedder = load_embedder(run, stage)
    vectors, present = embedder.encode_facts(embedder.facts)
    ranked = rank_facts(embedder.encode_images([image]), embedder.facts, vectors, present, k)[0]
    if as_json:
        print(json.dumps([{"fact": shown.fact.units, "score": shown.score} for shown in ranked]))
        return
    for shown in ranked:
        print(f"{shown.score:.3f}  {shown.fact}")
