"""Published fact sets, drawn small in exactly their published form, and the labels that a reader must not get wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fact_archives as archives
import pytest

from tripletcl.data import Fact
from tripletcl.data.fact_sets import FACT_SETS, FactRecord
from tripletcl.errors import UserError


def records(kind: str, root: Path, variant: str | None = None) -> list[FactRecord]:
    source = FACT_SETS[kind]
    default = source.variants[0] if source.variants and not source.detected else None
    return list(source.read(root, variant or default))


def facts_of(found: list[FactRecord], image: str) -> list[Fact]:
    """The facts of a photo that it shows, by the end of its path."""
    return [each.fact for each in found if each.image.endswith(image) and each.label]


def change(path: Path, edit: Callable[[Any], object]) -> None:
    """Edit a JSON file in place."""
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))


# ---- lfl -------------------------------------------------------------------------------------------------------------


def test_lfl_with_quoted_links_and_other_suffixes(tmp_path: Path) -> None:
    archives.disturb_lfl(archives.write_lfl(tmp_path))
    found = records("lfl", tmp_path)
    assert [each.group for each in found] == ["B1"] * 13 + ["B2"] * 12
    assert found[0].image == "mid_scale/images/train/6DS_train_0003000000.jpg"
    assert found[2].image == "mid_scale/images/train/6DS_train_0003000002.png"
    assert all((tmp_path / each.image).exists() for each in found)
    assert facts_of(found, found[1].image) == [Fact("person"), Fact("person", "riding", "motor bike")]
    assert {each.fact for each in found if each.group == "B2"} == {
        Fact("dog", "running"),
        Fact("person", "watching", "TV"),
    }
    assert {each.split for each in found[:7]} == {"train"}


def test_lfl_without_lists_of_facts_takes_the_words_of_each_row(tmp_path: Path) -> None:
    archives.write_lfl(tmp_path)
    expected = records("lfl", tmp_path)
    for path in tmp_path.rglob("B*_facts.csv"):
        path.unlink()
    assert records("lfl", tmp_path) == expected
    path = next(tmp_path.rglob("B2_train.csv"))
    path.write_text(path.read_text().replace("dog-running-", "a dog-running-in-the-park"))
    with pytest.raises(UserError, match=r"B2_train.csv, entry 1: its SPO is .* is not 2 words"):
        records("lfl", tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (",17,1,1,1", ",18,1,1,1", r"B1_train.csv, entry 4: its id is 18, which the list of the task's facts"),
        (",17,1,1,1", ",17,1,1,0", r"entry 4: w_s, w_p, w_o say 2 units, but fact 17 is <person, riding, motor bike>"),
        (",3,1,0,0", ",three,1,0,0", r"entry 1: invalid literal"),
        (",id,", ",number,", r"B1_train.csv lacks the column 'id'; it has '', 'image_links'"),
        (",id,", ",", r"B1_train.csv is not readable as CSV"),
    ],
)
def test_lfl_that_is_broken(old: str, new: str, words: str, tmp_path: Path) -> None:
    archives.write_lfl(tmp_path)
    path = next(tmp_path.rglob("B1_train.csv"))
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(UserError, match=words):
        records("lfl", tmp_path)


# ---- vrd and unrel ---------------------------------------------------------------------------------------------------


def test_vrd_with_boxes_in_its_own_order(tmp_path: Path) -> None:
    found = records("vrd", archives.write_vrd(tmp_path))
    assert facts_of(found, "a.jpg") == [
        Fact("person", "ride", "horse"),
        Fact("person", "on", "horse"),
        Fact("person", "ride", "horse"),
    ]
    assert found[0].boxes == ((4, 2, 12, 20), (5, 10, 40, 30))
    assert [each.image for each in found if each.split == "test"] == [
        "sg_dataset/sg_test_images/d.jpg",
        "sg_dataset/sg_test_images/e.gif",
    ]
    assert facts_of(found, "e.gif") == [Fact("traffic light", "next to", "person")]


def test_vrd_with_predicates_in_another_order(tmp_path: Path) -> None:
    path = archives.write_vrd(tmp_path) / "json_dataset" / "predicates.json"
    change(path, lambda names: names.sort())
    with pytest.raises(
        UserError, match=r"predicates.json is in another order than the annotations: it begins with has"
    ):
        records("vrd", tmp_path)


def test_vrd_whose_known_photo_begins_with_other_facts(tmp_path: Path) -> None:
    archives.write_vrd(tmp_path, train={"2113966890_c65030a7e7_o.jpg": archives.VRD_TRAIN["a.jpg"]})
    with pytest.raises(UserError, match=r"would begin with <person, ride, horse>, not <umbrella, above, table>"):
        records("vrd", tmp_path)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda one: one.update(predicate=6), "its predicate is 6, allowed is 0 to 5"),
        (lambda one: one.update(predicate=-1), "its predicate is -1"),
        (lambda one: one["object"].update(category=3), "its object's category is 3, allowed is 0 to 2"),
        (lambda one: one["object"].update(bbox=[1, 2, 3]), "not enough values"),
        (lambda one: one.pop("subject"), "it has no 'subject'"),
    ],
)
def test_vrd_with_a_relation_that_is_broken(edit: Callable[[Any], object], words: str, tmp_path: Path) -> None:
    path = archives.write_vrd(tmp_path) / "json_dataset" / "annotations_test.json"
    change(path, lambda photos: edit(photos["d.jpg"][0]))
    with pytest.raises(UserError, match=rf"annotations_test.json, entry 'd.jpg': .*{words}"):
        records("vrd", tmp_path)


def test_unrel(tmp_path: Path) -> None:
    found = records("unrel", archives.write_unrel(tmp_path))
    assert [(each.image, each.fact) for each in found] == [
        ("images/1122.jpg", Fact("bike", "above", "person")),
        ("images/7.jpg", Fact("dog", "ride", "bike")),
        ("images/7.jpg", Fact("dog", "on", "bike")),
        ("images/7.jpg", Fact("car", "in", "traffic light")),
    ]
    assert {each.split for each in found} == {"test"}
    assert found[0].boxes == ((0, 0, 20, 30), (4, 4, 40, 30))
