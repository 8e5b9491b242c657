"""Latency of the search page in a browser: `python -m benchmarks.page --bundle DIR --images DIR`.

A real Chromium types into the page of a real service. The page's clock measures from the last key press, including the
debounce delay, until every picture of the first row is painted. The service's thumbnail cache is empty at the start.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from benchmarks.inputs import drawn, queries_option
from benchmarks.report import Figure, Goal, Report, Section
from benchmarks.service import serving

GOAL = Goal("value", 300.0)
WATCH = """
    window.lastKey = 0;
    window.shift = 0;
    new PerformanceObserver((list) => list.getEntries().forEach((entry) => { window.shift += entry.value; }))
        .observe({ type: 'layout-shift', buffered: true });
    addEventListener('keydown', (event) => { window.lastKey = event.timeStamp; }, true);
"""
# Resolves once the pictures of the first row are loaded and the frame after they are drawn has begun.
PAINTED = """query => new Promise((resolve) => {
    const check = () => {
        const items = [...document.querySelectorAll('#results > li')];
        const row = items.filter((item) => item.offsetTop === items[0].offsetTop);
        const current = document.title.startsWith(query) && !document.querySelector('#results').ariaBusy;
        if (current && row.length && row.every((item) => item.querySelector('img').complete)) {
            requestAnimationFrame((now) => resolve(now - window.lastKey));
        } else {
            requestAnimationFrame(check);
        }
    };
    check();
})"""


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path, exists=True), default=Path("bundles/compact"))
@click.option("--images", type=click.Path(path_type=Path, exists=True), required=True, help="A folder of pictures.")
@click.option("--count", type=click.IntRange(1), default=1_000, show_default=True, help="Number of pictures to index.")
@queries_option
@click.option("--rounds", type=click.IntRange(1), default=40, show_default=True, help="Number of queries to type.")
@click.option("--chromium", default=shutil.which("chromium") or "chromium", show_default=True)
def main(bundle: Path, images: Path, count: int, texts: list[str], rounds: int, chromium: str) -> None:
    """Measure the search page in a browser."""
    queries = drawn(texts, rounds, seed=0)
    with tempfile.TemporaryDirectory(prefix="sceneseek-page-") as scratch:
        home = Path(scratch)
        index = f"file:{home / 'index'}"
        folder = home / "pictures"
        folder.mkdir()
        for image in sorted(path for path in images.iterdir() if path.is_file())[:count]:
            shutil.copy(image, folder)
        command = [str(Path(sys.executable).with_name("sceneseek")), "index", str(folder)]
        subprocess.run([*command, "--bundle", str(bundle), "--index", index], check=True, capture_output=True)
        with serving(bundle, index, "auto", 0, home / "log") as service:
            painted, shift = type_all(f"http://127.0.0.1:{service.port}/", queries, chromium)
    figure = Figure("from the last key press to the first row painted", "ms", painted, goal=GOAL)
    section = Section(f"The page, {count:,} pictures, {rounds} queries", [figure])
    section.notes.append(f"total layout shift: {shift:g}")
    print("\n".join(Report(sections=[section]).lines()))
    sys.exit(int(not figure.met() or shift > 0))


def type_all(address: str, queries: list[str], chromium: str) -> tuple[list[float], float]:
    """Type the queries; return the milliseconds until each was painted, and the total layout shift."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - from the extra dev

    with sync_playwright() as engine:
        # Chromium's own sandbox does not work for root.
        browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 800}, locale="en-GB")
        page.add_init_script(WATCH)
        page.goto(address)
        page.wait_for_load_state("networkidle")
        painted = []
        for query in queries:
            page.locator("#query").fill("")
            page.locator("#query").press_sequentially(query, delay=30)
            painted.append(float(page.evaluate(PAINTED, query)))
            page.wait_for_load_state("networkidle")
        shift = float(page.evaluate("window.shift"))
        browser.close()
    return painted, shift


if __name__ == "__main__":
    main()
