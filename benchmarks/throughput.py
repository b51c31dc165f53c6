"""Training images a second, as a multiple of those of a loop written by hand.

    python benchmarks/throughput.py --threads 1 --clock cpu

Both sides train the same network (random weights) on the same JPEGs of 500 x 375 pixels, the same batches, epochs,
and optimizer (SGD with momentum), with random crops and mirror images:

- plain: `torchvision.datasets.ImageFolder`, `RandomResizedCrop` and `RandomHorizontalFlip` of torchvision's transforms,
  a `DataLoader` with workers that persist through all epochs, and the lines of PyTorch's tutorial;
- ours: `tripletcl.continual.loop.train_task` in a process that keeps freed memory, as a run does. The image cache is
  rebuilt each time and counted.

Rows: both in float32; both in bfloat16, by autocast, which is a setting here (`precision: bf16`) and three words in a
loop written by hand; and ours in bfloat16 against the plain loop in float32, as most are written.

`frozen until STAGE`: the stages up to there are not trained, on either side; ours computes them once
(`data.cache_features`, counted, too), where the only augmentation is the mirror image. Batch normalisation is in eval
mode on both sides. Sides are interleaved, each in a process of its own, whose start and imports are not counted; the
clock cpu counts the processor time of the process and of its workers.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import interleaved
import numpy as np
import torch
from interleaved import Row
from PIL import Image
from torch import nn
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from tripletcl.continual import Method, Position, Task, Training
from tripletcl.continual.device import compute_on
from tripletcl.continual.loop import train_task
from tripletcl.continual.optimization import build_optimizer
from tripletcl.cpu import keep_freed_memory
from tripletcl.data.augment import Augment
from tripletcl.data.cache import ImageCache
from tripletcl.data.source import ImageSource
from tripletcl.embedding.backbones import build_backbone
from tripletcl.embedding.classifier import build_classifier
from tripletcl.embedding.features import FeatureSource
from tripletcl.embedding.object_learner import ObjectLearner
from tripletcl.embedding.spec import ClassifierSpec

CASES: tuple[tuple[str, str | None], ...] = (
    ("tf_efficientnet_lite0", None),
    ("resnet18", None),
    ("alexnet", None),
    ("tf_efficientnet_lite0", "blocks4"),
)
"""Networks, and their last stage that is frozen."""

CLASSES, WIDTH, HEIGHT = 8, 500, 375


@dataclass(frozen=True)
class Work:
    """The task of both sides."""

    model: str
    freeze_until: str | None
    folder: str
    """A folder of images for each class."""
    size: int
    batch: int
    epochs: int
    workers: int
    device: str
    precision: str = "float32"


ROWS = {"float32": ("plain", "ours"), "bf16": ("plain, bf16", "ours, bf16"), "bf16 / float32": ("plain", "ours, bf16")}
"""Names of rows, and the sides that are compared."""


def main() -> None:
    options = parse()
    cases = [case for case in CASES if options.model in (None, case[0])] or [(options.model, None)]
    if options.side is not None:
        print(run_side(options.side, Work(**json.loads(options.work)), options.clock))
        return
    keys = ("device", "clock", "repeats", "images", "size", "batch", "epochs", "workers")
    measured = rows(cases, **{key: getattr(options, key) for key in keys})
    if options.json:
        print(interleaved.as_json(measured))
        return
    print(f"{interleaved.heading(options)}, medians of {options.repeats}")
    print(f"{options.images} images, {options.epochs} epochs, batches of {options.batch}, {options.workers} workers\n")
    print(f"{'images a second, ours / plain':58}{'ratio':>7}{'plain':>10}{'ours':>10}")
    for row in measured:
        print(f"{row['name']:58}{row['ratio']:6.2f}x{row['plain']:8.1f}/s{row['ours']:8.1f}/s")


def parse() -> argparse.Namespace:
    parser = interleaved.parser(__doc__, repeats=3)
    parser.add_argument("--model", help="a network of torchvision or timm; default: those of CASES")
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--size", type=int, default=128, help="pixels a side that the network sees")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=8, help="of a task; tripletcl's own default")
    parser.add_argument("--workers", type=int, default=2, help="of the DataLoader")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    return interleaved.parse(parser)


def rows(
    cases: Any = CASES,
    *,
    device: str = "cpu",
    clock: str = "wall",
    repeats: int = 3,
    images: int = 192,
    size: int = 128,
    batch: int = 32,
    epochs: int = 8,
    workers: int = 2,
) -> list[Row]:
    """One row for each network: `name`, `device`, `ratio`, and images a second of `plain` and `ours`."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        draw_photographs(Path(folder), images)
        for model, freeze_until in cases:
            work = Work(model, freeze_until, folder, size, batch, epochs, workers, device)
            seconds: interleaved.Seconds = {side: [] for side in SIDES}
            for _ in range(repeats):
                for side in SIDES:
                    seconds[side].append(seconds_of_side(side, work, clock))
            case = f"{model}, {size} px, " + (f"frozen until {freeze_until}" if freeze_until else "all trained")
            for precisions, (theirs, ours) in ROWS.items():
                ratio = interleaved.ratio(seconds[theirs], seconds[ours])
                speeds = [images * epochs / statistics.median(seconds[side]) for side in (theirs, ours)]
                row = {"name": f"{case}, {precisions}", "device": interleaved.device_name(device), "ratio": ratio}
                rows.append(row | dict(zip(("plain", "ours"), speeds, strict=True)))
    return rows


def seconds_of_side(side: str, work: Work, clock: str) -> float:
    """Run a side in a process of its own; only ours is to keep freed memory."""
    command = [sys.executable, __file__, "--side", side, "--work", json.dumps(asdict(work)), "--clock", clock]
    command += ["--threads", str(torch.get_num_threads())]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def run_side(side: str, work: Work, clock: str) -> float:
    """The seconds that a side takes in this process."""
    train, precision = SIDES[side]
    start = interleaved.read_clock(clock, work.device)
    train(replace(work, precision=precision))
    return interleaved.read_clock(clock, work.device) - start


def draw_photographs(folder: Path, count: int) -> None:
    """Smooth random images with some noise; as JPEGs they are as large as photographs of that size, 60 to 80 kB."""
    generator = np.random.default_rng(0)
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        fine = np.asarray(coarse.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), dtype=np.float32)
        fine = fine + generator.normal(0, 10, fine.shape)
        place = folder / f"class {number % CLASSES}"
        place.mkdir(exist_ok=True)
        Image.fromarray(fine.clip(0, 255).astype(np.uint8)).save(place / f"{number}.jpg", quality=90)


def plain(work: Work) -> None:
    """The loop that one would write by hand."""
    torch.manual_seed(0)
    backbone = build_backbone(work.model, "none")
    transform = [
        v2.RandomResizedCrop(work.size, scale=(0.5, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(backbone.mean, backbone.std),
    ]
    loader = torch.utils.data.DataLoader(
        ImageFolder(work.folder, v2.Compose(transform)),
        work.batch,
        shuffle=True,
        num_workers=work.workers,
        persistent_workers=work.workers > 0,
        pin_memory=work.device == "cuda",
    )
    network = nn.Sequential(backbone.stages, nn.Linear(backbone.width, CLASSES)).to(work.device).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    if work.freeze_until is not None:
        frozen = backbone.stage_names.index(work.freeze_until) + 1
        backbone.stages[:frozen].requires_grad_(False)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.001, momentum=0.9)
    loss_function = nn.CrossEntropyLoss()
    autocast = torch.autocast(work.device, torch.bfloat16, enabled=work.precision == "bf16")
    for _ in range(work.epochs):
        for images, labels in loader:
            images, labels = images.to(work.device, non_blocking=True), labels.to(work.device, non_blocking=True)
            optimizer.zero_grad()
            with autocast:
                loss = loss_function(network(images), labels)
            loss.backward()
            optimizer.step()


def ours(work: Work) -> None:
    """One task of a sequence, its caches included."""
    keep_freed_memory()
    spec = ClassifierSpec(work.model, "none", freeze_until=work.freeze_until, image_size=work.size)
    classifier = build_classifier(spec, {"head": [f"class {i}" for i in range(CLASSES)]}, seed=0).to(work.device)
    files = ImageFolder(work.folder).samples
    with tempfile.TemporaryDirectory() as folder:
        cache = ImageCache.open([path for path, _ in files], work.size, folder)
        source: Any = ImageSource(cache, Augment(flip=True, crop=(0.5, 1.0), jitter=0), work.device)
        if work.freeze_until is not None:
            source = FeatureSource.open(source, classifier.trunk, Path(folder))
        learner = ObjectLearner(classifier, from_features=work.freeze_until is not None)
        ids, labels = np.arange(len(files)), np.array([label for _, label in files])
        task = Task("all", ids, labels, np.arange(CLASSES))
        training = Training(epochs=work.epochs, lr=0.001, batch_size=work.batch)
        learner.begin_task(task)
        train_task(
            learner,
            task,
            Method(),
            source,
            build_optimizer(learner, training),
            training,
            compute_on(work.device, work.precision),
            seed=0,
            start=Position(),
            on_check=lambda position, loss: None,
            save=lambda position: None,
        )


SIDES = {
    "plain": (plain, "float32"),
    "ours": (ours, "float32"),
    "plain, bf16": (plain, "bf16"),
    "ours, bf16": (ours, "bf16"),
}
"""Both loops in both precisions."""


if __name__ == "__main__":
    main()
