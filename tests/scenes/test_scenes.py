"""The drawn scenes: their facts, their files, and what they depend on."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tripletcl.data.facts import Fact
from tripletcl.errors import UserError
from tripletcl.progress import Progress, listening
from tripletcl.scenes import PREDICATES, SUBJECTS, THINGS, all_facts, draw_scene, scene_facts, write_scenes

SMALL = {"facts": 24, "train": 1, "test": 2, "size": 48}


def read(table: Path) -> list[tuple[str, Fact, str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return [
            (row["image"], Fact(row["subject"], row["predicate"] or None, row["object"] or None), row["split"])
            for row in csv.DictReader(file)
        ]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "drawn", **SMALL).parent


def test_default_facts_cover_the_vocabulary_in_all_orders() -> None:
    facts = scene_facts()
    orders = Counter(fact.order for fact in facts)
    assert len(set(facts)) == 150
    assert orders[1] >= 12
    assert orders[2] == 45
    for unit, (names, least) in enumerate(((SUBJECTS, 8), (PREDICATES, 4), (THINGS, 3))):
        used = Counter(fact.units[unit] for fact in facts if fact.units[unit] is not None)
        assert set(used) == set(names)
        assert len(names) >= 12
        assert min(used.values()) >= least


@pytest.mark.parametrize("count", [12, 24, 60, 300])
def test_few_facts_share_units_too(count: int) -> None:
    facts = scene_facts(count, seed=3)
    assert len(set(facts)) == count
    assert {fact.order for fact in facts} == {1, 2, 3}
    for unit in range(3):
        used = Counter(fact.units[unit] for fact in facts if fact.units[unit] is not None)
        assert sum(used.values()) / len(used) >= 2


def test_every_fact_can_be_chosen_and_not_one_more() -> None:
    everything = [fact for pool in all_facts().values() for fact in pool]
    assert set(scene_facts(len(everything))) == set(everything)
    for count in (11, len(everything) + 1):
        with pytest.raises(UserError, match=f"12 to {len(everything)} facts, not {count}"):
            scene_facts(count)


def test_the_sample_depends_only_on_the_seed() -> None:
    assert scene_facts(60, 1) == scene_facts(60, 1)
    assert scene_facts(60, 1) != scene_facts(60, 2)


def test_every_predicate_and_object_can_be_drawn_for_every_subject() -> None:
    for k, fact in enumerate(fact for pool in all_facts().values() for fact in pool):
        image = draw_scene(fact, 32, k)
        assert image.size == (32, 32)
        assert image.mode == "RGB"
        assert np.asarray(image).std() > 8, fact  # not an empty frame


@pytest.mark.parametrize(
    ("fact", "culprit"),
    [
        (Fact("unicorn"), "unicorn"),
        (Fact("dog", "thinking"), "thinking"),
        (Fact("dog", "riding"), "bicycle"),
        (Fact("dog", "eating", "car"), "apple"),
    ],
)
def test_undrawable_facts_are_refused_with_what_is_allowed(fact: Fact, culprit: str) -> None:
    with pytest.raises(UserError, match=culprit):
        draw_scene(fact, 48, 0)


def test_pictures_of_one_fact_differ_and_those_of_one_seed_do_not() -> None:
    fact = Fact("cat", "riding", "bicycle")
    pictures = [np.asarray(draw_scene(fact, 64, seed)).astype(float) for seed in range(6)]
    assert np.array_equal(pictures[0], np.asarray(draw_scene(fact, 64, 0)))
    for k, one in enumerate(pictures):
        assert all(np.abs(one - other).mean() > 15 for other in pictures[:k])


def test_a_picture_changes_with_its_subject_and_its_object() -> None:
    """The same seed gives the same place; the units still make a clear difference to the pixels."""
    base = np.asarray(draw_scene(Fact("dog", "pushing", "box"), 64, 4)).astype(float)
    for other in (Fact("elephant", "pushing", "box"), Fact("dog", "pushing", "ball"), Fact("dog", "pulling", "box")):
        assert np.abs(np.asarray(draw_scene(other, 64, 4)).astype(float) - base).mean() > 4


def test_files_are_those_of_the_table(scenes: Path) -> None:
    rows = read(scenes / "facts.csv")
    facts = scene_facts(SMALL["facts"])
    assert {fact for _, fact, _ in rows} == set(facts)
    images = {image for image, _, _ in rows}
    assert len(images) == SMALL["facts"] * (SMALL["train"] + SMALL["test"])
    assert images == {f"images/{path.name}" for path in (scenes / "images").iterdir()}
    assert len({image for image, _, split in rows if split == "train"}) == SMALL["facts"] * SMALL["train"]
    for image in images:
        with Image.open(scenes / image) as picture:
            assert (picture.format, picture.size) == ("JPEG", (48, 48))


def test_train_images_have_one_row_and_test_images_all_that_they_entail(scenes: Path) -> None:
    facts = set(scene_facts(SMALL["facts"]))
    facts_of_image: dict[tuple[str, str], set[Fact]] = {}
    for image, fact, split in read(scenes / "facts.csv"):
        facts_of_image.setdefault((image, split), set()).add(fact)
    several = 0
    for (_, split), group in facts_of_image.items():
        longest = max(group, key=lambda fact: fact.order)
        if split == "train":
            assert group == {longest}
            continue
        prefixes = {Fact(*longest.units[:k]) for k in (1, 2, 3) if None not in longest.units[:k]}
        assert group == (prefixes & facts)
        several += len(group) > 1
    assert several > 0


def test_same_seed_same_bytes_other_seed_others(scenes: Path, tmp_path: Path) -> None:
    again = write_scenes(tmp_path / "again", **SMALL).parent
    assert contents(again) == contents(scenes)
    few = {**SMALL, "facts": 12, "test": 1}
    one, other = (contents(write_scenes(tmp_path / str(seed), **few, seed=seed).parent) for seed in (0, 1))
    assert not {data for name, data in one.items() if "jpg" in name} & set(other.values())


def test_a_picture_does_not_depend_on_how_many_there_are(scenes: Path, tmp_path: Path) -> None:
    more = contents(write_scenes(tmp_path / "more", **{**SMALL, "train": 2}).parent)
    fewer = {name: data for name, data in contents(scenes).items() if name.endswith(".jpg")}
    assert fewer
    assert all(more[name] == data for name, data in fewer.items())


def test_a_finished_folder_is_used_as_it_is(scenes: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in scenes.rglob("*")}
    heard: list[Progress] = []
    with listening(heard.append):
        assert write_scenes(scenes, **SMALL) == scenes / "facts.csv"
    assert heard == []
    assert {path: path.stat().st_mtime_ns for path in scenes.rglob("*")} == before


def test_other_contents_are_refused_and_kept(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="other settings"):
        write_scenes(scenes, **{**SMALL, "seed": 5})
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="something other than scenes"):
        write_scenes(mine, **SMALL)
    assert contents(mine) == {"thesis.txt": b"years of work"}
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(UserError, match="something other than scenes"):
        write_scenes(file, **SMALL)
    (mine / "thesis.txt").rename(mine / "scenes.json")
    with pytest.raises(UserError, match="other settings"):
        write_scenes(mine, **SMALL)


def test_an_empty_folder_is_filled_and_progress_is_reported(tmp_path: Path) -> None:
    heard: list[Progress] = []
    few = {"facts": 12, "train": 1, "test": 1, "size": 32}
    with listening(heard.append):
        table = write_scenes(tmp_path, **few)
    assert table == tmp_path / "facts.csv"
    assert heard == [Progress("drawing scenes", k, 24) for k in range(1, 25)]


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_split_without_images_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"at least 1 {name} image"):
        write_scenes(tmp_path / "x", **{**SMALL, name: 0})


def test_a_failure_leaves_no_files(tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(stop):
        write_scenes(tmp_path / "scenes", **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_two_processes_at_once_make_one_folder(tmp_path: Path) -> None:
    target = tmp_path / "scenes"
    code = (
        "import sys; from tripletcl.scenes import write_scenes;"
        "print(write_scenes(sys.argv[1], facts=12, train=2, test=1, size=48))"
    )
    runs = [subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE) for _ in range(2)]
    for run in runs:
        out, _ = run.communicate(timeout=60)
        assert run.returncode == 0
        assert out.decode().strip() == str(target / "facts.csv")
    assert list(tmp_path.iterdir()) == [target]
    assert json.loads((target / "scenes.json").read_text())["facts"] == 12
    assert len(list((target / "images").iterdir())) == 36
    code = "import sys, tripletcl.scenes; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"False"


def test_a_place_where_no_folder_can_be_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for folder in (tmp_path / "file" / "scenes", tmp_path / "loop" / "scenes", Path("/proc/none/scenes")):
        with pytest.raises(UserError, match=f"{folder} cannot be written: "):
            write_scenes(folder, facts=12, train=1, test=1, size=32)
