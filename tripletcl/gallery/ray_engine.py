"""Embed shards by the workers of a Ray cluster.

The workers are a pool of actors of Ray Data. One that dies is started again, on another node if its own is lost, and
its shards are given to the others; parts that are there are not computed again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

from tripletcl.errors import UserError
from tripletcl.gallery.embed import Job, ShardWorker
from tripletcl.gallery.parts import ShardResult
from tripletcl.gallery.ray_cluster import connected

BLOCKS = 1000
"""The most blocks that the numbers of shards are sent in: a block is sent again if its worker dies."""

STORE_BYTES = 2**27
"""Size of the store of objects of a Ray that is started here; only numbers of shards pass through it."""


class Actor:
    """A worker; what it returns for a batch of one shard is a row."""

    def __init__(self, job: Job) -> None:
        self.worker = ShardWorker(job)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        results = [(number, self.worker.embed(number)) for number in batch["number"].tolist()]
        return {
            "number": [number for number, _ in results],
            "photos": [result.photos for _, result in results],
            "broken": [result.broken for _, result in results],
        }


def run_on_ray(job: Job, numbers: Sequence[int], workers: int | None) -> Iterator[tuple[int, ShardResult]]:
    """Embed shards on the cluster of RAY_ADDRESS, or on one that is started on this machine.

    Args:
        job: What to do.
        numbers: The shards.
        workers: Number of workers, each with a processor, or a GPU where the cluster has any and the job asks for one;
            by default one for each.

    Raises:
        UserError: Ray is not installed, the cluster is not there, or a worker cannot do its work.
    """
    ray = _import_ray()
    processors = max(os.cpu_count() or 1, workers or 1)
    with connected(ray, None, object_store_memory=STORE_BYTES, num_cpus=processors):
        yield from _results(ray, job, numbers, workers)


def _import_ray() -> Any:
    try:
        import ray.data
    except ImportError as error:
        raise UserError('--engine ray needs Ray: pip install "tripletcl[cluster]"') from error
    return ray


def _results(ray: Any, job: Job, numbers: Sequence[int], workers: int | None) -> Iterator[tuple[int, ShardResult]]:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    on_gpu = job.device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
    count = workers or int(ray.cluster_resources().get("GPU" if on_gpu else "CPU", 1))
    dataset = ray.data.from_items(
        [{"number": number} for number in numbers], override_num_blocks=min(len(numbers), BLOCKS)
    ).map_batches(
        Actor,
        fn_constructor_kwargs={"job": job},
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(count, len(numbers))),
        **({"num_gpus": 1} if on_gpu else {"num_cpus": 1}),
    )
    try:
        for row in dataset.iter_rows():
            yield row["number"], ShardResult(row["photos"], row["broken"])
    except ray.exceptions.RayError as error:
        raise _explained(error) from error


def _explained(error: BaseException) -> UserError:
    """The user's mistake that a worker met, or the last line of what Ray says."""
    cause: BaseException | None = error
    while cause is not None:
        inner = getattr(cause, "cause", None) or cause.__cause__
        if isinstance(cause, UserError) and not hasattr(cause, "cause"):
            return cause
        cause = inner
    return UserError(f"a worker on Ray failed: {str(error).strip().splitlines()[-1]}")
