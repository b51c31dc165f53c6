"""What `tripletcl evaluate --unseen` prints."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from tripletcl.errors import UserError


def print_unseen(run: Path, stage: int | None, as_json: bool) -> None:
    """Print how well a stage finds facts that it was never taught, beside those it was and chance.

    Raises:
        UserError: there is no such fact, no such stage, or the run's table is gone.
    """
    from tripletcl.report.formatting import fraction
    from tripletcl.runs.calibrate import stage_unseen
    from tripletcl.runs.stored import FactRun

    opened = FactRun.open(run)
    number = opened.stage(stage)
    scores = stage_unseen(opened, number)
    if as_json:
        print(json.dumps([{"stage": number, **asdict(scores)}]))
        return
    if scores.map_unseen is None or scores.chance is None:
        raise UserError(
            f"no fact with a test image is unseen at stage {number} of {run}: all whose units were taught were taught "
            "themselves; look at an earlier stage, or train with data.unseen"
        )
    _print_table(f"{run}, after task {number}", scores.unseen, scores.taught, scores.map_unseen, scores.map_taught)
    print(f"chance {fraction(scores.chance)}; by vectors alone, over all test images")
    for fact, ap in sorted(scores.ap, key=lambda pair: -pair[1]):
        print(f"{fraction(ap)}  {fact}")


def _print_table(title: str, unseen: int, taught: int, map_unseen: float, map_taught: float | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from tripletcl.report.formatting import fraction

    table = Table("facts", title=title)
    for column in ("how many", "MAP"):
        table.add_column(column, justify="right")
    table.add_row("never taught, of units that were", str(unseen), fraction(map_unseen))
    table.add_row("taught", str(taught), fraction(map_taught))
    Console().print(table)
