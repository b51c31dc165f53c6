"""Commands side by side, each in a process of its own; when this process is stopped, so are they."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOOK_SECONDS = 0.1
"""Between looks at which process has ended."""

PATIENCE_SECONDS = 3.0
"""What a process gets to end by itself: Ctrl-C in a terminal reaches it as it reaches this one."""

Environment = Mapping[str, str]
"""Variables set for a process over those of this one."""


@dataclass(frozen=True)
class Job:
    """A command; with a log, what it prints is added there instead of going to the terminal."""

    command: Sequence[str]
    log: Path | None = None


def run_jobs(
    jobs: Sequence[Job],
    places: Sequence[Environment],
    started: Callable[[int], None] = lambda index: None,
    ended: Callable[[int], None] = lambda index: None,
) -> None:
    """Run all jobs, as many at once as there are places; one that fails does not keep the others from running.

    Args:
        places: What sets apart the processes that run at the same time: the GPU of each, its number of threads.
        started: Called with the index of a job that was started.
        ended: Called with the index of a job that has ended, well or not.
    """
    waiting, free = list(range(len(jobs))), list(places)
    running: dict[int, tuple[subprocess.Popen[bytes], Environment]] = {}
    with _stopped_with_this_one(running):
        while waiting or running:
            while waiting and free:
                index, place = waiting.pop(0), free.pop(0)
                running[index] = _start(jobs[index], place), place
                started(index)
            time.sleep(LOOK_SECONDS)
            for index in [index for index, (process, _) in running.items() if process.poll() is not None]:
                free.append(running.pop(index)[1])
                ended(index)


def _start(job: Job, place: Environment) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **place}
    if job.log is None:
        return subprocess.Popen(job.command, stdin=subprocess.DEVNULL, env=environment)
    with job.log.open("ab") as log:
        return subprocess.Popen(
            job.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=environment
        )


@contextmanager
def _stopped_with_this_one(running: Mapping[int, tuple[subprocess.Popen[bytes], Environment]]) -> Iterator[None]:
    """Whatever ends the block, an error, Ctrl-C or a signal, ends the processes."""
    with _signals_raise():
        try:
            yield
        finally:
            processes = [process for process, _ in running.values()]
            for tell in (subprocess.Popen.terminate, subprocess.Popen.kill):
                _wait(processes)
                for process in processes:
                    tell(process)  # one that has ended is left alone
            _wait(processes)


def _wait(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """A polite kill and a closed terminal leave the block as Ctrl-C does, instead of ending this process at once."""
    if threading.current_thread() is not threading.main_thread():  # the only one that may set what a signal does
        yield
        return

    def leave(number: int, _: Any) -> None:
        sys.exit(128 + number)

    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]  # Windows has no SIGHUP
    numbers = [getattr(signal, name) for name in names]
    default = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in default:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in default:
            signal.signal(number, signal.SIG_DFL)
