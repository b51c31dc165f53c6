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


# ---- coco and vcoco --------------------------------------------------------------------------------------------------

COCO_CATEGORIES = [(1, "person"), (43, "tennis racket"), (37, "sports ball"), (90, "toothbrush")]
COCO_INSTANCES = [  # id, image, category, x, y, width, height
    (101, 9, 1, 2.5, 3, 10, 20), (102, 9, 1, 20, 3, 10, 20), (103, 25, 1, 0, 0, 30, 30),
    (201, 9, 43, 1, 1, 5.5, 6), (202, 25, 37, 8, 9, 3, 3),
]  # fmt: skip


def coco(instances: Iterable[Sequence[float]] = COCO_INSTANCES) -> dict[str, Any]:
    """The content of a file of COCO's instances."""
    annotations = [
        {
            "segmentation": [[1.5, 2, 3, 4]],
            "area": 9.5,
            "iscrowd": 0,
            "image_id": image,
            "bbox": box,
            "category_id": of,
            "id": n,
        }
        for n, image, of, *box in instances
    ]
    images = [{"file_name": "any", "height": 30, "width": 40, "id": n} for n in sorted({row[1] for row in instances})]
    categories = [{"supercategory": "any", "id": number, "name": name} for number, name in COCO_CATEGORIES]
    return {"info": {}, "licenses": [], "images": images, "annotations": annotations, "categories": categories}


def write_coco(root: Path) -> Path:
    write_json(root / "annotations" / "instances_train2017.json", coco())
    write_json(root / "annotations" / "instances_val2017.json", coco([(7, 6, 90, 1, 2, 3, 4), (8, 6, 1, 1, 2, 3, 4)]))
    for image in ("train2017/000000000009.jpg", "train2017/000000000025.jpg", "val2017/000000000006.jpg"):
        draw(root / image, (len(image), int(image[-6:-4]), 3))
    return root


def vcoco_actions(images: Sequence[int], persons: Sequence[int], things: Sequence[int]) -> list[dict[str, Any]]:
    """Two actions of three persons: `run` of the last two; `hit` of the first, with a thing in each of two roles."""
    racket, ball = things
    run = {
        "role_object_id": [*persons],
        "label": [0, 1, 1],
        "action_name": "run",
        "role_name": ["agent"],
        "include": [[]],
    }
    hit = {
        "role_object_id": [*persons, racket, 0, 0, 0, 0, ball],
        "label": [1, 0, 1],
        "action_name": "hit",
        "role_name": ["agent", "instr", "obj"],
        "include": [[], ["tennis racket", "baseball bat"], ["sports ball"]],
    }
    return [{"image_id": [*images], "ann_id": [*persons], **action} for action in (run, hit)]


def write_vcoco(root: Path) -> Path:
    """Write the original form: val has the persons of train again, in other photos; test those of two more."""
    instances = [*COCO_INSTANCES]
    for number, part in enumerate(("train", "val", "test")):
        of_part = [(n + 1000 * number, image + 100 * number, *rest) for n, image, *rest in COCO_INSTANCES]
        instances += of_part if number else []
        ids = {n: image for n, image, *_ in of_part}
        persons, things = list(ids)[:3], list(ids)[3:]
        actions = vcoco_actions([ids[person] for person in persons], persons, things)
        write_json(root / "data" / "vcoco" / f"vcoco_{part}.json", actions)
        split = root / "data" / "splits" / f"vcoco_{part}.ids"
        split.parent.mkdir(exist_ok=True)
        split.write_text("".join(f"{image}\n" for image in sorted(set(ids.values()))))
        folder = "val2014" if part == "test" else "train2014"
        for image in set(ids.values()):
            draw(root / folder / f"COCO_{folder}_{image:012d}.jpg", (image % 255, 80, 9))
    write_json(root / "data" / "instances_vcoco_all_2014.json", coco(instances))
    return root


def write_vcoco_converted(root: Path) -> Path:
    classes = ["hold obj", "sit instr", "talk_on_phone instr"]
    objects = ["background", "person", "chair", "cell phone"]
    for part, folder in (("trainval", "train2014"), ("test", "val2014")):
        name = f"COCO_{folder}_000000000165.jpg"
        person, thing = [1.5, 2, 20, 30], [5, 6, 30.25, 28]
        pairs = {"boxes_h": [person] * 3, "boxes_o": [thing] * 3, "actions": [0, 1, 2], "objects": [0, 2, 3]}
        empty = {
            "boxes_h": [],
            "boxes_o": [],
            "actions": [],
            "objects": [],
            "file_name": f"COCO_{folder}_000000000531.jpg",
        }
        content = {"annotations": [{**pairs, "file_name": name}, empty], "classes": classes, "objects": objects}
        write_json(root / f"instances_vcoco_{part}.json", {**content, "images": [165, 531], "action_to_object": []})
        draw(root / folder / name, (len(part), 200, 3))
    return root


# ---- hico and hico_det -----------------------------------------------------------------------------------------------

HICO_ACTIONS = [
    ("airplane", "board", "boarding"),
    ("airplane", "no_interaction", "and"),
    ("person", "sit_on", "sitting_on"),
]
EMPTY = np.zeros((0, 0))


def list_action() -> np.ndarray:
    synset = structs([{"id": 1, "wid": "v02018049", "name": "board.v.01"}], ("id", "wid", "name"))
    rows = [
        {
            "nname": n,
            "vname": v,
            "vname_ing": ing,
            "synset": EMPTY if v == "no_interaction" else synset,
            "add_def": EMPTY,
        }
        for n, v, ing in HICO_ACTIONS
    ]
    return structs(rows, ("nname", "vname", "vname_ing", "synset", "add_def")).T


def hoi(
    number: int, persons: list[Sequence[int]], things: list[Sequence[int]], pairs: list[list[int]]
) -> dict[str, object]:
    """An interaction; boxes are x1, x2, y1, y2, counted from 1, in this order. Without pairs it is not visible."""

    def boxes(of: list[Sequence[int]]) -> np.ndarray:
        fields = ("x1", "x2", "y1", "y2")
        return structs([dict(zip(fields, box, strict=True)) for box in of], fields) if of else EMPTY

    connection = np.array(pairs, float) if pairs else EMPTY
    both = {"bboxhuman": boxes(persons), "bboxobject": boxes(things)}
    return {"id": number, **both, "connection": connection, "invis": int(not pairs)}


def hico_photo(name: str, interactions: list[dict[str, object]]) -> dict[str, object]:
    size = structs([{"width": 40, "height": 30, "depth": 3}], ("width", "height", "depth"))
    fields = ("id", "bboxhuman", "bboxobject", "connection", "invis")
    return {"filename": name, "size": size, "hoi": structs(interactions, fields)}


LEFT, RIGHT, SMALL = (1, 9, 2, 8), (2, 9, 3, 9), (5, 20, 5, 19)
HICO_TRAIN = [
    ("HICO_train2015_00000001.jpg", [hoi(1, [(2, 12, 3, 28)], [(5, 40, 6, 30)], [[1, 1]]), hoi(3, [], [], [])]),
    (
        "HICO_train2015_00000002.jpg",
        [hoi(2, [LEFT], [SMALL], [[1, 1]]), hoi(3, [LEFT, RIGHT], [SMALL], [[1, 1], [2, 1]])],
    ),
]
HICO_TEST = [("HICO_test2015_00000001.jpg", [hoi(number, [LEFT], [SMALL], [[1, 1]]) for number in (1, 3)])]


def write_hico_photos(root: Path) -> None:
    for place, (name, _) in enumerate([*HICO_TRAIN, *HICO_TEST]):
        draw(root / "images" / name.split("_")[1] / name, (90 * place, 30, 3))


def write_hico_det(root: Path) -> Path:
    """Write anno_bbox.mat; the test half is a single photo."""
    base = root / "hico_20160224_det"
    write_hico_photos(base)
    train, test = (
        structs([hico_photo(*photo) for photo in photos], ("filename", "size", "hoi"))
        for photos in (HICO_TRAIN, HICO_TEST)
    )
    content = {"bbox_train": train, "bbox_test": test, "list_action": list_action()}
    savemat(base / "anno_bbox.mat", content, do_compression=True)
    return root


def write_hico_det_json(root: Path) -> Path:
    """Write F. Zhang's conversion: verbs and objects in alphabetical order, interactions in that of list_action."""
    write_hico_photos(root)
    common = {
        "objects": ["airplane", "person"],
        "verbs": ["board", "no_interaction", "sit_on"],
        "correspondence": [[0, 0, 0], [1, 0, 1], [2, 1, 2]],
    }
    person, thing = [2.0, 3.0, 12.0, 28.0], [5.0, 6.0, 40.0, 30.0]
    entry = {
        "boxes_h": [person, person, person], "boxes_o": [thing, thing, thing],
        "hoi": [0, 1, 2], "object": [0, 0, 1], "verb": [0, 1, 2],
    }  # fmt: skip
    empty = {"boxes_h": [], "boxes_o": [], "hoi": [], "object": [], "verb": []}
    for folder, photos in (("train2015", HICO_TRAIN), ("test2015", HICO_TEST)):
        names = [name for name, _ in photos]
        annotation = [entry, empty][: len(names)]
        content = {
            "annotation": annotation,
            "filenames": names,
            "empty": [1],
            **common,
            "size": [[40, 30]] * len(names),
        }
        write_json(root / f"instances_{folder}.json", content)
    return root


def write_hico_det_ppdm(root: Path) -> Path:
    write_hico_photos(root)
    for file, photos in (("trainval_hico.json", HICO_TRAIN), ("test_hico.json", HICO_TEST)):
        interactions = [
            {"subject_id": 0, "object_id": 1, "category_id": 73, "hoi_category_id": 153},
            {"subject_id": 0, "object_id": 1, "category_id": 58, "hoi_category_id": 10},
            {"subject_id": 0, "object_id": 9, "category_id": 73, "hoi_category_id": 153},
            {"subject_id": 0, "object_id": -1, "category_id": 92, "hoi_category_id": 1},
        ]
        instances = [{"bbox": [2, 3, 12, 28], "category_id": 1}, {"bbox": [5, 6, 40, 30], "category_id": "90\n"}]
        content = [
            {"file_name": name, "img_id": n, "annotations": instances, "hoi_annotation": interactions}
            for n, (name, _) in enumerate(photos, start=1)
        ]
        write_json(root / "annotations" / file, content)
    return root


def write_hico(root: Path) -> Path:
    base = root / "hico_20150920"
    write_hico_photos(base)
    names = {
        split: cell([name for name, _ in photos]).T for split, photos in (("train", HICO_TRAIN), ("test", HICO_TEST))
    }
    labels = {"anno_train": np.array([[1, -1], [1, 1], [np.nan, 0.0]]), "anno_test": np.array([[1.0], [1], [1]])}
    lists = {f"list_{split}": of for split, of in names.items()}
    savemat(base / "anno.mat", {"list_action": list_action(), **lists, **labels})
    return root
