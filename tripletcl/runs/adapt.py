"""Measures importance on a user's own unlabelled photos and adds it to that of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tripletcl.config import FactConfig
from tripletcl.continual import Position, Task, checked_weight
from tripletcl.continual.checkpoint import State, state_on
from tripletcl.continual.device import compute_on
from tripletcl.continual.sequence import now
from tripletcl.data.images import decode_readable, list_images
from tripletcl.embedding import FactEmbedder
from tripletcl.embedding.fact_learner import FactLearner
from tripletcl.errors import UserError
from tripletcl.methods import METHODS, build_method, method_name
from tripletcl.runs.change import begin_change
from tripletcl.runs.continue_run import continuing
from tripletcl.runs.stored import FactRun

BATCH = 16
"""Photos of one forward pass: larger batches do not fit the CPU's cache in the frozen part of the network."""


@dataclass(frozen=True)
class AdaptResult:
    """A measurement of importance on photos.

    Attributes:
        images: The number of photos.
        skipped: (photo, reason) of those that cannot be read.
        stage: The stage of the model.
        weight: The factor of the importance when it was added.
    """

    images: int
    skipped: list[tuple[Path, str]]
    stage: int
    weight: float


def adapt(folder: Path, images: Path, weight: float = 1.0, recompute: bool = False) -> AdaptResult:
    """Measure importance on a folder of unlabelled photos with a run's latest model, and add it to the method's.

    The next task (`continue_run`, `teach`) then changes least what the outputs of these photos depend on. The run is
    changed in one step: its latest checkpoint is replaced.

    Args:
        folder: A finished run of a method that measures importance on images.
        images: The folder of photos; those that cannot be read are skipped.
        weight: The factor of the new importance, >= 0; that of the tasks counts 1. 0 changes nothing.
        recompute: Replace the importance of the tasks instead of adding to it.

    Raises:
        UserError: no run, an unfinished one, one of another method, or no photo that can be read.
    """
    checked_weight(weight, "weight")
    command = ["adapt", str(images.absolute()), weight, recompute]
    with continuing(folder, *command) as (run, report):
        if report is None:
            report = _adapt(run, images, weight, recompute, command)
    skipped = [(Path(photo), reason) for photo, reason in report["skipped"]]
    return AdaptResult(report["images"], skipped, report["stage"], weight)


def _adapt(run: FactRun, images: Path, weight: float, recompute: bool, command: list[Any]) -> dict[str, Any]:
    """Replace the latest checkpoint, and report the stage, the number of photos and those that cannot be read."""
    if not (paths := list_images(images)):
        raise UserError(f"there is no image in {images}")
    _check_adaptive(run.settings)
    position, state = end_of_run(run)
    count, skipped = _add_importance(run, state, paths, weight, recompute)
    left_out = [(str(photo), reason) for photo, reason in skipped]
    report: dict[str, Any] = {"stage": position.stage, "images": count, "skipped": left_out}
    begin_change(run.path, run.folder.checkpoint_file(position), command, **report)
    log_adapted(run, position, state, images=count, folder=str(images), weight=weight, recompute=recompute)
    return report


def log_adapted(run: FactRun, position: Position, state: State, **values: Any) -> None:
    """Replace the checkpoint of a run's end by an adapted state, and log that.

    Args:
        position: Of the checkpoint.
        state: The adapted state.
        values: What is logged.
    """
    stage = position.stage
    event = {"kind": "adapt", **vars(Position(stage - 1)), "after": stage, "time": now(), **values}
    run.folder.save(position, {**state, "adapted": [*state.get("adapted", []), event]})
    run.folder.append(event)


def _check_adaptive(settings: FactConfig) -> None:
    if not build_method(settings.method).can_adapt:
        able = ", ".join(name for name in METHODS if build_method([{"name": name}]).can_adapt)
        name = method_name(settings.method)
        raise UserError(f"{name} does not measure importance on images, so it cannot be adapted; those that do: {able}")


def end_of_run(run: FactRun) -> tuple[Position, State]:
    """Read the latest checkpoint, which must be that of the run's end."""
    checkpoint = run.folder.latest()
    if checkpoint is None or checkpoint[0] != Position(run.task_count):
        raise UserError(f"{run.path} is not finished; `tripletcl train --continue {run.path}` finishes it")
    position, state = checkpoint
    state.pop("position", None)
    return position, state


def _add_importance(
    run: FactRun, state: State, paths: Sequence[Path], weight: float, recompute: bool
) -> tuple[int, list[tuple[Path, str]]]:
    """Let the method measure and add importance, in its state.

    Returns:
        The number of photos, and (photo, reason) of those that cannot be read.
    """
    device = compute_on(run.settings.device, run.settings.precision).device
    embedder = FactEmbedder.from_pretrained(run.stage_folder(), device=device)
    photos = _Photos(embedder, paths)
    add_importance(run, state, embedder, photos.batches, len(paths), weight, recompute)
    return len(paths) - len(photos.skipped), sorted(photos.skipped.items())


def add_importance(
    run: FactRun,
    state: State,
    embedder: FactEmbedder,
    inputs: Callable[[np.ndarray], Iterator[Tensor]],
    count: int,
    weight: float = 1.0,
    recompute: bool = False,
) -> None:
    """Let a run's method measure and add importance, in the state of its checkpoint.

    Args:
        state: The checkpoint.
        embedder: The run's latest model.
        inputs: Yields batches of features of the frozen part of the network, of the images of these numbers.
        count: The number of images.
        weight: See `adapt`.
        recompute: See `adapt`.
    """
    method = build_method(run.settings.method)
    method.start(FactLearner(embedder, (), from_features=True), inputs)
    method.load_state_dict(state_on(embedder.device, state["method"]))
    items = np.arange(count)
    empty = items[:0]
    method.add_importance(Task("adapting", empty, empty, empty, importance_items=items), weight, recompute)
    state["method"] = method.state_dict()


class _Photos:
    """Photos as features of the frozen part of the network, decoded one batch after another and not stored."""

    def __init__(self, embedder: FactEmbedder, paths: Sequence[Path]) -> None:
        self.embedder, self.paths = embedder, list(paths)
        self.skipped: dict[Path, str] = {}

    def batches(self, items: np.ndarray) -> Iterator[Tensor]:
        """Yield batches `[B, ...]` of the items that can be read.

        Raises:
            UserError: no photo can be read.
        """
        self.skipped.clear()
        paths = [self.paths[item] for item in items]
        readable = decode_readable(paths, self.embedder.decode, self.skipped, "importance")
        while batch := [pixels for _, pixels in islice(readable, BATCH)]:
            images = torch.from_numpy(np.stack(batch)).to(self.embedder.device).float() / 255
            yield self.embedder.image.features(images)
