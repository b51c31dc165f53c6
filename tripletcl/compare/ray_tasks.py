"""Runs of a comparison as tasks of a Ray cluster, or of a Ray that is started on this machine.

A task whose worker or node dies is started again by Ray, and resumes. The tasks end with this process.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tripletcl.compare.cluster import Called, import_library, own_version, run_command
from tripletcl.compare.processes import Job
from tripletcl.gallery.ray_cluster import connected

if TYPE_CHECKING:
    from tripletcl.config.base import Engine

log = logging.getLogger("tripletcl")

RETRIES = 20
"""How often Ray starts a task again whose worker died."""


def run_jobs(
    jobs: Sequence[Job], engine: Engine, out: Path, at_once: int | None, started: Called, ended: Called
) -> None:
    """Run all jobs as tasks, and wait for them.

    Raises:
        UserError: there is no Ray cluster at the engine's address.
    """
    ray = import_library("ray")
    with connected(ray, engine.address):
        _warn_of_too_little(ray.cluster_resources(), engine)
        run = ray.remote(num_cpus=engine.cpus, num_gpus=engine.gpus, max_retries=RETRIES)(run_command)
        waiting, running = list(range(len(jobs))), dict[Any, int]()
        while waiting or running:
            while waiting and len(running) < (at_once or len(jobs)):
                index = waiting.pop(0)
                running[run.remote(jobs[index], own_version())] = index
                started(index)
            for reference in ray.wait(list(running))[0]:
                index = running.pop(reference)
                _note_lost(ray, reference, jobs[index])
                ended(index)


def _note_lost(ray: Any, reference: Any, job: Job) -> None:
    """Write to a job's log why Ray gave it up, if it did."""
    try:
        ray.get(reference)
    except ray.exceptions.RayError as error:
        assert job.log is not None
        with job.log.open("a", encoding="utf-8") as file:
            file.write(f"tripletcl: Ray gave the run up: {str(error).strip().splitlines()[-1]}\n")


def _warn_of_too_little(resources: dict[str, float], engine: Engine) -> None:
    for name, wanted in (("CPU", engine.cpus), ("GPU", engine.gpus)):
        if wanted > (there := resources.get(name, 0)):
            log.warning("each run needs %g %s, and the cluster has %g: the runs wait for more", wanted, name, there)
