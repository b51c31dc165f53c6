"""Teaches a run one fact by a handful of photos, as a few-shot task, and undoes it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tripletcl.config.facts import Further
from tripletcl.continual import Training
from tripletcl.data import Fact, FactTable, read_table
from tripletcl.data.images import Photo
from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.files.addresses import Place
from tripletcl.methods import build_method
from tripletcl.runs.change import begin_change
from tripletcl.runs.continue_run import continuing, finish, follow, learn_table, with_further
from tripletcl.runs.layout import SETTINGS, follow_up_table
from tripletcl.runs.lesson_photos import Known, contents_of, photo_table, readable_photos
from tripletcl.runs.stored import FactRun

log = logging.getLogger("tripletcl")

IMAGES, EPOCHS, BATCH = 240, (5, 30), 8
"""The images seen by a method that trains, the least and the most epochs, and the batch size."""

UNDO = ("teach", "--undo")
"""The command, as a change of a run names it."""

PLAIN_STEPS: dict[str, tuple[float, float]] = {"wildcard_cosine": (0.1, 6.0), "contrastive": (0.03, 1.0)}
"""(learning rate, weight of the loss) of SGD, for losses that do not depend on the length of the outputs. AdamW moves
every weight by as much, needed or not, and old facts are lost; measured in docs/measured/teaching.md."""


@dataclass(frozen=True)
class Lesson:
    """A few-shot task that was learned or undone.

    Attributes:
        fact: What was taught.
        stage: The run's latest stage.
        photos: The number of photos learned from.
        held_out: The number of photos held out.
        known: The number of photos that the run had learned as showing the fact.
        left_out: The number of test photos of earlier tasks that it learned from, so that they are no test images now.
        map_held_out: AP of the fact on these among all test images that can be scored; None if none was held out.
        seconds: The duration.
        skipped: (photo, reason) of those that cannot be read.
        index: The outcome for the photo index, in words; None without an index.
    """

    fact: Fact
    stage: int
    photos: int
    held_out: int
    map_held_out: float | None
    seconds: float
    known: int = 0
    left_out: int = 0
    skipped: list[tuple[Photo, str]] = field(default_factory=list)
    index: str | None = None


def teach(
    folder: Path,
    fact: Fact | str,
    photos: Sequence[Photo],
    *,
    index: Place | None = None,
    hold_out: bool = True,
) -> Lesson:
    """Teach a finished run one fact by a handful of photos, as one more task.

    The analytic readout adds the photos to its sums, which is exactly what training on all data would give. Other
    methods train briefly on them under their own penalty. One photo of five is held out, to measure how well the fact
    is known now and later; it stays so in later lessons, which learn what is new to the run. The photo index is brought
    to the new model.

    Args:
        folder: The run.
        fact: A fact, or words such as "person riding unicycle", read in the words that the run knows (`read_fact`).
        photos: Image files; those that cannot be read are skipped.
        index: A photo index; by default RUN/index if it exists.
        hold_out: False to learn from all photos, and measure nothing.

    Raises:
        UserError: no run, joint training, no fact, no photo that can be read, or none that may be learned.
    """
    from tripletcl.retrieval.statement import read_fact  # loads faiss, which undoing a lesson does not need

    start = time.monotonic()
    with continuing(folder) as (run, _):
        fact = read_fact(fact, run.table().facts)
        index = _index_to_update(run, index)
        readable, skipped = readable_photos(photos, run.settings.model.image_size)
        result, embedder = finish(run), None
        known = Known.of(run, fact)
        rows = photo_table(fact, readable, known, hold_out)
        learned = contents_of(rows, "train")
        number = _known_lesson(run, fact) if not learned else len(run.settings.data.further) + 1
        if learned:
            result, embedder = _learn_photos(run, fact, rows, index)
        stage = run.first_tasks + number
        outcome = follow(run, index, embedder)
    return Lesson(
        fact,
        stage,
        len(learned),
        len(rows) - len(learned),
        result.matrix[stage][stage - 1] if number else None,
        time.monotonic() - start,
        len(readable) - len(rows),
        len(learned & known.tested),
        skipped,
        outcome,
    )


def lesson_fact(folder: Path, typed: str) -> Fact:
    """Read the fact of a lesson as `teach` will read it, before any photo is.

    Raises:
        UserError: no run, or no fact.
    """
    from tripletcl.retrieval.statement import read_fact

    return read_fact(typed, FactRun.open(folder).table().facts)


def undo(folder: Path, *, index: Place | None = None) -> Lesson:
    """Undo the latest lesson: the run is then as it was before, bit for bit.

    Args:
        folder: The run.
        index: A photo index that goes back with it; by default RUN/index if it exists.

    Raises:
        UserError: no run, or its latest task is no lesson.
    """
    start = time.monotonic()
    with continuing(folder, *UNDO) as (run, report):
        index = _index_to_update(run, index)
        if report is None:
            *before, last = run.settings.data.further or [Further(table="")]
            report = _lesson_to_undo(run, last)
            begin_change(run.path, SETTINGS, UNDO, index, **report)
            run.change(with_further(run.settings, before))
        outcome, stage = follow(run, index), run.task_count
    fact, photos, held_out = Fact(*report["fact"]), report["photos"], report["held_out"]
    return Lesson(fact, stage, photos, held_out, None, time.monotonic() - start, index=outcome)


def _lesson_to_undo(run: FactRun, last: Further) -> dict[str, Any]:
    """Report on the latest lesson: its fact, and how many photos were learned and held out.

    Raises:
        UserError: the latest task is no lesson, or there is nothing to go back to.
    """
    if last.taught is None:
        raise UserError(
            f"the latest task of {run.path} is no lesson that could be undone (`tripletcl tasks {run.path}`)"
        )
    if not run.folder.has_checkpoint(run.task_count - 1):
        raise UserError(f"{run.path} has no checkpoint of stage {run.task_count - 1} to go back to")
    rows = read_table(follow_up_table(run.path, len(run.settings.data.further)), absolute=True, fold=False)
    held_out = len(rows.rows_of("test"))
    return {"fact": rows.facts[0].units, "photos": len(rows) - held_out, "held_out": held_out}


def lesson_training(training: Training, loss: str, photos: int) -> Training:
    """Return the training of a method that trains on a handful of photos: a few dozen plain steps."""
    least, most = EPOCHS
    epochs = max(least, min(most, IMAGES // photos))
    short = replace(training, epochs=epochs, head_epochs=0, batch_size=min(BATCH, photos))
    if training.optimizer == "sgd" or loss not in PLAIN_STEPS:
        return short
    lr, weight = PLAIN_STEPS[loss]
    return replace(short, optimizer="sgd", lr=lr / weight, loss_weight=weight)


def _known_lesson(run: FactRun, fact: Fact) -> int:
    """Return the number of the latest table that taught a fact, where all photos of a lesson are known.

    Raises:
        UserError: there is none, since all of them are held out for other facts.
    """
    numbers = [number for number, table in enumerate(run.tables()) if fact in table.facts]
    if not numbers:
        raise UserError(f"earlier lessons of {run.path} have held out these photos, so {fact} needs others, or --all")
    log.info("%s has been taught %s by these photos already", run.path, fact)
    return numbers[-1]


def _learn_photos(run: FactRun, fact: Fact, rows: FactTable, index: Place | None) -> tuple[RunResult, FactEmbedder]:
    """Learn a table of photos; returns the figures and the model."""
    settings, number = run.settings, len(run.settings.data.further) + 1
    training = None
    if not build_method(settings.method).freezes_protected:
        training = lesson_training(settings.training, settings.loss.name, len(rows.rows_of("train")))
    entry = Further(table=str(follow_up_table(Path(), number)), taught=str(fact), training=training)
    result, experiment = learn_table(
        run, entry, rows, begin=lambda: begin_change(run.path, SETTINGS, ["teach", str(fact)], index)
    )
    return result, experiment.embedder


def _index_to_update(run: FactRun, index: Place | None) -> Place | None:
    """Return the index that follows the run: the given one, or RUN/index if it exists.

    Raises:
        UserError: the given place holds no index, or the index cannot be written now.
    """
    if index is None and not run.index.is_dir():
        return None
    from tripletcl.retrieval import about_index  # loads faiss, which a run without an index does not need
    from tripletcl.retrieval.stores.address import open_store

    if index is not None:
        about_index(index)
    with open_store(index or run.index).write():
        return index or run.index
