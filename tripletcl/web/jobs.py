"""Long work that the server does one after another, with its progress for whoever asks."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from tripletcl.errors import UserError
from tripletcl.progress import Progress, listening

log = logging.getLogger("tripletcl")

JOBS_HELD = 200
"""Jobs in memory; the first ones that have ended are forgotten."""

State = Literal["waiting", "running", "done", "failed"]


class NotHere(UserError):
    """A thing that was asked for by its name, and that is not there."""


@dataclass
class Job:
    """A piece of long work.

    Attributes:
        id: Its name.
        kind: "teach" or "undo".
        about: What it is about: the fact, in words.
        started: When it was asked for, in ISO format.
        state: "waiting", "running", "done" or "failed".
        progress: The last progress that was reported.
        result: What it came to; None until it is done.
        error: The sentence why it failed.
    """

    kind: str
    about: str
    id: str = field(default_factory=lambda: secrets.token_hex(8))
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    state: State = "waiting"
    progress: Progress | None = None
    result: dict[str, Any] | None = None
    error: str | None = None

    @property
    def ended(self) -> bool:
        """True if it is done, or has failed."""
        return self.state in ("done", "failed")

    def listen(self, progress: Progress) -> None:
        """Take the progress of its work."""
        self.progress = progress

    def run(self, work: Callable[[Job], dict[str, Any]]) -> None:
        """Do the work; an error becomes its sentence."""
        self.state = "running"
        try:
            with listening(self.listen):
                self.result = work(self)
            self.state = "done"
        except UserError as error:
            self.error, self.state = str(error), "failed"
        except Exception as error:
            log.exception("the server could not %s", self.kind)
            self.error = f"this did not work ({type(error).__name__}); see the terminal of the server"
            self.state = "failed"


class Jobs:
    """The long work of a server: one at a time, the others wait."""

    def __init__(self) -> None:
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._workers = ThreadPoolExecutor(1, "tripletcl-job")

    def start(self, job: Job, work: Callable[[Job], dict[str, Any]]) -> Future[None]:
        """Start a job as soon as those before it have ended."""
        with self._lock:
            self._jobs[job.id] = job
            ended = [each.id for each in self._jobs.values() if each.ended]
            for name in ended[: max(0, len(self._jobs) - JOBS_HELD)]:
                del self._jobs[name]
        return self._workers.submit(job.run, work)

    def list(self) -> list[Job]:
        """All jobs, the latest first."""
        with self._lock:
            return list(reversed(self._jobs.values()))

    def get(self, name: str) -> Job:
        """A job by its name.

        Raises:
            NotHere: there is none.
        """
        with self._lock:
            if name not in self._jobs:
                raise NotHere("there is no such job; it was forgotten, or the server was started again")
            return self._jobs[name]

    def close(self) -> None:
        """Wait for the job that runs, and drop those that wait."""
        self._workers.shutdown(cancel_futures=True)
