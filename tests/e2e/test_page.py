"""The search page as people use it: a real browser on a real service over real pictures.

One service and one browser for all; each test has a page of its own. Where a fault must come at a certain moment
(a service that is away, or has too much to do), the browser's network is told to bring it.
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
# Copies are folded into what they are copies of.
LEADING = len(NAMES) + PAINTINGS
IMAGES = LEADING + sum(map(len, COPIES.values()))
THRESHOLD = 0.3
PATIENCE = 60_000  # milliseconds; the page looks at the state every ten seconds, and a machine may be busy
WORDING = {4: "matches fully", 3: "matches but for details", 2: "shares elements", 1: "does not match"}
Visit = Callable[..., "Page"]


@pytest.fixture(scope="module")
def store(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> VectorStore:
    """An index of the museum; the service has it open, and a test may build another generation in it."""
    home = tmp_path_factory.mktemp("museum")
    pictures, metadata = build_museum(home)
    found = open_store(f"file:{home / 'index'}")
    index_folder(pictures, bundle, found, BuildOptions(metadata=str(metadata)))
    return found


@pytest.fixture(scope="module")
def ratings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the service stores ratings."""
    return tmp_path_factory.mktemp("ratings") / "ratings.sqlite"


@pytest.fixture(scope="module")
def site(bundle: Bundle, store: VectorStore, ratings: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service over it, whose bundle knows from which score a result matches."""
    home = tmp_path_factory.mktemp("service")
    strict = strict_bundle(bundle, home / "bundle", THRESHOLD)
    with running("--bundle", strict, "--index", store.url, "--feedback", ratings) as service:
        yield service.url


@pytest.fixture
def visit(browser: Browser, site: str) -> Iterator[Visit]:
    """Open the page: `visit("?q=a+dog", locale="ru-RU")`, or another service's by its whole address.

    Whatever it complains of fails the test at the end.
    """
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def complain(message: ConsoleMessage) -> None:
        if "Content Security" in message.text:
            complaints.append(message.text)

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
        page.add_init_script(WATCH)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", complain)
        page.goto(urljoin(site, address))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


# Every shift of the layout, those that an input excuses too.
WATCH = """
    window.shifts = [];
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => window.shifts.push(
        entry.value + ' ' + entry.sources.map((s) => s.node?.id || s.node?.className || s.node?.nodeName).join(' '))))
      .observe({ type: 'layout-shift', buffered: true });
"""


def results(page: Page) -> Locator:
    return page.locator("#results > li[data-id]")


def ids(page: Page) -> list[str]:
    found: list[str] = results(page).evaluate_all("items => items.map((item) => item.dataset.id)")
    return found


def shown(page: Page, query: str) -> None:
    """Wait until the results are those of a query."""
    page.wait_for_function(
        "query => document.title.startsWith(query) && !document.querySelector('#results').ariaBusy"
        " && document.querySelector('#summary-shown')",
        arg=query,
    )


def asked(page: Page, address: str) -> Any:
    """What the service answers the page's browser."""
    return page.request.get(page.url.split("?")[0] + address).json()


def arguments(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


@contextmanager
def answering(page: Page, where: str, answer: Callable[[Route], None]) -> Iterator[None]:
    page.route(where, answer)
    yield
    page.unroute(where)


def problem(route: Route, status: int, detail: str, **headers: str) -> None:
    body = json.dumps({"type": "about:blank", "title": "x", "status": status, "detail": detail})
    route.fulfill(status=status, body=body, headers={"Content-Type": "application/problem+json", **headers})


# --- search as you type


def test_typing_searches_without_any_key_to_send_it_and_the_address_follows(visit: Visit) -> None:
    page = visit()
    page.get_by_label("Describe what you look for").press_sequentially("a red circle", delay=20)
    shown(page, "a red circle")
    assert arguments(page) == {"q": ["a red circle"]}
    assert results(page).first.locator("img").get_attribute("alt") == "Red circle, drawn"
    assert re.search(
        r"\d+ images shown.*best of \d+ compared closely.*\d+ ms", page.locator("#summary").inner_text(), re.DOTALL
    )


def test_a_negation_gets_a_hint(visit: Visit) -> None:
    page = visit("?q=a+red+circle+without+a+frame")
    shown(page, "a red circle without a frame")
    assert "put it into “Plus, minus” instead" in page.locator("#summary").inner_text()


def test_typing_searches_after_a_pause_and_late_answers_are_discarded(visit: Visit) -> None:
    page = visit("?q=sunset")
    shown(page, "sunset")
    searched: list[str] = []
    held: list[Route] = []

    def hold(route: Route) -> None:
        asked = parse_qs(urlsplit(route.request.url).query)
        if asked["offset"] == ["0"]:  # further results, also of the search before, may be asked for at any time
            searched.append(asked["q"][0])
        held.append(route) if asked["q"] == ["a red"] else route.continue_()

    page.route("**/v1/search?*", hold)
    field = page.locator("#query")
    field.fill("")
    field.press_sequentially("a red", delay=20)
    page.wait_for_function("() => document.title.startsWith('a red')")
    page.wait_for_timeout(50)
    field.press_sequentially(" circle", delay=20)
    shown(page, "a red circle")
    before = ids(page)
    assert len(held) == 1
    held[0].abort()  # the page has let go of it already
    page.wait_for_timeout(100)
    assert ids(page)[: len(before)] == before
    assert list(dict.fromkeys(searched)) == ["a red", "a red circle"]


def test_back_and_forward_go_from_search_to_search_and_a_reload_stays(visit: Visit) -> None:
    page = visit()
    field = page.locator("#query")
    for query in ("sunset", "a blue square"):
        field.fill(query)
        field.press("Enter")
        shown(page, query)
    page.go_back()
    shown(page, "sunset")
    assert field.input_value() == "sunset"
    page.go_forward()
    shown(page, "a blue square")
    page.reload()
    shown(page, "a blue square")
    page.go_back()
    page.go_back()
    page.wait_for_function("() => !document.querySelector('#results li[data-id]')")
    assert field.input_value() == ""


def test_what_is_typed_in_one_go_is_one_step_back(visit: Visit) -> None:
    page = visit("?q=sunset")
    shown(page, "sunset")
    field = page.locator("#query")
    field.fill("")
    for part in ("a", " blue", " square"):
        field.press_sequentially(part)
        page.wait_for_timeout(160)
    shown(page, "a blue square")
    page.go_back()
    shown(page, "sunset")


# --- the grid


# At some widths the room that is left has a fraction of a pixel.
@pytest.mark.parametrize("width", [390, 820, 1280, 2200])
def test_pictures_keep_their_proportions_and_fill_the_rows(visit: Visit, width: int) -> None:
    page = visit("?q=colourful+dots", viewport={"width": width, "height": 900})
    shown(page, "colourful dots")
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


def test_nothing_that_is_seen_ever_moves(visit: Visit) -> None:
    page = visit()
    page.locator("#examples img").first.wait_for()
    for query in ("a red circle", "a house"):
        page.locator("#query").fill(query)
        shown(page, query)
        page.wait_for_load_state("networkidle")
    for _ in range(6):
        page.mouse.wheel(0, 1500)
        page.wait_for_timeout(80)
    page.wait_for_load_state("networkidle")
    assert page.evaluate("shifts") == []


def test_each_result_has_its_score_as_the_rating_that_it_is_nearest_to(visit: Visit) -> None:
    page = visit("?q=colourful+dots")
    shown(page, "colourful dots")
    answer = asked(page, "v1/search?q=colourful+dots&k=24")
    marks = results(page).locator(".mark")
    said = marks.all_inner_texts()
    levels = [int(level) for level in marks.evaluate_all("all => all.map((mark) => mark.dataset.level)")]
    expected = [round(3 * result["score"]) + 1 for result in answer["results"]]
    assert levels[:10] == expected[:10]
    assert [text.strip() for text in said[:10]] == [WORDING[level] for level in expected[:10]]


def test_it_says_so_where_nothing_matches_and_shows_the_nearest_all_the_same(visit: Visit) -> None:
    page = visit("?q=an+elephant")
    shown(page, "an elephant")
    assert page.locator("#verdict").inner_text() == "Nothing here matches well. The nearest are:"
    assert results(page).count() > 5
    assert set(results(page).locator(".mark").all_inner_texts()) <= {WORDING[1], WORDING[2]}
    page.locator("#query").fill("красный круг")
    shown(page, "красный круг")
    assert page.locator("#verdict").is_hidden()


# --- the large view


def test_a_click_opens_an_image_with_what_is_known_of_it_and_why_it_is_here(visit: Visit) -> None:
    page = visit("?q=a+red+circle")
    shown(page, "a red circle")
    results(page).first.click()
    viewer = page.get_by_role("dialog", name="Red circle, drawn")
    viewer.get_by_text(re.compile("320 . 240 pixels, PNG")).wait_for()
    assert {"room", "Red Room", "year", "1900", "tags", "drawn, shapes"} <= set(
        viewer.locator(".facts > *").all_inner_texts()
    )
    why = viewer.locator(".score").inner_text()
    assert re.search(r"shares elements\s+Score 0\.\d\d of 1 for the words “a red circle”", why)
    assert re.search(r"Number \d+ among the nearest, (and after scoring too|moved (up|down) to 1 by its score)", why)
    assert "view" in arguments(page)
    page.wait_for_function("() => document.querySelector('.picture .whole').naturalWidth === 320")
    page.go_back()
    viewer.wait_for(state="hidden")
    assert arguments(page) == {"q": ["a red circle"]}


def test_more_like_this_finds_what_resembles_an_image_and_words_can_join_it(visit: Visit) -> None:
    page = visit("?q=a+red+circle")
    shown(page, "a red circle")
    first = ids(page)[0]
    results(page).first.click()
    page.get_by_role("button", name="More like this").click()
    page.wait_for_function(
        "() => !document.querySelector('dialog').open && document.querySelector('#results li[data-id]')"
    )
    page.get_by_text("in the order of likeness").wait_for()
    assert arguments(page) == {"image": [first]}
    assert first not in ids(page)
    assert page.locator("#results .mark").count() == 0
    page.locator("#query").fill("blue")
    shown(page, "blue")
    assert arguments(page) == {"image": [first], "q": ["blue"]}
    assert page.locator("#results .mark").count() > 0
    alike = ids(page)
    weight = page.get_by_label("What counts more")
    weight.evaluate("range => { range.value = 1; range.dispatchEvent(new Event('change')); }")
    page.wait_for_function("first => document.querySelector('#results li[data-id]').dataset.id !== first", arg=alike[0])
    assert arguments(page)["text_weight"] == ["1"]
    page.get_by_role("button", name="Do not search by the picture").click()
    page.wait_for_url("**/?q=blue")


def test_a_rating_is_stored_and_thanked_for(visit: Visit, ratings: Path) -> None:
    page = visit("?q=a+red+circle")
    shown(page, "a red circle")
    results(page).first.click()
    page.get_by_role("button", name="matches but for details").click()
    page.get_by_text("Saved: matches but for details. Thank you.").wait_for()
    page.keyboard.press("4")
    page.get_by_text("Saved: matches fully. Thank you.").wait_for()
    assert page.get_by_role("button", name="matches fully").get_attribute("aria-pressed") == "true"
    kept = [json.loads(line) for line in export_lines(ratings)]
    assert [(each["query"], each["image"], each["rating"]) for each in kept] == [
        ("a red circle", "shapes/red circle.png", rating) for rating in (3, 4)
    ]


def test_the_page_offers_no_rating_where_none_are_collected(visit: Visit) -> None:
    page = visit("?q=a+red+circle")
    shown(page, "a red circle")
    with answering(page, "**/v1/feedback", lambda route: problem(route, 404, "nothing is here")):
        results(page).first.click()
        page.get_by_role("button", name="shares elements").click()
        page.get_by_text("This service collects no ratings.").wait_for()
        page.keyboard.press("ArrowRight")
        page.get_by_text("2 of the results").wait_for()
        assert page.locator(".rating").is_hidden()


def test_the_keyboard_goes_all_the_way(visit: Visit) -> None:
    page = visit("?q=a+red+circle")
    shown(page, "a red circle")

    def focused() -> int:
        found: int = page.evaluate("[...document.querySelectorAll('#results a')].indexOf(document.activeElement)")
        return found

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


def test_single_keys_can_be_switched_off(visit: Visit) -> None:
    page = visit()
    page.get_by_text("Keys", exact=True).click()
    page.get_by_label("Single keys").uncheck()
    page.reload()
    page.locator("h1 a").focus()
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "home"


def test_the_link_that_is_copied_shows_the_same_to_another(visit: Visit) -> None:
    page = visit("?q=a+red+circle", permissions=["clipboard-read", "clipboard-write"])
    shown(page, "a red circle")
    results(page).nth(2).click()
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("Link copied").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    title = page.locator("#viewer-title").inner_text()
    other = visit("?" + link.partition("?")[2])
    other.get_by_role("dialog", name=title).wait_for()
    other.get_by_text("Why it is here").wait_for()
    other.keyboard.press("Escape")
    shown(other, "a red circle")


def test_a_link_to_an_image_alone_shows_what_it_is(visit: Visit) -> None:
    page = visit()
    known = asked(page, "v1/search?q=a+red+circle&k=1")["results"][0]
    page.goto(f"{page.url}?view={known['id']}")
    page.get_by_role("dialog", name="Red circle, drawn").wait_for()
    assert page.locator("dialog .rating").is_hidden()
    page.goto(page.url.split("?")[0] + "?view=00000000-0000-5000-8000-000000000000")
    page.get_by_text("This image is no longer in the collection.").wait_for()


# --- pictures to search by


def picture(seed: int, width: int = 480, height: int = 320, kind: str = "JPEG") -> str:
    """A drawn picture's file in base64, as scripts in the browser take it."""
    out = io.BytesIO()
    scenery(seed, width, height).save(out, kind)
    return base64.b64encode(out.getvalue()).decode("ascii")


BRING = """([how, data, type]) => {
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
def test_a_picture_that_is_brought_finds_itself(visit: Visit, how: str) -> None:
    page = visit()
    if how == "choose":
        data = base64.b64decode(picture(7, 640, 256))
        page.locator("#file").set_input_files({"name": "mine.jpg", "mimeType": "image/jpeg", "buffer": data})
    else:
        page.evaluate(BRING, [how, picture(7, 640, 256), "image/jpeg"])
    page.get_by_text("in the order of likeness").wait_for()
    assert results(page).first.locator("img").get_attribute("alt") == "07, drawn"
    assert page.get_by_label("Searching by your picture").is_visible()
    if how == "drop":
        assert page.evaluate("curtain")
        assert page.locator("#drop").is_hidden()


def test_a_result_that_is_dropped_onto_the_page_is_searched_by(visit: Visit) -> None:
    page = visit("?q=a+red+circle")
    shown(page, "a red circle")
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


def test_a_brought_picture_goes_with_words_survives_a_reload_and_leaves_with_back(visit: Visit) -> None:
    page = visit("?q=a+red+circle")
    shown(page, "a red circle")
    before = ids(page)
    page.evaluate(BRING, ["paste", picture(7, 2400, 1000, "PNG"), "image/png"])
    page.get_by_label("Searching by your picture").wait_for()
    page.wait_for_function(
        "first => document.querySelector('#results li[data-id]').dataset.id !== first", arg=before[0]
    )
    together = ids(page)
    page.reload()
    page.get_by_label("Searching by your picture").wait_for()
    shown(page, "a red circle")
    assert ids(page) == together
    page.go_back()
    page.wait_for_function(
        "first => document.querySelector('#results li[data-id]').dataset.id === first", arg=before[0]
    )
    assert page.get_by_label("Searching by your picture").count() == 0


def test_what_is_no_picture_is_refused_with_advice(visit: Visit) -> None:
    page = visit()
    page.evaluate(BRING, ["drop", base64.b64encode(b"words").decode(), "text/plain"])
    page.get_by_role("alert").get_by_text("That is no picture").wait_for()
    page.evaluate(BRING, ["drop", base64.b64encode(b"no jpeg").decode(), "image/jpeg"])
    page.get_by_role("alert").get_by_text("send a JPEG, PNG, WebP or GIF").wait_for()


# --- filters, examples, duplicates, more


def test_filters_come_from_the_metadata_and_hold_in_the_address(visit: Visit) -> None:
    page = visit("?q=colourful+dots")
    shown(page, "colourful dots")
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
    expected = asked(page, "v1/search?" + urlsplit(page.url).query + "&k=100")["results"]
    assert 0 < len(expected) < 20
    assert all(r["metadata"]["room"] == "Red Room" and r["metadata"]["year"] >= 1950 for r in expected)
    page.reload()
    shown(page, "colourful dots")
    page.wait_for_function("n => document.querySelectorAll('#results li[data-id]').length === n", arg=len(expected))
    page.get_by_role("button", name="Remove the filter room: Red Room").click()
    page.wait_for_function("n => document.querySelectorAll('#results li[data-id]').length > n", arg=len(expected))
    page.get_by_role("button", name="Filters (3)").click()
    assert not panel.get_by_label("Red Room").is_checked()
    assert panel.get_by_label("from, year").input_value() == "1950"


def test_a_plus_and_a_minus_are_chips_with_weights(visit: Visit) -> None:
    page = visit("?q=colourful+dots")
    shown(page, "colourful dots")
    before = ids(page)
    page.get_by_role("button", name="Plus, minus").click()
    page.get_by_label("Without").fill("a house")
    page.get_by_label("Without").press("Enter")
    page.get_by_role("button", name="Remove: without a house").wait_for()
    page.get_by_label("Also").fill("the sea")
    page.get_by_role("group").filter(has=page.get_by_label("Also")).get_by_role("button", name="Add").first.click()
    page.get_by_label("How much it counts: also the sea").select_option("0.5")
    page.wait_for_function("() => location.search.includes('0.5')")
    assert arguments(page)["terms"] == ["-a house", "the sea:0.5"]
    page.wait_for_load_state("networkidle")
    expected = asked(page, "v1/search?" + urlsplit(page.url).query + "&k=10")
    assert expected["query"] == "colourful dots, -a house, the sea:0.5"
    assert ids(page)[:10] == [result["id"] for result in expected["results"]] != before[:10]
    page.reload()
    page.get_by_role("button", name="Remove: also the sea").click()
    page.get_by_role("button", name="Remove: without a house").click()
    page.wait_for_load_state("networkidle")
    assert arguments(page) == {"q": ["colourful dots"]}
    assert ids(page)[:10] == before[:10]


def test_less_like_this_subtracts_an_image(visit: Visit) -> None:
    page = visit("?q=colourful+dots")
    shown(page, "colourful dots")
    first = ids(page)[0]
    results(page).first.click()
    page.get_by_role("button", name="Less like this").click()
    page.get_by_role("button", name="Remove: without an image of the collection").wait_for()
    assert arguments(page) == {"q": ["colourful dots"], "terms": [f"-{first}"]}
    page.wait_for_load_state("networkidle")
    assert first not in ids(page)


def test_what_matches_is_divided_from_the_rest_and_counted(visit: Visit) -> None:
    page = visit("?q=красный+круг")
    shown(page, "красный круг")
    answer = asked(page, "v1/search?q=красный+круг&k=24")
    matching = answer["matches"]
    assert 0 < matching < 20
    assert f"{matching} match" in page.locator("#summary").inner_text()
    kinds = page.locator("#results > li").evaluate_all("all => all.map((item) => item.className)")
    assert kinds.index("heading") == matching
    assert kinds.count("heading") == 1
    assert page.get_by_role("heading", name="Less like it").is_visible()


def test_in_the_order_of_time_each_month_has_its_heading(visit: Visit) -> None:
    page = visit("?q=красный+круг")
    page.get_by_label("Order").select_option("newest first")
    page.wait_for_function("() => document.querySelectorAll('#results .heading').length > 1")
    assert arguments(page)["sort"] == ["-taken"]
    expected = asked(page, "v1/search?" + urlsplit(page.url).query + "&k=100")["results"]
    times = [result["metadata"]["taken"] for result in expected]
    assert times == sorted(times, reverse=True)
    assert ids(page) == [result["id"] for result in expected][: len(ids(page))]
    headings = page.locator("#results .heading").all_inner_texts()
    assert len(set(headings)) == len(headings)
    assert all(re.fullmatch(r"[A-Z][a-z]+ 20\d\d", heading) for heading in headings)


def test_several_results_are_downloaded_or_searched_by(visit: Visit) -> None:
    page = visit("?q=colourful+dots")
    shown(page, "colourful dots")
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
    page.wait_for_load_state("networkidle")
    assert bar.is_hidden()
    assert not set(chosen) & set(ids(page))


def test_filters_that_nothing_satisfies_say_so_and_can_be_cleared(visit: Visit) -> None:
    page = visit("?q=colourful+dots&filter=year%3E2500")
    page.get_by_text("No image satisfies the filters.").wait_for()
    assert page.get_by_text("year>2500").is_visible()
    page.get_by_role("button", name="Clear the filters").click()
    shown(page, "colourful dots")
    assert arguments(page) == {"q": ["colourful dots"]}


def test_the_examples_are_those_that_the_collection_can_fulfil(visit: Visit) -> None:
    page = visit()
    page.locator("#examples a").first.wait_for()
    for query in page.locator("#examples .title").all_inner_texts():
        assert asked(page, f"v1/search?q={query}&k=1")["match"]
    query = page.locator("#examples .title").first.inner_text()
    page.locator("#examples a").first.click()
    shown(page, query)
    assert page.locator("#welcome").is_hidden()


def test_near_duplicates_are_one_result_with_a_count_and_can_be_unfolded(visit: Visit) -> None:
    page = visit("?q=colourful+dots&filter=tags%3Dpaintings&filter=year%3D1915")
    page.locator(".similar").wait_for()
    assert (results(page).count(), page.locator(".similar > :first-child").inner_text()) == (1, "+2")
    results(page).first.click()
    page.get_by_role("button", name="Show 2 near-duplicates").click()
    page.get_by_text("near-duplicates shown").wait_for()
    page.wait_for_function("() => document.querySelectorAll('#results li[data-id]').length > 2")
    assert page.locator(".similar").count() == 2


def test_scrolling_brings_every_image_once_in_the_service_s_order(visit: Visit) -> None:
    page = visit("?q=colourful+dots")
    shown(page, "colourful dots")
    for _ in range(40):
        page.mouse.wheel(0, 3000)
        page.wait_for_timeout(40)
        if page.locator("#more").is_hidden():
            break
    page.wait_for_load_state("networkidle")
    there = ids(page)  # once: more may be on its way
    assert len(there) == len(set(there)) == LEADING
    expected = asked(page, "v1/search?q=colourful+dots&k=100")["results"]
    assert ids(page)[:24] == [result["id"] for result in expected][:24]


def test_more_that_could_not_be_fetched_is_fetched_when_it_can_be(visit: Visit) -> None:
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
    shown(page, "colourful dots")
    page.mouse.wheel(0, 3000)
    page.get_by_role("button", name="The rest could not be fetched. Try again").click()
    page.wait_for_function("() => document.querySelectorAll('#results li[data-id]').length > 30")
    there = ids(page)  # once: more may be on its way
    assert len(there) == len(set(there))


# --- the service's state


def look(page: Page) -> None:
    """Have the page look at the service's state now rather than in ten seconds."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


def test_the_status_line_says_what_answers(visit: Visit) -> None:
    page = visit()
    page.locator("#status span").nth(3).wait_for()
    images, indexed, pack, device = page.locator("#status span").all_inner_texts()
    assert (images, pack, device) == (f"{IMAGES} images", "compact", "on CPU")
    assert re.fullmatch(r"indexed \d+ \w+ 20\d\d, \d\d:\d\d", indexed)
    generation = asked(page, "v1/collections")["live"]
    assert page.locator("#status span").nth(1).get_attribute("title") == f"Generation {generation}"


def test_the_page_reports_a_running_reindex_and_offers_its_result(visit: Visit, store: VectorStore) -> None:
    page = visit("?q=a+red+circle")
    shown(page, "a red circle")
    page.locator("#status span").first.wait_for()
    live = next(info for info in store.generations() if info.name == store.live())
    number = int(live.name.rpartition("-")[2]) + 1 if live.name.startswith("renewed-") else 1
    with store.writing():
        begun = store.create(
            replace(live, name=f"renewed-{number}", created=f"2030-01-0{number}T00:00:00+00:00"), live.name
        )
        with closing(begun):
            look(page)
            page.get_by_text("The collection is being indexed anew.").wait_for()
            store.publish(begun)
    page.get_by_text("The collection has changed.").wait_for()
    assert page.get_by_text("The collection is being indexed anew.").count() == 0
    page.get_by_role("button", name="Search it anew").click()
    page.get_by_text("the collection has changed; searched anew").wait_for()
    page.get_by_text("The collection has changed.").wait_for(state="detached")
    assert page.evaluate("shifts") == []


def test_a_generation_that_changes_between_pages_begins_the_results_anew(visit: Visit) -> None:
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
    shown(page, "colourful dots")
    page.mouse.wheel(0, 3000)
    page.get_by_text("the collection has changed; searched anew").wait_for()
    page.mouse.wheel(0, 3000)
    page.wait_for_function("() => document.querySelectorAll('#results li[data-id]').length > 30")
    assert ["offset=24&" in url for url in switched][:2] == [True, False]
    there = ids(page)  # once: more may be on its way
    assert len(there) == len(set(there))


def test_the_page_reports_an_unreachable_service_and_recovers(visit: Visit) -> None:
    page = visit()
    page.locator("#status span").first.wait_for()
    page.context.set_offline(True)
    page.locator("#query").fill("a red circle")
    page.get_by_role("alert").get_by_text("The service does not answer.").wait_for()
    page.locator("#status").get_by_text("not ready").wait_for()
    page.context.set_offline(False)
    shown(page, "a red circle")
    page.locator("#status").get_by_text("compact").wait_for()
    assert page.locator("#problem").is_hidden()
    assert page.locator(".banner").count() == 0


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (503, {}, "The service is not ready: the index is away."),
        (429, {"Retry-After": "1"}, "The service has too much to do. This page tries again in 1 s."),
    ],
)
def test_transient_failures_are_shown_and_retried(
    visit: Visit, status: int, headers: dict[str, str], said: str
) -> None:
    page = visit()
    with answering(page, "**/v1/search?*", lambda route: problem(route, status, "the index is away", **headers)):
        page.locator("#query").fill("a red circle")
        page.get_by_role("alert").get_by_text(said).wait_for()
    shown(page, "a red circle")


def test_a_missing_key_is_an_error_and_not_retried(visit: Visit) -> None:
    page = visit()
    tries: list[str] = []

    def refuse(route: Route) -> None:
        tries.append(route.request.url)
        problem(route, 401, "a key is needed")

    with answering(page, "**/v1/search?*", refuse):
        page.locator("#query").fill("a red circle")
        page.get_by_role("alert").get_by_text("This service wants a key.").wait_for()
        page.wait_for_timeout(300)
    assert len(tries) == 1


# --- before anything is indexed


def test_before_anything_is_indexed_it_says_what_to_type_and_then_it_searches(
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

        begun = CollectionInfo("begun", "0" * 64, 386, 0, (), "2030-01-01T00:00:00+00:00")
        with store.writing(), closing(store.create(begun)):
            look(page)
            page.get_by_text("A folder is being indexed now.").wait_for()
        page.evaluate("window.same = true")
        index_folder(gallery, bundle, store)
        page.get_by_text(f"{len(NAMES)} images", exact=True).wait_for()
        assert page.locator("#first").is_hidden()
        assert page.evaluate("[window.same, document.activeElement.id]") == [True, "query"]
        page.keyboard.type("a red circle")
        shown(page, "a red circle")
        shown(with_a_query, "a red circle")


def test_where_paths_are_hidden_it_names_no_setting_of_the_service(
    visit: Visit, bundle: Bundle, tmp_path: Path
) -> None:
    with running("--bundle", bundle.path, "--index", f"file:{tmp_path}/index") as service:
        page = visit(service.url)
        page.get_by_text("BUNDLE and INDEX are those that the service was started with").wait_for()
        commands = ["sceneseek index DIR --bundle BUNDLE --index INDEX", "make reindex IMAGES=DIR"]
        assert page.locator("#first code").all_inner_texts() == commands
        assert str(tmp_path) not in page.content()


# --- for everybody


AXE = """async () => {
    const standards = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
    const { violations } = await axe.run(document, { runOnly: { type: 'tag', values: standards } });
    return violations.map(({ id, nodes }) => [id, ...nodes.map((node) => node.html + node.failureSummary)].join(': '));
}"""


def violations(page: Page) -> list[str]:
    """What axe-core finds, with the page's content security policy left as it is."""
    import axe_playwright_python  # noqa: PLC0415 - ships axe-core, which is all that is used of it

    script = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text(encoding="utf-8")
    page.evaluate(script)
    found: list[str] = page.evaluate(AXE)
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_nothing_to_object_to(visit: Visit, scheme: str, width: int) -> None:
    pytest.importorskip("axe_playwright_python", reason="axe-core is not installed (the extra dev has it)")
    page = visit("", color_scheme=scheme, viewport={"width": width, "height": 800})
    page.locator("#examples a").first.wait_for()
    page.locator("#status span").first.wait_for()
    assert violations(page) == []
    page.get_by_text("Keys", exact=True).click()
    assert violations(page) == []
    page.get_by_text("Keys", exact=True).click()
    page.get_by_role("button", name="Plus, minus").click()
    page.get_by_label("Without").fill("a tree")
    page.get_by_label("Without").press("Enter")
    page.get_by_role("button", name="Filters").click()
    page.locator("#filters").get_by_label("Red Room").check()
    page.locator("#query").fill("a house")
    shown(page, "a house")
    page.locator("#verdict").wait_for()
    if width > 390:  # on a narrow page the bar lies over half of a target, which is scrolled free
        page.locator("#results .select").first.check()
    assert violations(page) == []
    results(page).first.locator("a").click()
    page.get_by_text("Why it is here").wait_for()
    assert violations(page) == []


def test_reduced_motion_is_respected(visit: Visit) -> None:
    page = visit("?q=a+red+circle")
    shown(page, "a red circle")
    moving = """[...document.querySelectorAll('*')].map((each) => [each.outerHTML, getComputedStyle(each)])
        .filter(([, style]) => parseFloat(style.transitionDuration) || parseFloat(style.animationDuration))
        .map(([html]) => html)"""
    assert page.evaluate(moving) == []


def test_it_speaks_russian_where_the_browser_does(visit: Visit) -> None:
    page = visit("?q=an+elephant", locale="ru-RU")
    shown(page, "an elephant")
    assert page.locator("html").get_attribute("lang") == "ru"
    assert page.get_by_label("Опишите, что вы ищете").is_visible()
    assert page.locator("#verdict").inner_text() == "Хороших совпадений нет. Самое близкое:"
    assert re.match(r"показано \d+ изображени[еяй]", page.locator("#summary").inner_text())
    page.locator("#query").fill("красный круг")
    shown(page, "красный круг")
    assert page.locator("#verdict").is_hidden()
    results(page).first.click()
    page.get_by_role("button", name="Похожие").wait_for()
    assert not re.search(r"\{\w+\}|undefined", page.locator("body").inner_text())


def proposals(page: Page) -> dict[str, dict[str, Any]]:
    """The queries that the page proposes, by language."""
    found: dict[str, dict[str, Any]] = page.evaluate("async () => (await import('/static/queries.js')).QUERIES")
    return found


def test_where_the_models_read_english_it_proposes_english(visit: Visit) -> None:
    page = visit("", locale="ru-RU")
    page.locator("#examples a").first.wait_for()
    english = proposals(page)["en"]
    assert page.locator("#query").get_attribute("placeholder") == english["placeholder"]
    assert set(page.locator("#examples .title").all_inner_texts()) <= set(english["examples"])
    assert page.locator("#examples").get_attribute("lang") == "en"


def test_where_the_models_read_many_languages_it_proposes_the_readers_and_never_advises_english(
    visit: Visit, bundle: Bundle, gallery: Path, tmp_path: Path
) -> None:
    index = f"file:{tmp_path}/index"
    index_folder(gallery, bundle, open_store(index))
    everything = strict_bundle(bundle, tmp_path / "bundle", 0, multilingual=True)
    with running("--bundle", everything, "--index", index) as service:
        page = visit(service.url, locale="ru-RU")
        page.locator("#examples a").first.wait_for()
        russian = proposals(page)["ru"]
        assert page.locator("#query").get_attribute("placeholder") == russian["placeholder"]
        shown_examples = page.locator("#examples .title").all_inner_texts()
        assert shown_examples
        assert set(shown_examples) <= set(russian["examples"])
        assert page.locator("#examples").get_attribute("lang") == "ru"
        with answering(
            page, "**/v1/search?*", lambda route: route.fulfill(json=route.fetch().json() | {"match": False})
        ):
            page.locator("#query").fill("красный sports car")
            shown(page, "красный sports car")
            assert page.locator("#verdict").inner_text() == "Хороших совпадений нет. Самое близкое:"
        other = visit(service.url, locale="fr-FR")
        other.locator("#examples a").first.wait_for()
        assert other.locator("#query").get_attribute("placeholder") == proposals(other)["en"]["placeholder"]


@pytest.mark.parametrize(
    ("query", "title"),
    [
        ("כלב על החוף", "כלב רץ על החוף (2)."),
        ("كلب على الشاطئ", "كلب يجري على الشاطئ (2)."),
        ("red سيارة", "سيارة red"),
    ],
)
def test_a_right_to_left_query_and_caption_read_from_the_right_on_a_page_that_does_not(
    visit: Visit, query: str, title: str
) -> None:
    page = visit()

    def rename(route: Route) -> None:
        document = route.fetch().json()
        document["results"][0]["metadata"]["title"] = title
        route.fulfill(json=document)

    page.route("**/v1/search?*", rename)
    field = page.locator("#query")
    field.fill(query)
    shown(page, query)
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
    # The isolates keep the sentence around the query in its order.
    assert f"the words “\u2068{query}\u2069”" in page.locator(".score").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_the_same_queries_are_proposed_in_each_language_of_the_page(visit: Visit) -> None:
    page = visit()
    found = proposals(page)
    assert set(found) == {path.suffixes[0][1:] for path in STATIC.glob("strings.*.js")}
    assert {len(set(each["examples"])) for each in found.values()} == {len(found["en"]["examples"])}


def test_every_example_finds_a_match_in_the_demo_gallery(
    visit: Visit, sceneseek: CommandLine, bundle: Bundle, demo_gallery: Path, tmp_path: Path
) -> None:
    languages = {language: each["examples"] for language, each in proposals(visit()).items()}
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


def test_other_languages_get_english_and_their_own_numbers(visit: Visit) -> None:
    page = visit("?q=a+house", locale="fr-FR")
    shown(page, "a house")
    assert page.locator("html").get_attribute("lang") == "en"


def test_both_languages_say_everything(visit: Visit) -> None:
    page = visit()
    load = "async () => Promise.all(['en', 'ru'].map(async (l) => (await import(`/static/strings.${l}.js`)).default))"
    english, russian = page.evaluate(load)
    assert english.keys() == russian.keys()
    for key, said in english.items():
        other = russian[key]
        forms = said.values() if isinstance(said, dict) else [said]
        names = {name for form in forms for name in re.findall(r"\{(\w+)\}", form)}
        for form in other.values() if isinstance(other, dict) else [other]:
            assert set(re.findall(r"\{(\w+)\}", form)) == names, key
        assert isinstance(said, dict) == isinstance(other, dict), key
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


def test_the_script_is_small(visit: Visit) -> None:
    scripts = sorted(STATIC.glob("*.js"))
    assert sum(len(gzip.compress(script.read_bytes())) for script in scripts) < 60_000
    assert sum(script.stat().st_size for script in scripts) < 120_000


def test_it_asks_its_own_host_only_and_little_of_it(visit: Visit) -> None:
    page = visit()
    page.wait_for_load_state("networkidle")
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    page.reload()
    page.wait_for_load_state("networkidle")
    page.locator("#query").fill("a red circle")
    shown(page, "a red circle")
    page.wait_for_load_state("networkidle")
    assert {urlsplit(url).netloc for url in seen} == {urlsplit(page.url).netloc}
    parts = {url for url in seen if "/static/" in url}
    assert len(parts) <= 28
    others = [url for url in seen if "/static/" not in url and "/thumbnail" not in url]
    # The page, its state twice over, the fields, the examples; then the search and a second page of it.
    assert len(others) <= 10, others
    # What the page loads is named in it, so that all of it comes at once.
    named = set(re.findall(r'(?:href|src)="(static/[^"]+)"', (STATIC / "index.html").read_text()))
    assert {f"static/{url.rpartition('/')[2]}" for url in parts} <= named


def test_nothing_in_it_needs_more_than_the_strict_policy(visit: Visit) -> None:
    page = visit("?q=a+red+circle")
    shown(page, "a red circle")
    policy = page.request.get(page.url).headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    # `visit` fails where the browser reports what the policy kept it from.


def test_a_picture_found_by_its_own_text_shows_it(
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
            shown(page, "pharmacy")
            first = results(page).first
            assert first.locator(".text").inner_text() == "“PHARMACY”"
            assert page.locator("#results .text").count() == 1
            assert violations(page) == []
            first.locator("a").focus()
            page.keyboard.press("Enter")
            page.get_by_text("Words of the search stand in the picture: “PHARMACY”.").wait_for()
            page.get_by_text("text in the picture").wait_for()
            assert violations(page) == []
            assert page.evaluate("document.documentElement.scrollWidth") <= width


# --- adding pictures


@pytest.fixture(scope="module")
def growing(bundle: Bundle, gallery: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A service that takes pictures, an indexer that watches their folder, and what a browser sends for each key."""
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


# One file or several dropped onto an element, as `[name, base64]`.
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


def outcome(page: Page, name: str, text: str) -> Locator:
    """The line of a picture that is added, once it says so."""
    line = page.locator("#adding-list li").filter(has_text=name).filter(has_text=text)
    line.wait_for()
    return line


def test_dropped_pictures_are_added_and_each_is_told_of_until_it_is_found_or_refused(
    visit: Visit, growing: dict[str, Any], noise: Callable[[int, int], Image.Image]
) -> None:
    page = visit(growing["url"], **growing["writer"])
    page.get_by_role("button", name="Add pictures").wait_for()
    files = [["beach.png", encoded(noise(90, 60))], ["notes.txt", "AAAA"], ["broken.png", "AAAA"]]
    page.evaluate(DROP_ONTO, ["#drop-add", files])
    assert page.evaluate("window.shown") == [True, True]
    assert page.locator("#drop").is_hidden()
    outcome(page, "notes.txt", "not added: 'notes.txt' does not have the extension of a picture")
    outcome(page, "broken.png", "not added: the picture: not an image of a known format")
    line = outcome(page, "beach.png", "can be found")
    assert page.locator("#adding-state").inner_text() == "1 of 3 found · 2 not added"
    assert (growing["photos"] / "beach.png").exists()
    line.get_by_role("button", name="Open").click()
    page.locator(".picture .whole").wait_for()
    page.wait_for_function("() => document.querySelector('.picture .whole').naturalWidth === 90")
    # Another picture of the same name gets a name of its own.
    page.go_back()
    page.evaluate(DROP_ONTO, ["#drop-add", [["beach.png", encoded(noise(80, 60))]]])
    page.wait_for_function("() => document.querySelectorAll('#adding-list button').length === 2")
    assert (growing["photos"] / "beach (2).png").exists()


def test_a_picture_dropped_elsewhere_is_searched_by_also_by_those_who_may_add(
    visit: Visit, growing: dict[str, Any], noise: Callable[[int, int], Image.Image]
) -> None:
    page = visit(growing["url"], **growing["writer"])
    page.get_by_role("button", name="Add pictures").wait_for()
    page.evaluate(DROP_ONTO, ["body", [["b.png", encoded(noise(50, 60))]]])
    page.get_by_label("Searching by your picture").wait_for()
    assert page.locator("#adding").is_hidden()


def test_a_picture_is_deleted_after_a_question_and_leaves_the_results(
    visit: Visit, growing: dict[str, Any], noise: Callable[[int, int], Image.Image]
) -> None:
    page = visit(growing["url"], **growing["writer"])
    page.get_by_role("button", name="Add pictures").wait_for()
    page.evaluate(DROP_ONTO, ["#drop-add", [["wrong.png", encoded(noise(70, 60))]]])
    outcome(page, "wrong.png", "can be found").get_by_role("button", name="Open").click()
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


def test_who_may_not_write_sees_nothing_of_it(visit: Visit, growing: dict[str, Any]) -> None:
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
def test_pictures_are_added_by_keyboard_and_axe_finds_nothing_to_object_to(
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
    page.on("filechooser", lambda _: None)  # so early that the browser knows of it when one opens
    page.locator("#status span").first.wait_for()
    button = page.locator("#add")
    button.wait_for()
    page.wait_for_load_state("networkidle")
    if width == 1280:  # where the state of the service is one line
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
