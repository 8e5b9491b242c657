"""`/`: the search page, static files that talk to `/v1`; docs/explanation/page.md tells of them."""

from __future__ import annotations

from flask import Blueprint, Response, current_app


def page_blueprint() -> Blueprint:
    """The view of the page; its style and scripts are served as Flask serves static files."""
    blueprint = Blueprint("page", __name__)

    @blueprint.get("/")
    def page() -> Response:
        return current_app.send_static_file("index.html")

    return blueprint
