"""Speed of indexing a folder, against the bare model, and the cost of a second run.

    python benchmarks/indexing.py RUN/stages/stage-04 PHOTOS --photos 512 --repeats 5

- bare model: image branch and readout on tensors in memory, in the embedder's batches;
- folder: `writing(...).sync(folder)` into a new index on disk: list, decode, embed, write, commit;
- again: `sync` of the same folder after one photo in a hundred was added, relative to the first build.

All run in one process. The first two alternate, after one round that is not counted; medians are printed. On a busy
machine use `--clock cpu --threads 1`: processor time of all threads, which counts decoding against the folder even if
another core would do it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tripletcl import FactEmbedder
from tripletcl.data.images import list_images
from tripletcl.retrieval import writing

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def main() -> None:
    options = parse()
    if options.threads:
        torch.set_num_threads(options.threads)
    embedder = FactEmbedder.from_pretrained(options.model)
    with tempfile.TemporaryDirectory() as temporary:
        figures = measure(embedder, options, Path(temporary))
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    print(
        f"{options.photos} photos, {embedder.image_size} px, {figures['threads']} threads, {options.clock} clock,",
        end=" ",
    )
    print(f"medians of {options.repeats}\n")
    print(f"bare model  {figures['bare']:6.1f} images/s")
    print(f"folder      {figures['folder']:6.1f} images/s")
    print(f"ratio       {figures['ratio']:6.3f}  (each repeat {', '.join(f'{r:.3f}' for r in figures['ratios'])})")
    part = figures["again"] / figures["first"]
    print(
        f"again       {figures['again']:6.2f} s with {figures['new']} new photos, {part:.1%} of the first build",
        end=" ",
    )
    print(f"({figures['first']:.2f} s)")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a folder of `save_pretrained`, such as a run's stage")
    parser.add_argument("images", type=Path, help="a folder of photos")
    parser.add_argument("--photos", type=int, default=512, help="how many of them, evenly spread")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, help="of the model; default: torch's")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(embedder: FactEmbedder, options: argparse.Namespace, place: Path) -> dict[str, Any]:
    new = max(1, options.photos // 100)
    images = spread(list_images(options.images), options.photos + new)
    photos = place / "photos"
    copy(images[: options.photos], photos)
    batches = preloaded(embedder, list_images(photos))
    clock = CLOCKS[options.clock]
    rates: dict[str, list[float]] = {"bare": [], "folder": []}
    for repeat in range(options.repeats + 1):
        shutil.rmtree(place / "index", ignore_errors=True)
        runs = {"bare": lambda: bare(embedder, batches), "folder": lambda: sync(embedder, place)}
        for name, run in runs.items():
            taken = seconds(run, clock)
            rates[name] += [options.photos / taken] if repeat else []
    copy(images[options.photos :], photos)
    again = seconds(lambda: sync(embedder, place), clock)
    ratios = [folder / bare for folder, bare in zip(rates["folder"], rates["bare"], strict=True)]
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {
        "photos": options.photos,
        "threads": torch.get_num_threads(),
        **medians,
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "first": options.photos / medians["folder"],
        "new": new,
        "again": again,
    }


def spread(photos: list[Path], count: int) -> list[Path]:
    """Select photos, evenly spread and shuffled, so that the last ones can be added later."""
    places = np.linspace(0, len(photos) - 1, min(count, len(photos))).astype(int)
    return [photos[i] for i in np.random.default_rng(0).permutation(places)]


def copy(photos: list[Path], folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for photo in photos:
        shutil.copy(photo, folder / photo.name)


def preloaded(embedder: FactEmbedder, photos: list[Path], size: int = 16) -> list[Tensor]:
    pixels = np.stack([embedder.decode(photo) for photo in photos])
    return [batch.float() / 255 for batch in torch.from_numpy(pixels).split(size)]


@torch.no_grad()
def bare(embedder: FactEmbedder, batches: list[Tensor]) -> None:
    for batch in batches:
        torch.nn.functional.normalize(embedder.image(batch), dim=-1)


def sync(embedder: FactEmbedder, place: Path) -> None:
    with writing(place / "index", embedder) as index:
        index.sync(place / "photos")


def seconds(run: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    run()
    return clock() - start


if __name__ == "__main__":
    main()
