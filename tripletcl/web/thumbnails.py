"""Small pictures of photos as JPEG, the latest of them in memory, which is bounded by their bytes."""

from __future__ import annotations

import io
import threading
from pathlib import Path

from tripletcl.data.images import decode_thumbnail

MOST_BYTES = 32 * 2**20
"""Of the pictures in memory: some 1,500 of 320 pixels, or a hundred of 1,600."""

QUALITY = 82


class Thumbnails:
    """The pictures that were asked for last.

    Args:
        most_bytes: Of all of them; a larger one is not held.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._held: dict[tuple[Path, int, int], bytes] = {}  # the one asked for last is the last
        self._bytes = 0
        self._lock = threading.Lock()

    def jpeg(self, path: Path, modified_at: int, size: int) -> bytes:
        """A photo of at most `size` pixels a side.

        Raises:
            UserError: it cannot be read.
        """
        key = path, modified_at, size
        with self._lock:
            picture = self._held.pop(key, None)
            if picture is not None:
                self._held[key] = picture
                return picture
        picture = _draw(path, size)
        with self._lock:
            self._hold(key, picture)
        return picture

    def _hold(self, key: tuple[Path, int, int], picture: bytes) -> None:
        self._bytes += len(picture) - len(self._held.pop(key, b""))
        self._held[key] = picture
        while self._bytes > self.most_bytes:
            self._bytes -= len(self._held.pop(next(iter(self._held))))


def _draw(path: Path, size: int) -> bytes:
    picture = io.BytesIO()
    decode_thumbnail(path, size, path.name).save(picture, "JPEG", quality=QUALITY)
    return picture.getvalue()
