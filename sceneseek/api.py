"""The answers of the HTTP API `/v1`, as frozen dataclasses, and how requests and answers are written as JSON.

The pipeline takes requests and returns answers, the service reads the ones and writes the others as JSON, the client
does the reverse, and the OpenAPI document is made from both. Answers ignore unknown fields, so that a client can talk
to a newer service.

    POST /v1/search     -> Answer, Answers
    POST /v1/score      -> Scores
    POST /v1/feedback   -> Feedback
    GET .../details     -> ImageDetails
    PUT /v1/images/PATH, DELETE /v1/images/ID, GET .../status -> ImageStatus
    GET /v1/collections -> Collections
    GET /readyz         -> Readiness
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from sceneseek.queries import Query
from sceneseek.request import refusal
from sceneseek.terms import ImageId

Document = TypeVar("Document")

PROBLEM_TYPE = "urn:sceneseek:problem:"
"""What the `type` of each of the service's own kinds of problem begins with."""


def _only_if_given(schema: dict[str, Any]) -> None:
    """The schema of a field that is left out where it is None."""
    schema.pop("default", None)
    (kind,) = (kind for kind in schema.pop("anyOf", ({},)) if kind.get("type") != "null")
    schema.update(kind)


_Score: TypeAlias = Annotated[
    float | None, Field(ge=0, le=1, description="How well the text matches the image; null where there is no text.")
]
_Match: TypeAlias = Annotated[
    bool | None, Field(description="Whether that is a match; null where the bundle names no threshold for one.")
]
# Cosines of vectors of length 1 may be over 1 by a rounding error.
_Cosine: TypeAlias = Annotated[float, Field(ge=-1.001, le=1.001, description="Cosine in the joint space.")]
_Rank: TypeAlias = Annotated[int, Field(ge=1)]
_Threshold: TypeAlias = Annotated[float | None, Field(ge=0, le=1, description="The least score of a match.")]
_Milliseconds: TypeAlias = Annotated[
    dict[str, Annotated[float, Field(ge=0)]], Field(description="By stage, and `total`; the sum of what a stage took.")
]
# Left out of the JSON where it is None.
_IF_GIVEN = Field(exclude_if=lambda value: value is None, json_schema_extra=_only_if_given)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """How an image came to its rank.

    Attributes:
        rank_before: its place among the candidates, from 1, before reranking: the nearest neighbours of the query, and
            behind them those that were found by their text.
        rank_after: its place in the answer, from 1.
        text_similarity: joint-space cosine to the text alone; None unless there is one text.
        image_similarity: the same to the image that was searched by; None unless there is one.
    """

    rank_before: Annotated[_Rank, Field(description="Among the candidates, before rescoring.")]
    rank_after: _Rank
    text_similarity: _Cosine | None
    image_similarity: _Cosine | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageDetails:
    """What the index knows of an image.

    Attributes:
        id: a UUID as text, the same in every generation.
        path: source-relative; None where the service does not show paths.
        width, height: in pixels, in its right orientation.
        format: Pillow's name of it, such as ``JPEG``.
        metadata: the user's own.
        text: what was read in the picture, its lines divided by new lines; None where nothing was.
        duplicates: how many other images of the index are near-duplicates of it.
        image: the address of the original; None where no service gives it.
        thumbnail: the address of a small JPEG; None where no service gives it.
    """

    id: ImageId
    path: Annotated[
        str | None, Field(description="Source-relative; only where the service shows paths."), _IF_GIVEN
    ] = None
    width: Annotated[int, Field(ge=0)]
    height: Annotated[int, Field(ge=0)]
    format: str
    metadata: Annotated[dict[str, Any], Field(description="The user's own.")]
    text: Annotated[str | None, Field(description="What was read in the picture, line by line."), _IF_GIVEN] = None
    duplicates: Annotated[int, Field(ge=0, description="How many other images are near-duplicates of it.")]
    image: Annotated[str | None, Field(description="Address of the original on this host."), _IF_GIVEN] = None
    thumbnail: Annotated[str | None, Field(description="Address of a small JPEG."), _IF_GIVEN] = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageStatus:
    """What became of an image that was put or deleted, or is in the index.

    Attributes:
        id: a UUID as text, the same in every generation.
        state: `pending`: it was put, and searches may not find it yet. `indexed`: they find it. `refused`: it was put,
            and the index does not take it. `deleting`: it was deleted, and searches may still find it. `deleted`: they
            do not, which is remembered for a while.
        reason: why it is refused.
        etag: of its content, for If-Match, without quotes; None of one that is deleted.
    """

    id: ImageId
    state: Annotated[
        Literal["pending", "indexed", "refused", "deleting", "deleted"],
        Field(description="Searches find it from `indexed` on, and do not find it from `deleted` on."),
    ]
    reason: Annotated[str | None, Field(description="Why it is refused."), _IF_GIVEN] = None
    etag: Annotated[str | None, Field(description="Of its content, for If-Match."), _IF_GIVEN] = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result(ImageDetails):
    """One image of an answer; it stands for its near-duplicates too, unless the query keeps them.

    Attributes:
        rank: its place in the answer, from 1.
        score: how well the text matches it, in [0, 1], to six decimals; None where there is no text.
        match: whether that is a match; None where the bundle names no threshold.
        similarity: joint-space cosine to what was searched by, to six decimals.
        text_match: the share of the query's words that the picture's own text has, which raises the score; None where
            the collection has no texts, or more is searched by than one text.
        explanation: where it was asked for.
    """

    rank: _Rank
    score: _Score
    match: _Match
    similarity: Annotated[_Cosine, Field(description="Cosine to what was searched by.")]
    text_match: Annotated[
        float | None, Field(ge=0, le=1, description="The share of the query's words in the picture's text."), _IF_GIVEN
    ] = None
    explanation: Annotated[Explanation | None, _IF_GIVEN] = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """Something about the question that explains its answer.

    Attributes:
        kind: `negation`: the text reads like one, which a search does not understand. `unknown-field`: no image has a
            field of the filter. `other-type`: a field of the filter holds other values than it is compared with.
        text: a sentence that says so.
        field: the field.
        nearest: a field of a similar name that there is.
    """

    kind: Literal["negation", "unknown-field", "other-type"]
    text: str
    field: Annotated[str | None, _IF_GIVEN] = None
    nearest: Annotated[str | None, _IF_GIVEN] = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer, best result first.

    Attributes:
        query: the text that was searched; None without one.
        truncated: whether its end was ignored because it was longer than the text tower reads.
        match: False where nothing matches well and the results are only the nearest; None where that is not known.
        matches: how many of the scored candidates match, near-duplicates counted; None where that is not known.
        threshold: the least score of a match; None where the bundle names none.
        results: at most k.
        offset: how many results come before them.
        next_offset: where to go on, with all else the same; None where nothing comes after.
        shortlist: how many candidates were scored.
        generation: the collection that answered; pages of one search belong together if it is equal.
        bundle: fingerprint of the bundle that answered.
        calibrated: whether scores were learned from human ratings.
        timings_ms: milliseconds by stage, and ``total``.
        hints: what about the question explains the answer.
    """

    query: Annotated[str | None, Field(description="The text that was searched; null without one.")]
    truncated: Annotated[bool, Field(description="Whether its end was ignored because it was too long.")]
    match: Annotated[
        bool | None, Field(description="False: nothing here matches well, these are the nearest. Null: not known.")
    ]
    matches: Annotated[int | None, Field(ge=0, description="How many of the scored candidates match.")] = None
    threshold: _Threshold
    results: tuple[Result, ...]
    offset: Annotated[int, Field(ge=0)]
    next_offset: Annotated[
        int | None, Field(description="Where to go on, with all else the same; null where nothing comes after.")
    ]
    shortlist: Annotated[int, Field(ge=0, description="How many candidates were scored.")]
    generation: Annotated[str, Field(description="What answered. Pages of one search belong together if it is equal.")]
    bundle: Annotated[str, Field(description="Fingerprint of the bundle that answered.")]
    calibrated: Annotated[bool, Field(description="Whether scores were learned from human ratings.")]
    timings_ms: _Milliseconds
    hints: Annotated[tuple[Hint, ...], Field(description="What about the question explains the answer.")] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers to several searches, in their order."""

    answers: tuple[Answer, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """What the text scores for one image; `id` is None for a picture that was sent."""

    id: Annotated[ImageId | None, Field(description="Null for an uploaded picture.")]
    score: Annotated[float, Field(ge=0, le=1)]
    match: _Match
    similarity: _Cosine


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """What a text scores for some images, in the order in which they were named or sent; see `Answer`."""

    query: str
    truncated: bool
    threshold: _Threshold
    scores: tuple[Scored, ...]
    generation: str
    bundle: str
    calibrated: bool
    timings_ms: _Milliseconds


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """A vector of length 1 in the joint space, as numbers or as the base64 of float32, little-endian."""

    object: Literal["embedding"] = "embedding"
    index: Annotated[int, Field(ge=0)]
    embedding: str | list[float]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingUsage:
    """How many tokens the texts had."""

    prompt_tokens: int
    total_tokens: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """Vectors in the order of what was sent, in the form of OpenAI's API; `model` is the service's pack."""

    object: Literal["list"] = "list"
    data: tuple[Embedding, ...]
    model: str
    usage: EmbeddingUsage


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """One generation of the index.

    Attributes:
        name: the generation's.
        live: whether it answers now.
        images: how many it has.
        image_fingerprint: of the image graph that filled it.
        dimensions: of the joint space.
        created: when, in ISO 8601.
        fields: those with an index, for filters, and their types.
    """

    name: str
    live: Annotated[bool, Field(description="Whether it answers now.")]
    images: Annotated[int, Field(ge=0)]
    image_fingerprint: Annotated[str, Field(description="Of the image graph that filled it.")]
    dimensions: Annotated[int, Field(ge=1, description="Of the joint space.")]
    created: str
    fields: Annotated[dict[str, str], Field(description="Fields with an index, for filters, and their types.")]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Collections:
    """The generations of the index, oldest first, and the bundle that answers.

    Attributes:
        live: the name of the generation that answers.
        bundle: fingerprint of the bundle that answers.
        pack: its pack.
        building: whether a process is writing another generation now.
        may_write: whether who asked may add and delete images.
        collections: all of them.
    """

    live: str
    bundle: Annotated[str, Field(description="Fingerprint of the bundle that answers.")]
    pack: str
    building: Annotated[bool, Field(description="Whether a process is writing another generation now.")]
    may_write: Annotated[bool, Field(description="Whether you may add and delete images.")] = False
    collections: tuple[Collection, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """What became of a rating."""

    stored: Annotated[bool, Field(description="False: it had been stored before, under its key.")]
    key: Annotated[str, Field(description="Its own; made here where none was sent.")]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Where the text graph runs: asked for, and taken, and why; `provider` is ONNX Runtime's name of it.

    `texts_together` says whether queries may share a run: not where a text's vectors depend on its company.
    """

    asked: str
    device: str
    provider: str
    why: str
    onnxruntime: str
    texts_together: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What a service that is ready answers from.

    `multilingual` says whether its models read queries in many languages; else they should be in English. `following`
    says whether the thread that watches the alias is alive; `problem` is what is wrong while searches are answered: why
    the generation that the alias points at is not followed, or which pictures are not where they were.
    """

    status: Literal["ready"]
    pack: str
    multilingual: bool
    fingerprints: dict[str, str]
    generation: str
    images: int
    following: bool
    problem: str | None
    runtime: Runtime


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIError:
    """A problem in the form of OpenAI's API, whose clients print the message and nothing else.

    Attributes:
        message: the problem's detail, and its hint.
        type: the problem's.
        param, code: always None; clients expect them.
    """

    message: str
    type: str
    param: None = None
    code: None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error (RFC 9457); a document may have further members.

    Attributes:
        type: `PROBLEM_TYPE` and a stable word by which programs tell problems apart; ``about:blank`` where the status
            says it all.
        title: the same for every problem of a type.
        status: the HTTP status.
        detail: what was wrong, one clause.
        hint: what the client can do about it; None where nothing helps.
        request_id: by which the service's log has its lines.
        error: the same for clients of OpenAI's API; only from `/v1/embeddings`.
    """

    type: str = "about:blank"
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    hint: Annotated[str | None, Field(description="What to do about it."), _IF_GIVEN] = None
    request_id: Annotated[str | None, _IF_GIVEN] = None
    error: Annotated[
        OpenAIError | None, Field(description="For OpenAI's clients; only from `/v1/embeddings`."), _IF_GIVEN
    ] = None


_adapter = functools.cache(TypeAdapter)


def adapter(kind: Any) -> TypeAdapter[Any]:
    """What reads and writes documents of a kind."""
    return _adapter(kind)


def to_json(document: Any, indent: int | None = None) -> bytes:
    """A document as JSON, compact unless indented; fields of a request that have their default are left out."""
    return adapter(type(document)).dump_json(
        document, indent=indent, by_alias=True, exclude_defaults=hasattr(document, "HINTS")
    )


def to_fields(query: Query) -> dict[str, Any]:
    """A query as the fields of a form or of a query string; those that have their default are left out."""
    fields: dict[str, Any] = adapter(Query).dump_python(query, by_alias=True, exclude_defaults=True)
    return fields


def read_answer(kind: type[Document], content: bytes) -> Document:
    """An answer from the JSON of a service, which may have further fields.

    Raises:
        ValidationError: it is none, of pydantic's.
    """
    found: Document = adapter(kind).validate_json(content, strict=True)
    return found


def read_json(kind: type[Document], body: bytes) -> Document:
    """A request from a JSON body, where a number is a number.

    Raises:
        InvalidRequest: the body is no such request; the first flaw, named with its place.
    """
    return _read(kind, lambda: adapter(kind).validate_json(body, strict=True, by_alias=True, by_name=False))


def read_fields(kind: type[Document], fields: Mapping[str, Any]) -> Document:
    """A request from the texts of a query string or a form.

    Raises:
        InvalidRequest: a field is unknown, or not of its kind.
    """
    return _read(kind, lambda: adapter(kind).validate_python(dict(fields), by_alias=True, by_name=False))


def _read(kind: type[Document], validate: Callable[[], Any]) -> Document:
    try:
        found: Document = validate()
    except ValidationError as error:
        raise refusal(error, kind) from None
    return found
