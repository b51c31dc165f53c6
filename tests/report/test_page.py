"""The page: one file, nothing outside it, everything escaped, everything in it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from tripletcl.continual import Properties
from tripletcl.errors import UserError
from tripletcl.report import ExampleHit, ExampleQuery, write_report
from tripletcl.report.formatting import MISSING

VOID = {"meta", "link", "img", "br"}
HOSTILE = "<script>alert('\"&_')</script>"


class Page(HTMLParser):
    """Collects tags, attributes and visible text, and checks that every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    paths = [tmp_path / f"{color}.png" for color in ("red", "green", "blue")]
    for path in paths:
        Image.new("RGB", (300, 200), path.stem).save(path)
    return paths


def report(tmp_path, runs, **changes) -> tuple[str, Page]:
    arguments = {"title": "A title", "settings": {}, "environment": {}, **changes}
    html = write_report(tmp_path / "out" / "page.html", runs, **arguments).read_text(encoding="utf-8")
    return html, Page(html)


def full_report(tmp_path, runs, photos, name="person riding horse"):
    hits = {
        "joint": [ExampleHit(photos[0], 1.25, True)],
        "mas": [ExampleHit(photos[0], 0.9, True), ExampleHit(photos[1], 0.5, False)],
    }
    return report(
        tmp_path,
        runs,
        title=name,
        settings={"lam": 5.0, "folder": Path("a/b"), "name": name},
        environment={"torch": "2.11", name: name},
        examples=[ExampleQuery(name, name, hits)],
        scenes=[(name, photos[0]), (name, photos[1]), ("task 2", photos[2])],
        command=f"tripletcl compare --name {name}",
    )


def test_page_is_one_file_without_scripts_or_links(tmp_path, six_runs, photos):
    html, page = full_report(tmp_path, six_runs, photos)
    images = page.all("img")
    assert len(images) == 3 + 2 + 3 + 3 + 3  # matrices, curves, end, hits, training images
    assert all(image["src"].startswith("data:image/") for image in images)
    assert all(image["alt"] for image in images)
    assert not re.search(r"https?://|//|url\(|@import", re.sub(r"base64,[A-Za-z0-9+/=]+", "", html))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "iframe", "object", "form"})
    assert [link["href"] for link in page.all("link")] == ["data:,"]
    assert "default-src 'none'" in page.all("meta")[2]["content"]


def test_page_says_it_all_in_order(tmp_path, six_runs, photos):
    _, page = full_report(tmp_path, six_runs, photos)
    parts = [
        "After two tasks, finetune keeps .30 of .70 on the first; MAS keeps .60 of .65.",
        "MAS closes 40% of the gap",
        "two tasks · three facts · three methods · six runs · split random-0",
        "Comparison",
        ".370 ± .042",
        "Each task after each stage",
        "Stage by stage",
        "At the end",
        "Queries",
        "Training images",
        "Best and worst facts",
        "highest AP of MAS",
        "<person, riding, horse>",
        "lowest AP of MAS",
        "<dog, running>",
        "Settings",
        "lam: 5.0 folder: a/b",
        "Environment",
        "torch 2.11",
        "How to repeat it",
        "tripletcl compare --name person riding horse",
    ]
    places = [page.text.find(part) for part in parts]
    assert -1 not in places, parts[places.index(-1)]
    assert places == sorted(places)


def test_hits_are_marked_by_frame_and_by_sign_in_the_order_of_methods(tmp_path, six_runs, photos):
    _, page = full_report(tmp_path, six_runs, photos)
    assert "MAS 1 of 2 right ✓ .90 ✗ .50 joint 1 of 1 right ✓ 1.25" in page.text
    frames = [figure["class"] for figure in page.all("figure") if "hit" in (figure.get("class") or "")]
    assert frames == ["hit good", "hit", "hit good"]


def test_memory_and_properties_are_side_by_side(tmp_path, six_runs):
    runs = [replace(run, method_bytes=[0, 3e6, 3e6]) if run.method == "mas" else run for run in six_runs]
    properties = {"finetune": Properties(), "mas": Properties(adaptive=True), "joint": None}
    _, page = report(tmp_path, runs, properties=properties)
    assert "Memory and properties" in page.text
    assert "Memory of each method" in [image["alt"] for image in page.all("img")]
    assert "constant memory problem agnostic on pretrained unlabeled data adaptive consistent" in page.text
    assert f"MAS ✓ ✓ ✓ ✓ ✓ {MISSING} joint" in page.text
    assert "Memory" not in report(tmp_path, six_runs)[1].text
    assert "Properties Constant memory" in report(tmp_path, six_runs, properties=properties)[1].text


def test_a_page_of_many_methods_has_an_end(tmp_path, many_runs, photos):
    """Small multiples, and rows of photos of a few methods only."""
    hits = [ExampleHit(photo, 0.5, True) for photo in photos]
    example = ExampleQuery("a dog", "task 1", {run.method: hits for run in many_runs})
    html, page = report(tmp_path, many_runs, examples=[example])
    assert '<div class="grid small">' in html
    assert "Of 13 methods only finetune, MAS, MAS-scopelocal, MAS+LwF, joint." in page.text
    assert len(page.all("article")) == 1
    assert page.text.count("of 3 right") == 5
    facts = page.text.partition("Best and worst facts")[2]
    assert "IMM" not in facts
    assert "highest AP of MAS+LwF" in facts
    assert len(page.all("img")) == 13 + 4 + 1 + 3 + 1 + 5 * 3  # matrices, tasks, subset, end, memory, hits
    assert 'class="compare dense"' in html


def test_text_of_the_user_is_escaped(tmp_path, six_runs, photos):
    runs = [
        replace(
            run,
            method=HOSTILE if run.method == "finetune" else run.method,
            split=HOSTILE,
            tasks=[HOSTILE, "b"],
            ap=[(HOSTILE, 0.5)],
        )
        for run in six_runs
    ]
    html, page = full_report(tmp_path, runs, photos, name=HOSTILE)
    assert "<script" not in html
    assert not page.all("script")
    assert page.text.count(HOSTILE) >= 10
    assert any(HOSTILE in (image["alt"] or "") for image in page.all("img"))


def test_settings_may_be_text_and_sections_without_content_are_left_out(tmp_path, six_runs):
    _, page = report(tmp_path, six_runs, settings="lam: 5  # strong")
    assert "lam: 5 # strong" in page.text
    _, page = report(tmp_path, six_runs)
    assert not any(word in page.text for word in ("Queries", "Training images", "Settings", "Environment", "repeat"))


@pytest.mark.parametrize("keep", ["joint", "mas", "finetune"])
def test_one_method_makes_a_page(tmp_path, six_runs, keep):
    _, page = report(tmp_path, [run for run in six_runs if run.method == keep])
    assert ("Stage by stage" in page.text) == (keep != "joint")


def test_one_task_and_no_aps_make_a_page(tmp_path, make_run):
    _, page = report(tmp_path, [make_run("mas", [[0.1], [0.6]], ap=[])])
    assert "On one task, MAS reaches MAP .30 over all facts." in page.text
    assert "Stage by stage" not in page.text
    assert "Best and worst" not in page.text


def test_no_fact_is_both_best_and_worst(tmp_path, six_runs):
    _, page = report(tmp_path, six_runs[:1])
    cells = page.text.partition("Best and worst facts")[2]
    assert [cells.count(f"<{fact}") for fact in ("dog, running>", "cat>", "person, riding, horse>")] == [1, 1, 1]


def test_facts_of_many_and_of_few_training_images_have_a_map_of_their_own(tmp_path, make_run):
    """And a page of very many facts lists few of them."""
    ap = [(f"<fact {number}>", number / 20_000) for number in range(20_000)]
    images = [5] * 10_000 + [20] * 4_000 + [100] * 4_000 + [101] * 2_000
    runs = [
        make_run(name, [[0.1, 0.1], [0.6, 0.1], [0.5, 0.6]], ap=ap, training_images=images)
        for name in ("finetune", "mas")
    ]
    html, page = report(tmp_path, runs)
    assert "MAP by training images" in page.text
    cells = page.text.partition("MAP by training images")[2]
    assert "more than 100 2,000 .950 .950 20 to 100 8,000 .700 .700 fewer than 20 10,000 .250 .250" in cells
    assert page.text.count("<fact ") <= 40
    assert len(html) < 2_000_000
    _, page = report(tmp_path, [replace(run, training_images=[200] * len(ap)) for run in runs])
    assert "MAP by training images" not in page.text


def test_an_older_page_survives_a_failure(tmp_path, six_runs):
    path = tmp_path / "page.html"
    path.write_text("old")
    broken = ExampleQuery("a dog", "task 1", {"mas": [ExampleHit(tmp_path / "missing.jpg", 1.0, True)]})
    with pytest.raises(UserError, match=r"missing\.jpg"):
        write_report(path, six_runs, title="", settings={}, environment={}, examples=[broken])
    assert path.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
