"""The photos of an index of format 2 or 3, which has them in the database and not in files."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import sqlite3
from collections.abc import Mapping
from typing import Any

import numpy as np

from tripletcl.data.metadata import Metadata
from tripletcl.files import FileStamp, content_digest
from tripletcl.retrieval.table import Broken, GrowingArray, Table


def read(
    connection: sqlite3.Connection, rows: int, broken: dict[str, Broken], about: Any, files: Mapping[str, Any]
) -> tuple[Table, str]:
    """Read the table of `rows` rows with its photos, and compute the SHA-256 of the whole content."""
    names, stamps = [""] * rows, np.full((rows, 2), -1, np.int64)
    origins: list[tuple[Any, Any]] = [(None, None)] * rows
    for row, name, size, mtime_ns, model, stage in connection.execute("SELECT * FROM photos"):
        names[row] = os.fsdecode(name)
        stamps[row] = size, mtime_ns
        origins[row] = model, stage
    table = Table(broken=broken)
    photos = [(name, FileStamp(*stamp)) for name, stamp in zip(names, stamps.tolist(), strict=True)]
    arrays = table.new_photos(photos, [Metadata()] * rows)
    arrays["photos"]["read"] = 0
    table.arrays = {role: GrowingArray(array) for role, array in arrays.items()}
    table.deleted = GrowingArray(np.array([not name for name in names], bool))
    return table, _digest(names, stamps, origins, broken, about, files)


def _digest(
    names: list[str],
    stamps: np.ndarray,
    origins: list[tuple[Any, Any]],
    broken: dict[str, Broken],
    about: Any,
    files: Mapping[str, Any],
) -> str:
    numbers: dict[tuple[Any, Any], int] = {}
    of_rows = np.array([numbers.setdefault(origin, len(numbers)) for origin in origins], np.int64)
    few = {
        "about": about.entries(),
        "files": {role: dataclasses.astuple(file) for role, file in files.items()},
        "broken": broken,
        "origins": list(numbers),
    }
    sha = hashlib.sha256(content_digest(few).encode())
    for part in (os.fsencode("\0".join(names)), stamps.tobytes(), of_rows.tobytes()):
        sha.update(part)
    return sha.hexdigest()
