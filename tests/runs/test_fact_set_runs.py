"""A published set from its own files to a run: trained, resumed, compared, continued."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import fact_archives as archives
import field
import numpy as np
import pytest

from tripletcl.config import FactConfig, change_config, load_config
from tripletcl.data import FactSetSpec, FactTable, read_table
from tripletcl.data.fact_sets import export_fact_set
from tripletcl.errors import UserError
from tripletcl.experiments.tables import load_table
from tripletcl.runs.continue_run import continue_run
from tripletcl.runs.evaluate import evaluate
from tripletcl.runs.stored import FactRun
from tripletcl.runs.train import train


def write_words(folder: Path) -> None:
    """Write word vectors of the archives' words."""
    words = [*field.COLOURS, "lying", "standing", "floor", "person", "dog", "riding", "running", "watching", "motor"]
    words += ["bike", "tv", "ride", "horse", "on", "wear", "next", "to", "traffic", "light"]
    words += [
        "hit",
        "with",
        "tennis",
        "racket",
        "sports",
        "ball",
        "boarding",
        "airplane",
        "sitting",
        "man",
        "has",
        "hat",
    ]
    vectors = np.random.default_rng(0).normal(size=(len(words), field.WIDTH)).round(4)
    lines = [" ".join([word, *map(str, vector)]) for word, vector in zip(words, vectors, strict=True)]
    (folder / "words.txt").write_text("\n".join(lines) + "\n")


def rows(table: FactTable) -> list[tuple[str, str]]:
    return [(table.paths[image].name, str(table.facts[fact])) for image, fact in table.rows.tolist()]


def settings(folder: Path, **table: object) -> FactConfig:
    write_words(folder)
    by = {"tasks": None, "split": "column"} if table["set"] == "lfl" else {"tasks": 2}
    return field.settings(folder, table={"root": str(folder / "set"), **table}, training={"epochs": 1}, **by)


@pytest.mark.usefixtures("own_cache")
def test_a_run_on_the_authors_tasks_is_resumed_and_continued_without_the_set(tmp_path: Path) -> None:
    archives.write_lfl(tmp_path / "set")
    config = settings(tmp_path, set="lfl")
    result = train(config, tmp_path / "run")
    assert result.tasks == ["task 1", "task 2"]
    run = FactRun.open(tmp_path / "run")
    table = run.table()
    assert [[str(table.facts[fact]) for fact in facts] for facts in run.read_tasks()] == [
        ["<person>", "<person, riding, motor bike>"],
        ["<dog, running>", "<person, watching, TV>"],
    ]
    assert rows(table) == rows(load_table(config))
    assert evaluate(tmp_path / "run", 2)["map_tasks"] == pytest.approx(result.matrix[-1])
    (tmp_path / "set").rename(tmp_path / "moved")
    assert train(config, tmp_path / "run").matrix == result.matrix, "the run has its own copy of the table"
    continued = continue_run(tmp_path / "run", field.table(tmp_path, "more", ["red", "green"]))
    assert continued.tasks == ["task 1", "task 2", "task 3"]
    with pytest.raises(UserError, match=r"has learned follow-up tables since"):
        train(config, tmp_path / "run")


@pytest.mark.usefixtures("own_cache")
def test_a_table_of_regions(tmp_path: Path) -> None:
    archives.write_vrd(tmp_path / "set")
    table = load_table(settings(tmp_path, set="vrd", region="union"))
    assert [str(fact) for fact in table.facts] == ["<person, ride, horse>", "<traffic light, next to, person>"]
    assert all(path.is_relative_to(tmp_path / "set") for path in table.paths)
    assert table.boxes is not None


CONFIGS: dict[str, Callable[[Path], Path]] = {
    "lfl_mid_random": partial(archives.write_lfl, images=1),
    "lfl_mid_semantic": partial(archives.write_lfl, images=1, variant="semantic"),
    "lfl_large_random": partial(archives.write_lfl, images=1, scale="large_scale"),
    "lfl_large_semantic": partial(archives.write_lfl, images=1, scale="large_scale", variant="semantic"),
    "vrd": archives.write_vrd,
    "vcoco": archives.write_vcoco,
    "hico_det": archives.write_hico_det,
    "vg_csegg": archives.write_vg150,
}


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("name", CONFIGS)
def test_a_shipped_config_runs_on_an_archive_in_the_published_form(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRIPLETCL_FACTS", str(tmp_path))
    given = load_config(name)
    assert isinstance(given, FactConfig)
    assert isinstance(given.data.table, FactSetSpec)
    CONFIGS[name](tmp_path / Path(given.data.table.root).relative_to(tmp_path).parts[0])
    write_words(tmp_path)
    tiny = field.settings(tmp_path)
    few = ["data.table.min_train=1", "data.table.min_test=1", *(["data.tasks=2"] if given.data.tasks else [])]
    config = change_config(given, few)
    config = config.model_copy(update={"model": tiny.model, "training": tiny.training, "device": "cpu"})
    result = train(config, tmp_path / "run")
    assert result.tasks == ["task 1", "task 2"]
    tasks = FactRun.open(tmp_path / "run").read_tasks()
    assert [len(facts) for facts in tasks] == ([2, 2] if name.startswith("lfl") else [1, 1])


def test_export_and_read_back(tmp_path: Path) -> None:
    archives.write_lfl(tmp_path / "lfl")
    archives.write_vrd(tmp_path / "vrd")
    spec = FactSetSpec("lfl", str(tmp_path / "lfl"))
    for suffix in (".csv", ".parquet"):
        table = export_fact_set(spec, tmp_path / f"out{suffix}")
        again = read_table(tmp_path / f"out{suffix}", tmp_path / "lfl", task_column="task")
        assert (again.images, again.facts, again.groups) == (table.images, table.facts, table.groups)
        assert again.rows.tolist() == table.rows.tolist()
        table = export_fact_set(FactSetSpec("vrd", str(tmp_path / "vrd"), region="union"), tmp_path / f"vrd{suffix}")
        assert table.boxes is not None
        assert read_table(tmp_path / f"vrd{suffix}", tmp_path / "vrd").photos == table.photos
    with pytest.raises(UserError, match=r"has the suffix '.txt'"):
        export_fact_set(spec, tmp_path / "out.txt")
