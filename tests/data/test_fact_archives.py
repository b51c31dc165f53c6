"""Published fact sets, drawn small in exactly their published form, and the labels that a reader must not get wrong."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fact_archives as archives
import h5py
import pytest

from tripletcl.data import Fact
from tripletcl.data.fact_sets import FACT_SETS, FactRecord
from tripletcl.data.fact_sets.actions import STANFORD_ACTIONS
from tripletcl.data.fact_sets.coco import NAME_OF_ID
from tripletcl.data.fact_sets.hico import VERBS, ing
from tripletcl.data.fact_sets.regions import Part, pixel_box
from tripletcl.data.fact_sets.visual_genome import CSEGG_TASKS
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


# ---- coco and vcoco --------------------------------------------------------------------------------------------------


def test_coco_with_ids_up_to_90(tmp_path: Path) -> None:
    assert len(NAME_OF_ID) == 80
    assert (NAME_OF_ID[1], NAME_OF_ID[13], NAME_OF_ID[90]) == ("person", "stop sign", "toothbrush")
    found = records("coco", archives.write_coco(tmp_path))
    assert [(each.image, str(each.fact)) for each in found if each.split == "test"] == [
        ("val2017/000000000006.jpg", "<toothbrush>"),
        ("val2017/000000000006.jpg", "<person>"),
    ]
    assert found[0].boxes == ((2.5, 3, 12.5, 23),)
    change(tmp_path / "annotations/instances_val2017.json", lambda all_: all_["annotations"][0].update(category_id=91))
    with pytest.raises(
        UserError, match=r"val2017.json, entry 'annotation 1': its category_id is 91, allowed is 1 to 90"
    ):
        records("coco", tmp_path)


def test_vcoco_is_column_major(tmp_path: Path) -> None:
    found = records("vcoco", archives.write_vcoco(tmp_path))
    first = "train2014/COCO_train2014_000000000009.jpg"
    assert facts_of(found, first) == [
        Fact("person", "run"),
        Fact("person", "hit"),
        Fact("person", "hit with", "tennis racket"),
    ]
    assert facts_of(found, "train2014_000000000025.jpg")[-1] == Fact("person", "hit", "sports ball")
    assert [(str(each.fact), each.boxes) for each in found if each.image == first and not each.label] == [
        ("<person, run>", ((2.5, 3, 12.5, 23),)),
        ("<person, hit>", ((20, 3, 30, 23),)),
    ]
    assert {each.image.split("_")[0] for each in found if each.split == "test"} == {"val2014/COCO"}
    assert len(found) == 3 * 8
    assert Fact("person", "hit", "tennis racket") in facts_of(records("vcoco", tmp_path, "raw"), first)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda hit: hit["role_object_id"].reverse(), "role_object_id does not begin with all persons"),
        (lambda hit: hit["role_object_id"].pop(), "3 persons and 3 roles, but 8 entries"),
        (
            lambda hit: hit["role_object_id"].__setitem__(3, 999),
            "annotation 999 of photo 9 is not among COCO's instances",
        ),
        (lambda hit: hit["role_object_id"].__setitem__(3, 202), "annotation 202 of photo 9 is of photo 25 in COCO"),
    ],
)
def test_vcoco_that_is_broken(edit: Callable[[Any], object], words: str, tmp_path: Path) -> None:
    change(archives.write_vcoco(tmp_path) / "data/vcoco/vcoco_train.json", lambda actions: edit(actions[1]))
    with pytest.raises(UserError, match=rf"vcoco_train.json, entry (2|'hit'): {words}"):
        records("vcoco", tmp_path)


def test_vcoco_without_the_boxes_of_coco(tmp_path: Path) -> None:
    path = archives.write_vcoco(tmp_path) / "data/instances_vcoco_all_2014.json"
    expected = records("vcoco", tmp_path)
    for part in ("train", "val"):
        (tmp_path / "annotations").mkdir(exist_ok=True)
        (tmp_path / "annotations" / f"instances_{part}2014.json").write_bytes(path.read_bytes())
    path.unlink()
    assert records("vcoco", tmp_path) == expected
    (tmp_path / "annotations/instances_val2014.json").unlink()
    with pytest.raises(UserError, match=r"instances_vcoco_all_2014.json or annotations/.*COCO's boxes and categories"):
        records("vcoco", tmp_path)


def test_vcoco_converted(tmp_path: Path) -> None:
    found = records("vcoco", archives.write_vcoco_converted(tmp_path))
    assert [(each.image, str(each.fact)) for each in found if each.split == "test"] == [
        ("val2014/COCO_val2014_000000000165.jpg", "<person, sit on, chair>"),
        ("val2014/COCO_val2014_000000000165.jpg", "<person, talk on phone, cell phone>"),
    ]
    assert found[0].boxes == ((1.5, 2, 20, 30), (5, 6, 30.25, 28))


# ---- hico and hico_det -----------------------------------------------------------------------------------------------


def test_hico_det_with_the_fields_of_boxes_in_their_order(tmp_path: Path) -> None:
    found = records("hico_det", archives.write_hico_det(tmp_path))
    boarding, sitting = Fact("person", "boarding", "airplane"), Fact("person", "sitting on", "person")
    assert [(each.image[-12:], each.fact, each.boxes) for each in found] == [
        ("00000001.jpg", boarding, ((1, 2, 12, 28), (4, 5, 40, 30))),
        ("00000001.jpg", sitting, ()),
        ("00000002.jpg", sitting, ((0, 1, 9, 8), (4, 4, 20, 19))),
        ("00000002.jpg", sitting, ((1, 2, 9, 9), (4, 4, 20, 19))),
        ("00000001.jpg", boarding, ((0, 1, 9, 8), (4, 4, 20, 19))),
        ("00000001.jpg", sitting, ((0, 1, 9, 8), (4, 4, 20, 19))),
    ]
    assert found[-1].image == "hico_20160224_det/images/test2015/HICO_test2015_00000001.jpg"


def test_hico_det_converted_counts_boxes_from_1(tmp_path: Path) -> None:
    found = records("hico_det", archives.write_hico_det_json(tmp_path))
    assert [(str(each.fact), each.split) for each in found] == [
        ("<person, boarding, airplane>", "train"),
        ("<person, sitting on, person>", "train"),
        ("<person, boarding, airplane>", "test"),
        ("<person, sitting on, person>", "test"),
    ]
    assert found[0].boxes == ((1, 2, 12, 28), (4, 5, 40, 30))
    change(tmp_path / "instances_train2015.json", lambda all_: all_["correspondence"].reverse())
    with pytest.raises(
        UserError, match=r"00000001.jpg': its hoi 0 is \[2, 1, 2\] in `correspondence`, not \[0, 0, 0\]"
    ):
        records("hico_det", tmp_path)


def test_hico_det_of_ppdm_with_ids_of_coco(tmp_path: Path) -> None:
    found = records("hico_det", archives.write_hico_det_ppdm(tmp_path))
    assert [(str(each.fact), len(each.boxes)) for each in found if each.image.endswith("train2015_00000001.jpg")] == [
        (f"<person, {ing(VERBS[72])}, toothbrush>", 2),
        (f"<person, {ing(VERBS[91])}>", 1),
    ]
    assert (VERBS[57], len(VERBS)) == ("no_interaction", 117)
    assert list(VERBS) == sorted(VERBS)


def test_hico_with_labels_that_are_not_known(tmp_path: Path) -> None:
    found = records("hico", archives.write_hico(tmp_path))
    assert [(each.image.split("/")[-1], each.fact.predicate, each.label) for each in found] == [
        ("HICO_train2015_00000001.jpg", "boarding", True),
        ("HICO_train2015_00000002.jpg", "boarding", False),
        ("HICO_train2015_00000002.jpg", "sitting on", None),
        ("HICO_test2015_00000001.jpg", "boarding", True),
        ("HICO_test2015_00000001.jpg", "sitting on", True),
    ]


# ---- visual_genome and vg150 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "1.2", "1.4"])
def test_visual_genome(version: str, tmp_path: Path) -> None:
    found = records("visual_genome", archives.write_visual_genome(tmp_path, version))
    assert [(each.image, str(each.fact)) for each in found] == [
        ("VG_100K/1.jpg", "<man, on, street>"),
        ("VG_100K/1.jpg", "<man, on, street>"),
        ("VG_100K_2/2.jpg", "<street, has been, man>"),
        ("VG_100K/1.jpg", "<clock, green>"),
        ("VG_100K/1.jpg", "<clock, tall>"),
        ("VG_100K_2/2.jpg", "<clock>"),
    ]
    assert found[0].boxes == ((1, 2, 11, 22), (-3, 5, 27, 45))
    assert {each.split for each in found} == {None}
    aliased = records("visual_genome", tmp_path, "alias")
    assert [str(each.fact) for each in aliased[:3]] == ["<person, on, street>"] * 2 + ["<street, be, person>"]


def test_visual_genome_cut_short(tmp_path: Path) -> None:
    path = archives.write_visual_genome(tmp_path, "1.2") / "relationships.json"
    path.write_text(path.read_text()[:300])
    with pytest.raises(UserError, match=r"relationships.json is not readable JSON, or cut short"):
        records("visual_genome", tmp_path)


def test_a_package_of_the_extra_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives.write_visual_genome(tmp_path, "1.2")
    monkeypatch.setitem(sys.modules, "ijson", None)
    with pytest.raises(UserError, match=r"with the package ijson, which `pip install 'tripletcl\[data\]'` adds"):
        records("visual_genome", tmp_path)


def test_vg150_with_labels_from_1_and_last_rows_included(tmp_path: Path) -> None:
    found = records("vg150", archives.write_vg150(tmp_path))
    assert [(each.image[-6:], str(each.fact), each.split) for each in found] == [
        ("10.jpg", "<man, on, horse>", "train"),
        ("10.jpg", "<man>", "train"),
        ("10.jpg", "<man, red>", "train"),
        ("10.jpg", "<horse>", "train"),
        ("12.jpg", "<man, has, hat>", "train"),
        ("12.jpg", "<hat>", "train"),
        ("12.jpg", "<man>", "train"),
        ("13.jpg", "<man, has, hat>", "test"),
        ("13.jpg", "<man, on, horse>", "test"),
        ("13.jpg", "<man>", "test"),
        ("13.jpg", "<hat>", "test"),
        ("13.jpg", "<horse>", "test"),
    ]
    assert found[0].boxes == ((0, 0, 1024, 768), (75, 90, 125, 110))
    assert (found[0].extent, found[4].extent) == ((1024, 768), (768, 1024))
    assert pixel_box(Part(found[0].boxes[0], found[0].extent), (640, 480)) == (0, 0, 640, 480)


def test_vg150_with_the_tasks_of_csegg(tmp_path: Path) -> None:
    assert sorted(number for task in CSEGG_TASKS for number in task) == list(range(1, 51))
    found = records("vg150", archives.write_vg150(tmp_path), "csegg")
    assert [(str(each.fact), each.group) for each in found] == [
        ("<man, on, horse>", "T1"),
        ("<man, has, hat>", "T2"),
        ("<man, has, hat>", "T2"),
        ("<man, on, horse>", "T1"),
    ]


def test_vg150_whose_rows_do_not_match(tmp_path: Path) -> None:
    path = archives.write_vg150(tmp_path) / "VG-SGG-with-attri.h5"
    with h5py.File(path, "a") as file:
        file["relationships"][2] = [4, 7]
    with pytest.raises(
        UserError,
        match=r"VG-SGG-with-attri.h5, entry 'row 3': a relation is of row 7 of the boxes, its photo has 4 to 6",
    ):
        records("vg150", tmp_path)
    change(tmp_path / "image_data.json", lambda photos: photos.pop())
    with pytest.raises(UserError, match=r"entry 'split': 4 rows, but image_data.json has 3 photos that are not broken"):
        records("vg150", tmp_path)
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"is not a readable HDF5 file, or cut short"):
        records("vg150", tmp_path)


# ---- psg and gqa -----------------------------------------------------------------------------------------------------


def test_psg_whose_ids_are_texts(tmp_path: Path) -> None:
    found = records("psg", archives.write_psg(tmp_path))
    assert [(each.image, str(each.fact), each.split) for each in found] == [
        *[("train2017/000000000036.jpg", "<person, in front of, brick wall>", "train")] * 2,
        ("val2017/000000000139.jpg", "<brick wall, over, person>", "test"),
    ]
    assert found[0].boxes == ((1, 2, 20, 28), (5, 3, 30, 20))
    change(tmp_path / "psg.json", lambda all_: all_["data"][0]["relations"].append([0, 2, 0]))
    with pytest.raises(UserError, match=r"000036.jpg': its relation's object is 2, allowed is 0 to 1"):
        records("psg", tmp_path)


def test_gqa_with_relations_in_both_forms(tmp_path: Path) -> None:
    found = records("gqa", archives.write_gqa(tmp_path))
    own = ["<chair>", "<chair, brown>", "<chair, wooden>", "<chair, on, floor>", "<floor>"]
    assert [str(each.fact) for each in found] == own * 2
    assert (found[3].boxes, found[3].extent) == (((2, 3, 7, 11), (0, 0, 40, 30)), (40, 30))
    assert found[-1].image == "images/n161.jpg"
    assert Fact("chair", "to the left of", "floor") in facts_of(records("gqa", tmp_path, "all"), "2407890.jpg")


# ---- vsr and svo_probes ----------------------------------------------------------------------------------------------


def test_vsr_with_votes_that_are_texts(tmp_path: Path) -> None:
    found = records("vsr", archives.write_vsr(tmp_path))
    assert [(each.image[-6:], str(each.fact), each.split, each.label) for each in found] == [
        ("01.jpg", "<cat, inside, sink>", "train", False),
        ("02.jpg", "<cake, consists of, dog>", "train", True),
        ("03.jpg", "<man, has as a part, hair drier>", "train", True),
        ("04.jpg", "<bird, above, cat>", "test", False),
        ("05.jpg", "<cat, inside, sink>", "test", True),
    ]
    path = tmp_path / "data/splits/random/test.jsonl"
    path.write_text(path.read_text().replace("is above the", "sits over the"))
    with pytest.raises(UserError, match=r"test.jsonl, entry 1: its caption 'The bird sits over the cat.' is not"):
        records("vsr", tmp_path)


def test_svo_probes(tmp_path: Path) -> None:
    found = records("svo_probes", archives.write_svo_probes(tmp_path))
    assert [(each.image, str(each.fact), each.label, each.group) for each in found] == [
        ("images/1.png", "<girl, lie, beach>", True, None),
        ("images/2.png", "<girl, lie, beach>", False, "predicate"),
        ("images/3.png", "<dog, sit, grass>", True, None),
        ("images/4.png", "<dog, sit, grass>", False, "subject"),
    ]


# ---- open_images, swig, stanford40, voc_actions ----------------------------------------------------------------------


@pytest.mark.parametrize("column", ["RelationshipLabel", "RelationLabel"])
def test_open_images_with_attributes_and_its_order_of_sides(column: str, tmp_path: Path) -> None:
    found = records("open_images", archives.write_open_images(tmp_path, column))
    assert [(each.image, str(each.fact), each.split) for each in found[:3]] == [
        ("train/000.jpg", "<man, smile>", "train"),
        ("train/000.jpg", "<man, interacts with, guitar>", "train"),
        ("validation/001.jpg", "<man, smile>", "train"),
    ]
    assert found[1].boxes == ((0.1, 0.2, 0.5, 0.9), (0.25, 0.5, 0.75, 1))
    assert pixel_box(Part(found[1].boxes[1], found[1].extent), (40, 30)) == (10, 15, 30, 30)
    (tmp_path / "oidv6-test-annotations-vrd.csv").unlink()
    assert [each.split for each in records("open_images", tmp_path)] == ["train"] * 2 + ["test"] * 2
    (tmp_path / "oidv6-attributes-description.csv").unlink()
    with pytest.raises(
        UserError, match=r"train-annotations-vrd.csv, entry 1: its class '/m/019nj4' is in no file of names"
    ):
        records("open_images", tmp_path)


def test_swig_by_the_majority_of_its_annotators(tmp_path: Path) -> None:
    found = records("swig", archives.write_swig(tmp_path))
    assert [(each.image, str(each.fact), each.split) for each in found] == [
        ("images_512/drinking_1.jpg", "<woman, drinking, water>", "train"),
        ("images_512/drinking_1.jpg", "<woman, drinking, coffee mug>", "train"),
        ("images_512/drinking_2.jpg", "<man, drinking>", "train"),
        ("images_512/drinking_3.jpg", "<woman, drinking, water>", "test"),
        ("images_512/drinking_3.jpg", "<woman, drinking, coffee mug>", "test"),
    ]
    assert (found[0].boxes, found[0].extent) == (((10, 10, 40, 60), (30, 20, 80, 40)), (80, 60))
    assert found[1].boxes == found[2].boxes == ()


def test_stanford40_with_lines_that_end_in_crlf(tmp_path: Path) -> None:
    found = records("stanford40", archives.write_stanford40(tmp_path))
    assert len(STANFORD_ACTIONS) == 40
    assert [(each.image, str(each.fact), each.split) for each in found[1:5]] == [
        ("JPEGImages/riding_a_horse_002.jpg", "<person, riding, horse>", "train"),
        ("JPEGImages/watching_TV_001.jpg", "<person, watching, TV>", "train"),
        ("JPEGImages/watching_TV_002.jpg", "<person, watching, TV>", "train"),
        ("JPEGImages/riding_a_horse_003.jpg", "<person, riding, horse>", "test"),
    ]
    assert (found[0].boxes, found[-1].boxes) == (((2, 0, 20, 30),), ())
    (tmp_path / "ImageSplits" / "test.txt").write_bytes(b"dancing_001.jpg\r\n")
    with pytest.raises(UserError, match=r"test.txt names the photo 'dancing_001.jpg', whose action 'dancing' is none"):
        records("stanford40", tmp_path)


def test_voc_actions_with_several_of_a_person(tmp_path: Path) -> None:
    found = records("voc_actions", archives.write_voc_actions(tmp_path))
    assert [(str(each.fact), each.label, each.boxes[0][0]) for each in found if each.split == "test"] == [
        ("<person, jumping>", False, 2),
        ("<person, phoning>", True, 2),
        ("<person, riding, horse>", True, 2),
        ("<person, jumping>", False, 8),
    ]
    assert found[0].image == "VOCdevkit/VOC2012/JPEGImages/2010_train.jpg"
