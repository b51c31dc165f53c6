"""Progress of long work, reported to whoever displays it.

Work calls `report`; a command line or a page listens to it with `listening`. Nothing in between passes it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple


class Progress(NamedTuple):
    """A state of long work.

    Attributes:
        label: The work, for example "decoding images" or "task 1".
        done: How much of it is done.
        total: How much there is to do.
        loss: The training loss of the last step; None for work that is no training.
    """

    label: str
    done: int
    total: int
    loss: float | None = None


Listener = Callable[[Progress], None]

_listener: ContextVar[Listener | None] = ContextVar("tripletcl_progress", default=None)


def report(label: str, done: int, total: int, loss: float | None = None) -> None:
    """Report progress to the current listener; without a listener nothing happens."""
    listener = _listener.get()
    if listener is not None:
        listener(Progress(label, done, total, loss))


@contextmanager
def listening(listener: Listener | None) -> Iterator[None]:
    """Send all progress reported in this context to a listener; None silences it.

    The listener belongs to the context (`contextvars`), so that two pages in two threads do not hear each other. A new
    thread has no listener unless it runs in a copy of the context.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
