"""What a lesson learns and holds out is decided by what the photos hold; what is learned is no test image."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

import field
import numpy as np
import pytest
import torch

from tripletcl.data import Fact
from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.retrieval import FactIndex, writing
from tripletcl.runs.continue_run import continue_run
from tripletcl.runs.evaluate import evaluate
from tripletcl.runs.lesson_photos import Known, photo_table
from tripletcl.runs.stored import FactRun
from tripletcl.runs.teach import teach, undo
from tripletcl.runs.train import train

NEW, OTHER = Fact("cyan", "lying"), Fact("cyan", "standing")
NOTHING = Known(*[frozenset[str]()] * 4)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A table and a cache; on one thread."""
    folder, threads = field.workplace(tmp_path_factory.mktemp("field")), torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPLETCL_CACHE", str(folder / "cache"))
        yield folder
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    """A finished run of the analytic readout, not to be changed."""
    train(field.settings(place, field.ANALYTIC), place / "run")
    return place / "run"


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A finished run, to be changed."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


def split_of(run: Path, number: int, split: str) -> set[str]:
    """The names of the photos of a split of one of a run's tables."""
    table = FactRun.open(run).tables()[number]
    return {table.paths[image].name for image, _ in table.rows_of(split).tolist()}


def count_scored(run: Path) -> int:
    """The number of test images that the latest stage is scored on."""
    return len(FactRun.open(run).vectors()["image_ids"])


def test_a_fifth_of_the_photos_is_held_out_whatever_their_names_and_order() -> None:
    photos = {f"{content:032x}": Path(f"/{content}.jpg") for content in np.random.default_rng(0).permutation(11)}
    counts = [len(photo_table(NEW, dict(list(photos.items())[:n]), NOTHING).rows_of("test")) for n in range(1, 12)]
    assert counts == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2]
    renamed = {content: Path(f"/other/{path.name}") for content, path in sorted(photos.items())}
    tables = [photo_table(NEW, each, NOTHING) for each in (photos, renamed)]
    held_out = [{table.paths[image].name for image, _ in table.rows_of("test").tolist()} for table in tables]
    assert held_out == [{"0.jpg", "1.jpg"}] * 2
    assert len(photo_table(NEW, photos, NOTHING, hold_out=False).rows_of("test")) == 0


def test_a_folder_that_grew_is_learned_without_what_was_held_out(run: Path, tmp_path: Path) -> None:
    photos = field.photos(tmp_path / "picks", "cyan", 10)
    first = teach(run, NEW, photos)
    held_out, learned = split_of(run, 1, "test"), split_of(run, 1, "train")
    assert (len(held_out), len(learned)) == (2, 8)
    photos += field.photos(tmp_path / "more", "cyan", 11)[10:]
    again = teach(run, NEW, photos[::-1])
    assert (again.photos, again.held_out, again.known, again.stage) == (1, 2, 8, 4)
    assert (split_of(run, 2, "train"), split_of(run, 2, "test")) == ({"cyan-10.png"}, held_out)
    assert again.map_held_out == pytest.approx(first.map_held_out, abs=0.5)
    assert count_scored(run) == 12 + 2 + 2
    whole = Path(shutil.copytree(run.parent.parent / run.parent.name / "run", tmp_path / "whole"))
    undo(whole)
    undo(whole)
    order = [path for path in photos if path.name not in held_out]
    teach(whole, NEW, order, hold_out=False)
    weights = [
        FactEmbedder.from_pretrained(FactRun.open(each).stage_folder()).image.analytic.weight for each in (run, whole)
    ]
    assert torch.allclose(weights[0], weights[1], atol=1e-4), "a fact that is taught again is taught by all its photos"


def test_what_one_lesson_holds_out_no_other_learns_unless_all_are_to_be_learned(run: Path, tmp_path: Path) -> None:
    photos = field.photos(tmp_path / "picks", "cyan", 10)
    teach(run, NEW, photos)
    held_out = split_of(run, 1, "test")
    copies = [Path(shutil.copy(path, tmp_path / f"copy-{path.name}")) for path in photos if path.name in held_out]
    with pytest.raises(UserError, match=r"have held out these photos, so <cyan, standing> needs others, or --all"):
        teach(run, OTHER, copies)
    fresh = field.photo(tmp_path / "fresh.png", "cyan", 5)
    lesson = teach(run, OTHER, [*copies, fresh, copies[0]])
    assert (lesson.photos, lesson.held_out, lesson.left_out) == (1, 2, 0)
    lesson = teach(run, OTHER, copies, hold_out=False)
    assert (lesson.photos, lesson.held_out, lesson.left_out) == (2, 0, 2)
    assert count_scored(run) == 12


def test_photos_that_are_tested_elsewhere_are_no_test_images_once_they_are_learned(
    run: Path, place: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also copies under other names."""
    before = field.contents(run, "stages", "config.yaml", "result.json")
    tests = [place / "base" / f"red-{number}.png" for number in (6, 7, 8)]
    copies = [Path(shutil.copy(path, tmp_path / f"copy-{path.name}")) for path in tests]
    lesson = teach(run, Fact("purple"), copies)
    assert (lesson.photos, lesson.left_out) == (3, 3)
    assert "3 test images are left out of the figures: the tables also train on these photos" in caplog.text
    assert count_scored(run) == 12 - 3
    scores = evaluate(run)
    assert scores["map_tasks"] == pytest.approx(FactRun.open(run).result.scores, abs=1e-5)
    assert not [fact for fact, _ in scores["ap"] if "red" in fact], "no test image shows it any more"
    undo(run)
    assert field.contents(run, "stages", "config.yaml", "result.json") == before
    rows = [f"{path},purple,,,train" for path in copies[:2]] + [f"{place}/base/red-0.png,purple,,,test"]
    (tmp_path / "more.csv").write_text("image,subject,predicate,object,split\n" + "\n".join(rows) + "\n")
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        continue_run(run, tmp_path / "more.csv")
    assert "3 test images are left out of the figures" in caplog.text, "two of the first table, one of the second"
    assert count_scored(run) == 12 - 2


def test_after_a_lesson_all_test_images_are_scored_and_the_index_follows(place: Path, tmp_path: Path) -> None:
    """Also where the trunk is trained, and nothing is cached."""
    run = tmp_path / "run"
    train(field.settings(place, field.MAS, {"epochs": 1}, cache_features=False), run)
    own = field.photos(tmp_path / "own", "cyan", 3)
    with writing(run / "index", FactEmbedder.from_pretrained(FactRun.open(run).stage_folder()), stage=2) as index:
        index.add_photos(own)
    shutil.rmtree(place / "cache")
    lesson = teach(run, NEW, field.photos(tmp_path / "picks", "cyan", 5))
    assert count_scored(run) == 12 + 1
    assert None not in FactRun.open(run).result.scores[:2]
    assert "0 photos" not in (lesson.index or "")
    assert FactIndex.load(run / "index").stage in (2, 3)
