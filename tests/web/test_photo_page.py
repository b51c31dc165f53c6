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
from PIL import Image
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
    """The address of a run with 60 photos and a smaller copy of one; another one has a name that is a script."""
    folder = tmp_path_factory.mktemp("photos")
    run, photos = Path(shutil.copytree(runs / "elsewhere" / "analytic", folder / "run")), folder / "own"
    photos.mkdir()
    for number, path in enumerate(sorted(path for path in scenes.parent.rglob("*.jpg") if path.is_file())[:60]):
        target = photos / ("<img src=x onerror=alert(1)>.jpg" if number == 5 else f"{number:02d}.jpg")
        shutil.copy(path, target)
        os.utime(target, (1_560_000_000 + 864_000 * number,) * 2)
    with Image.open(photos / "07.jpg") as photo:
        photo.resize((48, 48)).save(photos / "copy.jpg")
    os.utime(photos / "copy.jpg", (1_400_000_000,) * 2)
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
    assert "61 photos" in page.inner_text("#answer")
    names = [photo["name"] for photo in Client(address).photos(k=3)]
    assert page.locator(".tile b").all_inner_texts()[:3] == names


def test_the_address_holds_the_question_and_back_works(page: playwright.Page, address: str) -> None:
    ask(page, "?, waving, ?")
    page.wait_for_selector("#answer:has-text('“anything, waving”')")
    assert parse_qs(urlsplit(page.url).query) == {"q": ["?, waving, ?"]}
    expected = [hit["name"] for hit in Client(address).query("?, waving, ?", k=5)["hits"]]
    assert page.locator(".tile b").all_inner_texts()[:5] == expected
    page.go_back()
    page.wait_for_selector("#answer:has-text('61 photos')")
    assert page.input_value("#words") == ""
    page.go_forward()
    page.wait_for_selector("#answer:has-text('waving')")
    page.reload()
    page.wait_for_selector("#answer:has-text('waving')")


def test_pages_follow_without_end(page: playwright.Page) -> None:
    ask(page, "?, waving, ?")
    page.wait_for_selector("#answer:has-text('waving')")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_function("document.querySelectorAll('.tile').length === 61")
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


def test_the_last_answer_leaves_when_the_next_question_is_asked(page: playwright.Page) -> None:
    held = []
    page.route("**/api/v1/query?*waving*", lambda route: held.append(route))
    ask(page, "?, waving, ?")
    page.wait_for_selector("h1:has-text('waving')")
    assert page.locator(".tile:visible").count() == 0
    assert page.inner_text("#answer") == ""
    held[0].continue_()
    page.wait_for_selector(".tile:visible")
    page.unroute("**/api/v1/query?*waving*")


def test_back_leads_to_the_same_place_among_the_same_photos(page: playwright.Page) -> None:
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_function("document.querySelectorAll('.tile').length === 61")
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    at = page.evaluate("scrollY")
    page.locator(".tile .open").last.click()
    page.wait_for_selector("dialog[open] #actions button")
    page.get_by_role("button", name="Similar photos").click()
    page.wait_for_selector("h1:has-text('Similar photos')")
    assert page.evaluate("scrollY") == 0
    page.go_back()  # to the photo
    page.wait_for_selector("dialog[open] #actions button")
    page.keyboard.press("Escape")
    page.wait_for_selector("#answer:has-text('61 photos')")
    page.locator("dialog[open]").wait_for(state="detached")
    assert page.locator(".tile").count() == 61
    assert abs(page.evaluate("scrollY") - at) < 20


def test_closing_a_photo_is_going_back(page: playwright.Page, address: str) -> None:
    ask(page, "?, waving, ?")
    page.wait_for_selector("#answer:has-text('waving')")
    length = page.evaluate("history.length")
    page.locator(".tile .open").first.click()
    page.wait_for_selector("dialog[open]")
    page.click("#close")
    page.locator("dialog[open]").wait_for(state="detached")
    page.go_back()
    page.wait_for_selector("#answer:has-text('61 photos')")
    assert page.evaluate("history.length") <= length + 1


def test_photos_fill_a_tall_screen(page: playwright.Page) -> None:
    page.set_viewport_size({"width": 2560, "height": 4000})
    page.reload()
    page.wait_for_function("document.querySelectorAll('.tile').length === 61")
    page.set_viewport_size({"width": 1280, "height": 900})


def test_arrow_keys_lead_from_photo_to_photo(page: playwright.Page) -> None:
    focused = "document.activeElement.closest('.tile')?.querySelector('b').textContent"
    names = page.locator(".tile b").all_inner_texts()
    page.locator(".tile .open").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == names[1]
    page.keyboard.press("x")
    assert page.inner_text("#chosen") == "1 chosen"
    page.keyboard.press("ArrowDown")
    below = names.index(page.evaluate(focused))
    assert below > 1
    page.keyboard.press("ArrowUp")
    assert names.index(page.evaluate(focused)) < below
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open]")


def test_arrow_keys_turn_an_opened_photo_also_from_the_first_one_on(page: playwright.Page) -> None:
    names = page.locator(".tile b").all_inner_texts()
    page.locator(".tile .open").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog[open] #details dd")
    assert page.evaluate("document.activeElement.id") == "close"
    page.locator("#before").wait_for(state="hidden")  # nothing comes before the first
    page.evaluate("document.activeElement.blur()")
    for number, key in ((1, "ArrowRight"), (2, "ArrowRight"), (1, "ArrowLeft")):
        page.keyboard.press(key)
        page.wait_for_function(f"document.getElementById('photo-name').textContent === {names[number]!r}")


def test_the_details_of_a_photo_lead_to_photos_like_it(page: playwright.Page) -> None:
    page.locator(".tile .open").first.click()
    page.click("#details a >> nth=1")
    page.wait_for_selector("#active li >> nth=1")
    assert set(parse_qs(urlsplit(page.url).query)) == {"after", "before"}
    page.wait_for_function("document.querySelectorAll('.tile').length === 1")
    page.click("#active button >> nth=0")
    page.wait_for_function(
        "document.querySelectorAll('.tile').length > 1 || document.querySelector('#active').children.length === 1"
    )
    assert set(parse_qs(urlsplit(page.url).query)) == {"before"}


def test_what_nothing_shows_and_what_is_unknown_is_said_in_words(page: playwright.Page) -> None:
    answer = {
        "query": "<submarine, ?, hrse>", "stage": 0, "scale": "cosines", "hits": [], "offset": 0, "next_offset": None,
        "notes": ["did you mean submarine, ?, horse?", "nothing here shows 'submarine' (presence 0.02, where ...)",
                  "'hrse' is nothing that this model knows: teach it by a few photos",
                  "'submarine' was not taught: answered as submarine, lifeboat",
                  "'hrse' was not taught: answered as throne, dome"],
        "presence": [{"text": "submarine", "value": 0.02}, {"text": "hrse", "value": None}],
        "suggestion": "submarine, ?, horse",
    }  # fmt: skip
    page.route("**/api/v1/query?*submarine*hrse*", lambda route: route.fulfill(json=answer))
    ask(page, "submarine with hrse")
    page.wait_for_selector("#answer:not(:empty)")
    assert page.inner_text("#answer") == "Understood as “submarine, anything, hrse”. Best first."
    assert page.locator("#notes li").all_inner_texts() == [
        "Did you mean submarine, ?, horse?",
        "Nothing here shows “submarine”. The closest photos follow.",
        "“hrse” is a word that this model does not know. Choose a few photos that show it, and teach it.",
    ]
    page.click("#how summary")
    assert "from 0 to 1" in page.inner_text("#scale")
    understood = page.inner_text("#understood")
    assert "0.02" in understood
    assert "lifeboat" in understood
    assert "throne" not in understood  # a word that is not known is answered by nothing
    page.unroute("**/api/v1/query?*submarine*hrse*")
    page.click("#notes a")
    page.wait_for_selector("h1:has-text('submarine, ?, horse')")


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


def choose(page: playwright.Page, count: int) -> None:
    for number in range(count):
        page.locator(".tile").nth(number).hover()
        page.locator(".mark").nth(number).click()
    assert page.inner_text("#chosen") == f"{count} chosen"


def test_filters_may_be_words_of_the_search(page: playwright.Page) -> None:
    ask(page, "?, waving, ? name:0*")
    page.wait_for_selector("#answer:has-text('name 0*')")
    assert page.locator(".tile b").all_inner_texts()[0].startswith("0")
    ask(page, 'name:0* folder:"own"')  # nothing else: all photos that meet them
    page.wait_for_selector("#active li >> nth=1")
    page.wait_for_selector("#answer:has-text('the latest first')")
    assert parse_qs(urlsplit(page.url).query) == {"name": ["0*"], "folder": ["own"]}


def test_chosen_photos_are_exported(page: playwright.Page) -> None:
    choose(page, 5)
    page.click("#export")
    with page.expect_download() as download:
        page.get_by_role("button", name="List of paths").click()
    assert len(Path(download.value.path()).read_bytes().splitlines()) == 5
    page.locator("#export-dialog").wait_for(state="hidden")
    page.click("#clear")
    page.locator("#selection").wait_for(state="hidden")


@pytest.mark.parametrize("form", ["Copy", "Link"])
def test_chosen_photos_are_written_into_a_folder(page: playwright.Page, tmp_path: Path, form: str) -> None:
    choose(page, 3)
    page.click("#export")
    page.fill("#folder", "found")
    page.get_by_role("button", name=form, exact=True).click()
    assert "is no absolute path" in page.locator("#export-error:not(:empty)").inner_text()
    page.fill("#folder", str(tmp_path / "found"))
    page.get_by_role("button", name=form, exact=True).click()
    page.wait_for_selector(f"#work:has-text('3 photos written into {tmp_path}/found')")
    written = list((tmp_path / "found").iterdir())
    assert len(written) == 3
    assert all(path.is_symlink() == (form == "Link") for path in written)
    page.click("#work >> text=OK")
    page.locator("#work").wait_for(state="hidden")


def test_a_range_and_a_month_are_chosen_at_once(page: playwright.Page) -> None:
    page.locator(".mark").nth(1).click(force=True)
    page.locator(".mark").nth(4).click(force=True, modifiers=["Shift"])
    assert page.inner_text("#chosen") == "4 chosen"
    page.click("#clear")
    month = page.locator("#results .grid").nth(1)
    page.get_by_role("button", name="Choose all of").nth(1).click(force=True)
    assert page.inner_text("#chosen") == f"{month.locator('.tile').count()} chosen"
    assert month.locator(".mark[aria-pressed=true]").count() == month.locator(".tile").count()


def test_all_photos_of_an_answer_that_are_shown_are_chosen(page: playwright.Page) -> None:
    ask(page, "?, waving, ?")
    page.wait_for_selector("#answer:has-text('waving')")
    page.click("#choose-shown")
    assert page.inner_text("#chosen") == f"{page.locator('.tile').count()} chosen"
    page.click("#choose-shown")
    page.locator("#selection").wait_for(state="hidden")


def test_chosen_photos_are_taught_and_the_lesson_is_undone(page: playwright.Page) -> None:
    choose(page, 5)
    page.click("#teach")
    assert page.locator("#lesson-photos img").count() == 5
    page.fill("#fact", "robot ? torches")
    page.press("#fact", "Enter")
    assert "no wildcard" in page.locator("#lesson-error:not(:empty)").inner_text()
    page.fill("#fact", "robot juggling torches")
    page.press("#fact", "Enter")
    page.wait_for_selector("#work:has-text('Learned “robot juggling torches”')")
    assert page.locator("#selection").is_hidden()  # it is done with
    page.click("#work >> text=Show what it finds")
    page.wait_for_selector("#answer:has-text('robot, juggling, torches')")
    page.get_by_role("link", name="Taught").click()
    page.wait_for_selector("#lessons li:has-text('robot juggling torches')")
    page.click("#undo")
    page.wait_for_selector("#lessons li:has-text('Nothing has been taught')")
    assert "is undone" in page.inner_text("#work")


def test_progress_of_long_work_covers_no_photo_and_stays_when_the_page_is_read_again(
    page: playwright.Page, address: str
) -> None:
    job = {
        "id": "1",
        "kind": "teach",
        "about": "a robot",
        "started": "",
        "state": "running",
        "result": None,
        "error": None,
    }
    running = job | {"progress": {"label": "learning", "done": 1, "total": 4}}
    page.route("**/api/v1/jobs", lambda route: route.fulfill(json=[running]))
    page.route("**/api/v1/jobs/1", lambda route: route.fulfill(json=running))
    page.goto(address)
    page.wait_for_selector("#work progress")
    assert page.get_attribute("#work progress", "value") == "1"
    page.wait_for_selector(".tile img")
    work, said = page.locator("#work").bounding_box(), page.locator("#said").bounding_box()
    assert work["y"] + work["height"] <= said["y"]
    page.unroute("**/api/v1/jobs")
    page.unroute("**/api/v1/jobs/1")


def test_near_duplicates_are_found_and_all_but_the_largest_chosen(page: playwright.Page) -> None:
    page.get_by_role("link", name="Near-duplicates").click()
    page.get_by_role("button", name="Look for near-duplicates").click()
    page.wait_for_selector("#groups .group")
    group = page.locator(".group", has_text="copy.jpg")
    assert group.locator(".tile b").all_inner_texts()[-1] == "copy.jpg"  # the smaller one
    group.get_by_role("button", name="Choose").last.click()
    assert "copy.jpg" in group.locator(".tile", has=page.locator(".mark[aria-pressed=true]")).last.inner_text()
    group.locator(".open").first.click()
    page.wait_for_selector("dialog[open] #details dd")
    page.keyboard.press("Escape")


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
    for view in ("", "?q=?,+waving,+?", "?view=taught", "?view=duplicates", "?q=%22"):
        page.goto(f"{address}/{view}")
        page.wait_for_load_state("networkidle")
        page.evaluate(axe)
        if view == "":
            page.click("#filters-button")
            page.locator(".mark").first.click(force=True)
            check(page)
            for dialog in ("teach", "export"):
                page.click(f"#{dialog}")
                check(page)
                page.keyboard.press("Escape")
            page.locator(".tile .open").first.click()
            page.wait_for_selector("dialog[open] #facts li")
            check(page)
        if view == "?q=?,+waving,+?":
            page.click("#how summary")
        check(page)


def check(page: playwright.Page) -> None:
    """No serious finding by axe-core, and no button beyond the screen's sides."""
    found = page.evaluate("axe.run({ resultTypes: ['violations'] }).then((result) => result.violations)")
    serious = [
        (each["id"], node["html"]) for each in found if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]  # fmt: skip
    assert serious == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    beyond = """() => [...document.querySelectorAll("button, input, select, a")]
        .filter((each) => each.checkVisibility())
        .map((each) => [each.outerHTML, each.getBoundingClientRect()])
        .filter(([, box]) => box.width && box.right > 0 && (box.left < 0 || box.right > innerWidth))
        .map(([html]) => html)"""
    assert page.evaluate(beyond) == []
