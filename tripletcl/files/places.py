"""Places of files: the folder of what can be computed again, and the stages of a run."""

from __future__ import annotations

import os
from pathlib import Path

STAGES = "stages"
"""The folder of a run's models."""


def cache_folder() -> Path:
    """Return the folder of decoded images, features and drawn scenes: `TRIPLETCL_CACHE`, or `~/.cache/tripletcl`."""
    return Path(os.environ.get("TRIPLETCL_CACHE") or Path.home() / ".cache" / "tripletcl")


def stage_folder(run: Path, stage: int) -> Path:
    """Return the folder of the model after task `stage` (0 = before training)."""
    return run / STAGES / f"stage-{stage:02d}"


def stage_number(folder: Path) -> int:
    """Return the stage that a folder belongs to."""
    return int(folder.name.removeprefix("stage-"))


def stage_folders(run: Path) -> list[Path]:
    """List the folders of stages in the order of their numbers: as text, `stage-100` comes before `stage-11`."""
    return sorted((run / STAGES).glob("stage-*"), key=stage_number)
