"""Exact importance and a training step of several processes, as multiples of the time of one.

    python benchmarks/processes.py
    python benchmarks/processes.py --processes 2 --rounds 5

Each process has one thread. One process and several are launched alternately, as `torchrun` launches them, and work on
the same images: EfficientNet-Lite0 with random weights, whole, 96 px. An importance is that of 75 images; a step is one
of MAS over a batch of 32. Inputs are made before, so that nothing is read. Each launch measures both several times and
gives its median; the median over the launches is printed. It needs as many idle cores as processes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from tripletcl import group
from tripletcl.continual import Method, Task, Training
from tripletcl.continual.device import compute_on
from tripletcl.continual.loop import train_step
from tripletcl.continual.optimization import build_optimizer
from tripletcl.continual.task import epoch_batches
from tripletcl.cpu import keep_freed_memory
from tripletcl.data.source import ArraySource
from tripletcl.embedding.classifier import build_classifier
from tripletcl.embedding.object_learner import ObjectLearner
from tripletcl.embedding.spec import ClassifierSpec
from tripletcl.mas import MAS, task_importance

GOALS = {"importance": 0.6, "step": 0.65}
IMAGES, BATCH, SIZE, REPEATS = 75, 32, 96, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="launches of one process, and of several")
    parser.add_argument("--launched", action="store_true", help="for the processes that this program launches")
    options = parser.parse_args()
    if options.launched:
        with group.joined():
            measure()
        return
    launches = [(launch(1), launch(options.processes)) for _ in range(options.rounds)]
    print(f"{options.processes} processes of one thread, medians of {options.rounds} launches each\n")
    print(f"{'':12}{'one':>9}{'several':>10}{'ratio':>8}{'goal':>6}")
    for what, goal in GOALS.items():
        one, several = (statistics.median(pair[side][what] for pair in launches) for side in (0, 1))
        print(f"{what:12}{one:7.3f} s{several:8.3f} s{several / one:8.2f}{goal:6.2f}")


def launch(processes: int) -> dict[str, float]:
    """Run this program in a group of processes; returns seconds by what was measured."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    printed = subprocess.run([*command, __file__, "--launched"], stdout=subprocess.PIPE, text=True, check=True).stdout
    seconds: dict[str, float] = json.loads(printed.splitlines()[-1])
    return seconds


def measure() -> None:
    """Print the seconds of this group, from its first process."""
    torch.set_num_threads(1)
    keep_freed_memory()
    torch.manual_seed(0)
    classes = tuple(f"class {number}" for number in range(100))
    spec = ClassifierSpec("tf_efficientnet_lite0", "none", image_size=SIZE)
    learner = ObjectLearner(build_classifier(spec, {"one": classes}, seed=0))
    labels = np.arange(IMAGES) % len(classes)
    task = Task("random", np.arange(IMAGES), labels, np.arange(len(classes)), importance_items=np.arange(IMAGES))
    learner.begin_task(task)
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 3, SIZE, SIZE), np.uint8)
    source = ArraySource(pixels, SIZE, 3, augment=None, device="cpu")

    def inputs(items: np.ndarray) -> Iterator[Tensor]:
        return (source.batch(items[first : first + BATCH]) for first in range(0, len(items), BATCH))

    method = MAS()
    method.start(learner, inputs)
    method.penalty.update(dict(learner.protected.named_parameters()), task_importance(learner, task, inputs))
    works: dict[str, Callable[[], object]] = {
        "importance": lambda: task_importance(learner, task, inputs),
        "step": stepping(learner, task, method, source),
    }
    seconds = {what: statistics.median(timed(work) for _ in range(REPEATS)) for what, work in works.items()}
    if group.rank() == 0:
        print(json.dumps(seconds))


def stepping(learner: ObjectLearner, task: Task, method: Method, source: ArraySource) -> Callable[[], object]:
    """A step on the first batch of an epoch, of which every process has its rows."""
    compute, training = compute_on("cpu", "float32"), Training(lr=1e-4)  # so small that the weights hardly move
    optimizer = build_optimizer(learner, training)
    learner.train()
    batch = next(epoch_batches(task, source, batch_size=BATCH, seed=(0, 0, 0), start=0, device=torch.device("cpu")))
    return lambda: train_step(learner, batch, method, optimizer, compute, training.lr, training)


def timed(work: Callable[[], object]) -> float:
    """Seconds from when all processes have begun until all have ended."""
    group.wait()
    start = time.perf_counter()
    work()
    group.wait()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
