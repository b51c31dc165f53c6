"""The model of `tripletcl photos` and the features of the test photographs, for the programs that measure it."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tripletcl.config import FactConfig, load_config
from tripletcl.data import Fact, FactTable, read_table
from tripletcl.embedding import EmbedderSpec, FactEmbedder, TextEmbedder, build_embedder
from tripletcl.retrieval import Query
from tripletcl.retrieval.request import query_vectors

BLOCK = 64
"""Photos of a file of features."""
RIDGE, WIDTH = 0.15, 4000
"""Of the analytic readout of configs/collection.yaml."""
BACKGROUND = 0.1
"""Weight of a photo that lessons are told apart from (`tripletcl.runs.photos`)."""


def parser(description: str) -> ArgumentParser:
    """The options that these programs share."""
    options = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    data = Path(os.environ.get("TRIPLETCL_DATA", "../shared/data"))
    options.add_argument("--data", type=Path, default=data, help="folder with facts/; default TRIPLETCL_DATA")
    options.add_argument(
        "--features", type=Path, default=Path("runs/features"), help="folder of the features, kept for next time"
    )
    options.add_argument("--photos", type=int, help="only the first photographs of each split")
    return options


def new_model() -> FactEmbedder:
    """The model that `tripletcl photos` begins with, with an analytic readout that has learned nothing."""
    config = load_config("collection", [])
    assert isinstance(config, FactConfig)
    model = config.model
    spec = EmbedderSpec(
        image_size=model.image_size, freeze_until=model.freeze_until, pooled=tuple(model.pooled), base=model.base
    )
    embedder = build_embedder(spec, seed=0).eval()
    embedder.install_analytic(WIDTH, 0, "text")
    return embedder


@dataclass(frozen=True)
class Photos:
    """Photographs of a split in the order of their paths.

    Attributes:
        ids: `[N]` in the table.
        features: `[N, C]`, the input of the readout.
        shown: `[N, F]` bool, the facts of the table that each one shows.
        facts: F of them.
    """

    ids: np.ndarray
    features: Tensor
    shown: Tensor
    facts: Sequence[Fact]

    def part(self, rows: Tensor) -> Photos:
        """Some of them, by numbers or a mask."""
        return Photos(self.ids[rows.numpy()], self.features[rows], self.shown[rows], self.facts)


def read_facts(data: Path) -> FactTable:
    """The table of the test photographs."""
    return read_table(data / "facts" / "facts.csv", absolute=True)


def photographs(embedder: FactEmbedder, table: FactTable, split: str, folder: Path, most: int | None = None) -> Photos:
    """Read or compute the features of a split; one that was interrupted goes on."""
    ids = sorted(np.unique(table.rows_of(split)[:, 0]).tolist(), key=lambda image: str(table.paths[image]))[:most]
    (folder / split).mkdir(parents=True, exist_ok=True)
    blocks = []
    for start in range(0, len(ids), BLOCK):
        file = folder / split / f"{start:05d}.npy"
        if not file.exists():
            block = embedder.represent_images([table.photos[image] for image in ids[start : start + BLOCK]])
            np.save(file, block.numpy())
        blocks.append(torch.from_numpy(np.load(file)))
    shown = table.relevance(split, np.array(ids), np.arange(len(table.facts))).toarray()
    return Photos(np.array(ids), torch.cat(blocks)[: len(ids)], torch.from_numpy(shown), table.facts)


def both_splits(embedder: FactEmbedder, table: FactTable, options: Namespace) -> tuple[Photos, Photos]:
    """Read or compute the features of the training and of the test photographs, as the options say."""
    train, test = (photographs(embedder, table, each, options.features, options.photos) for each in ("train", "test"))
    return train, test


@torch.no_grad()
def expand(embedder: FactEmbedder, photos: Photos) -> Tensor:
    """The random features `[N, M]` of photographs."""
    assert embedder.image.analytic is not None
    return embedder.image.analytic.expand(photos.features)


@torch.no_grad()
def teach_table(embedder: FactEmbedder, photos: Photos, facts: Sequence[Fact]) -> None:
    """Teach all facts of a table at once, as one task of it."""
    phi, targets = expand(embedder, photos), photos.shown.float()
    targets = targets / targets.sum(1, keepdim=True).clamp(min=1)
    gram = (phi.T @ phi).double()
    gram.diagonal().add_(RIDGE)
    sums = (phi.T @ targets).double()
    weight = torch.linalg.solve(gram, sums)
    levels = (sums * weight).sum(0) / targets.double().sum(0).clamp(min=1e-9)
    embedder.set_readout(weight.float(), facts, levels.tolist())


class Lessons:
    """Facts taught one after another by a few photos each, as `tripletcl teach` does it in a run of `tripletcl photos`.

    Args:
        embedder: The model.
        background: The photos of the index, which lessons are told apart from.
    """

    def __init__(self, embedder: FactEmbedder, background: Photos) -> None:
        self.embedder = embedder
        phi = expand(embedder, background).double()
        gram = BACKGROUND * phi.T @ phi
        gram.diagonal().add_(RIDGE)
        self.factor = torch.linalg.cholesky(gram)

    @torch.no_grad()
    def teach(self, facts: Sequence[Fact], photos: Sequence[Photos]) -> None:
        """Teach facts, each by its photos, in their order; what was taught before is forgotten."""
        seen: list[Tensor] = []
        columns, levels = [], []
        for mine in photos:
            phi = expand(self.embedder, mine).double()
            seen.append(phi)
            rows = torch.cat(seen)  # [n, M]
            solved = torch.cholesky_solve(rows.T, self.factor)  # [M, n]
            inner = rows @ solved
            inner.diagonal().add_(1)
            shown = rows.new_zeros(len(rows))
            shown[-len(phi) :] = 1
            columns.append(solved @ torch.linalg.solve(inner, shown))
            levels.append(float((phi @ columns[-1]).mean()))
        self.embedder.set_readout(torch.stack(columns, 1).float(), facts, levels)


def scores(embedder: TextEmbedder, vectors: Tensor, queries: Sequence[Query]) -> Tensor:
    """`[N, Q]` the scores of queries in an index of vectors `[N, 3, D]`."""
    return vectors.flatten(1) @ torch.from_numpy(query_vectors(queries, embedder)).T
