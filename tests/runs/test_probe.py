"""Probes of a run: VSR by relation, SVO-Probes by the unit that is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import fact_archives as archives
import field
import numpy as np
import pytest

from tripletcl.cli.app import app
from tripletcl.data import Fact
from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.runs.probe import probe
from tripletcl.runs.stored import FactRun
from tripletcl.runs.train import train

WORDS = ["girl", "lie", "beach", "dog", "sit", "grass", "bird", "above", "cat", "sink", "inside"]


@pytest.fixture
def run(tmp_path: Path, own_cache: Path) -> Path:
    field.workplace(tmp_path)
    vectors = np.random.default_rng(1).normal(size=(len(WORDS), field.WIDTH)).round(4)
    with (tmp_path / "words.txt").open("a") as file:
        for word, vector in zip(WORDS, vectors, strict=True):
            file.write(" ".join([word, *map(str, vector)]) + "\n")
    train(field.settings(tmp_path, field.ANALYTIC, training={"epochs": 1}), tmp_path / "run")
    return tmp_path / "run"


def test_svo_by_the_unit_that_is_wrong(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = archives.write_svo_probes(tmp_path / "svo")
    result = probe(str(run), "svo", str(root))
    assert {key: result[key] for key in ("facts", "shown", "not_shown")} == {"facts": 2, "shown": 2, "not_shown": 2}
    assert {key for key in result if "/" in key} == {
        f"{metric}/{unit}" for metric in ("accuracy", "auc") for unit in ("subject", "predicate")
    }
    embedder = FactEmbedder.from_pretrained(FactRun.open(run).stage_folder())

    def score(fact: Fact, photo: int) -> float:
        vectors, present = embedder.encode_facts([fact])
        image = embedder.encode_images([root / "images" / f"{photo}.png"])
        return float((image[0] * vectors[0]).sum() / present.sum())

    for fact, unit, shown, other in (
        (Fact("girl", "lie", "beach"), "predicate", 1, 2),
        (Fact("dog", "sit", "grass"), "subject", 3, 4),
    ):
        assert result[f"accuracy/{unit}"] == float(score(fact, shown) > score(fact, other))
    (root / "images" / "4.png").write_bytes(b"no photo")
    assert "accuracy/subject" not in probe(run, "svo", root)
    (root / "images" / "1.png").unlink()
    with pytest.raises(UserError, match="no fact of the probe has both"):
        probe(run, "svo", root)
    with pytest.raises(UserError, match=r"there is no probe 'vrd'; allowed are vsr, vsr_zeroshot, svo"):
        probe(run, "vrd", root)
    with pytest.raises(UserError, match=r"the fact set 'vsr' in .* lacks splits"):
        probe(run, "vsr", root)


def test_vsr_by_relation_from_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = archives.write_vsr(tmp_path / "vsr")
    path = root / "data" / "splits" / "random" / "test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    images = [row["image"] for row in rows]
    both = [row | {"label": label, "image": image} for row in rows for label, image in zip((1, 0), images, strict=True)]
    path.write_text("\n".join(map(json.dumps, both)) + "\n")
    with pytest.raises(SystemExit, match="0"):
        app(["evaluate", str(run), "--probe", "vsr", str(root)])
    shown = capsys.readouterr().out
    assert "probe vsr" in shown
    assert all(row["relation"] in shown for row in rows)
    with pytest.raises(SystemExit, match="0"):
        app(["evaluate", str(run), "--probe", "vsr", str(root), "--json"])
    (result,) = json.loads(capsys.readouterr().out)
    assert result == probe(run, "vsr", root)
    for path in (root / "images").iterdir():
        path.unlink()
    with pytest.raises(UserError, match=r"all \d+ photos of the probe in .* are missing, the first .*jpg"):
        probe(run, "vsr", root)
