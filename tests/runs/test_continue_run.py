"""A finished run learns a follow-up table as if it had had it from the start, also without its old photos."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import field
import numpy as np
import pytest
import torch

from tripletcl.compare.write import write_summary
from tripletcl.config import dump_config, load_config
from tripletcl.continual import RunFolder
from tripletcl.data import Fact, FactTable, cache
from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.experiments.inputs import Joined
from tripletcl.mas import importance
from tripletcl.methods import METHODS
from tripletcl.progress import Progress, listening
from tripletcl.runs.adapt import adapt
from tripletcl.runs.continue_run import continue_run
from tripletcl.runs.evaluate import evaluate
from tripletcl.runs.history import adaptations, task_records
from tripletcl.runs.stored import FactRun
from tripletcl.runs.train import train

STAGES = [f"stages/stage-{stage:02d}" for stage in range(3)]


@pytest.fixture
def run(trained: dict[str, Path], tmp_path: Path) -> Path:
    """A finished run under MAS, to be changed."""
    return Path(shutil.copytree(trained["mas"], tmp_path / "run"))


# --- a follow-up table ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "data"),
    [
        (field.MAS, {}),
        (field.ANALYTIC, {}),
        ([{"name": "mas", "lam": 1}, {"name": "lwf"}], {"cache_features": False, "importance": "both"}),
    ],
    ids=["mas", "analytic", "mas+lwf from images"],
)
def test_a_continued_run_equals_one_that_had_the_table_from_the_start(
    place: Path, tmp_path: Path, method: object, data: dict[str, object]
) -> None:
    train(field.settings(place, method, **data), tmp_path / "run")
    before = field.contents(tmp_path / "run", *STAGES)
    continued = continue_run(tmp_path / "run", place / "more.csv")
    whole = train(field.settings(place, method, further=[str(place / "more.csv")], **data), tmp_path / "whole")
    assert field.models(tmp_path / "run") == field.models(tmp_path / "whole")
    assert field.contents(tmp_path / "run", *STAGES) == before
    assert len(field.models(tmp_path / "run")) == 4
    for matrix in (continued.matrix, continued.map_matrix_all):
        assert [len(row) for row in matrix] == [3, 3, 3, 3]
        assert [row[2] for row in matrix[:3]] == [None, None, None]
    assert continued.matrix[3] == pytest.approx(whole.matrix[3], abs=1e-5)
    assert [row[:2] for row in continued.matrix] == [pytest.approx(row[:2], abs=1e-5) for row in whole.matrix]
    assert dict(continued.ap) == pytest.approx(dict(whole.ap), abs=1e-5)
    assert continued.forgetting == pytest.approx(whole.forgetting, abs=1e-5)
    assert evaluate(tmp_path / "run")["map_tasks"] == pytest.approx(whole.scores, abs=1e-5)


def test_no_old_image_is_decoded(place: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRIPLETCL_CACHE", str(shutil.copytree(place / "cache", run.parent / "cache")))
    decoded: list[str] = []
    whole = cache.decode_parts
    monkeypatch.setattr(
        cache, "decode_parts", lambda raw, size, boxes, name: decoded.append(name) or whole(raw, size, boxes, name)
    )
    new = field.table(run.parent, "new", ["cyan"])
    result = continue_run(run, new)
    assert sorted(decoded) == sorted(str(path) for path in (run.parent / "new").iterdir())
    assert None not in result.matrix[3]


def test_a_follow_up_table_is_read_in_the_words_that_the_run_knows(run: Path) -> None:
    table = field.table(run.parent, "new", ["red", "cyan"])
    table.write_text(table.read_text().replace("red,lying", "Red,lies"))
    result = continue_run(run, table)
    facts = FactRun.open(run).table().facts
    assert [str(fact) for fact in facts if fact.subject in ("red", "Red")] == ["<red, lying>"]
    assert continue_run(run, table) == result, "it was learned again"


def test_old_photos_and_tables_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """First one fact's test photos are missing, then the whole folder and every cache."""
    monkeypatch.setenv("TRIPLETCL_CACHE", str(tmp_path / "cache"))
    old = tmp_path / "old"
    old.mkdir()
    train(field.settings(field.workplace(old)), tmp_path / "run")
    shutil.copy(old / "words.txt", tmp_path)
    first = continue_run(tmp_path / "run", field.table(tmp_path, "more", ["purple", "red"]))
    for number in range(6, 9):
        (old / "base" / f"green-{number}.png").unlink()
    second = continue_run(tmp_path / "run", field.table(tmp_path, "later", ["cyan"]))
    assert "3 of 21 test images are left out of the figures: their photos are missing" in caplog.text
    assert second.matrix[4][0] is None  # its other fact is on every image that is left of it
    assert None not in second.matrix[4][1:]
    assert len(second.ap) == len(first.ap)  # cyan has come, green has gone
    caplog.clear()
    shutil.rmtree(old / "base")
    (old / "base.csv").unlink()
    shutil.rmtree(tmp_path / "cache")
    third = continue_run(tmp_path / "run", field.table(tmp_path, "last", ["purple", "blue"]))
    assert "12 of 27 test images are left out" in caplog.text
    assert third.matrix[5][:2] == [None, None]
    assert None not in third.matrix[5][2:]
    assert third.backward_transfer is not None
    assert evaluate(tmp_path / "run")["map_tasks"] == pytest.approx(third.scores, abs=1e-5)
    page = write_summary([tmp_path / "run"], tmp_path / "page.html").read_text()
    assert ">\N{EN DASH}</td>" in page
    assert [task.map_now for task in task_records(tmp_path / "run")][:2] == [None, None]
    assert task_records(tmp_path / "run")[0].facts  # from what the run stores
    assert task_records(tmp_path / "run")[0].images == 12


def test_features_of_a_frozen_trunk_are_cached_so_that_old_facts_are_scored_without_photos(
    place: Path, trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Path(shutil.copytree(trained["analytic"], tmp_path / "run"))
    again = Path(shutil.copytree(trained["analytic"], tmp_path / "again"))
    scored = continue_run(run, place / "more.csv")
    assert scored == FactRun.open(run).result, "the figures returned are those stored"
    for name in ("base", "base.csv"):
        (place / name).rename(place / f"away-{name}")
    monkeypatch.setenv("TRIPLETCL_CACHE", str(tmp_path / "cache"))
    try:
        assert continue_run(again, place / "more.csv").matrix[3] == pytest.approx(scored.matrix[3], abs=1e-6)
    finally:
        for name in ("base", "base.csv"):
            (place / f"away-{name}").rename(place / name)


def test_the_same_command_again_learns_nothing(place: Path, run: Path, caplog: pytest.LogCaptureFixture) -> None:
    continue_run(run, place / "more.csv")
    before = field.contents(run, "")
    with caplog.at_level(logging.INFO, "tripletcl"):
        continue_run(run, place / "more.csv")
        continue_run(run, place / "base.csv")
    continue_run(run)
    assert field.contents(run, "") == before
    assert caplog.text.count("it is not learned again") == 2
    with pytest.raises(
        UserError, match="has learned follow-up tables since; continue it with `tripletcl train --continue"
    ):
        train(field.settings(place), run)


def test_a_new_task_may_have_its_own_training_also_after_an_interruption(place: Path, run: Path) -> None:
    def lines(kind: str) -> list[dict[str, object]]:
        return [
            line for line in map(json.loads, (run / "metrics.jsonl").read_text().splitlines()) if line["kind"] == kind
        ]

    with pytest.raises(KeyboardInterrupt), listening(_stop):
        continue_run(run, place / "more.csv", ["training.epochs=3"])
    assert not (run / "result.json").exists()
    continue_run(run, place / "more.csv", ["training.epochs=1", "training.lr=0.001"])
    assert lines("stage")[-1]["epoch"] == 1
    assert [line["epoch"] for line in lines("stage")[1:3]] == [2, 2]
    with pytest.raises(UserError, match=r"can only change training\.key=value, not loss\.temperature=1"):
        continue_run(run, place / "more.csv", ["loss.temperature=1"])


def _stop(progress: Progress) -> None:
    if progress.loss is not None:  # a training step
        raise KeyboardInterrupt


def test_a_bad_table_leaves_the_run_unchanged(place: Path, run: Path, tmp_path: Path) -> None:
    before = field.contents(run, "stages", "checkpoints", "config.yaml", "result.json", "metrics.jsonl")
    field.table(tmp_path, "bad", ["cyan"])
    (tmp_path / "bad" / "cyan-1.png").write_text("no image")
    field.table(tmp_path, "tests", ["cyan"], train=0)
    for name, words in (("bad", "1 of 9 images cannot be decoded"), ("tests", "task 3 has no training images")):
        with pytest.raises(UserError, match=words):
            continue_run(run, tmp_path / f"{name}.csv")
    with pytest.raises(UserError, match=r"missing\.csv cannot be read"):
        continue_run(run, tmp_path / "missing.csv")
    assert field.contents(run, "stages", "checkpoints", "config.yaml", "result.json", "metrics.jsonl") == before
    continue_run(run)
    assert field.contents(run, "stages", "checkpoints", "config.yaml", "result.json", "metrics.jsonl") == before
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(UserError, match="has no intact checkpoint to continue from"):
        continue_run(run, place / "more.csv")
    assert field.contents(run, "stages", "result.json").items() <= before.items()


def test_joint_training_cannot_be_continued(place: Path, tmp_path: Path) -> None:
    train(field.settings(place, "joint", {"epochs": 1}), tmp_path / "run")
    with pytest.raises(UserError, match="was trained on all tasks at once"):
        continue_run(tmp_path / "run", place / "more.csv")
    assert [task.name for task in task_records(tmp_path / "run")] == ["task 1", "task 2"]


def test_an_automatic_weight_needs_held_out_images_of_the_new_table(place: Path, tmp_path: Path) -> None:
    field.table(tmp_path, "many", ["purple", "cyan"], train=18)
    auto = field.settings(place, {"name": "mas", "lam": "auto"}, {"epochs": 1}, validation=0.4, tasks=1)
    train(auto.model_copy(update={"stability": type(auto.stability)(attempts=1)}), tmp_path / "run")
    with pytest.raises(UserError, match="task 2 has 5 of them; at least 10 are needed"):
        continue_run(tmp_path / "run", place / "more.csv")
    assert continue_run(tmp_path / "run", tmp_path / "many.csv").lams[-1] is not None


def test_a_run_of_an_early_format_is_continued(place: Path, run: Path, tmp_path: Path) -> None:
    """It has no stored table, no stored texts, no time in its metrics and no follow-up tables in its settings."""
    settings = field.settings(place)
    values = json.loads(settings.model_dump_json())
    del values["data"]["further"]
    (run / "config.yaml").write_text(json.dumps(values))  # JSON is YAML
    for name in ("tables", "kept"):
        shutil.rmtree(run / name)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    old = [{key: value for key, value in line.items() if key not in ("time", "items", "sha256")} for line in lines]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in old))
    assert [task.images for task in task_records(run)] == [12, 12]
    assert all(task.learned.startswith("20") for task in task_records(run))
    assert train(settings, run) == FactRun.open(run).result
    whole = Path(shutil.copytree(run, tmp_path / "whole"))
    continue_run(run, place / "more.csv")
    rows = (place / "base.csv").read_text()
    try:  # the table has grown, and its facts would be partitioned in another way
        (place / "base.csv").write_text(rows + "more/purple-0.png,purple,lying,,train\n")
        with pytest.raises(UserError, match=r"base\.csv has changed since"):
            continue_run(whole, place / "more.csv")
    finally:
        (place / "base.csv").write_text(rows)


# --- importance of a user's own photos ------------------------------------------------------------------------------


def omega_of(run: Path) -> dict[str, torch.Tensor]:
    """Read the method's importance in the latest checkpoint."""
    checkpoint = RunFolder(run).latest()
    assert checkpoint is not None
    return checkpoint[1]["method"]["omega"]


def test_adapting_adds_the_importance_of_the_photos(run: Path, tmp_path: Path) -> None:
    photos = field.photos(tmp_path / "own", "cyan", 7)
    before = omega_of(run)
    (tmp_path / "own" / "broken.jpg").write_text("no image")
    result = adapt(run, tmp_path / "own", weight=0)
    assert (result.images, result.stage) == (7, 2)
    assert result.skipped == [(tmp_path / "own" / "broken.jpg", "not an image, or of a format that Pillow cannot read")]
    assert all(torch.equal(value, before[name]) for name, value in omega_of(run).items())

    embedder = FactEmbedder.from_pretrained(FactRun.open(run).stage_folder())
    pixels = torch.from_numpy(np.stack([embedder.decode(path) for path in photos])).float() / 255
    measured = importance(embedder, [pixels], forward=embedder.image, engine="loop")
    for weight, recompute in ((0.5, False), (2.0, True)):
        before = omega_of(run)
        adapt(run, tmp_path / "own", weight=weight, recompute=recompute)
        after = omega_of(run)
        assert after.keys() == before.keys()
        for name, value in after.items():
            expected = (0 if recompute else before[name]) + weight * measured[name]
            assert (value - expected).abs().max() <= 1e-5 * expected.abs().max() + 1e-12, name
    assert [(event.after, event.images, event.weight, event.recompute) for event in adaptations(run)] == [
        (2, 7, 0, False),
        (2, 7, 0.5, False),
        (2, 7, 2.0, True),
    ]


@pytest.mark.parametrize("method", [field.MAS, {"name": "ewc", "lam": 30}], ids=["mas", "ewc"])
def test_outputs_of_the_photos_adapted_to_move_least(place: Path, tmp_path: Path, method: dict[str, object]) -> None:
    """Adapted to photos of yellow or not, then trained on another task."""
    train(field.settings(place, method), tmp_path / "plain")
    shutil.copytree(tmp_path / "plain", tmp_path / "adapted")
    photos = field.photos(tmp_path / "own", "yellow", 6)
    adapt(tmp_path / "adapted", tmp_path / "own", weight=30)
    moved = []
    for name in ("plain", "adapted"):
        continue_run(tmp_path / name, place / "more.csv")
        stages = [FactEmbedder.from_pretrained(FactRun.open(tmp_path / name).stage_folder(stage)) for stage in (2, 3)]
        before, after = (embedder.encode_images(photos, normalise=False) for embedder in stages)
        moved.append((after - before).square().sum().item() / before.square().sum().item())
    assert 0 < moved[1] < 0.6 * moved[0]


def test_only_methods_that_measure_on_images_adapt(
    trained: dict[str, Path], run: Path, place: Path, tmp_path: Path
) -> None:
    field.photos(tmp_path / "own", "cyan", 1)
    able = [name for name, method in METHODS.items() if method.properties.adaptive]
    assert able == ["mas", "mas_alpha", "ewc", "imm"]
    config = shutil.copytree(run, tmp_path / "finetune") / "config.yaml"
    config.write_text(dump_config(load_config(config, ["method=finetune"])))
    with pytest.raises(UserError, match=r"finetune does not measure .* those that do: .*mas, .*analytic"):
        adapt(config.parent, tmp_path / "own")
    with pytest.raises(UserError, match="weight is -1"):
        adapt(run, tmp_path / "own", weight=-1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="there is no image in"):
        adapt(run, tmp_path / "empty")
    (tmp_path / "empty" / "a.png").write_text("no image")
    with pytest.raises(UserError, match=r"a\.png: not an image"):
        adapt(run, tmp_path / "empty")
    with pytest.raises(KeyboardInterrupt), listening(_stop):
        continue_run(run, place / "more.csv")
    with pytest.raises(UserError, match=r"is not finished; `tripletcl train --continue .*run` finishes it"):
        adapt(run, tmp_path / "own")


# --- history ---------------------------------------------------------------------------------------------------------


def test_the_history_of_a_run(place: Path, run: Path, tmp_path: Path) -> None:
    field.photos(tmp_path / "own", "cyan", 2)
    adapt(run, tmp_path / "own")
    result = continue_run(run, place / "more.csv")
    records = task_records(run)
    assert [(task.number, task.name, task.stage, task.images) for task in records] == [
        (1, "task 1", 1, 12),
        (2, "task 2", 2, 12),
        (3, "more.csv", 3, 12),
    ]
    assert records[2].facts == ("<purple, lying>", "<red, standing, floor>")
    assert len({fact for task in records for fact in task.facts}) == 6
    assert [task.map_then for task in records] == [result.matrix[t + 1][t] for t in range(3)]
    assert [task.map_now for task in records] == result.matrix[-1]
    assert records[2].change == 0
    assert [task.learned for task in records] == sorted(task.learned for task in records)
    assert [event.after for event in adaptations(run)] == [2]
    assert FactRun.open(run).stage_of(FactRun.open(run).fingerprint(1)) == 1
    assert FactRun.open(run).stage_of("nothing") is None


# --- tables as one --------------------------------------------------------------------------------------------------


def test_ids_stay_and_a_photo_in_two_tables_has_the_facts_of_both(tmp_path: Path) -> None:
    dog, cat, bird = Fact("dog"), Fact("cat"), Fact("bird")
    base = FactTable.from_rows(tmp_path, [("a", dog, "train"), ("b", cat, "test"), ("c", dog, "test")])
    more = FactTable.from_rows(tmp_path / "x", [("../b", bird, "test"), ("d", dog, "train"), ("e", bird, "train")])
    both = base.join([more])
    assert both.facts == (dog, cat, bird)
    assert both.images[:3] == base.images
    assert [path.resolve() for path in both.paths[3:]] == [tmp_path / "b", tmp_path / "x/d", tmp_path / "x/e"]
    assert both.rows_of("train", table=0).tolist() == base.rows_of("train").tolist()
    assert both.rows_of("train", table=1).tolist() == [[4, 0], [5, 2]]
    assert both.table_of(np.arange(6)).tolist() == [0, 0, 0, 1, 1, 1]
    relevant = both.relevance("test", np.array([1, 2, 3]), np.arange(3)).toarray().tolist()
    assert relevant == [[False, True, True], [True, False, False], [False, True, True]]
    assert base.join([]) is base


def test_several_sources_are_one() -> None:
    class Numbers:
        def __init__(self, start: int) -> None:
            self.start = start

        def batch(self, ids: np.ndarray, generator: torch.Generator | None, mine: slice = slice(None)) -> torch.Tensor:
            return torch.from_numpy(ids[mine])[:, None] + self.start

    joined = Joined([0, 3, 5], [Numbers(100), Numbers(200), Numbers(300)])
    assert joined.batch(np.array([4, 0, 6, 3, 2]), None)[:, 0].tolist() == [201, 100, 301, 200, 102]
    assert joined.batch(np.array([1, 0]), None)[:, 0].tolist() == [101, 100]


def test_follow_up_tables_may_be_given_by_name_only(place: Path) -> None:
    config = field.settings(place, further=["a.csv", {"table": "b.csv", "training": {"epochs": 7}}])
    assert [entry.table for entry in config.data.further] == ["a.csv", "b.csv"]
    assert config.data.further[1].training.epochs == 7
    assert "taught: null" in dump_config(config)
