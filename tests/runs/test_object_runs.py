"""Runs on objects: figures of a sequence, resuming, forgetting, evaluation and the commands."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from digits import folders_config, split_config, write_folder
from PIL import Image

from tripletcl.cli import main
from tripletcl.compare.plan import compare, plan
from tripletcl.compare.write import write_summary
from tripletcl.config import ObjectConfig, dump_config, parse_config
from tripletcl.embedding.classifier import Classifier
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.experiments.objects import build_objects
from tripletcl.methods import METHODS
from tripletcl.progress import Progress, listening
from tripletcl.runs.evaluate import evaluate
from tripletcl.runs.kinds import open_run
from tripletcl.runs.stored import FactRun, ObjectRun
from tripletcl.runs.train import train

pytestmark = pytest.mark.usefixtures("own_cache")


def command(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run `tripletcl WORDS`, and return its exit code."""
    monkeypatch.setattr("sys.argv", ["tripletcl", *words])
    with pytest.raises(SystemExit) as error:
        main()
    return int(error.value.code or 0)


def final(folder: Path, stage: int) -> dict[str, torch.Tensor]:
    return Classifier.from_pretrained(folder / "stages" / f"stage-{stage:02d}").state_dict()


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(left[name], right[name]) for name in left)


def test_a_sequence_and_its_figures(mnist: Path, tmp_path: Path) -> None:
    config = split_config(mnist)
    result = train(config, tmp_path / "run")
    assert result.metric == "accuracy"
    assert result.tasks == ["mnist 0/1", "mnist 2/3", "mnist 4/5", "mnist 6/7", "mnist 8/9"]
    for stage, row in enumerate(result.matrix):
        assert [value is not None for value in row] == [task < stage for task in range(5)]
        scores = [value for value in row if value is not None]
        assert result.overall[stage] == (pytest.approx(np.mean(scores)) if scores else None)
    assert min(value for value in result.scores_when_learned if value is not None) > 0.8  # chance is a half
    by_hand = [a - b for a, b in zip(result.scores_when_learned, result.matrix[-1], strict=True)]
    assert result.drops[:-1] == pytest.approx(by_hand[:-1])
    assert train(config, tmp_path / "run") == result  # it is finished
    tasks = json.loads((tmp_path / "run" / "tasks.json").read_text())["tasks"]
    assert [(task["classes"], task["train"], task["test"]) for task in tasks[:2]] == [
        (["0", "1"], 24, 12),
        (["2", "3"], 24, 12),
    ]


def test_accuracy_is_that_of_predictions_one_by_one(mnist: Path, tmp_path: Path) -> None:
    config = split_config(mnist)
    result = train(config, tmp_path / "run")
    classifier = ObjectRun(tmp_path / "run", config).classifier(5)
    built = build_objects(config)
    for part, accuracy in zip(built.object_tasks, result.matrix[-1], strict=True):
        pixels = np.asarray(part.objects.images)
        right = [
            classifier.predict([pixels[item, 0]], part.name)[0].label == part.classes[part.positions[item]]
            for item in part.items(train=False)
        ]
        assert accuracy == pytest.approx(np.mean(right))


def test_lam_0_is_fine_tuning_bit_for_bit(mnist: Path, tmp_path: Path) -> None:
    plain = train(split_config(mnist, tasks=2), tmp_path / "plain")
    for method in ("mas", "ewc", "lwf", "si"):
        weighed = train(split_config(mnist, {"name": method, "lam": 0}, tasks=2), tmp_path / method)
        assert weighed.matrix == plain.matrix
        assert same(final(tmp_path / "plain", 2), final(tmp_path / method, 2)), method


def test_heads_of_old_tasks_are_kept(mnist: Path, tmp_path: Path) -> None:
    for method in ("finetune", "mas"):
        config = split_config(mnist, method, training={"weight_decay": 0.01, "optimizer": "adamw", "lr": 0.003})
        train(config, tmp_path / method)
        then, now = final(tmp_path / method, 1), final(tmp_path / method, 5)
        assert torch.equal(then["layers.0.weight"], now["layers.0.weight"])
        assert not torch.equal(then["trunk.shared.fc1.1.weight"], now["trunk.shared.fc1.1.weight"])


def test_an_interrupted_run_resumes_to_the_same_result(mnist: Path, tmp_path: Path) -> None:
    config = split_config(mnist, "mas", tasks=3, training={"checkpoint_minutes": 0, "head_epochs": 1})
    whole = train(config, tmp_path / "whole")
    for attempt in range(1, 100):
        calls = 0

        def stop(progress: Progress) -> None:
            nonlocal calls
            calls += progress.loss is not None
            if calls >= 4:
                raise KeyboardInterrupt

        try:
            with listening(stop):
                resumed = train(config, tmp_path / "resumed")
            break
        except KeyboardInterrupt:
            torch.manual_seed(attempt)
    assert attempt > 3
    assert resumed.matrix == whole.matrix
    assert same(final(tmp_path / "resumed", 3), final(tmp_path / "whole", 3))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_a_sequence_of_heads(mnist: Path, tmp_path: Path, method: str) -> None:
    settings = {"name": method, "target": "logits"} if method in ("lwf", "ebll") else method
    result = train(split_config(mnist, settings, tasks=2, training={"epochs": 8, "lr": 0.02}), tmp_path)
    assert len(result.matrix) == (2 if method == "joint" else 3)
    first = result.matrix[-1][0]
    assert first is not None
    assert first > 0.4  # five classes: chance is .2


def test_a_shared_head_forgets_and_separate_heads_do_not(mnist: Path, tmp_path: Path) -> None:
    """A fine-tuned shared head answers with the latest digits, whatever the image."""
    epochs = {"training": {"epochs": 8}}
    many = train(split_config(mnist, **epochs), tmp_path / "many")
    one = train(split_config(mnist, data={"heads": "shared"}, **epochs), tmp_path / "one")
    assert one.matrix[0] != [None] * 5  # the head answers from the start
    assert max(one.matrix[-1][:4]) < 0.2  # type: ignore[type-var]
    assert min(many.matrix[-1]) > 0.5  # type: ignore[type-var]
    joint = train(split_config(mnist, "joint", data={"heads": "shared"}, training={"epochs": 20}), tmp_path / "joint")
    assert min(joint.matrix[-1]) > 0.7  # type: ignore[type-var]  # so a shared head can learn all


def test_mas_keeps_what_fine_tuning_forgets(mnist: Path, tmp_path: Path) -> None:
    """Permutations of the pixels conflict: learning one impairs the others."""
    permuted = {"data": {"split": None, "permutations": 3, "heads": "shared"}, "training": {"epochs": 12}}
    plain = train(split_config(mnist, **permuted), tmp_path / "plain")
    protected = train(split_config(mnist, {"name": "mas", "lam": 1}, **permuted), tmp_path / "protected")
    assert plain.forgetting is not None
    assert protected.forgetting is not None
    assert plain.forgetting > 0.05
    assert protected.forgetting < plain.forgetting / 2
    frozen = train(split_config(mnist, "frozen", **permuted), tmp_path / "frozen")
    assert frozen.drops[0] == 0
    assert frozen.overall[-1] < protected.overall[-1]  # type: ignore[operator]


@pytest.mark.parametrize("cached", [False, True])
def test_photographs(tmp_path: Path, cached: bool) -> None:
    roots = [write_folder(tmp_path / name, 3, seed) for seed, name in enumerate(("red", "blue"))]
    data = {"cache_features": True} if cached else {}
    config = folders_config(roots, "mas", data=data, model={"freeze_until": "blocks0"} if cached else {})
    result = train(config, tmp_path / "run")
    assert result.split == "red → blue"
    assert result.tasks == ["red", "blue"]
    scores = evaluate(tmp_path / "run")
    assert scores["accuracy_tasks"] == result.matrix[-1]
    assert scores["average_accuracy"] == pytest.approx(result.overall[-1])
    assert evaluate(tmp_path / "run", 1)["accuracy_tasks"] == result.matrix[1]
    tasks = json.loads((tmp_path / "run" / "tasks.json").read_text())["tasks"]
    assert all(Path(image).exists() for task in tasks for image in task["images"])


def test_sets_that_changed_are_noticed(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "red", 3)
    config = folders_config([root])

    def stop(progress: Progress) -> None:
        if progress.loss is not None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), listening(stop):
        train(config, tmp_path / "run")
    (root / "train" / "class0" / "0.png").unlink()
    with pytest.raises(UserError, match="the sets have changed since"):
        train(config, tmp_path / "run")


def test_a_finished_run_is_that_of_its_sets_wherever_they_lie_now(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "red", 3)
    values = folders_config([root]).model_dump(mode="json") | {"compare": {"methods": ["finetune"]}}
    (planned,) = plan(parse_config(values, "test"), tmp_path)
    config, run = planned.config, planned.folder
    result = train(config, run)
    train(folders_config([write_folder(tmp_path / "other" / "red", 3, seed=1)]), tmp_path / "others")
    with pytest.raises(UserError, match=r"others learned from other rows or images, so their figures do not compare"):
        write_summary([run, tmp_path / "others"], tmp_path / "page.html")

    file = root / "test" / "class1" / "2.png"
    own = file.read_bytes()
    shutil.copy(root / "test" / "class0" / "2.png", file)
    for attempt in (partial(train, config, run), planned.claim):
        with pytest.raises(UserError, match="learned from them: images of red have another content; name another"):
            attempt()
    file.unlink()
    with pytest.raises(UserError, match="red had 9 test images and has 8"):
        train(config, run)
    file.write_bytes(own)
    assert train(config, run) == result
    root.rename(tmp_path / "elsewhere")
    assert train(config, run) == result


def test_a_comparison_and_its_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    roots = [write_folder(tmp_path / name, 3, seed) for seed, name in enumerate(("red", "blue"))]
    values = folders_config(roots).model_dump(mode="json") | {
        "compare": {"methods": ["finetune", "mas"], "orders": "pairs", "jobs": 1, "importance": ["train", "test"]},
        "training": {"epochs": 1, "batch_size": 8},
    }
    file, config = tmp_path / "colours.yaml", parse_config(values, "test")
    file.write_text(dump_config(config))
    for finished in plan(config, tmp_path / "out")[:-1]:  # in this process, which has imported torch
        train(finished.config, finished.folder)
    assert command(monkeypatch, "compare", str(file), "--out", str(tmp_path / "out")) == 0
    printed = capsys.readouterr().out
    assert "red → blue" in printed
    results = compare(config, tmp_path / "out")
    assert [(r.method, r.split) for r in results] == [
        (method, order) for order in ("red → blue", "blue → red") for method in ("finetune", "mas-train", "mas-test")
    ]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "red → blue" in page
    assert "blue → red" in page
    assert command(monkeypatch, "report", str(tmp_path / "out" / "finetune-red-blue-seed0")) == 0
    assert command(monkeypatch, "evaluate", str(tmp_path / "out" / "mas-test-red-blue-seed0")) == 0


def test_photos_are_recognised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder(tmp_path / "red", 3)
    train(folders_config([root], training={"epochs": 12, "lr": 0.02}), tmp_path / "run")
    photos = [str(root / "test" / f"class{number}" / "0.png") for number in range(3)]
    assert command(monkeypatch, "recognise", str(tmp_path / "run"), *photos, "--json") == 0
    entries = json.loads(capsys.readouterr().out)
    experiment = build_objects(folders_config([root]))
    experiment.learner.classifier = ObjectRun(tmp_path / "run", folders_config([root])).classifier()
    tests = experiment.evaluation_sets[0]
    items = [item for item in tests.items if experiment.object_tasks[0].objects.images[item].name == "0.png"]
    inputs = experiment.source.batch(np.array(items), None)
    out = experiment.classifier.logits(experiment.learner.eval().represent(inputs), [0])
    assert [each["label"] for each in entries] == [f"class{number}" for number in out.argmax(dim=1).tolist()]
    assert command(monkeypatch, "recognise", str(tmp_path / "run"), photos[0]) == 0
    assert capsys.readouterr().out.startswith(f"{photos[0]}: {entries[0]['label']} ")


def test_commands_for_facts_refuse_such_a_run(
    mnist: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config: ObjectConfig = split_config(mnist, tasks=2, training={"epochs": 1})
    assert isinstance(train(config, tmp_path / "run"), RunResult)
    assert isinstance(open_run(tmp_path / "run"), ObjectRun)
    with pytest.raises(UserError, match="learned to recognise objects"):
        FactRun.open(tmp_path / "run")
    run, photo = str(tmp_path / "run"), tmp_path / "photo.png"
    Image.new("RGB", (8, 8)).save(photo)
    for words in (
        ["query", run, "dog"],
        ["index", run, str(tmp_path)],
        ["describe", run, str(photo)],
        ["tasks", run],
        ["drift", run],
        ["serve", run],
        ["evaluate", run, "--unseen"],
        ["train", "--continue", run, "more.csv"],
        ["adapt", run, "--images", str(tmp_path)],
        ["teach", run, "dog running", str(photo)],
    ):
        assert command(monkeypatch, *words) == 2, words
        message = capsys.readouterr().err
        assert "objects" in message, message
        assert "Traceback" not in message
