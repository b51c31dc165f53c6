"""Excerpts of the real files of published fact sets, where they are there: their form is that which readers read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fact_archives as archives
import pytest

from tripletcl.data.fact_sets import FACT_SETS, FactRecord
from tripletcl.data.fact_sets.hico import VERBS, ing


@pytest.fixture
def samples(data_root: Path) -> Path:
    """The folder of excerpts; tests that ask for it are skipped where it is missing."""
    folder = data_root / "fact_sets"
    if not folder.is_dir():
        pytest.skip(f"no excerpts of fact sets at {folder}")
    return folder


def records(kind: str, root: Path, variant: str | None = None) -> list[FactRecord]:
    return list(FACT_SETS[kind].read(root, variant))


def test_vcoco_as_published(samples: Path, tmp_path: Path) -> None:
    shutil.copytree(samples / "vcoco", tmp_path / "data" / "vcoco")
    folder = tmp_path / "data" / "vcoco"
    shutil.copy(folder / "vcoco_val.json", folder / "vcoco_test.json")
    ids: dict[int, int] = {}
    for part in ("train", "val"):
        for action in json.loads((folder / f"vcoco_{part}.json").read_text()):
            for number, image in zip(
                action["role_object_id"], action["image_id"] * len(action["role_name"]), strict=True
            ):
                ids.setdefault(number, image)
    instances = [(number, image, 1 + 42 * (number % 2), 1, 2, 3, 4) for number, image in ids.items()]
    archives.write_json(tmp_path / "data" / "instances_vcoco_all_2014.json", archives.coco(instances))
    found = records("vcoco", tmp_path, "phrases")
    assert len({each.fact.predicate for each in found if each.fact.order == 2}) == 26
    first = json.loads((folder / "vcoco_train.json").read_text())[0]
    held = [each for each in found if str(each.fact) == "<person, hold>" and each.split == "train"]
    assert [each.label for each in held[:40]] == [bool(label) for label in first["label"]]
    assert {each.fact.predicate for each in found if each.fact.order == 3} >= {"sit on", "look at", "cut"}


def test_vcoco_converted_as_published(samples: Path) -> None:
    found = records("vcoco", samples / "vcoco_fredzzhang", "phrases")
    assert found[0].image == "train2014/COCO_train2014_000000000165.jpg"
    assert [str(each.fact) for each in found[:3]] == [
        "<person, hold, scissors>",
        "<person, hold, tie>",
        "<person, look at, tie>",
    ]
    assert {each.split for each in found} == {"train", "test"}


def test_hico_det_converted_as_published(samples: Path, tmp_path: Path) -> None:
    for part in ("train2015", "test2015"):
        shutil.copy(samples / "hicodet_fredzzhang" / "instances_test2015.json", tmp_path / f"instances_{part}.json")
        (tmp_path / "images" / part).mkdir(parents=True)
    found = records("hico_det", tmp_path, "json")
    assert found[0].image == "images/train2015/HICO_test2015_00000001.jpg"
    assert str(found[0].fact) == "<person, sitting on, bench>"
    assert found[0].boxes == ((319, 305, 359, 349), (147, 344, 376, 414))
    content = json.loads((tmp_path / "instances_test2015.json").read_text())
    assert content["verbs"] == list(VERBS)
    prompts = json.loads((samples / "hicodet_fredzzhang" / "prompts.json").read_text())
    misspelt = {"hit", "stab", "tag", "stir", "flip", "drag", "zip", "wave", "no_interaction"}
    for prompt, (_, _, verb) in zip(prompts, content["correspondence"], strict=True):
        if (name := content["verbs"][verb]) not in misspelt:
            assert prompt.startswith(f"A photo of a person {ing(name)} "), name


@pytest.mark.parametrize("version", ["v1.0", "v1.2"])
def test_visual_genome_as_published(version: str, samples: Path) -> None:
    found = records("visual_genome", samples / "visual_genome" / version, "plain")
    assert len({each.image for each in found}) == 5
    assert found[0].image == "VG_100K/1.jpg"
    assert str(found[0].fact) == "<shade, on, street>"
    assert found[0].boxes == ((119, 338, 393, 530), (77, 328, 791, 590))
    assert {each.fact.order for each in found} == {1, 2, 3}


def test_the_words_of_vg150_as_published(samples: Path, tmp_path: Path) -> None:
    archives.write_vg150(tmp_path)
    shutil.copy(samples / "visual_genome" / "VG-SGG-dicts-with-attri.json", tmp_path)
    found = records("vg150", tmp_path, "csegg")
    assert [(each.fact.predicate, each.group) for each in found] == [
        ("on", "T1"),
        ("has", "T2"),
        ("has", "T2"),
        ("on", "T1"),
    ]


def test_vsr_as_published(samples: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "splits" / "random"
    shutil.copytree(samples / "vsr" / "splits" / "random", folder)
    (folder / "dev.jsonl").write_text("")
    found = records("vsr", tmp_path, "random")
    rows = [json.loads(line) for line in (folder / "test.jsonl").read_text().splitlines()]
    tested = [each for each in found if each.split == "test"]
    assert len(rows) == 50
    assert len(found) > 90
    for row, each in zip(rows, tested, strict=True):
        assert (each.image.split("/")[1], each.label) == (row["image"], row["label"] == 1)
        assert row["caption"].startswith(f"The {each.fact.subject} ")
        assert row["caption"].endswith(f" {each.fact.object}.")
        assert f" {each.fact.predicate} " in row["caption"]


def test_coco_as_published(samples: Path, tmp_path: Path) -> None:
    for part in ("train2017", "val2017"):
        (tmp_path / "annotations").mkdir(exist_ok=True)
        shutil.copy(samples / "coco" / "instances_val2017.json", tmp_path / "annotations" / f"instances_{part}.json")
    found = records("coco", tmp_path, None)
    content = json.loads((samples / "coco" / "instances_val2017.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    assert [each.fact.subject for each in found if each.split == "test"] == [
        names[each["category_id"]] for each in content["annotations"]
    ]


def test_open_images_as_quoted(samples: Path, tmp_path: Path) -> None:
    shutil.copytree(samples / "open_images_heads", tmp_path, dirs_exist_ok=True)
    for part in ("train", "test"):
        shutil.copy(tmp_path / "annotations-vrd.csv", tmp_path / f"oidv6-{part}-annotations-vrd.csv")
    names = tmp_path / "class-descriptions-boxable.csv"
    names.write_text("/m/04yx4,Man\n/m/019nj4,Smile\n")
    found = records("open_images", tmp_path)
    assert [str(each.fact) for each in found] == ["<man, smile>"] * 4
    assert found[0].boxes == ((0.049375, 0.08427, 0.560625, 0.999064),)
