"""Builds the sets, the tasks and the learner that the settings of an experiment on objects ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from tripletcl.config import ObjectConfig
from tripletcl.continual import InputSource, Task, Training, plain_batches
from tripletcl.continual.checkpoint import set_seed
from tripletcl.continual.device import Compute, compute_on
from tripletcl.continual.task import derived_seed
from tripletcl.data.splits import sample
from tripletcl.embedding.classifier import Classifier, build_classifier
from tripletcl.embedding.object_learner import ObjectLearner
from tripletcl.errors import UserError
from tripletcl.experiments.facts import DRAWN, HELD_OUT
from tripletcl.experiments.inputs import Joined, Opener, cache_folder
from tripletcl.experiments.object_tasks import Part, parts_of, read_sets
from tripletcl.methods import build_method

EVALUATION_NUMBERS, LEAST_BATCH = 2_000_000, 32
"""Numbers in the inputs of one pass of evaluation, and its least number of inputs."""


@dataclass(frozen=True)
class ObjectScores:
    """Accuracies of one stage.

    Attributes:
        accuracy: `[T]` of each task on its own test images, by its own head, as fractions; None where the head has not
            been taught.
        average: Their mean over the tasks learned so far; None before the first.
    """

    accuracy: list[float | None]
    average: float | None


@dataclass(frozen=True)
class Probe:
    """The test images of a task: their ids in the source, and their positions in the outputs of a head."""

    items: np.ndarray
    columns: np.ndarray
    head: int


@dataclass
class ObjectExperiment:
    """Everything that the settings describe, ready to train or to evaluate.

    Attributes:
        parts: What each task teaches. Joint training has one task but all parts.
        probes: The test images of each part.
    """

    config: ObjectConfig
    parts: list[Part]
    probes: list[Probe]
    tasks: list[Task]
    learner: ObjectLearner
    source: InputSource
    compute: Compute

    @property
    def trainings(self) -> Sequence[Training]:
        """How each task is trained."""
        return [self.config.training] * len(self.tasks)

    @property
    def classifier(self) -> Classifier:
        return self.learner.classifier

    @property
    def task_names(self) -> list[str]:
        """Names of the parts."""
        return [part.name for part in self.parts]

    def learned(self, stage: int) -> int:
        """How many of the parts have been learned after so many tasks."""
        return min(stage, len(self.parts)) if len(self.tasks) == len(self.parts) else len(self.parts) * (stage > 0)

    @torch.no_grad()
    def score(self, stage: int) -> ObjectScores:
        """The accuracies with the weights as they are, which are those of a stage."""
        self.learner.eval()
        learned = self.learned(stage)
        known = len(self.parts) if len(self.classifier.heads) == 1 else learned  # one head answers for all tasks
        accuracy = [self._accuracy(probe) for probe in self.probes[:known]]
        average = float(np.mean(accuracy[:learned])) if learned else None
        return ObjectScores([*accuracy, *[None] * (len(self.parts) - known)], average)

    def _accuracy(self, probe: Probe) -> float:
        size = max(LEAST_BATCH, EVALUATION_NUMBERS // self.source.batch(probe.items[:1], None).numel())
        found = [
            self.classifier.logits(self.learner.represent(inputs).float(), [probe.head]).argmax(dim=1).cpu()
            for inputs in plain_batches(self.source, probe.items, size)
        ]
        return float((torch.cat(found).numpy() == probe.columns).mean())


def build_objects(config: ObjectConfig) -> ObjectExperiment:
    """Build the sets, the tasks and the untrained learner of a config.

    Raises:
        UserError: a set is not there or is not as it should be, or a setting names nothing known.
    """
    method = build_method(config.method)
    compute = compute_on(config.device, config.precision)
    set_seed(config.seed)
    sets = read_sets(config)
    parts = parts_of(config.data, sets)
    heads, labels = heads_and_labels(parts, shared=config.data.heads == "shared")
    classifier = build_classifier(config.model, heads, config.seed).to(compute.device)
    source, starts = open_parts(config, parts, Opener(config, classifier.trunk, compute.device))
    learner = ObjectLearner(classifier, from_features=config.data.cache_features).to(compute.device)
    check_input(config, learner, source)
    tasks = object_tasks(config, parts, starts, labels)
    probes = [probe(part, start, of, classifier) for part, start, of in zip(parts, starts, labels, strict=True)]
    tasks = [joint_task(tasks)] if method.joint else tasks
    return ObjectExperiment(config, parts, probes, tasks, learner, source, compute)


def heads_and_labels(parts: Sequence[Part], shared: bool) -> tuple[dict[str, tuple[str, ...]], list[np.ndarray]]:
    """The heads with the names of their classes, and the labels `[K]` of each part's classes.

    Args:
        shared: One head for all classes of all parts, in place of one for each part.
    """
    if not shared:
        starts = np.cumsum([0, *(len(part.classes) for part in parts)])
        labels = [start + np.arange(len(part.classes)) for start, part in zip(starts, parts, strict=False)]
        return {part.name: part.classes for part in parts}, labels
    several = len({part.number for part in parts}) > 1  # two sets may have a class of the same name
    names = [[f"{part.objects.name} {name}" if several else name for name in part.classes] for part in parts]
    every = tuple(dict.fromkeys(chain(*names)))
    return {"all": every}, [np.array([every.index(name) for name in own]) for own in names]


def open_parts(config: ObjectConfig, parts: Sequence[Part], opener: Opener) -> tuple[InputSource, list[int]]:
    """The images of all parts as one source, and where the images of each part's set begin in it.

    Raises:
        UserError: coloured photographs for a network of grey images.
    """
    sources: dict[tuple[int, int], InputSource] = {}
    begins: dict[tuple[int, int], int] = {}
    end = 0
    for part in parts:
        key = (part.number, part.order)
        if key in sources:
            continue
        images = part.objects.images
        if isinstance(images, np.ndarray):
            sources[key] = opener.open_array(images, part.order)
        elif opener.branch.channels == 1 or part.order:
            what = f"model.backbone {config.model.backbone} takes" if not part.order else "data.permutations asks for"
            raise UserError(f"{what} small grey images such as mnist's, but those of {part.objects.name} are files")
        else:
            sources[key] = opener.open(images, cache_folder())
        begins[key], end = end, end + len(part.objects.labels)
    return Joined(list(begins.values()), list(sources.values())), [begins[part.number, part.order] for part in parts]


def check_input(config: ObjectConfig, learner: ObjectLearner, source: InputSource) -> None:
    """Let one image pass the network.

    Raises:
        UserError: the network does not take images of this size.
    """
    try:
        with torch.no_grad():
            learner.represent(source.batch(np.zeros(1, np.int64), None))
    except RuntimeError as error:
        size = config.model.image_size
        raise UserError(f"model.backbone {config.model.backbone} takes no images of {size} pixels: {error}") from error


def object_tasks(
    config: ObjectConfig, parts: Sequence[Part], starts: Sequence[int], labels: Sequence[np.ndarray]
) -> list[Task]:
    """A task of each part: its training images, each with its label.

    Raises:
        UserError: nothing of a task is left to train on.
    """
    tasks: list[Task] = []
    for number, (part, start, of) in enumerate(zip(parts, starts, labels, strict=True)):
        train, test = part.items(train=True), part.items(train=False)
        held_out = sample(
            train, round(config.data.validation * len(train)), derived_seed(config.seed, HELD_OUT, number)
        )
        items = np.setdiff1d(train, held_out)
        if not len(items):
            raise UserError(f"data.validation {config.data.validation:g} leaves {part.name} no image to train on")
        sensitive = {"train": items, "test": test, "both": np.concatenate([items, test])}[config.data.importance]
        few = sample(sensitive, config.data.importance_images, derived_seed(config.seed, DRAWN, number))
        task = Task(
            part.name,
            start + items,
            of[part.positions[items]],
            of,
            earlier_classes=np.unique(np.concatenate([np.empty(0, np.int64), *labels[:number]])),
            importance_items=start + few,
            validation_items=start + held_out,
            validation_targets=of[part.positions[held_out]],
        )
        tasks.append(task)
    return tasks


def joint_task(tasks: Sequence[Task]) -> Task:
    """All tasks as one."""
    return Task(
        "all tasks",
        np.concatenate([task.items for task in tasks]),
        np.concatenate([task.targets for task in tasks]),
        np.unique(np.concatenate([task.classes for task in tasks])),
        importance_items=np.concatenate([task.importance_items for task in tasks]),
        validation_items=np.concatenate([task.validation_items for task in tasks]),
        validation_targets=np.concatenate([task.validation_targets for task in tasks]),
    )


def probe(part: Part, start: int, labels: np.ndarray, classifier: Classifier) -> Probe:
    """The test images of a part."""
    items = part.items(train=False)
    head = int(np.searchsorted(classifier.starts, labels[0], side="right")) - 1
    return Probe(start + items, labels[part.positions[items]] - classifier.starts[head], head)
