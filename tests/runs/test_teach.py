"""A fact taught by a handful of photos, exactly or under protection, and undone bit for bit."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import field
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tripletcl.cli import main
from tripletcl.continual import Stability
from tripletcl.data import Fact, cache, images
from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.mas import MAS
from tripletcl.methods import method_name
from tripletcl.progress import Progress, listening
from tripletcl.retrieval import FactIndex, writing
from tripletcl.runs import teach as teaching
from tripletcl.runs.adapt import adapt
from tripletcl.runs.continue_run import continue_run
from tripletcl.runs.evaluate import evaluate
from tripletcl.runs.history import task_records
from tripletcl.runs.stored import FactRun
from tripletcl.runs.teach import teach, undo
from tripletcl.runs.train import train

NEW = Fact("cyan", "lying")
PARTS = ("stages", "checkpoints", "tables", "config.yaml", "result.json", "tasks.json", "metrics.jsonl")


@pytest.fixture(scope="module", autouse=True)
def short_lessons() -> Iterator[None]:
    """Few epochs suffice for photos of one colour."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(teaching, "EPOCHS", (1, 6))
        yield


@pytest.fixture(scope="module")
def picks(place: Path) -> list[Path]:
    """Ten photos of a colour that no table has."""
    return field.photos(place / "picks", "cyan", 10)


@pytest.fixture(params=["analytic", "mas"])
def run(request: pytest.FixtureRequest, trained: dict[str, Path], tmp_path: Path) -> Path:
    """A finished run, to be changed."""
    return Path(shutil.copytree(trained[request.param], tmp_path / "run"))


@pytest.fixture
def exact(trained: dict[str, Path], tmp_path: Path) -> Path:
    """A finished run of the analytic readout, to be changed."""
    return Path(shutil.copytree(trained["analytic"], tmp_path / "exact"))


def test_a_fact_is_learned_from_most_photos_and_measured_on_the_others(
    run: Path, picks: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_text("no image")
    opened: list[str] = []
    whole = images.read_photo
    for module in (images, cache):
        monkeypatch.setattr(module, "read_photo", lambda path: opened.append(str(path)) or whole(path))
    events: list[Progress] = []
    with listening(events.append):
        lesson = teach(run, "cyan lying", [*picks, broken, picks[0]])
    assert opened
    assert not [name for name in opened if "base" in name], "an old photo was read"
    monkeypatch.undo()
    assert (lesson.fact, lesson.stage, lesson.photos, lesson.held_out) == (NEW, 3, 8, 2)
    assert lesson.skipped == [(broken, "not an image, or of a format that Pillow cannot read")]
    assert 0 < lesson.seconds < 60
    trained = any(progress.label == "task 3" and progress.loss is not None for progress in events)
    closed_form = method_name(FactRun.open(run).settings.method) == "analytic"
    assert trained != closed_form, "a closed-form readout has no steps"
    record = task_records(run)[-1]
    assert (record.name, record.facts, record.images) == ("taught: <cyan, lying>", ("<cyan, lying>",), 8)
    scores = evaluate(run)
    assert dict(scores["ap"])["<cyan, lying>"] == pytest.approx(lesson.map_held_out, abs=1e-5)
    assert scores["map_tasks"] == pytest.approx(FactRun.open(run).result.scores, abs=1e-5)
    vectors = FactRun.open(run).vectors()
    assert len(vectors["image_ids"]) == 12 + 2


def test_each_fact_is_the_regression_on_every_photo_up_to_its_lesson(
    exact: Path, place: Path, picks: list[Path]
) -> None:
    """The definition by hand: later photos may show an earlier fact, so they are no evidence against it."""
    teach(exact, NEW, picks)
    teach(exact, Fact("red", "standing"), field.photos(place / "again", "red", 4))
    embedder = FactEmbedder.from_pretrained(FactRun.open(exact).stage_folder())
    order = [fact for group in FactRun.open(exact).read_tasks() for fact in group]
    rows = [line.split(",") for line in (exact / "tables" / "base.csv").read_text().splitlines()[1:]]
    facts = list(dict.fromkeys(Fact(*row[1:4]) for row in rows))
    labels = [(Path(row[0]), facts.index(Fact(*row[1:4]))) for row in rows if row[4] == "train"]
    ends = [len(labels)]
    lesson = FactRun.open(exact).tables()[1]
    labels += [(lesson.paths[image], 4) for image, _ in lesson.rows_of("train").tolist()]
    ends.append(len(labels))
    labels += [(place / "again" / f"red-{number}.png", 5) for number in range(4)]
    ends.append(len(labels))
    phi = embedder.image.analytic.expand(embedder.represent_images([path for path, _ in labels])).double()
    truth = torch.eye(6, dtype=torch.float64)[[fact for _, fact in labels]]
    ridge = 0.15 * torch.eye(phi.shape[1], dtype=torch.float64)
    base, first, second = (torch.linalg.solve(phi[:n].T @ phi[:n] + ridge, phi[:n].T @ truth[:n]) for n in ends)
    expected = torch.cat([base[:, :4], first[:, 4:5], second[:, 5:]], dim=1)[:, order]
    assert embedder.facts == tuple([*facts, NEW, Fact("red", "standing")][i] for i in order)
    weight = embedder.image.analytic.weight.double()
    assert (weight - expected).abs().max() < 3e-3 * expected.abs().max()  # features are kept in half precision


def test_a_lesson_keeps_the_weight_that_was_chosen_last(place: Path, picks: list[Path], tmp_path: Path) -> None:
    """Too few photos are held out of a lesson to choose `lam: auto` on."""
    table = field.table(tmp_path, "wide", ["red", "green", "blue", "yellow"], train=18)
    auto = {"name": "mas", "lam": "auto"}
    for name, tasks in (("two", 2), ("one", 1)):
        config = field.settings(place, auto, {"epochs": 1}, table=str(table), tasks=tasks, validation=0.4)
        config = config.model_copy(update={"stability": Stability(attempts=2, drop=0.0)})
        lams = [lam for lam in train(config, tmp_path / name).lams if lam is not None]
        run = FactRun.open(tmp_path / name)
        assert teach(run.path, NEW, picks).stage == tasks + 1
        expected = lams[-1] if lams else config.stability.lam(MAS(), 1)
        assert run.result.lams[-1] == expected
        assert [m["lam"] for m in run.metrics if m["kind"] == "attempt" and m["stage"] == tasks] == []
        undo(run.path)
        assert teach(run.path, NEW, picks).stage == tasks + 1


def test_a_new_fact_is_found_and_the_old_ones_hardly_change(run: Path, picks: list[Path]) -> None:
    before = FactRun.open(run).result
    lesson = teach(run, NEW, picks)
    after = FactRun.open(run).result
    untaught = FactEmbedder.from_pretrained(FactRun.open(run).stage_folder(2))
    taught = FactEmbedder.from_pretrained(FactRun.open(run).stage_folder(3))
    texts, _ = taught.encode_facts([NEW])
    table = FactRun.open(run).tables()[1]
    held_out = [table.paths[image] for image, _ in table.rows_of("test").tolist()]
    # The mean cosine over the images and the two units that the fact has.
    cosine_before, cosine_after = (
        (model.encode_images(held_out) * texts)[:, :2].sum(dim=2).mean().item() for model in (untaught, taught)
    )
    assert cosine_after > cosine_before + 0.2
    assert lesson.map_held_out is not None
    assert [row[:2] for row in after.matrix[:3]] == before.matrix
    for old, new in zip(before.scores, after.scores[:2], strict=True):
        assert new > old - 0.2  # with a handful of images one change of rank is .1 and more


def test_new_photos_of_a_known_fact_are_learned_and_the_same_photos_are_not(
    run: Path, place: Path, picks: list[Path]
) -> None:
    first = teach(run, NEW, picks)
    files = field.contents(run, "")
    again = teach(run, NEW, picks)
    assert (again.stage, again.map_held_out, again.photos, again.known) == (3, first.map_held_out, 0, 8)
    assert field.contents(run, "") == files
    more = teach(run, NEW, field.photos(place / "few", "cyan", 14)[10:])
    assert (more.stage, more.photos, more.held_out, more.map_held_out) == (4, 4, 0, None)
    assert FactRun.open(run).read_tasks()[2:] == [[4], [4]]
    facts = json.loads((run / "stages" / "stage-04" / "embedder.json").read_text())["facts"]
    assert facts.count(["cyan", "lying", None]) == 1


def test_lessons_are_undone_bit_for_bit(run: Path, place: Path, picks: list[Path]) -> None:
    """Back to the base run, and from there to the same state again."""
    states = [field.contents(run, *PARTS)]
    lessons = [
        (NEW, picks),
        (Fact("red"), field.photos(place / "red", "red", 5)),
        (NEW, field.photos(place / "few", "cyan", 13)[10:]),
    ]
    for fact, photos in lessons:
        teach(run, fact, photos)
        states.append(field.contents(run, *PARTS))
    for expected, (fact, photos) in zip(states[-2::-1], reversed(lessons), strict=True):
        undone = undo(run)
        assert (undone.fact, undone.photos + undone.held_out) == (fact, len(photos))
        assert undone.stage == len([name for name in expected if name.endswith("model.safetensors")]) - 1
        assert field.contents(run, *PARTS) == expected
    with pytest.raises(UserError, match="is no lesson that could be undone"):
        undo(run)
    file = run / "kept" / "test.safetensors"
    assert not file.exists() or len(load_file(file)["representation"]) == 12, "features of the lessons' photos are left"
    teach(run, NEW, picks)
    stage = "stages/stage-03/model.safetensors"
    assert (run / stage).read_bytes() == states[1][stage]


def test_lessons_take_little_space_however_large_the_sums(exact: Path, picks: list[Path]) -> None:
    """The sums are written once: each later checkpoint holds only what is new."""
    for number in range(3):
        teach(exact, NEW, picks[3 * number :][:3])
    sizes = [path.stat().st_size for path in sorted((exact / "checkpoints").iterdir())]
    assert len(sizes) == 4
    assert max(sizes[1:]) < 0.5 * sizes[0]
    undo(exact)
    more = field.table(exact.parent, "more", ["purple"], train=12)
    continue_run(exact, more)
    assert len(list((exact / "checkpoints").iterdir())) == 1


def test_a_table_is_learned_after_a_lesson(run: Path, place: Path, picks: list[Path]) -> None:
    more = field.table(place, "more", ["purple", "red"])
    whole = Path(shutil.copytree(run, run.parent / "whole"))
    teach(run, NEW, picks)
    shutil.copytree(run, run.parent / "again")
    continue_run(run, more)
    continue_run(run.parent / "again", more)
    assert field.models(run) == field.models(run.parent / "again")
    assert not list(whole.glob("tables/further*"))
    with pytest.raises(UserError, match="is no lesson that could"):
        undo(run)


def test_a_single_fact_is_distinguished_from_the_known_ones(place: Path, tmp_path: Path, picks: list[Path]) -> None:
    """A task of one fact has no negatives of its own for a contrastive loss: it learns by those of earlier tasks."""
    settings = field.settings(place)
    train(settings.model_copy(update={"loss": type(settings.loss)(name="contrastive")}), tmp_path / "run")
    teach(tmp_path / "run", NEW, picks)
    stages = [load_file(tmp_path / "run" / f"stages/stage-0{stage}/model.safetensors") for stage in (2, 3)]
    before, after = ({name: each for name, each in stage.items() if "heads" in name} for stage in stages)
    subjects, objects = ([name for name in before if f"heads.{unit}." in name] for unit in (0, 2))
    for name in subjects:  # cyan is new
        assert not torch.equal(before[name], after[name])
    for name in objects:  # the fact has no object
        assert torch.equal(before[name], after[name])


# --- the index -------------------------------------------------------------------------------------------------------


@pytest.fixture
def indexed(exact: Path, place: Path, tmp_path: Path) -> tuple[Path, list[Path]]:
    """A run with an index of its own, and the photos in it."""
    own = [*field.photos(tmp_path / "own", "cyan", 3), *field.photos(tmp_path / "own", "red", 3)]
    with writing(exact / "index", FactEmbedder.from_pretrained(FactRun.open(exact).stage_folder()), stage=2) as index:
        index.add_photos(own)
    return exact, own


def test_the_index_is_updated_exactly_without_its_photos(indexed: tuple[Path, list[Path]], picks: list[Path]) -> None:
    run, own = indexed
    before = FactIndex.load(run / "index").rows()
    contents = [path.read_bytes() for path in own]
    for path in own:
        path.unlink()
    assert teach(run, NEW, picks).index == "brought to stage 3 exactly"
    model = FactEmbedder.from_pretrained(FactRun.open(run).stage_folder())
    index = FactIndex.load(run / "index", model)
    assert index.stage == 3
    assert {hit.path for hit in index.search("cyan lying", 3)} == set(own[:3])
    for path, content in zip(own, contents, strict=True):
        path.write_bytes(content)
    expected = model.encode_images(own).flatten(1).numpy()
    assert np.abs(index.rows() - expected).max() < 1e-5
    assert undo(run).index == "brought to stage 2 exactly"
    assert np.abs(FactIndex.load(run / "index").rows() - before).max() < 1e-6


def test_an_index_of_a_trained_trunk_is_mapped_or_left_and_the_outcome_says_so(
    trained: dict[str, Path], place: Path, tmp_path: Path, picks: list[Path]
) -> None:
    run, elsewhere = Path(shutil.copytree(trained["mas"], tmp_path / "run")), tmp_path / "index"
    own = field.photos(tmp_path / "own", "cyan", 3)
    with writing(elsewhere, FactEmbedder.from_pretrained(FactRun.open(run).stage_folder()), stage=2) as index:
        index.add_photos(own)
    outcome = teach(run, NEW, picks, index=elsewhere).index
    assert outcome is not None
    index = FactIndex.load(elsewhere)
    assert index.stage == (3 if "brought to stage 3" in outcome else 2)
    assert FactRun.open(run).stage_of(index.model) == index.stage
    assert teach(run, NEW, picks[:5]).index is None
    with pytest.raises(UserError, match="no index in"):
        teach(run, NEW, picks[:6], index=tmp_path / "nothing")


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fact", "words"),
    [
        ("? riding", "has a '?'"),
        ("cyan ? floor", "has a '?'"),
        ("a, b, c, d", "4 units, and a fact has three"),
        ("a b c d", "can be read in several ways"),
        (", lying, floor", "has no subject"),
    ],
)
def test_a_fact_has_no_wildcards(exact: Path, picks: list[Path], fact: str, words: str) -> None:
    with pytest.raises(UserError, match=words.replace("?", r"\?")) as error:
        teach(exact, fact, picks)
    assert "\n" not in str(error.value)


def test_photos_are_needed(exact: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no image")
    before = field.contents(exact, "")
    for photos, words in (([], "no photo was given"), ([tmp_path / "a.png"], "not an image")):
        with pytest.raises(UserError, match=words):
            teach(exact, NEW, photos)
    with pytest.raises(UserError, match="nowhere is no run folder"):
        teach(tmp_path / "nowhere", NEW, [tmp_path / "a.png"])
    assert field.contents(exact, "") == before


# --- from the command line -------------------------------------------------------------------------------------------


def test_from_the_command_line(
    trained: dict[str, Path], place: Path, tmp_path: Path, picks: list[Path], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = Path(shutil.copytree(trained["mas"], tmp_path / "run"))
    monkeypatch.setenv("COLUMNS", "200")

    def printed(*arguments: object, code: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["tripletcl", *map(str, arguments)])
        try:
            main()
            exit_code: object = 0
        except SystemExit as error:
            exit_code = error.code or 0
        output = capsys.readouterr()
        assert exit_code == code, output.err
        return output.err if code else output.out

    lesson = json.loads(printed("teach", run, "cyan, lying", place / "picks", "--json"))
    assert (lesson["fact"], lesson["stage"], lesson["photos"], lesson["held_out"]) == (["cyan", "lying", None], 3, 8, 2)
    assert "stage 2 is the latest again" in printed("teach", run, "--undo")
    assert json.loads(printed("adapt", run, "--images", place / "picks", "--weight", 2, "--json"))["images"] == 10
    more = field.table(tmp_path, "more", ["purple", "red"])
    assert len(json.loads(printed("train", "--continue", run, more, "training.epochs=1", "--json"))["tasks"]) == 3
    table = printed("tasks", run)
    assert "more.csv" in table
    assert table.index("task 2") < table.index("adapted") < table.index("more.csv")
    rows = json.loads(printed("tasks", run, "--json"))
    assert [row["name"] for row in rows["tasks"]] == ["task 1", "task 2", "more.csv"]
    assert rows["adaptations"][0]["weight"] == 2
    assert "MAP on one held-out photo" in printed("teach", run, "cyan lying", *picks[:5])
    for arguments, words in (
        (["teach", run], "say what the photos show"),
        (["train"], "name a config to train"),
        (["train", "--continue", run, more, "--out", "x"], "do not go together"),
        (["train", "--continue", tmp_path], "no run folder"),
        (["teach", run, "cyan lying", tmp_path / "nothing.jpg"], "no such file"),
    ):
        assert words in printed(*arguments, code=2)


def test_a_run_is_adapted_before_and_after_a_lesson(
    trained: dict[str, Path], tmp_path: Path, picks: list[Path]
) -> None:
    """Importance measured after a lesson is undone with it; importance measured before stays."""
    run = Path(shutil.copytree(trained["mas"], tmp_path / "run"))
    adapt(run, picks[0].parent)
    before = field.contents(run, *PARTS)
    teach(run, NEW, picks)
    adapt(run, picks[0].parent, weight=3)
    undo(run)
    assert field.contents(run, *PARTS) == before


def test_lessons_do_not_deny_the_older_facts_that_their_photos_show(exact: Path, place: Path) -> None:
    """Ten facts, each taught by photos of a colour that the run knows: the AP of no older fact falls."""
    before = dict(evaluate(exact)["ap"])
    units = [(predicate, thing) for predicate in ("lying", "standing") for thing in (None, "floor")]
    facts = [Fact(subject, *rest) for subject in ("cyan", "purple") for rest in [*units, (None, None)]]
    for number, fact in enumerate(facts):
        colour = ("red", "green", "blue", "yellow")[number % 4]
        photos = [field.photo(place / f"lesson-{number}" / f"{i}.png", colour, 500 + 10 * number + i) for i in range(5)]
        teach(exact, fact, photos, hold_out=False)
    after = dict(evaluate(exact)["ap"])
    assert len(facts) == 10
    assert all(after[fact] > ap - 0.005 for fact, ap in before.items())
