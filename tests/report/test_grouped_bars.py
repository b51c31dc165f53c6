"""The bars of a sequence's tasks: heights and error bars by hand, and no text over another."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from many_methods import METHODS, random_run
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex

from tripletcl.errors import UserError
from tripletcl.report.chart_style import WIDE, method_styles
from tripletcl.report.figures import drops_figure, scores_figure
from tripletcl.report.pictures import figure_uri

TASKS = ("flowers", "scenes")


@pytest.fixture(scope="module")
def runs(make_run):
    """finetune, MAS and joint on two tasks and two seeds."""
    runs = []
    for seed, shift in enumerate((0.0, 0.02)):
        for method, learned, first, last in (("mas", 0.9, 0.88, 0.8), ("finetune", 0.9, 0.7, 0.84)):
            matrix = [[None, None], [learned, None], [first - shift, last]]
            runs.append(make_run(method, matrix, seed=seed, tasks=TASKS, metric="accuracy"))
        matrix = [[None, None], [0.92, 0.86]]
        runs.append(make_run("joint", matrix, seed=seed, tasks=TASKS, metric="accuracy"))
    return runs


@pytest.fixture(scope="module")
def eleven():
    """Eleven methods on eight tasks and three seeds."""
    methods = [method for method in METHODS if method not in ("mas-scopelocal", "mas+lwf")]
    return [random_run(method, split, 8, *METHODS[method]) for split in range(3) for method in methods]


def bars_of(figure, methods: list[str]) -> dict[str, list[float]]:
    """Heights of each method's bars from left to right, identified by their colour."""
    axes = figure.axes[0]
    styles = method_styles(methods)
    return {
        method: [
            bar.get_height()
            for bar in sorted(axes.patches, key=lambda bar: bar.get_x())
            if to_hex(bar.get_edgecolor() if method == "joint" else bar.get_facecolor()) == styles[method].color
        ]
        for method in methods
    }


def test_every_task_and_the_average_have_a_bar_a_method(runs):
    figure = scores_figure(runs)
    bars = bars_of(figure, ["finetune", "mas", "joint"])
    assert bars["finetune"] == pytest.approx([0.69, 0.84, 0.765])
    assert bars["mas"] == pytest.approx([0.87, 0.80, 0.835])
    assert bars["joint"] == pytest.approx([0.92, 0.86, 0.89])
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["flowers", "scenes", "average"]
    numbers = [text.get_text() for text in sorted(axes.texts, key=lambda text: text.xy[0])]
    assert numbers == ["69.0", "87.0", "92.0", "84.0", "80.0", "86.0", "76.5", "83.5", "89.0"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["finetune", "MAS", "joint"]
    assert figure.axes[0].get_ylabel() == "accuracy, %"


def test_drops_leave_the_last_task_and_joint_out(runs):
    figure = drops_figure(runs)
    bars = bars_of(figure, ["finetune", "mas"])
    assert [bars["finetune"], bars["mas"]] == [pytest.approx([0.21]), pytest.approx([0.03])]
    assert len(figure.axes[0].patches) == 2
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["flowers"]  # its average is itself
    assert figure.axes[0].get_ylabel() == "points lost"


def test_error_bars_are_over_runs_and_a_gain_is_below_zero(make_run):
    matrix = [[None] * 3, [0.9, None, None], [0.9, 0.7, None], [0.8, 0.8, 0.5]]
    other = [[None] * 3, [0.9, None, None], [0.9, 0.7, None], [0.6, 0.8, 0.5]]
    two = [make_run("mas", m, seed=s, tasks="abc", metric="accuracy") for s, m in enumerate((matrix, other))]
    axes = drops_figure(two).axes[0]
    assert bars_of(axes.figure, ["mas"])["mas"] == pytest.approx([0.2, -0.1, 0.05])
    spans = [bar.lines[2][0].get_segments()[0][:, 1] for bar in axes.containers if hasattr(bar, "has_yerr")]
    assert spans[0] == pytest.approx([0.2 - 0.02**0.5, 0.2 + 0.02**0.5])  # the deviation of .1 and .3
    assert axes.get_ylim()[0] < -0.1
    one = drops_figure(two[:1])
    assert not [bar for bar in one.axes[0].containers if hasattr(bar, "has_yerr")]


def test_a_method_that_lacks_a_score_has_no_bar(make_run, runs):
    incomplete = make_run("si", [[None, None], [0.9, None], [None, 0.8]], tasks=TASKS, metric="accuracy")
    bars = bars_of(scores_figure([*runs, incomplete]), ["finetune", "mas", "si", "joint"])
    assert bars["si"] == pytest.approx([0.8, 0.8])  # of scenes, and the average of what is known


def test_no_figure_without_tasks_in_sequence(make_run, runs):
    joint = [run for run in runs if run.method == "joint"]
    single = [make_run("mas", [[None], [0.9]], tasks=["flowers"], metric="accuracy")]
    for figure in (scores_figure, drops_figure):
        assert figure(joint) is None
        assert figure(single) is None
        with pytest.raises(UserError, match="flowers → scenes; scenes → flowers"):
            figure([runs[0], replace(runs[1], tasks=["scenes", "flowers"])])


@pytest.mark.parametrize("name", ["$\\frac{", "<script>&\"'", "n" * 300])
def test_any_name_can_be_drawn(runs, name):
    named = [
        replace(run, method=name if run.method == "mas" else run.method, tasks=[name, "b"], metric="MAP")
        for run in runs
    ]
    for figure in (scores_figure(named), drops_figure(named)):
        assert figure_uri(figure).startswith("data:image/svg+xml;base64,")
        assert figure.axes[0].get_xticklabels()[0].get_text()[:8] == name[:8]


@pytest.mark.parametrize("many", [False, True])
def test_no_text_touches_another_or_leaves_the_picture(runs, eleven, many):
    for make_figure in (scores_figure, drops_figure):
        figure = make_figure(eleven if many else runs)
        renderer = FigureCanvasAgg(figure).get_renderer()
        axes = figure.axes[0]
        figure.draw(renderer)
        texts = [*axes.texts, *axes.get_xticklabels(), *figure.legends[0].get_texts(), *figure.texts, axes.yaxis.label]
        boxes = [text.get_window_extent(renderer) for text in texts if text.get_text()]
        assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
        assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in boxes)
        thin = [box.padded(-1.5) for box in boxes]  # letters do not fill their boxes
        assert not any(a.overlaps(b) for a, b in itertools.combinations(thin, 2))
        assert (figure.get_figwidth() > 2 * WIDE) == many


def test_thin_bars_bear_no_numbers_but_those_of_the_average(eleven):
    figure = scores_figure(eleven)
    assert len(figure.axes[0].patches) == 9 * 11
    assert len(figure.axes[0].texts) == 11
    assert {text.get_rotation() for text in figure.axes[0].texts} == {90.0}
