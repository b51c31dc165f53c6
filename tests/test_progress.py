"""Progress: who hears it, and how a terminal and a pipe display it."""

from __future__ import annotations

import contextvars
import io
import threading
from collections.abc import Callable
from pathlib import Path

import field
import pytest
from rich.console import Console

from tripletcl.cli.progress import progress_bars
from tripletcl.progress import Progress, listening, report
from tripletcl.runs import teach as teaching
from tripletcl.runs.teach import teach, undo
from tripletcl.runs.train import train


def test_a_listener_hears_its_block_only() -> None:
    heard: list[Progress] = []
    report("before", 1, 1)
    with listening(heard.append):
        report("inside", 1, 2)
        with listening(None):
            report("silenced", 1, 1)
        report("inside", 2, 2, loss=0.5)
    report("after", 1, 1)
    assert heard == [Progress("inside", 1, 2), Progress("inside", 2, 2, 0.5)]


def test_a_listener_is_forgotten_after_an_error() -> None:
    heard: list[Progress] = []
    with pytest.raises(KeyboardInterrupt), listening(heard.append):
        raise KeyboardInterrupt
    report("after", 1, 1)
    assert heard == []


def test_two_threads_do_not_hear_each_other() -> None:
    heard: dict[str, list[Progress]] = {"one": [], "two": []}
    turns = threading.Barrier(2, timeout=10)

    def work(name: str) -> None:
        with listening(heard[name].append):
            turns.wait()  # both listen now
            report(name, 1, 1)
            turns.wait()  # and neither has stopped yet

    map_in_threads(*(lambda name=name: work(name) for name in heard))
    assert heard == {name: [Progress(name, 1, 1)] for name in heard}


def test_a_thread_is_heard_through_a_copy_of_the_context_only() -> None:
    heard: list[Progress] = []
    with listening(heard.append):
        context = contextvars.copy_context()
        map_in_threads(lambda: report("alone", 1, 1), lambda: context.run(report, "copied", 1, 1))
    assert heard == [Progress("copied", 1, 1)]


def map_in_threads(*actions: Callable[[], object]) -> None:
    """Run each action in a thread of its own."""
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_listener_follows_training_and_teaching(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPLETCL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(teaching, "EPOCHS", (1, 2))
    place = field.workplace(tmp_path)
    heard: list[Progress] = []
    with listening(heard.append):
        train(field.settings(place), place / "run")
    assert labels(heard) == ["decoding images", "frozen features", "task 1", "task 2"]
    assert all(progress.loss is not None for progress in heard if progress.label.startswith("task"))
    assert all(0 < progress.done <= progress.total for progress in heard)

    heard.clear()
    with listening(heard.append):
        teach(place / "run", "cyan lying", field.photos(place / "picks", "cyan", 5))
        undo(place / "run")
    assert labels(heard)[:3] == ["decoding images", "frozen features", "task 3"]


def labels(heard: list[Progress]) -> list[str]:
    """The labels in the order in which they first appear."""
    return list(dict.fromkeys(progress.label for progress in heard))


def test_a_terminal_shows_the_rate_and_the_time_left() -> None:
    screen = io.StringIO()
    with progress_bars(Console(file=screen, force_terminal=True, width=120)):
        for done in (16, 32, 48, 64):
            report("embedding", done, 64)
        report("task 1", 1, 2, loss=0.25)
    text = screen.getvalue()
    assert "embedding" in text
    assert "64/64" in text
    assert "/s" in text
    assert "0:00:00" in text
    assert "loss 0.250" in text


def test_a_pipe_gets_a_plain_line_at_the_end() -> None:
    pipe = io.StringIO()
    with progress_bars(Console(file=pipe)):
        for done in (16, 32, 48, 64):
            report("embedding", done, 64)
        report("task 1", 2, 2, loss=0.25)
    assert pipe.getvalue() == "embedding: 64/64\ntask 1: 2/2 loss 0.250\n"
