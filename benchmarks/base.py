"""Measures what a collection knows before it is taught (docs/measured/base.md), without any label.

    TRIPLETCL_DATA=... python benchmarks/base.py --logits runs/logits.npy

Asks the test photographs of TRIPLETCL_DATA/facts for each subject and each object as a word, and prints the MAP by the
form of the score and by what a class is read as. The logits of EfficientNet-Lite0 are computed once.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from timm.data import ImageNetInfo
from torch import Tensor
from torch.nn import functional as F

from tripletcl.data import FactTable, read_table
from tripletcl.embedding import EmbedderSpec, build_embedder
from tripletcl.embedding.text_encoders import build_text_encoder
from tripletcl.evaluation import average_precision


def main() -> None:
    options = parse()
    table = read_table(options.data / "facts" / "facts.csv", absolute=True)
    tests = np.unique(table.rows_of("test")[:, 0]).tolist()
    tests = np.array(sorted(tests, key=lambda image: str(table.paths[image]))[: options.photos])
    logits = compute_logits(table, tests, options.logits)
    words, shown = words_of(table, tests)
    encode = build_text_encoder("minilm").encode
    readings = class_readings(encode)
    texts = {unit: F.normalize(encode(words[unit]), dim=1) for unit in words}
    print_map(logits, texts, shown, readings)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    data = Path(os.environ.get("TRIPLETCL_DATA", "../shared/data"))
    parser.add_argument("--data", type=Path, default=data, help="folder with facts/; default TRIPLETCL_DATA")
    parser.add_argument(
        "--logits", type=Path, default=Path("logits.npy"), help="file of the logits, kept for next time"
    )
    parser.add_argument("--photos", type=int, help="only the first of the test photographs")
    return parser.parse_args()


@torch.no_grad()
def compute_logits(table: FactTable, tests: np.ndarray, path: Path) -> Tensor:
    """`[N, 1000]` of the test photographs, from the file or by the network at 224 px."""
    if path.exists():
        return torch.from_numpy(np.load(path))[: len(tests)]
    spec = EmbedderSpec(image_size=224, freeze_until="all", base="classes")
    embedder = build_embedder(spec, seed=0)
    representation = embedder.represent_images([table.photos[image] for image in tests])
    base = embedder.image.base
    assert base is not None
    logits = F.linear(representation, base.weight, base.bias)
    np.save(path, logits.numpy())
    return logits


def words_of(table: FactTable, tests: np.ndarray) -> tuple[dict[str, list[str]], dict[str, Tensor]]:
    """The words of subjects and objects, and which photographs show them, `[N, words]` bool."""
    relevant = table.relevance("test", tests, np.arange(len(table.facts))).toarray()
    words, shown = {}, {}
    for unit, name in ((0, "subjects"), (2, "objects")):
        words[name] = list(table.units(unit))
        columns = [[fact.units[unit] == word for fact in table.facts] for word in words[name]]
        shown[name] = torch.from_numpy(np.stack([relevant[:, column].any(axis=1) for column in columns], axis=1))
    return words, shown


def class_readings(encode: Callable[[list[str]], Tensor]) -> dict[str, Tensor]:
    """The vectors `[1000, E]` of what a class can be read as."""
    info = ImageNetInfo("imagenet-1k")
    names = [info.index_to_description(number) for number in range(1000)]
    defined = [info.index_to_description(number, detailed=True) for number in range(1000)]
    return {
        "all names": F.normalize(encode(names), dim=1),
        "names and definition": F.normalize(encode(defined), dim=1),
    }


def forms(logits: Tensor) -> Iterator[tuple[str, Tensor, float, float]]:
    """(name, posteriors `[N, 1000]`, power of both factors, sharpness of the words' weights) of each score."""
    yield "sum p w", logits.softmax(1), 1.0, 20.0
    for temperature, sharpness in ((1.0, 20.0), (1.5, 20.0), (2.0, 20.0), (1.5, 30.0), (1.5, 40.0)):
        yield f"sum sqrt(p w), T {temperature:g}, {sharpness:g}", (logits / temperature).softmax(1), 0.5, sharpness


def print_map(logits: Tensor, texts: dict[str, Tensor], shown: dict[str, Tensor], readings: dict[str, Tensor]) -> None:
    print("| score | class is read as | subjects | objects |\n| --- | --- | --- | --- |")
    for form, posteriors, power, sharpness in forms(logits):
        for reading, classes in readings.items():
            figures = []
            for unit, vectors in texts.items():
                weights = (sharpness * vectors @ classes.T).softmax(1)
                scores = posteriors**power @ (weights**power).T  # [N, words]
                answerable = shown[unit].any(dim=0)
                figures.append(float(average_precision(scores[:, answerable], shown[unit][:, answerable]).mean()))
            print(f"| {form} | {reading} | {figures[0]:.3f} | {figures[1]:.3f} |", flush=True)


if __name__ == "__main__":
    main()
