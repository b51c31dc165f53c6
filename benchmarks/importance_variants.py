"""Approximations of importance against the exact one, on the model and the images of a trained run.

    python benchmarks/importance_variants.py runs/photos_cpu/finetune-split0-seed0 --stage 1

Prints, for each variant, Spearman's rank correlation with the exact importance of MAS (per sample, squared norm,
global) over all parameters, the ratio of the means, and the time as a multiple of the exact one:
- per batch of 35, 128 and 200 images: |gradient of the batch's mean|, as in released code;
- local: every layer's own output (l-MAS);
- vector: the sum over the outputs of |gradient|, on a few images only (`--vector-images`), compared with the exact
  importance on the same images.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from tripletcl.continual import plain_batches
from tripletcl.embedding import FactEmbedder
from tripletcl.experiments.facts import FactExperiment, build_facts
from tripletcl.mas import importance
from tripletcl.mas.statistics import every_output
from tripletcl.runs.stored import FactRun

BATCHES = (35, 128, 200)


def main() -> None:
    options = parse()
    run = FactRun.open(options.run)
    experiment = build_facts(run.own_settings)
    experiment.learner.embedder = FactEmbedder.from_pretrained(run.stage_folder(options.stage))
    items = experiment.tasks[options.stage - 1].importance_items
    few = items[:: max(len(items) // options.vector_images, 1)][: options.vector_images]
    exact, seconds = timed(experiment, items, 64)
    exact_few, seconds_few = timed(experiment, few, 32)
    print(f"{len(items)} images of task {options.stage}, {sum(v.numel() for v in exact.values()):,} parameters")
    print(f"{'importance':28}{'Spearman':>9}{'mean':>8}{'time':>8}")
    show("exact, per sample", exact, exact, 1.0)
    for size in BATCHES:
        omega, taken = timed(experiment, items, size, per="batch")
        show(f"per batch of {size}", omega, exact, taken / seconds)
    omega, taken = timed(experiment, items, 64, scope="local")
    show("local", omega, exact, taken / seconds)
    show(f"exact, {len(few)} images", exact_few, exact, seconds_few / seconds)
    omega, taken = timed(experiment, few, 32, scalar=every_output)
    show(f"vector, {len(few)} images", omega, exact_few, taken / seconds_few)
    print(f"\nvector is compared with the exact importance on the same {len(few)} images")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run folder")
    parser.add_argument("--stage", type=int, default=1)
    parser.add_argument("--vector-images", type=int, default=32)
    return parser.parse_args()


def timed(experiment: FactExperiment, items: Any, batch: int, **measure: Any) -> tuple[dict[str, Tensor], float]:
    """Importance of the image branch on some images, and the seconds that it takes."""
    learner, start = experiment.learner, time.perf_counter()
    batches = plain_batches(experiment.source, items, batch)
    return importance(learner.protected, batches, forward=learner.forward, **measure), time.perf_counter() - start


def show(name: str, omega: dict[str, Tensor], exact: dict[str, Tensor], ratio: float) -> None:
    ours, theirs = (torch.cat([each[key].flatten() for key in exact]) for each in (omega, exact))
    print(f"{name:28}{spearmanr(ours, theirs).statistic:9.3f}{(ours.mean() / theirs.mean()).item():8.3f}{ratio:7.2f}x")


if __name__ == "__main__":
    main()
