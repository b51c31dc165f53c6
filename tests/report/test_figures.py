"""The figures have the runs' numbers, and the methods the same colours in all of them."""

from __future__ import annotations

import base64
import io
import itertools
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from tripletcl.errors import UserError
from tripletcl.report.chart_style import method_styles, new_chart
from tripletcl.report.charts import spaced
from tripletcl.report.figures import (
    ap_figure,
    curve_figures,
    final_figure,
    forgetting_figure,
    matrix_figures,
    memory_figure,
    subset_figure,
)
from tripletcl.report.pictures import figure_uri, thumbnail_uri

WORDS = "{http://www.w3.org/2000/svg}text"


def texts(figure) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg_of(figure)).iter(WORDS)]


def svg_of(figure) -> str:
    return base64.b64decode(figure_uri(figure).partition("base64,")[2]).decode()


def rectangles(axes) -> list[float]:
    """Opacities of the filled cells of a heat map, task by task."""
    return [patch.get_alpha() for patch in axes.patches if patch.get_alpha() is not None]


def test_the_package_does_not_load_matplotlib():
    code = "import sys, tripletcl.report; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_matrix_shows_the_mean_over_seeds_on_one_scale(six_runs):
    figures = matrix_figures(six_runs)
    assert list(figures) == ["finetune", "mas", "joint"]
    cells = [text.get_text() for text in figures["mas"].axes[0].texts]
    assert cells == [".10", ".65", ".60", ".10", ".10", ".60"]  # two tasks; stages before, 1, 2
    opacities = rectangles(figures["mas"].axes[0])
    assert opacities[1] == pytest.approx(0.05 + 0.95 * 0.65 / 0.8)  # .8 is the highest of any method
    assert len(rectangles(figures["joint"].axes[0])) == 4


def test_curves_have_a_line_for_each_method(six_runs):
    figure = curve_figures(six_runs)["task 1"]
    assert figure.get_label() == "MAP of task 1"
    styles = method_styles(["finetune", "mas", "joint"])
    lines = {
        line.get_color(): line.get_ydata()
        for line in figure.axes[0].lines
        if line.get_marker() in "osD" and len(line.get_ydata()) > 1
    }
    np.testing.assert_allclose(lines[styles["finetune"].color], [0.7, 0.3])
    np.testing.assert_allclose(lines[styles["mas"].color], [0.65, 0.6])
    assert [text.get_text() for text in figure.axes[0].texts] == [".30 finetune", ".60 MAS", ".70 joint"]


def test_bars_have_the_means_and_their_error_bars(six_runs):
    axes = forgetting_figure(six_runs).axes[0]
    assert [text.get_text() for text in axes.texts] == [".400", ".050"]  # joint forgets nothing and has no bar
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.4, 0.05])
    assert len(axes.containers) == 4  # two bars, two error bars
    assert len(forgetting_figure(six_runs[1:3]).axes[0].containers) == 2
    assert [text.get_text() for text in final_figure(six_runs).axes[0].texts] == [".250", ".370", ".550"]


def test_share_of_facts_that_reach_an_ap(six_runs):
    line = ap_figure(six_runs[1:2]).axes[0].lines[0]
    steps = dict(zip(line.get_xdata(), line.get_ydata(), strict=True))
    assert steps == pytest.approx({0.0: 1.0, 0.2: 2 / 3, 0.4: 1 / 3, 0.6: 0.0})  # the share just right of each AP
    assert ap_figure([replace(six_runs[1], ap=[])]) is None
    many = ap_figure([replace(six_runs[1], ap=[(str(n), n / 50_000) for n in range(50_000)])]).axes[0].lines[0]
    assert len(many.get_xdata()) <= 1001
    assert many.get_xdata()[-1] == pytest.approx(1, abs=1e-4)
    assert many.get_ydata()[[0, -1]].tolist() == [1, 0]


def test_nothing_to_draw_without_forgetting(six_runs):
    assert forgetting_figure(six_runs[:1]) is None


def test_a_method_keeps_its_colour_and_differs_from_the_others(many_runs):
    methods = list(dict.fromkeys(run.method for run in many_runs))
    styles = method_styles(methods)
    assert len({style.color for style in styles.values()}) == len(methods) == 13
    assert method_styles(["mas"])["mas"].color == styles["mas"].color
    assert styles["joint"].dash == "--"
    assert distance(styles.values(), lambda color: color) > 20
    assert distance(styles.values(), inverted) > 20
    twice = method_styles([*methods, *(f"more {i}" for i in range(12))]).values()
    assert len({(style.color, style.marker) for style in twice}) == 25  # a colour comes back with another mark


def inverted(color: np.ndarray) -> np.ndarray:
    """A colour after the style sheet's filter for dark mode: invert(.9) hue-rotate(180deg) brightness(1.15)."""
    turn = np.array([[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]])
    return np.clip(1.15 * np.clip((0.9 - 0.8 * color) @ turn.T, 0, 1), 0, 1)


def distance(styles, seen) -> float:
    """The smallest distance between two colours as seen, in CIELAB (about 2 is just noticeable)."""
    colors = seen(np.array([to_rgb(style.color) for style in styles]))
    linear = np.where(colors <= 0.04045, colors / 12.92, ((colors + 0.055) / 1.055) ** 2.4)
    xyz = linear @ np.array([[0.4339, 0.3762, 0.1899], [0.2126, 0.7152, 0.0722], [0.0177, 0.1095, 0.8727]]).T
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    lab = np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(lab, 2))


def lines_of(figure, methods: list[str], everything: list[str]) -> dict[str, list[float]]:
    """The full-strength line of each method, identified by its colour."""
    styles = method_styles(everything)
    by_color = {
        line.get_color(): line for line in figure.axes[0].lines if len(line.get_ydata()) > 2 and line.get_zorder() == 3
    }
    return {method: list(by_color[styles[method].color].get_ydata()) for method in methods}


def test_memory_by_stage_of_those_that_keep_something(make_run):
    matrix = [[0.1, 0.1, 0.1], *[[0.5, 0.5, 0.5]] * 3]
    memory = {"finetune": [0] * 4, "mas": [0, 8e6, 8e6, 8e6], "ebll": [0, 4e6, 6e6, 8.2e6], "si": []}
    runs = [make_run(m, matrix, method_bytes=k, map_all=0.4 if m == "mas" else 0.3) for m, k in memory.items()]
    runs.append(make_run("joint", matrix[:2], method_bytes=[0, 0]))
    figure = memory_figure(runs)
    lines = lines_of(figure, ["mas", "ebll"], ["finetune", "mas", "ebll", "si", "joint"])
    assert lines == {"mas": [8e6, 8e6, 8e6], "ebll": [4e6, 6e6, 8.2e6]}  # after each task; before, nothing is stored
    assert [text.get_text() for text in figure.axes[0].texts] == ["8.0 MB MAS", "8.2 MB EBLL"]
    assert memory_figure([runs[0], runs[3]]) is None


def test_subset_by_stage_with_joint_as_a_level(six_runs):
    subset = {"finetune": [0.1, 0.5, 0.2], "mas": [0.1, 0.4, 0.3], "joint": [0.1, 0.6]}
    runs = [replace(run, map_subset=[value + 0.02 * run.seed for value in subset[run.method]]) for run in six_runs]
    figure = subset_figure(runs)
    lines = lines_of(figure, ["finetune", "mas"], ["finetune", "mas", "joint"])
    assert lines["finetune"] == pytest.approx([0.11, 0.51, 0.21])  # the mean over seeds
    assert lines["mas"] == pytest.approx([0.11, 0.41, 0.31])
    (level,) = [line for line in figure.axes[0].lines if line.get_linestyle() == "--"]
    assert set(level.get_ydata()) == {0.61}
    assert subset_figure(six_runs) is None


@pytest.mark.parametrize("methods", [3, 13])
def test_no_label_touches_another_or_leaves_the_picture(many_runs, methods):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    known = list(dict.fromkeys(run.method for run in many_runs))
    used = known if methods == 13 else ["finetune", "mas", "joint"]
    runs = [run for run in many_runs if run.method in used]
    figures = [*curve_figures(runs).values(), subset_figure(runs), memory_figure(runs)]
    for figure in figures:
        canvas = FigureCanvasAgg(figure)
        boxes = [text.get_window_extent(canvas.get_renderer()) for text in figure.axes[0].texts]
        assert len(boxes) == (methods if figure is not figures[-1] else {3: 1, 13: 10}[methods])
        boxes.sort(key=lambda box: box.y0)
        digits = 0.72  # of a line's height: what is above and below the letters may overlap
        assert all(a.y0 + digits * a.height <= b.y0 for a, b in itertools.pairwise(boxes))
        assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)
        assert all(figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1 for box in boxes)


def test_matrices_of_many_methods_are_small_multiples(six_runs, many_runs):
    few, many = matrix_figures(six_runs), matrix_figures(many_runs)
    assert next(iter(many)) == "finetune"
    assert len(many) == 13
    area = [figure.get_figwidth() * figure.get_figheight() for figure in (many["mas"], few["mas"])]
    assert area[0] < 0.6 * area[1]  # four tasks on less paper than two
    assert len([text for text in many["mas"].axes[0].texts if text.get_text()]) == 5 * 4
    assert "MAS" in texts(many["mas"])


def test_a_title_has_at_most_two_lines():
    heights = [new_chart(title, (4.2, 3), 0.4, 0.4, 0.4)[0].texts[0].get_text() for title in ("short", "word " * 60)]
    assert [text.count("\n") for text in heights] == [0, 1]


def test_labels_are_moved_apart_and_stay_inside():
    assert spaced([0.1, 0.5], gap=0.1, top=1.0) == [0.1, 0.5]
    heights = spaced([0.2, 0.95, 0.96, 0.97], gap=0.1, top=1.0)
    assert heights[0] == 0.2
    assert np.diff(heights).min() >= 0.1 - 1e-9
    assert heights[-1] == 1.0


def test_svg_keeps_text_and_is_the_same_for_the_same_figure(six_runs):
    figure = matrix_figures(six_runs)["mas"]
    assert "MAP per task and stage: MAS" in texts(figure)
    assert figure_uri(figure) == figure_uri(matrix_figures(six_runs)["mas"])  # no dates, no random ids


@pytest.mark.parametrize("name", ["$\\frac{", "<script>&\"'", "a_b^c", "n" * 300])
def test_any_name_can_be_drawn(six_runs, name):
    runs = [replace(run, method=name if run.method == "mas" else run.method, tasks=[name, "b"]) for run in six_runs]
    figures = [*matrix_figures(runs).values(), *curve_figures(runs).values(), final_figure(runs), ap_figure(runs)]
    assert all(ElementTree.fromstring(svg_of(figure)) is not None for figure in figures)
    assert any(name[:8] in text for text in texts(figures[0]))


def test_missing_values_and_many_tasks_are_drawn(make_run):
    tasks = 14
    matrix = np.full((tasks + 1, tasks), 0.5)
    matrix[3, 2] = np.nan
    runs = [make_run("mas", matrix.tolist())]
    assert len(curve_figures(runs)) == tasks
    assert figure_uri(matrix_figures(runs)["mas"]).startswith("data:image/svg+xml;base64,")


def test_thumbnail_is_a_small_upright_jpeg_without_metadata(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    exif[0x010E] = "a private note"
    Image.new("RGB", (400, 200), "red").save(tmp_path / "photo.jpg", exif=exif, comment="another")
    uri = thumbnail_uri(tmp_path / "photo.jpg")
    image = Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,"))))
    assert image.size == (80, 160)
    assert not image.getexif()
    assert "comment" not in image.info


def test_unreadable_image_is_named(tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    for name in ("text.jpg", "missing.jpg"):
        with pytest.raises(UserError, match=name):
            thumbnail_uri(tmp_path / name)
