"""Photos, tables and settings of runs that take a second: colours and a random network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tripletcl.config import FactConfig, parse_config

COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 200, 40),
    "blue": (30, 40, 220),
    "yellow": (230, 220, 30),
    "purple": (150, 30, 170),
    "cyan": (20, 210, 220),
}
WIDTH = 16
MAS = {"name": "mas", "lam": 3}
ANALYTIC = {"name": "analytic", "features": 320}


def workplace(folder: Path) -> Path:
    """Write word vectors and a table of four colours to a folder."""
    words = [*COLOURS, "lying", "standing", "floor"]
    vectors = np.random.default_rng(0).normal(size=(len(words), WIDTH)).round(4)
    lines = [" ".join([word, *map(str, vector)]) for word, vector in zip(words, vectors, strict=True)]
    (folder / "words.txt").write_text("\n".join(lines) + "\n")
    table(folder, "base", ["red", "green", "blue", "yellow"])
    return folder


def photo(path: Path, colour: str, seed: int) -> Path:
    """Write a noisy photo of one colour."""
    noise = np.random.default_rng([seed, *colour.encode()]).normal(0, 45, (32, 32, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((np.array(COLOURS[colour]) + noise).clip(0, 255).astype(np.uint8)).save(path)
    return path


def photos(folder: Path, colour: str, count: int) -> list[Path]:
    """Write photos of one colour."""
    return [photo(folder / f"{colour}-{number}.png", colour, 1000 + number) for number in range(count)]


def table(folder: Path, name: str, colours: Sequence[str], train: int = 6, test: int = 3) -> Path:
    """Write photos of some colours and their table: a fact per colour, alternately of two and of three units."""
    rows = ["image,subject,predicate,object,split"]
    for place, colour in enumerate(colours):
        units = f"{colour},{('lying', 'standing')[place % 2]},{'floor' if place % 3 else ''}"
        for number in range(train + test):
            image = f"{name}/{colour}-{number}.png"
            photo(folder / image, colour, sum(map(ord, name)) * 100 + number)
            rows.append(f"{image},{units},{'train' if number < train else 'test'}")
    path = folder / f"{name}.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def settings(folder: Path, method: Any = MAS, training: dict[str, Any] | None = None, **data: Any) -> FactConfig:
    """Return a config of a tiny network and two tasks."""
    values = {
        "device": "cpu",
        "data": {"table": str(folder / "base.csv"), "tasks": 2, "cache_features": True, **data},
        "model": {
            "backbone": "timm/test_efficientnet",
            "weights": "none",
            "freeze_until": "blocks0",
            "text": str(folder / "words.txt"),
            "width": WIDTH,
            "image_size": 32,
        },
        "loss": {"name": "wildcard_cosine"},
        "training": {"epochs": 2, "batch_size": 4, "lr": 0.02, "checkpoint_minutes": 0, **(training or {})},
        "method": method,
    }
    return parse_config(values, "test")


def contents(folder: Path, *parts: str) -> dict[str, bytes]:
    """Read all files below some parts of a folder, by their name."""
    files = [file for part in parts for file in [folder / part, *sorted((folder / part).rglob("*"))] if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def models(run: Path) -> dict[str, bytes]:
    """Read the model of every stage."""
    return {name: raw for name, raw in contents(run, "stages").items() if name.endswith("model.safetensors")}
