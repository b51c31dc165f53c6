"""The cache of a run: features and text vectors are found while they are valid, and only then."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from tripletcl.experiments.feature_cache import FeatureCache


class Trunk:
    """The part of an embedder that `FeatureCache` needs."""

    def __init__(self, name: str) -> None:
        self.name = name

    def trunk_fingerprint(self) -> str:
        return self.name


def test_a_representation_is_found_while_trunk_and_file_are_the_same(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.jpg" for name in "abc"]
    for path in paths:
        path.write_text("a photo")
    rows = torch.randn(3, 4)
    FeatureCache.of(Trunk("one"), paths, rows).save(tmp_path / "features.safetensors")
    cache = FeatureCache.load(tmp_path / "features.safetensors")
    assert torch.equal(cache.representation, rows)
    other = tmp_path / "d.jpg"
    assert cache.rows(Trunk("one"), [paths[2], other, paths[0]]) == [2, None, 0]
    assert cache.rows(Trunk("two"), paths) == [None, None, None]
    paths[0].unlink()  # missing: counts as unchanged
    paths[1].write_text("another photo")  # changed
    assert cache.rows(Trunk("one"), paths) == [0, None, 2]
    rest = cache.without(paths[:1])
    assert rest.rows(Trunk("one"), paths) == [None, None, 1]
    assert torch.equal(rest.representation, rows[1:])


def test_an_image_that_occurs_twice_shifts_no_row(tmp_path: Path) -> None:
    a, b, c = paths = [tmp_path / f"{name}.jpg" for name in "abc"]
    for path in paths:
        path.write_text("a photo")
    FeatureCache.of(Trunk("one"), [a, b, a, c], torch.arange(4.0)[:, None]).save(tmp_path / "features.safetensors")
    cache = FeatureCache.load(tmp_path / "features.safetensors")
    assert cache.rows(Trunk("one"), paths) == [0, 1, 3]
    rest = cache.without([a])
    assert rest.rows(Trunk("one"), paths) == [None, 0, 1]
    assert rest.representation.flatten().tolist() == [1, 3]


def test_a_file_with_fewer_stamps_than_rows_is_recomputed(tmp_path: Path) -> None:
    about = {"trunk": "one", "stamps": json.dumps([[str(tmp_path / "a.jpg"), None], [str(tmp_path / "c.jpg"), None]])}
    save_file({"representation": torch.zeros(3, 1)}, tmp_path / "features.safetensors", about)
    assert FeatureCache.load(tmp_path / "features.safetensors").rows(Trunk("one"), [tmp_path / "c.jpg"]) == [None]


def test_a_damaged_or_missing_file_is_an_empty_cache(tmp_path: Path) -> None:
    (tmp_path / "damaged").write_bytes(b"no")
    for name in ("damaged", "missing"):
        assert FeatureCache.load(tmp_path / name).rows(Trunk(""), [tmp_path]) == [None]
