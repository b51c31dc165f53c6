"""A finished run learns on: a further table, months later, as one more task."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path

from tripletcl.config import FactConfig, change_config, dump_config
from tripletcl.config.facts import Further
from tripletcl.continual import Position, RunFolder, Training
from tripletcl.data import FactTable, read_table
from tripletcl.data.tables import table_text, write_table
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.experiments.facts import Experiment, task_names, tasks_of_first_table
from tripletcl.files import write_text
from tripletcl.methods import build_method
from tripletcl.runs.history import known_tasks
from tripletcl.runs.layout import BASE_TABLE, RESULT, SETTINGS, VECTORS, follow_up_table, follow_up_tables
from tripletcl.runs.stored import environment
from tripletcl.runs.train import Run, collect_result, fact_settings, learn, within

__all__ = ["continue_run", "known_tasks"]

log = logging.getLogger("tripletcl")


def continue_run(
    folder: Path,
    table: Path | None = None,
    overrides: Sequence[str] = (),
) -> RunResult:
    """Learn a further table as one more task, under the protection of the run's own method; return all figures.

    Of what the run learned before nothing is needed but itself. Where it was interrupted, that is finished first; a
    table that it has learned already is not learned again, so that the same command goes on where it stopped.

    Args:
        folder: The run.
        table: A CSV, JSON Lines or Parquet file; without one, what is unfinished is finished.
        overrides: `training.key=value`, for the new task.

    Raises:
        UserError: no run, joint training, a bad table, or another setting than one of training.
    """
    run = open_run(folder)
    with run.locked():
        settings = settle(run)
        if table is None:
            return finish(run, settings)
        rows, training = read_table(table, absolute=True), _training(settings, overrides)
        number = table_number(run, settings, rows)
        if number is None:
            finish(run, settings)
            entry = Further(table=str(table.absolute()), training=training)
            return learn_further(run, settings, entry, rows)[0]
        if training is not None and number == len(settings.data.further) and not (run.path / RESULT).exists():
            settings = _start_anew(run, settings, training)
        elif (run.path / RESULT).exists():
            log.info("%s has learned %s already; it is not learned again", run.path, table)
        return finish(run, settings)


def open_run(folder: Path) -> RunFolder:
    """A run that may learn on.

    Raises:
        UserError: there is none, or it was trained jointly.
    """
    folder = Run.open(folder).path
    settings = fact_settings(folder)
    if build_method(settings.method).joint:
        raise UserError(f"{folder} was trained on all tasks at once, and so it would have to be again: train it anew")
    text = (folder / SETTINGS).read_text(encoding="utf-8")
    return RunFolder(folder, text, environment(), kept_from=kept_from(settings), last_file=VECTORS)


def kept_from(settings: FactConfig) -> int | None:
    """The stage before what was taught last, from which on all can be taken back; None where nothing was taught."""
    taught = len(list(takewhile(lambda entry: entry.taught is not None, reversed(settings.data.further))))
    return task_count(settings) - taught if taught else None


def task_count(settings: FactConfig) -> int:
    """How many tasks a run has, learned or not."""
    return tasks_of_first_table(settings) + len(settings.data.further)


def settle(run: RunFolder) -> FactConfig:
    """Finish what a killed process left half done, learning apart; returns the run's settings, which are the truth."""
    settings = fact_settings(run.path)
    run.drop_stages_after(task_count(within(settings, run.path)))
    known = {follow_up_table(run.path, number) for number in range(1, len(settings.data.further) + 1)}
    for path in follow_up_tables(run.path):
        if path not in known:
            path.unlink()
    logged = run.metrics
    for event in run.latest_values().get("adapted", []):
        if event not in logged:
            run.append(event)
    return settings


def finish(
    run: RunFolder,
    settings: FactConfig,
    *,
    thrifty: bool = False,
) -> RunResult:
    """Learn what is not learned yet; the run's figures."""
    if run.result is not None:
        return RunResult.from_dict(run.result)
    count = task_count(within(settings, run.path))
    if run.position == Position(count):  # all is learned, only the figures have not been put together
        result = collect_result(settings, run.metrics, task_names(count))
        run.finish(result.to_dict())
        return result
    return learn(run, within(settings, run.path), thrifty=thrifty)[0]


def learn_further(
    run: RunFolder,
    settings: FactConfig,
    entry: Further,
    rows: FactTable,
    *,
    thrifty: bool = False,
) -> tuple[RunResult, Experiment]:
    """Learn a table as one more task of a finished run; the run is as it was until all is found to be well.

    Args:
        entry: What the run's settings are to say of it.
        rows: The table.
    """
    further = [*settings.data.further, entry]
    write_table(follow_up_table(run.path, len(further)), rows)
    settings = with_further(settings, further)

    def commit() -> None:
        set_settings(run, settings)

    return learn(run, within(settings, run.path), thrifty=thrifty, commit=commit)


def with_further(settings: FactConfig, further: list[Further]) -> FactConfig:
    """The settings with these further tables."""
    return settings.model_copy(update={"data": settings.data.model_copy(update={"further": further})})


def set_settings(run: RunFolder, settings: FactConfig) -> None:
    """Let a run have these settings; its figures, which belong to the former ones, are taken away first."""
    (run.path / RESULT).unlink(missing_ok=True)
    write_text(run.path / SETTINGS, dump_config(settings))
    run.kept_from = kept_from(settings)


def table_number(run: RunFolder, settings: FactConfig, rows: FactTable) -> int | None:
    """Which of the run's tables has the same rows, from 0; None where none has."""
    text = table_text(rows)
    kept = [run.path / BASE_TABLE, *(follow_up_table(run.path, i + 1) for i in range(len(settings.data.further)))]
    for number, path in reversed(list(enumerate(kept))):
        if path.exists() and path.read_text(encoding="utf-8") == text:
            return number
    return None


def _training(settings: FactConfig, overrides: Sequence[str]) -> Training | None:
    """How the new task is trained; None as the others.

    Raises:
        UserError: a setting of something else.
    """
    changed = change_config(settings, overrides)
    if changed.model_copy(update={"training": settings.training}) != settings:
        raise UserError(f"a run that learns on can only change training.key=value, not {' '.join(overrides)}")
    return changed.training if overrides else None


def _start_anew(run: RunFolder, settings: FactConfig, training: Training) -> FactConfig:
    """Begin the task that was interrupted once more where it is to be trained in another way."""
    *before, entry = settings.data.further
    if entry.training == training:
        return settings
    settings = with_further(settings, [*before, entry.model_copy(update={"training": training})])
    set_settings(run, settings)
    run.drop_stages_after(task_count(within(settings, run.path)) - 1)
    return settings
