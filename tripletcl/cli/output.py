"""Output that several commands share: tables, and photos that were skipped."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


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
    return Table(title=Text(title, "italic") if title else None, box=lines, pad_edge=False, show_edge=False)


def print_rows(console: Console, table: Table, rows: Iterable[Sequence[str]]) -> None:
    """Fill a table and print it; square brackets in names are no markup."""
    from rich.text import Text

    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table, highlight=False)


def skipped_entries(skipped: Iterable[tuple[Path, str]]) -> list[dict[str, str]]:
    """Photos that could not be read, for JSON."""
    return [{"path": str(path), "reason": reason} for path, reason in skipped]


def print_skipped(skipped: Iterable[tuple[Path, str]]) -> None:
    """Name the photos that could not be read, and why."""
    for path, reason in skipped:
        print(f"skipped: {path}: {reason}")


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
