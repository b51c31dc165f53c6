"""Embed the photos of a source shard by shard; a shard is the unit of work, of retry and of resume."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tripletcl.data.images import decode_image, map_in_threads, try_decode
from tripletcl.embedding import EmbedderSpec, FactEmbedder
from tripletcl.embedding.base import vector_width
from tripletcl.errors import UserError, check_count
from tripletcl.files import FileStamp, content_digest, reading, validated, verified
from tripletcl.files.documents import EMBEDDER, signed
from tripletcl.gallery.inputs import Content, Files, Kind, Shards, expand, list_shards, open_shard
from tripletcl.gallery.parts import (
    ABOUT,
    LAYOUTS,
    Layout,
    LayoutName,
    ShardResult,
    ShardRows,
    read_names,
    shard_digest,
    write_names,
)
from tripletcl.gallery.places import DRAFT, Place, reaching
from tripletcl.progress import report
from tripletcl.retrieval.photos import unit_rows

log = logging.getLogger("tripletcl")

Engine = Literal["local", "ray"]

FORMAT = 1
SHARD = 10_000
"""Photos of a shard, unless another number is given."""

BATCH = 64


@dataclass(frozen=True)
class Job:
    """All that a worker needs; small, and the same for every worker.

    Attributes:
        model: The folder of the model, which every worker sees.
        source: The address that the photos were listed at.
        out: The address of the parts.
        about: What `about.json` holds.
        batch_size: Photos of a forward pass.
        device: Of the model.
        version: The version of tripletcl, which is that of every worker.
    """

    model: str
    source: str
    out: str
    about: dict[str, Any]
    batch_size: int = BATCH
    device: str = "cpu"
    version: str = field(default_factory=lambda: version("tripletcl"))

    @property
    def layout(self) -> Layout:
        """The files of each shard."""
        return LAYOUTS[self.about["layout"]](Place.of(self.out), self.about["shards"])


@dataclass(frozen=True)
class Embedded:
    """The result of `embed_photos`.

    Attributes:
        out: Where the parts are.
        shards: Their number.
        computed: Number of shards that were computed by this call; the others were there.
        photos: Number of photos.
        broken: Number of those that cannot be read.
    """

    out: str
    shards: int
    computed: int
    photos: int
    broken: int


def embed_photos(
    model: str | Path,
    source: str | Path,
    out: str | Path,
    *,
    stage: int | None = None,
    kind: Kind | None = None,
    column: str | None = None,
    shard: int = SHARD,
    layout: LayoutName = "parts",
    engine: Engine = "local",
    workers: int | None = None,
    batch_size: int = BATCH,
    device: str = "cpu",
) -> Embedded:
    """Embed photos into parts, and go on where an earlier call of the same arguments was stopped.

    Args:
        model: A folder of `FactEmbedder.save_pretrained`.
        source: See `list_shards`; so are `kind` and `column`.
        out: The folder of the parts, on this machine or at an address.
        stage: The stage of the model, where it belongs to a run.
        shard: Photos of a shard.
        layout: The files that are written.
        engine: "local", in this process, or "ray", by workers of a cluster that see model, source and out.
        workers: Number of workers of a cluster; by default one for each of its processors.
        batch_size: Photos of a forward pass.
        device: Of the model: "cpu" or "cuda".

    Raises:
        UserError: the source has no photo, `out` holds parts of another model or other photos, or the engine is not
            installed.
    """
    if engine == "local" and workers not in (None, 1):
        raise UserError("--engine local is one process, which uses all cores; --workers is for --engine ray")
    shards = list_shards(str(source), check_count("shard", shard), kind, column)
    about = _describe(Path(model), shards, stage, layout)
    job = Job(str(Path(model).absolute()), str(source), _absolute(out), about, batch_size, device)
    _prepare(job, shards)
    found = _find_done(job, shards)
    missing = [number for number in range(len(shards.names)) if number not in found]
    results = dict(found)
    if missing:
        for number, result in _engine(engine)(job, missing, workers):
            results[number] = result
            report("shards", len(results), len(shards.names))
    _remove_drafts(Place.of(job.out), layout)
    photos, broken = sum(each.photos for each in results.values()), sum(each.broken for each in results.values())
    return Embedded(job.out, len(shards.names), len(missing), photos, broken)


def _absolute(address: str | Path) -> str:
    return str(address) if "://" in str(address) else Place.of(address).path


def _describe(model: Path, shards: Shards, stage: int | None, layout: LayoutName) -> dict[str, Any]:
    """The contents of `about.json`."""
    from tripletcl.embedding.description import read_description

    description = read_description(model / EMBEDDER, "embedder")
    fingerprint = description.get("fingerprint") or FactEmbedder.from_pretrained(model).fingerprint()
    with reading(model / EMBEDDER):
        width = vector_width(validated(EmbedderSpec, description["spec"]))
    return {
        "format": FORMAT,
        "model": fingerprint,
        "stage": stage,
        "width": width,
        "layout": layout,
        "archives": shards.archives,
        "shards": len(shards.names),
        "photos": content_digest({"shards": [shard_digest(names, "") for names in shards.names]})[:16],
    }


def _prepare(job: Job, shards: Shards) -> None:
    """Write the description and the names, or check that they are those of an earlier call.

    Raises:
        UserError: the folder holds parts of another model or of other photos, or cannot be written.
    """
    out = Place.of(job.out)
    with reaching(out):
        if (before := read_about(out)) is not None:
            _check_same(out, before, job.about)
            return
        write_names(out, shards.names)
        text = json.dumps(signed(job.about), indent=1) + "\n"
        (out / ABOUT).write(lambda stream: stream.write(text.encode()))


def read_about(out: Place) -> dict[str, Any] | None:
    """Read the description of the parts in a folder; None if there is none.

    Raises:
        UserError: it is damaged, or of another version.
    """
    place = out / ABOUT
    with reaching(place):
        if not place.info().is_file:
            return None
        with place.filesystem.open_input_stream(place.path) as stream:
            raw = stream.read()
    with reading(Path(str(place)), "remove the folder, and embed the photos again"):
        about = verified(json.loads(raw))
        if about["format"] != FORMAT:
            raise UserError(f"{place} has format {about['format']}, which another version of tripletcl wrote")
        return about


def _check_same(out: Place, before: dict[str, Any], about: dict[str, Any]) -> None:
    words = {
        "model": f"of model {before.get('model')}, not {about['model']}",
        "layout": f"in the layout {before.get('layout')}",
        "shards": f"of {before.get('shards')} shards, not {about['shards']}",
        "photos": "of other photos, or of other shards",
    }
    for key, word in words.items():
        if before.get(key) != about[key]:
            raise UserError(f"{out} holds parts {word}: name another folder, or remove this one")


def _find_done(job: Job, shards: Shards) -> dict[int, ShardResult]:
    """The shards that are there."""
    model, layout = job.about["model"], job.layout

    def find(number: int) -> ShardResult | None:
        return layout.find(number, shard_digest(shards.names[number], model))

    with reaching(Place.of(job.out)), closing(map_in_threads(find, range(len(shards.names)))) as results:
        return {number: result for number, result in enumerate(results) if result is not None}


def _remove_drafts(out: Place, layout: LayoutName) -> None:
    """Remove what killed workers left; all shards are done, so nobody writes."""
    folders = [out] if layout == "parts" else [out, out / "img_emb", out / "metadata", out / "broken"]
    with reaching(out):
        for folder in folders:
            for info in folder.files():
                if info.path.endswith(DRAFT):
                    out.filesystem.delete_file(info.path)


# --- workers ---------------------------------------------------------------------------------------------------------

Results = Iterator[tuple[int, ShardResult]]


def _engine(name: Engine) -> Callable[[Job, Sequence[int], int | None], Results]:
    if name == "local":
        return _run_here
    if name == "ray":
        from tripletcl.gallery.ray_engine import run_on_ray

        return run_on_ray
    raise UserError(f"there is no engine {name!r}; allowed are local and ray")


def _run_here(job: Job, numbers: Sequence[int], workers: int | None) -> Results:
    worker = ShardWorker(job)
    for number in numbers:
        yield number, worker.embed(number)


class ShardWorker:
    """Embeds shards with the image side of a model.

    Args:
        job: What to do.
        embedder: The model; by default read from the job's folder.

    Raises:
        UserError: the model, or the version of tripletcl, is not that of the job.
    """

    def __init__(self, job: Job, embedder: FactEmbedder | None = None) -> None:
        if (own := version("tripletcl")) != job.version:
            raise UserError(f"a worker has tripletcl {own}, and the photos are embedded by {job.version}: install that")
        self.job = job
        self.embedder = embedder or FactEmbedder.from_pretrained(job.model, job.device, text=False)
        if (model := self.embedder.fingerprint()) != job.about["model"]:
            raise UserError(f"a worker sees model {model} in {job.model}, and the photos are embedded by another one")
        self.files = Files([Place.of(expand(job.source)[0])])

    def embed(self, number: int) -> ShardResult:
        """Embed a shard and write its part, unless it is there."""
        job, out = self.job, Place.of(self.job.out)
        with reaching(out):
            names = read_names(out, number)
            digest = shard_digest(names, job.about["model"])
            if (found := job.layout.find(number, digest)) is not None:
                return found
            with open_shard(names, self.files, job.about["archives"]) as (photos, read):
                rows = embed_rows(self.embedder, photos, read, job.about["width"], job.batch_size)
            about = {"model": job.about["model"], "stage": str(job.about["stage"]), "shard": digest}
            job.layout.write(number, rows, about | {"library_version": version("tripletcl")})
        return ShardResult(len(rows.photos), int((~rows.readable).sum()))


def embed_rows(
    embedder: FactEmbedder, names: Sequence[str], read: Callable[[str], Content], width: int, batch_size: int = BATCH
) -> ShardRows:
    """Embed photos batch by batch, while threads read and decode the next ones.

    Args:
        embedder: The model.
        names: The full names of the photos.
        read: Reads one of them.
        width: D.
        batch_size: Photos of a forward pass.
    """

    def decode(name: str) -> tuple[FileStamp, np.ndarray | str]:
        stamp, content = read(name)
        if isinstance(content, str):
            return stamp, content
        return stamp, try_decode(content, partial(decode_image, size=embedder.image_size, name=name), name)

    photos: list[tuple[str, FileStamp]] = []
    broken: list[str | None] = []
    vectors = np.zeros((len(names), 3 * width), np.float16)
    with closing(map_in_threads(decode, names)) as decoded:
        for start in range(0, len(names), batch_size):
            batch = list(zip(names[start : start + batch_size], islice(decoded, batch_size), strict=True))
            photos += [(name, stamp) for name, (stamp, _) in batch]
            broken += [pixels if isinstance(pixels, str) else None for _, (_, pixels) in batch]
            readable = [n for n, (_, (_, pixels)) in enumerate(batch, start) if not isinstance(pixels, str)]
            if readable:
                representation = embedder.represent_images([batch[n - start][1][1] for n in readable])
                vectors[readable] = unit_rows(embedder.vectors_of(representation), [names[n] for n in readable])
            report("photos of this shard", len(photos), len(names))
    return ShardRows(photos, vectors, broken)
