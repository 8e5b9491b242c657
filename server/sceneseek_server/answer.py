"""Documents to JSON answers, compact, and never kept by a cache."""

from __future__ import annotations

import json
from collections.abc import Mapping

from flask import Response


def json_answer(document: Mapping[str, object]) -> Response:
    """The answer that carries a document."""
    body = json.dumps(document, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    response = Response(body, content_type="application/json")
    response.headers["Cache-Control"] = "no-store"
    return response
