"""Runs commands in parallel, each in a process of its own; when this process is stopped, so are they.

The standard input of each is a pipe that ends with this process, and through which it is told how many threads it may
use; see `tripletcl.compare.child`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 3.0
"""The time that a process has to end by itself: Ctrl-C in a terminal reaches it as well as this one."""

Environment = Mapping[str, str]
"""Variables that are set for a process in addition to those of this one."""

Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Job:
    """A command; with a log, its output is appended there instead of being printed."""

    command: Sequence[str]
    log: Path | None = None


def run_jobs(
    jobs: Sequence[Job],
    places: Sequence[Environment],
    started: Callable[[int], None] = lambda index: None,
    ended: Callable[[int], None] = lambda index: None,
    threads: Callable[[int], int] | None = None,
) -> None:
    """Run all jobs, at most as many at once as there are places; a job that fails does not stop the others.

    Args:
        places: The variables of the processes that run at the same time: the GPU of each, its number of threads.
        started: Called with the index of a job that has started.
        ended: Called with the index of a job that has ended, well or not.
        threads: The number of processes that run to the threads of each: told to the remaining ones whenever one has
            ended and no job waits for its place.
    """
    waiting, free = list(range(len(jobs))), list(places)
    running: dict[Future[int], tuple[Process, int, Environment]] = {}
    with signals_raise(), ThreadPoolExecutor(max(len(places), 1)) as pool:
        try:
            while waiting or running:
                while waiting and free:
                    index, place = waiting.pop(0), free.pop(0)
                    process = _start(jobs[index], place)
                    running[pool.submit(process.wait)] = process, index, place
                    started(index)
                if threads is not None and len(running) < len(places):  # no job waits for the free ones
                    _tell([process for process, _, _ in running.values()], threads(len(running)))
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    process, index, place = running.pop(future)
                    with suppress(OSError):  # what it was told last, it may not have read
                        process.communicate()  # closes its pipe
                    free.append(place)
                    ended(index)
        finally:
            _stop(running, [process for process, _, _ in running.values()])


def _start(job: Job, place: Environment) -> Process:
    environment = {**os.environ, **place}
    if job.log is None:
        return subprocess.Popen(job.command, stdin=subprocess.PIPE, env=environment)
    with job.log.open("ab") as log:
        return subprocess.Popen(
            job.command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=environment
        )


def _tell(processes: Sequence[Process], threads: int) -> None:
    """Tell processes how many threads they may use."""
    for process in processes:
        assert process.stdin is not None
        with suppress(OSError):  # it has just ended
            process.stdin.write(bytes([min(threads, 255)]))
            process.stdin.flush()


def _stop(ends: Collection[Future[int]], processes: Sequence[Process]) -> None:
    """Wait for processes to end by themselves, then terminate, then kill those that have not."""
    for stop in (subprocess.Popen.terminate, subprocess.Popen.kill):
        if wait(ends, timeout=PATIENCE_SECONDS).not_done:
            for process in processes:
                stop(process)  # without effect on a process that has ended


@contextmanager
def signals_raise() -> Iterator[None]:
    """SIGTERM and a closed terminal raise like Ctrl-C, instead of ending this process at once."""
    if threading.current_thread() is not threading.main_thread():  # the only thread that may set signal handlers
        yield
        return

    def leave(number: int, _: Any) -> None:
        sys.exit(128 + number)

    default = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) == signal.SIG_DFL]
    for number in default:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in default:
            signal.signal(number, signal.SIG_DFL)
