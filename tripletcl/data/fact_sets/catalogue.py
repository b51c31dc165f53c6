"""The fact sets that can be read, their addresses and licences, and the files that the root of each must contain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from tripletcl.data.fact_sets.actions import read_stanford40, read_voc_facts
from tripletcl.data.fact_sets.coco import YEARS, read_coco
from tripletcl.data.fact_sets.hico import FORMS, read_hico, read_hico_det
from tripletcl.data.fact_sets.lfl import read_lfl
from tripletcl.data.fact_sets.open_images import read_open_images
from tripletcl.data.fact_sets.probes import read_svo_probes, read_vsr
from tripletcl.data.fact_sets.record import FactRecord
from tripletcl.data.fact_sets.scene_graphs import read_gqa, read_psg
from tripletcl.data.fact_sets.spec import FactSetSpec
from tripletcl.data.fact_sets.swig import read_swig
from tripletcl.data.fact_sets.table import build_table
from tripletcl.data.fact_sets.vcoco import read_vcoco
from tripletcl.data.fact_sets.visual_genome import read_vg150, read_visual_genome
from tripletcl.data.fact_sets.vrd import read_unrel, read_vrd
from tripletcl.data.fact_table import FactTable
from tripletcl.data.sets.archive import MissingFile
from tripletcl.errors import UserError

NAMES_SHOWN = 12
"""Entries of a folder that a message names."""


@dataclass(frozen=True)
class FactSource:
    """A published set: its reader, and what is known of it.

    Attributes:
        read: Called with (root, variant).
        what: What the photos show.
        address: Where the set is published.
        layout: The files that the root must contain.
        licence: The licence of the annotations as stated.
        verified: Which of its published files the reader's form was compared with; "no" for none.
        negatives: What it means that a photo has no row of a fact.
        variants: The values of `FactSetSpec.variant`; the first is the default.
        detected: True if the default is the variant whose files are there.
    """

    read: Callable[[Path, str | None], Iterator[FactRecord]]
    what: str
    address: str
    layout: str
    licence: str
    verified: str
    negatives: str = "not labelled: the photo may show it"
    variants: tuple[str, ...] = ()
    detected: bool = False


FACT_SETS: dict[str, FactSource] = {
    "lfl": FactSource(
        read_lfl,
        "lifelong fact learning: mid-scale (6DS, 186 facts, 4 tasks) and large-scale (165,150 facts, 8 tasks)",
        "https://github.com/Elhoseiny-VisionCAIR-Lab/lifelong_fact_learning",
        "images/ and splits/Ntasks_random/ or splits/Ntasks_semantic/ with Bn_train.csv, Bn_test.csv and Bn_facts.csv",
        "none stated",
        "no",
        variants=("random", "semantic"),
    ),
    "vrd": FactSource(
        read_vrd,
        "Visual Relationship Detection: 5,000 photos, 100 objects, 70 predicates",
        "https://cs.stanford.edu/people/ranjaykrishna/vrd/",
        "annotations_train.json, annotations_test.json, objects.json, predicates.json, sg_train_images/ and "
        "sg_test_images/",
        "individual research use only",
        "yes: all annotations",
    ),
    "unrel": FactSource(
        read_unrel,
        "unusual relations in VRD's words, about 1,000 test photos",
        "https://www.di.ens.fr/willow/research/unrel/",
        "annotations.mat and images/",
        "none found",
        "no",
    ),
    "vcoco": FactSource(
        read_vcoco,
        "V-COCO: 26 actions of persons, 10,346 photos of COCO 2014",
        "https://github.com/s-gupta/v-coco, converted: https://github.com/fredzzhang/vcoco",
        "data/vcoco/vcoco_train.json, vcoco_val.json, vcoco_test.json and data/instances_vcoco_all_2014.json (or "
        "COCO's instances_train2014.json and instances_val2014.json in annotations/), or the converted "
        "instances_vcoco_trainval.json and instances_vcoco_test.json; train2014/ and val2014/",
        "MIT",
        "yes: the original's train and val, the converted files whole",
        "verified for each person and action; not labelled for objects",
        variants=("phrases", "raw"),
    ),
    "hico": FactSource(
        read_hico,
        "HICO: 600 interactions of persons with objects, 47,774 photos",
        "http://websites.umich.edu/~ywchao/hico/",
        "anno.mat, images/train2015/ and images/test2015/",
        "not found",
        "no",
        "verified where the label is -1; the others are ambiguous or not known",
    ),
    "hico_det": FactSource(
        read_hico_det,
        "HICO-DET: the interactions of HICO with the boxes of persons and objects, 47,776 photos",
        "http://websites.umich.edu/~ywchao/hico/, converted: https://github.com/fredzzhang/hicodet",
        "anno_bbox.mat, or the converted instances_train2015.json and instances_test2015.json, or trainval_hico.json "
        "and test_hico.json; images/train2015/ and images/test2015/",
        "not found; MIT for the conversion",
        "the test half of the converted JSON; the other forms: no",
        variants=tuple(FORMS),
        detected=True,
    ),
    "coco": FactSource(
        read_coco,
        "COCO: the objects of 80 categories as facts of one unit",
        "https://cocodataset.org/",
        "annotations/instances_train2017.json and instances_val2017.json, train2017/ and val2017/, or the same of 2014",
        "CC BY 4.0; each photo has its own",
        "a part of val 2017",
        "verified: every photo was searched for all 80 categories",
        variants=YEARS,
        detected=True,
    ),
    "visual_genome": FactSource(
        read_visual_genome,
        "Visual Genome: relations, attributes and objects of 108,077 photos in free words",
        "https://homes.cs.washington.edu/~ranjay/visualgenome/api.html",
        "relationships.json (attributes.json, objects.json), VG_100K/ and VG_100K_2/",
        "CC BY 4.0",
        "five photos of versions 1.0 and 1.2",
        variants=("plain", "alias"),
    ),
    "vg150": FactSource(
        read_vg150,
        "VG150: 150 objects and 50 predicates of Visual Genome; with CSEGG's five tasks of predicates",
        "http://svl.stanford.edu/projects/scene-graph/dataset/, tasks: "
        "https://github.com/ZhangLab-DeepNeuroCogLab/CSEGG",
        "VG-SGG.h5 and VG-SGG-dicts.json (or VG-SGG-with-attri.h5 and VG-SGG-dicts-with-attri.json), image_data.json, "
        "VG_100K/ and VG_100K_2/",
        "CC BY 4.0",
        "the dictionary; the HDF5 file: no",
        variants=("plain", "csegg"),
    ),
    "psg": FactSource(
        read_psg,
        "PSG: 56 predicates between 133 objects and backgrounds, 48,749 photos of COCO 2017",
        "https://github.com/Jingkang50/OpenPSG",
        "psg.json, train2017/ and val2017/",
        "none found",
        "no",
    ),
    "gqa": FactSource(
        read_gqa,
        "GQA: cleaned scene graphs of Visual Genome, with attributes",
        "https://cs.stanford.edu/people/dorarad/gqa/",
        "train_sceneGraphs.json, val_sceneGraphs.json and images/",
        "not found",
        "no",
        variants=("plain", "all"),
    ),
    "open_images": FactSource(
        read_open_images,
        "Open Images: relations between objects, attributes of objects",
        "https://storage.googleapis.com/openimages/web/index.html",
        "oidv6-train-annotations-vrd.csv, the same of validation and test, oidv6-class-descriptions.csv, "
        "oidv6-attributes-description.csv, and train/, validation/, test/ or images/ with the photos",
        "annotations CC BY 4.0, photos CC BY 2.0",
        "the first lines only",
    ),
    "swig": FactSource(
        read_swig,
        "imSitu and SWiG: 504 verbs with who does what to what, 126,000 photos",
        "https://github.com/allenai/swig and https://github.com/my89/imSitu",
        "SWiG_jsons/ with train.json, dev.json, test.json, imsitu_space.json; images_512/ or of500_images_resized/",
        "MIT (SWiG), none stated (imSitu)",
        "no",
    ),
    "stanford40": FactSource(
        read_stanford40,
        "Stanford 40: actions of persons, 9,532 photos",
        "http://vision.stanford.edu/Datasets/40actions.html",
        "JPEGImages/, ImageSplits/train.txt, ImageSplits/test.txt and, for boxes, XMLAnnotations/",
        "none stated",
        "no",
    ),
    "voc_actions": FactSource(
        read_voc_facts,
        "people in PASCAL VOC 2012, 10 actions",
        "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/",
        "ImageSets/Action/, Annotations/ and JPEGImages/",
        "not found",
        "no",
        "verified for each person and action",
    ),
    "vsr": FactSource(
        read_vsr,
        "VSR: 66 spatial relations, shown or verified not to be shown, 6,259 photos of COCO 2017",
        "https://github.com/cambridgeltl/visual-spatial-reasoning",
        "data/splits/random/ or data/splits/zeroshot/ with train.jsonl, dev.jsonl, test.jsonl; COCO's photos in images/"
        " or train2017/ and val2017/",
        "Apache-2.0",
        "yes: all files",
        "verified where the label is 0",
        variants=("random", "zeroshot"),
    ),
    "svo_probes": FactSource(
        read_svo_probes,
        "SVO-Probes: a photo that shows the fact, and one that differs in subject, verb or object; test only",
        "https://github.com/google-deepmind/svo_probes",
        "svo_probes.csv and images/ID.jpg",
        "CC BY 4.0",
        "no",
        "verified: each fact has a photo that differs in one unit",
    ),
}


def read_fact_set(spec: FactSetSpec) -> FactTable:
    """Make a table of facts of a published set, in its published form.

    Args:
        spec: The set, its folder, and what the table is to hold.

    Raises:
        UserError: An unknown set or variant; part of the set is missing (with its address and layout); a file is
            damaged, cut short, or has another form than the published one; or as `build_table`.
    """
    return build_table(read_records(spec), spec)


def read_records(spec: FactSetSpec) -> Iterator[FactRecord]:
    """Read the records of a published set, of which settings only `set`, `root` and `variant` matter.

    Raises:
        UserError: As `read_fact_set`.
    """
    source = _source(spec.set)
    variant = _variant(source, spec)
    try:
        yield from source.read(Path(spec.root), variant)
    except MissingFile as missing:
        raise UserError(_missing(source, spec, missing)) from missing


def _source(name: str) -> FactSource:
    if name in FACT_SETS:
        return FACT_SETS[name]
    close = get_close_matches(name, FACT_SETS, n=2)
    hint = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    raise UserError(f"there is no fact set {name!r}; {hint}allowed are {', '.join(FACT_SETS)}")


def _variant(source: FactSource, spec: FactSetSpec) -> str | None:
    if spec.variant is None:
        return source.variants[0] if source.variants and not source.detected else None
    if spec.variant not in source.variants:
        allowed = f"allowed are {', '.join(source.variants)}" if source.variants else "it has none"
        raise UserError(f"the fact set {spec.set!r} has no variant {spec.variant!r}; {allowed}")
    return spec.variant


def _missing(source: FactSource, spec: FactSetSpec, missing: MissingFile) -> str:
    """The message for a set that is missing, or part of it: what is there instead, and what the root must contain."""
    root = Path(spec.root)
    ways = f"it is published at {source.address}, and the root must contain {source.layout}"
    if not root.is_dir():
        return f"the fact set {spec.set!r} is missing: {root} is not a folder; {ways}"
    entries = sorted(entry.name + "/" * entry.is_dir() for entry in root.iterdir())
    more = f" and {len(entries) - NAMES_SHOWN} more" if len(entries) > NAMES_SHOWN else ""
    held = f"which holds {', '.join(entries[:NAMES_SHOWN])}{more}" if entries else "which is empty"
    return f"the fact set {spec.set!r} in {root}, {held}, lacks {missing}; {ways}"
