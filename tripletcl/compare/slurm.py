"""Runs of a comparison as a job array of SLURM, submitted by submitit.

A job that is put back into the queue, since its node failed or its time is over, resumes where it was. The jobs stay in
the queue when this process ends; OUT/slurm/jobs.json has their numbers, and the same command waits for them instead of
submitting them twice.

SLURM's accounting is not needed: a job has ended when the queue no longer lists it.
"""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tripletcl.compare.cluster import Called, import_library, own_version, run_command
from tripletcl.compare.processes import Job
from tripletcl.errors import UserError
from tripletcl.files import read_json, write_json

if TYPE_CHECKING:
    from tripletcl.config.base import Engine

log = logging.getLogger("tripletcl")

FOLDER, NUMBERS = "slurm", "jobs.json"
"""The folder of submitit's files below that of the comparison, and the jobs that are in the queue."""

POLL_SECONDS = 10.0
"""Between two looks into the queue."""

MISSING_LOOKS = 2
"""A job has ended once the queue has not listed it so many times in a row."""

TIMEOUTS = 1000
"""How often a job is put back into the queue when its time is over."""

MINUTES = 60


class Command:
    """A job's command, run on the node that SLURM chose."""

    def __init__(self, job: Job, version: str) -> None:
        self.job, self.version = job, version

    def __call__(self) -> int:
        """Run the command; returns its exit code."""
        return run_command(self.job, self.version)

    def checkpoint(self) -> Any:
        """Do the same again, later: submitit calls it when the time is over or the job has to make room."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_jobs(
    jobs: Sequence[Job], engine: Engine, out: Path, at_once: int | None, started: Called, ended: Called
) -> None:
    """Run all jobs as an array, and wait for them.

    Raises:
        UserError: there is no SLURM here, or it refuses the jobs.
    """
    queue, numbers = read_queue(), out / FOLDER / NUMBERS
    before = read_json(numbers)["jobs"] if numbers.exists() else {}
    names = [str(job.log) for job in jobs]
    waiting = {index: before[name] for index, name in enumerate(names) if before.get(name) in queue}
    if new := [index for index in range(len(jobs)) if index not in waiting]:
        waiting |= zip(new, _submit([jobs[index] for index in new], engine, out / FOLDER, at_once), strict=True)
        write_json(numbers, {"jobs": {names[index]: number for index, number in waiting.items()}})
    arrays = sorted({number.partition("_")[0] for number in waiting.values()})
    log.info(
        "%d jobs are in the queue, %s; if this command is stopped they stay there, and the same command waits for them",
        *(len(waiting), ", ".join(arrays)),
    )
    _wait(waiting, started, ended)


def _submit(jobs: Sequence[Job], engine: Engine, folder: Path, at_once: int | None) -> list[str]:
    """Submit jobs as one array; returns their numbers, such as `17_0`."""
    submitit = import_library("slurm")
    options = {
        "timeout_min": max(1, round(engine.hours * MINUTES)),
        "cpus_per_task": engine.cpus,
        "slurm_job_name": "tripletcl",
        "slurm_array_parallelism": at_once or len(jobs),
        "slurm_additional_parameters": {"requeue": True, **engine.options},
    }
    optional = {"gpus_per_node": int(engine.gpus), "mem_gb": engine.memory, "slurm_partition": engine.partition}
    options |= {name: value for name, value in optional.items() if value}
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=TIMEOUTS)
        executor.update_parameters(**options)
        with executor.batch():
            submitted = [executor.submit(Command(job, own_version())) for job in jobs]
    except (RuntimeError, submitit.core.utils.FailedJobError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise UserError(f"SLURM refuses the jobs: {lines[-1] if lines else error}") from error
    return [job.job_id for job in submitted]


def read_queue() -> dict[str, str]:
    """Read the states of this user's jobs in the queue by their numbers.

    Raises:
        UserError: there is no SLURM here, or it does not answer.
    """
    command = ["squeue", "--me", "--array", "--noheader", "--format=%i %T"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        raise UserError("there is no SLURM here: the command squeue is missing") from None
    except subprocess.CalledProcessError as error:
        raise UserError(f"SLURM does not answer: {error.stderr.strip().partition(chr(10))[0]}") from error
    return dict(line.split() for line in listed.splitlines() if line.strip())


def _wait(waiting: dict[int, str], started: Called, ended: Called) -> None:
    """Wait until the queue lists none of the jobs."""
    announced: set[int] = set()
    missing = dict.fromkeys(waiting, 0)
    while waiting:
        try:
            queue = read_queue()
        except UserError as error:  # SLURM is being restarted, say
            log.warning("%s", error)
            queue = dict.fromkeys(waiting.values(), "UNKNOWN")
        for index, number in list(waiting.items()):
            if queue.get(number) == "RUNNING" and index not in announced:
                announced.add(index)
                started(index)
            missing[index] = 0 if number in queue else missing[index] + 1
            if missing[index] >= MISSING_LOOKS:
                del waiting[index]
                ended(index)
        if waiting:
            time.sleep(POLL_SECONDS)
