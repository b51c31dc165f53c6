"""The command that asks a run what objects photos show."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from tripletcl.cli.options import AsJson, RunArgument, Stage, ready

SHOWN = 3
"""Classes of each photo that are printed."""


def recognise(
    run: RunArgument,
    photos: Annotated[list[Path], typer.Argument(help="Image files.")],
    task: Annotated[str | None, typer.Option(help="The task that is asked; needed where each has its head.")] = None,
    stage: Stage = None,
    as_json: AsJson = False,
) -> None:
    """Say which of a task's classes photos show, and how probably."""
    ready()
    from tripletcl.data.images import decode_image, decode_readable
    from tripletcl.report.formatting import fraction
    from tripletcl.runs.stored import ObjectRun

    classifier, unreadable = ObjectRun.open(run).classifier(stage), dict[Path, str]()
    decoded = dict(decode_readable(photos, partial(decode_image, size=classifier.spec.image_size), unreadable))
    predictions = dict(zip(decoded, classifier.predict(list(decoded.values()), task), strict=True))
    if as_json:
        entries = [vars(predictions[p]) if p in predictions else {"error": unreadable[p]} for p in photos]
        print(json.dumps([{"image": str(photo), **entry} for photo, entry in zip(photos, entries, strict=True)]))
        return
    for photo in photos:
        if photo in unreadable:
            print(f"{photo}: {unreadable[photo]}")
            continue
        likeliest = sorted(predictions[photo].probabilities.items(), key=lambda entry: -entry[1])[:SHOWN]
        print(f"{photo}: " + ", ".join(f"{label} {fraction(probability, 2)}" for label, probability in likeliest))
