"""The command line. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import io
import sys

from tripletcl.errors import UserError

CTRL_C = 130
"""The exit code that typer makes of a KeyboardInterrupt."""


def main() -> None:
    """Run the command line: a user's mistake is one sentence and exit code 2."""
    from tripletcl.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # the names of photos need not be Unicode
    try:
        app()
    except UserError as error:
        print(f"tripletcl: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except SystemExit as end:
        if end.code == CTRL_C:
            print("tripletcl: stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        raise
