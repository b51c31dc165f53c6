"""The settings of a run, by which its folder is known; without torch, so that a wrong folder is refused at once."""

from __future__ import annotations

from pathlib import Path

from tripletcl.errors import UserError

SETTINGS, EMBEDDER = "config.yaml", "embedder.json"
"""Files by which a run, and the folder of a saved model, are known."""


def run_folders(folder: Path) -> list[Path]:
    """List the run folders directly below a folder, by name."""
    return sorted(path.parent for path in folder.glob(f"*/{SETTINGS}"))


def settings_file(folder: Path) -> Path:
    """Find the settings of a run.

    Raises:
        UserError: the folder holds no run; runs that are directly below it are named.
    """
    path = folder / SETTINGS
    if not path.exists():
        below = [run.name for run in run_folders(folder)]
        hint = f"; there are runs below it: {', '.join(below)}" if below else ""
        raise UserError(f"{folder} is no run folder (it has no {SETTINGS}){hint}")
    return path
