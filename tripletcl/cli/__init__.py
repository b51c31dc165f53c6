"""The command line. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import errno
import os
import sys
from typing import NoReturn

from tripletcl.errors import UserError

CTRL_C = 130
"""The exit code that typer makes of a KeyboardInterrupt."""

LONGEST_MESSAGE = 5000
"""Characters of a message; the longest path has 4,096."""

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
    from tripletcl.cli.output import open_for_any_name

    for stream in (sys.stdout, sys.stderr):
        open_for_any_name(stream)
    try:
        app()
    except UserError as error:
        _end(str(error))
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        _end(f"{str(error.filename)[:60]!r}... has {len(str(error.filename)):,} characters, too many for a file")
    except SystemExit as end:
        if end.code == CTRL_C:
            print("tripletcl: stopped; the same command resumes from the last checkpoint", file=sys.stderr)
        raise


def _end(message: str) -> NoReturn:
    """Print a user's mistake; of what is endless, as a path of 100,000 characters, the two ends."""
    from tripletcl.cli.output import printable

    if len(message) > LONGEST_MESSAGE:
        message = f"{message[: LONGEST_MESSAGE // 2]} ... {message[-LONGEST_MESSAGE // 2 :]}"
    print(f"tripletcl: {printable(message)}", file=sys.stderr)
    raise SystemExit(2) from None
