"""`/`: the search page, three static files that talk to `/v1/search`."""

from __future__ import annotations

from flask import Blueprint, Response, current_app


def page_blueprint() -> Blueprint:
    """The view of the page; its style and script are served as Flask serves static files."""
    blueprint = Blueprint("page", __name__)

    @blueprint.get("/")
    def page() -> Response:
        return current_app.send_static_file("index.html")

    return blueprint
