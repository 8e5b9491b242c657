"""An error as a client sees it: one `application/problem+json` document (RFC 9457).

It knows nothing of Flask, because a request that is no HTTP is answered before Flask sees it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from sceneseek.errors import SceneseekError

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Problem:
    """One error.

    Attributes:
        status: the HTTP status.
        detail: what was wrong, one clause.
        hint: what the client can do about it; left out of the document where nothing helps.
        kind: a stable word for programs to tell problems apart; none where the status says it all.
        title: the same for every problem of a kind.
        more: further members of the document.
    """

    status: int
    detail: str
    hint: str = ""
    kind: str = ""
    title: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, error: SceneseekError) -> Problem:
        """The problem that an error of ours is."""
        return cls(error.status, error.what, error.hint, error.slug, error.title)

    def encode(self, request_id: str | None = None) -> bytes:
        """The document; with the request's id, by which its lines are found in the log."""
        document: dict[str, Any] = {
            "type": f"urn:sceneseek:problem:{self.kind}" if self.kind else "about:blank",
            "title": self.title or HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": self.detail,
        }
        if self.hint:
            document["hint"] = self.hint
        if request_id is not None:
            document["request_id"] = request_id
        return json.dumps({**document, **self.more}, separators=(",", ":")).encode("ascii")
