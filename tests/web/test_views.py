"""The pieces of the page: a column per method, marks where labels tell what is right, and every name escaped."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from evil_names import EVIL_PHOTO, EVIL_WORD
from PIL import Image

from tripletcl.data import Fact, images
from tripletcl.errors import UserError
from tripletcl.evaluation import RunResult
from tripletcl.report.formatting import MISSING
from tripletcl.retrieval import Query, Request
from tripletcl.retrieval.request import Term
from tripletcl.runs.history import TaskRecord
from tripletcl.runs.teach import Lesson
from tripletcl.web import views
from tripletcl.web.pictures import EMPTY, large_photo, padded, thumbnail
from tripletcl.web.state import NO_OTHER, AppState
from tripletcl.web.teach_tab import MOST_PHOTOS, lesson


class Elements(HTMLParser):
    """The elements of a piece of HTML with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(str(html))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of_class(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for _, attributes in self.elements if name in (attributes.get("class") or "").split()]


def is_harmless(html: str) -> bool:
    """No script, and no attribute that runs one."""
    elements = Elements(html).elements
    return all(tag != "script" and not any(name.startswith("on") for name in names) for tag, names in elements)


def request_of(*units: str | None) -> Request:
    return Request((Term(Query(*units)),))


def test_each_method_has_a_column_with_its_right_photos_marked(state: AppState) -> None:
    gallery = state.galleries["test"]
    fact = next(fact for fact in state.main.table.facts if fact.order == 3)
    page = Elements(views.results(state, gallery, request_of(*fact.units), 2, "finetune", 6, []))
    assert len(page.of_class("side")) == 2
    assert len(page.of_class("tile")) == 12
    assert len(page.of_class("good")) + len(page.of_class("bad")) == 12
    for name in ("MAS after task 2", "finetune after task 2"):
        assert re.search(rf"{name}, \d of 6 right", page.text)
    single = Elements(views.results(state, gallery, request_of(*fact.units), 1, NO_OTHER, 6, []))
    assert len(single.of_class("side")) == 1
    joint = views.results(state, gallery, request_of(*fact.units), 1, "joint", 6, [])
    assert "after all tasks at once" in joint


def test_a_request_that_no_label_matches_is_not_marked(state: AppState) -> None:
    page = Elements(views.results(state, state.galleries["test"], request_of("zebra"), 2, NO_OTHER, 3, []))
    assert len(page.of_class("tile")) == 3
    assert page.of_class("good") == page.of_class("bad") == []


def test_picked_photos_stay_picked(state: AppState) -> None:
    gallery = state.galleries["test"]
    html = views.results(state, gallery, request_of("zebra"), 2, "finetune", len(gallery), ["test:3"])
    picks = Elements(html).of_class("pick")
    pressed = [pick["data-photo"] for pick in picks if pick["aria-pressed"] == "true"]
    assert pressed == ["test:3", "test:3"]


def test_names_are_escaped_everywhere(state: AppState, tmp_path: Path) -> None:
    gallery = state.galleries["test"]
    evil = next(number for number in range(len(gallery)) if gallery.paths[number].name == EVIL_PHOTO)
    request = request_of(EVIL_WORD, "<b>", '"><img src=x onerror=alert(4)>')
    dropped = tmp_path / '"><svg onload=alert(5)>.png'
    Image.new("RGB", (8, 8)).save(dropped)
    pieces = [
        views.notes(state, gallery, request, 2),
        views.results(state, gallery, request_of(EVIL_WORD), 2, "finetune", len(gallery), []),
        views.curve(state, gallery, request_of(EVIL_WORD), 2, "finetune"),
        views.dialog(state, f"test:{evil}", 2, "finetune", [], 0),
        views.photos(state, [f"test:{evil}"], [dropped]),
        views.described(state, dropped, 2, "finetune"),
        views.taught(lesson_of(Fact(EVIL_WORD))),
        views.sentence(EVIL_WORD, "error"),
        views.tasks([task_of(EVIL_WORD)]),
    ]
    assert all(map(is_harmless, pieces))
    assert EVIL_WORD in Elements(pieces[0]).text
    assert EVIL_PHOTO in Elements(pieces[3]).text
    assert escape(EVIL_PHOTO) in pieces[1]


def test_no_path_leaves_the_server(state: AppState) -> None:
    gallery = state.galleries["test"]
    pages = [
        views.results(state, gallery, request_of("zebra"), 2, "finetune", len(gallery), []),
        views.dialog(state, "test:0", 2, "finetune", [], 0),
        views.header(state, "finetune"),
    ]
    for page in pages:
        assert str(gallery.paths[0].parent) not in page
        assert str(state.main.run.path.parent) not in page


def test_the_dialog_of_a_photo_names_the_facts_of_each_method(state: AppState) -> None:
    dialog = views.dialog(state, "test:2", 2, "finetune", [], 7)
    described = views.described(state, state.galleries["test"].paths[2], 2, "finetune")
    facts = [re.findall(r'class="fact">(.*?)(?: <b|</span>)', html) for html in (dialog, described)]
    assert len(facts[0]) == 12
    assert facts[0] == facts[1], "its vectors tell the same as the photo itself"
    assert "No fact is taught yet" in views.dialog(state, "test:2", 0, NO_OTHER, [], 8)


def test_a_dropped_file_that_is_no_photo_is_refused_in_one_sentence(state: AppState, tmp_path: Path) -> None:
    (tmp_path / "letter.jpg").write_text("Dear reader")
    with pytest.raises(UserError, match=r"^letter\.jpg: not an image"):
        views.described(state, tmp_path / "letter.jpg", 2, NO_OTHER)


def test_a_photo_that_takes_too_much_memory_is_refused_before_it_is_decoded(
    state: AppState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("1", (300, 300)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(images, "MOST_MEMORY", 80_000)
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("it was decoded"))
    with pytest.raises(UserError, match=r"^bomb\.png: too large: to decode 300 x 300 pixels"):
        views.described(state, tmp_path / "bomb.png", 2, NO_OTHER)


def test_photos_of_hundreds_of_megapixels_are_shown(tmp_path: Path) -> None:
    Image.new("L", (20000, 10000), 200).save(tmp_path / "large.jpg")
    assert thumbnail(tmp_path / "large.jpg").startswith("data:image/jpeg;base64,")
    assert large_photo(tmp_path / "missing.jpg") == EMPTY


def test_the_matrix_follows_the_slider(state: AppState) -> None:
    result = state.main.result
    assert result is not None
    page = Elements(views.matrices(state, 1, "joint"))
    mas, joint = page.text.split("joint", 1)
    for stage in range(3):
        assert all(f"{value:.2f}"[1:] in mas for value in result.matrix[stage] if value < 1)
    here = [cell for cell in page.of_class("cell") if "here" in (cell["class"] or "")]
    assert [cell["data-stage"] for cell in here] == ["1"] * 4
    assert len(page.of_class("learned")) == 2, "joint training learns no task by itself"
    assert "all" in joint
    assert "data-later" in views.matrices(state, 1, NO_OTHER)
    assert "data-later" not in views.matrices(state, 2, NO_OTHER)


def test_the_map_lost_so_far() -> None:
    result = run_result([[0.1, 0.1, 0.1], [0.9, 0.2, 0.1], [0.7, 0.8, 0.1], [0.6, 0.7, 0.9]])
    assert views.figures_at(result, 1) == "MAP over all facts .500"
    assert views.figures_at(result, 2).endswith("lost .200 a task")
    assert views.figures_at(result, 3).endswith("lost .200 a task")  # (.3 + .1) / 2
    rows = re.findall(r"<td>([^<]*)</td></tr>", views.matrix(result, 3, 1.0))
    assert rows == [".300", ".100", MISSING]


def test_results_of_a_longer_and_a_shorter_run_are_padded() -> None:
    longer = run_result([[0.1, 0.1, 0.1], [0.9, 0.2, 0.1], [0.7, 0.8, 0.1], [0.6, 0.7, 0.9]])
    shorter = run_result([[0.1, 0.1], [0.9, 0.2], [0.7, 0.8]])
    both = padded([longer, shorter])
    assert [len(result.tasks) for result in both] == [3, 3]
    assert [len(result.matrix) for result in both] == [4, 4]
    assert both[0].matrix == longer.matrix
    assert [row[:2] for row in both[1].matrix] == [*shorter.matrix, [0.7, 0.8]]
    assert all(math.isnan(row[2]) for row in both[1].matrix)


def test_each_task_has_a_chart_that_a_dark_page_inverts(state: AppState) -> None:
    page = Elements(views.curves(state, 1, "finetune"))
    assert len(page.of_class("chart")) == 2
    assert len({attributes["src"] for _, attributes in page.elements if "src" in attributes}) == 2


def test_the_header_is_the_reports_headline(state: AppState) -> None:
    assert "After two tasks, finetune" in views.header(state, "finetune")
    assert "mas-split0-seed0" in views.header(state, NO_OTHER)


def test_a_lesson_needs_a_subject_and_a_few_photos(state: AppState) -> None:
    photo = state.galleries["test"].paths[0]
    fact, photos = lesson([" robot ", "?", None], [photo, photo])
    assert (fact, photos) == (Fact("robot"), [photo, photo])
    for units, files, words in (
        (["", "riding", "horse"], [photo], "subject"),
        (["robot", "?", "horse"], [photo], "no predicate"),
        (["robot"] * 3, [], "needs photos"),
        (["robot"] * 3, [photo] * (MOST_PHOTOS + 1), "too many"),
    ):
        with pytest.raises(UserError, match=words):
            lesson(units, files)


def test_the_outcome_of_a_lesson_says_what_was_held_out() -> None:
    text = Elements(views.taught(lesson_of(Fact("robot", "balancing")))).text
    assert text.startswith(
        "Learned <robot, balancing> from five photos in 2.0 s; MAP .75 on two photos held out of it."
    )
    assert "<robot, balancing> is taken back" in Elements(views.undone(lesson_of(Fact("robot", "balancing")))).text


def lesson_of(fact: Fact) -> Lesson:
    return Lesson(fact, 3, 5, 2, 0.75, 2.0)


def task_of(name: str) -> TaskRecord:
    now = datetime(2030, 1, 2, tzinfo=UTC).isoformat()
    return TaskRecord(1, name, (name,), None, now, 1, 0.9, None)


def run_result(matrix: list[list[float]]) -> RunResult:
    tasks = [f"task {number}" for number in range(1, len(matrix[0]) + 1)]
    return RunResult("mas", 0, "random-0", tasks, matrix, [0.5] * len(matrix), 1.0)
