"""The page of the user's photos in a browser: it asks, opens, chooses, teaches, and anybody can read it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from importlib.resources import files
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from serving import serving

from tripletcl import Client
from tripletcl.retrieval import writing
from tripletcl.runs.collection import open_model
from tripletcl.web.api import build_api
from tripletcl.web.jobs import Jobs
from tripletcl.web.photo_library import Library
from tripletcl.web.server import build_app, open_port
from tripletcl.web.uploads import private_uploads

playwright = pytest.importorskip("playwright.sync_api", reason="the page's tests need playwright")

MILLISECONDS = 60_000


@pytest.fixture(scope="module")
def address(runs: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a run with 60 photos, one of which has a name that is a script."""
    folder = tmp_path_factory.mktemp("photos")
    run, photos = Path(shutil.copytree(runs / "elsewhere" / "analytic", folder / "run")), folder / "own"
    photos.mkdir()
    for number, path in enumerate(sorted(path for path in scenes.parent.rglob("*.jpg") if path.is_file())[:60]):
        target = photos / ("<img src=x onerror=alert(1)>.jpg" if number == 5 else f"{number:02d}.jpg")
        shutil.copy(path, target)
        os.utime(target, (1_560_000_000 + 864_000 * number,) * 2)
    model = open_model(run)
    with writing(run / "index", model.load(), stage=model.stage) as index:
        index.sync(photos)
    with private_uploads() as uploads, open_port("127.0.0.1", 0) as listening, closing(Jobs()) as jobs:
        app = build_app(None, uploads, api=build_api(Library(run), jobs, uploads))
        with serving(app, listening) as address:
            yield address


@pytest.fixture(scope="module")
def page(address: str, chromium: str) -> Iterator[playwright.Page]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_default_timeout(MILLISECONDS)
        page.dialogs = []
        page.on("dialog", lambda dialog: (page.dialogs.append(dialog.message), dialog.dismiss()))
        yield page
        assert page.dialogs == []
        browser.close()


@pytest.fixture(autouse=True)
def opened(page: playwright.Page, address: str) -> None:
    page.goto(address)
    page.wait_for_selector(".tile img")


def ask(page: playwright.Page, words: str) -> None:
    page.fill("#words", words)
    page.press("#words", "Enter")


def test_it_opens_with_the_latest_photos_by_month(page: playwright.Page, address: str) -> None:
    months = page.locator(".day").all_inner_texts()
    assert months[0].split()[1] >= months[-1].split()[1]
    assert "60 photos" in page.inner_text("#answer")
    names = [photo["name"] for photo in Client(address).photos(k=3)]
    assert page.locator(".tile b").all_inner_texts()[:3] == names


def test_the_address_holds_the_question_and_back_works(page: playwright.Page, address: str) -> None:
    ask(page, "?, waving, ?")
    page.wait_for_selector("#answer:has-text('<?, waving, ?>')")
    assert parse_qs(urlsplit(page.url).query) == {"q": ["?, waving, ?"]}
    expected = [hit["name"] for hit in Client(address).query("?, waving, ?", k=5)["hits"]]
    assert page.locator(".tile b").all_inner_texts()[:5] == expected
    page.go_back()
    page.wait_for_selector("#answer:has-text('60 photos')")
    assert page.input_value("#words") == ""
    page.go_forward()
    page.wait_for_selector("#answer:has-text('waving')")
    page.reload()
    page.wait_for_selector("#answer:has-text('waving')")


def test_pages_follow_without_end(page: playwright.Page) -> None:
    ask(page, "?, waving, ?")
    page.wait_for_selector("#answer:has-text('waving')")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_function("document.querySelectorAll('.tile').length === 60")
    page.locator("#more").wait_for(state="hidden")


def test_an_error_leaves_with_its_question(page: playwright.Page) -> None:
    ask(page, 'waving "and')
    assert "quote" in page.locator("#error:not(:empty)").inner_text()
    assert page.locator(".tile").count() == 0
    ask(page, "?, waving, ?")
    page.wait_for_selector(".tile")
    assert page.inner_text("#error") == ""


def test_an_answer_never_stands_under_another_question(page: playwright.Page) -> None:
    held = []
    page.route("**/api/v1/query?*slow*", lambda route: held.append(route))
    ask(page, "slow")
    ask(page, "?, waving, ?")
    page.wait_for_selector("#answer:has-text('waving')")
    held[0].fulfill(json={"error": "this came too late"}, status=400)
    page.wait_for_timeout(200)
    assert page.inner_text("#error") == ""
    assert "waving" in page.inner_text("#answer")
    page.unroute("**/api/v1/query?*slow*")


def test_a_photo_opens_with_its_details_facts_and_file(page: playwright.Page) -> None:
    page.locator(".tile .open").first.click()
    page.wait_for_selector("dialog[open] #facts meter")
    assert "own" in page.inner_text("#details")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == page.inner_text("#photo-name")
    first = page.inner_text("#photo-name")
    page.keyboard.press("ArrowRight")
    page.wait_for_function(f"document.getElementById('photo-name').textContent !== {first!r}")
    page.keyboard.press("Escape")
    page.locator("dialog[open]").wait_for(state="detached")
    page.locator(".tile .open").first.click()
    page.get_by_role("button", name="Similar photos").click()
    page.wait_for_selector("h1:has-text('Similar photos')")
    page.wait_for_selector("#results:not([aria-busy])")
    assert first not in page.locator(".tile b").all_inner_texts()


def test_filters_are_fields_and_part_of_the_address(page: playwright.Page) -> None:
    page.click("#filters-button")
    page.fill("#filters [name=before]", "2019-06")
    page.fill("#filters [name=name]", "0*")
    page.click("#filters .primary")
    page.wait_for_function("document.querySelectorAll('.tile').length < 10")
    assert parse_qs(urlsplit(page.url).query) == {"before": ["2019-06"], "name": ["0*"]}
    page.fill("#filters [name=before]", "2019-13")
    page.click("#filters .primary")
    assert "is no date" in page.locator("#error:not(:empty)").inner_text()


def test_chosen_photos_are_exported_and_taught(page: playwright.Page) -> None:
    for number in range(5):
        page.locator(".tile").nth(number).hover()
        page.locator(".mark").nth(number).click()
    assert page.inner_text("#chosen") == "5 chosen"
    with page.expect_download() as download:
        page.select_option("#export", "list")
    assert len(Path(download.value.path()).read_bytes().splitlines()) == 5
    page.fill("#fact", "robot juggling torches")
    page.press("#fact", "Enter")
    page.wait_for_selector("#work:has-text('Learned robot juggling torches')")
    page.click("#work >> text=Show what it finds")
    page.wait_for_selector("#answer:has-text('<robot, juggling, torches>')")
    page.get_by_role("link", name="Taught").click()
    page.wait_for_selector("#lessons li:has-text('robot juggling torches')")
    page.click("#undo")
    page.wait_for_selector("#lessons li:has-text('Nothing has been taught')")


def test_a_photo_from_elsewhere_is_described(page: playwright.Page, scenes: Path, tmp_path: Path) -> None:
    page.get_by_role("link", name="Taught").click()
    page.set_input_files("#file", next(path for path in scenes.parent.rglob("*.jpg") if path.is_file()))
    page.wait_for_selector("#described meter")
    (tmp_path / "letter.png").write_text("Dear reader")
    page.set_input_files("#file", tmp_path / "letter.png")
    page.wait_for_selector("#described:has-text('not an image')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_everybody_can_read_it(page: playwright.Page, address: str, scheme: str, width: int) -> None:
    """No serious finding by axe-core, and nothing is wider than the screen."""
    axe = files(pytest.importorskip("axe_playwright_python")).joinpath("axe.min.js").read_text(encoding="utf-8")
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    page.set_viewport_size({"width": width, "height": 844})
    for view in ("", "?q=?,+waving,+?", "?view=taught", "?q=%22"):
        page.goto(f"{address}/{view}")
        page.wait_for_load_state("networkidle")
        if view == "":
            page.click("#filters-button")
            page.locator(".mark").first.click(force=True)
        page.evaluate(axe)
        found = page.evaluate("axe.run({ resultTypes: ['violations'] }).then((result) => result.violations)")
        serious = [
            (each["id"], node["html"]) for each in found if each["impact"] in ("serious", "critical")
            for node in each["nodes"]
        ]  # fmt: skip
        assert serious == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
