"""A finished run learns a follow-up table, possibly months later, as one more task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tripletcl.config import FactConfig, change_config
from tripletcl.config.facts import Further
from tripletcl.continual import Position, Training
from tripletcl.data import FactTable, read_table
from tripletcl.data.contents import with_contents
from tripletcl.data.tables import table_text, write_table
from tripletcl.embedding import FactEmbedder, TextEmbedder
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.experiments.facts import FactExperiment, task_names
from tripletcl.experiments.feature_cache import FeatureCache
from tripletcl.experiments.inputs import own_folder
from tripletcl.files.addresses import Place, may_hold_index, place_from
from tripletcl.files.documents import RESTORE
from tripletcl.methods import build_method
from tripletcl.runs.change import Change, open_changes
from tripletcl.runs.layout import BASE_TABLE, FEATURES, RESULT, follow_up_table, follow_up_tables
from tripletcl.runs.stored import FactRun, write_tasks
from tripletcl.runs.train import collect, learn

log = logging.getLogger("tripletcl")


def continue_run(folder: Path, table: Path | None = None, overrides: Sequence[str] = ()) -> RunResult:
    """Learn a follow-up table as one more task, with the run's own method, and return all figures.

    Nothing is needed of what the run learned before but the run itself. An interrupted task is finished first; a table
    that was learned already is not learned again, so the same command resumes where it stopped.

    Args:
        folder: The run.
        table: A CSV, JSON Lines or Parquet file; without one, the interrupted task is finished.
        overrides: `training.key=value`, for the new task.

    Raises:
        UserError: no run, joint training, a bad table, or another setting than one of training.
    """
    with continuing(folder) as (run, _):
        if table is None:
            return finish(run)
        rows = read_table(table, absolute=True, fold=run.settings.data.fold, known=run.table().facts)
        training = _training(run.settings, overrides)
        rows = with_contents(rows, run.settings.model.image_size, own_folder("table", rows.paths))
        number = table_number(run, rows)
        if number is None:
            finish(run)
            return learn_table(run, Further(table=str(table.absolute()), training=training), rows)[0]
        if run.result is not None:
            log.info("%s has learned %s already; it is not learned again", run.path, table)
        elif training is not None and number == len(run.settings.data.further):
            _restart(run, training)
        return finish(run)


@contextmanager
def continuing(folder: Path, *command: Any) -> Iterator[tuple[FactRun, dict[str, Any] | None]]:
    """Open a run that can learn more, under its lock, and finish what interrupted processes began, except training.

    Args:
        command: The command, if it would change the run once more when it is repeated.

    Yields:
        The run, and the report of the same command if it was interrupted after its change took effect.

    Raises:
        UserError: there is no run, it was trained jointly, or another process holds it.
    """
    with FactRun.changing(folder) as run:
        if build_method(run.settings.method).joint:
            raise UserError(
                f"{folder} was trained on all tasks at once, which cannot be continued: train it on all data again"
            )
        changes, report = settle(run), None
        for path, change in changes.items() if run.result is not None else ():
            log.info("`%s` was interrupted, and is finished now", " ".join(map(str, change.command)))
            if change.command == [*command]:
                report = change.report
            else:
                path.unlink()
        yield run, report
        changes = settle(run)
    for path in changes:
        path.unlink(missing_ok=True)


def settle(run: FactRun) -> dict[Path, Change]:
    """Do what follows from the changes that took effect, and repair what interrupted processes left, except training.

    Returns:
        These changes by their files.
    """
    changes = open_changes(run.path)
    for change in changes.values():
        if change.index is not None:
            follow(run, place_from(run.path, change.index))  # before the stage that made it is deleted
    repair(run)
    if run.folder.position == Position(run.task_count):
        finish(run)
    return changes


def follow(run: FactRun, index: Place | None, embedder: FactEmbedder | None = None) -> str | None:
    """Bring a photo index to the latest stage of its run.

    Args:
        embedder: The model of that stage, if it is loaded already.

    Returns:
        The outcome in words; None without an index.
    """
    if index is None or not may_hold_index(index):
        return None
    from tripletcl.runs.upgrade_index import update_index  # loads faiss, which a run without an index does not need

    return update_index(run, index, max(stage for stage in run.stages if stage <= run.task_count), embedder)


def repair(run: FactRun) -> None:
    """Finish what an interrupted process left undone, except training."""
    run.folder.drop_stages_after(run.task_count)
    known = {follow_up_table(run.path, number) for number in range(1, len(run.settings.data.further) + 1)}
    for path in set(follow_up_tables(run.path)) - known:
        _forget_features(run, path)
        path.unlink()
    if len(groups := run.read_tasks()) > run.task_count:
        write_tasks(run.path, groups[: run.task_count])
    logged = run.metrics
    for event in run.folder.latest_values().get("adapted", []):
        if event not in logged:
            run.folder.append(event)


def _forget_features(run: FactRun, table: Path) -> None:
    """Delete the cached features of the images of a table that the run no longer has."""
    cache = FeatureCache.load(run.path / FEATURES)
    rest = cache.without(read_table(table, absolute=True, fold=False).photos)
    if len(rest.stamps) < len(cache.stamps):
        rest.save(run.path / FEATURES)


def finish(run: FactRun) -> RunResult:
    """Learn the tasks that are not learned yet, and return the run's figures."""
    if (result := run.result) is not None:
        return result
    if run.folder.position == Position(run.task_count):  # all tasks are learned, only the figures are not collected
        return collect(run, run.task_count, task_names(run.task_count))
    return learn(run)[0]


def learn_table(
    run: FactRun, entry: Further, rows: FactTable, begin: Callable[[], None] = lambda: None
) -> tuple[RunResult, FactExperiment]:
    """Learn a table as one more task of a finished run; the run is unchanged until the data has been checked.

    Args:
        entry: What the run's settings will say of the table.
        rows: The table.
        begin: Called just before the run is changed.

    Raises:
        UserError: the checkpoint of the run's end is damaged, or of another version; or see `learn`.
    """
    TextEmbedder.from_pretrained(run.stage_folder())  # what another version wrote is refused before anything changes
    further = [*run.settings.data.further, entry]
    write_table(follow_up_table(run.path, len(further)), rows)
    settings = with_further(run.settings, further)
    planned = FactRun(run.path, settings, run.folder)
    result, experiment = learn(planned, commit=lambda: _commit(run, settings, begin))
    assert isinstance(experiment, FactExperiment)
    return result, experiment


def _commit(run: FactRun, settings: FactConfig, begin: Callable[[], None]) -> None:
    """Change the settings of a run that has learned all it knew so far."""
    if run.folder.position != Position(run.task_count):  # what was learned since is lost
        raise UserError(
            f"the checkpoint of the end of {run.path} is damaged: {RESTORE}, or delete {run.path / RESULT} and run "
            f"`tripletcl train --continue {run.path}`, which learns the tasks since stage "
            f"{run.folder.position.stage if run.folder.position else 0} again"
        )
    begin()
    run.change(settings)


def with_further(settings: FactConfig, further: list[Further]) -> FactConfig:
    """Return the settings with other follow-up tables."""
    return settings.model_copy(update={"data": settings.data.model_copy(update={"further": further})})


def table_number(run: FactRun, rows: FactTable) -> int | None:
    """Return which of the run's tables has the same rows, 0 being the first table; None if there is none."""
    texts = table_text(rows), table_text(replace(rows, contents=None))  # early runs did not store contents
    numbers = range(1, len(run.settings.data.further) + 1)
    stored = [run.path / BASE_TABLE, *(follow_up_table(run.path, number) for number in numbers)]
    for number, path in reversed(list(enumerate(stored))):
        if path.exists() and path.read_text(encoding="utf-8") in texts:
            return number
    return None


def _training(settings: FactConfig, overrides: Sequence[str]) -> Training | None:
    """Return the new task's training; None to train it like the others.

    Raises:
        UserError: a setting of something else.
    """
    changed = change_config(settings, overrides)
    if changed.model_copy(update={"training": settings.training}) != settings:
        raise UserError(f"--continue can only change training.key=value, not {' '.join(overrides)}")
    return changed.training if overrides else None


def _restart(run: FactRun, training: Training) -> None:
    """Restart the interrupted task if it is to be trained in another way."""
    *before, entry = run.settings.data.further
    if entry.training != training:
        run.change(with_further(run.settings, [*before, entry.model_copy(update={"training": training})]))
        run.folder.drop_stages_after(run.task_count - 1)
