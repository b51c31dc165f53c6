"""Data-parallel CPU work: samples are split over single-threaded workers, whose partial sums are added at the end.

The work on one sample, or on one chunk of the parameters, is too small to be divided among cores: waking their threads
takes as long as they help, and data in one core's cache is not where the next operation continues.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise
from threading import Barrier
from typing import Any

import torch
from torch import Tensor


def map_samples(work: Callable[[slice, Tensor], object], samples: int, total: Tensor) -> None:
    """Add the results of all samples to `total`; on the CPU by as many workers as torch may use threads.

    Memory: a tensor like `total` for every worker but one. The split is the same in each call, and so is the result.

    Args:
        work: Called with a slice of the samples and a sum, to which it adds their result in place.
        samples: Their number.
        total: The sum of all results.
    """
    slices = even_slices(samples) if total.device.type == "cpu" else [slice(0, samples)]
    partial_sums = [total, *(torch.zeros_like(total) for _ in slices[1:])]
    run_threads(work, slices, partial_sums)
    for partial_sum in partial_sums[1:]:
        total.add_(partial_sum)


def even_slices(length: int) -> list[slice]:
    """Split a length into as many slices as torch may use threads."""
    threads = max(1, min(torch.get_num_threads(), length))
    bounds = [length * i // threads for i in range(threads + 1)]
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def run_threads(work: Callable[..., object], *arguments: Iterable[Any]) -> None:
    """Call `work` with the first entries of all arguments, with the second ones, ..., each call in its own thread."""
    calls = list(zip(*arguments, strict=True))
    if len(calls) == 1:
        work(*calls[0])
        return
    futures = [_workers(len(calls)).submit(torch.no_grad()(work), *call) for call in calls]
    wait(futures)
    for future in futures:
        future.result()


@cache
def _workers(threads: int) -> ThreadPoolExecutor:
    """Workers whose torch operations use one thread; those of all other threads use as many as before."""
    started = Barrier(threads)

    def use_one_thread() -> None:
        torch.get_num_threads()  # a new thread takes the default when it first asks; only then it can be set
        torch.set_num_threads(1)
        started.wait()

    default = torch.get_num_threads()
    workers = ThreadPoolExecutor(threads, thread_name_prefix="samples", initializer=use_one_thread)
    wait([workers.submit(int) for _ in range(threads)])
    torch.set_num_threads(default)  # also the default of threads that start later
    return workers


os.register_at_fork(after_in_child=_workers.cache_clear)  # threads do not survive in a forked process
