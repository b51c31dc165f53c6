"""The files of a published fact set: JSON as a whole or streamed, CSV, and photos whose suffix differs.

Every function raises `MissingFile` for a file that is missing, and `UserError` for one that is damaged.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tripletcl.data.sets.archive import MissingFile, reason, require
from tripletcl.errors import UserError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".gif")
"""The suffixes that the photos of these sets have, whatever their lists say."""


def first_existing(root: Path, *places: str) -> Path:
    """The first of some files or folders below root that exists."""
    for place in places:
        if (root / place).exists():
            return root / place
    raise MissingFile(" or ".join(places))


def optional_module(name: str) -> Any:
    """Import a package of the extra `data`.

    Raises:
        UserError: It is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"this set is read with the package {name}, which `pip install 'tripletcl[data]'` adds"
        ) from error


def read_json(path: Path, kind: type) -> Any:
    """The content of a JSON file, a list or a dict."""
    try:
        value = json.loads(require(path).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not readable JSON, or cut short: {reason(error)}") from error
    if not isinstance(value, kind):
        raise UserError(f"{path} holds a {type(value).__name__}, but the published file holds a {kind.__name__}")
    return value


def read_json_lines(path: Path) -> list[Any]:
    """The values of a file with a JSON value on each line."""
    try:
        lines = require(path).read_text(encoding="utf-8").split("\n")
        return [json.loads(line) for line in lines if line.strip()]
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not readable as JSON Lines, or cut short: {reason(error)}") from error


def stream_json(path: Path, prefix: str) -> Iterator[Any]:
    """The elements of a list in a JSON file, one at a time; `prefix` is "item" for a list at the top, "key.item"."""
    yield from _stream(path, "items", prefix)


def stream_json_pairs(path: Path) -> Iterator[tuple[str, Any]]:
    """The keys and values of the object that a JSON file holds, one at a time."""
    yield from _stream(path, "kvitems", "")


def _stream(path: Path, function: str, prefix: str) -> Iterator[Any]:
    ijson = optional_module("ijson")
    try:
        with require(path).open("rb") as file:
            yield from getattr(ijson, function)(file, prefix, use_float=True)
    except (OSError, ijson.JSONError) as error:
        raise UserError(f"{path} is not readable JSON, or cut short: {reason(error)}") from error


def read_csv(path: Path, columns: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """The stripped cells of some columns of a CSV file with a header; optional columns may be missing."""
    import pyarrow as pa
    from pyarrow import csv

    convert = csv.ConvertOptions(column_types=dict.fromkeys((*columns, *optional), pa.string()))
    try:
        table = csv.read_csv(
            require(path), parse_options=csv.ParseOptions(newlines_in_values=True), convert_options=convert
        )
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is not readable as CSV: {reason(error)}") from error
    if missing := [column for column in columns if column not in table.column_names]:
        raise UserError(f"{path} lacks the column {missing[0]!r}; it has {', '.join(map(repr, table.column_names))}")
    present = [column for column in (*columns, *optional) if column in table.column_names]
    return {column: [(cell or "").strip() for cell in table[column].to_pylist()] for column in present}


def find_photo(root: Path, *paths: str) -> str:
    """The first of some photos below root that exists, with its own or another suffix; else the first path."""
    for path in paths:
        if os.path.isfile(f"{root}/{path}"):  # noqa: PTH113 - building a Path for each of a million rows takes longer
            return path
    for path in paths:
        for suffix in PHOTO_SUFFIXES:
            other = Path(path).with_suffix(suffix)
            if (root / other).is_file():
                return other.as_posix()
    return paths[0]


def below(root: Path, folder: Path) -> str:
    """The path of a folder relative to root, with a slash at its end; empty for root itself."""
    path = folder.relative_to(root).as_posix()
    return "" if path == "." else f"{path}/"
