"""Kills commands at the calls by which they change a folder, on runs of a second; benchmarks/killed.py at all of them.

A child process is forked for each command. Python tells it of every call that creates, opens for writing, renames or
removes a file, and SQLite of every statement; before the k-th of them it ends itself by SIGKILL.
"""

from __future__ import annotations

import json
import logging
import mmap
import os
import pickle
import shutil
import signal
import sqlite3
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import field
import numpy as np
import torch
from safetensors import safe_open

from tripletcl.compare import plan
from tripletcl.compare.write import write_summary, write_tables
from tripletcl.config import parse_config
from tripletcl.continual.run_folder import LOCK
from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.files import remove_drafts
from tripletcl.retrieval import FactIndex, writing
from tripletcl.runs import teach as teaching
from tripletcl.runs.adapt import adapt
from tripletcl.runs.collection import open_collection
from tripletcl.runs.continue_run import continue_run
from tripletcl.runs.history import task_records
from tripletcl.runs.stored import FactRun
from tripletcl.runs.teach import teach, undo
from tripletcl.runs.train import train
from tripletcl.runs.upgrade_index import upgrade_index

Action = Callable[[Path], object]
"""Something that is done in a workplace."""

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
CALLS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod")
STATEMENTS = ("BEGIN IMMEDIATE", "COMMIT", "CREATE", "INSERT", "DELETE", "UPDATE")
VOLATILE = {"time", "seconds", "sha256", "digest", "random", "data_stat", "checked_ns"}
"""Entries of files that differ from one run to the next."""

CONNECT = sqlite3.connect

TEXTS = (".html", ".md", ".csv", ".tex", ".log")
"""Files of a comparison that tell how long it took: only their names are compared."""


# --- children ------------------------------------------------------------------------------------------------------


class Calls:
    """Counts the calls that change a folder, in memory that the parent sees; ends the process before one of them."""

    def __init__(self, folder: Path, last: int, count: mmap.mmap) -> None:
        self.folder, self.last, self.count = str(folder), last, count

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            if args[2] & WRITING:
                self.note(args[0], -1)
        elif event in CALLS:
            self.note(args[0], args[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1)

    def connect(self, *args: Any, **options: Any) -> sqlite3.Connection:
        """Connect to a database whose statements are counted."""
        connection = CONNECT(*args, **options)
        connection.set_trace_callback(self.trace)
        return connection

    def trace(self, statement: str) -> None:
        if statement.startswith(STATEMENTS):
            self.note(self.folder, -1)

    def note(self, path: Any, parent: int) -> None:
        if isinstance(path, int):
            return
        name = os.fsdecode(path)
        if parent >= 0:
            name = f"{Path(f'/proc/self/fd/{parent}').readlink()}/{name}"
        if name.startswith(self.folder):
            done = int.from_bytes(self.count[:8], "little") + 1
            self.count[:8] = done.to_bytes(8, "little")
            if done == self.last:
                os.kill(os.getpid(), signal.SIGKILL)


def in_child(
    work: Callable[[], object], folder: Path | None = None, last: int = 0, after: float | None = None
) -> tuple[int, int]:
    """Work in a forked process, which is killed before its `last` change of a folder, or after some seconds.

    Returns:
        Its exit code, -9 if it was killed and 1 after an error, which is printed, and the number of changes.
    """
    count = mmap.mmap(-1, 8)
    child = os.fork()
    if not child:
        code = 1
        try:
            torch.set_num_threads(1)  # the parent's other threads did not come along
            remove_drafts.cache_clear()  # as in a new process
            logging.disable()
            if folder is not None:
                calls = Calls(folder, last, count)
                sys.addaudithook(calls)
                sqlite3.connect = calls.connect  # type: ignore[assignment]  # SQLite's own calls are no Python's
            work()
            code = 0
        except (AssertionError, UserError) as error:
            print(f"    {error}", flush=True)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    if after is not None:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), int.from_bytes(count[:8], "little")


# --- commands ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Command:
    """A command that is killed.

    Attributes:
        name: For the table.
        base: The run that it begins with.
        action: The command.
        changes_run: Whether it changes a run, so that another command that does has to finish it.
    """

    name: str
    base: str
    action: Action
    changes_run: bool = False


def train_run(place: Path) -> None:
    train(field.settings(place / "data", training={"epochs": 1, "batch_size": 6}), place / "run")


def compare_methods(place: Path) -> None:
    """`tripletcl compare` without its page, with the runs in this process."""
    one = field.settings(place / "data", training={"epochs": 1, "batch_size": 24}, tasks=1)
    config = parse_config({**one.model_dump(mode="json"), "compare": {"methods": ["joint", "frozen"]}}, "test")
    runs = plan.plan(config, place / "run")

    def run_jobs(jobs: list[Any], *_: object) -> None:
        for job in jobs:
            run = next(run for run in runs if str(run.folder) in job.command)
            train(run.config, run.folder)

    with patch.object(plan, "run_jobs", run_jobs):
        results = plan.compare(config, place / "run")
    write_tables(results, plan.method_properties(config), place / "run")


def train_more(place: Path) -> None:
    continue_run(place / "run", place / "data" / "more.csv", ["training.epochs=1", "training.batch_size=12"])


def index_photos(place: Path) -> None:
    run = FactRun.open(place / "run")
    with writing(run.index, FactEmbedder.from_pretrained(run.stage_folder()), stage=run.stage()) as index:
        index.sync(place / "data" / "album", batch_size=4)
        index.add_photos(place / "data" / "picks", batch_size=4)


def upgrade_the_index(place: Path) -> None:
    upgrade_index(place / "run")


def teach_fact(place: Path) -> None:
    with patch.object(teaching, "EPOCHS", (1, 2)):
        teach(place / "run", "cyan lying", sorted((place / "data" / "picks").iterdir()))


def undo_lesson(place: Path) -> None:
    undo(place / "run")


def adapt_to_photos(place: Path) -> None:
    adapt(place / "run", place / "data" / "picks")


COMMANDS = [
    Command("train", "empty", train_run),
    Command("compare", "empty", compare_methods),
    Command("train --continue", "mas", train_more, changes_run=True),
    Command("index, new", "mas", index_photos),
    Command("index, changed photos", "mas, indexed", index_photos),
    Command("index upgrade, a learned map", "mas, continued", upgrade_the_index),
    Command("index upgrade, exact", "analytic, continued", upgrade_the_index),
    Command("teach, MAS", "mas, indexed", teach_fact, changes_run=True),
    Command("teach, analytic", "analytic, indexed", teach_fact, changes_run=True),
    Command("teach --undo, MAS", "mas, taught", undo_lesson, changes_run=True),
    Command("teach --undo, analytic", "analytic, taught", undo_lesson, changes_run=True),
    Command("adapt", "mas, indexed", adapt_to_photos, changes_run=True),
]


class Workplace:
    """Photos in `place/data` and a run in `place/run`, restored for each command from one of several bases."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.place = folder, folder / "place"
        data = self.place / "data"
        data.mkdir(parents=True)
        field.workplace(data)
        field.table(data, "more", ["purple", "red"], train=12)
        field.photos(data / "picks", "cyan", 6)
        field.photos(data / "album", "red", 5)

    def warm_up(self) -> None:
        """Do in this process what its children will do, so that they need not import and compile it again, each."""
        for work in (teach_fact, lambda place: read_everything(place, page=True), contents, undo_lesson):
            work(self.place if (self.place / "run").exists() else self.restore("mas, indexed"))

    def restore(self, base: str) -> Path:
        """Restore a base, which is prepared when it is first asked for."""
        shutil.rmtree(self.place / "run", ignore_errors=True)
        if base != "empty":
            stored = self.folder / base
            if not stored.exists():
                self._prepare(base)
                shutil.move(self.place / "run", stored)
            shutil.copytree(stored, self.place / "run")
        return self.place

    def _prepare(self, base: str) -> None:
        """Prepare a base from the one that it begins with: "mas, taught" is "mas, indexed" and a lesson."""
        method, _, more = base.partition(", ")
        if more:
            self.restore(method if more == "indexed" else f"{method}, indexed")
        steps: dict[str, Action] = {
            "": lambda place: train(
                field.settings(place / "data", {"mas": field.MAS, "analytic": field.ANALYTIC}[method]), place / "run"
            ),
            "indexed": self._index_and_change,
            "taught": teach_fact,
            "continued": train_more,
        }
        steps[more](self.place)  # in this process: its children need not import again what this imports

    def _index_and_change(self, place: Path) -> None:
        """Index the album, then remove a photo, change another and add a third."""
        album = place / "data" / "album"
        for photo in album.iterdir():
            photo.unlink()
        field.photos(album, "red", 5)
        run = FactRun.open(place / "run")
        with writing(run.index, FactEmbedder.from_pretrained(run.stage_folder()), stage=run.stage()) as index:
            index.sync(album)
        (album / "red-0.png").unlink()
        field.photo(album / "red-1.png", "yellow", 5)
        field.photo(album / "red-9.png", "blue", 5)


# --- what is compared ------------------------------------------------------------------------------------------------


def contents(place: Path) -> dict[str, Any]:
    """Return everything that a run, or a comparison, and its index hold, but for times."""
    folder, index = place / "run", place / "run" / "index"
    files = [file for file in folder.rglob("*") if file.is_file() and index not in file.parents and file.name != LOCK]
    found = {str(file.relative_to(folder)): _content(file) for file in files}
    if index.exists():
        photos = FactIndex.load(index)
        found |= {
            f"index: {photos.paths[row].name}": photos.rows([row])[0]
            for row in np.flatnonzero(~photos.deleted).tolist()
        }
        found["index"] = photos.model, photos.stage
    return found


def _content(file: Path) -> Any:
    if file.suffix == ".safetensors":
        with safe_open(file, framework="np") as opened:
            tensors = {key: opened.get_tensor(key).tobytes() for key in opened.keys()}  # noqa: SIM118
            return tensors, _steady(json.loads((opened.metadata() or {}).get("values", "{}")))
    if file.suffix == ".json":
        return _steady(json.loads(file.read_text()))
    if file.suffix == ".jsonl":
        return [_steady(json.loads(line)) for line in file.read_text().splitlines()]
    return file.read_bytes() if file.suffix not in TEXTS or file.parent.name == "tables" else None


def _steady(values: Any) -> Any:
    """Leave out what differs from one run to the next."""
    if isinstance(values, dict):
        return {key: _steady(value) for key, value in values.items() if key not in VOLATILE}
    return [_steady(value) for value in values] if isinstance(values, list) else values


def difference(expected: dict[str, Any], found: dict[str, Any]) -> str:
    """Name what is in one of two contents only, or differs; empty if they are equal."""
    names = {
        "lost": expected.keys() - found.keys(),
        "too much": found.keys() - expected.keys(),
        "different": [n for n in expected.keys() & found.keys() if not _equal(expected[n], found[n])],
    }
    return "; ".join(f"{word}: {', '.join(sorted(those))}" for word, those in names.items() if those)


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):  # a vector of the index; photos that are embedded in other batches differ a little
        return np.allclose(one, other, atol=1e-4)
    return bool(one == other)


def contents_in_child(place: Path) -> dict[str, Any]:
    """Read the contents in a child: the parent, which is forked, computes nothing itself."""
    path = place.parent / "contents.pickle"
    assert in_child(lambda: path.write_bytes(pickle.dumps(contents(place))))[0] == 0
    return pickle.loads(path.read_bytes())


PAGE_EVERY = 10
"""Of this many kill points, the page of the run is written after one: it takes longer than all else together."""

# --- the campaign ----------------------------------------------------------------------------------------------------


def read_everything(place: Path, page: bool) -> None:
    """Ask a run what commands ask that change nothing; each answers, or says why not in a sentence."""
    run = place / "run"
    questions: list[Callable[[], object]] = [
        lambda: task_records(run),
        lambda: open_collection(run).index.search("red", 2),
        *([lambda: write_summary([run], place / "page.html")] if page else []),
    ]
    for question in questions:
        with suppress(UserError):
            question()


class Campaign:
    """Kills one command, and checks what is left of it.

    Attributes:
        points: The number of changes that the command makes: so many kill points it has.
    """

    def __init__(self, workplace: Workplace, command: Command) -> None:
        self.workplace, self.command = workplace, command
        self.run = workplace.restore(command.base) / "run"
        self.before = contents_in_child(workplace.place)
        code, self.points = in_child(lambda: command.action(workplace.place), self.run)
        assert code == 0
        self.after = contents_in_child(workplace.place)

    def repeat(self) -> None:
        """Run the command without killing it."""
        place = self.workplace.restore(self.command.base)
        assert in_child(lambda: self.command.action(place))[0] == 0

    def kill(self, *points: int, after: float | None = None) -> str:
        """Kill the command before a change, and again when it is repeated, or once after some seconds.

        Returns:
            What is wrong with what is left; empty if nothing is.
        """
        place, killed = self.workplace.restore(self.command.base), self.workplace.folder / "killed"
        kills = [(point, None) for point in points] or [(0, after)]
        codes = [in_child(lambda: self.command.action(place), self.run, *kill)[0] for kill in kills]
        assert codes[0] == -signal.SIGKILL or (codes[0] == 0 and not points)
        shutil.rmtree(killed, ignore_errors=True)
        if self.run.exists():
            shutil.copytree(self.run, killed)
        wrong = self._check(lambda: self._repeat(place, ended=codes[-1] == 0, page=sum(points) % PAGE_EVERY == 1))
        if self.command.changes_run and not wrong:
            shutil.rmtree(self.run)
            shutil.copytree(killed, self.run)
            wrong = self._check(lambda: self._finish_by_another(place))
        return wrong

    def _check(self, check: Callable[[], str]) -> str:
        """Check something in a child; returns what is wrong."""
        path = self.workplace.folder / "wrong"
        code = in_child(lambda: path.write_text(check()))[0]
        return path.read_text() if code == 0 else "a command fails"

    def _repeat(self, place: Path, ended: bool, page: bool) -> str:
        """Read, and repeat the command unless it has ended."""
        read_everything(place, page)
        if not ended:
            self.command.action(place)
        words = difference(self.after, contents(place))
        return words and f"the same command ends in another state: {words}"

    def _finish_by_another(self, place: Path) -> str:
        """Let `train --continue RUN` finish it: the state is then that of before, or that of after."""
        continue_run(place / "run")
        found = contents(place)
        words = [difference(each, found) for each in (self.before, self.after)]
        return "" if "" in words else f"another command leaves it half done: {min(words, key=len)}"
