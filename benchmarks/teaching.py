"""How well a fact is learned from ten photos that was left out of the whole training, and what that costs old facts.

    TRIPLETCL_DATA=... python benchmarks/teaching.py --config photos_best --full RUN --out runs/teaching

Leaves some facts of different units out of the config's table, trains the method on the rest (once; kept in --out),
teaches each fact from ten of its training photos, as a user would (`tripletcl.runs.teach`), scores the model on ALL
test photos of the whole table, and takes the lesson back. Prints, for each fact: its AP before and after, its AP where
the run --full was trained on all its photos, the change of the MAP of all facts that were not left out, and seconds.
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
    chosen = different_facts(table, options.facts)
    run = trained_without(config, table, chosen, options.out)
    gallery = Gallery(table, chosen, FactEmbedder.from_pretrained(FactRun.open(run).stage_folder()))
    full = dict(FactRun.open(options.full).result.ap) if options.full else {}
    before, old = gallery.scores(run)
    print(f"{len(table.facts) - len(chosen)} facts known: MAP {old:.4f} among {len(gallery.images):,} test photos")
    print(f"{'fact':40}{'photos':>8}{'before':>8}{'taught':>8}{'all':>8}{'part':>7}{'old facts':>11}{'seconds':>9}")
    rows = []
    for fact in chosen:
        photos = picks(table, fact, options.photos)
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
    taught, best, change, seconds = (statistics.fmean(column) for column in zip(*rows, strict=True))
    print(f"{'mean':40}{'':16}{taught:8.3f}{best:8.3f}{taught / best:7.2f}{change:+11.4f}{seconds:9.1f}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help="section.key=value")
    parser.add_argument("--config", default="photos_best")
    parser.add_argument("--method", default="analytic", help="a name, or {name: mas, lam: 30}")
    parser.add_argument("--full", type=Path, help="a finished run on the whole table, to be held against")
    parser.add_argument("--out", type=Path, default=Path("runs/teaching"))
    parser.add_argument("--facts", type=int, default=10)
    parser.add_argument("--photos", type=int, default=10)
    parser.add_argument("--command", action="store_true", help="teach by the command line, imports included in seconds")
    return parser.parse_args()


def different_facts(table: FactTable, count: int) -> list[int]:
    """Facts with enough photos, no two of which have the same predicate, or without one the same subject."""

    def photos(fact: int, split: str) -> int:
        return len(np.unique(table.rows_of(split, [fact])[:, 0]))

    order = sorted(range(len(table.facts)), key=lambda f: hashlib.sha256(str(table.facts[f]).encode()).digest())
    chosen: dict[str, int] = {}
    for fact in order:
        subject, predicate, _ = table.facts[fact].units
        if photos(fact, "train") >= 20 and photos(fact, "test") >= 8:
            chosen.setdefault(predicate or subject, fact)
    return list(islice(chosen.values(), count))


def trained_without(config: FactConfig, table: FactTable, facts: list[int], out: Path) -> Path:
    """A run on the table without these facts' rows."""
    kept = ~np.isin(table.rows[:, 1], facts)
    rows = zip(table.rows[kept].tolist(), table.splits[kept].tolist(), strict=True)
    paths = [str(path.absolute()) for path in table.paths]
    rest = FactTable.from_rows(Path("/"), [(paths[image], table.facts[fact], split) for (image, fact), split in rows])
    write_table(out / "rest.csv", rest)
    data = config.data.model_copy(update={"table": str((out / "rest.csv").absolute()), "root": None})
    # A cache of its own: one of the same photos' folder would take the place of that of the whole table.
    os.environ["TRIPLETCL_CACHE"] = str((out / "cache").absolute())
    begun = time.monotonic()
    train(config.model_copy(update={"data": data}), out / "run")
    print(f"trained without them in {time.monotonic() - begun:.0f} s (none where it was there): {out / 'run'}")
    return out / "run"


def picks(table: FactTable, fact: int, count: int) -> list[Path]:
    """Some of a fact's training photos, drawn at random."""
    images = np.unique(table.rows_of("train", [fact])[:, 0])
    chosen = np.random.default_rng(fact).permutation(images)[:count]
    return [table.paths[image] for image in chosen]


def lesson(run: Path, fact: Fact, photos: list[Path], command: bool) -> float:
    """Teach the fact; the seconds it took, with --command from the command's start."""
    if not command:
        return teach(run, fact, photos).seconds
    begun = time.monotonic()
    units = ", ".join(unit for unit in fact.units if unit is not None)
    words = [sys.executable, "-m", "tripletcl", "teach", str(run), f"{units},", *map(str, photos)]
    subprocess.run(words, check=True, capture_output=True)
    return time.monotonic() - begun


class Gallery:
    """All test photos of the whole table, as the frozen part of the network sees them."""

    def __init__(self, table: FactTable, left_out: list[int], embedder: FactEmbedder) -> None:
        self.table, self.left_out = table, left_out
        self.images = np.unique(table.rows_of("test")[:, 0])
        with torch.no_grad():
            pixels = embedder._pixels([table.paths[image] for image in self.images], BATCH)
            self.features = torch.cat([embedder.image.features(batch) for batch in pixels])
        self.queries = equal_queries(*embedder.encode_facts(table.facts))

    @torch.no_grad()
    def scores(self, run: Path) -> tuple[dict[int, float], float]:
        """AP of each fact with a run's newest model, and the mean of those that were not left out."""
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
