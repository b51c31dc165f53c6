"""Sets of objects so small that a run takes a blink: marks at ten places, as MNIST files or as folders of images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tripletcl.config import ObjectConfig, parse_config

SIZE = 28
SMALL = {"backbone": "timm/test_efficientnet", "weights": "none", "image_size": 32}
PERCEPTRON = {"backbone": f"mlp/{SIZE * SIZE}-24-16", "weights": "none", "image_size": SIZE}


def marks(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """`count` noisy images of each digit d: a bright bar in row 2 d + 3. uint8 `[10 count, 28, 28]` and labels."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(10), count)
    images = generator.integers(0, 90, (len(labels), SIZE, SIZE))
    images[np.arange(len(labels)), 2 * labels + 3, 4:24] += 150
    order = generator.permutation(len(labels))
    return images[order].astype(np.uint8), labels[order].astype(np.uint8)


def write_mnist(root: Path, train: int = 12, test: int = 6) -> Path:
    """The four files of MNIST, with so many images of each digit."""
    root.mkdir(parents=True, exist_ok=True)
    for number, (split, count) in enumerate({"train": train, "t10k": test}.items()):
        images, labels = marks(count, number)
        header = b"\0\0\x08\x03" + np.array(images.shape, ">i4").tobytes()
        (root / f"{split}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = b"\0\0\x08\x01" + np.array(labels.shape, ">i4").tobytes()
        (root / f"{split}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    return root


def write_folder(root: Path, classes: int, seed: int = 0) -> Path:
    """`train/CLASS/*.png` and `test/CLASS/*.png`: plain colours with noise."""
    generator = np.random.default_rng(seed)
    colours = generator.integers(40, 215, (classes, 3))
    for split, count in {"train": 6, "test": 3}.items():
        for number, colour in enumerate(colours):
            folder = root / split / f"class{number}"
            folder.mkdir(parents=True)
            for image in range(count):
                pixels = np.clip(colour + generator.integers(-20, 20, (40, 40, 3)), 0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{image}.png")
    return root


def split_config(root: Path, method: Any = "finetune", tasks: int = 5, **sections: Any) -> ObjectConfig:
    """Digits dealt to tasks, a head each."""
    values: dict[str, Any] = {
        "learns": "objects",
        "device": "cpu",
        "data": {"sets": [{"set": "mnist", "root": str(root)}], "split": tasks, "augmentation": {"flip": False}},
        "model": PERCEPTRON,
        "training": {"epochs": 3, "batch_size": 8, "lr": 0.05},
        "method": method,
    }
    for section, changes in sections.items():
        values[section] = {**values.get(section, {}), **changes} if isinstance(changes, dict) else changes
    config = parse_config(values, "test")
    assert isinstance(config, ObjectConfig)
    return config


def folders_config(roots: list[Path], method: Any = "finetune", **sections: Any) -> ObjectConfig:
    """Folders of images, each a task with a head of its own."""
    return split_config(
        roots[0],
        method,
        **{
            "data": {"sets": [{"root": str(root)} for root in roots], "split": None, **sections.pop("data", {})},
            "model": {**SMALL, **sections.pop("model", {})},
            **sections,
        },
    )
