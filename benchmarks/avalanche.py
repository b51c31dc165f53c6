"""Split MNIST under MAS, by Avalanche and by tripletcl: the whole run, from the files of MNIST to the last accuracy.

    TRIPLETCL_DATA=... python benchmarks/avalanche.py --python PATH --epochs 2 --repeats 1 --clock cpu

PATH is an interpreter with `avalanche-lib`; without it the comparison is skipped. Each side is a process of its own
and does the same work: five tasks of two digits, the task known; an MLP 784-256-256 with a head for each task;
SGD with learning rate .01 and momentum .9, batches of 200, lambda 1; after each task importance on its training images
and the accuracy of every task so far. Avalanche runs as its tutorials show: its SplitMNIST, its MAS strategy, its
accuracy metric, no logger; an evaluation batch of 500. tripletcl runs as `tripletcl train split_mnist` does,
checkpoints and run folder included.

They do not compute the same. tripletcl: importance is the mean of |d ||F(x)||^2 / d theta| over single images, the
model in eval mode; tasks' importances are summed, the penalty is applied by a proximal step. Avalanche: |the gradient
of a batch's mean norm|, averaged over batches, in train mode, in which images of a batch cancel; the importance of the
past and of the new task are averaged half and half; the penalty's gradient is added to the loss's.

With `--plugin` a third side is Avalanche with `tripletcl.plugins.avalanche.ExactMASPlugin` in place of its own, where
the interpreter has both; importance, penalty and arguments are then those of its documentation.

Columns, in seconds of the clock: `run` after the imports, `whole` with start-up and imports; then the mean
accuracy after the last task, and forgetting.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = [[1, 2], [3, 4], [5, 6], [7, 8], [9, 0]]
"""The classes of each task, as in configs/split_mnist.yaml."""

FILES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
BATCH, EVALUATION_BATCH, RATE, MOMENTUM, LAM, HIDDEN = 200, 500, 0.01, 0.9, 1.0, 256
GOAL, PLUGIN_GOAL = 3.0, 1.0
PLUGIN = "Avalanche, our plugin"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    options = parse()
    if options.side is not None:
        print(json.dumps(SIDES[options.side](options.mnist, options.scratch, options.epochs, options.seed)))
        return
    reason = missing(options.python)
    if reason:
        print(f"avalanche: skipped, {reason}", file=sys.stderr if options.json else sys.stdout)
        return
    sides = ("Avalanche", PLUGIN) if options.plugin else ("tripletcl", "Avalanche")
    figures = measure(options.python, options.epochs, options.repeats, sides)
    if options.json:
        for row in as_rows(figures, options.clock):
            print(json.dumps(row))
        return
    print(f"split MNIST, five tasks, {options.epochs} epochs, {options.clock} clock, median of {options.repeats}\n")
    print(f"{'':22}{'run s':>8}{'whole s':>9}{'accuracy':>10}{'forgetting':>12}")
    for side, row in figures.items():
        print(f"{side:22}{row['run'][options.clock]:8.1f}{row['whole'][options.clock]:9.1f}", end="")
        print(f"{row['accuracy']:10.3f}{row['forgetting']:12.4f}")
    for row in as_rows(figures, options.clock):
        print(f"{row['name']}: {row['ratio']:.2f} (goal {row['goal']:g})")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="an interpreter with avalanche-lib")
    parser.add_argument("--plugin", action="store_true", help="compare Avalanche with our plugin and with its own")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    for name, of in (("--side", str), ("--mnist", Path), ("--scratch", Path)):
        parser.add_argument(name, type=of, help=argparse.SUPPRESS)
    return parser.parse_args()


def rows(
    device: str = "cpu", clock: str = "wall", quick: bool = False, python: str = sys.executable
) -> list[dict[str, Any]]:
    """name, device, ratio (theirs / ours), goal, direction; quick is one epoch.

    Raises:
        LookupError: Avalanche or MNIST is not there, or another device than the CPU is asked for.
    """
    reason = "both sides run on the CPU" if device != "cpu" else missing(python)
    if reason:
        raise LookupError(reason)
    return as_rows(measure(python, 1 if quick else 2, 1), clock)


def missing(python: str) -> str | None:
    """Why nothing can be measured, or None."""
    if mnist_folder() is None:
        return "set TRIPLETCL_DATA to a folder whose mnist/ holds the four files of MNIST"
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('avalanche') is None)"
    if subprocess.run([python, "-P", "-c", look], check=False).returncode:
        return f"{python} has no avalanche-lib: name an interpreter that has it, by --python"
    return None


def mnist_folder() -> Path | None:
    folder = Path(os.environ.get("TRIPLETCL_DATA", ""), "mnist")
    there = all((folder / name).exists() or (folder / f"{name}.gz").exists() for name in FILES)
    return folder.absolute() if there else None


def measure(
    python: str, epochs: int, repeats: int, sides: tuple[str, ...] = ("tripletcl", "Avalanche")
) -> dict[str, dict[str, Any]]:
    """The figures of each side; the sides are interleaved, times are medians."""
    folder = mnist_folder()
    assert folder is not None
    repeated: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    with tempfile.TemporaryDirectory() as scratch:
        unpacked = unpack(folder, Path(scratch, "MNIST", "raw"))  # where torchvision reads them
        for repeat in range(repeats):
            for side, figures in repeated.items():
                own = Path(scratch, f"{side}{repeat}")
                interpreter = sys.executable if side == "tripletcl" else python
                figures.append(run_side(side, interpreter, unpacked, own, epochs))
    return {side: medians(figures) for side, figures in repeated.items()}


def unpack(folder: Path, raw: Path) -> Path:
    """The files of MNIST, uncompressed, in `raw`."""
    raw.mkdir(parents=True)
    for name in FILES:
        packed = folder / f"{name}.gz"
        content = gzip.decompress(packed.read_bytes()) if packed.exists() else (folder / name).read_bytes()
        (raw / name).write_bytes(content)
    return raw


def run_side(side: str, python: str, mnist: Path, scratch: Path, epochs: int) -> dict[str, Any]:
    scratch.mkdir()
    arguments = ["--side", side, "--mnist", str(mnist), "--scratch", str(scratch), "--epochs", str(epochs)]
    start = time.perf_counter()
    done = subprocess.run(  # -P: this file is called avalanche, too
        [python, "-P", "-W", "ignore", str(Path(__file__).absolute()), *arguments], check=True, stdout=subprocess.PIPE
    )
    seconds = time.perf_counter() - start
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    figures["whole"]["wall"] = seconds
    return figures


def medians(repeated: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures of a side, with the medians of its times."""
    times = {
        span: {clock: statistics.median(figures[span][clock] for figures in repeated) for clock in CLOCKS}
        for span in ("run", "whole")
    }
    return {**repeated[0], **times}


def as_rows(figures: dict[str, dict[str, Any]], clock: str) -> list[dict[str, Any]]:
    theirs = figures["Avalanche"]
    common = {"device": "cpu", "goal": GOAL, "direction": "at least"}
    if PLUGIN in figures:
        ratio = figures[PLUGIN]["whole"][clock] / theirs["whole"][clock]
        name = "Avalanche's split MNIST with our plugin / with its own, whole run"
        return [{"name": name, **common, "goal": PLUGIN_GOAL, "direction": "at most", "ratio": ratio}]
    ours = figures["tripletcl"]
    return [
        {"name": name, **common, "ratio": theirs[span][clock] / ours[span][clock]}
        for name, span in (
            ("Avalanche's MAS on split MNIST / ours, whole run", "whole"),
            ("Avalanche's MAS on split MNIST / ours, without imports", "run"),
        )
    ]


def timed(run: Callable[[], list[list[float]]]) -> dict[str, Any]:
    """The figures of a side; `run` returns the accuracies of the tasks so far, after each task."""
    starts = {name: clock() for name, clock in CLOCKS.items()}
    accuracies = run()
    seconds = {name: clock() - starts[name] for name, clock in CLOCKS.items()}
    last = accuracies[-1]
    best = [max(stage[task] for stage in accuracies[:-1] if task < len(stage)) for task in range(len(last) - 1)]
    return {
        "run": seconds,
        "whole": {"cpu": time.process_time()},
        "accuracy": statistics.mean(last),
        "forgetting": statistics.mean(np.subtract(best, last[:-1]).tolist()),
    }


def by_tripletcl(mnist: Path, scratch: Path, epochs: int, seed: int) -> dict[str, Any]:
    from tripletcl.cli import IDLE_THREADS

    os.environ.update(IDLE_THREADS)  # as the command does, before torch is imported
    from tripletcl.config import load_config
    from tripletcl.cpu import keep_freed_memory
    from tripletcl.runs.train import train

    keep_freed_memory()

    def run() -> list[list[float]]:
        training = {"epochs": epochs, "head_epochs": 0, "batch_size": BATCH, "lr": RATE, "momentum": MOMENTUM}
        changes = [f"training.{key}={value}" for key, value in training.items()]
        changes += [f"method={{name: mas, lam: {LAM}}}", f"seed={seed}"]
        os.environ["TRIPLETCL_DATA"] = str(scratch)
        (scratch / "mnist").symlink_to(mnist)
        result = train(
            load_config(Path(__file__).parents[1] / "configs" / "split_mnist.yaml", changes), scratch / "run"
        )
        return [[score for score in stage if score is not None] for stage in result.matrix[1:]]

    return timed(run)


def by_avalanche(mnist: Path, scratch: Path, epochs: int, seed: int, exact: bool = False) -> dict[str, Any]:
    import torch
    from avalanche.benchmarks.classic import SplitMNIST
    from avalanche.evaluation.metrics import accuracy_metrics
    from avalanche.models import MultiHeadClassifier, MultiTaskModule
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import MAS, Naive
    from torch import Tensor, nn

    class MLP(MultiTaskModule):
        def __init__(self) -> None:
            super().__init__()
            layers = [nn.Flatten(), nn.Linear(784, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU()]
            self.features = nn.Sequential(*layers)
            self.classifier = MultiHeadClassifier(HIDDEN, initial_out_features=2)

        def forward(self, x: Tensor, task_labels: Tensor) -> Tensor:
            return self.classifier(self.features(x), task_labels)

    def run() -> list[list[float]]:
        torch.manual_seed(seed)
        benchmark = SplitMNIST(
            len(CLASSES),
            return_task_id=True,
            fixed_class_order=[name for task in CLASSES for name in task],
            class_ids_from_zero_in_each_exp=True,
            dataset_root=mnist.parents[1],
        )
        model = MLP()
        if exact:
            from tripletcl.plugins.avalanche import ExactMASPlugin

            kind, method = Naive, {"plugins": [ExactMASPlugin(LAM)]}
        else:
            kind, method = MAS, {"lambda_reg": LAM}
        strategy = kind(
            model=model,
            optimizer=torch.optim.SGD(model.parameters(), lr=RATE, momentum=MOMENTUM),
            criterion=nn.CrossEntropyLoss(),
            **method,
            train_mb_size=BATCH,
            train_epochs=epochs,
            eval_mb_size=EVALUATION_BATCH,
            evaluator=EvaluationPlugin(accuracy_metrics(experience=True), loggers=[]),
        )
        accuracies = []
        for task, experience in enumerate(benchmark.train_stream):
            strategy.train(experience)
            metrics = strategy.eval(benchmark.test_stream[: task + 1])
            named = {int(key[-3:]): value for key, value in metrics.items() if key.startswith("Top1_Acc_Exp")}
            accuracies.append([named[number] for number in range(task + 1)])
        return accuracies

    return timed(run)


SIDES = {"tripletcl": by_tripletcl, "Avalanche": by_avalanche, PLUGIN: partial(by_avalanche, exact=True)}


if __name__ == "__main__":
    main()
