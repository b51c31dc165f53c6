"""Searching the photos of a tiny run from the command line: the stage that answers, and what its scores mean."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from tripletcl.cli import main
from tripletcl.config import parse_config
from tripletcl.data import held_out_facts
from tripletcl.embedding import FactEmbedder, TextEmbedder, description
from tripletcl.embedding.word_vectors import WordVectors
from tripletcl.errors import UserError
from tripletcl.report.formatting import fraction
from tripletcl.retrieval import Calibration, FactIndex, answer, parse_request
from tripletcl.runs.calibrate import StageEvaluation, stage_calibration, stage_unseen
from tripletcl.runs.collection import open_collection
from tripletcl.runs.layout import CALIBRATION
from tripletcl.runs.stored import FactRun
from tripletcl.runs.train import train

WIDTH = 16
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 40, 220)}
SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "data": {"table": "base.csv", "tasks": 2, "unseen": 0.1},
    "model": {
        "backbone": "timm/test_efficientnet",
        "weights": "none",
        "text": "words.txt",
        "width": WIDTH,
        "image_size": 32,
    },
    "loss": {"name": "wildcard_cosine"},
    "training": {"epochs": 3, "batch_size": 4, "lr": 0.02, "checkpoint_minutes": 0},
    "method": "finetune",
}
ROWS = [
    (colour, predicate, object_)
    for colour in COLOURS
    for predicate in ("lying", "standing")
    for object_ in ("", "floor")
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of two tasks on photos of colours that lie or stand, with one of twelve facts held out."""
    folder = tmp_path_factory.mktemp("searching")
    write_words(folder / "words.txt")
    lines = ["image,subject,predicate,object,split"]
    for number in range(8):
        for place, (colour, predicate, object_) in enumerate(ROWS):
            image = f"photos/{colour}-{place}-{number}.png"
            write_photo(folder / image, colour, 100 * place + number)
            lines.append(f"{image},{colour},{predicate},{object_},{'train' if number < 3 else 'test'}")
    (folder / "base.csv").write_text("\n".join(lines) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRIPLETCL_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        train(parse_config(SETTINGS, "test"), folder / "run")
        run_command("index", "run", "photos")
        yield folder / "run"


def write_words(path: Path) -> None:
    """Write a vector for each word of the tests."""
    rng = np.random.default_rng(0)
    words = [*COLOURS, "purple", "lying", "standing", "floor"]
    path.write_text("".join(f"{word} {' '.join(f'{x:.4f}' for x in rng.normal(size=WIDTH))}\n" for word in words))


def write_photo(path: Path, colour: str, seed: int) -> None:
    """Write a noisy photo of one colour."""
    path.parent.mkdir(exist_ok=True)
    pixels = np.array(COLOURS[colour]) + np.random.default_rng(seed).normal(0, 45, (32, 32, 3))
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)


def run_command(*arguments: str, code: int = 0) -> tuple[str, str]:
    """Run a command, and return what it prints to stdout and stderr."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["tripletcl", *arguments])
        with pytest.raises(SystemExit) as error:
            main()
    assert (error.value.code or 0) == code, err.getvalue()
    return out.getvalue(), err.getvalue()


def query(*arguments: str) -> dict[str, Any]:
    return json.loads(run_command("query", "run", *arguments, "--json")[0])


# --- query -----------------------------------------------------------------------------------------------------------


def test_the_printed_answer(run: Path) -> None:
    out, _ = run_command("query", "run", "a purple lying", "-k", "2")
    first, note, heading, *hits = out.splitlines()
    assert first == "understood as <purple, lying, ?>"
    assert note.startswith("'purple' was never trained as a subject: answered by the text encoder (nearest known: ")
    assert heading.split() == ["rank", "cosines", "date", "folder", "photo"]
    assert [line.split()[0] for line in hits] == ["1", "2"]
    assert all(Path(line.split()[-1]).is_file() for line in hits)


def test_json_is_the_answer_of_the_library(run: Path) -> None:
    collection = open_collection(run)
    assert collection.newer is None
    assert collection.stage == 2
    for words in (["red", "lying", "?"], ["red", "lying", "?", "-", "?", "?", "floor"], ["red lying + blue standing"]):
        printed = query(*words, "-k", "4")
        request = parse_request(words, collection.embedder.facts)
        hits = answer(collection.index, request, 4, collection.calibration)
        assert printed["query"] == str(request)
        assert [(hit["path"], hit["score"]) for hit in printed["hits"]] == [(str(hit.path), hit.score) for hit in hits]
        assert (printed["stage"], printed["notes"]) == (2, [])
    scores = [hit["score"] for hit in query("red - ? ? floor", "-k", "96")["hits"]]
    assert len(scores) == 96
    assert 0 < scores[-1] < scores[0] < 1


def test_by_example(run: Path) -> None:
    example = str(run.parent / "photos" / "green-4-0.png")
    printed = query("--like", example, "-k", "5")
    assert printed["query"] == f"like {example}"
    assert example not in {hit["path"] for hit in printed["hits"]}
    joined = query("?", "standing", "?", "--like", example, "--unlike", str(run.parent / "photos" / "red-0-0.png"))
    assert joined["query"].count("like ") == 2


def test_words_are_searched_without_the_image_network(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = open_collection(run)
    monkeypatch.setattr("tripletcl.embedding.networks.build_backbone", None)  # not called
    texts = open_collection(run, texts_only=True)
    request = parse_request("red lying - ? ? floor", texts.embedder.facts)
    hits = answer(texts.index, request, 4, texts.calibration)
    assert hits == answer(whole.index, request, 4, whole.calibration)
    assert [hit["path"] for hit in query("red lying - ? ? floor", "-k", "4")["hits"]] == [str(hit.path) for hit in hits]
    with pytest.raises(UserError, match="a model that encodes only texts, so it takes no example photos"):
        answer(texts.index, parse_request(like=[shutil.copy(hits[0].path, tmp_path / "other.png")]))
    known = parse_request(like=[hits[0].path])  # its vectors are in the index
    assert answer(texts.index, known, 4) == answer(whole.index, known, 4)


def test_a_contact_sheet(run: Path, tmp_path: Path) -> None:
    out, _ = run_command("query", "run", "red", "-k", "3", "--sheet", str(tmp_path / "found.png"))
    assert out.endswith(f"contact sheet: {tmp_path / 'found.png'}\n")
    with Image.open(tmp_path / "found.png") as sheet:
        assert sheet.width > sheet.height > 100


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the request is empty"),
        (["?", "?"], "asks for nothing"),
        (["-", "?", "?", "floor"], "only what photos are not to show"),
        (["red", "--stage", "7"], "no model of stage 7"),
        (["red", "--stage", "1"], "leave out --stage"),
        (["red", "--index", "nowhere"], "no index in nowhere"),
        (["--like", "missing.png"], "missing.png"),
        (["red", "--sheet", "found.jpg"], "does not end in .png"),
    ],
)
def test_mistakes_are_one_sentence(run: Path, arguments: list[str], words: str) -> None:
    out, err = run_command("query", "run", *arguments, code=2)
    assert words in err
    assert (out, err.count("\n")) == ("", 1)


def test_texts_that_the_run_has_encoded_are_not_encoded_again(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run_command("describe", "run", "photos/red-0-0.png", "-k", "3")
    encoded: list[str] = []
    encode = WordVectors.encode
    monkeypatch.setattr(WordVectors, "encode", lambda self, texts: (encoded.extend(texts), encode(self, texts))[1])
    assert run_command("describe", "run", "photos/red-0-0.png", "-k", "3") == expected
    assert query("a purple lying")["hits"] != []
    assert encoded == ["purple"]


def test_an_index_is_searched_by_the_stage_that_made_it(run: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    run_command("index", "run", "photos", "--stage", "1", "--out", str(old))
    printed = query("red", "--index", str(old))
    assert printed["stage"] == 1
    assert printed["notes"][0] == "this index is of stage 1, and the run has stage 2: tripletcl index upgrade run"
    assert query("red", "--index", str(old), "--stage", "1")["hits"] == printed["hits"]
    _, err = run_command("query", "run", "red", "--index", str(old), "--stage", "2", code=2)
    for stage in (1, 2):
        assert FactRun.open(run).fingerprint(stage) in err


def test_an_index_of_no_stage_is_refused(run: Path, tmp_path: Path) -> None:
    other = FactIndex()
    other.add(["a.jpg"], np.ones((1, 3, WIDTH)))
    other.replace_vectors(lambda block: block, model="stranger")
    other.save(tmp_path / "other")
    _, err = run_command("query", "run", "red", "--index", str(tmp_path / "other"), code=2)
    latest = FactRun.open(run).fingerprint(2)
    assert f"made by model stranger, which is no stage of run (its latest is {latest})" in err


def test_a_saved_model_without_a_run_answers_too(run: Path) -> None:
    model = str(run / "stages" / "stage-02")
    collection = open_collection(Path(model), run / "index")
    assert (collection.stage, collection.calibration) == (None, None)
    out, _ = run_command("query", model, "red", "-", "?", "?", "floor", "--index", "run/index")
    assert out.split("\n")[1].split() == ["rank", "score", "date", "folder", "photo"]


def test_a_query_scores_as_the_whole_model_does_bit_by_bit(run: Path) -> None:
    """The command reads the text side alone; here the same questions go through the network of the photos' model."""
    index = FactIndex.load(run / "index", FactEmbedder.from_pretrained(run))
    for words in (["red", "lying"], ["?", "standing", "floor"], ["purple", "?", "?"]):
        [slow] = index.search([", ".join(words)], k=5)
        fast = query(*words, "-k", "5")["hits"]
        assert [(Path(hit["path"]), hit["score"]) for hit in fast] == [(hit.path, hit.score) for hit in slow]


HEAVY = {"torch", "torchvision", "timm", "transformers", "sklearn", "gradio", "pandas", "pyarrow", "matplotlib"}


@pytest.mark.parametrize("words", [["red", "lying"], ["purple", "lying", "-", "floor", "--after", "1990"]])
def test_a_query_imports_nothing_heavy(run: Path, words: list[str]) -> None:
    """To import torch alone takes longer than the rest of a query."""
    run_command("query", "run", "red", "-", "floor")  # what scores mean is fitted once
    code = (
        "import sys\nfrom tripletcl.cli import main\nsys.argv[0] = 'tripletcl'\n"
        f"try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\nheavy = {HEAVY} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    command = [sys.executable, "-c", code, "query", "run", *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "understood as" in ended.stdout


@pytest.mark.parametrize("command", [["query", "run", "red"], ["serve", "run", "--port", "0"]])
def test_a_missing_index_is_named_before_torch_is_imported(run: Path, command: list[str]) -> None:
    code = (
        "import sys\nfrom tripletcl.cli import main\nsys.argv[0] = 'tripletcl'\n"
        f"try:\n    main()\nexcept SystemExit as end:\n    assert end.code == 2\nheavy = {HEAVY} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    words = [sys.executable, "-c", code, *command, "--index", "nowhere"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr[:31]) == (0, "tripletcl: no index in nowhere:"), ended.stderr


def test_a_query_hashes_the_text_side_alone(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(description, "sha256", None)
    run_command("query", "run", "red", "lying")
    folder = run / "stages" / "stage-02"
    about, stored = json.loads((folder / "embedder.json").read_text()), load_file(folder / "model.safetensors")
    stored["text.centre"] = stored["text.centre"] + 1
    save_file(stored, tmp_path / "model.safetensors")
    (tmp_path / "embedder.json").write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"model\.safetensors is damaged \(its SHA-256 is not the one in embedder"):
        TextEmbedder.from_pretrained(tmp_path)


def test_a_model_of_an_earlier_version_is_hashed_as_a_whole(run: Path, tmp_path: Path) -> None:
    folder = run / "stages" / "stage-02"
    about = json.loads((folder / "embedder.json").read_text())
    del about["text_sha256"], about["sha256"]
    (tmp_path / "embedder.json").write_text(json.dumps(about))
    shutil.copy(folder / "model.safetensors", tmp_path)
    model = TextEmbedder.from_pretrained(tmp_path)
    expected = TextEmbedder.from_pretrained(folder).encode_units(["red"])
    np.testing.assert_array_equal(model.encode_units(["red"]), expected)
    stored = load_file(folder / "model.safetensors")
    save_file({name: tensor * 2 for name, tensor in stored.items()}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"model\.safetensors is damaged \(its SHA-256 is not the one in embedder"):
        TextEmbedder.from_pretrained(tmp_path)


# --- describe --------------------------------------------------------------------------------------------------------


def test_facts_come_with_probabilities(run: Path) -> None:
    images = ["photos/red-0-7.png", "photos/green-4-7.png"]
    entries = json.loads(run_command("describe", "run", *images, "-k", "4", "--json")[0])
    assert [entry["image"] for entry in entries] == images
    taught_facts = json.loads((run / "stages" / "stage-02" / "embedder.json").read_text())["facts"]
    for entry in entries:
        probabilities = [each["probability"] for each in entry["facts"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert all(0 <= p <= 1 for p in probabilities)
        assert all(each["fact"] in taught_facts for each in entry["facts"])
    out, _ = run_command("describe", "run", images[0], "-k", "1")
    best = entries[0]["facts"][0]
    assert out == f"{fraction(best['probability'])}  <{', '.join(unit for unit in best['fact'] if unit)}>\n"


def test_a_broken_image_among_others_is_named(run: Path) -> None:
    (run.parent / "broken.png").write_bytes(b"no image")
    good, bad = json.loads(run_command("describe", "run", "photos/red-0-0.png", "broken.png", "--json")[0])
    assert "facts" in good
    assert bad["error"].startswith("not an image")
    assert "broken.png: not an image" in run_command("describe", "run", "photos/red-0-0.png", "broken.png")[0]
    assert "broken.png: not an image" in run_command("describe", "run", "broken.png", code=2)[1]


def test_a_model_without_a_run_says_that_its_scores_are_cosines(run: Path) -> None:
    out, _ = run_command("describe", "run/stages/stage-02", "photos/red-0-0.png", "-k", "2")
    assert out.startswith("scores are cosines")
    assert "not been taught any fact" in run_command("describe", "run", "photos/red-0-0.png", "--stage", "0", code=2)[1]


# --- evaluation on the test images -----------------------------------------------------------------------------------


def test_a_calibration_is_fitted_once_and_only_with_the_table(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    opened = FactRun.open(copy)
    file = opened.stage_folder(2) / CALIBRATION
    file.unlink(missing_ok=True)
    calibration = stage_calibration(opened, 2)
    assert calibration is not None
    assert Calibration.load(file, opened.fingerprint(2)) == calibration == stage_calibration(opened, 2)
    assert stage_calibration(opened, 0) is None, "nothing was taught"
    file.write_text(file.read_text().replace(opened.fingerprint(2), opened.fingerprint(1)))
    assert stage_calibration(opened, 2) == calibration, "that of another model does not count"
    file.unlink()
    data = opened.settings.data.model_copy(update={"table": "missing.csv"})
    opened.settings = opened.settings.model_copy(update={"data": data})
    (copy / "tables" / "base.csv").unlink()
    assert stage_calibration(opened, 2) is None


def test_the_labels_of_an_evaluation_are_those_of_the_table(run: Path) -> None:
    opened = FactRun.open(run)
    table, evaluation = opened.table(), StageEvaluation.read(opened, 1)
    assert 0 < len(evaluation.taught_ids) < 11
    for row, image in enumerate(evaluation.vectors["image_ids"].tolist()):
        facts = {table.facts[fact] for of, fact in table.rows_of("test").tolist() if of == image}
        assert {evaluation.facts[fact] for fact in evaluation.relevant[[row]].indices} == facts


def test_a_held_out_fact_is_taught_by_no_task_and_still_found(run: Path) -> None:
    opened = FactRun.open(run)
    table = opened.table()
    (unseen,) = held_out_facts(table, 0.1, 0).tolist()
    groups = opened.read_tasks()
    assert sorted(fact for group in groups for fact in group) == sorted(set(range(12)) - {unseen})
    scores = stage_unseen(opened)
    assert [fact for fact, _ in scores.ap] == [str(table.facts[unseen])]
    assert (scores.unseen, scores.taught) == (1, 11)
    (printed,) = json.loads(run_command("evaluate", "run", "--unseen", "--json")[0])
    assert printed["map_unseen"] == scores.map_unseen
    assert printed["stage"] == 2
    assert f"{fraction(scores.map_unseen)}  {table.facts[unseen]}" in run_command("evaluate", "run", "--unseen")[0]
    assert "choose an earlier stage" in run_command("evaluate", "run", "--unseen", "--stage", "0", code=2)[1]
    result = json.loads((run / "result.json").read_text())
    assert opened.result is not None
    taught_ap = [ap for fact, ap in opened.result.ap if fact != str(table.facts[unseen])]
    assert result["map_all"][-1] == pytest.approx(np.mean(taught_ap)), "MAP over all tasks is that of the taught facts"
