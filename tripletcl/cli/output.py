"""Output of all commands: every text that may hold a user's names passes `printable`, `say` or `print_rows`."""

from __future__ import annotations

import codecs
import io
import logging
import os
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tripletcl.errors import printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

LONGEST_WORD = 200
"""Characters of a word that a message repeats."""


def short_message(message: str, words: Iterable[str] = ()) -> str:
    """Shorten a message where it repeats long input: the given words, and any text without blanks.

    Args:
        message: The message.
        words: The words of the command line.
    """
    values = [part.strip() for word in words for part in (word, *word.split("=", maxsplit=1))]
    for value in sorted((value for value in values if len(value) > LONGEST_WORD), key=len, reverse=True):
        message = message.replace(value, _ends(value)).replace(repr(value)[1:-1], _ends(repr(value)[1:-1]))
    return re.sub(rf"\S{{{LONGEST_WORD},}}", lambda match: _ends(match[0]), message)


def _ends(text: str) -> str:
    return f"{text[: LONGEST_WORD // 2]}...{text[-LONGEST_WORD // 4 :]}"


def say(text: object = "") -> None:
    """Print a text with names in it."""
    print(printable(str(text)), flush=True)


class PrintableFormatter(logging.Formatter):
    """Formats a line of the log as `say` prints a text."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a line."""
        return printable(super().format(record))


def ready() -> Console:
    """Send the library's log to the terminal; returns the console for messages that are no results."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", module=r"PIL\.")  # damaged photos are named, and too large ones are refused
    from rich.console import Console

    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler])
    logging.getLogger("tripletcl").setLevel(logging.INFO)
    return Console(stderr=True)


@contextmanager
def working() -> Iterator[None]:
    """Show the library's log and its progress in the terminal."""
    console = ready()
    from tripletcl.cli.progress import progress_bars

    with progress_bars(console):
        yield


@contextmanager
def silent() -> Iterator[None]:
    """Show errors only: of several processes that work together, the first one tells what they do."""
    ready()
    logging.getLogger("tripletcl").setLevel(logging.ERROR)
    yield


def open_for_any_name(stream: object) -> None:
    """Let a stream take characters that its encoding lacks: they are escaped.

    Bytes of a photo's name that are no Unicode go through as they are, but to a terminal.
    """
    if isinstance(stream, io.TextIOWrapper):
        codecs.register_error("tripletcl.escape", _escape)
        codecs.register_error("tripletcl.bytes", _pass_bytes)
        stream.reconfigure(errors="tripletcl.escape" if stream.isatty() else "tripletcl.bytes")


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    letters = error.object[error.start : error.end]
    return "".join(f"\\x{ord(each) - 0xDC00:02x}" if _is_byte(each) else _code(each) for each in letters), error.end


def _pass_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    assert isinstance(error, UnicodeEncodeError)
    letters = error.object[error.start : error.end]
    data = (bytes([ord(each) - 0xDC00]) if _is_byte(each) else _code(each).encode() for each in letters)
    return b"".join(data), error.end


def _is_byte(letter: str) -> bool:
    """True for a byte of a file name that is no Unicode, as Python holds it."""
    return "\udc80" <= letter <= "\udcff"


def _code(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode()


def print_table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], title: str = "", left: Collection[str] = ()
) -> None:
    """Print a table.

    Args:
        titles: The columns' titles.
        rows: A cell for each column; names are printed as they are.
        title: Printed above the table.
        left: The titles of the columns that are aligned to the left, in addition to the first.
    """
    from rich.console import Console

    table = new_table(title)
    for number, name in enumerate(titles):
        table.add_column(name, justify="left" if number == 0 or name in left else "right")
    print_rows(Console(), table, rows)


def new_table(title: str = "", ruled: bool = True) -> Table:
    """Make an empty table; `ruled` has a line below the titles."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    lines = box.SIMPLE_HEAD if ruled else None
    return Table(title=Text(printable(title), "italic") if title else None, box=lines, pad_edge=False, show_edge=False)


def print_rows(console: Console, table: Table, rows: Iterable[Sequence[str]]) -> None:
    """Fill a table and print it; square brackets in names are no markup."""
    from rich.text import Text

    for row in rows:
        table.add_row(*(Text(printable(cell, kept="")) for cell in row))
    console.print(table, highlight=False)


def skipped_entries(skipped: Iterable[tuple[object, str]]) -> list[dict[str, str]]:
    """Photos that could not be read, for JSON."""
    return [{"path": str(path), "reason": reason} for path, reason in skipped]


def print_skipped(skipped: Iterable[tuple[object, str]]) -> None:
    """Name the photos that could not be read, and why."""
    for path, reason in skipped:
        say(f"skipped: {path}: {reason}")


def missing_note(run: Path, missing: Sequence[Path]) -> str | None:
    """Say which photos of an index have no file, and how to remove them; None if all have."""
    if not missing:
        return None
    folder = missing[0]
    while folder.parent != folder and not folder.parent.exists():
        folder = folder.parent  # up to the one that was moved or deleted
    return (
        f"{len(missing):,} of these photos {'has' if len(missing) == 1 else 'have'} no file any more, {missing[0]} "
        f"first; to remove what is below {folder}: tripletcl index remove {run} {folder}"
    )
