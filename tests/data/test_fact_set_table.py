"""From records to a table: splits, regions, orders, merged people, rare facts, missing photos."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import fact_archives as archives
import numpy as np
import pytest
from PIL import Image

from tripletcl.data import Fact, FactSetSpec, FactTable, read_fact_set
from tripletcl.data.fact_sets import FACT_SETS, FactRecord
from tripletcl.data.fact_sets.files import PHOTO_SUFFIXES
from tripletcl.data.fact_sets.table import build_table
from tripletcl.data.images import Region, decode_image
from tripletcl.data.labels import NOT_SHOWN, SHOWN, UNKNOWN
from tripletcl.errors import UserError

RIDING = Fact("man", "riding", "horse")
LEFT, RIGHT = (0.0, 0.0, 10.0, 30.0), (25.0, 5.0, 47.5, 20.0)


def rows(table: FactTable) -> list[tuple[str, str, str]]:
    pairs = zip(table.rows.tolist(), table.splits.tolist(), strict=True)
    return [(table.images[image], str(table.facts[fact]), split) for (image, fact), split in pairs]


def build(records: Iterable[FactRecord], root: Path, photos: str = "abcd", **options: Any) -> FactTable:
    for name in photos:
        archives.draw(root / f"{name}.png")
    spec = FactSetSpec("drawn", str(root), **options)
    return build_table(records, spec)


def shown(image: str, fact: Fact = RIDING, split: str | None = "train", **values: Any) -> FactRecord:
    return FactRecord(f"{image}.png", fact, split, **values)


def labels(table: FactTable) -> list[tuple[str, str, int]]:
    named = zip(rows(table), table.row_labels.tolist(), strict=True)
    return [(image, fact, label) for (image, fact, _), label in named]


def test_repeats_and_labels(tmp_path: Path) -> None:
    """Of several labels of a photo the largest counts: one of two persons rides."""
    found = [shown("a"), shown("a"), shown("b", split="test"), shown("c", label=False), shown("d", label=None)]
    found += [shown("a", label=False), shown("c", label=None), shown("d", Fact("dog"), label=False)]
    assert labels(build(found, tmp_path)) == [
        ("a.png", str(RIDING), SHOWN),
        ("b.png", str(RIDING), SHOWN),
        ("c.png", str(RIDING), UNKNOWN),
        ("d.png", str(RIDING), UNKNOWN),
    ]


def test_what_is_not_shown_implies_nothing(tmp_path: Path) -> None:
    found = [shown("a"), shown("b", split="test"), shown("c", label=False)]
    assert labels(build(found, tmp_path, orders=(2, 3)))[-1] == ("c.png", str(RIDING), NOT_SHOWN)
    merged = build(found, tmp_path, people="merge")
    assert [image for image, *_ in labels(merged)] == ["a.png", "b.png"], "a woman may ride the horse"


def test_orders_and_people(tmp_path: Path) -> None:
    found = [shown("a"), shown("b", split="test"), shown("c", Fact("woman", "riding")), shown("c", Fact("dog"))]
    table = build(found, tmp_path, orders=(1, 2), people="merge", min_test=0)
    assert rows(table) == [
        ("a.png", "<person>", "train"),
        ("a.png", "<person, riding>", "train"),
        ("b.png", "<person>", "test"),
        ("b.png", "<person, riding>", "test"),
        ("c.png", "<person>", "train"),
        ("c.png", "<person, riding>", "train"),
        ("c.png", "<dog>", "train"),
    ]
    assert [str(fact) for fact in build(found, tmp_path, orders=(3,)).facts] == ["<man, riding, horse>"]


def test_rare_facts_are_left_out(tmp_path: Path) -> None:
    rare = Fact("dog")
    found = [shown("a"), shown("b"), shown("c", split="test"), shown("a", rare), shown("c", rare, "test")]
    assert build(found, tmp_path).facts == (RIDING, rare)
    assert build(found, tmp_path, min_train=2).facts == (RIDING,)
    with pytest.raises(UserError, match=r"none of the 2 facts of the set 'drawn' .* has 3 training and 1 test images"):
        build(found, tmp_path, min_train=3)
    with pytest.raises(UserError, match=r"it has test images only: `min_train: 0` keeps its facts"):
        build(found[2:3], tmp_path)
    assert len(build(found[2:3], tmp_path, min_train=0)) == 1


def test_missing_photos(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = [shown("a"), shown("b", split="test"), shown("e"), shown("f")]
    with pytest.raises(
        UserError, match=r"2 of 4 photos of the set 'drawn' are missing, the first .*e.png; `missing: drop`"
    ):
        build(found, tmp_path)
    assert len(build(found, tmp_path, missing="drop")) == 2
    assert "2 of 4 photos" in caplog.text
    with pytest.raises(UserError, match=r"2 of 2 photos of the set 'drawn' are missing, the first .*e.png"):
        build(found[2:], tmp_path, missing="drop")


def test_a_photo_of_both_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a.png is a training photo and a test photo of the set 'drawn'"):
        build([shown("a"), shown("a", Fact("dog"), "test")], tmp_path)


def test_a_set_without_a_split_is_split_by_photo_and_seed(tmp_path: Path) -> None:
    found = [shown(name, split=None) for name in "abcdefghijklmnopqrst"]
    all_photos = "abcdefghijklmnopqrst"
    first = rows(build(found, tmp_path, all_photos))
    assert 2 <= sum(split == "test" for *_, split in first) <= 10
    assert rows(build(found[:9], tmp_path, all_photos)) == first[:9]
    assert rows(build(found, tmp_path, all_photos, seed=1)) != first
    assert sum(split == "test" for *_, split in rows(build(found, tmp_path, all_photos, test_share=0.8))) > 10


def test_groups_are_in_their_order(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = [
        FactRecord(f"{image}.png", Fact(subject), split, group=group)
        for subject, group, photos in (
            ("cat", "B10", "ab"),
            ("dog", "B2", "ab"),
            ("ant", "B1", "ab"),
            ("ant", "B10", "cd"),
        )
        for image, split in zip(photos, ("train", "test"), strict=True)
    ]
    table = build(found, tmp_path)
    assert [(fact.subject, group) for fact, group in zip(table.facts, table.groups or (), strict=True)] == [
        ("ant", "B1"),
        ("dog", "B2"),
        ("cat", "B10"),
    ]
    assert "1 facts are in several tasks and stay in the first: <ant> is in B1 and B10" in caplog.text
    assert len(table) == 8


# ---- regions ---------------------------------------------------------------------------------------------------------


def picture(path: Path, orientation: int | None = None) -> Path:
    """A photo of 40 x 30 whose red grows to the right and whose green grows downwards, without loss."""
    across, down = np.meshgrid(np.arange(40), np.arange(30))
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    pixels = np.stack([across * 6, down * 8, across * 0], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def regions(root: Path, *records: FactRecord, **options: Any) -> FactTable:
    return build(records, root, "", region="union", min_test=0, **options)


def test_a_region_is_the_union_of_both_boxes_within_the_photo(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    table = regions(
        tmp_path, shown("a", boxes=(LEFT, RIGHT)), shown("a", Fact("man", "on", "horse"), boxes=(LEFT, RIGHT))
    )
    assert table.root == tmp_path
    assert table.photos == (Region(tmp_path / "a.png", (0, 0, 40, 30)),), "equal boxes of a photo are one image"
    table = regions(tmp_path, shown("a", boxes=(LEFT, RIGHT)), orders=(1,))
    assert table.boxes == ((0, 0, 10, 30),), "the region of a fact of one unit is the subject's box"
    assert build([shown("a", boxes=(LEFT, RIGHT))], tmp_path, "", min_test=0).boxes is None


def test_a_region_is_cut_out_before_the_photo_is_rotated(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", orientation=6)
    (image,) = regions(tmp_path, shown("a", boxes=((20, 10, 40, 14),))).photos
    pixels = decode_image(image, 4)  # upright, it is 4 pixels wide and 20 high
    assert (np.diff(pixels[0].astype(int), axis=0) == 6).all(), "what is right in the stored pixels is below"
    assert (np.diff(pixels[1].astype(int), axis=1) == -8).all(), "what is below in the stored pixels is left"


def test_a_region_in_measures_of_another_image_is_scaled(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    table = regions(tmp_path, shown("a", boxes=((0.5, 0.0, 0.75, 0.5),), extent=(1, 1)))
    assert table.boxes == ((20, 0, 30, 15),)


def test_regions_outside_their_photo_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    picture(tmp_path / "a.png")
    outside = (50.0, 5.0, 60.0, 20.0)
    table = regions(
        tmp_path, shown("a", boxes=(LEFT,)), shown("a", Fact("dog"), boxes=(outside,)), shown("a", Fact("cat"))
    )
    assert table.facts == (RIDING,)
    assert "1 boxes are outside their photos and left out, the first (50.0, 5.0, 60.0, 20.0) of a.png" in caplog.text
    assert "1 facts without a box" in caplog.text


def test_the_photo_of_a_region_has_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no photo")
    with pytest.raises(UserError, match=r"a.png: not an image"):
        regions(tmp_path, shown("a", boxes=(LEFT,)))


# ---- sets by their names ---------------------------------------------------------------------------------------------


def test_a_set_that_is_unknown_or_missing(tmp_path: Path) -> None:
    def read(kind: str, root: Path, **options: Any) -> FactTable:
        return read_fact_set(FactSetSpec(kind, str(root), **options))

    with pytest.raises(UserError, match=r"no fact set 'vrt'; did you mean 'vsr' or 'vrd'\? allowed are lfl, vrd"):
        read("vrt", tmp_path)
    with pytest.raises(UserError, match=r"'vrd' is missing: .*nowhere is not a folder; it is published at https"):
        read("vrd", tmp_path / "nowhere")
    archives.write_lfl(tmp_path)
    with pytest.raises(UserError, match=r"which holds mid_scale/, lacks annotations_train.json; .*must contain"):
        read("vrd", tmp_path)
    with pytest.raises(UserError, match=r"'vrd' has no variant 'random'; it has none"):
        read("vrd", tmp_path, variant="random")
    with pytest.raises(UserError, match=r"lacks one folder splits/Ntasks_semantic"):
        read("lfl", tmp_path, variant="semantic")
    assert read("lfl", tmp_path).groups == ("B1", "B1", "B2", "B2")


WRITERS: dict[str, Callable[[Path], Path]] = {
    "lfl": archives.write_lfl,
    "vrd": archives.write_vrd,
    "unrel": archives.write_unrel,
    "vcoco": archives.write_vcoco,
    "hico": archives.write_hico,
    "hico_det": archives.write_hico_det,
    "coco": archives.write_coco,
    "visual_genome": lambda root: archives.write_visual_genome(root, "1.4"),
    "vg150": archives.write_vg150,
    "psg": archives.write_psg,
    "gqa": archives.write_gqa,
    "open_images": archives.write_open_images,
    "swig": archives.write_swig,
    "stanford40": archives.write_stanford40,
    "voc_actions": archives.write_voc_actions,
    "vsr": archives.write_vsr,
    "svo_probes": archives.write_svo_probes,
}
NEGATIVE_PHOTOS, NEGATIVE_REGIONS = ("hico", "vsr", "svo_probes"), ("vcoco",)
WITHOUT_BOXES = ("lfl", "hico", "vsr", "svo_probes")


@pytest.mark.parametrize("kind", FACT_SETS)
def test_every_set_becomes_a_table(kind: str, tmp_path: Path) -> None:
    WRITERS[kind](tmp_path / "set")
    fewest = {"min_train": 0, "min_test": 0}
    table = read_fact_set(FactSetSpec(kind, str(tmp_path / "set"), **fewest))
    assert len(table) >= 2
    assert all(path.is_file() for path in table.paths)
    assert (table.labels is not None) == (kind in NEGATIVE_PHOTOS)
    spec = FactSetSpec(kind, str(tmp_path / "set"), region="union", **fewest)
    if kind in WITHOUT_BOXES:
        with pytest.raises(UserError, match=rf"the set '{kind}' .* has no boxes, which `region: union` needs"):
            read_fact_set(spec)
        return
    regions = read_fact_set(spec)
    assert all(path.is_file() for path in regions.paths)
    assert regions.boxes is not None
    assert all(regions.boxes)
    assert (regions.labels is not None) == (kind in NEGATIVE_REGIONS)
    assert set(regions.facts) <= set(table.facts)


@pytest.mark.parametrize("kind", FACT_SETS)
def test_a_set_of_which_a_file_is_missing(kind: str, tmp_path: Path) -> None:
    """Each file but photos, one at a time: the set is read without it, or one sentence says what the root needs."""
    root = WRITERS[kind](tmp_path / "set")
    spec = FactSetSpec(kind, str(root), min_train=0, min_test=0)
    refused = 0
    for path in [path for path in root.rglob("*") if path.is_file() and path.suffix not in PHOTO_SUFFIXES]:
        content = path.read_bytes()
        path.unlink()
        refused += outcome(spec, kind)
        path.write_bytes(content[: len(content) // 2])
        outcome(spec, kind)
        path.write_bytes(content)
    assert refused


def outcome(spec: FactSetSpec, kind: str) -> bool:
    """True if a set is refused as missing; other refusals are one line; any other error is passed on."""
    try:
        read_fact_set(spec)
    except UserError as error:
        sentence = str(error)
    else:
        return False
    assert "\n" not in sentence
    return FACT_SETS[kind].address in sentence


FORMS = {kind: (kind, writer) for kind, writer in WRITERS.items()} | {
    "vcoco converted": ("vcoco", archives.write_vcoco_converted),
    "hico_det json": ("hico_det", archives.write_hico_det_json),
    "hico_det ppdm": ("hico_det", archives.write_hico_det_ppdm),
}


def with_nothing(value: Any) -> Iterator[Any]:
    """The value with each of its parts, in turn, replaced by null; of a list only the first part."""
    yield None
    for key in (
        (value if isinstance(value, dict) else range(min(1, len(value)))) if isinstance(value, dict | list) else ()
    ):
        for changed in with_nothing(value[key]):
            copy = value.copy()
            copy[key] = changed
            yield copy


@pytest.mark.parametrize("form", FORMS)
def test_any_part_of_a_json_file_that_is_null_is_read_or_refused_in_a_sentence(form: str, tmp_path: Path) -> None:
    kind, writer = FORMS[form]
    root = writer(tmp_path / "set")
    region = "whole" if kind in WITHOUT_BOXES else "union"
    spec = FactSetSpec(kind, str(root), region=region, min_train=0, min_test=0)  # type: ignore[arg-type]
    for path in root.rglob("*.json"):
        text = path.read_text()
        for changed in with_nothing(json.loads(text)):
            path.write_text(json.dumps(changed))
            outcome(spec, kind)
        path.write_text(text)
