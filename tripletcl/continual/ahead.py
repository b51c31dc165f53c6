"""Batches that are made while the device works on those before them.

A thread gathers the next batches' pixels, sends them from pinned memory and augments them on a stream of its own. Order
and content are those of the iterator, which nobody else may touch meanwhile. A processor has nothing to overlap with:
there the loop takes the batches itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

DEPTH = 2
"""Batches that are ready or being made, beside the one in use."""

OVERLAPPING = {"cuda"}
"""Types of devices that work while Python goes on."""


def ahead_of(device: torch.device | None, batches: Generator[T, None, None]) -> Generator[T, None, None]:
    """The same batches, made ahead where the device is one that works by itself."""
    return made_ahead(batches, device) if device is not None and device.type in OVERLAPPING else batches


def made_ahead(batches: Iterator[T], device: torch.device, depth: int = DEPTH) -> Generator[T, None, None]:
    """The same batches, made by a thread, up to `depth` of them ahead.

    What the iterator raises is raised here, in its place. The thread ends with this generator, as soon as the batch
    is made that it is at: close the generator (`contextlib.closing`) where it may be left half-way.

    Args:
        batches: Tensors, or objects with tensors among their attributes.
        device: Where these are.
    """
    made: Iterator[tuple[T, torch.cuda.Event | None]] = (
        _on_own_stream(batches, device) if device.type == "cuda" else ((batch, None) for batch in batches)
    )
    with ThreadPoolExecutor(1, "batches ahead") as thread:  # one alone, so the order is kept
        waiting = deque(thread.submit(next, made, None) for _ in range(depth))
        try:
            while (found := waiting.popleft().result()) is not None:
                waiting.append(thread.submit(next, made, None))
                batch, event = found
                if event is not None:
                    _take_over(batch, event, device)
                yield batch
        finally:
            for future in waiting:
                future.cancel()


def _on_own_stream(batches: Iterator[T], device: torch.device) -> Iterator[tuple[T, torch.cuda.Event | None]]:
    """The batches, and when they will be there."""
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.default_stream(device))  # what they are made from may have been made just now
    while True:
        with torch.cuda.stream(stream):
            try:
                batch = next(batches)
            except StopIteration:
                return
            event = stream.record_event()
        yield batch, event


def _take_over(batch: object, event: torch.cuda.Event, device: torch.device) -> None:
    """Let the stream at work wait for a batch, and let nothing reuse its memory before that stream is done with it."""
    stream = torch.cuda.current_stream(device)
    stream.wait_event(event)
    for tensor in _tensors(batch):
        if tensor.is_cuda:
            tensor.record_stream(stream)


def _tensors(batch: object) -> Iterable[Tensor]:
    parts = [batch] if isinstance(batch, Tensor) else vars(batch).values()
    return [part for part in parts if isinstance(part, Tensor)]
