"""A table with labels to a run: what is not known is no negative, and each figure says what its negatives are."""

from __future__ import annotations

from pathlib import Path

import field
import numpy as np
import pytest

from tripletcl.cli.app import app
from tripletcl.compare.write import write_page
from tripletcl.data import FactTable, Query
from tripletcl.data.labels import NOT_SHOWN, SHOWN, UNKNOWN
from tripletcl.evaluation import RunResult
from tripletcl.report.sentences import findings
from tripletcl.retrieval import Request
from tripletcl.retrieval.request import Term
from tripletcl.runs.calibrate import stage_unseen
from tripletcl.runs.continue_run import continue_run
from tripletcl.runs.drift import measure_drift
from tripletcl.runs.evaluate import evaluate
from tripletcl.runs.stored import FactRun
from tripletcl.runs.train import train
from tripletcl.web.galleries import TestImages
from tripletcl.web.run_view import open_view
from tripletcl.web.search import search


def labelled(folder: Path) -> Path:
    """Write the table of four colours; what is red or green was verified to be red, not to be, or is not known."""
    field.workplace(folder)
    header, *lines = (folder / "base.csv").read_text().splitlines()
    rows = [f"{line},1" for line in lines]
    red = next(line for line in lines if "red" in line).split(",")[1:4]
    for line in lines:
        image, colour, *_, split = line.split(",")
        if colour == "green":
            rows.append(",".join([image, *red, split, "0"]))
        elif colour == "blue":
            rows.append(",".join([image, *red, split, ""]))
    path = folder / "labelled.csv"
    path.write_text("\n".join([f"{header},label", *rows]) + "\n")
    return path


@pytest.mark.usefixtures("own_cache")
def test_a_run_with_verified_negatives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = field.settings(tmp_path, table=str(labelled(tmp_path)), tasks=2)
    config = config.model_copy(update={"loss": config.loss.model_copy(update={"name": "contrastive"})})
    run = tmp_path / "run"
    result = train(config, run)
    assert sorted(result.verified) == [(0, 2), (1, 2)]
    stored = FactRun.open(run).result
    assert stored is not None
    verified = zip(stored.ap, stored.verified_facts, strict=True)
    assert [fact for (fact, _), kind in verified if kind] == ["<red, lying>"]
    table = FactRun.open(run).table()
    assert set(table.row_labels.tolist()) == {NOT_SHOWN, UNKNOWN, SHOWN}
    assert evaluate(run)["map_tasks"] == pytest.approx(result.scores)
    assert dict(result.ap)["<red, lying>"] == pytest.approx(ap_of_red(run, table))
    assert stage_unseen(FactRun.open(run)).map_taught == pytest.approx(result.final)

    view = open_view(FactRun.open(run))
    gallery, red = TestImages(view), Query("red", "lying")
    answer = search(gallery, view, view.last, Request((Term(red),)), k=12)
    assert answer is not None
    assert answer.ap == pytest.approx(dict(result.ap)["<red, lying>"])
    rights = {(gallery.paths[tile.number].name.partition("-")[0], tile.right) for tile in answer.tiles}
    assert rights == {("red", True), ("green", False), ("blue", None), ("yellow", None)}
    assert measure_drift(run)["upgrades"][0]["map"]["reembedded"]["all"] == pytest.approx(result.final)

    with pytest.raises(SystemExit, match="0"):
        app(["evaluate", str(run)])
    shown = capsys.readouterr().out
    assert "1 of 2 verified" in shown
    assert "1 of 4 verified" in shown
    assert findings([result])[-1].startswith("Negatives (1 of 4 verified): task 1 ")
    assert "Negatives (1 of 4 verified)" in write_page({run: result}, tmp_path / "page.html").read_text()
    assert RunResult.from_dict(result.to_dict()) == result

    more = continue_run(run, field.table(tmp_path, "more", ["cyan"]))
    assert more.verified[-1] == (0, 1)


def ap_of_red(run: Path, table: FactTable) -> float:
    """AP of red among the photos that are labelled red or not red, by the vectors that the run has stored."""
    vectors = FactRun.open(run).vectors()
    fact = next(number for number, fact in enumerate(table.facts) if fact.subject == "red")
    named = {
        image: label for (image, of), label in zip(table.rows.tolist(), table.row_labels, strict=True) if of == fact
    }
    scores = (vectors["images"] * vectors["facts"][fact]).sum(dim=(1, 2)).tolist()
    known = [
        (score, named[image])
        for image, score in zip(vectors["image_ids"].tolist(), scores, strict=True)
        if named.get(image) in (SHOWN, NOT_SHOWN)
    ]
    precisions = []
    for score, label in known:
        if label == SHOWN:
            above = [other for value, other in known if value >= score]
            precisions.append(above.count(SHOWN) / len(above))
    return float(np.mean(precisions))


def test_findings_say_what_the_negatives_are() -> None:
    run = RunResult("mas", 0, "random-0", ["task 1"], [[0.1], [0.2]], [0.1, 0.2], 1.0, ap=[("<dog>", 0.2)])
    for verified, sentence in (
        ([(0, 3)], "Negatives are photos without the label."),
        ([(3, 3)], "Negatives are verified."),
        ([(1, 3)], "Negatives (1 of 3 verified): task 1 1 of 3 verified."),
    ):
        run.verified[:] = verified
        assert findings([run])[-1] == sentence
