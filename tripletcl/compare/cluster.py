"""Runs of a comparison on other machines: what the engines `slurm` and `ray` have in common.

A job is the command that trains the run, in a folder that all machines see. It resumes what it finds there, so it may
be interrupted and started again, and what it achieved is in that folder, whatever the engine says about it. The
machines import this without torch.
"""

from __future__ import annotations

import importlib
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tripletcl.compare.processes import Job
from tripletcl.errors import UserError

if TYPE_CHECKING:
    from tripletcl.config.base import Engine

Called = Callable[[int], None]
"""Called with the index of a job."""

RunJobs = Callable[[Sequence[Job], "Engine", Path, int | None, Called, Called], None]
"""Runs jobs on an engine: jobs, settings, the comparison's folder, how many at once, and what to call when a job has
started and ended. A job that fails does not stop the others."""

PACKAGE = "tripletcl"
MODULES = {"slurm": "tripletcl.compare.slurm", "ray": "tripletcl.compare.ray_tasks"}
LIBRARIES = {"slurm": "submitit", "ray": "ray"}


def cluster(name: str) -> RunJobs:
    """Load an engine, and the library that it needs.

    Raises:
        UserError: the library is not installed.
    """
    import_library(name)
    run_jobs: RunJobs = importlib.import_module(MODULES[name]).run_jobs
    return run_jobs


def import_library(name: str) -> Any:
    """Import the library of an engine.

    Raises:
        UserError: it is not installed.
    """
    library = LIBRARIES[name]
    try:
        return importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name != library:
            raise
        raise UserError(
            f"engine {name} needs {library}, which is not installed: pip install tripletcl[cluster]"
        ) from None


def own_version() -> str:
    """Return the version of this package."""
    return version(PACKAGE)


def run_command(job: Job, expected: str) -> int:
    """Run a job's command on the machine that the engine chose; returns its exit code.

    It ends with this process: its standard input is a pipe (`tripletcl.compare.child`).

    Args:
        expected: The version of this package where the comparison was started; another one is refused, in the log.
    """
    assert job.log is not None
    with job.log.open("ab") as log:
        if (own := own_version()) != expected:
            log.write(f"tripletcl: this machine has tripletcl {own}, and the comparison {expected}\n".encode())
            return 2
        with subprocess.Popen(job.command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT) as process:
            return process.wait()
