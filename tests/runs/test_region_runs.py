"""A table with boxes to a run: equal to the run on the crops as files, and shown as photos with their boxes."""

from __future__ import annotations

import csv
import io
from base64 import b64decode
from pathlib import Path

import field
import numpy as np
import pytest
from PIL import Image

from tripletcl.compare.write import write_page
from tripletcl.data.images import BOX_COLOUR, Region
from tripletcl.errors import UserError
from tripletcl.report.pictures import thumbnail_uri
from tripletcl.runs.continue_run import continue_run
from tripletcl.runs.evaluate import evaluate
from tripletcl.runs.stored import FactRun
from tripletcl.runs.teach import teach
from tripletcl.runs.train import train
from tripletcl.web.galleries import TestImages
from tripletcl.web.run_view import open_view

PAIRS = (("red", "green"), ("blue", "yellow"))
LEFT, RIGHT = (0, 0, 32, 32), (32, 0, 64, 32)


def tables(folder: Path) -> tuple[Path, Path]:
    """Write photos of two colours side by side with a table of both halves, and the halves as files with another."""
    field.workplace(folder)
    boxed, cut = [], []
    for pair in PAIRS:
        for number in range(9):
            halves = [field.photo(folder / f"cut/{colour}-{number}.png", colour, number) for colour in pair]
            both = Image.new("RGB", (64, 32))
            for half, box in zip(halves, (LEFT, RIGHT), strict=True):
                both.paste(Image.open(half), box)
            both.save(folder / f"{pair[0]}-{number}.png")
            for colour, half, box in zip(pair, halves, (LEFT, RIGHT), strict=True):
                rest = [colour, "lying", "", "test" if number > 5 else "train"]
                boxed.append([f"{pair[0]}-{number}.png", *rest, *box])
                cut.append([half.relative_to(folder), *rest])
    for name, header, rows in (("boxed", [*HEADER, "x1", "y1", "x2", "y2"], boxed), ("cut", HEADER, cut)):
        with (folder / f"{name}.csv").open("w") as file:
            csv.writer(file).writerows([header, *rows])
    return folder / "boxed.csv", folder / "cut.csv"


HEADER = ["image", "subject", "predicate", "object", "split"]


@pytest.mark.usefixtures("own_cache")
def test_a_run_on_boxes_is_the_run_on_their_crops(tmp_path: Path) -> None:
    boxed, cut = tables(tmp_path)
    plain = train(field.settings(tmp_path, table=str(cut)), tmp_path / "plain")
    run = tmp_path / "run"
    result = train(field.settings(tmp_path, table=str(boxed)), run)
    assert result.matrix == plain.matrix
    assert evaluate(run)["map_all"] == pytest.approx(result.final)
    stored = FactRun.open(run).table()
    assert stored.boxes is not None
    assert {stored.boxes[image] for image in stored.rows_of("test")[:, 0]} == {LEFT, RIGHT}

    gallery = TestImages(open_view(FactRun.open(run)))
    assert len(gallery) == 12
    tile = gallery.paths[0]
    assert isinstance(tile, Region)
    assert gallery.number(Path(str(tile))) == 0
    assert np.abs(np.asarray(drawn(tile))[0, 0].astype(int) - BOX_COLOUR).max() < 60, "its frame begins at the corner"
    page = write_page({run: result}, tmp_path / "page.html").read_text()
    assert any(thumbnail_uri(photo) in page for photo in gallery.paths)
    assert not any(thumbnail_uri(Path(photo)) in page for photo in gallery.paths)

    lesson = teach(run, "purple lying", [tile, *field.photos(tmp_path, "purple", 2)], hold_out=False)
    assert lesson.photos == 3
    taught = FactRun.open(run).tables()[-1]
    assert taught.photos[0] == tile
    more = continue_run(run, field.table(tmp_path, "more", ["cyan"]))
    assert more.tasks[-1] == "task 4"


def drawn(photo: Region) -> Image.Image:
    return Image.open(io.BytesIO(b64decode(thumbnail_uri(photo).partition(",")[2])))


@pytest.mark.usefixtures("own_cache")
def test_a_box_outside_its_photo_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    boxed, _ = tables(tmp_path)
    boxed.write_text(boxed.read_text().replace(",32,0,64,32", ",64,0,96,32", 1))
    with pytest.raises(UserError, match=r"1 of 36 images cannot be decoded; .*red-0.png .*: its box .* is outside"):
        train(field.settings(tmp_path, table=str(boxed)), tmp_path / "run")
    assert not (tmp_path / "run" / "stages").exists()
