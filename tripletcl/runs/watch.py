"""Follows a folder: what is done for it is done again when files below it change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tripletcl.errors import UserError

QUIET_MS = 2000
"""Time without a change after which a burst of them, as of a copy, is one."""

LOOK_AGAIN_MS = 600_000
"""Time without a change after which the folder is read all the same: drives of other machines report none."""


def watch(folder: Path, act: Callable[[], None], stop: threading.Event | None = None) -> None:
    """Call a function whenever files below a folder have changed, until the user interrupts or `stop` is set.

    Changes while it runs lead to another call.

    Raises:
        UserError: watchfiles is not installed; or what the function raises.
    """
    try:
        from watchfiles import watch as follow
    except ImportError:
        raise UserError('to follow a folder takes watchfiles: pip install "tripletcl[watch]"') from None

    def start() -> Iterator[object]:
        return follow(
            folder,
            step=QUIET_MS,
            debounce=10 * QUIET_MS,
            rust_timeout=LOOK_AGAIN_MS,
            yield_on_timeout=True,
            stop_event=stop,
            raise_interrupt=False,
            watch_filter=None,
        )

    events = start()
    while True:
        try:
            next(events)
        except StopIteration:
            return
        except RuntimeError:  # watchfiles gives up at a name that is no Unicode, which is a change like any other
            time.sleep(QUIET_MS / 1000)
            events = start()
        act()
