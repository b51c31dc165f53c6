"""The object set, folders of one's own, and the messages for damaged sets."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from tripletcl.cli.app import app
from tripletcl.data import ObjectSet, read_object_set
from tripletcl.data.sets import OBJECT_SETS
from tripletcl.data.sets.object_set import RawSet, build_set
from tripletcl.errors import UserError

CLASSES = ("ant", "bee", "cat")


def drawn_set(labels: list[int], train: int, classes: tuple[str, ...] = CLASSES) -> ObjectSet:
    pixels = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)
    return ObjectSet("drawn", classes, pixels, np.array(labels, dtype=np.int64), train)


def draw(path: Path) -> Path:
    """Draw an image that no other path has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.frombytes("RGB", (6, 6), hashlib.shake_128(str(path).encode()).digest(108)).save(path)
    return path


def folder_of(root: Path, train: dict[str, int], test: dict[str, int]) -> Path:
    for split, counts in {"train": train, "test": test}.items():
        for label, count in counts.items():
            (root / split / label).mkdir(parents=True, exist_ok=True)
            for number in range(count):
                draw(root / split / label / f"{number}.jpg")
    return root


def read_folder(root: Path) -> ObjectSet:
    return read_object_set("folder", root, scratch=root / "scratch")


def test_items_of_classes() -> None:
    some = drawn_set([0, 2, 1, 0, 1, 2, 2, 0, 1], train=6)
    assert len(some) == 9
    train, test = some.class_items(["cat", "ant"])
    assert train.tolist() == [0, 1, 3, 5]
    assert test.tolist() == [6, 7]


def raw_set() -> RawSet:
    pixels = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 2, 2), np.uint8)
    return RawSet(CLASSES, (pixels[:6], [0, 2, 1, 0, 1, 2]), (pixels[6:], [2, 0, 1]))


def test_a_raw_set_is_put_together() -> None:
    whole = build_set("drawn", raw_set())
    assert (whole.name, whole.classes, whole.train) == ("drawn", CLASSES, 6)
    assert whole.labels.tolist() == [0, 2, 1, 0, 1, 2, 2, 0, 1]
    assert whole.images[:, 0, 0, 0].tolist() == list(range(9))


def test_some_classes_in_another_order() -> None:
    part = build_set("drawn", raw_set(), classes=["cat", "ant"])
    assert part.classes == ("cat", "ant")
    assert part.images[:, 0, 0, 0].tolist() == [0, 1, 3, 5, 6, 7]  # which images they are
    assert part.labels.tolist() == [1, 0, 1, 0, 0, 1]
    assert part.train == 4


def test_some_classes_of_a_folder(tmp_path: Path) -> None:
    root = folder_of(tmp_path, {"a": 2, "b": 3, "c": 2}, {"a": 1, "b": 2, "c": 1, "odd": 1})
    part = read_object_set("folder", root, classes=["c", "b"], scratch=tmp_path)  # the odd one is not selected
    for image, label in zip(part.images, part.labels, strict=True):
        assert Path(image).parent.name == part.classes[label]
    assert (part.classes, len(part), part.train) == (("c", "b"), 8, 5)


def test_incomplete_classes_can_be_dropped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = folder_of(tmp_path / "own", {"a": 2, "b": 1, "c": 2, "d": 2}, {"a": 1, "b": 2, "c": 2, "e": 1})
    with caplog.at_level(logging.WARNING, "tripletcl"):
        part = read_object_set("folder", root, incomplete="drop", scratch=tmp_path)
    assert part.classes == ("a", "c")
    assert [Path(image).parent.name for image in part.images] == ["a", "a", "c", "c", "a", "c", "c"]
    assert part.labels.tolist() == [0, 0, 1, 1, 0, 1, 1]
    assert "the set 'own' is used without 'b', 'd', 'e'" in caplog.text
    caplog.clear()
    read_object_set("folder", root, incomplete="drop", classes=["c", "a"], scratch=tmp_path)
    assert not caplog.text


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["bea"], r"the set 'drawn' has no class 'bea'; did you mean 'bee'\?"),
        (["ant", "elephant"], "has no class 'elephant'; it has 'ant', 'bee', 'cat'"),
        (["ant", "ant"], "the class 'ant' of the set 'drawn' is named twice"),
        ([], "the set 'drawn' has no classes"),
    ],
)
def test_unknown_classes(names: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build_set("drawn", raw_set(), classes=names)


@pytest.mark.parametrize(
    ("labels", "train", "classes", "sentence"),
    [
        ([0, 0, 1, 1, 0, 1], 4, CLASSES, "^the set 'drawn' has no training image of 'cat'; a class needs at least two"),
        ([0, 0, 1, 0, 1], 3, ("ant", "bee"), "^the set 'drawn' has only one training image of 'bee';"),
        ([0, 0, 1, 1, 0], 4, ("ant", "bee"), "^the set 'drawn' has no test image of 'bee'; .*one test image"),
        ([0, 0, 3, 1, 1, 0], 4, CLASSES, "image 2 of the set 'drawn' has label 3, allowed is 0 to 2"),
        ([0, -1], 1, CLASSES, "image 1 of the set 'drawn' has label -1"),
        ([0, 0], 3, ("ant",), "has 2 images, of which 3 cannot be for training"),
        ([], 0, (), "the set 'drawn' has no classes"),
        ([0, 0, 0], 2, ("ant", "ant"), "has the class 'ant' twice"),
    ],
)
def test_sets_that_cannot_be_learned(labels: list[int], train: int, classes: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        drawn_set(labels, train, classes)


def test_sizes_that_do_not_agree() -> None:
    pixels = np.zeros((3, 1, 2, 2), np.uint8)
    labels = np.zeros(3, np.int64)
    with pytest.raises(UserError, match="the set 'x' has 3 images, but 2 labels"):
        ObjectSet("x", ("a",), pixels, labels[:2], 1)
    with pytest.raises(UserError, match=r"pixels of the set 'x' are float32 \[3, 1, 2, 2\], allowed is uint8"):
        ObjectSet("x", ("a",), pixels.astype(np.float32), labels, 2)
    with pytest.raises(UserError, match=r"are uint8 \[3, 2, 2\]"):
        ObjectSet("x", ("a",), pixels[:, 0], labels, 2)
    with pytest.raises(UserError, match="not one whole number for each image"):
        ObjectSet("x", ("a",), pixels, labels.astype(float), 2)
    with pytest.raises(UserError, match=r"images of two shapes, \[1, 2, 2\] for training and \[3, 2, 2\] for testing"):
        build_set("x", RawSet(("a",), (pixels, labels), (pixels.repeat(3, axis=1), labels)))
    with pytest.raises(UserError, match="has 3 training images, but 2 labels of them"):
        build_set("x", RawSet(("a",), (pixels, labels[:2]), (pixels, [0, 0, 0, 0])))


def test_folder(tmp_path: Path) -> None:
    root = folder_of(tmp_path / "pets", {"dog": 3, "cat": 2}, {"dog": 1, "cat": 2})
    draw(root / "train" / "cat" / "more" / "deep.PNG")
    draw(root / "train" / "cat" / ".hidden.jpg")
    draw(root / "train" / "cat" / ".cache" / "0.jpg")
    draw(root / "train" / ".hidden" / "0.jpg")
    (root / "train" / "cat" / "notes.txt").write_text("no image")
    pets = read_folder(root)
    assert pets.name == "pets"
    assert pets.classes == ("cat", "dog")
    expected = ["cat/0.jpg", "cat/1.jpg", "cat/more/deep.PNG", "dog/0.jpg", "dog/1.jpg", "dog/2.jpg"]
    assert pets.images == [
        *(root / "train" / file for file in expected),
        *(root / "test" / file for file in ["cat/0.jpg", "cat/1.jpg", "dog/0.jpg"]),
    ]
    assert pets.labels.tolist() == [0, 0, 0, 1, 1, 1, 0, 0, 1]
    assert pets.train == 6
    assert read_object_set("folder", root, name="mine", scratch=tmp_path).name == "mine"


def test_a_folder_says_what_it_leaves_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = folder_of(tmp_path / "pets", {"cat": 3}, {"cat": 1})
    draw(root / "elsewhere" / "deep" / "0.jpg")
    (root / "train" / "dog").mkdir()
    (root / "train" / "dog" / "linked").symlink_to(root / "elsewhere")
    draw(root / "train" / "dog" / "1.jfif.png").rename(root / "train" / "dog" / "1.jfif")
    draw(root / "train" / "__MACOSX" / "._0.jpg")
    draw(root / "train" / "dog" / "__MACOSX" / "._1.jpg")
    draw(root / "train" / "stray.png")
    (root / "train" / "cat" / "a.psd").write_bytes(b"photo")
    (root / "train" / "cat" / "._0.jpg").write_bytes(b"metadata")
    draw(root / "test" / "dog" / "new.png")
    (root / "test" / "dog" / "copy.jpg").write_bytes((root / "train" / "cat" / "1.jpg").read_bytes())
    pets = read_folder(root)
    assert pets.classes == ("cat", "dog")
    assert [image.name for image in pets.images[: pets.train]] == ["0.jpg", "1.jpg", "2.jpg", "1.jfif", "0.jpg"]
    assert caplog.messages == [
        f"{root}: 4 files are left out: 1 .psd (not supported: save them as JPEG), 1 hidden, 1 in no folder of a "
        "class, 1 test photos that are training photos, too"
    ]


@pytest.mark.parametrize(
    ("train", "test", "sentence"),
    [
        ({"a": 2}, {}, "the set 'folder' in .* lacks .*test; the folder must contain train/CLASS/"),
        ({}, {"a": 2}, "lacks .*train; the folder must contain"),
        ({"a": 2, "b": 2, "c": 2}, {"a": 1, "d": 1}, "the set 'own' has no training image of 'd'; a class needs"),
        ({"a": 2, "b": 2, "c": 2}, {"a": 1}, "the set 'own' has no test image of 'b', 'c'; a class needs"),
        ({f"c{i:02d}": 2 for i in range(20)}, {"c19": 1}, "no test image of 'c00', .*'c07' and 11 more; a class"),
        ({"a": 2, "b": 1}, {"a": 1, "b": 1}, "the set 'own' has only one training image of 'b'"),
        ({"a": 2, "b": 0}, {"a": 1, "b": 1}, "the set 'own' has no training image of 'b'"),
        ({"a": 2, "b": 2}, {"a": 1, "b": 0}, "the set 'own' has no test image of 'b'"),
    ],
)
def test_bad_folders(train: dict[str, int], test: dict[str, int], sentence: str, tmp_path: Path) -> None:
    root = folder_of(tmp_path / "own", train, test)
    root.mkdir(exist_ok=True)
    with pytest.raises(UserError, match=sentence):
        read_folder(root)


def test_folder_without_classes(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test").mkdir()
    with pytest.raises(UserError, match="has no classes"):
        read_folder(tmp_path)
    (tmp_path / "test").rmdir()
    (tmp_path / "test").write_text("")
    with pytest.raises(UserError, match="test is a file, where a folder"):
        read_folder(tmp_path)


@pytest.mark.parametrize("kind", OBJECT_SETS)
def test_a_root_that_is_missing(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_object_set(kind, tmp_path / "nothing", scratch=tmp_path)
    message = str(caught.value)
    source = OBJECT_SETS[kind]
    assert message.startswith(f"the set {kind!r} is missing: {tmp_path / 'nothing'} is not a folder")
    assert source.layout in message
    assert kind == "folder" or source.address in message
    assert ("download: true" in message) == (source.download is not None)


@pytest.mark.parametrize("kind", [kind for kind in OBJECT_SETS if kind != "folder"])
def test_an_empty_root(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^the set '{kind}' in .* lacks .*; it is published at http"):
        read_object_set(kind, tmp_path, scratch=tmp_path)


@pytest.mark.parametrize("kind", ["indoor67", "cub200", "stanford_cars", "chars74k"])
def test_sets_that_nobody_serves_in_one_piece(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="it cannot be downloaded by this program: it is published at"):
        read_object_set(kind, tmp_path, download=True, scratch=tmp_path)


def test_packed_archives_are_named(tmp_path: Path) -> None:
    (tmp_path / "102flowers.tgz").write_bytes(b"")
    with pytest.raises(UserError, match=r"lacks setid.mat; unpack 102flowers.tgz there"):
        read_object_set("flowers102", tmp_path, scratch=tmp_path)


def test_unknown_kinds(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"no kind of set 'flower'; did you mean 'flowers102'.* allowed are folder, flo"
    ):
        read_object_set("flower", tmp_path, scratch=tmp_path)


def test_the_command_lists_every_set() -> None:
    printed = CliRunner().invoke(app, ["data", "sets"])
    assert printed.exit_code == 0
    for kind, source in OBJECT_SETS.items():
        assert f"{kind}: {source.what}" in printed.output
        assert source.layout in printed.output
    everything = json.loads(CliRunner().invoke(app, ["data", "sets", "--json"]).output)
    listed = [entry for entry in everything if entry["learns"] == "objects"]
    assert [entry["set"] for entry in listed] == list(OBJECT_SETS)
    assert [entry["download"] for entry in listed] == [source.download is not None for source in OBJECT_SETS.values()]


@pytest.mark.parametrize(
    ("name", "classes", "train", "test"),
    [("flowers", 89, 3015, 1386), ("scenes", 15, 1500, 1496), ("letters", 36, 1512, 614)],
)
def test_real_folders_without_the_test_photos_that_are_training_photos_too(
    name: str, classes: int, train: int, test: int, data_root: Path, tmp_path: Path
) -> None:
    result = read_object_set("folder", data_root / "objects" / name, incomplete="drop", scratch=tmp_path)
    assert result.name == name
    assert (len(result.classes), result.train, len(result)) == (classes, train, train + test)


def test_a_real_folder_with_a_class_that_cannot_be_learned(data_root: Path, tmp_path: Path) -> None:
    """The flowers have one class of a single test photograph."""
    with pytest.raises(UserError, match=r"the set 'flowers' has no training image of '001'; .*`incomplete: drop`"):
        read_object_set("folder", data_root / "objects" / "flowers", scratch=tmp_path)


def test_real_digits(data_root: Path, tmp_path: Path) -> None:
    mnist = read_object_set("mnist", data_root / "mnist", scratch=tmp_path)
    assert (mnist.train, len(mnist)) == (60_000, 70_000)
    assert isinstance(mnist.images, np.ndarray)
    assert mnist.images.shape == (70_000, 1, 28, 28)
    assert mnist.classes == tuple("0123456789")
    assert mnist.labels[:5].tolist() == [5, 0, 4, 1, 9]
    ones, zeros = (mnist.images[mnist.labels == digit][:, 0, 10:18, 12:16].mean() for digit in (1, 0))
    assert ones > 2 * zeros  # a one has ink in its middle, a zero has none
