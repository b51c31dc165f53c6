"""Runs `tripletcl ARGUMENTS` as a child that follows its parent: `python -m tripletcl.compare.child train ...`.

Standard input is a pipe of the parent. A byte in it is the number of threads that the child may use from now on, and
the system closes it when the parent ends.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
from typing import Any


def end_with_parent() -> None:
    """End this process as soon as the parent has ended, however it did; until then use as many threads as it says."""
    told: list[int] = []

    def use(*_: Any) -> None:
        """Run in the main thread, which trains: a thread's number of OpenMP threads is its own."""
        os.environ["OMP_NUM_THREADS"] = str(told[-1])
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(told[-1])

    def wait() -> None:
        while threads := os.read(0, 1):
            told.append(threads[0])
            signal.pthread_kill(main, signal.SIGUSR1)
        signal.raise_signal(signal.SIGKILL)

    main = threading.get_ident()
    signal.signal(signal.SIGUSR1, use)
    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("tripletcl", run_name="__main__", alter_sys=True)
