"""Runs `tripletcl ARGUMENTS` as a child that ends with its parent: `python -m tripletcl.compare.child train ...`."""

from __future__ import annotations

import os
import runpy
import signal
import threading


def end_with_parent() -> None:
    """End this process as soon as the parent has ended, however it did.

    Standard input is a pipe of the parent, which never writes to it. The system closes it when the parent ends.
    """

    def wait() -> None:
        os.read(0, 1)
        signal.raise_signal(signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("tripletcl", run_name="__main__", alter_sys=True)
