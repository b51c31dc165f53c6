"""The processes that train one model together, as `torchrun` starts them; a process alone is its own group.

Every process holds the whole model and works on its slice of the SAME batch. A loss is this process's PART of the mean
over the whole batch, and what is summed over images (gradients, importance, the analytic sums) is added up over the
processes before anything is done with it. So all of them take the same step, and the result is that of one process:

    L = 1/N sum_(all n) l_n = sum_(processes p) (1/N sum_(n of p) l_n),      dL/dtheta = sum_p dL_p/dtheta.

A mean of the processes' own means would be another loss wherever their slices differ in size. Only the first process
writes and evaluates; what it alone finds out, the others are told (`on_first`). For a process alone every function here
is the identity, and torch.distributed is not initialised.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, distributed

from tripletcl.errors import ReportedError, UserError

Result = TypeVar("Result")
Number = TypeVar("Number", int, float, Tensor)

VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""The environment variables by which `torchrun`, Ray Train and others tell a process of its group."""

PATIENCE = timedelta(hours=24)
"""The time that a process waits for another: the first evaluates alone. A process that ends is noticed at once."""

BUCKET_BYTES = 2**25
"""Tensors are added up in parcels of at most this size."""

FAILED = "failed"
"""The entry of the store that names the first process with an error."""


@dataclass
class _Group:
    """The group of this process.

    Attributes:
        rank: Its number, from 0.
        size: The number of processes.
        store: Texts that all processes see; None if the group was initialised by somebody else.
        in_loss: True while `total` and `mean` speak of the batch of all processes.
        counts: False while this process has no row of that batch.
        shared_gpu: The name of a GPU that several processes have; None if each has its own.
        cpu_groups: The group of torch.distributed for what is on the CPU, where the default one serves GPUs only.
    """

    rank: int = 0
    size: int = 1
    store: Any = None
    in_loss: bool = False
    counts: bool = True
    shared_gpu: str | None = None
    cpu_groups: list[Any] = field(default_factory=list)


_group = _Group()


class Lost(UserError):
    """Raised where another process of the group does not answer any more."""


def rank() -> int:
    """Return this process's number in its group; 0 is the first, and a process alone."""
    return _group.rank


def size() -> int:
    """Return the number of processes in the group; 1 alone."""
    return _group.size


def is_launched() -> bool:
    """Tell whether the environment names a group of several processes."""
    return all(os.environ.get(name) for name in VARIABLES) and os.environ["WORLD_SIZE"] != "1"


# --- joining --------------------------------------------------------------------------------------------------------


@contextmanager
def joined(launched: bool = True) -> Iterator[None]:
    """Join the group that the environment names, or that is initialised already; without one this process is alone.

    The first process with an error reports it; in the others `ReportedError` takes its place.

    Args:
        launched: Initialise the group that the environment names. If False, only one that is initialised already is
            joined.

    Raises:
        UserError: the other processes cannot be found.
    """
    global _group
    own = launched and is_launched() and not distributed.is_initialized()
    if _group.size > 1 or not (own or (distributed.is_available() and distributed.is_initialized())):
        yield
        return
    store = _initialise() if own else None
    alone, _group = _group, _Group(distributed.get_rank(), distributed.get_world_size(), store)
    try:
        if torch.cuda.is_available():
            _group.shared_gpu = _shared_gpu()
        yield
        if own:
            wait()  # the first process may hold the store
            distributed.destroy_process_group()
    except UserError as error:
        if _is_reported(store):
            raise ReportedError(str(error)) from error
        raise
    finally:
        _group = alone


def _initialise() -> Any:
    """Initialise torch.distributed: NCCL for tensors on GPUs, gloo for all else; returns the store."""
    try:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        logging.getLogger("torch.distributed").setLevel(logging.ERROR)
        store, number, count = next(distributed.rendezvous("env://"))
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        store = distributed.PrefixStore(_attempt(), store)
        of_group = distributed.PrefixStore("group", store)
        distributed.init_process_group(backend, store=of_group, rank=number, world_size=count, timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        place = " ".join(f"{name}={os.environ.get(name)}" for name in VARIABLES)
        raise UserError(f"the other processes of the group cannot be found ({place}): {_first_line(error)}") from error
    return store


def _attempt() -> str:
    """Name this start of the processes: `torchrun --max-restarts` may keep its store, with the addresses of dead ones.

    The agents of several nodes count by themselves, so there torchrun has to make a new store each time.
    """
    several_nodes = os.environ.get("GROUP_WORLD_SIZE", "1") != "1"
    return f"tripletcl {0 if several_nodes else os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"


def _shared_gpu() -> str | None:
    number = torch.cuda.current_device()
    gpu = torch.cuda.get_device_properties(number)
    names = gathered(str(getattr(gpu, "uuid", f"{socket.gethostname()} {number}")))
    return next((name for name in names if names.count(name) > 1), None)


def check_gpus() -> None:
    """Check that every process has a GPU of its own.

    Raises:
        UserError: two of them have the same.
    """
    if _group.shared_gpu is not None:
        raise UserError(
            f"several of {_group.size} processes have the same GPU, {_group.shared_gpu}: start at most one for each "
            "(torchrun --nproc-per-node), or set device=cpu"
        )


def _cpu_group() -> Any:
    """Return the group of torch.distributed for tensors and objects on the CPU; None is the default one."""
    if "gloo" in distributed.get_backend_config():
        return None
    if not _group.cpu_groups:
        _group.cpu_groups.append(distributed.new_group(backend="gloo", timeout=PATIENCE))
    return _group.cpu_groups[0]


def _is_reported(store: Any) -> bool:
    """Tell whether another process has reported an error before; if not, this one does."""
    if store is None:
        return False
    try:
        return bool(store.compare_set(FAILED, "", str(_group.rank)).decode() != str(_group.rank))
    except RuntimeError:  # the process that held the store has ended
        return False


@contextmanager
def _talking() -> Iterator[None]:
    """Turn the error of a lost connection into a sentence."""
    try:
        yield
    except RuntimeError as error:
        raise Lost(
            f"another process of the group has ended ({_first_line(error)}); the same command resumes from the last "
            "checkpoint"
        ) from error


def _first_line(error: Exception) -> str:
    """The first sentence of an error of torch.distributed, without the place in its source."""
    return re.sub(r"^\[\S+\] ", "", str(error)).partition("\n")[0].partition(". ")[0][:120]


# --- rows and sums --------------------------------------------------------------------------------------------------


def share(count: int) -> slice:
    """Return this process's slice of `count` rows; all slices follow each other, and the last is never empty."""
    return slice(count * _group.rank // _group.size, count * (_group.rank + 1) // _group.size)


@torch.no_grad()
def add_up(tensors: Iterable[Tensor]) -> None:
    """Add each tensor up over all processes, in place; they give the same number of tensors of the same shapes."""
    if _group.size == 1:
        return
    for bucket in _buckets(tensors):
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        _all_reduce(flat)
        for tensor, part in zip(bucket, flat.split([tensor.numel() for tensor in bucket]), strict=True):
            tensor.copy_(part.view(tensor.shape))


def _buckets(tensors: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Yield the tensors in their order, in lists of one type and device and of at most BUCKET_BYTES."""
    for _, alike in itertools.groupby(tensors, lambda tensor: (tensor.dtype, tensor.device)):
        bucket: list[Tensor] = []
        for tensor in alike:
            if bucket and sum(t.nbytes for t in bucket) + tensor.nbytes > BUCKET_BYTES:
                yield bucket
                bucket = []
            bucket.append(tensor)
        yield bucket


def _all_reduce(tensor: Tensor) -> None:
    with _talking():
        distributed.all_reduce(tensor, group=_cpu_group() if tensor.device.type == "cpu" else None)


@contextmanager
def parts(counts: bool = True) -> Iterator[None]:
    """Compute a loss of the batch that all processes share: inside, `total` and `mean` speak of all its rows.

    All processes compute the same losses in the same order.

    Args:
        counts: False in a process that has no row of the batch; it computes the loss of any other row, which counts
            nothing, and multiplies it by zero.
    """
    before = _group.in_loss, _group.counts
    _group.in_loss, _group.counts = True, counts
    try:
        yield
    finally:
        _group.in_loss, _group.counts = before


def total(value: Number) -> Number:
    """Add up a number over the processes that share a batch: its rows, or a sum over them; it has no gradient.

    Outside of `parts` it is the identity: a loss of this process's own rows.
    """
    if _group.size == 1 or not _group.in_loss:
        return value
    number = isinstance(value, Tensor)
    summed = value.detach().clone() if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)
    summed = summed if _group.counts else torch.zeros_like(summed)
    _all_reduce(summed)
    return summed if number else type(value)(summed.item())  # type: ignore[return-value]


def mean(values: Tensor) -> Tensor:
    """Return this process's part of the mean of numbers that are spread over all processes that share a batch."""
    if _group.size == 1 or not _group.in_loss:
        return values.mean()
    return values.sum() / total(values.numel())


# --- agreement ------------------------------------------------------------------------------------------------------


def wait() -> None:
    """Wait until every process has come here."""
    if _group.size > 1:
        with _talking():
            distributed.barrier(group=_cpu_group())


def agreed(value: Result) -> Result:
    """Return the first process's value."""
    if _group.size == 1:
        return value
    box = [value]
    with _talking():
        distributed.broadcast_object_list(box, group=_cpu_group())
    return box[0]


def gathered(value: Result) -> list[Result]:
    """Return the value of every process, in their order."""
    if _group.size == 1:
        return [value]
    values: list[Any] = [None] * _group.size
    with _talking():
        distributed.all_gather_object(values, value, group=_cpu_group())
    return values


def on_first(call: Callable[[], Result]) -> Result:
    """Let the first process call a function while the others wait; all return its result."""
    if _group.size == 1:
        return call()
    return agreed(call() if _group.rank == 0 else None)  # type: ignore[return-value]


@contextmanager
def first() -> Iterator[None]:
    """Let the first process do something before the others do it as well, and wait for them.

    Inside, no process may ask another for anything.
    """
    if _group.rank:
        wait()
    yield
    if not _group.rank:
        wait()
    wait()


@contextmanager
def own_random(seed: int) -> Iterator[None]:
    """Draw random numbers that differ from process to process, as those of dropout for different rows.

    What all processes draw together stays the same: outside, torch's generators continue as if nothing had been drawn.
    A process alone draws from them as ever.
    """
    if _group.size == 1:
        yield
        return
    devices: Sequence[int] = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(int(np.random.SeedSequence([seed, _group.rank]).generate_state(1, np.uint64)[0]) >> 1)
        yield
