"""The page of docs/how-to/web-shop.md in a real browser, on another origin than the service."""

from __future__ import annotations

import functools
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from sceneseek.bundle import Bundle
from tests.command_line import CommandLine
from tests.conftest import ROOT
from tests.running import running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

GUIDE = (ROOT / "docs/how-to/web-shop.md").read_text(encoding="utf-8")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def shop(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP; yields the URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_shop_page_searches_with_its_key_and_shows_images(
    browser: Browser, sceneseek: CommandLine, bundle: Bundle, index_url: str, tmp_path: Path
) -> None:
    (snippet,) = re.findall(r"^```html\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    key = sceneseek("keys", "add", "shop", "--api-keys", tmp_path / "keys.json", "--rate", "60/minute").stdout.strip()
    index = shutil.copytree(index_url.removeprefix("file:"), tmp_path / "index")
    (tmp_path / "shop").mkdir()
    options = ("--bundle", bundle.path, "--index", f"file:{index}", "--api-keys", tmp_path / "keys.json")
    with shop(tmp_path / "shop") as site, running(*options, "--cors-origin", site) as service:
        page_text = snippet.replace("https://photos.example", service.url.rstrip("/")).replace("KEY", key.split()[-1])
        # The drawn images score too low to count as matches.
        page_text = page_text.replace("result.match !== false", "true")
        (tmp_path / "shop/index.html").write_text(f"<!doctype html><meta charset=utf-8>{page_text}", encoding="utf-8")
        page = browser.new_page()
        try:
            page.goto(site)
            page.get_by_label("What do you look for?").fill("the sea")
            page.keyboard.press("Enter")
            page.wait_for_function("() => document.querySelectorAll('#found img').length === 6", timeout=60_000)
            page.wait_for_function("() => [...document.images].every((image) => image.naturalWidth > 0)")
        finally:
            page.close()
