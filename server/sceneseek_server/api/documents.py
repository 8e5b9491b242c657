"""The documents that `/v1` answers with, and how the library's answers become them.

They are typed dictionaries rather than models: what is ours is checked by tests, not at every answer.
"""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, cast

from flask import request
from pydantic import Field
from typing_extensions import TypedDict  # pydantic asks for it below Python 3.12

from sceneseek.search import Answer, Explanation, Image, Result, Scores
from sceneseek_server.access.control import shows_paths

Score = Annotated[
    float | None, Field(ge=0, le=1, description="How well the text matches the image; null where there is no text.")
]
Match = Annotated[
    bool | None, Field(description="Whether that is a match; null where the bundle names no threshold for one.")
]
# Cosines of vectors of length 1 may be over 1 by a rounding error.
Cosine = Annotated[float, Field(ge=-1.001, le=1.001, description="Cosine in the joint space.")]
Rank = Annotated[int, Field(ge=1)]
Milliseconds = Annotated[
    dict[str, Annotated[float, Field(ge=0)]], Field(description="By stage, and `total`; the sum of what a stage took.")
]


class ExplanationDocument(TypedDict):
    """How an image came to its rank."""

    rank_before: Annotated[Rank, Field(description="Among the nearest neighbours, before rescoring.")]
    rank_after: Rank
    text_similarity: Cosine | None
    image_similarity: Cosine | None


class ImageDocument(TypedDict):
    """What is known of an image."""

    id: Annotated[str, Field(json_schema_extra={"format": "uuid"})]
    path: NotRequired[Annotated[str, Field(description="Source-relative; only where the service shows paths.")]]
    width: Annotated[int, Field(ge=0)]
    height: Annotated[int, Field(ge=0)]
    format: str
    metadata: Annotated[dict[str, Any], Field(description="The user's own.")]
    duplicates: Annotated[int, Field(ge=0, description="How many other images are near-duplicates of it.")]
    image: Annotated[str, Field(description="Address of the original on this host.")]
    thumbnail: Annotated[str, Field(description="Address of a small JPEG.")]


class ResultDocument(ImageDocument):
    """One image of an answer."""

    rank: Rank
    score: Score
    match: Match
    similarity: Annotated[Cosine, Field(description="Cosine to what was searched by.")]
    explanation: NotRequired[ExplanationDocument]


class AnswerDocument(TypedDict):
    """An answer, best result first."""

    query: Annotated[str | None, Field(description="The text that was searched; null without one.")]
    truncated: Annotated[bool, Field(description="Whether its end was ignored because it was too long.")]
    match: Annotated[
        bool | None, Field(description="False: nothing here matches well, these are the nearest. Null: not known.")
    ]
    threshold: Annotated[float | None, Field(ge=0, le=1, description="The least score of a match.")]
    results: list[ResultDocument]
    offset: Annotated[int, Field(ge=0)]
    next_offset: Annotated[
        int | None, Field(description="Where to go on, with all else the same; null where nothing comes after.")
    ]
    shortlist: Annotated[int, Field(ge=0, description="How many candidates were scored.")]
    generation: Annotated[str, Field(description="What answered. Pages of one search belong together if it is equal.")]
    bundle: Annotated[str, Field(description="Fingerprint of the bundle that answered.")]
    calibrated: Annotated[bool, Field(description="Whether scores were learned from human ratings.")]
    timings_ms: Milliseconds


class AnswersDocument(TypedDict):
    """The answers to several searches, in their order."""

    answers: list[AnswerDocument]


class ScoredDocument(TypedDict):
    """What the text scores for one image."""

    id: Annotated[str | None, Field(description="Null for an uploaded picture.")]
    score: Annotated[float, Field(ge=0, le=1)]
    match: Match
    similarity: Cosine


class ScoresDocument(TypedDict):
    """What a text scores for some images, in the order in which they were named or sent."""

    query: str
    truncated: bool
    threshold: Annotated[float | None, Field(ge=0, le=1)]
    scores: list[ScoredDocument]
    generation: str
    bundle: str
    calibrated: bool
    timings_ms: Milliseconds


class CollectionDocument(TypedDict):
    """One generation of the index."""

    name: str
    live: Annotated[bool, Field(description="Whether it answers now.")]
    images: Annotated[int, Field(ge=0)]
    image_fingerprint: Annotated[str, Field(description="Of the image graph that filled it.")]
    dimensions: Annotated[int, Field(ge=1, description="Of the joint space.")]
    created: str
    fields: Annotated[dict[str, str], Field(description="Fields with an index, for filters, and their types.")]


class CollectionsDocument(TypedDict):
    """The generations of the index, oldest first, and the bundle that answers."""

    live: str
    bundle: Annotated[str, Field(description="Fingerprint of the bundle that answers.")]
    pack: str
    building: Annotated[bool, Field(description="Whether a process is writing another generation now.")]
    collections: list[CollectionDocument]


class FeedbackDocument(TypedDict):
    """What became of a rating."""

    stored: Annotated[bool, Field(description="False: it had been stored before, under its key.")]
    key: Annotated[str, Field(description="Its own; made here where none was sent.")]


class ProblemDocument(TypedDict):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    hint: NotRequired[Annotated[str, Field(description="What to do about it.")]]
    request_id: NotRequired[str]


def answer_document(answer: Answer) -> AnswerDocument:
    """A search's answer."""
    return {
        "query": answer.query,
        "truncated": answer.truncated,
        "match": answer.match,
        "threshold": answer.threshold,
        "results": [_result(result) for result in answer.results],
        "offset": answer.offset,
        "next_offset": answer.next_offset,
        "shortlist": answer.shortlist,
        "generation": answer.generation,
        "bundle": answer.bundle,
        "calibrated": answer.calibrated,
        "timings_ms": answer.timings_ms,
    }


def image_document(image: Image) -> ImageDocument:
    """What is known of an image."""
    # Written rather than built by url_for, which would take longer than scoring the shortlist does.
    address = f"{request.root_path}/v1/images/{image.id}"
    document: ImageDocument = {
        "id": image.id,
        "width": image.width,
        "height": image.height,
        "format": image.format,
        "metadata": image.metadata,
        "duplicates": image.duplicates,
        "image": address,
        "thumbnail": f"{address}/thumbnail",
    }
    if shows_paths():
        document["path"] = image.path
    return document


def scores_document(scores: Scores) -> ScoresDocument:
    """What `/v1/score` answers."""
    return {
        "query": scores.query,
        "truncated": scores.truncated,
        "threshold": scores.threshold,
        "scores": [
            {
                "id": scored.id,
                "score": round(scored.score, 6),
                "match": scored.match,
                "similarity": round(scored.similarity, 6),
            }
            for scored in scores.scores
        ],
        "generation": scores.generation,
        "bundle": scores.bundle,
        "calibrated": scores.calibrated,
        "timings_ms": scores.timings_ms,
    }


def _result(result: Result) -> ResultDocument:
    document: dict[str, Any] = {
        "rank": result.rank,
        "score": None if result.score is None else round(result.score, 6),
        "match": result.match,
        "similarity": round(result.similarity, 6),
        **image_document(result),
    }
    if result.explanation is not None:
        document["explanation"] = _explanation(result.explanation)
    return cast("ResultDocument", document)


def _explanation(explanation: Explanation) -> ExplanationDocument:
    return {
        "rank_before": explanation.neighbour,
        "rank_after": explanation.rank,
        "text_similarity": _rounded(explanation.text_similarity),
        "image_similarity": _rounded(explanation.image_similarity),
    }


def _rounded(cosine: float | None) -> float | None:
    return None if cosine is None else round(cosine, 6)
