"""The files of a published set: locate them, and read them.

Every function raises `MissingFile` for a file that is missing, and `UserError` for one that is damaged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tripletcl.errors import UserError


class MissingFile(UserError):
    """Part of a set is missing; the message names it, and `read_object_set` adds what belongs there."""


def locate(root: Path, marker: str, *folders: str) -> Path:
    """The first of root and its given folders that has `marker`, a file or folder of the set."""
    for place in (root, *(root / folder for folder in folders)):
        if (place / marker).exists():
            return place
    raise MissingFile(marker)


def require(path: Path) -> Path:
    """Return the path; raise MissingFile if there is no such file or folder."""
    if not path.exists():
        raise MissingFile(str(path))
    return path


def require_images(images: Iterable[Path]) -> list[Path]:
    """Return the image files; raise MissingFile if some are missing, with their number and the first."""
    files = list(images)
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise MissingFile(f"{len(missing)} of its {len(files)} images, the first {missing[0]}")
    return files


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, stripped."""
    try:
        text = require(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable text file: {reason(error)}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_rows(path: Path, *kinds: Callable[[str], Any]) -> list[tuple[Any, ...]]:
    """The cells of each line, separated by blanks (the last cell may contain blanks), each converted to its kind."""
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        cells = line.split(maxsplit=len(kinds) - 1)
        try:
            rows.append(tuple(kind(cell) for kind, cell in zip(kinds, cells, strict=True)))
        except ValueError as error:
            form = " ".join("number" if kind is int else "name" for kind in kinds)
            raise UserError(f"{path} entry {number} is {line!r}, which does not have the form '{form}'") from error
    return rows


def read_mat(path: Path, *names: str) -> list[np.ndarray]:
    """The named variables of a MATLAB file (version 5 to 7.2, as all these sets have)."""
    from scipy.io import loadmat

    require(path)
    try:
        variables = loadmat(path)
    except Exception as error:  # a damaged file makes it raise nearly anything: TypeError, zlib.error, MatReadError
        raise UserError(f"{path} is not a readable MATLAB file, or cut short: {reason(error)}") from error
    for name in names:
        if name not in variables:
            others = ", ".join(repr(key) for key in variables if not key.startswith("__"))
            raise UserError(f"{path} lacks the variable {name!r}; it has {others or 'none'}")
    return [variables[name] for name in names]


def field(struct: np.ndarray, name: str, path: Path) -> np.ndarray:
    """One field of a MATLAB struct, or of each struct of an array of them."""
    if struct.dtype.names is None or name not in struct.dtype.names:
        others = ", ".join(struct.dtype.names or ()) or "none"
        raise UserError(f"{path} lacks the field {name!r}; it has {others}")
    return struct[name]


def flat_texts(cells: np.ndarray) -> list[str]:
    """The texts of a MATLAB cell array or of a field of structs, stripped."""
    return [str(cell.item() if isinstance(cell, np.ndarray) else cell).strip() for cell in cells.ravel()]


def flat_numbers(cells: np.ndarray, path: Path) -> np.ndarray:
    """The whole numbers `[N]` of a MATLAB matrix or of a field of structs."""
    if cells.dtype.kind in "iuf":
        return cells.astype(np.int64).ravel()
    try:
        return np.array([int(cell.item()) for cell in cells.ravel()], dtype=np.int64)
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path} has something else where whole numbers belong: {reason(error)}") from error


def reason(error: Exception) -> str:
    """The first line of an error's message."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]
