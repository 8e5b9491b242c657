"""A client of the service: `from sceneseek.client import Client`.

    with Client("http://127.0.0.1:8080") as client:
        for result in client.search("a dog jumping over a log").results:
            print(result.rank, result.score, result.metadata)

Answers are the frozen dataclasses of `sceneseek.api`; fields of newer services are ignored. What goes wrong is an error
of `sceneseek.errors`, the one that the service itself met where it said so. Every request may safely be repeated, so
one that was lost, or that the service was too busy for, is repeated within the time that a call has.

It loads urllib3 and pydantic and nothing that searches: neither models nor an index are needed where it runs.
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
