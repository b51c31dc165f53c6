"""A user's own photos on the page: searched by the stage that indexed them, and by others where that can be exact."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tripletcl.data import list_images
from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.retrieval import FactIndex, Query, Request
from tripletcl.retrieval.request import Term
from tripletcl.runs.train import Run
from tripletcl.web.asking import ask
from tripletcl.web.exhibit import open_exhibit


def indexed(run: Path, stage: int, photos: Path, folder: Path) -> Path:
    """An index made by a stage of a run."""
    FactIndex.build(FactEmbedder.from_pretrained(Run.open(run).stage_folder(stage)), photos).save(folder)
    return folder


@pytest.fixture(scope="session")
def photos(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder of photos."""
    folder = tmp_path_factory.mktemp("photos")
    for photo in list_images(scenes.parent)[::6]:
        shutil.copy(photo, folder)
    return folder


def test_own_photos_are_searched_by_the_stage_that_indexed_them(runs: Path, photos: Path, tmp_path: Path) -> None:
    run = runs / "mas-split0-seed0"
    exhibit = open_exhibit(run, index=indexed(run, 1, photos, tmp_path / "index"))
    own, asked = exhibit.galleries["own"], Request((Term(Query("?", "waving")),))
    found = ask(own, exhibit.main, 1, asked, k=5)
    model = FactEmbedder.from_pretrained(exhibit.main.folder(1))
    slow = FactIndex.build(model, photos).search("?, waving", k=5)
    assert found is not None
    assert [own.path(tile.number) for tile in found.tiles] == [hit.path for hit in slow]
    assert [tile.score for tile in found.tiles] == pytest.approx([hit.score for hit in slow], abs=1e-5)
    assert found.ap is None
    assert {tile.right for tile in found.tiles} == {None}, "nothing is known of what they show"
    assert ask(own, exhibit.main, 2, asked, k=5) is None
    assert ask(own, exhibit.others["finetune"], 1, asked, k=5) is None
    assert "indexed as of task 1" in own.unseen(exhibit.main)


def test_where_the_trunk_is_frozen_every_stage_sees_them(runs: Path, photos: Path, tmp_path: Path) -> None:
    run = runs / "elsewhere" / "analytic"
    exhibit = open_exhibit(run, index=indexed(run, 2, photos, tmp_path / "index"))
    own = exhibit.galleries["own"]
    for stage in (0, 1, 2):
        seen = own.seen(exhibit.main, stage)
        assert seen is not None
        model = FactEmbedder.from_pretrained(exhibit.main.folder(stage))
        expected = model.encode_images([own.path(number) for number in range(len(own))])
        vectors = torch.stack([seen.vectors(seen.row(number)) for number in range(len(own))])
        assert torch.allclose(vectors, expected, atol=2e-5)


def test_an_index_of_another_model_is_refused(runs: Path, photos: Path, tmp_path: Path) -> None:
    index = indexed(runs / "finetune-split0-seed0", 2, photos, tmp_path / "index")
    with pytest.raises(UserError, match="made by no stage"):
        open_exhibit(runs / "mas-split0-seed0", index=index)
    with pytest.raises(UserError, match="no index"):
        open_exhibit(runs / "mas-split0-seed0", index=photos)


def test_a_run_taught_from_elsewhere_is_read_anew(runs: Path, tmp_path: Path) -> None:
    run = tmp_path / "mas"
    shutil.copytree(runs / "mas-split0-seed0", run)
    exhibit = open_exhibit(run)
    before = exhibit.main
    exhibit.follow()
    assert exhibit.main is before
    shutil.rmtree(run / "stages" / "stage-02")
    exhibit.follow()
    assert exhibit.main.last == 1
    assert np.isclose(len(exhibit.galleries["test"]), 24)
