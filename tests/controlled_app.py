"""A small application behind the real access control, which needs no bundle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from flask import Flask, request
from flask.testing import FlaskClient

from sceneseek.errors import IndexUnavailable
from sceneseek_server.access.control import caller, charge, control_access, key_file_problem
from sceneseek_server.access.keys import add_key, new_key
from sceneseek_server.responses import shape_responses
from sceneseek_server.service import AccessSettings

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
SEARCH = "/v1/search"


def controlled_client(settings: AccessSettings) -> FlaskClient:
    """The test client of an application with one view of each kind; `/v1/search` returns the caller."""
    app = Flask("controlled", static_folder=None)
    control_access(app, settings)
    shape_responses(app)

    @app.route(SEARCH, methods=["GET", "POST"])
    def search() -> dict[str, object]:
        asked = caller()
        assert asked is not None
        return {"address": asked.address, "key": asked.key, "bytes": len(request.get_data(cache=False))}

    @app.post("/v1/batch/<int:size>")
    def batch(size: int) -> str:
        charge(size)
        return "answered"

    @app.post("/v1/upload")
    def upload() -> dict[str, int]:
        return {name: len(file.read()) for name, file in request.files.items()}

    @app.get("/broken")
    def broken() -> str:
        raise IndexUnavailable("the index file:/srv/private is gone", "see /srv/private")

    for path in ("/", "/static/page.js", "/healthz", "/v1/images/1", "/v1/images/1/thumbnail"):
        app.add_url_rule(path, path, lambda: "here")
    app.add_url_rule("/readyz", "readyz", lambda: {"problem": key_file_problem()})
    return app.test_client()


def made_key(path: Path, name: str = "phone", expires: timedelta | None = None, rate: str | None = None) -> str:
    """Create a key, add it to the key file, and return its secret."""
    key = new_key(name, NOW, NOW + expires if expires else None, rate)
    add_key(path, key)
    return key.secret
