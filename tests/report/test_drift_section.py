"""The report's section on photo indexes after more learning: its numbers are those measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_page import report

from tripletcl.report.drift import comparable, drift_sentence, gallery_figures, upgrade_figures
from tripletcl.report.formatting import MISSING

MAPS = {
    "stale": {"all": 0.3, "old": 0.4, "new": 0.1},
    "mapped": {"all": 0.25, "old": 0.2, "new": 0.35},
    "upgraded": {"all": 0.34, "old": 0.36, "new": 0.3},
    "reembedded": {"all": 0.32, "old": 0.25, "new": 0.5},
}
MATRIX = {"all": [[0.5, 0.2, 0.3], [0.4, 0.45, 0.35], [0.1, 0.3, 0.32]]}


def measured(**changes: Any) -> dict[str, Any]:
    upgrades = [{"from": 1, "to": 3, "map": {}}, {"from": 2, "to": 3, "map": MAPS}]
    return {"stages": [1, 2, 3], "matrix": MATRIX, "upgrades": upgrades, **changes}


def heights(figure: Any) -> list[float]:
    return [bar.get_height() for bar in sorted(figure.axes[0].patches, key=lambda bar: bar.get_x())]


def test_a_sentence_says_what_each_way_is_worth() -> None:
    assert drift_sentence("mas", [measured()]) == (
        "MAS, after one more task: on facts learned since, MAP .10 with a stale index, .30 upgraded, .50 re-embedded; "
        "on facts known to the index .40, .36 and .25."
    )


def test_bars_and_cells_are_the_means_over_runs() -> None:
    more = {way: {group: value + 0.1 for group, value in of.items()} for way, of in MAPS.items()}
    runs = [measured(), measured(upgrades=[{"from": 2, "to": 3, "map": more}])]
    (figure,) = upgrade_figures({"finetune": runs})
    bars = [[MAPS[way][group] + 0.05 for way in ("stale", "upgraded", "reembedded")] for group in ("all", "old", "new")]
    assert heights(figure) == pytest.approx(np.ravel(bars).tolist())
    other = measured(matrix={"all": (np.array(MATRIX["all"]) + 0.1).tolist()})
    (figure,) = gallery_figures({"finetune": [measured(), other]})
    cells = [text.get_text() for text in figure.axes[0].texts]
    assert cells == [f"{value + 0.05:.2f}".removeprefix("0") for row in MATRIX["all"] for value in row]


def test_methods_share_one_scale() -> None:
    weak = measured(matrix={"all": [[0.25] * 3] * 3})
    strong, faint = gallery_figures({"mas": [measured()], "finetune": [weak]})
    opacities = [[patch.get_alpha() for patch in figure.axes[0].patches] for figure in (strong, faint)]
    assert opacities[0][0] == pytest.approx(1.0)
    assert opacities[1][0] == pytest.approx(0.05 + 0.95 * 0.5)
    limits = {figure.axes[0].get_ylim() for figure in upgrade_figures({"mas": [measured()], "finetune": [measured()]})}
    assert len(limits) == 1


def test_what_was_not_measured_is_a_dash() -> None:
    without = {way: {} if way == "upgraded" else of for way, of in MAPS.items()}
    run = measured(upgrades=[{"from": 2, "to": 3, "map": without}])
    assert f"{MISSING} upgraded, .50 re-embedded" in drift_sentence("mas", [run])
    assert len(upgrade_figures({"mas": [run]})) == 1


def test_runs_of_other_stages_are_left_out() -> None:
    shorter = measured(stages=[1, 2], upgrades=[{"from": 1, "to": 2, "map": MAPS}])
    assert comparable([measured(), shorter, measured()]) == [measured(), measured()]


def test_the_page_has_a_section_of_those_measured(tmp_path: Path, six_runs: list) -> None:
    html, page = report(tmp_path, six_runs, drifts={"mas": [measured()], "finetune": [measured()], "<b>": [measured()]})
    assert page.text.index("Photo indexes after more learning") < page.text.index("Best and worst facts")
    assert page.text.index("finetune, after one more task") < page.text.index("MAS, after one more task")
    assert len([image for image in page.all("img") if "Index of stage 2" in (image["alt"] or "")]) == 2
    assert len([image for image in page.all("img") if "queries over indexes" in (image["alt"] or "")]) == 2
    assert "<b>, after" not in html
    assert "Photo indexes" not in report(tmp_path, six_runs)[1].text
