"""The store of an index by its address, or by the path of its folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tripletcl.errors import UserError, check_path
from tripletcl.retrieval.database import About
from tripletcl.retrieval.stores.folder import FolderStore
from tripletcl.retrieval.stores.protocol import Store

Opened = TypeVar("Opened")

LANCE = (".lance", {"file", "s3", "gs", "az", "abfss"})
"""The ending of the address of a Lance table, and the schemes that it may begin with."""

POSTGRES = {"postgres", "postgresql"}
"""The schemes of a database."""

UPGRADES = 3
"""Upgrades by other processes that a reader waits for."""


def open_store(place: str | Path) -> Store:
    """Return the store at a place; nothing is read yet.

    Args:
        place: A folder of this machine, or the address of a Lance table: `file:///data/photos.lance`,
            `s3://bucket/photos.lance`; or that of a database: `postgres://user@host/database?table=photos`.

    Raises:
        UserError: no store has such an address, or its package is not installed.
    """
    text = str(place)
    scheme = re.match(r"(\w[\w+.-]*)://", text)
    ending, schemes = LANCE
    if scheme is None and not text.endswith(ending):
        return FolderStore(check_path("an index", place))
    if scheme is not None and scheme[1] in POSTGRES:
        from tripletcl.retrieval.stores.postgres_store import PostgresStore

        return PostgresStore(text)
    if not text.rstrip("/").endswith(ending) or (scheme is not None and scheme[1] not in schemes):
        raise UserError(
            f"{text} is no place of an index; allowed are a folder, a Lance table such as file:///data/photos.lance "
            "or s3://bucket/photos.lance, and a database such as postgres://host/database?table=photos"
        )
    from tripletcl.retrieval.stores.lance_store import LanceStore

    return LanceStore(text.rstrip("/"))


def about_index(place: str | Path) -> About:
    """Read the description of the index at a place, without its rows.

    Raises:
        UserError: there is no index, it is damaged, or it has another format.
    """
    return open_store(place).about()


def read_together(place: str | Path, read: Callable[[], Opened]) -> Opened:
    """Read an index and the model that made it; read both again if another process upgraded it in between.

    Raises:
        UserError: as `read` does.
    """
    for _ in range(UPGRADES):
        model = about_index(place).model
        try:
            return read()
        except UserError:
            if about_index(place).model == model:
                raise
    return read()
