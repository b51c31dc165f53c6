"""Cost of the average precision of every fact, compared with scikit-learn.

    python benchmarks/evaluation.py --clock cpu --threads 1

Both sides get the same arrays of scores and truth, 1.5 facts per image, with frequencies as 1 / sqrt(rank). The scores
of a fact are contiguous in memory, which is best for both and the layout of the matrix product. `images first` is the
other order of the axes.

- fact by fact: `sklearn.metrics.average_precision_score(relevant[f], scores[f])` in a loop;
- macro: the same function with `average=None`, its multilabel form, from which it takes the macro average;
- from vectors: of 3 units of 384 numbers; scikit-learn's loop after one float32 product, ours with its float64 product;
- a stage: `FactEvaluator.evaluate`, which is all scores of a stage (own galleries of four tasks, recall, reciprocal
  ranks), against the same product and loop, which give the average precision over all images only.

With 10,000 facts x 100,000 images ours computes all facts, 1,000 at a time, since the scores would take 4 GB;
scikit-learn computes a sample, and its time is scaled. The sides are interleaved after a round that is not counted;
medians are printed. `difference` is the largest between any two average precisions; above 1e-6 the program fails.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import interleaved
import numpy as np
import torch
from interleaved import CLOCKS, Row
from sklearn.metrics import average_precision_score

from tripletcl.data.fact_table import FactTable
from tripletcl.data.facts import Fact
from tripletcl.evaluation import FactEvaluator, average_precision, average_precision_of, unit_blocks

GOAL, TOLERANCE = 50.0, 1e-6
TURN = 0.05
"""Seconds of one side before the next one."""

UNITS, WIDTH, TASKS, FACTS_OF_AN_IMAGE = 3, 384, 4, 1.5


@dataclass(frozen=True)
class Size:
    """Size of a measurement: facts, sampled `part` at a time, of which scikit-learn computes `sample`."""

    images: int
    facts: int
    part: int
    sample: int
    repeats: int

    def __str__(self) -> str:
        return f"{self.facts:,} facts x {self.images:,} images"


GIVEN = [Size(2_556, 166, 166, 166, 9), Size(100_000, 10_000, 1_000, 50, 1)]
VECTORS = [Size(2_556, 166, 166, 166, 5), Size(20_000, 1_000, 1_000, 16, 1)]
QUICK = [Size(300, 40, 20, 10, 2)]


def main() -> None:
    options = parse()
    measured = rows(options.device, options.clock, options.quick)
    if options.json:
        print(interleaved.as_json(measured))
        return
    print(f"{interleaved.heading(options)}\n")
    print(f"{'':74}{'scikit-learn s':>15}{'ours s':>10}{'ratio':>8}  difference")
    for row in measured:
        print(f"{row['name']:74}{row['theirs']:15.3f}{row['ours']:10.4f}{row['ratio']:7.1f}x  {row['difference']:.0e}")


def parse() -> argparse.Namespace:
    parser = interleaved.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="a tiny size, to test the program")
    return interleaved.parse(parser)


def rows(device: str = "cpu", clock: str = "wall", quick: bool = False) -> list[Row]:
    """Measure a row for each comparison: name, device, ratio (theirs / ours), goal (None: no goal), direction.

    Raises:
        ArithmeticError: the two sides do not agree.
    """
    from_given = [row for size in (QUICK if quick else GIVEN) for row in from_scores(size, device, clock)]
    return from_given + [row for size in (QUICK if quick else VECTORS) for row in from_vectors(size, device, clock)]


def from_scores(size: Size, device: str, clock: str) -> list[Row]:
    """Measure with given scores, for a part of the facts at a time."""
    rng = np.random.default_rng(0)
    seconds, difference = dict.fromkeys(("ours", "images first", "fact by fact", "macro"), 0.0), 0.0
    for popularity in np.split(sample_popularity(size, rng), size.facts // size.part):
        relevant = sample_truth(size.images, popularity, rng)
        scores = rng.standard_normal(relevant.shape, dtype=np.float32)
        scores += 2 * relevant
        part, largest = compare(scores, relevant, max(1, size.sample * size.part // size.facts), device, clock, size)
        seconds = {side: seconds[side] + part[side] for side in seconds}
        difference = max(difference, largest)
    other = f"average precision, {size}, images first, fact by fact"
    return [
        *(
            as_row(f"average precision, {size}, {side}", device, seconds[side], seconds["ours"], difference, GOAL)
            for side in ("fact by fact", "macro")
        ),
        as_row(other, device, seconds["fact by fact"], seconds["images first"], difference, None),
    ]


def compare(
    scores: np.ndarray, relevant: np.ndarray, few: int, device: str, clock: str, size: Size
) -> tuple[dict[str, float], float]:
    """Measure the seconds of each side, scikit-learn's scaled from a few facts, and the largest difference."""
    images_first = torch.from_numpy(scores).to(device), torch.from_numpy(relevant).to(device)
    facts_first = images_first[0].T.contiguous().T, images_first[1].T.contiguous().T
    s, r = (np.ascontiguousarray(array[:, :few].T) for array in (scores, relevant))
    sides = {
        "ours": lambda: average_precision(*facts_first).cpu().numpy(),
        "fact by fact": lambda: loop(r, s),
        "images first": lambda: average_precision(*images_first).cpu().numpy(),
        "macro": lambda: average_precision_score(r.T, s.T, average=None),
    }
    seconds, results = time_sides(sides, clock, size.repeats)
    scale = scores.shape[1] / few
    return {s: seconds[s] * (1 if s in ("ours", "images first") else scale) for s in sides}, largest_difference(results)


def from_vectors(size: Size, device: str, clock: str) -> list[Row]:
    """Measure with scores that each side computes from vectors."""
    rng = np.random.default_rng(0)
    truth = sample_truth(size.images, sample_popularity(size, rng), rng)
    images, facts = (torch.from_numpy(rng.standard_normal((n, UNITS, WIDTH), np.float32)) for n in truth.shape)
    evaluator, ids = stage_evaluator(truth, facts), np.arange(size.images)
    gallery, queries, relevant = images.to(device), facts.to(device), torch.from_numpy(truth).to(device)

    def product() -> np.ndarray:
        return (unit_blocks(facts).float() @ unit_blocks(images).float().T).numpy()

    few, scores = np.ascontiguousarray(truth.T[: size.sample]), product()[: size.sample].copy()
    sides = {
        "ours": lambda: average_precision_of(gallery, queries, relevant).cpu().numpy(),
        "stage": lambda: np.array([value for _, value in evaluator.evaluate(gallery, ids).ap]),
        "loop": lambda: loop(few, scores),
        "product": lambda: product()[:0, 0],
    }
    seconds, results = time_sides(sides, clock, size.repeats)
    theirs, difference = seconds["product"] + seconds["loop"] * size.facts / size.sample, largest_difference(results)
    return [
        as_row(f"average precision from vectors, {size}", device, theirs, seconds["ours"], difference, None),
        as_row(f"all scores of a stage, {size}", device, theirs, seconds["stage"], difference, None),
    ]


def loop(relevant: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Compute average precisions by scikit-learn, fact by fact."""
    return np.array([average_precision_score(r, s) for r, s in zip(relevant, scores, strict=True)])


def sample_popularity(size: Size, rng: np.random.Generator) -> np.ndarray:
    """Sample the number of images of each fact, `[F]`."""
    weights = 1 / np.sqrt(np.arange(1, size.facts + 1))
    counts = np.maximum(1, FACTS_OF_AN_IMAGE * size.images * weights / weights.sum()).astype(int)
    return rng.permutation(np.minimum(counts, size.images))


def sample_truth(images: int, popularity: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Sample the truth, `[N, F]` bool."""
    relevant = np.zeros((images, len(popularity)), dtype=bool)
    for fact, count in enumerate(popularity):
        relevant[rng.integers(0, images, count), fact] = True
    return relevant


def stage_evaluator(truth: np.ndarray, facts: torch.Tensor) -> FactEvaluator:
    """Build an evaluator of these facts, split in order into four tasks."""
    count = truth.shape[1]
    named = tuple(Fact(f"subject {i}", "does", "something") for i in range(count))
    rows, images = np.argwhere(truth), tuple(map(str, range(len(truth))))
    table = FactTable(Path(), images, named, rows, np.repeat("test", len(rows)))
    tasks = np.array_split(np.arange(count), TASKS)
    return FactEvaluator(table, tasks, facts, torch.ones(count, UNITS, dtype=torch.bool), torch.arange(count))


def time_sides(
    sides: dict[str, Callable[[], np.ndarray]], clock: str, repeats: int
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Measure the median seconds and the result of each side; of several rounds a first one is not counted."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    results = {side: run() for side, run in sides.items()} if repeats > 1 else {}
    for _ in range(repeats):
        for side, run in sides.items():
            times, start = 0, CLOCKS[clock]()
            while not times or (repeats > 1 and CLOCKS[clock]() - start < TURN):
                results[side], times = run(), times + 1
            seconds[side].append((CLOCKS[clock]() - start) / times)
    return {side: statistics.median(values) for side, values in seconds.items()}, results


def largest_difference(results: dict[str, np.ndarray]) -> float:
    """Compute the largest difference between our average precisions and anyone's of the same facts.

    Raises:
        ArithmeticError: it is above the tolerance.
    """
    ours = results["ours"]
    difference = max(float(np.abs(ap - ours[: len(ap)]).max(initial=0)) for ap in results.values())
    if not difference <= TOLERANCE:
        raise ArithmeticError(f"average precisions differ by {difference:.1e}, more than {TOLERANCE:.0e}")
    return difference


def as_row(name: str, device: str, theirs: float, ours: float, difference: float, goal: float | None) -> Row:
    ratio = {
        "name": name,
        "device": interleaved.device_name(device),
        "ratio": theirs / ours,
        "goal": goal,
        "direction": "at least",
    }
    return {**ratio, "theirs": theirs, "ours": ours, "difference": difference}


if __name__ == "__main__":
    main()
