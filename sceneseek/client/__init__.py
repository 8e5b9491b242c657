"""A client of the service: `from sceneseek.client import Client`.

    with Client("http://127.0.0.1:8080") as client:
        for result in client.search("a dog jumping over a log").results:
            print(result.rank, result.score, result.metadata)

Responses are the frozen dataclasses of `sceneseek.api`; unknown fields of newer services are ignored. Errors are those
of `sceneseek.errors`; an error response raises the error that the service reports. All requests are idempotent, so
lost requests, and those rejected by a busy service, are retried within the timeout of the call.

The client needs only urllib3 and pydantic: no models and no index.
"""

from sceneseek.api import (
    Answer,
    Collection,
    Collections,
    Explanation,
    Feedback,
    ImageDetails,
    ImageStatus,
    Readiness,
    Result,
    Scored,
    Scores,
)
from sceneseek.client.client import Client
from sceneseek.queries import Query
from sceneseek.terms import Term

__all__ = [
    "Answer",
    "Client",
    "Collection",
    "Collections",
    "Explanation",
    "Feedback",
    "ImageDetails",
    "ImageStatus",
    "Query",
    "Readiness",
    "Result",
    "Scored",
    "Scores",
    "Term",
]
