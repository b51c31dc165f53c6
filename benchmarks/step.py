"""A training step with Memory Aware Synapses, as a multiple of one without.

    python benchmarks/step.py --threads 1 --clock cpu

A step is `tripletcl.continual.loop.train_step` of an `ObjectLearner` (a whole trunk, random weights, and a head of 100
classes): forward, backward, the method's hooks, the optimizer. The importance is random; its values do not matter.
The kinds of steps are interleaved on one learner, its optimizer and one batch, after a round that is not counted;
medians are printed. `proximal` and `gradient` are the two forms of the penalty. On a CPU it is float32, on a GPU bf16.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

import interleaved
import numpy as np
import torch
from interleaved import Row

from tripletcl.continual import Batch, Method, Task, Training
from tripletcl.continual.device import compute_on
from tripletcl.continual.loop import train_step
from tripletcl.continual.optimization import build_optimizer
from tripletcl.cpu import keep_freed_memory
from tripletcl.embedding.classifier import build_classifier
from tripletcl.embedding.object_learner import ObjectLearner
from tripletcl.embedding.spec import ClassifierSpec
from tripletcl.mas import MAS

MODELS = {"vgg16": 8, "alexnet": 64, "resnet18": 32, "tf_efficientnet_lite0": 32}
"""Networks, and images of a batch on the CPU: a step takes seconds at 224 pixels."""

GPU_BATCH = 35
"""The published batch of the fact-learning experiment."""

GPU_GOALS = {"alexnet": 1.08}
"""Networks with a goal of their own on a GPU: those with the most parameters for each multiplication."""

CLASSES = tuple(f"class {i}" for i in range(100))


def main() -> None:
    options = parse()
    settings = {"device": options.device, "clock": options.clock, "repeats": options.repeats, "size": options.size}
    models = {name: options.batch or MODELS.get(name, 32) for name in options.model or MODELS}
    measured = rows(
        models if options.model or options.batch else None, optimizers=options.optimizer or ("sgd", "adamw"), **settings
    )
    if options.json:
        print(interleaved.as_json(measured))
        return
    print(f"{interleaved.heading(options)}, medians of {options.repeats}\n")
    print(f"{'step with MAS / without':52}{'ratio':>7}{'without':>12}")
    for row in measured:
        print(f"{row['name']:52}{row['ratio']:6.3f}x{row['seconds']:10.3f} s")


def parse() -> argparse.Namespace:
    parser = interleaved.parser(__doc__, repeats=9)
    parser.add_argument("--model", action="append", help=f"repeatable; default {', '.join(MODELS)}")
    parser.add_argument("--batch", type=int, help="images of a step; default: by the model")
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--optimizer", action="append", choices=("sgd", "adamw"), help="repeatable; default: both")
    return interleaved.parse(parser)


def rows(
    models: dict[str, int] | None = None,
    *,
    device: str = "cpu",
    clock: str = "wall",
    repeats: int = 9,
    size: int = 224,
    optimizers: Sequence[str] = ("sgd", "adamw"),
) -> list[Row]:
    """One row for each model, optimizer and form of the penalty: `name`, `device`, `ratio`, `seconds` (without)."""
    default = MODELS if device == "cpu" else dict.fromkeys(MODELS, GPU_BATCH)
    rows = []
    keep_freed_memory()
    for model, batch in (models or default).items():
        for optimizer in optimizers:
            steps = sides(model, batch, size, optimizer, device)
            seconds = interleaved.time_interleaved(steps, clock, repeats, device)
            for form in ("proximal", "gradient"):
                name = f"{model}, {batch} images, {optimizer}, {form}"
                ratio = interleaved.ratio(seconds[form], seconds["without"])
                without = statistics.median(seconds["without"])
                row = {"name": name, "device": interleaved.device_name(device), "ratio": ratio, "seconds": without}
                own_goal = {"goal": GPU_GOALS[model]} if device != "cpu" and model in GPU_GOALS else {}
                rows.append(row | own_goal)
    return rows


def sides(model: str, images: int, size: int, optimizer_name: str, device: str) -> dict[str, Callable[[], object]]:
    """A plain step, and steps with MAS in both forms of its penalty."""
    compute = compute_on(device, "float32" if device == "cpu" else "bf16")
    spec = ClassifierSpec(model, "none", image_size=size)
    learner = ObjectLearner(build_classifier(spec, {"one": CLASSES, "other": CLASSES}, seed=0)).to(device)
    labels = np.arange(images) % len(CLASSES)
    learner.begin_task(Task("random", np.arange(images), labels, np.arange(len(CLASSES))))
    learner.train()
    batch = Batch(torch.rand(images, 3, size, size).to(device), torch.from_numpy(labels).to(device), labels)
    training = replace(Training(), optimizer=optimizer_name, lr=1e-4)  # so small that the weights hardly move
    optimizer = build_optimizer(learner, training)
    methods = {"without": Method(), "proximal": MAS(), "gradient": MAS(penalty="gradient")}
    parameters = dict(learner.protected.named_parameters())
    omega = {name: torch.rand_like(p) for name, p in parameters.items()}
    for method in methods.values():
        method.start(learner, lambda items: iter(()))
        if isinstance(method, MAS):
            method.penalty.update(parameters, omega)

    def step(method: Method) -> Callable[[], object]:
        return lambda: train_step(learner, batch, method, optimizer, compute, training.lr, training)

    return {name: step(method) for name, method in methods.items()}


if __name__ == "__main__":
    main()
