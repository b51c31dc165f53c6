"""A user's own photos on the page: searched by the stage that indexed them, and by others where that is exact."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tripletcl.data import list_images
from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.retrieval import FactIndex, Query, Request
from tripletcl.retrieval.request import Term
from tripletcl.runs.stored import FactRun
from tripletcl.web.search import search
from tripletcl.web.state import open_state


def indexed(run: Path, stage: int, photos: Path, folder: Path) -> Path:
    """An index made by a stage of a run."""
    FactIndex.build(FactEmbedder.from_pretrained(FactRun.open(run).stage_folder(stage)), photos).save(folder)
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
    state = open_state(run, index=indexed(run, 1, photos, tmp_path / "index"))
    own, request = state.galleries["own"], Request((Term(Query("?", "waving")),))
    answer = search(own, state.main, 1, request, k=5)
    model = FactEmbedder.from_pretrained(state.main.folder(1))
    expected = FactIndex.build(model, photos).search("?, waving", k=5)
    assert answer is not None
    assert [own.paths[tile.number] for tile in answer.tiles] == [hit.path for hit in expected]
    assert [tile.score for tile in answer.tiles] == pytest.approx([hit.score for hit in expected], abs=1e-5)
    assert answer.ap is None
    assert {tile.right for tile in answer.tiles} == {None}, "nothing is known of what they show"
    assert search(own, state.main, 2, request, k=5) is None
    assert search(own, state.others["finetune"], 1, request, k=5) is None
    assert "indexed as of task 1" in own.why_missing()


def test_where_the_trunk_is_frozen_every_stage_has_vectors_of_them(runs: Path, photos: Path, tmp_path: Path) -> None:
    run = runs / "elsewhere" / "analytic"
    state = open_state(run, index=indexed(run, 2, photos, tmp_path / "index"))
    own = state.galleries["own"]
    for stage in (0, 1, 2):
        embedded = own.embedded(state.main, stage)
        assert embedded is not None
        model = FactEmbedder.from_pretrained(state.main.folder(stage))
        expected = model.encode_images([own.paths[number] for number in range(len(own))])
        vectors = torch.stack([embedded.vectors(embedded.row(number)) for number in range(len(own))])
        assert torch.allclose(vectors, expected, atol=2e-5)


def test_an_index_of_another_model_is_refused(runs: Path, photos: Path, tmp_path: Path) -> None:
    index = indexed(runs / "finetune-split0-seed0", 2, photos, tmp_path / "index")
    with pytest.raises(UserError, match="which is no stage"):
        open_state(runs / "mas-split0-seed0", index=index)
    with pytest.raises(UserError, match="no index"):
        open_state(runs / "mas-split0-seed0", index=photos)
