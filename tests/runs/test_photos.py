"""A collection of photos from the first minute, and what it keeps when it is taught."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import forget_array, save_checkpoint, save_sentence_encoder
from PIL import Image

from tripletcl.data.images import list_images
from tripletcl.embedding import FactEmbedder
from tripletcl.embedding.text_encoders import build_text_encoder
from tripletcl.errors import UserError
from tripletcl.retrieval import FactIndex, Query, query_vectors
from tripletcl.runs import photos
from tripletcl.runs.adapt import adapt
from tripletcl.runs.asking import ask
from tripletcl.runs.collection import open_collection
from tripletcl.runs.stored import FactRun
from tripletcl.runs.teach import teach, undo

COUNT = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of photos, and a run on it that starts from a tiny pair of encoders; a smaller readout is faster."""
    folder = tmp_path_factory.mktemp("photos")
    save_checkpoint("clip", folder / "clip")
    (folder / "album").mkdir()
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 200, (COUNT // 6, 3))  # six photos of each
    for number in range(COUNT):
        pixels = colours[number // 6] + rng.integers(0, 55, (40, 40, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"album/{number:02d}.png")
    shipped = photos.load_config
    config = str(Path(__file__).parents[2] / "configs" / "collection.yaml")
    small = ["method={name: analytic, features: 200, targets: text}", "model.image_size=40"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPLETCL_CACHE", str(folder / "cache"))
        patch.setattr(photos, "load_config", lambda name, changes: shipped(config, [*changes, *small]))
        yield folder


@pytest.fixture(scope="module")
def run(place: Path) -> Path:
    done = photos.collect(place / "album", place / "run", place / "clip")
    assert (done.photos, len(done.changes.added)) == (COUNT, COUNT)  # type: ignore[union-attr]
    return place / "run"


def scores_of(run: Path, words: list[str]) -> np.ndarray:
    """`[N, words]` of all photos of the index, each word as a subject."""
    opened = FactRun.open(run)
    embedder = FactEmbedder.from_pretrained(opened.stage_folder())
    index = FactIndex.load(opened.index, embedder)
    texts = embedder.encode_units(words, 0).numpy()
    return index.rows(~index.deleted).reshape(len(index), 3, -1)[:, 0] @ texts.T


def answers_of(run: Path, words: list[str]) -> np.ndarray:
    """`[N, words]` as the index is asked for each word."""
    opened = FactRun.open(run)
    embedder = FactEmbedder.from_pretrained(opened.stage_folder())
    index = FactIndex.load(opened.index, embedder)
    return index.rows(~index.deleted) @ query_vectors([Query(word) for word in words], embedder).T


def test_again_only_what_is_new_is_read(run: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(FactEmbedder, "from_pretrained", None)  # no model is loaded
        assert photos.collect(place / "album", run, place / "clip").changes is None
    Image.new("RGB", (40, 40), "red").save(place / "album/new.png")
    changes = photos.collect(place / "album", run, place / "clip").changes
    assert changes is not None
    assert [path.name for path in changes.added] == ["new.png"]
    (place / "album/new.png").unlink()
    changes = photos.collect(place / "album", run, place / "clip").changes
    assert changes is not None
    assert [path.name for path in changes.removed] == ["new.png"]


def test_several_terms_of_a_run_that_was_taught_nothing_need_no_fit(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tripletcl.runs.calibrate.stage_calibration", lambda *_: pytest.fail("it was tried"))
    found = ask(open_collection(run), "dog + cat", k=3)
    assert (found.scale, len(found.hits)) == ("score", 3)


def test_a_folder_is_listed_once(run: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[Path] = []
    monkeypatch.setattr(
        "tripletcl.retrieval.photos.list_images", lambda folder: listed.append(folder) or list_images(folder)
    )
    photos.collect(place / "album", run, place / "clip")
    assert listed == [place / "album"]
    Image.new("RGB", (40, 40), "blue").save(place / "album/another.png")
    assert photos.collect(place / "album", run, place / "clip").photos == COUNT + 1
    (place / "album/another.png").unlink()
    assert photos.collect(place / "album", run, place / "clip").photos == COUNT
    assert listed == [place / "album"] * 3


def test_lessons_leave_what_the_base_knows_as_it_was_and_can_be_undone(run: Path, place: Path) -> None:
    album = sorted((place / "album").iterdir())
    untaught = ["cat", "ball", "horse", "a photo of the dog"]
    asked = answers_of(run, untaught)
    before, state = scores_of(run, untaught), {p: p.read_bytes() for p in (run / "stages/stage-00").iterdir()}
    assert before.std(axis=0).min() > 0
    for number, fact in enumerate(("dog", "person running")):
        lesson = teach(run, fact, album[6 * number : 6 * number + 6])
        assert (lesson.stage, lesson.photos, lesson.index) == (number + 1, 5, f"brought to stage {number + 1} exactly")
        np.testing.assert_allclose(scores_of(run, untaught), before, atol=1e-6)
        np.testing.assert_allclose(answers_of(run, untaught), asked, atol=1e-6)
    collection = open_collection(run)
    levels = collection.embedder.levels  # of both facts, after a lesson that followed another one
    assert len(levels) == 2
    assert min(levels) > 0
    found = {hit.path for hit in ask(collection, "person, running", k=5).hits}
    assert len(found & set(album[6:12])) >= 4  # what it was taught comes first, out of 24
    by_kind = ask(collection, "kids, running", k=5)  # kids are persons, but running is what was taught of these
    assert {hit.path for hit in by_kind.hits} == found
    assert by_kind.notes == ["<kids, running, ?> is of a kind that was taught: it asks <person, running>"]
    assert by_kind.suggestion is None
    for stage in (1, 0):
        assert undo(run).stage == stage
    np.testing.assert_allclose(scores_of(run, [*untaught, "dog"])[:, :-1], before, atol=1e-6)
    assert all(path.read_bytes() == content for path, content in state.items())


def test_adapt_keeps_the_answers_and_makes_the_next_lesson_change_those_photos_less(run: Path, place: Path) -> None:
    album = sorted((place / "album").iterdir())
    others = place / "others"
    others.mkdir()
    for path in album[12:]:
        (others / path.name).write_bytes(path.read_bytes())
    teach(run, "dog", album[:6])
    plain = scores_of(run, ["dog"])[12:, 0]
    undo(run)
    before = scores_of(run, ["dog"])
    adapt(run, others, weight=5.0)
    np.testing.assert_array_equal(scores_of(run, ["dog"]), before)
    teach(run, "dog", album[:6])
    held = scores_of(run, ["dog"])[12:, 0]
    share = torch.tensor(0.2).sqrt().item()  # the base's part of a text that was taught
    assert np.abs(held - share * before[12:, 0]).sum() < 0.8 * np.abs(plain - share * before[12:, 0]).sum()
    undo(run)


def test_a_collection_of_another_version_is_refused_and_stays_as_it_is(run: Path, place: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(run, tmp_path / "old"))
    forget_array(old / "stages/stage-00", "text.base.names")
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}
    album = sorted((place / "album").iterdir())
    shutil.copytree(place / "album", place / "more")
    for command in (
        lambda: open_collection(old),
        lambda: teach(old, "dog", album[:6]),
        lambda: adapt(old, place / "album"),
        lambda: photos.collect(place / "more", old, place / "clip"),
    ):
        with pytest.raises(UserError, match=rf"^{old} was made by another version .* tripletcl photos FOLDER --out"):
            command()
        assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before


def test_a_text_encoder_of_other_languages_answers_instead_of_the_bundled_one(tmp_path: Path) -> None:
    save_sentence_encoder(tmp_path / "multilingual", ["mean_tokens"], True)
    model = photos.collection_config(text=tmp_path / "multilingual").model
    assert (model.text, model.base) == (str(tmp_path / "multilingual"), "classes")
    assert model.width == build_text_encoder(model.text).width
    with pytest.raises(UserError, match="brings its own text encoder"):
        photos.collection_config(tmp_path, tmp_path)


def test_a_folder_without_photos_and_another_run_are_one_sentence(place: Path, run: Path) -> None:
    (place / "empty").mkdir(exist_ok=True)
    with pytest.raises(UserError, match=r"no photo in .*empty; photos end in"):
        photos.collect(place / "empty", place / "nothing", place / "clip")
    assert not (place / "nothing").exists()
    with pytest.raises(UserError, match="holds another run: name the folder of this collection's run with --out"):
        photos.collect(place / "album", run, None)
