"""What end-to-end tests share: one running service over an index of the gallery."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from sceneseek.bundle import Bundle
from tests.played_service import FEEDBACK, Handler, Step, answering, playing


@pytest.fixture(scope="session")
def service_url(bundle: Bundle, index_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `sceneseek serve`, for tests that only ask it."""
    index = shutil.copytree(index_url.removeprefix("file:"), tmp_path_factory.mktemp("served") / "index")
    program = Path(sys.executable).with_name("sceneseek")
    command = [program, "serve", "--bundle", bundle.path, "--index", f"file:{index}", "--port", "0"]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        announced = process.stdout.readline()
        assert announced, "it ended without a word"
        with playing(_before(announced.split()[-1])) as front:
            yield front.url
        process.terminate()


def _before(url: str) -> Step:
    """Hand every request on to the service, but /v1/feedback, which it does not have yet: that is played.

    Once it has, `service_url` yields the service's own address, and this goes.
    """
    feedback = answering(FEEDBACK, 201)

    def step(handler: Handler) -> None:
        if handler.path == "/v1/feedback":
            feedback(handler)
            return
        service = HTTPConnection(urlsplit(url).netloc, timeout=30)
        service.request(handler.command, handler.path, handler.body, dict(handler.headers))
        reply = service.getresponse()
        answering(reply.read(), reply.status, {"Content-Type": reply.headers["Content-Type"]})(handler)
        service.close()

    return step
