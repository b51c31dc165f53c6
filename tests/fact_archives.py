"""Published fact sets, drawn small in exactly their published form: a function a set writes one below a folder."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import h5py
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


def write_lfl(root: Path, scale: str = "mid_scale", variant: str = "random", images: int = 3) -> Path:
    """Write a benchmark: tasks of facts with some training and test images each; ids are not contiguous.

    In task 1 a link stands in single quotes, an image is there as .png only, and an image has two rows.
    """
    folder = root / scale / "splits" / f"{len(LFL_FACTS)}tasks_{variant}"
    for task, facts in LFL_FACTS.items():
        write_csv(
            folder / f"B{task}_facts.csv", [("id", "type", "S", "P", "O"), *((n, 1, *f) for n, f in facts.items())]
        )
        for split in ("train", "test"):
            rows: list[tuple[object, ...]] = [("", "image_links", "NLP_links", "SPO", "id", "w_s", "w_p", "w_o")]
            for fact, units in facts.items():
                flags = [int(bool(unit)) for unit in units]
                for number in range(images):
                    link = f"{split}/6DS_{split}_{fact:04d}{number:06d}.jpg"
                    draw(root / scale / "images" / link, (fact * 2 % 255, 20 * number, 30 * len(split)))
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


# ---- visual_genome and vg150 -----------------------------------------------------------------------------------------


def thing(name: str | list[str], x: int, y: int, w: int, h: int, key: str = "name", **others: Any) -> dict[str, Any]:
    return {"h": h, "w": w, "y": y, "x": x, key: name, **others}


def write_visual_genome(root: Path, version: str) -> Path:
    """Write two photos in the form of version 1.0 or 1.4, the second in the other folder."""
    key = "id" if version == "1.0" else "image_id"
    many: dict[str, Any] = {"key": "names"} if version == "1.4" else {}
    man = thing(["Man"] if many else "Man", 1, 2, 10, 20, **many)
    street = thing(["street"] if many else "street", -3, 5, 30, 40, **many)
    relations = [{"predicate": "ON ", "object": street, "subject": man, "synsets": []}] * 2
    others = [
        {"predicate": "has_been", "object": man, "subject": street},
        {"predicate": "", "object": man, "subject": man},
    ]
    attributes = [
        {**thing(["clock"], 1, 2, 3, 4, key="names"), "attributes": ["Green", "tall"]},
        thing(["x"], 1, 2, 3, 4, key="names"),
    ]
    if version == "1.0":
        attributes = [{**thing(["clock"], 1, 2, 3, 4, key="object_names"), "attributes": ["Green", "tall"]}]
    write_json(root / "relationships.json", [{"relationships": relations, key: 1}, {"relationships": others, key: 2}])
    write_json(root / "attributes.json", [{"attributes": attributes, key: 1}])
    write_json(root / "objects.json", [{"objects": [thing(["clock"], 1, 2, 3, 4, key="names")], key: 2}])
    (root / "relationship_alias.txt").write_text("on,on top of\nbe,has been, is\n")
    (root / "object_alias.txt").write_text("person,man,woman\n")
    draw(root / "VG_100K" / "1.jpg")
    draw(root / "VG_100K_2" / "2.jpg", (1, 2, 3))
    return root


VG150_PREDICATES = {str(number): f"predicate {number}" for number in range(1, 51)} | {"31": "on", "20": "has"}


def write_vg150(root: Path) -> Path:
    """Write four photos; the second has no boxes, the last is for testing, and a broken one is listed before it."""
    sizes = {10: (640, 480), 11: (640, 480), 1592: (640, 480), 12: (480, 640), 13: (1024, 512)}
    listed = [{"width": w, "height": h, "image_id": number, "coco_id": None} for number, (w, h) in sizes.items()]
    write_json(root / "image_data.json", listed)
    names = {"label": {"1": "man", "2": "horse", "3": "hat"}, "predicate": VG150_PREDICATES, "attribute": {"1": "Red"}}
    dicts = {f"idx_to_{kind}": of for kind, of in names.items()}
    dicts |= {f"{kind}_to_idx": {word: int(n) for n, word in of.items()} for kind, of in names.items()}
    write_json(root / "VG-SGG-dicts-with-attri.json", dicts)
    data = {
        "split": [0, 0, 0, 2],
        "img_to_first_box": [0, -1, 2, 4],
        "img_to_last_box": [1, -1, 3, 6],
        "img_to_first_rel": [0, -1, 1, 2],
        "img_to_last_rel": [0, -1, 1, 3],
        "labels": [[1], [2], [3], [1], [1], [3], [2]],
        "boxes_1024": [[512, 384, 1024, 768], [100, 100, 50, 20], *[[200, 200, 100, 100]] * 5],
        "relationships": [[0, 1], [3, 2], [4, 5], [4, 6]],
        "predicates": [[31], [20], [20], [31]],
        "attributes": [[1] + [0] * 9, *[[0] * 10] * 6],
    }
    with h5py.File(root / "VG-SGG-with-attri.h5", "w") as file:
        for name, values in data.items():
            file[name] = np.array(values, np.int64)
    for number in sizes:
        draw(root / "VG_100K" / f"{number}.jpg", (number % 255, 3, 3), sizes[number])
    return root


# ---- psg and gqa -----------------------------------------------------------------------------------------------------


def write_psg(root: Path) -> Path:
    def photo(name: str, number: str, relations: list[list[int]]) -> dict[str, Any]:
        boxes = [[1.0, 2.0, 20.0, 28.0], [5.0, 3.0, 30.0, 20.0]]
        annotations = [{"bbox": box, "bbox_mode": 0, "category_id": of} for box, of in zip(boxes, (0, 3), strict=True)]
        draw(root / name, (int(number), 9, 9))
        return {
            "file_name": name, "height": 30, "width": 40, "image_id": number, "pan_seg_file_name": "any",
            "segments_info": [], "annotations": annotations, "relations": relations,
        }  # fmt: skip

    content = {
        "data": [
            photo("train2017/000000000036.jpg", "107", [[0, 1, 1], [0, 1, 1]]),
            photo("val2017/000000000139.jpg", "36", [[1, 0, 0]]),
        ],
        "test_image_ids": ["36"],
        "thing_classes": ["person", "dog"],
        "stuff_classes": ["window-blind", "wall-brick", "sky-other-merged"],
        "predicate_classes": ["over", "in front of"],
    }
    write_json(root / "psg.json", content)
    return root


def write_gqa(root: Path) -> Path:
    chair = {"name": "chair", "x": 2, "y": 3, "w": 5, "h": 8, "attributes": ["brown", "wooden"]}
    floor = {"name": "floor", "x": 0, "y": 0, "w": 40, "h": 30, "attributes": [], "relations": []}
    as_list = [{"object": "275312", "name": "on"}, {"object": "275312", "name": "to the left of"}]
    for part, number, relations in (("train", "2407890", as_list), ("val", "n161", {"0": as_list[0]})):
        objects = {"271881": {**chair, "relations": relations}, "275312": floor}
        write_json(root / f"{part}_sceneGraphs.json", {number: {"width": 40, "height": 30, "objects": objects}})
        draw(root / "images" / f"{number}.jpg", (len(number), 70, 1))
    return root


# ---- vsr and svo_probes ----------------------------------------------------------------------------------------------

VSR_ROWS = {
    "train": [(1, "The cat is inside the sink.", 0, "inside"), (2, "The cake consists of the dog.", 1, "consists of")],
    "dev": [
        (3, "The man has as a part a hair drier.", 1, "has as a part"),
        (4, "The bird is above the cat.", 1, "above"),
    ],
    "test": [(4, "The bird is above the cat.", 0, "above"), (5, "The cat is inside the sink.", 1, "inside")],
}


def write_vsr(root: Path) -> Path:
    """Write the random split; a photo of dev is in test, too."""
    votes = {"annotator_id": 27, "vote_true_validator_id": "[]", "vote_false_validator_id": "[1, 2, 20]"}
    for part, rows in VSR_ROWS.items():
        lines = []
        for number, caption, label, name in rows:
            image = f"{number:012d}.jpg"
            link = f"http://images.cocodataset.org/train2017/{image}"
            row = {"image": image, "image_link": link, "caption": caption, "label": label, "relation": name}
            lines.append(json.dumps({**row, **votes, "reference_frame": None}))
            draw(root / "images" / image, (40 * number, 3, 3))
        path = root / "data" / "splits" / "random" / f"{part}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
    return root


def write_svo_probes(root: Path) -> Path:
    head = ["sentence", "pos_triplet", "neg_triplet", "pos_url", "neg_url", "pos_image_id", "neg_image_id"]
    head += ["subj_neg", "verb_neg", "obj_neg"]
    rows = [
        (
            "A girl, lying.",
            "girl,lie,beach",
            "girl,sit,beach",
            "http://a",
            "http://b",
            "1",
            "2",
            "False",
            "True",
            "False",
        ),
        ("A dog\nsits.", "dog,sit,grass", "cat,sit,grass", "http://c", "http://d", "3", "4", "True", "False", "False"),
        ("None.", "dog,sit,grass", "dog,sit,grass", "http://c", "http://d", "3", "5", "False", "False", "False"),
    ]
    write_csv(root / "svo_probes.csv", [head, *rows])
    for number in range(1, 5):
        draw(root / "images" / f"{number}.png", (50 * number, 1, 1))
    return root


# ---- open_images, swig, stanford40, voc_actions ----------------------------------------------------------------------


def write_open_images(root: Path, relation: str = "RelationshipLabel") -> Path:
    boxes = [f"{side}{number}" for number in (1, 2) for side in ("XMin", "XMax", "YMin", "YMax")]
    head = ("ImageID", "LabelName1", "LabelName2", *boxes, relation)
    smile = ("/m/04yx4", "/m/019nj4", 0.1, 0.5, 0.2, 0.9, 0.1, 0.5, 0.2, 0.9, "is")
    guitar = ("/m/04yx4", "/m/0342h", 0.1, 0.5, 0.2, 0.9, 0.25, 0.75, 0.5, 1, "interacts_with")
    for number, part in enumerate(("train", "validation", "test")):
        rows = [(f"00{number}", *smile), (f"00{number}", *guitar)]
        write_csv(root / f"oidv6-{part}-annotations-vrd.csv", [head, *rows])
        draw(root / part / f"00{number}.jpg", (90 * number, 9, 1))
    write_csv(root / "class-descriptions-boxable.csv", [("/m/04yx4", "Man"), ("/m/0342h", "Guitar")])
    attributes = [("id", "name"), ("/m/019nj4", "Smile"), ("/m/0dnr7", "(made of)Textile")]
    write_csv(root / "oidv6-attributes-description.csv", attributes)
    return root


def write_swig(root: Path) -> Path:
    """Write photos with a majority, a tie, without an agent, and with an id that the space lacks."""
    water, mug, woman, man = "n14845743", "n03797390", "n10787470", "n10287213"
    space = {
        "nouns": {
            woman: {"gloss": ["woman", "adult female"], "def": "any"}, man: {"gloss": ["man"], "def": "any"},
            water: {"gloss": ["water", "H2O"], "def": "any"}, mug: {"gloss": ["coffee_mug"], "def": "any"},
        },
        "verbs": {
            "drinking": {"order": ["agent", "liquid", "container", "place"], "roles": {}},
            "raining": {"order": ["place"], "roles": {}},
        },
    }  # fmt: skip
    base = {"verb": "drinking", "height": 60, "width": 80}

    def frames(*of: tuple[str, str, str]) -> list[dict[str, str]]:
        return [{"agent": a, "liquid": li, "container": c, "place": "n03519981"} for a, li, c in of]

    bb = {"place": [-1] * 4, "agent": [10, 10, 40, 60], "liquid": [30, 20, 80, 40], "container": [-1] * 4}
    photos = {
        "train": {
            "drinking_1.jpg": {
                **base,
                "bb": bb,
                "frames": frames((woman, water, mug), (man, water, mug), (woman, "", "")),
            }
        },
        "dev": {"drinking_2.jpg": {**base, "frames": frames((man, "", "n99999999"), (woman, "", ""), ("", "", ""))}},
        "test": {
            "drinking_3.jpg": {**base, "bb": bb, "frames": frames(*[(woman, water, mug)] * 3)},
            "raining_1.jpg": {**base, "verb": "raining", "frames": [{"place": man}] * 3},
        },
    }
    for part, content in photos.items():
        write_json(root / "SWiG_jsons" / f"{part}.json", content)
        for name in content:
            draw(root / "images_512" / name, (len(name), len(part), 3))
    write_json(root / "SWiG_jsons" / "imsitu_space.json", space)
    return root


def write_stanford40(root: Path) -> Path:
    """Write lists whose lines end in CRLF, and boxes of the training photos."""
    for split, numbers in (("train", (1, 2)), ("test", (3,))):
        names = [f"{action}_{number:03d}.jpg" for action in ("riding_a_horse", "watching_TV") for number in numbers]
        path = root / "ImageSplits" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes("".join(f"{name}\r\n" for name in names).encode())
        for place, name in enumerate(names):
            draw(root / "JPEGImages" / name, (60 * place, 9, len(split)))
            if split == "train":
                box = "<bndbox><xmax>20</xmax><xmin>3</xmin><ymax>30</ymax><ymin>1</ymin></bndbox>"
                xml = root / "XMLAnnotations" / f"{Path(name).stem}.xml"
                xml.parent.mkdir(exist_ok=True)
                xml.write_text(f"<annotation><object><name>person</name>{box}</object></annotation>")
    return root


def write_voc_actions(root: Path) -> Path:
    """Write a photo a split, each with a person who does two things and one who does none."""
    for part in ("train", "val"):
        folder = root / "VOCdevkit" / "VOC2012"
        draw(folder / "JPEGImages" / f"2010_{part}.jpg", (9, len(part), 9))
        people = [({"jumping": 0, "phoning": 1, "ridinghorse": 1, "other": 0}, 3), ({"jumping": 0, "other": 1}, 9)]
        objects = "".join(
            f"<object><bndbox><xmin>{left}</xmin><ymin>2</ymin><xmax>30</xmax><ymax>30</ymax></bndbox><actions>"
            + "".join(f"<{action}>{label}</{action}>" for action, label in actions.items())
            + "</actions></object>"
            for actions, left in people
        )
        for path, text in (
            (folder / "Annotations" / f"2010_{part}.xml", f"<annotation>{objects}</annotation>"),
            (folder / "ImageSets" / "Action" / f"{part}.txt", f"2010_{part} 1\n2010_{part} 2\n"),
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return root
