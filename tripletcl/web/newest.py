"""What was made last, kept for the next who asks."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

Kept = TypeVar("Kept")


class Newest(Generic[Kept]):
    """The results last asked for, by what they were made from; safe for several threads."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.kept: OrderedDict[object, Kept] = OrderedDict()
        self.lock = threading.RLock()

    def get(self, key: object, make: Callable[[], Kept]) -> Kept:
        """What was made under this key, made now where it is not there."""
        with self.lock:
            if key not in self.kept:
                self.kept[key] = make()
            self.kept.move_to_end(key)
            while len(self.kept) > self.count:
                self.kept.popitem(last=False)
            return self.kept[key]
