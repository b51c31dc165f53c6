"""The partial sums of threads add up to the sum of one thread, and the process is left unchanged."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from tripletcl.mas.parallel import map_samples


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("samples", [0, 1, 2, 5, 64])
def test_every_sample_counts_once(threads: int, samples: int) -> None:
    rows = torch.randn(samples, 7, dtype=torch.float64)
    total = torch.full((7,), 2.0, dtype=torch.float64)
    map_samples(lambda share, sum_: sum_.add_(rows[share].abs().sum(0)), samples, total)
    torch.testing.assert_close(total, 2 + rows.abs().sum(0))


def test_as_many_workers_as_torch_may_use_threads_each_with_one_thread(threads: int) -> None:
    settings: list[tuple[int, int, bool]] = []
    together = threading.Barrier(threads)

    def work(share: slice, total: Tensor) -> None:
        together.wait(10)
        settings.append((threading.get_ident(), torch.get_num_threads(), torch.is_grad_enabled()))
        total += share.stop - share.start

    total = torch.zeros(())
    with torch.no_grad():
        map_samples(work, 12, total)
    assert total == 12
    assert len({thread for thread, _, _ in settings}) == threads
    assert {(used, grad) for _, used, grad in settings} == {(1, False)}
    assert torch.get_num_threads() == threads
    default: list[int] = []
    other = threading.Thread(target=lambda: default.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert default == [threads]


def test_an_error_arrives_when_all_have_ended(threads: int) -> None:
    ended = []

    def work(share: slice, total: Tensor) -> None:
        if share.start == 0:
            raise ZeroDivisionError("the first share")
        ended.append(share)

    with pytest.raises(ZeroDivisionError, match="the first share"):
        map_samples(work, 6, torch.zeros(1))
    assert len(ended) == threads - 1


def ones(queue: multiprocessing.Queue[float]) -> None:
    total = torch.zeros(1)
    map_samples(lambda share, sum_: sum_.add_(share.stop - share.start), 10, total)
    queue.put(total.item())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        map_samples(lambda share, sum_: sum_.add_(1), 4, torch.zeros(1))
        context = multiprocessing.get_context("fork")
        queue: multiprocessing.Queue[float] = context.Queue()
        child = context.Process(target=ones, args=(queue,))
        child.start()
        child.join(60)
        alive = child.is_alive()
        child.kill()
        assert not alive
        assert queue.get(timeout=1) == 10
    finally:
        torch.set_num_threads(before)
