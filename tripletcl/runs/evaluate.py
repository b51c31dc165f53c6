"""Evaluates a stored stage of a run again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tripletcl.methods import method_name
from tripletcl.runs.kinds import KINDS, open_run


def evaluate(path: Path, stage: int | None = None) -> dict[str, Any]:
    """Compute the outputs for the test images again with the model of a stage, and score them.

    Test images that are missing by now are left out, unless the run has cached their features.

    Args:
        path: The run.
        stage: By default the latest.

    Returns:
        method, seed, stage, split and tasks, then the fields of `StageScores` for facts, or accuracy_tasks and
        average_accuracy for objects. Of a finished run also its forgetting and its training seconds, which belong to
        the run and not to the stage; else None.

    Raises:
        UserError: there is no run or no such stage, or its table or sets are missing.
    """
    run = open_run(path)
    number, finished = run.stage(stage), run.result
    return {
        "method": method_name(run.settings.method),
        "seed": run.settings.seed,
        "stage": number,
        **KINDS[run.learns].evaluate(run, number),
        "forgetting": finished.forgetting if finished else None,
        "seconds": finished.seconds if finished else None,
    }
