"""A folder is followed: what changes in it leads to a call, also while one runs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from tripletcl.errors import UserError
from tripletcl.runs import watch as module
from tripletcl.runs.watch import watch


def test_a_change_leads_to_a_call_and_one_meanwhile_to_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("watchfiles")
    monkeypatch.setattr(module, "QUIET_MS", 50)
    stop, called, seen = threading.Event(), threading.Semaphore(0), []

    def act() -> None:
        seen.append(sorted(path.name for path in tmp_path.rglob("*.jpg")))
        if len(seen) == 1:
            (tmp_path / "second.jpg").touch()
        called.release()

    thread = threading.Thread(target=watch, args=(tmp_path, act, stop))
    thread.start()
    wait_for(tmp_path, called)
    assert called.acquire(timeout=30)
    stop.set()
    thread.join(30)
    assert "first.jpg" in seen[0]
    assert "second.jpg" in seen[-1]


def test_names_that_are_no_unicode_are_changes_like_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("watchfiles")
    monkeypatch.setattr(module, "QUIET_MS", 50)
    stop, called = threading.Event(), threading.Semaphore(0)
    thread = threading.Thread(target=watch, args=(tmp_path, called.release, stop))
    thread.start()
    wait_for(tmp_path, called)
    for name in (b"caf\xe9.jpg", b"na\xefve.jpg"):
        wait_for(tmp_path, called, os.fsdecode(name))
        assert thread.is_alive()
    stop.set()
    thread.join(30)
    assert not thread.is_alive()


def wait_for(folder: Path, called: threading.Semaphore, name: str = "first.jpg") -> None:
    """Write a file until it is noticed: it takes a moment until the system reports changes."""
    for number in range(100):
        (folder / name).write_text(str(number))
        if called.acquire(timeout=0.3):
            return
    raise AssertionError(f"{name!r} was not noticed")


def test_without_its_package_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "watchfiles", None)
    with pytest.raises(UserError, match=r"tripletcl\[watch\]"):
        watch(tmp_path, lambda: None)
