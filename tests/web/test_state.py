"""The state of a page: which runs may be shown next to a run, what each knew at a stage, and changes on disk."""

from __future__ import annotations

import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.web import state as state_module
from tripletcl.web.run_view import load_model
from tripletcl.web.state import NO_OTHER, AppState, LiveState, open_state


def test_the_other_methods_of_the_comparison_can_be_shown(runs: Path, state: AppState) -> None:
    assert list(state.others) == ["finetune", "joint"]
    assert [view.label for view in state.methods("joint")] == ["MAS", "joint"]
    assert [view.label for view in state.methods(NO_OTHER)] == ["MAS"]
    given = open_state(runs / "finetune-split0-seed0", runs / "joint-split0-seed0")
    assert list(given.others) == ["joint", "mas"]


def test_a_run_of_other_data_is_refused(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="itself"):
        open_state(runs / "mas-split0-seed0", runs / "mas-split0-seed0")
    other = tmp_path / "other"
    other.mkdir()
    for name in ("config.yaml", "result.json", "tasks.json", "stages"):
        (other / name).symlink_to(runs / "joint-split0-seed0" / name)
    settings = (runs / "joint-split0-seed0" / "config.yaml").read_text()
    (other / "config.yaml").unlink()
    (other / "config.yaml").write_text(settings.replace("tasks: 2", "tasks: 3"))
    with pytest.raises(UserError, match="other images or tasks"):
        open_state(runs / "mas-split0-seed0", other)
    with pytest.raises(UserError, match="no run folder"):
        open_state(tmp_path)


@pytest.mark.parametrize("settings", ["learns: objects\nmethod: mas\n", "method: unheard_of\n"])
def test_a_neighbour_that_learned_no_facts_is_passed_over(runs: Path, tmp_path: Path, settings: str) -> None:
    for run in ("mas-split0-seed0", "joint-split0-seed0"):
        shutil.copytree(runs / run, tmp_path / run)
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "config.yaml").write_text(settings)
    assert list(open_state(tmp_path / "mas-split0-seed0").others) == ["joint"]


def test_joint_training_has_a_stage_before_and_one_after(state: AppState) -> None:
    joint = state.others["joint"]
    assert [joint.stage(shown) for shown in (0, 1, 2)] == [0, 1, 1]
    assert [state.main.stage(shown) for shown in (0, 1, 2)] == [0, 1, 2]


def test_the_text_side_of_a_stage_is_that_of_its_model(state: AppState, monkeypatch: pytest.MonkeyPatch) -> None:
    model = FactEmbedder.from_pretrained(state.main.folder(2))
    monkeypatch.setattr("tripletcl.web.run_view.load_model", lambda folder: pytest.fail("the model was loaded"))
    stage = state.main.model(2)
    words = [*stage.vocabulary[0], "zebra"]
    assert np.array_equal(stage.encode_units(words), model.encode_units(words).numpy())
    assert (stage.facts, stage.fingerprint()) == (model.facts, model.fingerprint())
    assert state.main.model(2) is stage


def test_models_share_one_text_encoder(state: AppState) -> None:
    first, second = (load_model(state.main.folder(stage)) for stage in (1, 2))
    assert first is not second
    assert first.text.encoder is second.text.encoder is state.main.model(2).vectors.encoder
    assert load_model(state.main.folder(1)) is first


def test_a_model_is_loaded_again_when_its_stage_was_saved_again(state: AppState, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(state.main.folder(1), tmp_path / "stage-01"))
    first = load_model(folder)
    (folder / "embedder.json").write_bytes((folder / "embedder.json").read_bytes())
    assert load_model(folder) is not first


def test_the_stage_is_described_in_words(state: AppState) -> None:
    facts = len(state.main.model(2).facts)
    assert state.stage_sentence(0) == "Before training: nothing is taught yet."
    assert f"{facts} facts taught, 6 of them in task 2" in state.stage_sentence(2)


@pytest.mark.parametrize("key", ["test:9999", "test:-1", "test:../../etc/passwd", "own:0", "", "test", "/etc/passwd"])
def test_a_photo_is_known_by_its_number_only(state: AppState, key: str) -> None:
    with pytest.raises(UserError, match="not there any more"):
        state.photo(key)


# --- changes on disk -------------------------------------------------------------------------------------------------


@pytest.fixture
def run(runs: Path, tmp_path: Path) -> Path:
    """A copy of the run by MAS, to be changed."""
    return Path(shutil.copytree(runs / "mas-split0-seed0", tmp_path / "mas"))


def undo_last_stage(run: Path) -> None:
    shutil.rmtree(run / "stages" / "stage-02")


def test_a_run_that_was_changed_elsewhere_is_opened_again(run: Path) -> None:
    live = LiveState(run)
    before = live.current
    assert live.follow() is before
    undo_last_stage(run)
    assert live.follow() is live.current is not before
    assert live.current.main.last == 1
    assert before.main.last == 2, "a state is never changed"
    assert len(live.current.galleries["test"]) == 24


def test_a_run_that_was_removed_is_named(run: Path) -> None:
    live = LiveState(run)
    before = live.current
    shutil.rmtree(run)
    for _ in range(2):
        with pytest.raises(UserError, match=f"^{re.escape(str(run))} .*run"):
            live.follow()
    assert live.current is before


def test_a_run_next_to_it_that_was_changed_is_opened_again(runs: Path, run: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(runs / "joint-split0-seed0", tmp_path / "joint"))
    live = LiveState(run, other)
    assert live.current.others["joint"].result is not None
    (other / "result.json").unlink()
    assert live.follow().others["joint"].result is None


def test_two_visitors_open_a_changed_run_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveState(run)
    calls: list[Path] = []

    def open_slowly(run: Path, *others: Path | None) -> AppState:
        calls.append(run)
        time.sleep(0.2)
        return open_state(run, *others)

    monkeypatch.setattr(state_module, "open_state", open_slowly)
    undo_last_stage(run)
    both = threading.Barrier(2, timeout=30)
    with ThreadPoolExecutor(2) as pool:
        states = list(pool.map(lambda _: (both.wait(), live.follow())[1], range(2)))
    assert calls == [run]
    assert states[0] is states[1] is live.current


def test_a_search_meets_one_state_while_another_is_opened(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a run is opened again, visitors see the former one, whole; then the new one, whole."""
    live = LiveState(run)
    opening, go_on = threading.Event(), threading.Event()

    def open_slowly(run: Path, *others: Path | None) -> AppState:
        opened = open_state(run, *others)
        opening.set()
        go_on.wait(30)
        return opened

    monkeypatch.setattr(state_module, "open_state", open_slowly)
    undo_last_stage(run)
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(live.follow)
        assert opening.wait(30)
        former = live.current
        go_on.set()
        latest = following.result()
    assert (former.main.last, latest.main.last) == (2, 1)
    for state in (former, latest):
        assert state.galleries["test"].facts is state.main.table.facts
