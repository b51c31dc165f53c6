"""The command line. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any, NoReturn, cast

from tripletcl.errors import ReportedError, UserError, printable

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
    import typer

    from tripletcl.cli.app import app
    from tripletcl.cli.output import open_for_any_name

    for stream in (sys.stdout, sys.stderr):
        open_for_any_name(stream)
    usage_error = cast(type[Exception], typer.BadParameter.__mro__[1])  # typer exports only this kind of them
    try:
        code = app(standalone_mode=False)
    except ReportedError:
        raise SystemExit(2) from None
    except UserError as error:
        _end(str(error))
    except usage_error as error:
        _end_usage(error)
    except OSError as error:
        name = str(error.filename)
        if error.filename is None:
            raise
        if error.errno == errno.ENAMETOOLONG:
            _end(f"{name[:60]!r}... has {len(name):,} characters, too many for a file")
        _end(f"{name}: {error.strerror}")
    if code == CTRL_C:
        print("tripletcl: stopped; the same command resumes from the last checkpoint", file=sys.stderr)
    raise SystemExit(code)


def _end(message: str) -> NoReturn:
    """Print a user's mistake; of what is endless, as a path of 100,000 characters, the two ends."""
    from tripletcl.cli.output import short_message

    print(f"tripletcl: {printable(short_message(message, sys.argv[1:]))}", file=sys.stderr)
    raise SystemExit(2) from None


def _end_usage(error: Any) -> NoReturn:
    """Print a wrong use of a command, with its usage."""
    from tripletcl.cli.output import short_message

    error.message = printable(short_message(error.message, sys.argv[1:]))
    error.show()
    raise SystemExit(error.exit_code) from None
