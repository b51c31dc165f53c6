"""An experiment on objects: the sets, the tasks and the learner that a config asks for."""

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
from tripletcl.embedding.classifier import Classifier, build_classifier
from tripletcl.embedding.object_learner import ObjectLearner
from tripletcl.errors import UserError
from tripletcl.experiments.inputs import Joined, Opener
from tripletcl.experiments.object_tasks import ObjectTask, joint_task, partition_sets, read_sets, training_tasks
from tripletcl.files.places import cache_folder
from tripletcl.methods import build_method

EVALUATION_NUMBERS, LEAST_BATCH = 2_000_000, 32
"""The number of values in the inputs of one forward pass of evaluation, and the least number of inputs."""


@dataclass(frozen=True)
class ObjectScores:
    """Accuracies of one stage.

    Attributes:
        accuracy: `[T]` of each task on its own test images, by its own head, as fractions; None for a head that has
            not been trained.
        average: Their mean over the tasks learned so far; None before the first.
    """

    accuracy: list[float | None]
    average: float | None


@dataclass(frozen=True)
class EvaluationSet:
    """The test images of a task: their ids in the source, and their positions in the outputs of a head."""

    items: np.ndarray
    columns: np.ndarray
    head: int


@dataclass
class ObjectExperiment:
    """Everything that a config describes, ready to train or to evaluate.

    Attributes:
        object_tasks: The classes and images of each task. Joint training has one task in `tasks`, but all of these.
        evaluation_sets: The test images of each.
    """

    config: ObjectConfig
    object_tasks: list[ObjectTask]
    evaluation_sets: list[EvaluationSet]
    tasks: list[Task]
    learner: ObjectLearner
    source: InputSource
    compute: Compute

    @property
    def trainings(self) -> Sequence[Training]:
        """The training of each task."""
        return [self.config.training] * len(self.tasks)

    @property
    def classifier(self) -> Classifier:
        return self.learner.classifier

    @property
    def task_names(self) -> list[str]:
        return [task.name for task in self.object_tasks]

    def count_learned(self, stage: int) -> int:
        """Count the tasks that are learned at a stage; joint training learns all in stage 1."""
        count = len(self.object_tasks)
        return min(stage, count) if len(self.tasks) == count else count * (stage > 0)

    @torch.no_grad()
    def score(self, stage: int) -> ObjectScores:
        """Compute the accuracies of a stage with the current weights, which must be its own."""
        self.learner.eval()
        count, learned = len(self.object_tasks), self.count_learned(stage)
        known = count if len(self.classifier.heads) == 1 else learned  # a shared head answers for all tasks
        accuracy = [self._accuracy(evaluation_set) for evaluation_set in self.evaluation_sets[:known]]
        average = float(np.mean(accuracy[:learned])) if learned else None
        return ObjectScores([*accuracy, *[None] * (count - known)], average)

    def _accuracy(self, evaluation_set: EvaluationSet) -> float:
        size = max(LEAST_BATCH, EVALUATION_NUMBERS // self.source.batch(evaluation_set.items[:1], None).numel())
        predictions = [
            self.classifier.logits(self.learner.represent(inputs).float(), [evaluation_set.head]).argmax(dim=1).cpu()
            for inputs in plain_batches(self.source, evaluation_set.items, size)
        ]
        return float((torch.cat(predictions).numpy() == evaluation_set.columns).mean())


def build_objects(config: ObjectConfig) -> ObjectExperiment:
    """Build the sets, the tasks and the untrained learner of a config."""
    method = build_method(config.method)
    compute = compute_on(config.device, config.precision)
    set_seed(config.seed)
    object_tasks = partition_sets(config.data, read_sets(config))
    heads, labels = heads_and_labels(object_tasks, shared=config.data.heads == "shared")
    classifier = build_classifier(config.model, heads, config.seed).to(compute.device)
    source, starts = _open_images(config, object_tasks, Opener(config, classifier.trunk, compute.device))
    learner = ObjectLearner(classifier, from_features=config.data.cache_features).to(compute.device)
    tasks = training_tasks(config, object_tasks, starts, labels)
    triples = zip(object_tasks, starts, labels, strict=True)
    evaluation_sets = [_evaluation_set(task, start, own, classifier) for task, start, own in triples]
    tasks = [joint_task(tasks)] if method.joint else tasks
    return ObjectExperiment(config, object_tasks, evaluation_sets, tasks, learner, source, compute)


def heads_and_labels(
    object_tasks: Sequence[ObjectTask], shared: bool
) -> tuple[dict[str, tuple[str, ...]], list[np.ndarray]]:
    """Return the heads with the names of their classes, and the labels `[K]` of each task's classes.

    Args:
        shared: One head for all classes of all tasks, instead of one for each task.
    """
    if not shared:
        starts = np.cumsum([0, *(len(task.classes) for task in object_tasks)])
        labels = [start + np.arange(len(task.classes)) for start, task in zip(starts, object_tasks, strict=False)]
        return {task.name: task.classes for task in object_tasks}, labels
    several = len({task.number for task in object_tasks}) > 1  # two sets may have a class of the same name
    names = [[f"{task.objects.name} {name}" if several else name for name in task.classes] for task in object_tasks]
    classes = tuple(dict.fromkeys(chain(*names)))
    return {"all": classes}, [np.array([classes.index(name) for name in own]) for own in names]


def _open_images(
    config: ObjectConfig, object_tasks: Sequence[ObjectTask], opener: Opener
) -> tuple[InputSource, list[int]]:
    """Open the images of all tasks as one source; returns it and the id of the first image of each task's set.

    Raises:
        UserError: colour photographs for a network of grey images.
    """
    sources: dict[tuple[int, int], InputSource] = {}
    starts: dict[tuple[int, int], int] = {}
    end = 0
    for task in object_tasks:
        key, images = (task.number, task.order), task.objects.images
        if key in sources:
            continue
        if isinstance(images, np.ndarray):
            sources[key] = opener.open_array(images, task.order)
        elif opener.branch.channels == 1 or task.order:
            what = f"model.backbone {opener.branch.name} takes" if not task.order else "data.permutations asks for"
            raise UserError(f"{what} small grey images such as mnist's, but those of {task.objects.name} are files")
        else:
            sources[key] = opener.open(images, cache_folder())
        starts[key], end = end, end + len(task.objects.labels)
    return Joined(list(starts.values()), list(sources.values())), [starts[t.number, t.order] for t in object_tasks]


def _evaluation_set(task: ObjectTask, start: int, labels: np.ndarray, classifier: Classifier) -> EvaluationSet:
    items = task.items(train=False)
    head = int(np.searchsorted(classifier.starts, labels[0], side="right")) - 1
    return EvaluationSet(start + items, labels[task.positions[items]] - classifier.starts[head], head)
