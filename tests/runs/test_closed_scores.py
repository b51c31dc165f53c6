"""Closed scores that are too large to be stored are computed block by block, and give the same figures."""

from __future__ import annotations

from pathlib import Path

import field
import numpy as np
import pytest

from tripletcl.runs.calibrate import stage_calibration, stage_unseen
from tripletcl.runs.stored import FactRun
from tripletcl.runs.train import train


def test_figures_do_not_depend_on_how_closed_scores_are_computed(
    place: Path, trained: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = FactRun.open(trained["analytic"])
    monkeypatch.setattr("tripletcl.experiments.facts.CLOSED_BYTES", 0)
    result = train(field.settings(place, field.ANALYTIC), tmp_path / "run")
    run = FactRun.open(tmp_path / "run")
    assert result.overall == pytest.approx(whole.result.overall, abs=1e-5)
    assert result.map_open == pytest.approx(whole.result.map_open, abs=1e-5)
    assert result.recall == pytest.approx(whole.result.recall, abs=1e-5)
    assert "closed" in whole.vectors()
    assert "closed" not in run.vectors()
    assert "closed" not in run.vectors(1)
    for stage in (1, 2):
        computed, stored = stage_calibration(run, stage), stage_calibration(whole, stage)
        points = np.linspace(-0.2, 9, 50)
        for kind, curve in stored.facts.items():
            assert computed.facts[kind].probability(points) == pytest.approx(curve.probability(points), abs=1e-3)
        assert computed.queries.keys() == stored.queries.keys()
    assert stage_unseen(run).map_taught == pytest.approx(stage_unseen(whole).map_taught, abs=1e-5)
