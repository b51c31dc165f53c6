"""Cases that several processes compute together: `torchrun together.py FOLDER RUN STEPS` runs all of them in one group.

Each case returns a nested dict of tensors; a process alone computes the same, the slow and obviously right twin.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from toy import MultiHeadToy, ToyLearner, ToySource, multi_head_tasks, run_toy, toy_tasks

from tripletcl import group
from tripletcl.continual import Method, Stability, Task, Training
from tripletcl.continual.loop import Diverged
from tripletcl.continual.task import plain_batches
from tripletcl.data import Augment, Fact
from tripletcl.data.source import ALL, ArraySource
from tripletcl.embedding.classifier import build_classifier
from tripletcl.embedding.fact_learner import FactLearner
from tripletcl.embedding.object_learner import ObjectLearner
from tripletcl.embedding.spec import ClassifierSpec, EmbedderSpec
from tripletcl.embedding.text import TextBranch
from tripletcl.errors import UserError
from tripletcl.experiments.inputs import Joined
from tripletcl.mas import importance, task_importance
from tripletcl.mas.importance import SCALARS
from tripletcl.methods import build_method

Case = Callable[[Path], Any]

TRAINING = Training(epochs=4, batch_size=7, lr=0.05, clip_norm=1.0, checkpoint_minutes=1000)
"""Eight steps a task of eight items: batches of seven and of one, so that of three processes two have no row."""


class DoubleSource(ToySource):
    """The toy's inputs in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs = self.inputs.double()


def without_dropout(learner: nn.Module) -> nn.Module:
    """In float64, and nothing drawn at random: dropout's numbers depend on how many rows a process has."""
    for module in learner.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return learner.double()


def few(tasks: list[Task], count: int = 8) -> list[Task]:
    """The first two tasks with so many items, one of them without importance items for a third process."""
    return [
        replace(
            task,
            items=task.items[:count],
            targets=task.targets[:count].astype(np.float64 if task.targets.dtype == np.float32 else np.int64),
            importance_items=task.items[: 5 - 3 * number],
            validation_items=task.items[-10:],
            validation_targets=task.targets[-10:],
        )
        for number, task in enumerate(tasks[:2])
    ]


# --- whole sequences in float64 -------------------------------------------------------------------------------------


def sequence(settings: Any, folder: Path, heads: bool = False, **options: Any) -> dict[str, Any]:
    """The weights, the method's state and the logged figures of a sequence of two tasks."""
    tasks = few(multi_head_tasks() if heads else toy_tasks())
    learner = without_dropout(MultiHeadToy(multi_head_tasks()) if heads else ToyLearner())
    method = build_method(settings if isinstance(settings, list) else [settings])
    options = {"training": TRAINING, **options}
    learner, run = run_toy(folder, method, tasks=tasks, learner=learner, source=DoubleSource(), **options)
    lines = run.metrics if group.rank() == 0 else []
    figures = [line["loss"] for line in group.agreed(lines) if line["kind"] == "train"]
    return {"model": learner.state_dict(), "method": method.state_dict(), "losses": torch.tensor(figures)}


SEQUENCES: dict[str, Any] = {
    "finetune": {"name": "finetune"},
    "mas": {"name": "mas", "lam": 3.0},
    "mas-gradient": {"name": "mas", "lam": 0.1, "penalty": "gradient", "engine": "loop"},
    "mas-local": {"name": "mas", "lam": 3.0, "scope": "local", "normalise": "mean"},
    "mas-rectified": {"name": "mas", "lam": 3.0, "scope": "rectified", "accumulate": "ema", "normalise": "max"},
    "mas-vector": {"name": "mas", "lam": 3.0, "output": "vector", "accumulate": "running_mean"},
    "mas-batch": {"name": "mas", "lam": 3.0, "per": "batch"},
    "mas_alpha": {"name": "mas_alpha", "lam": 3.0},
    "ewc": {"name": "ewc", "lam": 3.0, "draws": 2},
    "ewc-loss": {"name": "ewc", "lam": 3.0, "fisher": "loss", "form": "separate"},
    "si": {"name": "si", "lam": 3.0},
    "imm": {"name": "imm", "lam": 0.3},
    "imm-drop": {"name": "imm", "merge": "mean", "drop": 0.3},
    "lwf": {"name": "lwf", "lam": 2.0},
    "lwf-cosine": {"name": "lwf", "lam": 2.0, "target": "cosine"},
    "lwf-logits": {"name": "lwf", "lam": 2.0, "target": "logits"},
    "ebll": {"name": "ebll", "lam": 2.0, "code_lam": 1.0, "code": 2, "epochs": 2},
    "frozen": {"name": "frozen"},
    "combined": [{"name": "si", "lam": 2.0}, {"name": "mas", "lam": 3.0}, {"name": "lwf", "lam": 1.0}],
}
"""By name the settings of methods; the analytic one sums in float32, so it is by itself."""

SEARCHED = {"lam:auto": {"name": "mas", "lam": "auto"}}


def search(folder: Path) -> dict[str, Any]:
    """A sequence whose weight is searched for."""
    return sequence(SEARCHED["lam:auto"], folder, stability=Stability(drop=0.0, start=50.0, attempts=3))


# --- facts and objects, by the learners of the package --------------------------------------------------------------

FACTS = (Fact("dog"), Fact("dog", "running"), Fact("cat", "holding", "ball"), Fact("cat"), Fact("bird", "flying"))
UNIT_WIDTH = 5


class Letters:
    """A text encoder that needs no model."""

    width = 7

    def encode(self, texts: list[str]) -> Tensor:
        vectors = [torch.randn(7, generator=torch.Generator().manual_seed(sum(map(ord, t)))) for t in texts]
        return torch.stack(vectors).double() if vectors else torch.zeros(0, 7).double()


class Images(nn.Module):
    """Stands for the image branch: the inputs are those of the toy."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Sequential(nn.Linear(6, 8), nn.Tanh())
        self.branches = nn.Linear(8, 3 * UNIT_WIDTH)

    def represent(self, features: Tensor) -> Tensor:
        return self.shared(features)

    def readout(self, representation: Tensor) -> Tensor:
        return self.branches(representation).unflatten(1, (3, UNIT_WIDTH))


class Embedder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spec = EmbedderSpec()
        self.image, self.text = Images(), TextBranch(Letters(), projection=UNIT_WIDTH)


def fact_tasks() -> list[Task]:
    """Two tasks of two and three facts; images show one fact or several."""
    generator = np.random.default_rng(3)
    tasks = []
    for number, classes in enumerate((np.array([0, 1]), np.array([2, 3, 4]))):
        targets = generator.random((8, len(classes))) < 0.6
        targets[~targets.any(axis=1), 0] = True
        items = np.arange(8) + 8 * number
        tasks.append(
            Task(f"task {number + 1}", items, targets, classes, np.arange(2 * number), items[: 5 - 3 * number])
        )
    return tasks


def facts(loss: str, settings: Any, folder: Path) -> dict[str, Any]:
    """A sequence of facts with a trained text projection and temperature."""
    torch.manual_seed(0)
    learner = FactLearner(
        Embedder(), FACTS, loss=loss, temperature=0.3, learn_temperature=True, negatives="seen", from_features=True
    ).double()
    method = build_method([settings])
    training = replace(TRAINING, optimizer="adamw", lr=0.01)
    run_toy(folder, method, tasks=fact_tasks(), learner=learner, source=DoubleSource(), training=training)
    return {"model": learner.state_dict(), "method": method.state_dict()}


class Pixels(ToySource):
    """Grey images of four pixels."""

    def __init__(self) -> None:
        self.inputs = torch.rand(120, 1, 2, 2, generator=torch.Generator().manual_seed(1)).double()


def objects(settings: Any, folder: Path) -> dict[str, Any]:
    """A sequence of heads of the classifier of the package."""
    spec = ClassifierSpec(backbone="mlp/4-8", weights="none", image_size=2)
    learner = ObjectLearner(build_classifier(spec, {"a": ("0", "1", "2"), "b": ("3", "4")}, 0)).double()
    learner.active = [0]  # for the figures before the first task
    method = build_method([settings])
    tasks = few(multi_head_tasks())
    run_toy(folder, method, tasks=tasks, learner=learner, source=Pixels(), training=TRAINING)
    return {"model": learner.state_dict(), "method": method.state_dict()}


# --- importance in float32 ------------------------------------------------------------------------------------------


def network() -> nn.Module:
    """Convolutions, a layer norm and a head, as of photographs."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LayerNorm(8), nn.Linear(8, 4),
    )  # fmt: skip


MEASURES: dict[str, dict[str, Any]] = {
    "hooks": {},
    "square": {"statistic": torch.square},
    "loop": {"engine": "loop"},
    "vector": {"scalar": SCALARS["vector"]},
    "vector-loop-square": {"scalar": SCALARS["vector"], "engine": "loop", "statistic": torch.square},
    "local": {"scope": "local"},
    "local-square": {"scope": "local", "statistic": torch.square},
    "rectified": {"scope": "rectified"},
}


def shares(count: int, uneven: bool) -> slice:
    """The images of this process: of the first three, and the rest, and none; or as even as they can be."""
    if not uneven or group.size() == 1:
        return group.share(count)
    bounds = [0, min(3, count), *[count] * (group.size() - 1)]
    return slice(*bounds[group.rank() : group.rank() + 2])


def measured(measure: dict[str, Any], count: int, uneven: bool, _: Path) -> dict[str, Tensor]:
    """The importance of a network on some images."""
    images = torch.rand(count, 3, 12, 12, generator=torch.Generator().manual_seed(1))[shares(count, uneven)]
    return importance(network(), images.split(4), **measure)


def per_batch(_: Path) -> dict[str, Tensor]:
    """Importance of whole batches, which the processes take in turn."""
    source, learner = ToySource(), ToyLearner()

    def inputs(items: np.ndarray) -> Iterator[Tensor]:
        return plain_batches(source, items, 4)

    return task_importance(learner, toy_tasks()[0], inputs, per="batch")


def analytic(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The analytic sums, in float32."""
    method = build_method([{"name": "analytic", "features": 64, **settings}])
    learner = ToyLearner()
    for module in learner.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    run_toy(folder, method, learner=learner, training=replace(TRAINING, epochs=1, batch_size=16))
    return {"method": method.state_dict(), "weight": method.solution()}


# --- sources, agreement, errors -------------------------------------------------------------------------------------


def augmented(_: Path) -> dict[str, Tensor]:
    """The rows of a batch from two sources, augmented as in the whole batch."""
    pixels = np.random.default_rng(0).integers(0, 256, (20, 3, 8, 8)).astype(np.uint8)
    augment = Augment(True, (0.5, 1.0), 0.3)
    sources = [ArraySource(part, 8, 3, augment, "cpu") for part in (pixels[:12], pixels[12:])]
    joined = Joined([0, 12], sources)
    batches = []
    for ids in (np.array([3, 15, 1, 19, 12]), np.array([2, 5, 1]), np.array([13])):
        mine = group.share(len(ids)) if group.size() > 1 else ALL
        batches.append(joined.batch(ids, torch.Generator().manual_seed(5), mine))
    return {str(n): torch.cat(group.gathered(rows)) for n, rows in enumerate(batches)}


def dropout(folder: Path) -> dict[str, Any]:
    """With dropout the processes draw different masks, but stay together."""
    method = build_method([{"name": "imm", "drop": 0.2}])
    learner, _ = run_toy(folder, method, tasks=toy_tasks(8)[:2], training=replace(TRAINING, epochs=1))
    return {"model": learner.state_dict()}


class BrokenSource(DoubleSource):
    """One image is not finite."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs[7] = float("nan")


def not_finite(folder: Path) -> dict[str, Any]:
    """The error of a loss that is NaN in one process, which names the image."""
    try:
        run_toy(folder, Method(), tasks=few(toy_tasks()), source=BrokenSource(), learner=without_dropout(ToyLearner()))
    except Diverged as error:
        return {"said": str(error).split(" (")[0]}
    raise AssertionError("a loss of NaN was not noticed")


class Mean(Method):
    """Adds a mean over its own rows."""

    name = "mean"

    def extra_loss(self, batch: Any, representation: Tensor, out: Tensor) -> Tensor:
        return out.square().mean()


def refused(folder: Path) -> dict[str, Any]:
    """The sentence about a method whose loss would be wrong; alone there is none."""
    try:
        run_toy(folder, Mean(), tasks=few(toy_tasks()), source=DoubleSource(), learner=without_dropout(ToyLearner()))
    except UserError as error:
        return {"said": str(error)}
    return {"said": ""}


# --- a run that any number of processes goes on with ----------------------------------------------------------------


def resumed(stop_after: int, folder: Path) -> dict[str, Any]:
    """Some steps more of a run in a folder; nothing before its end."""
    training = replace(TRAINING, checkpoint_minutes=0)
    try:
        return sequence(SEQUENCES["combined"], folder, training=training, stop_after=stop_after)
    except KeyboardInterrupt:
        return {}


def cases() -> dict[str, Case]:
    """All cases by name."""
    named: dict[str, Case] = {name: partial(sequence, settings) for name, settings in SEQUENCES.items()}
    for name in ("mas", "si", "lwf", "lwf-logits", "ebll"):
        named[f"heads-{name}"] = partial(sequence, SEQUENCES[name], heads=True)
    named["lam:auto"] = search
    for loss in ("contrastive", "wildcard_l2", "wildcard_l2_root", "wildcard_cosine"):
        named[f"facts-{loss}"] = partial(facts, loss, SEQUENCES["ewc" if loss == "contrastive" else "mas"])
    named["objects-mas"] = partial(objects, SEQUENCES["mas"])
    named["objects-lwf"] = partial(objects, SEQUENCES["lwf-logits"])
    for name, measure in MEASURES.items():
        named[f"importance-{name}"] = partial(measured, measure, 5, True)
    for count in (1, 37):
        named[f"importance-{count}"] = partial(measured, {}, count, False)
    named["importance-37-uneven"] = partial(measured, {}, 37, True)
    named["importance-batch"] = per_batch
    named["analytic"] = partial(analytic, {})
    named["analytic-first"] = partial(analytic, {"trunk": "first", "features": 1285})
    return named | {"augmented": augmented, "dropout": dropout, "not-finite": not_finite, "refused": refused}


PAIRED = ("mas", "ewc", "si", "lwf", "lwf-logits", "ebll", "facts-contrastive", "objects-mas", "analytic", "augmented")
"""What two processes compute in addition to importance; three compute everything."""


def compute(folder: Path) -> dict[str, Any]:
    """The results of the cases, each in a folder of its own."""
    results = {}
    for name, case in cases().items():
        if group.size() == 2 and not (name in PAIRED or name.startswith("importance")):
            continue
        torch.manual_seed(0)
        results[name] = copy.deepcopy(case(folder / name.replace(":", "-")))
    return results


def flat(tree: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dicts by their path."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from flat(value, f"{prefix}/{key}")
    else:
        yield prefix, tree


def main(folder: Path, run: Path, steps: int) -> None:
    """Compute all cases, and some steps more of a run."""
    torch.set_num_threads(1)
    with group.joined():
        results = compute(folder) | {"run": resumed(steps, run)}
        torch.save(results, folder / f"rank{group.rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
