"""Make a photo index of parts, or bring one up to date with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tripletcl.data.facts import UNITS
from tripletcl.errors import UserError
from tripletcl.gallery.embed import read_about
from tripletcl.gallery.parts import Parts, ShardRows, read_names, shard_digest
from tripletcl.gallery.places import Place, reaching
from tripletcl.progress import report
from tripletcl.retrieval.index import FactIndex
from tripletcl.retrieval.table import Changes


def import_parts(index: FactIndex, source: str | Path) -> Changes:
    """Add the photos of parts to an index; it commits after every block, and a second call goes on.

    Photos that the index has with the same size and time of modification are passed over.

    Args:
        index: Of the model that made the parts.
        source: The folder of the parts, on this machine or at an address.

    Raises:
        UserError: there are no parts of this model, some are missing, or they are in the layout of other programs.
    """
    place = Place.of(source)
    about = read_about(place)
    if about is None:
        raise UserError(f"{place} holds no parts: make them with `tripletcl embed RUN PHOTOS --out {place}`")
    if about["layout"] != "parts":
        raise UserError(f"{place} is in the layout {about['layout']}; an index is made of the layout parts")
    if about["model"] != index.model:
        raise UserError(f"the parts in {place} are of model {about['model']}, and the index is of {index.model}")
    parts, changes = Parts(place, about["shards"]), Changes()
    with reaching(place):
        _check_complete(parts, about["model"])
        for number in range(parts.count):
            for rows in parts.read(number):
                _add(index, rows, changes)
            report("importing shards", number + 1, parts.count)
    return changes


def _check_complete(parts: Parts, model: str) -> None:
    missing = [
        number
        for number in range(parts.count)
        if parts.find(number, shard_digest(read_names(parts.out, number), model)) is None
    ]
    if missing:
        raise UserError(
            f"{len(missing)} of {parts.count} parts are missing, {parts.place(missing[0])} first: the same "
            "`tripletcl embed` makes them"
        )


def _add(index: FactIndex, rows: ShardRows, changes: Changes) -> None:
    """Add a block of photos, and what became of them to `changes`."""
    readable = np.flatnonzero(rows.readable)
    photos = [rows.photos[n] for n in readable]
    pairs = zip(rows.photos, rows.broken, strict=True)
    broken = {name: (stamp, reason) for (name, stamp), reason in pairs if reason is not None}
    vectors = rows.vectors[readable].astype(np.float32).reshape(len(photos), len(UNITS), -1)
    added = index.add_encoded(photos, vectors, broken)
    changes.added.extend(added.added)
    changes.changed.extend(added.changed)
    changes.skipped.extend(added.skipped)
