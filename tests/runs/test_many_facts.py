"""The analytic method with more facts than its sums have columns for: it goes on with their text vectors."""

from __future__ import annotations

from pathlib import Path

import field
import numpy as np
import pytest
import torch

from tripletcl.embedding import FactEmbedder
from tripletcl.runs.continue_run import continue_run
from tripletcl.runs.stored import FactRun
from tripletcl.runs.train import train

FEATURES = field.ANALYTIC["features"]


def limit(monkeypatch: pytest.MonkeyPatch, classes: int) -> None:
    monkeypatch.setattr("tripletcl.methods.analytic.SUMS_BYTES", 8 * FEATURES * classes)


def test_vectors_are_those_of_all_columns(
    place: Path,
    trained: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If the limit is passed in the last task, whose facts are then known to the map of the text vectors as well."""
    whole = FactRun.open(trained["analytic"])
    limit(monkeypatch, len(whole.taught()) - 1)
    result = train(field.settings(place, field.ANALYTIC), tmp_path / "run")
    run = FactRun.open(tmp_path / "run")
    assert f"the sums of {len(whole.taught())} classes would take" in caplog.text
    for name in ("images", "facts"):
        torch.testing.assert_close(run.vectors()[name], whole.vectors()[name], atol=1e-4, rtol=0)
    assert result.overall[-1] == pytest.approx(whole.result.map_open[-1], abs=1e-5)
    assert run.taught() == whole.taught()
    assert "closed" not in run.vectors()


def test_it_is_resumed_and_continued(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit(monkeypatch, 1)  # passed in the first task
    settings = field.settings(place, field.ANALYTIC)
    train(settings, tmp_path / "whole")
    save = FactEmbedder.save_pretrained

    def stop_after_the_first_task(embedder: FactEmbedder, folder: Path, *args: object, **options: object) -> None:
        save(embedder, folder, *args, **options)
        if folder.name == "stage-01":
            raise KeyboardInterrupt

    monkeypatch.setattr(FactEmbedder, "save_pretrained", stop_after_the_first_task)
    with pytest.raises(KeyboardInterrupt):
        train(settings, tmp_path / "run")
    monkeypatch.setattr(FactEmbedder, "save_pretrained", save)
    train(settings, tmp_path / "run")
    whole, run = FactRun.open(tmp_path / "whole"), FactRun.open(tmp_path / "run")
    for name, tensor in whole.vectors().items():
        assert torch.equal(tensor, run.vectors()[name]), name
    before = whole.vectors()
    continue_run(tmp_path / "run", place / "more.csv")
    after = run.vectors()
    assert len(run.taught()) > len(whole.taught())
    assert np.isin(before["image_ids"], after["image_ids"]).all()
    assert FactEmbedder.from_pretrained(run.stage_folder()).spec.scored_by == "text"
