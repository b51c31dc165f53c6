"""Measures how well a fact that was left out of training is learned from ten photos, and the loss of old facts.

    TRIPLETCL_DATA=... python benchmarks/teaching.py --config photos_best --full RUN --out runs/teaching

Leaves some facts of different units out of the config's table, trains the method on the rest (once; stored in --out),
teaches each fact from ten of its training photos (`tripletcl.runs.teach`), scores the model on ALL test photos of the
whole table, and undoes the lesson. Prints for each fact: its AP before and after, its AP in the run --full, which was
trained on all its photos, the change of the MAP of all facts that were not left out, and seconds.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import statistics
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from tripletcl.config import FactConfig, load_config
from tripletcl.data import Fact, FactTable
from tripletcl.data.tables import write_table
from tripletcl.embedding import FactEmbedder
from tripletcl.evaluation import FactEvaluator, equal_queries
from tripletcl.experiments.tables import load_table
from tripletcl.runs.stored import FactRun
from tripletcl.runs.teach import teach, undo
from tripletcl.runs.train import train

BATCH = 16


def main() -> None:
    options = parse()
    overrides = [f"method={options.method}", *options.settings]
    config = load_config(options.config, overrides)
    table = load_table(config)
    left_out = different_facts(table, options.facts)
    run = train_without(config, table, left_out, options.out)
    gallery = Gallery(table, left_out, FactEmbedder.from_pretrained(FactRun.open(run).stage_folder()))
    full = dict(FactRun.open(options.full).result.ap) if options.full else {}
    before, old = gallery.scores(run)
    print(f"{len(table.facts) - len(left_out)} facts learned: MAP {old:.4f} among {len(gallery.images):,} test photos")
    print(f"{'fact':40}{'photos':>8}{'before':>8}{'taught':>8}{'all':>8}{'part':>7}{'old facts':>11}{'seconds':>9}")
    rows = []
    for fact in left_out:
        photos = sample_photos(table, fact, options.photos)
        seconds = lesson(run, table.facts[fact], photos, options.command)
        after, now = gallery.scores(run)
        undo(run)
        best = full.get(str(table.facts[fact]), float("nan"))
        rows.append((after[fact], best, now - old, seconds))
        print(
            f"{table.facts[fact]!s:40}{len(photos):8}{before[fact]:8.3f}{after[fact]:8.3f}{best:8.3f}"
            f"{after[fact] / best:7.2f}{now - old:+11.4f}{seconds:9.1f}",
            flush=True,
        )
    learned_ap, best, change, seconds = (statistics.fmean(column) for column in zip(*rows, strict=True))
    print(f"{'mean':40}{'':16}{learned_ap:8.3f}{best:8.3f}{learned_ap / best:7.2f}{change:+11.4f}{seconds:9.1f}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help="section.key=value")
    parser.add_argument("--config", default="photos_best")
    parser.add_argument("--method", default="analytic", help="a name, or {name: mas, lam: 30}")
    parser.add_argument("--full", type=Path, help="a finished run on the whole table, for comparison")
    parser.add_argument("--out", type=Path, default=Path("runs/teaching"))
    parser.add_argument("--facts", type=int, default=10)
    parser.add_argument("--photos", type=int, default=10)
    parser.add_argument("--command", action="store_true", help="teach by the command line, imports included in seconds")
    return parser.parse_args()


def different_facts(table: FactTable, count: int) -> list[int]:
    """Select facts with enough photos, no two with the same predicate, or without one the same subject."""

    def photos(fact: int, split: str) -> int:
        return len(np.unique(table.rows_of(split, [fact])[:, 0]))

    order = sorted(range(len(table.facts)), key=lambda f: hashlib.sha256(str(table.facts[f]).encode()).digest())
    facts: dict[str, int] = {}
    for fact in order:
        subject, predicate, _ = table.facts[fact].units
        if photos(fact, "train") >= 20 and photos(fact, "test") >= 8:
            facts.setdefault(predicate or subject, fact)
    return list(islice(facts.values(), count))


def train_without(config: FactConfig, table: FactTable, facts: list[int], out: Path) -> Path:
    """Train a run on the table without the rows of some facts."""
    kept = ~np.isin(table.rows[:, 1], facts)
    rows = zip(table.rows[kept].tolist(), table.splits[kept].tolist(), strict=True)
    paths = [str(path.absolute()) for path in table.paths]
    rest = FactTable.from_rows(Path("/"), [(paths[image], table.facts[fact], split) for (image, fact), split in rows])
    write_table(out / "rest.csv", rest)
    data = config.data.model_copy(update={"table": str((out / "rest.csv").absolute()), "root": None})
    # Its own cache: in a shared one it would replace the cache of the whole table, which has the same folder.
    os.environ["TRIPLETCL_CACHE"] = str((out / "cache").absolute())
    start = time.monotonic()
    train(config.model_copy(update={"data": data}), out / "run")
    print(f"trained without them in {time.monotonic() - start:.0f} s (0 if it was stored): {out / 'run'}")
    return out / "run"


def sample_photos(table: FactTable, fact: int, count: int) -> list[Path]:
    """Sample some of a fact's training photos."""
    images = np.unique(table.rows_of("train", [fact])[:, 0])
    return [table.paths[image] for image in np.random.default_rng(fact).permutation(images)[:count]]


def lesson(run: Path, fact: Fact, photos: list[Path], command: bool) -> float:
    """Teach a fact; returns the seconds, with --command from the start of the command."""
    if not command:
        return teach(run, fact, photos).seconds
    start = time.monotonic()
    units = ", ".join(unit for unit in fact.units if unit is not None)
    words = [sys.executable, "-m", "tripletcl", "teach", str(run), f"{units},", *map(str, photos)]
    subprocess.run(words, check=True, capture_output=True)
    return time.monotonic() - start


class Gallery:
    """All test photos of the whole table, as features of the frozen part of the network."""

    def __init__(self, table: FactTable, left_out: list[int], embedder: FactEmbedder) -> None:
        self.table, self.left_out = table, left_out
        self.images = np.unique(table.rows_of("test")[:, 0])
        with torch.no_grad():
            batches = (self.images[start : start + BATCH] for start in range(0, len(self.images), BATCH))
            self.features = torch.cat([embedder.image.features(self._pixels(embedder, ids)) for ids in batches])
        self.queries = equal_queries(*embedder.encode_facts(table.facts))

    def _pixels(self, embedder: FactEmbedder, ids: np.ndarray) -> torch.Tensor:
        """Decode images to `[B, 3, H, W]` in [0, 1]."""
        pixels = np.stack([embedder.decode(self.table.paths[image]) for image in ids])
        return torch.from_numpy(pixels).to(embedder.device).float() / 255

    @torch.no_grad()
    def scores(self, run: Path) -> tuple[dict[int, float], float]:
        """Compute the AP of each fact with a run's latest model, and the mean of those that were not left out."""
        embedder = FactEmbedder.from_pretrained(FactRun.open(run).stage_folder())
        representation = torch.cat([embedder.image.represent(rows) for rows in self.features.split(BATCH)])
        vectors, closed = embedder.vectors_and_scores(representation, self.table.facts)
        facts, present = embedder.encode_facts(self.table.facts)
        evaluator = FactEvaluator(self.table, [np.arange(len(facts))], facts, present, groups=self.queries)
        ap = dict(evaluator.evaluate(vectors, self.images, closed).ap)
        by_id = {number: ap[str(fact)] for number, fact in enumerate(self.table.facts) if str(fact) in ap}
        return by_id, statistics.fmean(value for number, value in by_id.items() if number not in self.left_out)


if __name__ == "__main__":
    main()
