"""What a page is about: which runs may stand beside a run, and what each knew at a stage."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tripletcl.embedding import FactEmbedder
from tripletcl.errors import UserError
from tripletcl.web.exhibit import ALONE, Exhibit, open_exhibit
from tripletcl.web.shown import load_model


def test_the_other_methods_of_the_comparison_may_stand_beside(runs: Path, exhibit: Exhibit) -> None:
    assert list(exhibit.others) == ["finetune", "joint"]
    assert [shown.label for shown in exhibit.beside("joint")] == ["MAS", "joint"]
    assert [shown.label for shown in exhibit.beside(ALONE)] == ["MAS"]
    chosen = open_exhibit(runs / "finetune-split0-seed0", runs / "joint-split0-seed0")
    assert list(chosen.others) == ["joint", "mas"]


def test_a_stranger_may_not(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="itself"):
        open_exhibit(runs / "mas-split0-seed0", runs / "mas-split0-seed0")
    other = tmp_path / "other"
    other.mkdir()
    for name in ("config.yaml", "result.json", "tasks.json", "stages"):
        (other / name).symlink_to(runs / "joint-split0-seed0" / name)
    settings = (runs / "joint-split0-seed0" / "config.yaml").read_text()
    (other / "config.yaml").unlink()
    (other / "config.yaml").write_text(settings.replace("tasks: 2", "tasks: 3"))
    with pytest.raises(UserError, match="other images or tasks"):
        open_exhibit(runs / "mas-split0-seed0", other)
    with pytest.raises(UserError, match="no run folder"):
        open_exhibit(tmp_path)


def test_joint_training_has_a_stage_before_and_one_after(exhibit: Exhibit) -> None:
    joint = exhibit.others["joint"]
    assert [joint.stage(asked) for asked in (0, 1, 2)] == [0, 1, 1]
    assert [exhibit.main.stage(asked) for asked in (0, 1, 2)] == [0, 1, 2]


def test_known_words_need_no_model_and_are_what_the_model_says(
    exhibit: Exhibit, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = exhibit.main.model(2)
    words = list(stage.words)[:5]
    with monkeypatch.context() as patch:
        patch.setattr("tripletcl.web.shown.load_model", lambda folder: pytest.fail("the model was loaded"))
        quick = stage.encode_units(words)
        facts, present = stage.encode_facts(stage.facts)
    model = FactEmbedder.from_pretrained(exhibit.main.folder(2))
    assert torch.allclose(quick, model.encode_units(words), atol=1e-6)
    slow, there = model.encode_facts(stage.facts)
    assert torch.allclose(facts, slow, atol=1e-6)
    assert present.equal(there)
    assert stage.vocabulary == model.vocabulary
    assert stage.fingerprint() == model.fingerprint()


def test_unknown_words_are_the_models(exhibit: Exhibit) -> None:
    model = FactEmbedder.from_pretrained(exhibit.main.folder(1))
    assert torch.allclose(exhibit.main.model(1).encode_units(["zebra"]), model.encode_units(["zebra"]), atol=1e-6)


def test_models_share_one_text_encoder(exhibit: Exhibit) -> None:
    first, second = (load_model(exhibit.main.folder(stage)) for stage in (1, 2))
    assert first is not second
    assert first.text.encoder is second.text.encoder
    assert load_model(exhibit.main.folder(1)) is first


def test_the_stage_is_told_in_words(exhibit: Exhibit) -> None:
    facts = len(exhibit.main.model(2).facts)
    assert exhibit.stage_sentence(0) == "Before training: nothing is taught yet."
    assert f"{facts} facts taught, 6 of them in task 2" in exhibit.stage_sentence(2)


@pytest.mark.parametrize("key", ["test:9999", "test:-1", "test:../../etc/passwd", "own:0", "", "test", "/etc/passwd"])
def test_a_photo_is_known_by_its_number_alone(exhibit: Exhibit, key: str) -> None:
    with pytest.raises(UserError, match="not there any more"):
        exhibit.photo(key)
