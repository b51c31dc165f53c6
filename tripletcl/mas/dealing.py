"""Samples dealt to threads, each of which works alone on its share.

What importance does for one sample is too small to be divided among cores: waking them takes as long as they help, and
the gradient that one of them has in its cache is not where the other adds it up.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from threading import Barrier

import torch
from torch import Tensor

Work = Callable[[slice, Tensor], object]
"""(samples, sum): adds to the sum, in place, what these samples give."""


def deal(work: Work, samples: int, total: Tensor) -> None:
    """Add to `total` what all samples give: on the CPU by as many threads at once as torch may use.

    Memory: a sum like `total` for each thread but one. Shares are the same at each call, so results are, too.
    """
    threads = min(torch.get_num_threads(), samples) if total.device.type == "cpu" else 1
    if threads < 2:
        work(slice(0, samples), total)
        return
    bounds = [samples * i // threads for i in range(threads + 1)]
    sums = [total, *(torch.zeros_like(total) for _ in range(threads - 1))]
    shares = [slice(*bounds[i : i + 2]) for i in range(threads)]
    dealt = [_workers(threads).submit(torch.no_grad()(work), *share) for share in zip(shares, sums, strict=True)]
    wait(dealt)
    for each in dealt:
        each.result()
    for one in sums[1:]:
        total.add_(one)


@cache
def _workers(threads: int) -> ThreadPoolExecutor:
    """Threads whose operations do not call further threads; everyone else's do as before."""
    ready = Barrier(threads)

    def alone() -> None:
        torch.get_num_threads()  # a new thread takes the usual number at its first question, after which it may be set
        torch.set_num_threads(1)
        ready.wait()

    usual = torch.get_num_threads()
    workers = ThreadPoolExecutor(threads, thread_name_prefix="importance", initializer=alone)
    wait([workers.submit(int) for _ in range(threads)])
    torch.set_num_threads(usual)  # what later threads will take
    return workers


os.register_at_fork(after_in_child=_workers.cache_clear)  # threads do not survive in a forked process
