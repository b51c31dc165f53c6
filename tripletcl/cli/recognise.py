"""The command that asks a run what objects photos show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tripletcl.cli.options import AsJson, RunArgument, Stage, ready
from tripletcl.errors import UserError

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
    from tripletcl.report.formatting import fraction
    from tripletcl.runs.objects import ObjectRun
    from tripletcl.runs.train import open_run

    found = open_run(run)
    if not isinstance(found, ObjectRun):
        raise UserError(f"{run} learned facts: ask it with `tripletcl describe`")
    predictions = found.classifier(stage).predict(photos, task)
    if as_json:
        said = [{"image": str(photo), **vars(each)} for photo, each in zip(photos, predictions, strict=True)]
        print(json.dumps(said))
        return
    for photo, each in zip(photos, predictions, strict=True):
        likeliest = sorted(each.probabilities.items(), key=lambda entry: -entry[1])[:SHOWN]
        print(f"{photo}: " + ", ".join(f"{label} {fraction(probability, 2)}" for label, probability in likeliest))
