"""MIT Indoor 67."""

from __future__ import annotations

from pathlib import Path

from tripletcl.data.sets.archive import existing, located, read_lines
from tripletcl.data.sets.parts import Parts
from tripletcl.errors import UserError


def read_indoor67(root: Path, scratch: Path) -> Parts:
    """Read MIT Indoor 67 (Quattoni and Torralba, "Recognizing indoor scenes", 2009).

    Published at https://web.mit.edu/torralba/www/indoor.html as indoorCVPR_09.tar, TrainImages.txt and TestImages.txt.

    Layout, in root or root/indoorCVPR_09: `Images/CLASS/*.jpg`; `TrainImages.txt` and `TestImages.txt` with
    "CLASS/FILE" a line, about 80 and 20 images a class. Images that neither file names are left out, as in the paper.
    """
    base = located(root, "TrainImages.txt", "indoorCVPR_09")
    lists = [read_lines(base / f"{split}Images.txt") for split in ("Train", "Test")]
    if wrong := [line for lines in lists for line in lines if "/" not in line]:
        raise UserError(f"a list of images in {base} has the line {wrong[0]!r}, which is not of the form CLASS/FILE")
    classes = sorted({line.partition("/")[0] for lines in lists for line in lines})
    positions = {scene: label for label, scene in enumerate(classes)}
    train, test = (
        (existing(base / "Images" / line for line in lines), [positions[line.partition("/")[0]] for line in lines])
        for lines in lists
    )
    return Parts(classes, train, test)
