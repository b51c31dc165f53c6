"""The files of a published set: found, read, and named where they are missing or broken."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tripletcl.errors import UserError


class NotThere(UserError):
    """Part of a set is missing; its message only says which, and `read_object_set` adds what belongs there."""


def located(root: Path, marker: str, *folders: str) -> Path:
    """The first of root and its given folders that has `marker`, a file or folder of the set.

    Raises:
        NotThere: None of them has it.
    """
    for place in (root, *(root / folder for folder in folders)):
        if (place / marker).exists():
            return place
    raise NotThere(marker)


def required(path: Path) -> Path:
    """The path, if there is something.

    Raises:
        NotThere: There is nothing.
    """
    if not path.exists():
        raise NotThere(str(path))
    return path


def existing(images: Iterable[Path]) -> list[Path]:
    """The image files.

    Raises:
        NotThere: Some are missing: how many, and the first.
    """
    files = list(images)
    missing = [file for file in files if not file.is_file()]
    if missing:
        raise NotThere(f"{len(missing)} of its {len(files)} images, the first {missing[0]}")
    return files


def read_lines(path: Path) -> list[str]:
    """The lines of a text file that are not blank, without the blanks around them."""
    try:
        text = required(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a readable text file: {reason(error)}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_rows(path: Path, *kinds: Callable[[str], Any]) -> list[tuple[Any, ...]]:
    """The cells of each line, divided by blanks (the last cell may have blanks within), each read as its kind.

    Raises:
        UserError: A line has too few cells, or one that is not of its kind.
    """
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
    """The named variables of a MATLAB file (of version 5 to 7.2, as all these sets are).

    Raises:
        NotThere: There is no such file.
        UserError: It is cut short or no MATLAB file, or lacks a variable.
    """
    from scipy.io import loadmat

    required(path)
    try:
        found = loadmat(path)
    except Exception as error:  # a broken file makes it raise nearly anything: TypeError, zlib.error, MatReadError
        raise UserError(f"{path} is not a readable MATLAB file, or cut short: {reason(error)}") from error
    for name in names:
        if name not in found:
            has = ", ".join(repr(key) for key in found if not key.startswith("__"))
            raise UserError(f"{path} lacks the variable {name!r}; it has {has or 'none'}")
    return [found[name] for name in names]


def field(struct: np.ndarray, name: str, path: Path) -> np.ndarray:
    """One field of a MATLAB struct, or of each struct of an array of them.

    Raises:
        UserError: It has no such field.
    """
    if struct.dtype.names is None or name not in struct.dtype.names:
        has = ", ".join(struct.dtype.names or ()) or "none"
        raise UserError(f"{path} lacks the field {name!r}; it has {has}")
    return struct[name]


def flat_texts(cells: np.ndarray) -> list[str]:
    """The texts of a MATLAB cell array or of a field of structs, without padding."""
    return [str(cell.item() if isinstance(cell, np.ndarray) else cell).strip() for cell in cells.ravel()]


def flat_numbers(cells: np.ndarray, path: Path) -> np.ndarray:
    """The whole numbers `[N]` of a MATLAB matrix or of a field of structs.

    Raises:
        UserError: There is something else among them.
    """
    if cells.dtype.kind in "iuf":
        return cells.astype(np.int64).ravel()
    try:
        return np.array([int(cell.item()) for cell in cells.ravel()], dtype=np.int64)
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path} has something else where whole numbers belong: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Why, in a few words."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error) or type(error).__name__).splitlines()[0]
