"""The command line. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import os
import sys

from tripletcl.errors import UserError

CTRL_C = 130
"""The exit code that typer makes of a KeyboardInterrupt."""

IDLE_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
"""Environment variables that let idle OpenMP threads sleep after a short wait.

torch and faiss each have their own threads. Idle ones would compete with the other's for the cores, which makes a
search next to a model two to four times slower. They wait a little all the same: a small network's operations follow
each other within microseconds, and waking a thread takes as long as its work.
"""


def main() -> None:
    """Run the command line: a user's mistake is one sentence and exit code 2."""
    for name, value in IDLE_THREADS.items():  # read when torch or faiss is imported
        os.environ.setdefault(name, value)
    from tripletcl.cli.app import app
    from tripletcl.cli.output import open_for_any_name, printable

    for stream in (sys.stdout, sys.stderr):
        open_for_any_name(stream)
    try:
        app()
    except UserError as error:
        print(f"tripletcl: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    except SystemExit as end:
        if end.code == CTRL_C:
            print("tripletcl: stopped; the same command resumes from the last checkpoint", file=sys.stderr)
        raise
