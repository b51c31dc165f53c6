"""FGVC-Aircraft."""

from __future__ import annotations

from pathlib import Path

from tripletcl.data.sets.archive import existing, located, read_lines, read_rows
from tripletcl.data.sets.parts import Parts
from tripletcl.errors import UserError


def read_fgvc_aircraft(root: Path, scratch: Path) -> Parts:
    """Read FGVC-Aircraft (Maji, Kannala, Rahtu, Blaschko and Vedaldi, "Fine-grained visual classification of aircraft",
    arXiv 1306.5151, 2013).

    Published at https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/ as fgvc-aircraft-2013b.tar.gz.

    Layout, in root or root/fgvc-aircraft-2013b: `data/images/NUMBER.jpg`; `data/variants.txt`, a class a line;
    `data/images_variant_trainval.txt` and `data/images_variant_test.txt`, "NUMBER VARIANT" a line, the variant with
    blanks within. Training images are those of trainval.
    """
    data = located(root, "data/variants.txt", "fgvc-aircraft-2013b") / "data"
    classes = read_lines(data / "variants.txt")
    positions = {variant: label for label, variant in enumerate(classes)}

    def part(split: str) -> tuple[list[Path], list[int]]:
        path = data / f"images_variant_{split}.txt"
        rows = read_rows(path, str, str)
        for _, variant in rows:
            if variant not in positions:
                raise UserError(f"{path} names the variant {variant!r}, which variants.txt does not have")
        files = existing(data / "images" / f"{number}.jpg" for number, _ in rows)
        return files, [positions[variant] for _, variant in rows]

    return Parts(classes, part("trainval"), part("test"))
