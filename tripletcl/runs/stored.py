"""A run on disk, whatever it learned: its settings, its figures, its stages."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import torch
import yaml

from tripletcl.config import Config, dump_config, parse_config
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.runs.layout import METRICS, RESULT, SETTINGS, run_folders, stage_folder, stage_folders, stage_number


@dataclass
class StoredRun:
    """A run on disk: its settings and its stages.

    Attributes:
        path: The folder.
        config: Its settings.
        last_file: The file of a stage's folder that is written last.
    """

    path: Path
    config: Config
    last_file: ClassVar[str]

    @property
    def result(self) -> RunResult | None:
        """The run's figures, or None while it is not finished."""
        path = self.path / RESULT
        return RunResult.from_dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None

    def stages(self) -> Iterator[int]:
        """The stages whose model is there, in order; 0 is the model before training."""
        for folder in stage_folders(self.path):
            if (folder / self.last_file).exists():
                yield stage_number(folder)

    def stage_folder(self, stage: int | None = None) -> Path:
        """The model of a stage; the last one by default.

        Raises:
            UserError: no such stage.
        """
        there = list(self.stages())
        chosen = there[-1] if there and stage is None else stage
        if chosen not in there:
            raise UserError(f"{self.path} has no model of stage {chosen}; there are {there or 'none'}")
        return stage_folder(self.path, chosen)


def started(folder: Path) -> bool:
    """Has anything been computed there?"""
    return (folder / METRICS).exists()


def read_settings(folder: Path) -> Config:
    """The settings of a run, as they were given.

    Raises:
        UserError: the folder holds no run; where runs lie below it, they are named.
    """
    path = folder / SETTINGS
    if not path.exists():
        below = [run.name for run in run_folders(folder)]
        hint = f"; there are runs below it: {', '.join(below)}" if below else ""
        raise UserError(f"{folder} is no run folder (it has no {SETTINGS}){hint}")
    return parse_config(yaml.safe_load(path.read_text(encoding="utf-8")), str(path))


def settings_text(config: Config, folder: Path) -> str:
    """Return the text of the folder's settings if they mean this config, else the config's own text.

    Another version writes the same settings in another way. What `tripletcl compare` runs is no part of a run.
    """
    path = folder / SETTINGS
    same = path.exists() and _single(read_settings(folder)) == _single(config)
    return path.read_text(encoding="utf-8") if same else dump_config(config)


def _single(config: Config) -> Config:
    return config.model_copy(update={"compare": None})


def environment() -> dict[str, str]:
    """Versions and machine, kept with every run."""
    packages = ("tripletcl", "torch", "torchvision", "timm", "transformers", "faiss-cpu", "numpy")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "gpu": device,
    }
