"""A folder is followed: what changes in it leads to a call, also while one runs."""

from __future__ import annotations

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
    for number in range(100):  # it takes a moment until the system reports changes
        (tmp_path / "first.jpg").write_text(str(number))
        if called.acquire(timeout=0.3):
            break
    assert called.acquire(timeout=30)
    stop.set()
    thread.join(30)
    assert "first.jpg" in seen[0]
    assert "second.jpg" in seen[-1]


def test_without_its_package_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "watchfiles", None)
    with pytest.raises(UserError, match=r"tripletcl\[watch\]"):
        watch(tmp_path, lambda: None)
