"""Two tiny tasks learned by three methods, with names that would break a page that does not escape them."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from evil_names import EVIL_PHOTO, EVIL_WORD

from tripletcl.config import load_config
from tripletcl.runs.train import train
from tripletcl.scenes import write_scenes
from tripletcl.web.state import AppState, open_state

SETTINGS = {
    "model.image_size": 64,
    "model.freeze_until": "blocks4",
    "data.tasks": 2,
    "data.cache_features": "true",
    "training.epochs": 2,
    "training.batch_size": 8,
    "device": "cpu",
}

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def chromium() -> str:
    """A browser; Debian's is installed where that is possible."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], capture_output=True, check=False, timeout=300)
        path = shutil.which("chromium")
    if path is None:
        pytest.skip("no Chromium here, and none could be installed")
    return path


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of drawn scenes; the first test image and one subject have evil names."""
    folder = tmp_path_factory.mktemp("scenes")
    table = write_scenes(folder / "drawn", size=64, facts=12, train=6, test=2, seed=0)
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    first = next(row for row in rows if row["split"] == "test")
    renamed = {first["image"]: str(Path(first["image"]).with_name(EVIL_PHOTO))}
    (table.parent / first["image"]).rename(table.parent / renamed[first["image"]])
    subject = rows[0]["subject"]
    for row in rows:
        row["image"] = renamed.get(row["image"], row["image"])
        row["subject"] = EVIL_WORD if row["subject"] == subject else row["subject"]
    with (table.parent / "evil.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table.parent / "evil.csv"


@pytest.fixture(scope="session")
def runs(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a comparison: finetune, mas and joint."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPLETCL_CACHE", str(folder / "cache"))
        for method in ("finetune", "mas", "joint"):
            learn(scenes, folder / f"{method}-split0-seed0", method=method)
        learn(scenes, folder / "elsewhere" / "analytic", method="analytic", **{"model.freeze_until": "head"})
        yield folder


def learn(table: Path, folder: Path, **changes: object) -> None:
    """Train a run."""
    words = [f"{key}={value}" for key, value in {**SETTINGS, "data.table": table, **changes}.items()]
    train(load_config("demo", words), folder)


@pytest.fixture(scope="session")
def state(runs: Path) -> AppState:
    """The state of the page of the run by MAS."""
    return open_state(runs / "mas-split0-seed0")
