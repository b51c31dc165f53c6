"""Commands for when the model has moved on: what a stale index is worth, and bringing it to the newest stage."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tripletcl.cli.options import AsJson, RunArgument, Stage, ready

if TYPE_CHECKING:
    from tripletcl.runs.photo_index import IndexUpgraded


def drift(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.")],
    stage: Annotated[
        list[int] | None, typer.Option(help="An index of this stage; may be repeated; default every one but the last.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure anew what has been measured.")] = False,
    as_json: AsJson = False,
) -> None:
    """Measure what an index is worth after more was learned: stale, upgraded, or embedded anew; by fact group."""
    console = ready()
    from tripletcl.cli.progress import progress_bars
    from tripletcl.runs.drift import measure_drift, read_drift

    measured = []
    with progress_bars(console):
        for run in runs:
            known = None if again or stage else read_drift(run)
            measured.append({"run": str(run), **(known or measure_drift(run, stage))})
    if as_json:
        print(json.dumps(measured))
        return
    for found in measured:
        _print_drift(found)


def upgrade(
    run: RunArgument,
    index: Annotated[Path | None, typer.Option("--index", "--out", help="Index folder; default RUN/index.")] = None,
    stage: Stage = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Photos to learn from, no labels needed; default the later tasks' training photos."),
    ] = None,
    keep: Annotated[
        float | None, typer.Option(help="Part of each old vector that stays (0: follow the new model); default 1/3.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring the index to the run's newest stage (or another) without the photos that are in it."""
    console = ready()
    from tripletcl.cli.progress import progress_bars
    from tripletcl.retrieval.upgrade import KEEP
    from tripletcl.runs.photo_index import upgrade_index

    part = KEEP if keep is None else keep
    with progress_bars(console):
        done = upgrade_index(run, index, stage, images, keep=part)
    if as_json:
        print(json.dumps({"index": str(done.index), "from_stage": done.from_stage, **asdict(done.upgraded)}))
    else:
        _print_upgrade(done)


def _print_upgrade(done: IndexUpgraded) -> None:
    from tripletcl.report.formatting import fraction

    up, of = done.upgraded, f"{done.upgraded.photos:,} photos in {done.index}"
    if up.how == "nothing":
        print(f"{of} are of stage {done.stage} already")
        return
    moved = f"{of}: stage {done.from_stage} -> {done.stage}"
    if up.how == "exact":
        print(f"{moved}, exactly, from the features that the index keeps")
        return
    kept = f"; {up.keep:.0%} of each old vector stays" if up.keep else ""
    print(f"{moved} by the map {up.how!r}, learned from {up.learned_from:,} other photos{kept}")
    errors = sorted(up.held_out_error.items(), key=lambda item: item[1])
    listed = ", ".join(f"{name} {fraction(error)}" for name, error in errors)
    print(f"1 - cosine on {up.held_out:,} photos held out: {listed}")


def _print_drift(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from tripletcl.evaluation.compatibility import GROUPS
    from tripletcl.report.formatting import fraction
    from tripletcl.runs.drift import WAYS

    table = Table(title=f"{found['run']}: MAP, asked by the model of stage {found['stages'][-1]}")
    for column in ("index", "map", "facts", *("anew" if way == "reembedded" else way for way in WAYS), "recovered"):
        table.add_column(column, justify="right")
    for up in found["upgrades"]:
        for group in GROUPS:
            maps = [fraction(up["map"].get(way, {}).get(group)) for way in WAYS]
            table.add_row(f"stage {up['from']}", up.get("how", "-"), group, *maps, fraction(up["recovered"][group], 2))
        table.add_section()
    Console().print(table)
    figures = [
        f"{name} {fraction(found[name.lower()][g])} ({g} facts)" for name in ("AC", "AA") for g in ("all", "old")
    ]
    print(f"backward compatibility of the {len(found['stages'])} stages: {', '.join(figures)}")
