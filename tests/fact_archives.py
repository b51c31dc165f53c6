"""Published fact sets, drawn small in exactly their published form: a function a set writes one below a folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat


def draw(path: Path, colour: tuple[int, int, int] = (9, 9, 9), size: tuple[int, int] = (40, 30)) -> Path:
    """Write a photo of one colour; its suffix gives the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_csv(path: Path, rows: Iterable[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def cell(values: Sequence[object]) -> np.ndarray:
    """A MATLAB cell array `[1, N]`."""
    cells = np.empty((1, len(values)), object)
    cells[0, :] = [None] * len(values)
    for place, value in enumerate(values):
        cells[0, place] = value
    return cells


def structs(rows: Sequence[dict[str, object]], fields: Sequence[str]) -> np.ndarray:
    """A MATLAB array of structs `[1, N]`, its fields in this order."""
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in fields])
    for place, row in enumerate(rows):
        for name in fields:
            array[0, place][name] = row[name]
    return array


# ---- lfl -------------------------------------------------------------------------------------------------------------

LFL_FACTS = {  # task: id: S, P, O
    1: {3: ("person", "", ""), 17: ("person", "riding", "motor_bike")},
    2: {118: ("dog", "running", ""), 9: ("person", "watching", "TV")},
}


def write_lfl(root: Path, tasks: dict[int, dict[int, tuple[str, str, str]]] = LFL_FACTS, images: int = 3) -> Path:
    """Write a benchmark: tasks of facts with some training and test images each; ids are not contiguous.

    In task 1 a link stands in single quotes, an image is there as .png only, and an image has two rows.
    """
    folder = root / "mid_scale" / "splits" / f"{len(tasks)}tasks_random"
    for task, facts in tasks.items():
        write_csv(
            folder / f"B{task}_facts.csv", [("id", "type", "S", "P", "O"), *((n, 1, *f) for n, f in facts.items())]
        )
        for split in ("train", "test"):
            rows: list[tuple[object, ...]] = [("", "image_links", "NLP_links", "SPO", "id", "w_s", "w_p", "w_o")]
            for fact, units in facts.items():
                flags = [int(bool(unit)) for unit in units]
                for number in range(images):
                    link = f"{split}/6DS_{split}_{fact:04d}{number:06d}.jpg"
                    draw(root / "mid_scale" / "images" / link, (fact * 2 % 255, 20 * number, 90))
                    rows.append((len(rows), link, f"{link}.txt", "-".join(units), fact, *flags))
            write_csv(folder / f"B{task}_{split}.csv", rows)
    return root


def disturb_lfl(root: Path) -> None:
    """Bring in what the published files have: a quoted link, a .png behind a .jpg, an image in two rows."""
    folder = root / "mid_scale"
    path = folder / "splits" / "2tasks_random" / "B1_train.csv"
    rows = list(csv.reader(path.open(newline="")))
    rows[1][1] = f"'{rows[1][1]}'"
    rows.append([str(len(rows)), rows[2][1], "", "person-riding-motor_bike", "17", "1", "1", "1"])
    write_csv(path, rows)
    jpg = folder / "images" / rows[3][1]
    jpg.unlink()
    draw(jpg.with_suffix(".png"))


# ---- vrd and unrel ---------------------------------------------------------------------------------------------------

VRD_OBJECTS = ["person", "horse", "traffic light"]
VRD_PREDICATES = ["on", "wear", "has", "next to", "sleep next to", "ride"]


def relation(subject: int, predicate: int, target: int, *boxes: list[int]) -> dict[str, Any]:
    """A relation of VRD; boxes are [ymin, ymax, xmin, xmax], counted from 1."""
    units = [{"category": unit, "bbox": box} for unit, box in zip((subject, target), boxes, strict=True)]
    return {"predicate": predicate, "object": units[1], "subject": units[0]}


PERSON, HORSE = [3, 20, 5, 12], [11, 30, 6, 40]
VRD_TRAIN = {
    "a.jpg": [relation(0, 5, 1, PERSON, HORSE), relation(0, 0, 1, PERSON, HORSE), relation(0, 5, 1, PERSON, HORSE)],
    "b.jpg": [],
    "c.png": [relation(0, 5, 1, PERSON, PERSON), relation(2, 3, 0, HORSE, PERSON)],
}
VRD_TEST = {"d.jpg": [relation(0, 5, 1, PERSON, HORSE)], "e.jpg": [relation(2, 3, 0, HORSE, PERSON)]}


def write_vrd(root: Path, train: dict[str, Any] = VRD_TRAIN, test: dict[str, Any] = VRD_TEST) -> Path:
    write_json(root / "json_dataset" / "objects.json", VRD_OBJECTS)
    write_json(root / "json_dataset" / "predicates.json", VRD_PREDICATES)
    for split, photos in (("train", train), ("test", test)):
        write_json(root / "json_dataset" / f"annotations_{split}.json", photos)
        for number, name in enumerate(photos):
            file = Path(name).with_suffix(".gif") if name == "e.jpg" else Path(name)
            draw(root / "sg_dataset" / f"sg_{split}_images" / file, (40 * number, 9 * len(split), 200))
    return root


def write_unrel(root: Path) -> Path:
    def person(relations: list[tuple[str, list[str], str]]) -> np.ndarray:
        fields = ("sub", "sub_box", "obj", "obj_box", "rels")
        rows = [
            {
                "sub": s,
                "sub_box": np.array([[1, 1, 20, 30]]),
                "obj": o,
                "obj_box": np.array([[5, 5, 40, 30]]),
                "rels": cell(p),
            }
            for s, p, o in relations
        ]
        return cell([structs([row], fields) for row in rows])

    photos = [
        ("1122.jpg", [("bike", ["above"], "person")]),
        ("7.jpg", [("dog", ["ride", "on"], "bike"), ("car", ["in"], "traffic light")]),
    ]
    entries = []
    for number, (name, relations) in enumerate(photos):
        draw(root / "images" / name)
        row = {"filename": name, "im_id": number, "objects": cell([]), "relationships": person(relations)}
        entries.append(structs([row], ("filename", "im_id", "objects", "relationships")))
    savemat(root / "annotations.mat", {"annotations": cell(entries).T})
    return root
