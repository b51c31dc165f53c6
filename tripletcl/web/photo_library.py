"""The photos of a run as they are on disk now, for the page and for programs."""

from __future__ import annotations

import base64
import binascii
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tripletcl.data import decode_image
from tripletcl.embedding import FactEmbedder
from tripletcl.files.addresses import Place
from tripletcl.retrieval import ShownFact, describe_photos
from tripletcl.retrieval.stores.address import open_store
from tripletcl.runs.collection import Collection, StoredModel, open_collection, open_model
from tripletcl.runs.layout import EMBEDDER, INDEX
from tripletcl.web.jobs import NotHere

REST = 10
"""An index that changes all the time, as while photos are added, is opened again after this many times what that took:
most of the time goes into answers."""


@dataclass(frozen=True)
class _Opened:
    collection: Collection
    version: object
    start: float
    end: float

    def is_fresh(self) -> bool:
        return time.monotonic() - self.end < REST * (self.end - self.start)


class Library:
    """A run, and the index of the user's photos that it made.

    Args:
        run: A run folder.
        index: The index; by default RUN/index.
    """

    def __init__(self, run: Path, index: Place | None = None) -> None:
        self.run, self.index = run, index or run / INDEX
        self._store = open_store(self.index)
        self._lock, self._loading = threading.Lock(), threading.Lock()
        self._opened: _Opened | None = None
        self._loaded: tuple[tuple[Path, int], FactEmbedder] | None = None

    @property
    def photos(self) -> Collection:
        """The photos with the model that made their index, opened again when it has changed on disk.

        Raises:
            UserError: there is no index, or no stage of the run made it.
        """
        opened = self._opened
        if opened is not None and (opened.version == self._store.version() or opened.is_fresh()):
            return opened.collection
        with self._lock:
            version = self._store.version()
            if self._opened is None or self._opened.version != version:
                start = time.monotonic()
                collection = open_collection(self.run, self.index, texts_only=True)
                self._opened = _Opened(collection, version, start, time.monotonic())
            return self._opened.collection

    def follow(self) -> None:
        """Open the index again if it has changed, however busy: what was asked for has just been done."""
        with self._lock:
            self._opened = None

    # --- models ------------------------------------------------------------------------------------------------------

    @property
    def stored(self) -> StoredModel:
        """The latest model of the run."""
        return open_model(self.run)

    def describe(self, photos: Sequence[Path], k: int) -> list[list[ShownFact]]:
        """The k facts that each photo shows best, by the latest model.

        Raises:
            UserError: a photo cannot be read.
        """
        stored = self.stored
        model = self._model(stored)
        pixels = [decode_image(photo, model.image_size, photo.name) for photo in photos]
        return describe_photos(model, pixels, k, stored.calibration())

    def _model(self, stored: StoredModel) -> FactEmbedder:
        key = stored.folder, (stored.folder / EMBEDDER).stat().st_mtime_ns
        with self._loading:  # two visitors load it once
            if self._loaded is None or self._loaded[0] != key:
                self._loaded = key, stored.load()
            return self._loaded[1]

    # --- photos ------------------------------------------------------------------------------------------------------

    def path(self, photo: str) -> Path:
        """The file of a photo by its name for programs (`photo_id`).

        Raises:
            NotHere: the index holds no such photo; other files are never served.
        """
        try:
            path = Path(os.fsdecode(base64.urlsafe_b64decode(photo + "=" * (-len(photo) % 4))))
        except (binascii.Error, ValueError):
            path = Path()
        if photo_id(path) != photo or self.photos.index.row(path) is None:
            raise NotHere("there is no such photo in the index")
        return path


def photo_id(path: Path) -> str:
    """The name of a photo for programs: its path, so that it stays the same when the index changes."""
    return base64.urlsafe_b64encode(os.fsencode(path)).decode().rstrip("=")


def shown(path: Path | str) -> str:
    """A path or a name as text: bytes that are no Unicode are replaced."""
    return os.fsencode(path).decode("utf-8", "replace")
