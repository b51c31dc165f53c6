"""What has happened to photos since they were indexed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tripletcl.retrieval.table import Table, stamp_of


@dataclass(frozen=True)
class Changes:
    """What a change of an index did.

    Attributes:
        added: Photos that were not in it.
        changed: Photos whose file is another now: encoded again.
        removed: Photos whose file is gone.
        skipped: Photos that cannot be read, each with the reason; also those that were tried before.
    """

    added: list[Path] = field(default_factory=list)
    changed: list[Path] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)
    skipped: list[tuple[Path, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """What there is to do.

    Attributes:
        encode: Names of photos that are new or have changed.
        gone: Names of photos, readable or broken, whose file is gone.
    """

    encode: list[str]
    gone: list[str]


def plan(table: Table, names: Sequence[str], folder: Path | None = None) -> Plan:
    """Compare photos with what an index knows of them: path, size and time of modification.

    Args:
        table: The index.
        names: Photos that are there.
        folder: They are all that is below it; None where they are but some.
    """
    found = set(names)
    known = [*table.row_of, *table.broken] if folder is not None else []
    gone = [name for name in known if name not in found and folder is not None and Path(name).is_relative_to(folder)]
    return Plan([name for name in names if not _is_known(table, name)], gone)


def _is_known(table: Table, name: str) -> bool:
    row = table.row_of.get(name)
    if row is None and name not in table.broken:
        return False
    known = table.stamp(row) if row is not None else table.broken[name][0]
    try:
        return known == stamp_of(name)
    except OSError:  # the one who decodes it says so
        return False
