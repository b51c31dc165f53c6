"""Locks between processes: one works while the other waits, and nothing is left behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from tripletcl.errors import UserError
from tripletcl.files import locked

ROUNDS = 200


def count_up(lock: Path, counter: Path, barrier: Barrier) -> None:
    """Runs in a process of its own: reads, waits, writes; without a lock counts are lost."""
    barrier.wait(30)
    for _ in range(ROUNDS):
        with locked(lock):
            count = int(counter.read_text())
            time.sleep(0.0002)
            counter.write_text(str(count + 1))


def hold(lock: Path, barrier: Barrier) -> None:
    with locked(lock):
        barrier.wait(30)
        time.sleep(60)


def test_two_processes_take_turns(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    lock, counter, barrier = tmp_path / "new" / "lock", tmp_path / "counter", context.Barrier(2)
    counter.write_text("0")
    processes = [context.Process(target=count_up, args=(lock, counter, barrier)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert int(counter.read_text()) == 2 * ROUNDS
    assert list(lock.parent.iterdir()) == []


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    process = context.Process(target=hold, args=(tmp_path / "lock", barrier))
    process.start()
    barrier.wait(30)
    with pytest.raises(UserError, match="it is busy"), locked(tmp_path / "lock", busy="it is busy"):
        pass
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(30)
    with locked(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()


def test_an_error_inside_is_passed_on_and_lets_go(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), locked(tmp_path / "lock", busy="it is busy"):
        raise BlockingIOError
    assert list(tmp_path.iterdir()) == []
