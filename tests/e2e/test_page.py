"""The search page in a real browser, on a real service over real pictures.

All tests share one service and one browser; each test has its own page. Faults that must occur at a certain moment
(an unreachable or overloaded service) are simulated by routes of the browser.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urljoin, urlsplit

import pytest
from PIL import Image, ImageDraw, ImageFont

import sceneseek_server
from sceneseek.bundle import Bundle
from sceneseek.store import CollectionInfo, VectorStore, open_store
from sceneseek_indexer.build import BuildOptions, index_folder
from sceneseek_server.access.keys import add_key, new_key
from sceneseek_server.feedback import export_lines
from tests.command_line import CommandLine
from tests.drawing import NAMES, scenery
from tests.museum import COPIES, PAINTINGS, build_museum, strict_bundle
from tests.running import running, watching

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Route

STATIC = Path(sceneseek_server.__file__).parent / "static"
# Near-duplicates are collapsed into the image that they are copies of.
LEADING = len(NAMES) + PAINTINGS
IMAGES = LEADING + sum(map(len, COPIES.values()))
THRESHOLD = 0.3
PATIENCE = 60_000  # milliseconds; the page polls the service's state every ten seconds, and the machine may be busy
WORDING = {4: "matches fully", 3: "matches except for details", 2: "shares elements", 1: "does not match"}
Visit = Callable[..., "Page"]


@pytest.fixture(scope="module")
def store(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> VectorStore:
    """An index of the museum that the service has open; a test may build another generation in it."""
    home = tmp_path_factory.mktemp("museum")
    pictures, metadata = build_museum(home)
    store = open_store(f"file:{home / 'index'}")
    index_folder(pictures, bundle, store, BuildOptions(metadata=str(metadata)))
    return store


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file in which the service stores ratings."""
    return tmp_path_factory.mktemp("ratings") / "ratings.sqlite"


@pytest.fixture(scope="module")
def site(bundle: Bundle, store: VectorStore, ratings: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a service over `store`, whose bundle has a match threshold."""
    home = tmp_path_factory.mktemp("service")
    strict = strict_bundle(bundle, home / "bundle", THRESHOLD)
    with running("--bundle", strict, "--index", store.url, "--feedback", ratings) as service:
        yield service.url


@pytest.fixture
def visit(browser: Browser, site: str) -> Iterator[Visit]:
    """Open the page: `visit("?q=a+dog", locale="ru-RU")`, or another service's page by its full URL.

    JavaScript errors and violations of the content security policy fail the test at teardown.
    """
    contexts: list[BrowserContext] = []
    page_errors: list[str] = []

    def report_csp_violation(message: ConsoleMessage) -> None:
        if "Content Security" in message.text:
            page_errors.append(message.text)

    def open_page(address: str = "", /, **settings: Any) -> Page:
        settings = {
            "locale": "en-GB",
            "viewport": {"width": 1280, "height": 800},
            "reduced_motion": "reduce",
            **settings,
        }
        context = browser.new_context(**settings)
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        page = context.new_page()
        page.add_init_script(RECORD_LAYOUT_SHIFTS)
        page.on("pageerror", lambda error: page_errors.append(str(error)))
        page.on("console", report_csp_violation)
        page.goto(urljoin(site, address))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert page_errors == []


# Record every layout shift, including those right after user input.
RECORD_LAYOUT_SHIFTS = """
    window.shifts = [];
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => window.shifts.push(
        entry.value + ' ' + entry.sources.map((s) => s.node?.id || s.node?.className || s.node?.nodeName).join(' '))))
      .observe({ type: 'layout-shift', buffered: true });
"""


def results(page: Page) -> Locator:
    return page.locator("#results > li[data-id]")


def ids(page: Page) -> list[str]:
    result_ids: list[str] = results(page).evaluate_all("items => items.map((item) => item.dataset.id)")
    return result_ids


def wait_for_results(page: Page, query: str) -> None:
    """Wait until the page shows the results of a query."""
    page.wait_for_function(
        "query => document.title.startsWith(query) && !document.querySelector('#results').ariaBusy"
        " && document.querySelector('#summary-shown')",
        arg=query,
    )


def wait_until_updated(page: Page) -> None:
    """Wait until the results are those of the page's present state."""
    page.wait_for_function("() => !document.querySelector('#results').ariaBusy")


def get_json(page: Page, address: str) -> Any:
    """The JSON that the service returns to the page's browser."""
    return page.request.get(page.url.split("?")[0] + address).json()


def arguments(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


@contextmanager
def mocked_route(page: Page, where: str, answer: Callable[[Route], None]) -> Iterator[None]:
    page.route(where, answer)
    yield
    page.unroute(where)


def problem(route: Route, status: int, detail: str, **headers: str) -> None:
    body = json.dumps({"type": "about:blank", "title": "x", "status": status, "detail": detail})
    route.fulfill(status=status, body=body, headers={"Content-Type": "application/problem+json", **headers})


# --- search as you type


def test_typing_searches_without_submit_and_updates_url(visit: Visit) -> None:
    page = visit()
    page.get_by_label("Describe what you are looking for").press_sequentially("a red circle", delay=20)
    wait_for_results(page, "a red circle")
    assert arguments(page) == {"q": ["a red circle"]}
    assert results(page).first.locator("img").get_attribute("alt") == "Red circle, drawn"
    assert re.search(
        r"\d+ images shown.*best of \d+ compared closely.*\d+ ms", page.locator("#summary").inner_text(), re.DOTALL
    )


def test_negated_query_shows_hint(visit: Visit) -> None:
    page = visit("?q=a+red+circle+without+a+frame")
    wait_for_results(page, "a red circle without a frame")
    assert "put them into “Plus, minus” instead" in page.locator("#summary").inner_text()


# Letters without a pause between them, however busy the machine is.
TYPE_AT_ONCE = """(field, text) => {
    for (const letter of text) {
        field.value += letter;
        field.dispatchEvent(new Event("input", {bubbles: true}));
    }
}"""


def test_typing_is_debounced_and_late_responses_are_discarded(visit: Visit) -> None:
    page = visit("?q=sunset")
    wait_for_results(page, "sunset")
    searched: list[str] = []
    held: list[Route] = []

    def hold(route: Route) -> None:
        query = parse_qs(urlsplit(route.request.url).query)
        if query["offset"] == ["0"]:  # further results, also of the previous search, may be requested at any time
            searched.append(query["q"][0])
        held.append(route) if query["q"] == ["a red"] else route.continue_()

    page.route("**/v1/search?*", hold)
    field = page.locator("#query")
    field.fill("")
    field.evaluate(TYPE_AT_ONCE, "a red")
    page.wait_for_function("() => document.title.startsWith('a red')")
    page.wait_for_timeout(50)
    field.evaluate(TYPE_AT_ONCE, " circle")
    wait_for_results(page, "a red circle")
    before = ids(page)
    assert len(held) == 1
    held[0].abort()  # the page has cancelled it already
    page.wait_for_timeout(100)
    assert ids(page)[: len(before)] == before
    assert list(dict.fromkeys(searched)) == ["a red", "a red circle"]


def test_back_forward_and_reload_restore_searches(visit: Visit) -> None:
    page = visit()
    field = page.locator("#query")
    for query in ("sunset", "a blue square"):
        field.fill(query)
        field.press("Enter")
        wait_for_results(page, query)
    page.go_back()
    wait_for_results(page, "sunset")
    assert field.input_value() == "sunset"
    page.go_forward()
    wait_for_results(page, "a blue square")
    page.reload()
    wait_for_results(page, "a blue square")
    page.go_back()
    page.go_back()
    page.wait_for_function("() => !document.querySelector('#results li[data-id]')")
    assert field.input_value() == ""


def test_continuous_typing_adds_one_history_entry(visit: Visit) -> None:
    page = visit("?q=sunset")
    wait_for_results(page, "sunset")
    field = page.locator("#query")
    field.fill("")
    for part in ("a", " blue", " square"):
        field.press_sequentially(part)
        page.wait_for_timeout(160)
    wait_for_results(page, "a blue square")
    page.go_back()
    wait_for_results(page, "sunset")


# --- the grid


# At some widths the remaining space has a fraction of a pixel.
@pytest.mark.parametrize("width", [390, 820, 1280, 2200])
def test_grid_preserves_aspect_ratios_and_fills_rows(visit: Visit, width: int) -> None:
    page = visit("?q=colourful+dots", viewport={"width": width, "height": 900})
    wait_for_results(page, "colourful dots")
    frames = page.locator("#results .frame").evaluate_all(
        "all => all.map((frame) => [frame.clientWidth / frame.clientHeight,"
        " frame.firstChild.getAttribute('width') / frame.firstChild.getAttribute('height')])"
    )
    assert len(frames) > 5
    for frame, picture in frames:
        assert frame == pytest.approx(picture, rel=0.02)
    right, edge = page.evaluate(
        "() => { const right = (it) => it.getBoundingClientRect().right;"
        " const list = document.querySelector('#results');"
        " return [Math.max(...[...list.children].map(right)), right(list)]; }"
    )
    assert edge - 2 <= right <= edge + 0.5
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_searching_and_scrolling_cause_no_layout_shifts(visit: Visit) -> None:
    page = visit()
    page.locator("#examples img").first.wait_for()
    for query in ("a red circle", "a house"):
        page.locator("#query").fill(query)
        wait_for_results(page, query)
        page.wait_for_load_state("networkidle")
    for _ in range(6):
        page.mouse.wheel(0, 1500)
        page.wait_for_timeout(80)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("shifts") == []


def test_result_score_is_shown_as_nearest_rating(visit: Visit) -> None:
    page = visit("?q=colourful+dots")
    wait_for_results(page, "colourful dots")
    answer = get_json(page, "v1/search?q=colourful+dots&k=24")
    marks = results(page).locator(".mark")
    wordings = marks.all_inner_texts()
    levels = [int(level) for level in marks.evaluate_all("all => all.map((mark) => mark.dataset.level)")]
    expected = [round(3 * result["score"]) + 1 for result in answer["results"]]
    assert levels[:10] == expected[:10]
    assert [text.strip() for text in wordings[:10]] == [WORDING[level] for level in expected[:10]]


def test_search_without_match_shows_notice_and_nearest_results(visit: Visit) -> None:
    page = visit("?q=an+elephant")
    wait_for_results(page, "an elephant")
    assert page.locator("#verdict").inner_text() == "Nothing here matches well. The nearest are:"
    assert results(page).count() > 5
    assert set(results(page).locator(".mark").all_inner_texts()) <= {WORDING[1], WORDING[2]}
    page.locator("#query").fill("красный круг")
    wait_for_results(page, "красный круг")
    assert page.locator("#verdict").is_hidden()


# --- the viewer


def test_viewer_shows_metadata_and_score_explanation(visit: Visit) -> None:
    page = visit("?q=a+red+circle")
    wait_for_results(page, "a red circle")
    results(page).first.click()
    viewer = page.get_by_role("dialog", name="Red circle, drawn")
    viewer.get_by_text(re.compile("320 . 240 pixels, PNG")).wait_for()
    assert {"room", "Red Room", "year", "1900", "tags", "drawn, shapes"} <= set(
        viewer.locator(".facts > *").all_inner_texts()
    )
    why = viewer.locator(".score").inner_text()
    assert re.search(r"shares elements\s+Score 0\.\d\d of 1 for the words “a red circle”", why)
    assert re.search(r"Number \d+ among the nearest, (and also after scoring|moved (up|down) to 1 by its score)", why)
    assert "view" in arguments(page)
    page.wait_for_function("() => document.querySelector('.picture .whole').naturalWidth === 320")
    page.go_back()
    viewer.wait_for(state="hidden")
    assert arguments(page) == {"q": ["a red circle"]}


def test_more_like_this_searches_by_image_and_combines_with_text(visit: Visit) -> None:
    page = visit("?q=a+red+circle")
    wait_for_results(page, "a red circle")
    first = ids(page)[0]
    results(page).first.click()
    page.get_by_role("button", name="More like this").click()
    page.wait_for_function(
        "() => !document.querySelector('dialog').open && document.querySelector('#results li[data-id]')"
    )
    page.get_by_text("sorted by similarity").wait_for()
    assert arguments(page) == {"image": [first]}
    assert first not in ids(page)
    assert page.locator("#results .mark").count() == 0
    page.locator("#query").fill("blue")
    wait_for_results(page, "blue")
    assert arguments(page) == {"image": [first], "q": ["blue"]}
    assert page.locator("#results .mark").count() > 0
    alike = ids(page)
    weight = page.get_by_label("What counts more")
    weight.evaluate("range => { range.value = 1; range.dispatchEvent(new Event('change')); }")
    page.wait_for_function("first => document.querySelector('#results li[data-id]').dataset.id !== first", arg=alike[0])
    assert arguments(page)["text_weight"] == ["1"]
    page.get_by_role("button", name="Do not search by the picture").click()
    page.wait_for_url("**/?q=blue")


def test_rating_is_stored_and_acknowledged(visit: Visit, ratings: Path) -> None:
    page = visit("?q=a+red+circle")
    wait_for_results(page, "a red circle")
    results(page).first.click()
    page.get_by_role("button", name="matches except for details").click()
    page.get_by_text("Saved: matches except for details. Thank you.").wait_for()
    page.keyboard.press("4")
    page.get_by_text("Saved: matches fully. Thank you.").wait_for()
    assert page.get_by_role("button", name="matches fully").get_attribute("aria-pressed") == "true"
    stored = [json.loads(line) for line in export_lines(ratings)]
    assert [(each["query"], each["image"], each["rating"]) for each in stored] == [
        ("a red circle", "shapes/red circle.png", rating) for rating in (3, 4)
    ]


def test_rating_is_hidden_when_service_collects_none(visit: Visit) -> None:
    page = visit("?q=a+red+circle")
    wait_for_results(page, "a red circle")
    with mocked_route(page, "**/v1/feedback", lambda route: problem(route, 404, "nothing is here")):
        results(page).first.click()
        page.get_by_role("button", name="shares elements").click()
        page.get_by_text("This service does not store ratings.").wait_for()
        page.keyboard.press("ArrowRight")
        page.get_by_text("2 of the results").wait_for()
        assert page.locator(".rating").is_hidden()


def test_results_and_viewer_are_keyboard_navigable(visit: Visit) -> None:
    page = visit("?q=a+red+circle")
    wait_for_results(page, "a red circle")

    def focused() -> int:
        index: int = page.evaluate("[...document.querySelectorAll('#results a')].indexOf(document.activeElement)")
        return index

    page.locator("h1 a").focus()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.press("ArrowDown")
    assert focused() == 0
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    assert focused() == 1
    page.keyboard.press("ArrowDown")
    below = page.evaluate("document.activeElement.closest('li').offsetTop")
    assert below > 0
    assert focused() > 1
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.get_by_text("1 of the results").wait_for()
    page.keyboard.press("ArrowRight")
    page.get_by_text("2 of the results").wait_for()
    page.keyboard.press("Escape")
    page.locator("dialog").wait_for(state="hidden")
    page.wait_for_function("() => document.activeElement.closest('li')")
    assert focused() == 1
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.type("/")
    assert page.locator("#query").input_value().endswith("/")


def test_single_key_shortcuts_can_be_disabled(visit: Visit) -> None:
    page = visit()
    page.get_by_text("Shortcuts", exact=True).click()
    page.get_by_label("Single-key shortcuts").uncheck()
    page.reload()
    page.locator("h1 a").focus()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "home"


def test_copied_link_opens_same_search_and_image(visit: Visit) -> None:
    page = visit("?q=a+red+circle", permissions=["clipboard-read", "clipboard-write"])
    wait_for_results(page, "a red circle")
    results(page).nth(2).click()
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("Link copied").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    title = page.locator("#viewer-title").inner_text()
    other = visit("?" + link.partition("?")[2])
    other.get_by_role("dialog", name=title).wait_for()
    other.get_by_text("Why this result").wait_for()
    other.keyboard.press("Escape")
    wait_for_results(other, "a red circle")


def test_image_link_without_query_opens_viewer(visit: Visit) -> None:
    page = visit()
    known = get_json(page, "v1/search?q=a+red+circle&k=1")["results"][0]
    page.goto(f"{page.url}?view={known['id']}")
    page.get_by_role("dialog", name="Red circle, drawn").wait_for()
    assert page.locator("dialog .rating").is_hidden()
    page.goto(page.url.split("?")[0] + "?view=00000000-0000-5000-8000-000000000000")
    page.get_by_text("This image is no longer in the collection.").wait_for()


# --- query images


def picture(seed: int, width: int = 480, height: int = 320, kind: str = "JPEG") -> str:
    """A drawn picture's file in base64, for scripts in the browser."""
    out = io.BytesIO()
    scenery(seed, width, height).save(out, kind)
    return base64.b64encode(out.getvalue()).decode("ascii")


INSERT_FILE = """([how, data, type]) => {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
    const transfer = new DataTransfer();
    transfer.items.add(new File([bytes], 'brought', { type }));
    const about = { bubbles: true, cancelable: true };
    if (how === 'drop') {
        document.body.dispatchEvent(new DragEvent('dragenter', { ...about, dataTransfer: transfer }));
        window.curtain = !document.querySelector('#drop').hidden;
        document.body.dispatchEvent(new DragEvent('drop', { ...about, dataTransfer: transfer }));
    } else {
        document.body.dispatchEvent(new ClipboardEvent('paste', { ...about, clipboardData: transfer }));
    }
}"""


@pytest.mark.parametrize("how", ["drop", "paste", "choose"])
def test_dropped_pasted_or_chosen_image_is_its_own_first_result(visit: Visit, how: str) -> None:
    page = visit()
    if how == "choose":
        data = base64.b64decode(picture(7, 640, 256))
        page.locator("#file").set_input_files({"name": "mine.jpg", "mimeType": "image/jpeg", "buffer": data})
    else:
        page.evaluate(INSERT_FILE, [how, picture(7, 640, 256), "image/jpeg"])
    page.get_by_text("sorted by similarity").wait_for()
    assert results(page).first.locator("img").get_attribute("alt") == "07, drawn"
    assert page.get_by_label("Searching by your picture").is_visible()
    if how == "drop":
        assert page.evaluate("curtain")
        assert page.locator("#drop").is_hidden()


def test_dropped_result_becomes_query_image(visit: Visit) -> None:
    page = visit("?q=a+red+circle")
    wait_for_results(page, "a red circle")
    second = ids(page)[1]
    page.evaluate(
        """address => {
            const dataTransfer = new DataTransfer();
            dataTransfer.setData('text/uri-list', address);
            document.body.dispatchEvent(new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer }));
        }""",
        page.url.split("?")[0] + f"v1/images/{second}/thumbnail",
    )
    page.get_by_alt_text("Searching by an image of the collection").wait_for()
    assert arguments(page) == {"q": ["a red circle"], "image": [second]}


def test_query_image_combines_with_text_survives_reload_and_is_removed_by_back(visit: Visit) -> None:
    page = visit("?q=a+red+circle")
    wait_for_results(page, "a red circle")
    before = ids(page)
    page.evaluate(INSERT_FILE, ["paste", picture(7, 2400, 1000, "PNG"), "image/png"])
    page.get_by_label("Searching by your picture").wait_for()
    page.wait_for_function(
        "first => document.querySelector('#results li[data-id]').dataset.id !== first", arg=before[0]
    )
    together = ids(page)
    page.reload()
    page.get_by_label("Searching by your picture").wait_for()
    wait_for_results(page, "a red circle")
    assert ids(page) == together
    page.go_back()
    page.wait_for_function(
        "first => document.querySelector('#results li[data-id]').dataset.id === first", arg=before[0]
    )
    assert page.get_by_label("Searching by your picture").count() == 0


def test_invalid_query_image_is_rejected_with_advice(visit: Visit) -> None:
    page = visit()
    page.evaluate(INSERT_FILE, ["drop", base64.b64encode(b"words").decode(), "text/plain"])
    page.get_by_role("alert").get_by_text("That is not a picture").wait_for()
    page.evaluate(INSERT_FILE, ["drop", base64.b64encode(b"no jpeg").decode(), "image/jpeg"])
    page.get_by_role("alert").get_by_text("send a JPEG, PNG, WebP or GIF").wait_for()


# --- filters, examples, near-duplicates, pagination


def test_filters_are_derived_from_metadata_and_stored_in_url(visit: Visit) -> None:
    page = visit("?q=colourful+dots")
    wait_for_results(page, "colourful dots")
    page.get_by_role("button", name="Filters").click()
    panel = page.get_by_role("group", name="Filters")
    assert panel.locator("legend").all_inner_texts() == ["taken", "room", "year", "acquired", "lent", "tags"]
    panel.get_by_label("Red Room").check()
    page.get_by_text("room: Red Room").wait_for()
    panel.get_by_label("from, year").fill("1950")
    panel.get_by_label("from, year").press("Tab")
    panel.get_by_label("to, acquired").fill("December 2018")
    panel.get_by_label("to, acquired").press("Tab")
    panel.get_by_label("no").check()
    page.get_by_text("lent: no").wait_for()
    page.wait_for_load_state("networkidle")
    conditions = [json.loads(condition) for condition in arguments(page)["filter"]]
    assert conditions == [
        {"field": "room", "any_of": ["Red Room"]},
        {"field": "year", "gte": 1950},
        {"field": "acquired", "lte": "December 2018"},
        {"field": "lent", "equals": False},
    ]
    expected = get_json(page, "v1/search?" + urlsplit(page.url).query + "&k=100")["results"]
    assert 0 < len(expected) < 20
    assert all(r["metadata"]["room"] == "Red Room" and r["metadata"]["year"] >= 1950 for r in expected)
    page.reload()
    wait_for_results(page, "colourful dots")
    page.wait_for_function("n => document.querySelectorAll('#results li[data-id]').length === n", arg=len(expected))
    page.get_by_role("button", name="Remove the filter room: Red Room").click()
    page.wait_for_function("n => document.querySelectorAll('#results li[data-id]').length > n", arg=len(expected))
    page.get_by_role("button", name="Filters (3)").click()
    assert not panel.get_by_label("Red Room").is_checked()
    assert panel.get_by_label("from, year").input_value() == "1950"


def test_plus_and_minus_terms_are_weighted_chips(visit: Visit) -> None:
    page = visit("?q=colourful+dots")
    wait_for_results(page, "colourful dots")
    before = ids(page)
    page.get_by_role("button", name="Plus, minus").click()
    page.get_by_label("Without").fill("a house")
    page.get_by_label("Without").press("Enter")
    page.get_by_role("button", name="Remove: without a house").wait_for()
    page.get_by_label("Also").fill("the sea")
    page.get_by_role("group").filter(has=page.get_by_label("Also")).get_by_role("button", name="Add").first.click()
    page.get_by_label("Weight of: also the sea").select_option("0.5")
    page.wait_for_function("() => location.search.includes('0.5')")
    assert arguments(page)["terms"] == ["-a house", "the sea:0.5"]
    wait_until_updated(page)
    expected = get_json(page, "v1/search?" + urlsplit(page.url).query + "&k=10")
    assert expected["query"] == "colourful dots, -a house, the sea:0.5"
    assert ids(page)[:10] == [result["id"] for result in expected["results"]] != before[:10]
    page.reload()
    page.get_by_role("button", name="Remove: also the sea").click()
    page.get_by_role("button", name="Remove: without a house").click()
    wait_until_updated(page)
    assert arguments(page) == {"q": ["colourful dots"]}
    assert ids(page)[:10] == before[:10]


def test_less_like_this_subtracts_an_image(visit: Visit) -> None:
    page = visit("?q=colourful+dots")
    wait_for_results(page, "colourful dots")
    first = ids(page)[0]
    results(page).first.click()
    page.get_by_role("button", name="Less like this").click()
    page.get_by_role("button", name="Remove: without an image of the collection").wait_for()
    assert arguments(page) == {"q": ["colourful dots"], "terms": [f"-{first}"]}
    wait_until_updated(page)
    assert first not in ids(page)


def test_matches_are_counted_and_separated_from_other_results(visit: Visit) -> None:
    page = visit("?q=красный+круг")
    wait_for_results(page, "красный круг")
    answer = get_json(page, "v1/search?q=красный+круг&k=24")
    matching = answer["matches"]
    assert 0 < matching < 20
    assert f"{matching} match" in page.locator("#summary").inner_text()
    kinds = page.locator("#results > li").evaluate_all("all => all.map((item) => item.className)")
    assert kinds.index("heading") == matching
    assert kinds.count("heading") == 1
    assert page.get_by_role("heading", name="Other results").is_visible()


def test_sort_by_date_shows_month_headings(visit: Visit) -> None:
    page = visit("?q=красный+круг")
    page.get_by_label("Order").select_option("newest first")
    page.wait_for_function("() => document.querySelectorAll('#results .heading').length > 1")
    assert arguments(page)["sort"] == ["-taken"]
    expected = get_json(page, "v1/search?" + urlsplit(page.url).query + "&k=100")["results"]
    times = [result["metadata"]["taken"] for result in expected]
    assert times == sorted(times, reverse=True)
    assert ids(page) == [result["id"] for result in expected][: len(ids(page))]
    headings = page.locator("#results .heading").all_inner_texts()
    assert len(set(headings)) == len(headings)
    assert all(re.fullmatch(r"[A-Z][a-z]+ 20\d\d", heading) for heading in headings)


def test_selected_results_can_be_downloaded_and_searched_by(visit: Visit) -> None:
    page = visit("?q=colourful+dots")
    wait_for_results(page, "colourful dots")
    chosen = ids(page)[:2]
    bar = page.get_by_role("group", name="The selected pictures", include_hidden=True)
    assert bar.is_hidden()
    for identity in chosen:
        page.locator(f"#results > li[data-id='{identity}'] .select").check()
    assert bar.get_by_text("2 selected").is_visible()
    assert bar.get_by_role("button", name="Copy paths").is_hidden(), "this service hides them"
    with page.expect_download() as downloading:
        bar.get_by_role("link", name="Download as ZIP").click()
    with zipfile.ZipFile(downloading.value.path()) as archive:
        assert archive.testzip() is None
        assert {Path(name).stem for name in archive.namelist()} == set(chosen)
    bar.get_by_role("button", name="More like these").click()
    page.wait_for_function("() => !location.search.includes('q=')")
    assert arguments(page) == {"terms": chosen}
    wait_until_updated(page)
    assert bar.is_hidden()
    assert not set(chosen) & set(ids(page))


def test_filters_without_results_show_notice_and_can_be_cleared(visit: Visit) -> None:
    page = visit("?q=colourful+dots&filter=year%3E2500")
    page.get_by_text("No image matches the filters.").wait_for()
    assert page.get_by_text("year>2500").is_visible()
    page.get_by_role("button", name="Clear the filters").click()
    wait_for_results(page, "colourful dots")
    assert arguments(page) == {"q": ["colourful dots"]}


def test_example_queries_match_the_collection(visit: Visit) -> None:
    page = visit()
    page.locator("#examples a").first.wait_for()
    for query in page.locator("#examples .title").all_inner_texts():
        assert get_json(page, f"v1/search?q={query}&k=1")["match"]
    query = page.locator("#examples .title").first.inner_text()
    page.locator("#examples a").first.click()
    wait_for_results(page, query)
    assert page.locator("#welcome").is_hidden()


def test_near_duplicates_are_collapsed_with_count_and_can_be_expanded(visit: Visit) -> None:
    page = visit("?q=colourful+dots&filter=tags%3Dpaintings&filter=year%3D1915")
    page.locator(".similar").wait_for()
    assert (results(page).count(), page.locator(".similar > :first-child").inner_text()) == (1, "+2")
    results(page).first.click()
    page.get_by_role("button", name="Show 2 near-duplicates").click()
    page.get_by_text("near-duplicates shown").wait_for()
    page.wait_for_function("() => document.querySelectorAll('#results li[data-id]').length > 2")
    assert page.locator(".similar").count() == 2


def test_scrolling_loads_every_result_once_in_service_order(visit: Visit) -> None:
    page = visit("?q=colourful+dots")
    wait_for_results(page, "colourful dots")
    for _ in range(40):
        page.mouse.wheel(0, 3000)
        page.wait_for_timeout(40)
        if page.locator("#more").is_hidden():
            break
    page.wait_for_load_state("networkidle")
    loaded = ids(page)  # read once: more results may be loading
    assert len(loaded) == len(set(loaded)) == LEADING
    expected = get_json(page, "v1/search?q=colourful+dots&k=100")["results"]
    assert ids(page)[:24] == [result["id"] for result in expected][:24]


def test_failed_result_page_can_be_retried(visit: Visit) -> None:
    page = visit("", viewport={"width": 1280, "height": 300})
    failed: list[str] = []

    def once(route: Route) -> None:
        if "offset=0&" in route.request.url or len(failed) > 0:
            route.continue_()
        else:
            failed.append(route.request.url)
            problem(route, 503, "no time")

    page.route("**/v1/search?*", once)
    page.locator("#query").fill("colourful dots")
    wait_for_results(page, "colourful dots")
    page.mouse.wheel(0, 3000)
    page.get_by_role("button", name="The rest could not be loaded. Try again").click()
    page.wait_for_function("() => document.querySelectorAll('#results li[data-id]').length > 30")
    loaded = ids(page)  # read once: more results may be loading
    assert len(loaded) == len(set(loaded))


# --- the service's state


def refresh_status(page: Page) -> None:
    """Make the page poll the service's state now instead of within ten seconds."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_status_line_shows_collection_pack_and_device(visit: Visit) -> None:
    page = visit()
    page.locator("#status span").nth(3).wait_for()
    images, indexed, pack, device = page.locator("#status span").all_inner_texts()
    assert (images, pack, device) == (f"{IMAGES} images", "compact", "on CPU")
    assert re.fullmatch(r"indexed \d+ \w+ 20\d\d, \d\d:\d\d", indexed)
    generation = get_json(page, "v1/collections")["live"]
    assert page.locator("#status span").nth(1).get_attribute("title") == f"Generation {generation}"


def test_running_reindex_is_reported_and_new_generation_offered(visit: Visit, store: VectorStore) -> None:
    page = visit("?q=a+red+circle")
    wait_for_results(page, "a red circle")
    page.locator("#status span").first.wait_for()
    live = next(info for info in store.generations() if info.name == store.live())
    number = int(live.name.rpartition("-")[2]) + 1 if live.name.startswith("renewed-") else 1
    with store.writing():
        building = store.create(
            replace(live, name=f"renewed-{number}", created=f"2030-01-0{number}T00:00:00+00:00"), live.name
        )
        with closing(building):
            refresh_status(page)
            page.get_by_text("The collection is being indexed again.").wait_for()
            store.publish(building)
    page.get_by_text("The collection has changed.").wait_for()
    assert page.get_by_text("The collection is being indexed again.").count() == 0
    page.get_by_role("button", name="Search again").click()
    page.get_by_text("the collection has changed; searched again").wait_for()
    page.get_by_text("The collection has changed.").wait_for(state="detached")
    assert page.evaluate("shifts") == []


def test_generation_change_between_result_pages_restarts_results(visit: Visit) -> None:
    page = visit("", viewport={"width": 1280, "height": 300})
    switched: list[str] = []

    def switch(route: Route) -> None:
        document = route.fetch().json()
        if "offset=24&" in route.request.url or switched:
            switched.append(route.request.url)
            document["generation"] = "another"
        route.fulfill(json=document)

    page.route("**/v1/search?*", switch)
    page.locator("#query").fill("colourful dots")
    wait_for_results(page, "colourful dots")
    page.mouse.wheel(0, 3000)
    page.get_by_text("the collection has changed; searched again").wait_for()
    page.mouse.wheel(0, 3000)
    page.wait_for_function("() => document.querySelectorAll('#results li[data-id]').length > 30")
    assert ["offset=24&" in url for url in switched][:2] == [True, False]
    loaded = ids(page)  # read once: more results may be loading
    assert len(loaded) == len(set(loaded))


def test_unreachable_service_is_reported_until_recovery(visit: Visit) -> None:
    page = visit()
    page.locator("#status span").first.wait_for()
    page.context.set_offline(True)
    page.locator("#query").fill("a red circle")
    page.get_by_role("alert").get_by_text("The service does not answer.").wait_for()
    page.locator("#status").get_by_text("not ready").wait_for()
    page.context.set_offline(False)
    wait_for_results(page, "a red circle")
    page.locator("#status").get_by_text("compact").wait_for()
    assert page.locator("#problem").is_hidden()
    assert page.locator(".banner").count() == 0


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (503, {}, "The service is not ready: the index is away."),
        (429, {"Retry-After": "1"}, "The service is busy. This page retries in 1 s."),
    ],
)
def test_transient_failures_are_shown_and_retried(
    visit: Visit, status: int, headers: dict[str, str], message: str
) -> None:
    page = visit()
    with mocked_route(page, "**/v1/search?*", lambda route: problem(route, status, "the index is away", **headers)):
        page.locator("#query").fill("a red circle")
        page.get_by_role("alert").get_by_text(message).wait_for()
    wait_for_results(page, "a red circle")


def test_missing_api_key_is_reported_and_not_retried(visit: Visit) -> None:
    page = visit()
    tries: list[str] = []

    def refuse(route: Route) -> None:
        tries.append(route.request.url)
        problem(route, 401, "a key is needed")

    with mocked_route(page, "**/v1/search?*", refuse):
        page.locator("#query").fill("a red circle")
        page.get_by_role("alert").get_by_text("This service requires a key.").wait_for()
        page.wait_for_timeout(300)
    assert len(tries) == 1


# --- empty index


def test_empty_index_shows_command_and_search_starts_after_indexing(
    visit: Visit, bundle: Bundle, gallery: Path, tmp_path: Path
) -> None:
    pytest.importorskip("axe_playwright_python", reason="axe-core is not installed (the extra dev has it)")
    store = open_store(f"file:{tmp_path}/index")
    with running("--bundle", bundle.path, "--index", store.url, "--show-paths") as service:
        for scheme, width in (("light", 390), ("dark", 390), ("light", 1280), ("dark", 1280)):
            page = visit(service.url, color_scheme=scheme, viewport={"width": width, "height": 800})
            page.get_by_role("heading", name="Nothing is indexed yet").wait_for()
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width
        command = f"sceneseek index DIR --bundle {bundle.path} --index {store.url}"
        assert page.locator("#first code").all_inner_texts() == [command]
        assert page.locator("#status").inner_text() == "nothing indexed"
        assert page.locator("#query").is_hidden()
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
        page.evaluate("document.activeElement.blur()")
        with_a_query = visit(f"{service.url}?q=a+red+circle", locale="ru-RU")
        with_a_query.get_by_text("Пока ничего не проиндексировано").wait_for()
        assert with_a_query.locator("#problem").is_hidden()
        assert not re.search(r"\{\w+\}|undefined", with_a_query.locator("body").inner_text())

        info = CollectionInfo("begun", "0" * 64, 386, 0, (), "2030-01-01T00:00:00+00:00")
        with store.writing(), closing(store.create(info)):
            refresh_status(page)
            page.get_by_text("A folder is being indexed.").wait_for()
        page.evaluate("window.same = true")
        index_folder(gallery, bundle, store)
        page.get_by_text(f"{len(NAMES)} images", exact=True).wait_for()
        assert page.locator("#first").is_hidden()
        assert page.evaluate("[window.same, document.activeElement.id]") == [True, "query"]
        page.keyboard.type("a red circle")
        wait_for_results(page, "a red circle")
        wait_for_results(with_a_query, "a red circle")


def test_empty_index_command_has_placeholders_when_paths_are_hidden(
    visit: Visit, bundle: Bundle, tmp_path: Path
) -> None:
    with running("--bundle", bundle.path, "--index", f"file:{tmp_path}/index") as service:
        page = visit(service.url)
        page.get_by_text("BUNDLE and INDEX stand for settings of the service").wait_for()
        commands = ["sceneseek index DIR --bundle BUNDLE --index INDEX", "make reindex IMAGES=DIR"]
        assert page.locator("#first code").all_inner_texts() == commands
        assert str(tmp_path) not in page.content()


# --- accessibility and languages


AXE = """async () => {
    const standards = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    const { violations } = await axe.run(document, { runOnly: { type: 'tag', values: standards } });
    return violations.map(({ id, nodes }) => [id, ...nodes.map((node) => node.html + node.failureSummary)].join(': '));
}"""


def violations(page: Page) -> list[str]:
    """Run axe-core without changing the page's content security policy."""
    import axe_playwright_python  # noqa: PLC0415 - used only for the axe-core script that it ships

    script = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    page.evaluate(script)
    descriptions: list[str] = page.evaluate(AXE)
    return descriptions


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_has_no_axe_violations(visit: Visit, scheme: str, width: int) -> None:
    pytest.importorskip("axe_playwright_python", reason="axe-core is not installed (the extra dev has it)")
    page = visit("", color_scheme=scheme, viewport={"width": width, "height": 800})
    page.locator("#examples a").first.wait_for()
    page.locator("#status span").first.wait_for()
    assert violations(page) == []
    page.get_by_text("Shortcuts", exact=True).click()
    assert violations(page) == []
    page.get_by_text("Shortcuts", exact=True).click()
    page.get_by_role("button", name="Plus, minus").click()
    page.get_by_label("Without").fill("a tree")
    page.get_by_label("Without").press("Enter")
    page.get_by_role("button", name="Filters").click()
    page.locator("#filters").get_by_label("Red Room").check()
    page.locator("#query").fill("a house")
    wait_for_results(page, "a house")
    page.locator("#verdict").wait_for()
    if width > 390:  # on a narrow page the bar covers half of a target until it is scrolled
        page.locator("#results .select").first.check()
    assert violations(page) == []
    results(page).first.locator("a").click()
    page.get_by_text("Why this result").wait_for()
    assert violations(page) == []


def test_reduced_motion_is_respected(visit: Visit) -> None:
    page = visit("?q=a+red+circle")
    wait_for_results(page, "a red circle")
    moving = """[...document.querySelectorAll('*')].map((each) => [each.outerHTML, getComputedStyle(each)])
        .filter(([, style]) => parseFloat(style.transitionDuration) || parseFloat(style.animationDuration))
        .map(([html]) => html)"""
    assert page.evaluate(moving) == []


def test_page_is_russian_for_russian_locale(visit: Visit) -> None:
    page = visit("?q=an+elephant", locale="ru-RU")
    wait_for_results(page, "an elephant")
    assert page.locator("html").get_attribute("lang") == "ru"
    assert page.get_by_label("Опишите, что вы ищете").is_visible()
    assert page.locator("#verdict").inner_text() == "Хороших совпадений нет. Самое близкое:"
    assert re.match(r"показано \d+ изображени[еяй]", page.locator("#summary").inner_text())
    page.locator("#query").fill("красный круг")
    wait_for_results(page, "красный круг")
    assert page.locator("#verdict").is_hidden()
    results(page).first.click()
    page.get_by_role("button", name="Похожие").wait_for()
    assert not re.search(r"\{\w+\}|undefined", page.locator("body").inner_text())


def example_queries(page: Page) -> dict[str, dict[str, Any]]:
    """The page's example queries by language."""
    queries: dict[str, dict[str, Any]] = page.evaluate("async () => (await import('/static/queries.js')).QUERIES")
    return queries


def test_example_queries_are_english_for_english_only_models(visit: Visit) -> None:
    page = visit("", locale="ru-RU")
    page.locator("#examples a").first.wait_for()
    english = example_queries(page)["en"]
    assert page.locator("#query").get_attribute("placeholder") == english["placeholder"]
    assert set(page.locator("#examples .title").all_inner_texts()) <= set(english["examples"])
    assert page.locator("#examples").get_attribute("lang") == "en"


def test_example_queries_follow_locale_for_multilingual_models(
    visit: Visit, bundle: Bundle, gallery: Path, tmp_path: Path
) -> None:
    index = f"file:{tmp_path}/index"
    index_folder(gallery, bundle, open_store(index))
    everything = strict_bundle(bundle, tmp_path / "bundle", 0, multilingual=True)
    with running("--bundle", everything, "--index", index) as service:
        page = visit(service.url, locale="ru-RU")
        page.locator("#examples a").first.wait_for()
        russian = example_queries(page)["ru"]
        assert page.locator("#query").get_attribute("placeholder") == russian["placeholder"]
        shown_examples = page.locator("#examples .title").all_inner_texts()
        assert shown_examples
        assert set(shown_examples) <= set(russian["examples"])
        assert page.locator("#examples").get_attribute("lang") == "ru"
        with mocked_route(
            page, "**/v1/search?*", lambda route: route.fulfill(json=route.fetch().json() | {"match": False})
        ):
            page.locator("#query").fill("красный sports car")
            wait_for_results(page, "красный sports car")
            assert page.locator("#verdict").inner_text() == "Хороших совпадений нет. Самое близкое:"
        other = visit(service.url, locale="fr-FR")
        other.locator("#examples a").first.wait_for()
        assert other.locator("#query").get_attribute("placeholder") == example_queries(other)["en"]["placeholder"]


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("כלב על החוף", "כלב רץ על החוף (2)."),
        ("كلب على الشاطئ", "كلب يجري على الشاطئ (2)."),
        ("red سيارة", "سيارة red"),
    ],
)
def test_right_to_left_query_and_title_have_rtl_direction(visit: Visit, query: str, title: str) -> None:
    page = visit()

    def rename(route: Route) -> None:
        document = route.fetch().json()
        document["results"][0]["metadata"]["title"] = title
        route.fulfill(json=document)

    page.route("**/v1/search?*", rename)
    field = page.locator("#query")
    field.fill(query)
    wait_for_results(page, query)
    direction = "element => getComputedStyle(element).direction"
    first = "ltr" if query[0].isascii() else "rtl"
    assert field.evaluate(direction) == first
    titles = results(page).locator(".title")
    assert titles.first.inner_text() == title
    assert titles.first.evaluate(direction) == "rtl"
    assert titles.nth(1).evaluate(direction) == "ltr"
    results(page).first.click()
    heading = page.get_by_role("heading", name=title)
    heading.wait_for()
    assert heading.evaluate(direction) == "rtl"
    assert page.locator(".facts dd").first.evaluate(direction) == "rtl"
    # Unicode isolates keep the order of the sentence around the query.
    assert f"the words “\u2068{query}\u2069”" in page.locator(".score").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_every_page_language_has_same_number_of_example_queries(visit: Visit) -> None:
    page = visit()
    queries = example_queries(page)
    assert set(queries) == {path.suffixes[0][1:] for path in STATIC.glob("strings.*.js")}
    assert {len(set(each["examples"])) for each in queries.values()} == {len(queries["en"]["examples"])}


def test_every_example_query_has_match_in_demo_gallery(
    visit: Visit, sceneseek: CommandLine, bundle: Bundle, demo_gallery: Path, tmp_path: Path
) -> None:
    languages = {language: each["examples"] for language, each in example_queries(visit()).items()}
    here = ("--bundle", bundle.path, "--index", f"file:{tmp_path}/index")
    assert sceneseek("index", demo_gallery, *here).returncode == 0

    def answers(queries: list[str]) -> list[dict[str, Any]]:
        (tmp_path / "queries.txt").write_text("\n".join(queries), encoding="utf-8")
        outcome = sceneseek("search", "--queries", tmp_path / "queries.txt", *here, "-k", "10", "--json")
        assert outcome.returncode == 0, outcome.stderr
        return [json.loads(line) for line in outcome.stdout.splitlines()]

    english = answers(languages.pop("en"))
    assert [answer["query"] for answer in english if not answer["match"]] == []
    if not bundle.manifest.multilingual:
        pytest.skip("the bundle reads English only, so its page proposes nothing in other languages")
    for queries in languages.values():
        for answer, same in zip(answers(queries), english, strict=True):
            assert answer["match"], answer["query"]
            found = [{result["id"] for result in each["results"]} for each in (answer, same)]
            assert found[0] & found[1], f"{answer['query']} and {same['query']} find nothing in common"


def test_unsupported_locale_falls_back_to_english(visit: Visit) -> None:
    page = visit("?q=a+house", locale="fr-FR")
    wait_for_results(page, "a house")
    assert page.locator("html").get_attribute("lang") == "en"


def test_english_and_russian_translations_are_complete(visit: Visit) -> None:
    page = visit()
    load = "async () => Promise.all(['en', 'ru'].map(async (l) => (await import(`/static/strings.${l}.js`)).default))"
    english, russian = page.evaluate(load)
    assert english.keys() == russian.keys()
    for key, text in english.items():
        other = russian[key]
        forms = text.values() if isinstance(text, dict) else [text]
        names = {name for form in forms for name in re.findall(r"\{(\w+)\}", form)}
        for form in other.values() if isinstance(other, dict) else [other]:
            assert set(re.findall(r"\{(\w+)\}", form)) == names, key
        assert isinstance(text, dict) == isinstance(other, dict), key
        if isinstance(other, dict):
            assert set(other) == {"one", "few", "many", "other"}, key
    used = {
        key
        for file in STATIC.glob("*.js")
        if "strings" not in file.name
        for key in re.findall(r'say\(\s*"([\w.]+)"', file.read_text())
    }
    used |= set(re.findall(r'data-text="([\w.]+)"', (STATIC / "index.html").read_text()))
    assert used <= english.keys()


# --- budgets


def test_scripts_stay_within_size_budget(visit: Visit) -> None:
    scripts = sorted(STATIC.glob("*.js"))
    assert sum(len(gzip.compress(script.read_bytes())) for script in scripts) < 60_000
    assert sum(script.stat().st_size for script in scripts) < 120_000


def test_page_requests_only_its_own_host_within_request_budget(visit: Visit) -> None:
    page = visit()
    page.wait_for_load_state("networkidle")
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    page.reload()
    page.wait_for_load_state("networkidle")
    page.locator("#query").fill("a red circle")
    wait_for_results(page, "a red circle")
    page.wait_for_load_state("networkidle")
    assert {urlsplit(url).netloc for url in seen} == {urlsplit(page.url).netloc}
    parts = {url for url in seen if "/static/" in url}
    assert len(parts) <= 28
    others = [url for url in seen if "/static/" not in url and "/thumbnail" not in url]
    # The page, its state twice, the fields, the examples; then the search and its second page of results.
    assert len(others) <= 10, others
    # The HTML names every static file, so that the browser loads them in parallel.
    named = set(re.findall(r'(?:href|src)="(static/[^"]+)"', (STATIC / "index.html").read_text()))
    assert {f"static/{url.rpartition('/')[2]}" for url in parts} <= named


def test_page_complies_with_content_security_policy(visit: Visit) -> None:
    page = visit("?q=a+red+circle")
    wait_for_results(page, "a red circle")
    policy = page.request.get(page.url).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    # The fixture `visit` fails if the browser reports a violation.


def test_result_matched_by_ocr_text_shows_the_text(
    visit: Visit, bundle: Bundle, tmp_path: Path, sceneseek: CommandLine
) -> None:
    pytest.importorskip("rapidocr", reason="rapidocr is not installed (the extra ocr has it)")
    pytest.importorskip("axe_playwright_python", reason="axe-core is not installed (the extra dev has it)")
    (tmp_path / "photos").mkdir()
    for seed in range(9):
        picture = scenery(seed).convert("RGB").resize((480, 360))
        if seed == 8:
            ImageDraw.Draw(picture).text((80, 120), "PHARMACY", fill="black", font=ImageFont.load_default(56))
        picture.save(tmp_path / f"photos/{seed}.jpg")
    places = ("--bundle", bundle.path, "--index", f"file:{tmp_path}/index")
    sceneseek("index", tmp_path / "photos", "--ocr", *places)
    with running(*places) as service:
        for scheme, width in (("light", 360), ("dark", 768), ("light", 1280)):
            page = visit(f"{service.url}?q=pharmacy", color_scheme=scheme, viewport={"width": width, "height": 800})
            wait_for_results(page, "pharmacy")
            first = results(page).first
            assert first.locator(".text").inner_text() == "“PHARMACY”"
            assert page.locator("#results .text").count() == 1
            assert violations(page) == []
            first.locator("a").focus()
            page.keyboard.press("Enter")
            page.get_by_text("The picture contains words of the search: “PHARMACY”.").wait_for()
            page.get_by_text("text in the picture").wait_for()
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width


# --- adding pictures


@pytest.fixture(scope="module")
def growing(bundle: Bundle, gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A service that accepts uploads, an indexer that watches their folder, and the browser settings for each key."""
    home = tmp_path_factory.mktemp("growing")
    photos = shutil.copytree(gallery, home / "photos")
    index = f"file:{home / 'index'}"
    index_folder(photos, bundle, open_store(index))
    sent = {}
    for name in ("writer", "reader"):
        key = new_key(name, datetime.now(UTC), write=name == "writer")
        add_key(home / "keys.json", key)
        sent[name] = {"http_credentials": {"username": name, "password": key.secret}}
    options = ("--bundle", bundle.path, "--index", index)
    serving = ("--uploads", photos, "--api-keys", home / "keys.json", "--max-upload", "1")
    with running(*options, *serving) as service, watching(photos, *options):
        yield {"url": service.url, "photos": photos, **sent}


# Drop files, given as `[name, base64]`, onto an element.
DROP_ONTO = """([selector, files]) => {
    const transfer = new DataTransfer();
    for (const [name, content] of files) {
        const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
        transfer.items.add(new File([bytes], name, { type: name.endsWith('.txt') ? 'text/plain' : 'image/png' }));
    }
    const about = { bubbles: true, cancelable: true, dataTransfer: transfer };
    document.body.dispatchEvent(new DragEvent('dragenter', about));
    const onto = document.querySelector(selector);
    onto.dispatchEvent(new DragEvent('dragover', about));
    window.shown = [!onto.hidden, onto.classList.contains('over')];
    onto.dispatchEvent(new DragEvent('drop', about));
}"""


def encoded(image: Image.Image) -> str:
    with io.BytesIO() as out:
        image.save(out, "PNG")
        return base64.b64encode(out.getvalue()).decode()


def wait_for_status(page: Page, name: str, text: str) -> Locator:
    """Wait until the line of an added picture contains a text, and return it."""
    line = page.locator("#adding-list li").filter(has_text=name).filter(has_text=text)
    line.wait_for()
    return line


def test_dropped_pictures_are_added_with_status_per_file(
    visit: Visit, growing: dict[str, Any], noise: Callable[[int, int], Image.Image]
) -> None:
    page = visit(growing["url"], **growing["writer"])
    page.get_by_role("button", name="Add pictures").wait_for()
    files = [["beach.png", encoded(noise(90, 60))], ["notes.txt", "AAAA"], ["broken.png", "AAAA"]]
    page.evaluate(DROP_ONTO, ["#drop-add", files])
    assert page.evaluate("window.shown") == [True, True]
    assert page.locator("#drop").is_hidden()
    wait_for_status(page, "notes.txt", "not added: 'notes.txt' does not have the extension of a picture")
    wait_for_status(page, "broken.png", "not added: the picture: not an image of a known format")
    line = wait_for_status(page, "beach.png", "can be found")
    assert page.locator("#adding-state").inner_text() == "1 of 3 found · 2 not added"
    assert (growing["photos"] / "beach.png").exists()
    line.get_by_role("button", name="Open").click()
    page.locator(".picture .whole").wait_for()
    page.wait_for_function("() => document.querySelector('.picture .whole').naturalWidth === 90")
    # Another picture of the same name gets a numbered name.
    page.go_back()
    page.evaluate(DROP_ONTO, ["#drop-add", [["beach.png", encoded(noise(80, 60))]]])
    page.wait_for_function("() => document.querySelectorAll('#adding-list button').length === 2")
    assert (growing["photos"] / "beach (2).png").exists()


def test_picture_dropped_outside_add_area_becomes_query_image(
    visit: Visit, growing: dict[str, Any], noise: Callable[[int, int], Image.Image]
) -> None:
    page = visit(growing["url"], **growing["writer"])
    page.get_by_role("button", name="Add pictures").wait_for()
    page.evaluate(DROP_ONTO, ["body", [["b.png", encoded(noise(50, 60))]]])
    page.get_by_label("Searching by your picture").wait_for()
    assert page.locator("#adding").is_hidden()


def test_picture_is_deleted_after_confirmation(
    visit: Visit, growing: dict[str, Any], noise: Callable[[int, int], Image.Image]
) -> None:
    page = visit(growing["url"], **growing["writer"])
    page.get_by_role("button", name="Add pictures").wait_for()
    page.evaluate(DROP_ONTO, ["#drop-add", [["wrong.png", encoded(noise(70, 60))]]])
    wait_for_status(page, "wrong.png", "can be found").get_by_role("button", name="Open").click()
    identity = page.url.rpartition("view=")[2]
    page.goto(f"{growing['url']}?q=noise&view={identity}")
    answers = iter([False, True])
    page.on("dialog", lambda dialog: dialog.accept() if next(answers) else dialog.dismiss())
    delete = page.get_by_role("button", name="Delete")
    delete.click()
    assert (growing["photos"] / "wrong.png").exists()
    delete.click()
    page.locator("#viewer").wait_for(state="hidden")
    assert not (growing["photos"] / "wrong.png").exists()
    page.wait_for_function("(id) => !document.querySelector(`#found a[href*='${id}']`)", arg=identity)


def test_add_and_delete_are_hidden_without_write_access(visit: Visit, growing: dict[str, Any]) -> None:
    page = visit(growing["url"], **growing["reader"])
    page.locator("#status span").first.wait_for()
    assert page.locator("#add").is_hidden()
    page.evaluate(DROP_ONTO, ["#drop-add", [["b.png", ""]]])
    assert page.evaluate("window.shown")[0] is False
    page.locator("#query").fill("noise")
    page.locator("#found a").first.click()
    page.get_by_role("button", name="Copy link").wait_for()
    assert page.get_by_role("button", name="Delete").is_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 820, 1280])
def test_adding_pictures_by_keyboard_has_no_axe_violations(
    visit: Visit,
    growing: dict[str, Any],
    tmp_path: Path,
    noise: Callable[[int, int], Image.Image],
    scheme: str,
    width: int,
) -> None:
    pytest.importorskip("axe_playwright_python", reason="axe-core is not installed (the extra dev has it)")
    name = f"{scheme} {width}.png"
    noise(width // 10, 70).save(tmp_path / name)
    (tmp_path / "words.png").write_text("words")
    settings = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}, **growing["writer"]}
    page = visit(growing["url"], locale="ru-RU" if width == 820 else "en-GB", **settings)
    page.on("filechooser", lambda _: None)  # early, so that the browser intercepts the first file chooser
    page.locator("#status span").first.wait_for()
    button = page.locator("#add")
    button.wait_for()
    page.wait_for_load_state("networkidle")
    if width == 1280:  # here the status fits on one line
        assert page.evaluate("shifts") == []
    button.focus()
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files([tmp_path / name, tmp_path / "words.png"])
    page.locator("#adding-list button").wait_for()
    page.locator("#adding-list .amiss").wait_for()
    assert violations(page) == []
    assert not re.search(r"\{\w+\}|undefined", page.locator("#adding").inner_text())
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    if shots := os.environ.get("SCENESEEK_TEST_SHOTS"):
        page.screenshot(path=f"{shots}/adding-{scheme}-{width}.png")
        page.evaluate("document.querySelector('#drop').hidden = false")
        page.screenshot(path=f"{shots}/drop-{scheme}-{width}.png")
        page.evaluate("document.querySelector('#drop').hidden = true")
    page.locator("#adding-list button").focus()
    page.keyboard.press("Enter")
    page.locator(".picture .whole").wait_for()
    page.keyboard.press("Escape")
    page.locator("#viewer").wait_for(state="hidden")
    page.locator("#adding-close").focus()
    page.keyboard.press("Enter")
    assert page.locator("#adding").is_hidden()
    assert page.evaluate("document.activeElement.id") == "add"
