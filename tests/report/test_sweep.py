"""The sweep over lam: the flat range, and what the figure draws, by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tripletcl.errors import UserError
from tripletcl.report.chart_style import method_styles
from tripletcl.report.sweep import flat_range, sweep_figures

LAMS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
MEANS = (0.80, 0.85, 0.893, 0.90, 0.89, 0.85, 0.895)  # flat from 1 to 10; 100 is good again, but no neighbour


@pytest.fixture(scope="module")
def run(make_run):
    def build(method: str, overall: float, first: float | None = 0.8, seed: int = 0, **fields: object):
        matrix = [[None, None], [0.9, None], [first, 0.8]] if method != "joint" else [[None, None], [0.9, 0.9]]
        stages = [None] * (len(matrix) - 1) + [overall]
        return make_run(method, matrix, seed=seed, **{"metric": "accuracy", "overall": stages, **fields})

    return build


@pytest.fixture(scope="module")
def sweep(run):
    """Seven lams, two seeds each, a point apart; the higher lam, the less of the first task is lost."""
    return {
        lam: [
            run("mas", mean + sign * 0.005, first=0.9 - 0.1 / (1 + lam), seed=seed) for seed, sign in ((0, -1), (1, 1))
        ]
        for lam, mean in zip(LAMS, MEANS, strict=True)
    }


@pytest.fixture(scope="module")
def levels(run):
    return {"finetune": [run("finetune", 0.7, first=0.5)], "joint": [run("joint", 0.95)]}


@pytest.mark.parametrize(
    ("means", "expected"),
    [
        (dict(zip(LAMS, MEANS, strict=True)), (1.0, 10.0)),
        ({1: 0.5, 3: 0.9, 10: 0.5}, (3, 3)),
        ({10: 0.5, 1: 0.9, 3: 0.895}, (1, 3)),  # in any order; the best at the edge
        ({0: 0.90, 1: 0.895, 3: 0.892, 10: 0.8}, (0, 3)),
        ({1: 0.9, 3: 0.8, 10: 0.9}, (1, 1)),  # of equal bests the lowest
        ({1: 0.931, 3: 0.941}, (1, 3)),  # .941 - .931 is a bit more than .01 as a float
        ({1: 0.9309, 3: 0.941}, (3, 3)),
        ({5: 0.3}, (5, 5)),
    ],
)
def test_flat_range_by_hand(means, expected):
    assert flat_range(means, 0.01) == expected


def test_flat_range_is_what_trying_every_stretch_finds():
    generator = np.random.default_rng(0)
    for _ in range(200):
        values = sorted(generator.choice(50, generator.integers(1, 9), replace=False).tolist())
        means = dict(zip(values, generator.integers(0, 6, len(values)).tolist(), strict=True))
        best = max(values, key=means.__getitem__)
        stretches = [
            (values[a], values[b])
            for a, b in itertools.combinations_with_replacement(range(len(values)), 2)
            if best in values[a : b + 1] and all(means[best] - means[v] <= 2 for v in values[a : b + 1])
        ]
        assert flat_range(means, 2) == max(stretches, key=lambda ends: values.index(ends[1]) - values.index(ends[0]))


def lines(axes, color: str) -> list:
    return [line for line in axes.lines if line.get_color() == color and len(line.get_xdata()) > 1]


def test_the_line_the_levels_the_band_and_the_flat_range(sweep, levels):
    figures = sweep_figures("mas", sweep, levels)
    upper, lower = (figure.axes[0] for figure in figures)
    styles = method_styles(["finetune", "joint", "mas"])
    (scores,), (drops,) = (lines(axes, styles["mas"].color) for axes in (upper, lower))
    np.testing.assert_allclose(scores.get_xdata(), np.log10(LAMS))
    np.testing.assert_allclose(scores.get_ydata(), MEANS)
    np.testing.assert_allclose(drops.get_ydata(), [0.1 / (1 + lam) for lam in LAMS])
    for method, value in (("finetune", 0.7), ("joint", 0.95)):
        (level,) = lines(upper, styles[method].color)
        assert (level.get_linestyle(), set(level.get_ydata())) == ("--", {value})
    np.testing.assert_allclose(lines(lower, styles["finetune"].color)[0].get_ydata(), 0.4)
    assert not lines(lower, styles["joint"].color)  # it learns no task before another
    band = upper.collections[0].get_paths()[0].vertices
    assert band[:, 1].max() == pytest.approx(0.90 + 0.01 / 2**0.5)
    shaded = upper.patches[0]
    assert np.log10(0.3) < shaded.get_x() < 0.0 < 1.0 < shaded.get_x() + shaded.get_width() < np.log10(30)
    (ring,) = [line for line in upper.lines if line.get_markerfacecolor() == "none"]
    assert (ring.get_xdata()[0], ring.get_ydata()[0]) == pytest.approx((np.log10(3.0), 0.90))
    assert [text.get_text() for text in upper.texts] == ["70.0 finetune", "89.5 MAS", "95.0 joint"]
    assert [text.get_text() for text in lower.texts] == ["0.1 MAS", "40.0 finetune"]
    assert [figure.get_label() for figure in figures] == ["Accuracy over lam: MAS", "Mean drop over lam: MAS"]


def test_lam_zero_is_left_of_the_others_and_a_level_where_finetune_is_none(run, sweep, levels):
    with_zero = {0: [run("mas", 0.72, first=0.5)], **sweep}
    axes = sweep_figures("mas", with_zero, levels)[0].axes[0]
    labels = [tick.get_text() for tick in axes.get_xticklabels()]
    assert labels == ["0", ".1", ".3", "1", "3", "10", "30", "100"]
    color = method_styles(["finetune", "joint", "mas"])["mas"].color
    (full,) = [line for line in lines(axes, color) if line.get_zorder() == 3]
    np.testing.assert_allclose(full.get_xdata(), np.log10(LAMS))
    (faint,) = [line for line in lines(axes, color) if line.get_zorder() != 3]
    np.testing.assert_allclose(faint.get_ydata(), [0.72, MEANS[0]])
    assert faint.get_xdata()[0] < np.log10(0.1)
    texts = [text.get_text() for text in sweep_figures("mas", with_zero, {})[0].axes[0].texts]
    assert texts == ["72.0 lam 0", "89.5 MAS"]


def test_a_sweep_of_one_task_has_no_drop(make_run):
    runs = {lam: [make_run("mas", [[None], [0.9]], metric="accuracy", overall=[None, 0.9])] for lam in (1, 3)}
    assert len(sweep_figures("mas", runs, {})) == 1


def test_a_lam_without_a_drop_has_its_score_and_no_point_in_the_figure_of_drops(run):
    runs = {lam: [run("mas", 0.9)] for lam in (1, 3)} | {10: [run("mas", 0.9, first=None)]}
    scores, drops = (figure.axes[0] for figure in sweep_figures("mas", runs, {}))
    color = method_styles(["mas"])["mas"].color
    assert [len(lines(axes, color)[0].get_xdata()) for axes in (scores, drops)] == [3, 2]


def test_no_label_touches_another_or_leaves_the_figure(run, sweep):
    close = {"finetune": [run("finetune", 0.893, first=0.898)], "joint": [run("joint", 0.8955)]}
    for figure in sweep_figures("mas-scopelocal", {0: [run("mas", 0.8)], **sweep}, close):
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)
        axes = figure.axes[0]
        texts = [*axes.texts, *figure.texts, *axes.get_xticklabels(), axes.xaxis.label]
        boxes = [text.get_window_extent(renderer) for text in texts]
        assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
        assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in boxes)
        thin = [box.padded(-2) for box in boxes]  # letters do not fill their boxes
        assert not any(a.overlaps(b) for a, b in itertools.combinations(thin, 2))


def test_runs_that_cannot_be_drawn_are_refused(run, sweep):
    with pytest.raises(UserError, match="at least one lam"):
        sweep_figures("mas", {}, {})
    with pytest.raises(UserError, match="lam -1"):
        sweep_figures("mas", {-1: sweep[1.0]}, {})
    with pytest.raises(UserError, match="has a score"):
        sweep_figures("mas", {1: [run("mas", None)]}, {})
    with pytest.raises(UserError, match="different sequences"):
        sweep_figures("mas", {1: [run("mas", 0.5)], 3: [run("mas", 0.5, tasks=["b", "a"])]}, {})
    with pytest.raises(UserError, match="at least one value"):
        flat_range({}, 0.01)
