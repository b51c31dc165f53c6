"""Published sets, drawn small in exactly their published form."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from tripletcl.data import ObjectSet, read_object_set
from tripletcl.data.sets import OBJECT_SETS
from tripletcl.data.sets.voc_actions import ACTIONS
from tripletcl.errors import UserError


def draw(path: Path, colour: tuple[int, int, int] = (9, 9, 9), size: tuple[int, int] = (8, 6)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def read(kind: str, root: Path, **options: Any) -> ObjectSet:
    return read_object_set(kind, root, scratch=root.parent / "scratch", **options)


def by_file(result: ObjectSet, train: bool) -> dict[str, str]:
    """The class of each file of a split, in order."""
    items = range(result.train) if train else range(result.train, len(result))
    return {Path(result.images[i]).name: result.classes[result.labels[i]] for i in items}


# ---- flowers102 ------------------------------------------------------------------------------------------------------

FLOWER_LABELS = [1, 1, 102, 77, 102, 1, 77, 102, 77, 1]
"""The labels of images 1 to 10."""


def draw_flowers(root: Path) -> Path:
    for number in range(1, 11):
        draw(root / "jpg" / f"image_{number:05d}.jpg")
    savemat(root / "imagelabels.mat", {"labels": np.array([FLOWER_LABELS], np.uint8)})
    splits = {"trnid": [2, 3, 4], "valid": [5, 6, 7], "tstid": [1, 10, 8, 9]}
    savemat(root / "setid.mat", {name: np.array([ids], np.uint16) for name, ids in splits.items()})
    return root


named = pytest.mark.skipif(not hasattr(datasets.Flowers102, "classes"), reason="torchvision has no names before 0.22")


@named
@pytest.mark.parametrize("below", ["", "flowers-102"])
def test_flowers102(below: str, tmp_path: Path) -> None:
    draw_flowers(tmp_path / "flowers" / below)
    result = read("flowers102", tmp_path / "flowers")
    assert result.classes == ("pink primrose", "passion flower", "blackberry lily")
    assert by_file(result, train=True) == {
        "image_00002.jpg": "pink primrose",
        "image_00003.jpg": "blackberry lily",
        "image_00004.jpg": "passion flower",
        "image_00005.jpg": "blackberry lily",
        "image_00006.jpg": "pink primrose",
        "image_00007.jpg": "passion flower",
    }
    assert list(by_file(result, train=False)) == [f"image_{n:05d}.jpg" for n in (1, 10, 8, 9)]
    assert by_file(result, train=False)["image_00010.jpg"] == "pink primrose"


def test_flowers102_without_the_names_of_its_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(datasets.Flowers102, "classes", raising=False)
    draw_flowers(tmp_path / "flowers")
    with pytest.raises(UserError, match=r"torchvision names the classes of flowers102 since 0\.22"):
        read("flowers102", tmp_path / "flowers")


@named
def test_flowers102_that_are_broken(tmp_path: Path) -> None:
    root = draw_flowers(tmp_path / "flowers")
    (root / "jpg" / "image_00003.jpg").unlink()
    with pytest.raises(UserError, match=r"lacks 1 of its 6 images, the first .*image_00003.jpg; it is published at"):
        read("flowers102", root)
    savemat(root / "imagelabels.mat", {"labels": np.array([FLOWER_LABELS[:8]], np.uint8)})
    with pytest.raises(UserError, match=r"setid.mat numbers an image 10, but there are labels of 8"):
        read("flowers102", root)
    savemat(root / "imagelabels.mat", {"others": np.array([1])})
    with pytest.raises(UserError, match=r"imagelabels.mat lacks the variable 'labels'; it has 'others'"):
        read("flowers102", root)
    savemat(root / "imagelabels.mat", {"labels": np.array(["rose", "tulip"], object)})
    with pytest.raises(UserError, match=r"imagelabels.mat has something else where whole numbers belong"):
        read("flowers102", root)


@pytest.mark.parametrize("keep", [0, 50, 150, 0.5, 0.9])
def test_mat_files_cut_short(keep: float, tmp_path: Path) -> None:
    root = draw_flowers(tmp_path / "flowers")
    path = root / "setid.mat"
    cut_short(path, keep)
    with pytest.raises(UserError, match=r"setid.mat (is not a readable MATLAB file, or cut short|lacks the variable)"):
        read("flowers102", root)


def cut_short(path: Path, keep: float) -> None:
    """Keep the first bytes, or that share of them."""
    raw = path.read_bytes()
    path.write_bytes(raw[: int(keep if keep >= 1 else keep * len(raw))])


# ---- stanford_cars ---------------------------------------------------------------------------------------------------

CARS = ("AM General Hummer SUV 2000", "Acura RL Sedan 2012")


def annotations(classes: list[int] | None, count: int) -> dict[str, np.ndarray]:
    kinds = [(side, object) for side in ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")]
    kinds += [("class", object)] * (classes is not None) + [("fname", object)]
    structs = np.zeros((1, count), dtype=kinds)
    for i in range(count):
        boxes = tuple(np.array([[edge]], np.uint8) for edge in (1, 1, 7, 5))
        labels = () if classes is None else (np.array([[classes[i]]], np.uint8),)
        structs[0, i] = (*boxes, *labels, f"{i + 1:05d}.jpg")
    return {"annotations": structs}


def draw_cars(root: Path) -> Path:
    for split, count in {"cars_train": 5, "cars_test": 3}.items():
        for number in range(1, count + 1):
            draw(root / split / f"{number:05d}.jpg")
    (root / "devkit").mkdir()
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": np.array([CARS], object)})
    savemat(root / "devkit" / "cars_train_annos.mat", annotations([2, 1, 2, 1, 2], 5))
    savemat(root / "devkit" / "cars_test_annos.mat", annotations(None, 3))
    savemat(root / "cars_test_annos_withlabels.mat", annotations([1, 2, 2], 3))
    return root


@pytest.mark.parametrize("below", ["", "stanford_cars"])
def test_stanford_cars(below: str, tmp_path: Path) -> None:
    draw_cars(tmp_path / "cars" / below)
    result = read("stanford_cars", tmp_path / "cars")
    assert result.classes == CARS
    assert list(by_file(result, train=True).items())[:2] == [("00001.jpg", CARS[1]), ("00002.jpg", CARS[0])]
    assert result.labels.tolist() == [1, 0, 1, 0, 1, 0, 1, 1]
    assert Path(result.images[0]).parent.name == "cars_train"
    assert Path(result.images[5]).parent.name == "cars_test"


def test_stanford_cars_with_test_labels_in_the_devkit_or_nowhere(tmp_path: Path) -> None:
    root = draw_cars(tmp_path / "cars")
    labels = root / "cars_test_annos_withlabels.mat"
    shutil.move(labels, root / "devkit" / labels.name)
    assert len(read("stanford_cars", root)) == 8
    (root / "devkit" / labels.name).unlink()
    with pytest.raises(UserError, match=r"lacks cars_test_annos_withlabels.mat; it is published at"):
        read("stanford_cars", root)
    shutil.copy(root / "devkit" / "cars_test_annos.mat", labels)
    with pytest.raises(UserError, match=r"withlabels.mat lacks the field 'class'; it has bbox_x1, .*, fname"):
        read("stanford_cars", root)


# ---- fgvc_aircraft ---------------------------------------------------------------------------------------------------


def draw_aircraft(root: Path) -> Path:
    data = root / "data"
    for number in range(8):
        draw(data / "images" / f"{number:07d}.jpg")
    (data / "variants.txt").write_text("707-320\nBAE 146-200\n")
    lists = {"trainval": ["BAE 146-200", "707-320", "BAE 146-200", "707-320"], "test": ["707-320", "BAE 146-200"]}
    number = 0
    for split, variants in lists.items():
        lines = [f"{number + i:07d} {variant}\n" for i, variant in enumerate(variants)]
        (data / f"images_variant_{split}.txt").write_text("".join(lines))
        number += len(variants)
    return root


@pytest.mark.parametrize("below", ["", "fgvc-aircraft-2013b"])
def test_fgvc_aircraft(below: str, tmp_path: Path) -> None:
    draw_aircraft(tmp_path / "aircraft" / below)
    result = read("fgvc_aircraft", tmp_path / "aircraft")
    assert result.classes == ("707-320", "BAE 146-200")
    assert by_file(result, train=True) == {
        "0000000.jpg": "BAE 146-200",
        "0000001.jpg": "707-320",
        "0000002.jpg": "BAE 146-200",
        "0000003.jpg": "707-320",
    }
    assert by_file(result, train=False) == {"0000004.jpg": "707-320", "0000005.jpg": "BAE 146-200"}


def test_fgvc_aircraft_that_is_broken(tmp_path: Path) -> None:
    root = draw_aircraft(tmp_path / "aircraft")
    path = root / "data" / "images_variant_test.txt"
    path.write_text("0000004 707-320\n0000005 Concorde\n")
    with pytest.raises(UserError, match=r"test.txt names the variant 'Concorde', which variants.txt does not have"):
        read("fgvc_aircraft", root)
    path.write_text("0000004 707-320\n0000005\n")
    with pytest.raises(UserError, match=r"test.txt entry 2 is '0000005', which does not have the form 'name name'"):
        read("fgvc_aircraft", root)
    path.write_bytes(b"\xff\xfe\x80")
    with pytest.raises(UserError, match=r"test.txt is not a readable text file"):
        read("fgvc_aircraft", root)
    path.unlink()
    with pytest.raises(UserError, match=r"lacks .*images_variant_test.txt; it is published at"):
        read("fgvc_aircraft", root)


# ---- svhn ------------------------------------------------------------------------------------------------------------


def draw_svhn(root: Path) -> Path:
    root.mkdir(exist_ok=True)
    for split, times in {"train": 2, "test": 1}.items():
        labels = np.tile(np.arange(1, 11), times)  # 10 stands for the digit 0
        pixels = np.random.default_rng(times).integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
        savemat(root / f"{split}_32x32.mat", {"X": pixels, "y": labels[:, None].astype(np.uint8)})
    return root


def publish_svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the files below root those whose MD5 torchvision knows."""
    splits = {split: ["", f"{split}_32x32.mat", md5(root / f"{split}_32x32.mat")] for split in ("train", "test")}
    monkeypatch.setattr(datasets.SVHN, "split_list", splits)


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_svhn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_svhn(draw_svhn(tmp_path / "svhn"), monkeypatch)
    result = read("svhn", tmp_path / "svhn")
    assert result.classes == tuple("0123456789")
    assert result.labels.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0] * 3
    assert result.train == 20
    assert isinstance(result.images, np.ndarray)
    published = np.random.default_rng(2).integers(0, 256, (32, 32, 3, 20), dtype=np.uint8)
    for row, column, channel, image in [(0, 31, 0, 3), (17, 5, 2, 19), (31, 0, 1, 0)]:
        assert result.images[image, channel, row, column] == published[row, column, channel, image]


def test_svhn_that_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = draw_svhn(tmp_path / "svhn")
    publish_svhn(root, monkeypatch)
    cut_short(root / "test_32x32.mat", 0.7)
    with pytest.raises(UserError, match=r"test_32x32.mat is not the published file, or cut short"):
        read("svhn", root)
    (root / "test_32x32.mat").unlink()
    with pytest.raises(UserError, match=r"lacks .*test_32x32.mat; it is published at"):
        read("svhn", root)


# ---- voc_actions -----------------------------------------------------------------------------------------------------

Person = tuple[tuple[int, int, int, int] | None, list[str] | None]
"""Box (xmin, ymin, xmax, ymax), and what the person does; None: not annotated."""


def annotation(people: list[Person]) -> str:
    objects = []
    for box, actions in people:
        marks = ""
        if actions is not None:
            marks = "".join(f"<{action}>{int(action in actions)}</{action}>" for action in sorted(ACTIONS))
            marks = f"<actions>{marks}</actions>"
        sides = zip(("xmin", "ymin", "xmax", "ymax"), box or (), strict=False)
        edges = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
        bounds = f"<bndbox>{edges}</bndbox>" if box else ""
        objects.append(f"<object><name>person</name>{marks}{bounds}<difficult>0</difficult></object>")
    return f"<annotation><folder>VOC2012</folder>{''.join(objects)}</annotation>"


def photograph(base: Path, name: str, people: list[Person]) -> None:
    """A photograph 24 x 16, the colour of each pixel its place."""
    place = np.stack(np.broadcast_arrays(np.arange(24) * 10, np.arange(16)[:, None] * 10, 128), axis=2)
    (base / "JPEGImages").mkdir(parents=True, exist_ok=True)
    Image.fromarray(place.astype(np.uint8)).save(base / "JPEGImages" / f"{name}.jpg", quality=100, subsampling=0)
    (base / "Annotations").mkdir(exist_ok=True)
    (base / "Annotations" / f"{name}.xml").write_text(annotation(people))


def draw_actions(base: Path) -> Path:
    """Every action twice for training and once for testing, and two photographs with more than that."""
    plain = [((1, 1, 8, 8), [action]) for action in ACTIONS]
    for name in ("2010_1", "2010_2", "2011_1"):
        photograph(base, name, plain)
    odd: list[Person] = [
        ((3, 5, 10, 12), ["walking", "phoning"]),  # the first of the published order
        ((1, 1, 8, 8), []),  # none of them, not even "other"
        (None, ["reading"]),  # a point only, no box
        ((2, 2, 9, 9), None),  # nothing is said of the actions
        ((20, 10, 24, 16), ["other"]),
    ]
    photograph(base, "2010_3", odd)
    sets = base / "ImageSets" / "Action"
    sets.mkdir(parents=True)
    (sets / "train.txt").write_text("2010_1\n2010_2\n2010_3\n")
    (sets / "val.txt").write_text("2011_1\n")
    return base


@pytest.mark.parametrize("below", ["", "VOC2012", "VOCdevkit/VOC2012"])
def test_voc_actions(below: str, tmp_path: Path) -> None:
    draw_actions(tmp_path / "voc" / below)
    result = read("voc_actions", tmp_path / "voc")
    assert result.classes == ACTIONS
    assert (result.train, len(result)) == (24, 35)
    assert result.labels.tolist() == [*range(11), *range(11), ACTIONS.index("phoning"), 10, *range(11)]
    crop = np.asarray(Image.open(result.images[22])).astype(int)  # the box (3, 5) to (10, 12), both within
    assert crop.shape == (8, 8, 3)
    assert np.abs(crop[:, :, 0] - np.arange(2, 10) * 10).max() < 8
    assert np.abs(crop[:, :, 1] - np.arange(4, 12)[:, None] * 10).max() < 8
    assert Image.open(result.images[23]).size == (5, 7)


def test_crops_are_written_once(tmp_path: Path) -> None:
    root = draw_actions(tmp_path / "voc")
    first = read("voc_actions", root)
    stamps = [os.stat(image).st_mtime_ns for image in first.images]  # noqa: PTH116
    again = read("voc_actions", root)
    assert again.images == first.images
    assert [os.stat(image).st_mtime_ns for image in again.images] == stamps  # noqa: PTH116
    photograph(root, "2011_1", [((2, 2, 9, 9), [action]) for action in ACTIONS])
    changed = read("voc_actions", root)
    assert changed.images[:24] == first.images[:24]
    assert not set(changed.images[24:]) & set(first.images[24:])


def test_voc_actions_with_the_number_of_the_person_in_a_line(tmp_path: Path) -> None:
    root = draw_actions(tmp_path / "voc")
    lines = [f"2010_{photo} {person}\n" for photo in (1, 2, 3) for person in (1, 2)]
    (root / "ImageSets" / "Action" / "train.txt").write_text("".join(lines))
    assert read("voc_actions", root).train == 24  # each photograph once


def test_voc_actions_that_are_broken(tmp_path: Path) -> None:
    root = draw_actions(tmp_path / "voc")
    path = root / "Annotations" / "2010_2.xml"
    path.write_text(annotation([((30, 1, 40, 9), ["running"])]))
    with pytest.raises(UserError, match=r"2010_2.jpg is 24 x 16, and a person's box .* is outside"):
        read("voc_actions", root)
    path.write_text(path.read_text()[:100])
    with pytest.raises(UserError, match=r"2010_2.xml is not a readable annotation"):
        read("voc_actions", root)
    path.write_text(annotation([((1, 1, 9, 9), ["running"])]).replace("<xmin>1", "<xmin>left"))
    with pytest.raises(UserError, match=r"2010_2.xml is not a readable annotation"):
        read("voc_actions", root)
    path.unlink()
    with pytest.raises(UserError, match=r"lacks .*2010_2.xml; it is published at"):
        read("voc_actions", root)


def test_a_photograph_cut_short_leaves_no_crop(tmp_path: Path) -> None:
    root = draw_actions(tmp_path / "voc")
    cut_short(root / "JPEGImages" / "2010_2.jpg", 0.6)
    with pytest.raises(UserError, match=r"2010_2.jpg cannot be decoded"):
        read("voc_actions", root)
    assert not list((tmp_path / "scratch" / "voc_actions").glob("2010_2*"))


# ---- mnist -----------------------------------------------------------------------------------------------------------

MNIST_FILES = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]


def idx(array: np.ndarray) -> bytes:
    return b"".join([bytes([0, 0, 8, array.ndim]), *(n.to_bytes(4, "big") for n in array.shape), array.tobytes()])


def draw_mnist(root: Path, gzipped: bool = True) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for split, times in {"train": 2, "t10k": 1}.items():
        labels = np.tile(np.arange(10, dtype=np.uint8), times)
        images = np.random.default_rng(times).integers(0, 256, (len(labels), 28, 28), dtype=np.uint8)
        for kind, array in {"images-idx3": images, "labels-idx1": labels}.items():
            path, raw = root / f"{split}-{kind}-ubyte", idx(array)
            if gzipped:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(raw))
            else:
                path.write_bytes(raw)
    return root


@pytest.mark.parametrize("below", ["", "MNIST/raw", "raw"])
@pytest.mark.parametrize("gzipped", [True, False])
def test_mnist(below: str, gzipped: bool, tmp_path: Path) -> None:
    draw_mnist(tmp_path / "mnist" / below, gzipped)
    result = read("mnist", tmp_path / "mnist", name="digits")
    assert (result.name, result.classes) == ("digits", tuple("0123456789"))
    assert result.labels.tolist() == list(range(10)) * 3
    assert result.train == 20
    assert isinstance(result.images, np.ndarray)
    for rows, times in ((slice(0, 20), 2), (slice(20, 30), 1)):
        pixels = np.random.default_rng(times).integers(0, 256, (10 * times, 28, 28), dtype=np.uint8)
        assert np.array_equal(result.images[rows, 0], pixels)


def test_mnist_is_read_as_torchvision_reads_it(tmp_path: Path) -> None:
    draw_mnist(tmp_path / "MNIST" / "raw", gzipped=False)
    result = read("mnist", tmp_path)
    for train, items in ((True, slice(0, 20)), (False, slice(20, 30))):
        theirs = datasets.MNIST(tmp_path, train=train)
        assert np.array_equal(result.images[items][:, 0], theirs.data.numpy())
        assert np.array_equal(result.labels[items], theirs.targets.numpy())


@pytest.mark.parametrize("file", MNIST_FILES)
@pytest.mark.parametrize(
    ("gzipped", "keep"), [(True, 0.6), (True, 5), (False, 0.6), (False, 9), (False, 3), (False, 0)]
)
def test_mnist_files_cut_short(file: str, gzipped: bool, keep: float, tmp_path: Path) -> None:
    root = draw_mnist(tmp_path / "mnist", gzipped)
    cut_short(root / (f"{file}.gz" if gzipped else file), keep)
    with pytest.raises(UserError, match=f"{file}.* cut short"):
        read("mnist", root)


def test_mnist_that_is_broken(tmp_path: Path) -> None:
    root = draw_mnist(tmp_path / "mnist", gzipped=False)
    labels = root / "t10k-labels-idx1-ubyte"
    shutil.copy(root / "train-labels-idx1-ubyte", labels)
    with pytest.raises(UserError, match="the set 'mnist' has 10 test images, but 20 labels of them"):
        read("mnist", root)
    shutil.copy(root / "t10k-images-idx3-ubyte", labels)
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte or t10k-labels-idx1-ubyte is damaged, or cut short"):
        read("mnist", root)
    (root / "t10k-labels-idx1-ubyte.gz").write_bytes(b"no gzip")
    labels.unlink()
    with pytest.raises(UserError, match=r"labels-idx1-ubyte.gz cannot be read, or is cut short: Not a gzipped file"):
        read("mnist", root)
    (root / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(UserError, match=r"lacks t10k-labels-idx1-ubyte \(or t10k-labels-idx1-ubyte.gz\); it is publ"):
        read("mnist", root)


# ---- cifar -----------------------------------------------------------------------------------------------------------


class Python2Pickler(pickle._Pickler):  # type: ignore[name-defined]
    """Writes text and bytes as Python 2 did, which wrote the published files: both as its one kind of string."""

    dispatch = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined] # noqa: RUF012

    def save_string(self, text: str | bytes) -> None:
        raw = text.encode() if isinstance(text, str) else text
        self.write(b"T" + len(raw).to_bytes(4, "little") + raw)

    dispatch[str] = dispatch[bytes] = save_string


def write_pickle(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        Python2Pickler(file, protocol=2).dump(content)
    path.write_bytes(path.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))


def cifar_batch(key: str, labels: list[int], seed: int) -> dict[str, Any]:
    data = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    names = [f"image_{number}.png" for number in range(len(labels))]
    return {"batch_label": f"batch {seed}", key: labels, "data": data, "filenames": names}


def draw_cifar10(base: Path) -> Path:
    for number in range(1, 6):
        write_pickle(base / f"data_batch_{number}", cifar_batch("labels", [0, 1, 2], number))
    write_pickle(base / "test_batch", cifar_batch("labels", [2, 1, 0], 6))
    meta = {"num_cases_per_batch": 3, "label_names": ["airplane", "automobile", "bird"], "num_vis": 3072}
    write_pickle(base / "batches.meta", meta)
    return base


def draw_cifar100(base: Path) -> Path:
    for split, (labels, seed) in {"train": ([1, 0, 0, 1], 1), "test": ([1, 0], 2)}.items():
        write_pickle(base / split, cifar_batch("fine_labels", labels, seed) | {"coarse_labels": [0] * len(labels)})
    write_pickle(base / "meta", {"fine_label_names": ["apple", "bee"], "coarse_label_names": ["all"]})
    return base


def publish_cifar(base: Path, dataset: type[datasets.CIFAR10], monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the files in base those whose MD5 torchvision knows."""
    for attribute in ("train_list", "test_list"):
        known = [[name, md5(base / name)] for name, _ in getattr(dataset, attribute)]
        monkeypatch.setattr(dataset, attribute, known)
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": md5(base / dataset.meta["filename"])})


@pytest.mark.parametrize("below", ["", "cifar-10-batches-py"])
def test_cifar10(below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = draw_cifar10(tmp_path / "cifar" / below)
    publish_cifar(base, datasets.CIFAR10, monkeypatch)
    assert b"numpy.core.multiarray" in (base / "test_batch").read_bytes()
    result = read("cifar10", tmp_path / "cifar")
    assert result.classes == ("airplane", "automobile", "bird")
    assert result.labels.tolist() == [0, 1, 2] * 5 + [2, 1, 0]
    assert result.train == 15
    assert isinstance(result.images, np.ndarray)
    third = np.random.default_rng(3).integers(0, 256, (3, 3072), dtype=np.uint8)
    assert result.images[7, 2, 5, 9] == third[1, 2 * 1024 + 5 * 32 + 9]  # red, green, blue; row after row
    with (base / "data_batch_3").open("rb") as file:  # as the page of CIFAR says to read it
        plain = pickle.load(file, encoding="bytes")
    assert np.array_equal(result.images[6:9].reshape(3, -1), plain[b"data"])


@pytest.mark.parametrize("below", ["", "cifar-100-python"])
def test_cifar100(below: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish_cifar(draw_cifar100(tmp_path / "cifar" / below), datasets.CIFAR100, monkeypatch)
    result = read("cifar100", tmp_path / "cifar")
    assert result.classes == ("apple", "bee")
    assert result.labels.tolist() == [1, 0, 0, 1, 1, 0]
    assert result.train == 4


class Harm:
    """A pickle of it runs a command when it is read."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("file", ["batches.meta", "data_batch_3", "test_batch"])
def test_a_pickle_that_is_not_the_published_one_is_not_opened(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, witness = draw_cifar10(tmp_path / "cifar"), tmp_path / "witness"
    publish_cifar(base, datasets.CIFAR10, monkeypatch)
    (base / file).write_bytes(pickle.dumps({"label_names": [Harm(f"touch {witness}")]}))
    with pytest.raises(UserError, match=rf"{file} is not the published file, or cut short: its MD5 is another"):
        read("cifar10", base)
    assert not witness.exists()


@pytest.mark.parametrize("file", ["data_batch_4", "test_batch", "batches.meta"])
def test_cifar_that_lacks_a_file(file: str, tmp_path: Path) -> None:
    base = draw_cifar10(tmp_path / "cifar")
    (base / file).unlink()
    with pytest.raises(UserError, match=rf"lacks .*{file}; it is published at"):
        read("cifar10", base)


@pytest.mark.parametrize("keep", [0, 1, 60, 0.5, 0.99])
def test_pickles_cut_short(keep: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = draw_cifar100(tmp_path / "cifar")
    publish_cifar(base, datasets.CIFAR100, monkeypatch)
    cut_short(base / "train", keep)
    with pytest.raises(UserError, match="train is not the published file, or cut short"):
        read("cifar100", base)


# ---- indoor67 --------------------------------------------------------------------------------------------------------


def draw_indoor(base: Path) -> Path:
    lists = {"Train": ["winecellar/a.jpg", "airport_inside/1.jpg", "winecellar/b.jpg", "airport_inside/2.jpg"]}
    lists["Test"] = ["airport_inside/3.jpg", "winecellar/c d.jpg"]
    for split, files in lists.items():
        for file in [*files, "airport_inside/neither.jpg"]:
            draw(base / "Images" / file)
        (base / f"{split}Images.txt").write_bytes("\r\n".join(files).encode())
    return base


@pytest.mark.parametrize("below", ["", "indoorCVPR_09"])
def test_indoor67(below: str, tmp_path: Path) -> None:
    draw_indoor(tmp_path / "indoor" / below)
    result = read("indoor67", tmp_path / "indoor")
    assert result.classes == ("airport_inside", "winecellar")
    assert list(by_file(result, train=True)) == ["a.jpg", "1.jpg", "b.jpg", "2.jpg"]
    assert result.labels.tolist() == [1, 0, 1, 0, 0, 1]
    assert list(by_file(result, train=False)) == ["3.jpg", "c d.jpg"]


def test_indoor67_that_is_broken(tmp_path: Path) -> None:
    base = draw_indoor(tmp_path / "indoor")
    (base / "TestImages.txt").write_text("bakery\n")
    with pytest.raises(UserError, match="has the line 'bakery', which is not of the form CLASS/FILE"):
        read("indoor67", base)
    (base / "TestImages.txt").unlink()
    with pytest.raises(UserError, match=r"lacks .*TestImages.txt; it is published at https://web.mit.edu"):
        read("indoor67", base)


# ---- cub200 ----------------------------------------------------------------------------------------------------------

BIRDS = ("001.Black_footed_Albatross", "002.Laysan_Albatross")


def draw_birds(base: Path) -> Path:
    files = [f"{BIRDS[i % 2]}/bird_{i}.jpg" for i in range(7)]
    for file in files:
        draw(base / "images" / file)
    tables = {
        "classes": [f"{i + 1} {bird}" for i, bird in enumerate(BIRDS)],
        "images": [f"{i + 1} {file}" for i, file in enumerate(files)],
        "image_class_labels": [f"{i + 1} {i % 2 + 1}" for i in range(7)],
        "train_test_split": [f"{i + 1} {int(i not in (0, 3))}" for i in range(7)],
    }
    for name, lines in tables.items():
        (base / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return base


@pytest.mark.parametrize("below", ["", "CUB_200_2011"])
def test_cub200(below: str, tmp_path: Path) -> None:
    draw_birds(tmp_path / "birds" / below)
    result = read("cub200", tmp_path / "birds")
    assert result.classes == BIRDS
    assert by_file(result, train=True) == {f"bird_{i}.jpg": BIRDS[i % 2] for i in (1, 2, 4, 5, 6)}
    assert by_file(result, train=False) == {"bird_0.jpg": BIRDS[0], "bird_3.jpg": BIRDS[1]}


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        (
            "image_class_labels.txt",
            "1 1\n2 x\n",
            "labels.txt entry 2 is '2 x', which does not have the form 'number numb",
        ),
        (
            "image_class_labels.txt",
            "1 1\n2 2\n",
            "image 3 of .*images.txt lacks a class or a split in the other files",
        ),
        ("image_class_labels.txt", "".join(f"{i} 9\n" for i in range(1, 8)), "image 1 of .*images.txt lacks a class"),
        ("train_test_split.txt", "1 1\n2 0\n", "image 3 of .*images.txt lacks a class or a split"),
        (
            "train_test_split.txt",
            "".join(f"{i} 1\n" for i in range(1, 8)),
            "the set 'cub200' has no test image of '001",
        ),
    ],
)
def test_cub200_that_is_broken(file: str, content: str, sentence: str, tmp_path: Path) -> None:
    base = draw_birds(tmp_path / "birds")
    (base / file).write_text(content)
    with pytest.raises(UserError, match=sentence):
        read("cub200", base)


# ---- chars74k --------------------------------------------------------------------------------------------------------

LETTERS = {1: "0", 11: "A", 37: "a", 62: "z"}


def draw_letters(root: Path, **changed: Any) -> Path:
    """Four characters with five good images each: one for testing, three for training, and one that is neither."""
    names, labels = [], []
    for label in LETTERS:
        for number in range(1, 6):
            names.append(f"GoodImg/Bmp/Sample{label:03d}/img{label:03d}-{number:05d}")
            labels.append(label)
            draw(root / "English" / "Img" / f"{names[-1]}.png")
    first = np.arange(0, 20, 5)
    tested = np.stack([first + 1] * 2, axis=1)
    trained = np.concatenate([first + 2, first + 3, first + 4])
    trained = np.stack([np.where(np.arange(12) < 8, trained, 0), trained[::-1]], axis=1)  # a smaller split, padded
    fields = {
        "ALLnames": np.array(names),
        "is_good": np.ones((20, 1), bool),
        "ALLlabels": np.array(labels, np.uint16)[:, None],
        "classlabels": np.array(list(LETTERS), float)[:, None],
        "NUMclasses": np.array([[4]]),
        "TSTind": tested.astype(np.uint16),
        "TRNind": trained.astype(np.uint16),
    }
    path = root / "Lists" / "English" / "Img" / "lists.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"list": {key: value for key, value in (fields | changed).items() if value is not None}})
    return root


def test_chars74k(tmp_path: Path) -> None:
    result = read("chars74k", draw_letters(tmp_path / "letters"))
    assert result.classes == ("0", "A", "a", "z")
    expected = {f"img{label:03d}-{n:05d}.png": text for n in (4, 3, 2) for label, text in reversed(LETTERS.items())}
    assert list(by_file(result, train=True).items()) == list(expected.items())  # in the order of the last split
    assert by_file(result, train=False) == {f"img{label:03d}-00001.png": text for label, text in LETTERS.items()}


def test_chars74k_with_the_list_next_to_the_images(tmp_path: Path) -> None:
    root = draw_letters(tmp_path / "letters")
    shutil.move(root / "Lists" / "English" / "Img" / "lists.mat", root / "English" / "Img" / "lists_var_size.mat")
    assert len(read("chars74k", root)) == 16
    assert len(read("chars74k", root / "English")) == 16


def test_chars74k_that_is_broken(tmp_path: Path) -> None:
    root = tmp_path / "letters"
    draw_letters(root, TSTind=np.array([[99]], np.uint16))
    with pytest.raises(UserError, match=r"lists.mat numbers an image 99 in TSTind, but names 20 images"):
        read("chars74k", root)
    draw_letters(root, TRNind=None)
    with pytest.raises(UserError, match=r"lists.mat lacks the field 'TRNind'; it has ALLnames"):
        read("chars74k", root)
    draw_letters(root, ALLlabels=np.full((20, 1), 63, np.uint16))
    with pytest.raises(UserError, match=r"lists.mat has labels from 63 to 63, allowed is 1 to 62"):
        read("chars74k", root)
    shutil.rmtree(root / "English")
    draw_letters(root)
    (root / "English" / "Img" / "GoodImg" / "Bmp" / "Sample011" / "img011-00003.png").unlink()
    with pytest.raises(UserError, match=r"lacks 1 of its 12 images, the first .*img011-00003.png"):
        read("chars74k", root)


# ---- downloading -----------------------------------------------------------------------------------------------------

DRAWN: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "flowers102": ("Flowers102", lambda root: draw_flowers(root / "flowers-102")),
    "fgvc_aircraft": ("FGVCAircraft", lambda root: draw_aircraft(root / "fgvc-aircraft-2013b")),
    "voc_actions": ("VOCDetection", lambda root: draw_actions(root / "VOCdevkit" / "VOC2012")),
}
"""Sets of which torchvision's class only downloads: the class, and the files that it writes."""

READ: dict[str, tuple[str, Callable[[Path], Path]]] = {
    "mnist": ("MNIST", lambda root: draw_mnist(root / "MNIST" / "raw", gzipped=False)),
    "cifar10": ("CIFAR10", lambda root: draw_cifar10(root / "cifar-10-batches-py")),
    "cifar100": ("CIFAR100", lambda root: draw_cifar100(root / "cifar-100-python")),
    "svhn": ("SVHN", draw_svhn),
}
"""Sets that torchvision's class also reads."""


def check_download(kind: str, root: Path, downloads: list[str]) -> None:
    """Only `download` downloads, and only what is missing; `downloads` grows by an entry for each download."""
    with pytest.raises(UserError, match="download: true"):
        read(kind, root)
    assert not downloads
    assert read(kind, root, download=True).name == kind
    count = len(downloads)
    assert count >= 1
    assert len(read(kind, root, download=True)) == len(read(kind, root))
    assert len(downloads) == count
    assert not list(root.glob(".*.lock"))


@pytest.mark.parametrize("kind", [pytest.param(kind, marks=named if kind == "flowers102" else ()) for kind in DRAWN])
def test_downloaded_where_it_is_missing(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, draw_files = DRAWN[kind]
    downloads: list[str] = []

    class Dataset(getattr(datasets, name)):  # type: ignore[misc]
        def __init__(self, root: Path, download: bool, **options: Any) -> None:
            assert download
            downloads.append(name)
            draw_files(Path(root))

    monkeypatch.setattr(datasets, name, Dataset)
    check_download(kind, tmp_path / "new", downloads)


@pytest.mark.parametrize("kind", READ)
def test_downloaded_and_read_by_torchvision(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, draw_files = READ[kind]
    dataset, downloads = getattr(datasets, name), []

    def download(self: Any) -> None:
        downloads.append(name)
        base = draw_files(Path(self.root))
        if kind == "svhn":
            publish_svhn(base, monkeypatch)
        elif kind != "mnist":
            publish_cifar(base, dataset, monkeypatch)

    monkeypatch.setattr(dataset, "download", download)
    check_download(kind, tmp_path / "new", downloads)


def test_a_download_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(self: Any) -> None:
        raise RuntimeError("Error downloading train-images\nTried a mirror")

    monkeypatch.setattr(datasets.MNIST, "download", download)
    with pytest.raises(
        UserError, match=r"^the set 'mnist' cannot be downloaded \(Error downloading train-images\); it"
    ):
        read("mnist", tmp_path / "mnist", download=True)


def test_every_downloaded_set_is_tested() -> None:
    assert {*DRAWN, *READ} == {kind for kind, source in OBJECT_SETS.items() if source.download is not None}
