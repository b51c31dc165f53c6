"""Indexes that tripletcl 0.1.0 wrote open, answer, update and upgrade.

`tests/stored_0_1/index` holds 22 photos of three colours and a broken one, embedded by the models of `colour_embedder`:
`flat` keeps their features, and one photo has been removed from it; `hnsw` has been brought from `ColourEmbedder` to
`TurnedEmbedder` by the map "orthogonal", which this version does not have.
"""

from __future__ import annotations

import itertools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from colour_embedder import COLOURS, ColourEmbedder, TurnedEmbedder
from PIL import Image

from tripletcl.retrieval import FactIndex, about_index, writing
from tripletcl.retrieval.upgrade import upgrade

STORED = Path(__file__).parents[1] / "stored_0_1" / "index"
MTIME_NS = 1_700_000_000 * 10**9
"""Time of modification of the photos when they were indexed; a checkout does not keep it."""


@pytest.fixture(autouse=True)
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The indexes and their photos in the working folder: paths in them are relative."""
    shutil.copytree(STORED, tmp_path, dirs_exist_ok=True)
    for photo in (tmp_path / "photos").iterdir():
        os.utime(photo, ns=(MTIME_NS, MTIME_NS))
    monkeypatch.chdir(tmp_path)


def embedder_of(name: str) -> ColourEmbedder:
    return ColourEmbedder(trunk_is_frozen=True) if name == "flat" else TurnedEmbedder()


@pytest.mark.parametrize(("name", "model", "stage", "count"), [("flat", "colours-1", 1, 21), ("hnsw", "turned", 2, 22)])
def test_it_opens_and_answers(name: str, model: str, stage: int, count: int) -> None:
    about = about_index(name)
    assert (about.kind, about.model, about.stage) == (name, model, stage)
    index = FactIndex.load(name, embedder_of(name))
    assert len(index) == len(index.photos) == count
    assert index.skipped == [(Path("photos/broken.png"), index.skipped[0][1])]
    fresh = FactIndex.build(embedder_of(name), index.photos)
    for query in ("red, green, blue", "?, dark red, ?", "blue, ?, red"):
        hits, expected = index.search(query, k=5), fresh.search(query, k=5)
        assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected], abs=1e-5)
    assert index.search("red, green, blue", k=1)[0].path == Path("photos/red-green-blue.png")


def test_photos_are_not_embedded_again() -> None:
    embedder = embedder_of("flat")
    with writing("flat", embedder) as index:
        changes = index.sync("photos")
    removed = Path("photos/red-red-red.png")
    assert (changes.added, changes.changed, changes.removed) == ([removed], [], [])
    assert embedder.photos_read == [removed]


def test_features_give_the_exact_vectors_of_another_model() -> None:
    old, new = embedder_of("flat"), TurnedEmbedder("pixels", trunk_is_frozen=True)
    with writing("flat") as index:
        assert upgrade(index, old, new, [], stage=2).how == "exact"
    assert (old.photos_read, new.photos_read) == ([], [])
    check(FactIndex.load("flat", new), new, atol=0)


def test_an_index_that_another_map_has_upgraded_is_upgraded_once_more(tmp_path: Path) -> None:
    old, new = TurnedEmbedder(), ColourEmbedder()
    others = [tmp_path / f"{number}.png" for number in range(len(COLOURS) ** 3)]
    for path, colours in zip(others, itertools.product(COLOURS.values(), repeat=3), strict=True):
        Image.fromarray(np.array([colours], dtype=np.uint8)).save(path)
    with writing("hnsw") as index:
        assert upgrade(index, old, new, others, stage=3, keep=0).stage == 3
    assert about_index("hnsw").kind == "hnsw"
    check(FactIndex.load("hnsw", new), new, atol=0.05)


def check(index: FactIndex, embedder: ColourEmbedder, atol: float) -> None:
    """Its rows are those of the photos, embedded by a model."""
    rows = [row for row, path in enumerate(index.paths) if path.name]
    expected = embedder.encode_images(index.photos).flatten(1).numpy()
    np.testing.assert_allclose(index.rows(rows), expected, atol=atol)
