"""The page in a browser: what visitors do, what they see, and what they cannot do."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from evil_names import EVIL_PHOTO, EVIL_WORD
from markupsafe import Markup
from PIL import Image
from serving import serving

from tripletcl.report.formatting import MINUS
from tripletcl.retrieval import Request
from tripletcl.runs.teach import teach
from tripletcl.web import views
from tripletcl.web.galleries import Gallery
from tripletcl.web.server import build_app, open_port
from tripletcl.web.state import AppState, LiveState
from tripletcl.web.uploads import PHOTO_BYTES, private_uploads

gradio = pytest.importorskip("gradio", reason="the page needs Gradio: pip install tripletcl[ui]")
playwright = pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright")

pytestmark = pytest.mark.filterwarnings("ignore::Warning:gradio.*")

MILLISECONDS = 30_000
"""Time to wait for anything on the page: the machine may be busy."""


@dataclass
class Visit:
    """An open page, and the requests, dialogs and errors that the browser has seen."""

    page: playwright.Page
    address: str
    requests: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def see(self, selector: str, **options: object) -> playwright.Locator:
        """Wait until an element is there, and return it."""
        element = self.page.locator(selector, **options).first
        element.wait_for(timeout=MILLISECONDS)
        return element

    def wait_without(self, selector: str) -> None:
        """Wait until no such element is there."""
        self.page.locator(selector).first.wait_for(state="detached", timeout=MILLISECONDS)

    def go_to(self, tab: str) -> None:
        """Open a tab."""
        self.page.get_by_role("tab", name=tab, exact=True).click()

    def ask(self, line: str) -> None:
        """Search by a free line."""
        self.page.fill("#line textarea", line)
        self.page.press("#line textarea", "Enter")

    def slide(self, key: str) -> None:
        """Move the slider by a key."""
        self.page.focus("#stage input[type=range]")
        self.page.keyboard.press(key)

    def scores(self, side: int) -> list[str]:
        """The text below each of a method's photos."""
        return self.page.locator(".side").nth(side).locator("figcaption").all_inner_texts()


@pytest.fixture(scope="module")
def live(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> LiveState:
    """Copies of the runs, which may be taught."""
    folder = tmp_path_factory.mktemp("served")
    for run in runs.glob("*-split0-seed0"):
        shutil.copytree(run, folder / run.name)
    return LiveState(folder / "mas-split0-seed0")


@pytest.fixture(scope="module")
def address(live: LiveState) -> Iterator[str]:
    """The address of the served page."""
    from tripletcl.web.page import build_page

    with (
        private_uploads() as uploads,
        open_port("127.0.0.1", 0) as listening,
        serving(build_app(lambda: build_page(live, uploads), uploads), listening) as address,
    ):
        yield address


@pytest.fixture(scope="module")
def visit(address: str, chromium: str) -> Iterator[Visit]:
    """One visit for all tests; only the page's own server may be reached."""
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        visit = Visit(page, address)
        page.on("request", lambda request: visit.requests.append(request.url))
        page.on("dialog", lambda dialog: (visit.dialogs.append(dialog.message), dialog.dismiss()))
        page.on("pageerror", lambda error: visit.errors.append(str(error)))
        page.goto(address)
        visit.see("#results .tile")
        yield visit
        browser.close()


@pytest.fixture(autouse=True)
def no_harm_done(visit: Visit) -> Iterator[None]:
    """Check after each test: no foreign host was asked, no script in a name ran, nothing broke."""
    yield
    hosts = {urlsplit(url).netloc for url in visit.requests if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlsplit(visit.address).netloc}
    assert visit.dialogs == visit.errors == []


def test_it_opens_with_the_first_tasks_example(visit: Visit) -> None:
    assert "After two tasks" in visit.see("h1").inner_text()
    assert visit.page.title() == "tripletcl: mas-split0-seed0"
    assert "of 24 test images are labelled so" in visit.see("#notes").inner_text()
    assert visit.page.locator("#results .side").count() == 2
    assert visit.page.locator("#results .tile.good").count() > 0
    visit.see("#curve img")


def test_a_query_gives_photos_with_scores(visit: Visit) -> None:
    visit.ask("?, waving, ?")
    visit.see("#notes b:has-text('<?, waving, ?>')")
    scores = [float(score.lstrip("✓✗ ").replace(MINUS, "-")) for score in visit.scores(0)]
    assert len(scores) == 12
    assert scores == sorted(scores, reverse=True)
    visit.page.click("#more")
    visit.see("#results .side >> nth=1 >> .tile >> nth=23")


def test_an_error_is_one_sentence_in_place(visit: Visit) -> None:
    visit.ask('waving "and')
    said = visit.see("#notes .error").inner_text()
    assert "quote" in said
    assert "Traceback" not in visit.page.content()
    visit.ask("?, flying, ?")
    assert "“flying” was never trained as a predicate" in visit.see("#notes .note").inner_text()


def test_a_late_answer_is_not_shown_under_another_question(
    visit: Visit, live: LiveState, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicates = {fact.predicate: fact for fact in live.current.main.table.facts if fact.predicate is not None}
    first, second = [*predicates][:2]
    may_answer, draw = {first: threading.Event(), second: threading.Event()}, views.curve

    def slow_curve(state: AppState, gallery: Gallery, request: Request, *others: Any) -> Markup:
        may_answer[str(request).split(", ")[1].rstrip(">")].wait(MILLISECONDS / 1000)
        return draw(state, gallery, request, *others)

    with monkeypatch.context() as patch:
        patch.setattr(views, "curve", slow_curve)
        for predicate in (first, second):
            visit.ask(f"?, {predicate}, ?")
            visit.see(f"#notes b:has-text('<?, {predicate}')")
        may_answer[first].set()
        late = visit.page.locator(f"#curve .stale img[alt*='{first}']")
        late.wait_for(state="attached", timeout=MILLISECONDS)
        late.wait_for(state="hidden", timeout=MILLISECONDS)
        may_answer[second].set()
        visit.see(f"#curve img[alt*='{second}']")
        assert visit.page.locator("#curve .stale").count() == 0


def test_the_slider_changes_what_is_found(visit: Visit) -> None:
    visit.ask("?, waving, ?")
    visit.see("#notes b:has-text('<?, waving, ?>')")
    last = visit.scores(0)
    visit.slide("ArrowLeft")
    visit.see("#results h3:has-text('after task 1')")
    assert visit.scores(0) != last
    visit.slide("Home")
    visit.see("#results h3:has-text('before training')")
    assert "by chance" in visit.see("#notes").inner_text()
    visit.slide("End")
    visit.see("#results h3:has-text('after task 2')")
    assert visit.scores(0) == last


def test_another_method_is_shown_next_to_it(visit: Visit) -> None:
    before = visit.scores(1)
    visit.page.click("#other input")
    visit.page.get_by_role("option", name="joint").click()
    visit.see("#results h3:has-text('after all tasks at once')")
    assert visit.scores(1) != before
    assert "finetune" not in visit.see("h1").inner_text()


def test_the_matrix_moves_the_slider(visit: Visit) -> None:
    visit.go_to("Memory")
    visit.see("#matrices .side >> nth=0 >> td.cell.here[data-stage='2']")
    visit.see("#curves img.chart")
    visit.page.locator("#matrices .go[data-stage='1']").first.click()
    visit.see("#matrices .side >> nth=0 >> td.cell.here[data-stage='1']")
    assert visit.page.input_value("#stage input[type=number]") == "1"
    visit.slide("End")
    visit.see("#matrices .side >> nth=0 >> td.cell.here[data-stage='2']")


def test_names_are_harmless(visit: Visit, live: LiveState) -> None:
    """They are shown as they are: in the grid, in the dialog, in the request, in every label."""
    visit.go_to("Search")
    visit.ask(f'"{EVIL_WORD}", ?, ?')
    visit.see("#notes b:has-text('<script>')")
    assert EVIL_WORD in visit.see("#notes b").inner_text()
    gallery = live.current.galleries["test"]
    evil = next(number for number in range(len(gallery)) if gallery.paths[number].name == EVIL_PHOTO)
    visit.page.click("#more")
    visit.see("#results .side >> nth=0 >> .tile >> nth=23")
    visit.page.locator(f".look[data-photo='test:{evil}']").first.click()
    assert EVIL_PHOTO in visit.see("dialog[open] h3").inner_text()
    assert visit.page.locator("dialog img[src='x']").count() == 0
    visit.page.keyboard.press("Escape")
    visit.wait_without("dialog[open]")


def test_a_dropped_photo_is_described_by_both_methods(visit: Visit, live: LiveState, tmp_path: Path) -> None:
    visit.go_to("Photo")
    photo = live.current.galleries["test"].paths[3]
    visit.page.set_input_files("#photo input[type=file]", photo)
    visit.see("#described .side >> nth=1 >> .facts li")
    assert visit.page.locator("#described .facts li").count() == 12
    visit.page.click("#photo button[aria-label='Remove Image']")
    visit.see("#described .empty")
    (tmp_path / "letter.png").write_text("Dear reader")
    visit.page.set_input_files("#photo input[type=file]", tmp_path / "letter.png")
    assert "letter.png: not an image" in visit.see(".toast-body").inner_text()


def test_a_fact_is_taught_searched_and_undone(visit: Visit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visit.go_to("Search")
    visit.ask("?, waving, ?")
    visit.see("#notes b:has-text('<?, waving, ?>')")
    for number in range(4):
        visit.page.locator("#results .side").first.locator(".pick").nth(number).click()
    visit.go_to("Teach")
    visit.see("#lesson-photos .tile >> nth=3")
    visit.see("#tasks tbody tr >> nth=1")
    dropped = [tmp_path / f"<b>{number}.png" for number in range(2)]
    for photo, colour in zip(dropped, ("orange", "purple"), strict=True):
        Image.new("RGB", (64, 64), colour).save(photo)
    visit.page.set_input_files("#dropped input[type=file]", dropped)
    visit.see("#lesson-photos .tile >> nth=5")
    visit.page.locator("#lesson-photos .out").first.click()
    visit.page.locator("#lesson-photos .tile").nth(5).wait_for(state="detached", timeout=MILLISECONDS)
    visit.page.click("#learn")
    assert "needs a subject" in visit.see("#said .error").inner_text()
    visit.page.fill("#teach-subject input", EVIL_WORD)
    visit.page.press("#teach-subject input", "Enter")
    visit.page.fill("#teach-predicate input", "juggling")
    visit.page.press("#teach-predicate input", "Enter")
    from tripletcl.web import teach_tab

    may_learn = threading.Event()
    monkeypatch.setattr(teach_tab, "teach", lambda *_, **__: may_learn.wait(30) and teach(*_, **__))
    visit.page.click("#learn")
    visit.wait_without("#said .error")  # of the lesson before
    visit.see("#said [data-testid=status-tracker]:not(.hide)")
    assert not visit.page.locator("#said .progress-text").is_visible(), "no time is drawn over the table"
    may_learn.set()
    said = visit.see("#said .done").inner_text()
    assert f"Learned <{EVIL_WORD}, juggling> from four photos" in said
    assert "on one photo held out of it" in said
    assert "juggling" in visit.see("#tasks tbody tr >> nth=2").inner_text()
    assert visit.page.input_value("#stage input[type=number]") == "3"
    visit.go_to("Search")
    visit.see("#results h3:has-text('after task 3')")
    assert "juggling" in visit.see("#notes b").inner_text()
    visit.go_to("Teach")
    visit.page.click("#undo")
    assert "taken back" in visit.see("#said .done:has-text('taken back')").inner_text()
    assert visit.page.locator("#tasks tbody tr").count() == 2
    assert visit.page.input_value("#stage input[type=number]") == "2"
    visit.page.click("#undo")
    assert "is no lesson that could be undone" in visit.see("#said .error").inner_text()


def test_a_large_photo_is_refused(visit: Visit, address: str, tmp_path: Path) -> None:
    visit.go_to("Photo")
    (tmp_path / "large.png").write_bytes(b"\x89PNG" + bytes(PHOTO_BYTES))
    visit.page.set_input_files("#photo input[type=file]", tmp_path / "large.png")
    assert "size" in visit.see(".toast-body").inner_text()
    assert visit.page.locator("#described .facts").count() == 0
    answer = httpx.post(f"{address}/gradio_api/upload", files={"files": ("large.png", bytes(PHOTO_BYTES + 1))})
    assert answer.status_code == 413


def test_no_path_is_served(address: str, live: LiveState) -> None:
    run, photo = live.run, live.current.galleries["test"].paths[0]
    for path in (run / "config.yaml", photo, "/etc/passwd", f"{run}/../../etc/passwd", "..%2f..%2fetc/passwd"):
        for route in ("file=", "gradio_api/file=", "gradio_api/file/", "static/", "assets/", "svelte/"):
            answer = httpx.get(f"{address}/{route}{path}")
            assert answer.status_code in (403, 404, 405), (route, path)
    assert httpx.get(address, headers={"host": "evil.example"}).status_code == 400
    assert httpx.get(address, headers={"origin": "http://evil.example"}).status_code == 403


def test_an_upload_is_served_by_its_path(address: str) -> None:
    photo = io.BytesIO()
    Image.new("RGB", (8, 8)).save(photo, "PNG")
    (path,) = httpx.post(f"{address}/gradio_api/upload", files={"files": ("mine.png", photo.getvalue())}).json()
    assert httpx.get(f"{address}/gradio_api/file={path}").content == photo.getvalue()


def test_nothing_is_offered_to_programs(address: str) -> None:
    """There is no endpoint for others, and no schema of one."""
    for schema in ("gradio_api/info", "openapi.json", "gradio_api/openapi.json", "docs", "config"):
        assert httpx.get(f"{address}/{schema}").status_code == 404


def test_on_a_phone_nothing_is_wider_than_the_screen(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 390, "height": 844})
    for tab in ("Search", "Photo", "Memory", "Teach"):
        visit.go_to(tab)
        visit.page.wait_for_timeout(150)
        width = visit.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390, tab
    visit.go_to("Search")
    visit.see("#results .tile")
    columns = visit.page.evaluate("getComputedStyle(document.querySelector('#results .sides')).gridTemplateColumns")
    assert len(columns.split()) == 1, "the methods are below each other"


def test_a_dark_page_has_dark_charts(visit: Visit) -> None:
    visit.page.set_viewport_size({"width": 1280, "height": 900})
    visit.page.emulate_media(color_scheme="dark")
    visit.page.reload()
    visit.see("#results .tile")
    visit.go_to("Memory")
    visit.see("#curves img.chart")
    inverted = visit.page.evaluate("getComputedStyle(document.querySelector('#curves img.chart')).filter")
    assert "invert" in inverted
    visit.go_to("Search")
    dark = visit.page.evaluate("getComputedStyle(document.querySelector('#results h3')).color")
    assert sum(map(int, dark.strip("rgb()").split(",")[:3])) > 450, "words are light on dark"
