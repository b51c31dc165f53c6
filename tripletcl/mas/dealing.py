"""Work dealt to threads, each of which works alone on its share.

What importance does for one sample, or a penalty for one piece of the parameters, is too small to be divided among
cores: waking them takes as long as they help, and what one of them has in its cache is not where the other goes on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier
from typing import Any

import torch
from torch import Tensor


def deal(work: Callable[[slice, Tensor], object], samples: int, total: Tensor) -> None:
    """Add to `total` what all samples give: on the CPU by as many threads at once as torch may use.

    Memory: a sum like `total` for each thread but one. Shares are the same at each call, so results are, too.

    Args:
        work: (samples, sum): adds to the sum, in place, what these samples give.
    """
    shares = shares_of(samples) if total.device.type == "cpu" else [slice(0, samples)]
    sums = [total, *(torch.zeros_like(total) for _ in shares[1:])]
    at_once(work, shares, sums)
    for one in sums[1:]:
        total.add_(one)


def shares_of(length: int) -> list[slice]:
    """The parts of a length that are worked on at once: as many as torch may use threads."""
    threads = max(1, min(torch.get_num_threads(), length))
    bounds = [length * i // threads for i in range(threads + 1)]
    return [slice(*bounds[i : i + 2]) for i in range(threads)]


def at_once(work: Callable[..., object], *arguments: Iterable[Any]) -> None:
    """Call `work` with the first of all arguments, with the second of all, ..., each call in a thread of its own."""
    calls = list(zip(*arguments, strict=True))
    if len(calls) == 1:
        work(*calls[0])
        return
    dealt = [_workers(len(calls)).submit(torch.no_grad()(work), *call) for call in calls]
    wait(dealt)
    for each in dealt:
        each.result()


@cache
def _workers(threads: int) -> ThreadPoolExecutor:
    """Threads whose operations do not call further threads; everyone else's do as before."""
    ready = Barrier(threads)

    def alone() -> None:
        torch.get_num_threads()  # a new thread takes the usual number at its first question, after which it may be set
        torch.set_num_threads(1)
        ready.wait()

    usual = torch.get_num_threads()
    workers = ThreadPoolExecutor(threads, thread_name_prefix="dealt", initializer=alone)
    wait([workers.submit(int) for _ in range(threads)])
    torch.set_num_threads(usual)  # what later threads will take
    return workers


os.register_at_fork(after_in_child=_workers.cache_clear)  # threads do not survive in a forked process
