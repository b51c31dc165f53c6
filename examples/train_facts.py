"""Learn facts task after task under Memory Aware Synapses: the whole loop written out, without a config.

$ python examples/train_facts.py [FACTS.csv]

learns the table, by default drawn scenes, and prints the mean average precision (MAP) after every task.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tripletcl.continual import Batch, Task
from tripletcl.data import FactTable, ImageCache, ImageSource, read_table, split_facts
from tripletcl.embedding import EmbedderSpec, FactLearner, build_embedder
from tripletcl.evaluation import FactEvaluator
from tripletcl.mas import QuadraticPenalty, importance
from tripletcl.scenes import write_scenes

BATCH = 32


def main(table: FactTable, folder: Path, size: int = 96, epochs: int = 4, lr: float = 1e-3, lam: float = 3.0) -> float:
    """Learn the facts of a table in three tasks; return the MAP over all of them."""
    images = ImageSource(ImageCache.open(table.paths, size, folder), augment=None, device="cpu")
    embedder = build_embedder(EmbedderSpec(image_size=size, freeze_until="blocks4"), seed=0)
    learner = FactLearner(embedder, table.facts, temperature=0.1)
    tasks = [make_task(table, number, facts) for number, facts in enumerate(split_facts(table, 3), 1)]
    penalty = QuadraticPenalty("proximal")  # lam * sum omega (theta - anchor)^2
    for number, task in enumerate(tasks, 1):
        learner.begin_task(task)
        optimizer = torch.optim.AdamW([p for p in learner.parameters() if p.requires_grad], lr=lr, weight_decay=0.0)
        for _ in range(epochs):
            learner.train()
            for batch in shuffled(task, images):
                optimizer.zero_grad()
                loss = learner.loss(learner(batch.inputs), batch)
                loss.backward()
                optimizer.step()
                penalty.after_step(lr, lam)
        # omega = mean over images of |d ||F(x)||^2 / d theta|. No label is used, and no old image later.
        omega = importance(embedder, inputs(images, task.items), forward=learner)
        penalty.update(dict(embedder.named_parameters()), omega)  # the sum over tasks; the anchor moves here
        score = evaluate(learner, table, tasks[:number], images)
        print(f"task {number}: loss of the last batch {loss.item():.3f}, MAP over the facts so far {score:.3f}")
    return score


def make_task(table: FactTable, number: int, facts: np.ndarray) -> Task:
    """Collect the training images of some facts; a target says which of these facts an image shows."""
    items = np.unique(table.rows_of("train", facts)[:, 0])
    return Task(f"task {number}", items, targets=table.relevance("train", items, facts), classes=facts)


def shuffled(task: Task, images: ImageSource) -> Iterator[Batch]:
    """Yield the batches of one epoch."""
    for rows in torch.randperm(len(task)).split(BATCH):
        yield task.batch(images.batch(task.items[rows.numpy()]), rows.numpy())


def inputs(images: ImageSource, items: np.ndarray) -> Iterator[Tensor]:
    """Yield batches of images [B, 3, H, W] in order."""
    return (images.batch(items[start : start + BATCH]) for start in range(0, len(items), BATCH))


@torch.no_grad()
def evaluate(learner: FactLearner, table: FactTable, tasks: list[Task], images: ImageSource) -> float:
    """Compute the MAP of the tasks' facts over all test images."""
    items = np.unique(table.rows_of("test")[:, 0])
    learner.eval()
    vectors = torch.cat([learner(batch) for batch in inputs(images, items)])  # [N, 3, D]
    facts, present = learner.embedder.encode_facts(table.facts)  # [F, 3, D], [F, 3]
    evaluator = FactEvaluator(table, [task.classes for task in tasks], facts, present)
    return evaluator.evaluate(torch.nn.functional.normalize(vectors, dim=-1), items).map_all or 0.0


if __name__ == "__main__":
    torch.manual_seed(0)
    work = Path("train-facts")
    csv = Path(sys.argv[1]) if len(sys.argv) > 1 else write_scenes(work / "scenes", facts=30, train=12, test=4, size=96)
    print(f"MAP over all facts: {main(read_table(csv), work / 'cache'):.3f}")
