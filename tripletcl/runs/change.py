"""Changes of a run that are under way: a command that is killed is finished by the next one, and not done twice.

A change takes effect at one moment: when one file of the run is replaced. Before that, RUN/change-PID.json says which
file that is, what it holds, and which command replaces it. So the next command knows whether the change took effect. If
not, nothing has happened. If so, it does what follows from it; and if it is the same command, it has nothing else to
do. The file is removed last, even after the lock: whoever finds it knows that the command did not return.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tripletcl.files import read_json, reading, sha256, validated, write_json
from tripletcl.files.addresses import Place, relative_place

CHANGES = "change-*.json"
REMEDY = "delete it, and repeat the command that was interrupted"


@dataclass(frozen=True)
class Change:
    """A change of a run.

    Attributes:
        command: The command with its arguments, by which it is recognised when it is repeated.
        file: The file that is replaced, within the run.
        before: The SHA-256 of the file's content before.
        index: The photo index that follows the run, from the run's folder, or its address; None for a change that no
            index follows.
        report: What the command tells its caller.
    """

    command: list[Any]
    file: str
    before: str
    index: str | None = None
    report: dict[str, Any] = field(default_factory=dict)

    def took_effect(self, run: Path) -> bool:
        """Tell whether the file has been replaced."""
        path = run / self.file
        return path.exists() and sha256(path) != self.before


def begin_change(run: Path, file: str, command: Sequence[Any], index: Place | None = None, **report: Any) -> None:
    """Write down the change that this process is about to make to a run, by replacing a file."""
    where = None if index is None else relative_place(index, run)
    change = Change([*command], file, sha256(run / file), where, report)
    write_json(run / CHANGES.replace("*", str(os.getpid())), asdict(change))


def open_changes(run: Path) -> dict[Path, Change]:
    """Read the changes that took effect and are not finished, by their file; the others are removed."""
    changes = {path: _read(path) for path in run.glob(CHANGES)}
    for path in [path for path, change in changes.items() if not change.took_effect(run)]:
        path.unlink()
        del changes[path]
    return changes


def _read(path: Path) -> Change:
    with reading(path, REMEDY):
        return validated(Change, read_json(path, REMEDY))
