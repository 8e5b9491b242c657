"""The responses of the HTTP API `/v1`, as frozen dataclasses, and JSON serialization of requests and responses.

The search pipeline takes requests and returns responses; service and client convert both from and to JSON; the OpenAPI
document is generated from both. Unknown fields of responses are ignored, so that a client works with a newer service.

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
"""Prefix of the `type` of every problem that the service defines."""


def _only_if_given(schema: dict[str, Any]) -> None:
    """Adapt the schema of a field that is omitted if it is None."""
    schema.pop("default", None)
    (kind,) = (kind for kind in schema.pop("anyOf", ({},)) if kind.get("type") != "null")
    schema.update(kind)


_Score: TypeAlias = Annotated[
    float | None, Field(ge=0, le=1, description="How well the text matches the image; null without a text.")
]
_Match: TypeAlias = Annotated[
    bool | None, Field(description="Whether the score reaches the bundle's threshold; null if there is none.")
]
# Rounding errors may raise the cosine of unit vectors above 1.
_Cosine: TypeAlias = Annotated[float, Field(ge=-1.001, le=1.001, description="Cosine in the joint space.")]
_Rank: TypeAlias = Annotated[int, Field(ge=1)]
_Threshold: TypeAlias = Annotated[float | None, Field(ge=0, le=1, description="Minimum score of a match.")]
_Milliseconds: TypeAlias = Annotated[
    dict[str, Annotated[float, Field(ge=0)]], Field(description="Milliseconds spent in each stage, and in `total`.")
]
# Omitted from the JSON if it is None.
_IF_GIVEN = Field(exclude_if=lambda value: value is None, json_schema_extra=_only_if_given)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The explanation of an image's rank.

    Attributes:
        rank_before: rank among the candidates before reranking, from 1. Candidates are the nearest neighbours of the
            query, followed by images found by the text within them.
        rank_after: rank in the answer, from 1.
        text_similarity: joint-space cosine to the text; None unless the query has exactly one.
        image_similarity: joint-space cosine to the query image; None unless the query has exactly one.
    """

    rank_before: Annotated[_Rank, Field(description="Rank among the candidates, before reranking.")]
    rank_after: _Rank
    text_similarity: _Cosine | None
    image_similarity: _Cosine | None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageDetails:
    """The indexed fields of an image.

    Attributes:
        id: a UUID as text, the same in every generation.
        path: source-relative; None if the service hides paths.
        width, height: in pixels, after applying the EXIF orientation.
        format: Pillow's name of the format, such as ``JPEG``.
        metadata: provided by the user.
        text: text recognized in the picture, separated by newlines; None if there is none.
        duplicates: number of other images in the index that are near-duplicates.
        image: URL of the original; None if not served.
        thumbnail: URL of a small JPEG; None if not served.
    """

    id: ImageId
    path: Annotated[str | None, Field(description="Source-relative; only if the service shows paths."), _IF_GIVEN] = (
        None
    )
    width: Annotated[int, Field(ge=0)]
    height: Annotated[int, Field(ge=0)]
    format: str
    metadata: Annotated[dict[str, Any], Field(description="Metadata provided by the user.")]
    text: Annotated[
        str | None, Field(description="Text recognized in the picture, separated by newlines."), _IF_GIVEN
    ] = None
    duplicates: Annotated[int, Field(ge=0, description="Number of other images that are near-duplicates.")]
    image: Annotated[str | None, Field(description="URL of the original on this host."), _IF_GIVEN] = None
    thumbnail: Annotated[str | None, Field(description="URL of a small JPEG."), _IF_GIVEN] = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ImageStatus:
    """The state of an uploaded, indexed or deleted image.

    Attributes:
        id: a UUID as text, the same in every generation.
        state: `pending`: uploaded; searches may not find it yet. `indexed`: searches find it. `refused`: uploaded, but
            it cannot be indexed. `deleting`: deleted, but searches may still find it. `deleted`: searches do not find
            it any more; this state is kept for a while.
        reason: why the image was refused.
        etag: ETag of its content, without quotes, for If-Match; None for a deleted image.
    """

    id: ImageId
    state: Annotated[
        Literal["pending", "indexed", "refused", "deleting", "deleted"],
        Field(description="Searches find the image once it is `indexed`, and no longer once it is `deleted`."),
    ]
    reason: Annotated[str | None, Field(description="Why the image was refused."), _IF_GIVEN] = None
    etag: Annotated[str | None, Field(description="ETag of its content, for If-Match."), _IF_GIVEN] = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result(ImageDetails):
    """An image found by a search; it represents its near-duplicates too, unless the query keeps them.

    Attributes:
        rank: rank in the answer, from 1.
        score: how well the text matches the image, in [0, 1], to six decimals; None without a text.
        match: whether the score reaches the bundle's threshold; None without a score or a threshold.
        similarity: joint-space cosine to the query, to six decimals.
        text_match: share of the query's words that the text in the picture contains, which raises the score; None if
            the collection has no such texts, or the query is not a single text.
        explanation: None unless requested.
    """

    rank: _Rank
    score: _Score
    match: _Match
    similarity: Annotated[_Cosine, Field(description="Cosine to the query in the joint space.")]
    text_match: Annotated[
        float | None,
        Field(ge=0, le=1, description="Share of the query's words that the text in the picture contains."),
        _IF_GIVEN,
    ] = None
    explanation: Annotated[Explanation | None, _IF_GIVEN] = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """A property of the query that may explain unexpected results.

    Attributes:
        kind: `negation`: the text reads like a negation, which searches do not understand. `unknown-field`: no image
            has a field of the filter or the sort order. `other-type`: a field of the filter has another type than the
            value that it is compared with.
        text: a message for the user.
        field: the field in question.
        nearest: an existing field with a similar name.
    """

    kind: Literal["negation", "unknown-field", "other-type"]
    text: str
    field: Annotated[str | None, _IF_GIVEN] = None
    nearest: Annotated[str | None, _IF_GIVEN] = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to a query, best result first.

    Attributes:
        query: the text of the query; None without one.
        truncated: whether the end of the text was ignored because it exceeds the limit of the text tower.
        match: False if nothing matches well and the results are only the nearest images; None if unknown.
        matches: number of scored candidates that match, including near-duplicates; None if unknown.
        threshold: minimum score of a match; None if the bundle has no threshold.
        results: at most k.
        offset: number of results before these.
        next_offset: offset of the next page of the same query; None if there is none.
        shortlist: number of candidates scored.
        generation: the collection searched; pages of a search are consistent if it is the same.
        bundle: fingerprint of the bundle used.
        calibrated: whether scores were learned from human ratings.
        timings_ms: milliseconds by stage, and ``total``.
        hints: properties of the query that may explain unexpected results.
    """

    query: Annotated[str | None, Field(description="The text of the query; null without one.")]
    truncated: Annotated[bool, Field(description="Whether the end of the text was ignored because it was too long.")]
    match: Annotated[
        bool | None, Field(description="False: nothing matches well, these are only the nearest images. Null: unknown.")
    ]
    matches: Annotated[int | None, Field(ge=0, description="Number of scored candidates that match.")] = None
    threshold: _Threshold
    results: tuple[Result, ...]
    offset: Annotated[int, Field(ge=0)]
    next_offset: Annotated[
        int | None, Field(description="Offset of the next page of the same query; null if there is none.")
    ]
    shortlist: Annotated[int, Field(ge=0, description="Number of candidates scored.")]
    generation: Annotated[
        str, Field(description="The collection searched. Pages of a search are consistent if it is the same.")
    ]
    bundle: Annotated[str, Field(description="Fingerprint of the bundle used.")]
    calibrated: Annotated[bool, Field(description="Whether scores were learned from human ratings.")]
    timings_ms: _Milliseconds
    hints: Annotated[
        tuple[Hint, ...], Field(description="Properties of the query that may explain unexpected results.")
    ] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The answers to several queries, in order."""

    answers: tuple[Answer, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """The score of one image; `id` is None for an uploaded picture."""

    id: Annotated[ImageId | None, Field(description="Null for an uploaded picture.")]
    score: Annotated[float, Field(ge=0, le=1)]
    match: _Match
    similarity: _Cosine


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The scores of images for a text, in the order of the request; see `Answer` for the fields."""

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
    """A unit vector in the joint space, as numbers or as float32, little-endian, in base64."""

    object: Literal["embedding"] = "embedding"
    index: Annotated[int, Field(ge=0)]
    embedding: str | list[float]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingUsage:
    """The number of tokens in the texts."""

    prompt_tokens: int
    total_tokens: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Embeddings:
    """Vectors in the order of the request, in the format of OpenAI's API; `model` is the service's pack."""

    object: Literal["list"] = "list"
    data: tuple[Embedding, ...]
    model: str
    usage: EmbeddingUsage


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """One generation of the index.

    Attributes:
        name: name of the generation.
        live: whether searches use it.
        images: number of images.
        image_fingerprint: fingerprint of the image graph that computed its vectors.
        dimensions: of the joint space.
        created: creation time, in ISO 8601.
        fields: indexed fields, for filters, and their types.
    """

    name: str
    live: Annotated[bool, Field(description="Whether searches use it.")]
    images: Annotated[int, Field(ge=0)]
    image_fingerprint: Annotated[str, Field(description="Fingerprint of the image graph that computed its vectors.")]
    dimensions: Annotated[int, Field(ge=1, description="Dimensions of the joint space.")]
    created: str
    fields: Annotated[dict[str, str], Field(description="Indexed fields, for filters, and their types.")]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Collections:
    """The generations of the index, oldest first, and the bundle in use.

    Attributes:
        live: name of the live generation.
        bundle: fingerprint of the bundle in use.
        pack: pack of the bundle.
        building: whether another generation is being built.
        may_write: whether the caller may add and delete images.
        collections: the generations.
    """

    live: str
    bundle: Annotated[str, Field(description="Fingerprint of the bundle in use.")]
    pack: str
    building: Annotated[bool, Field(description="Whether another generation is being built.")]
    may_write: Annotated[bool, Field(description="Whether you may add and delete images.")] = False
    collections: tuple[Collection, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Feedback:
    """The response to a rating."""

    stored: Annotated[bool, Field(description="False: a rating with this key was already stored.")]
    key: Annotated[str, Field(description="Key of the rating; generated if none was sent.")]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The requested device (`asked`), the device that runs the text graph, and why; `provider` is ONNX Runtime's name.

    `texts_together` is whether queries may be batched: not if a text's vectors depend on the rest of its batch.
    """

    asked: str
    device: str
    provider: str
    why: str
    onnxruntime: str
    texts_together: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """The state of a service that is ready.

    `multilingual` is whether its models support queries in many languages; otherwise queries should be in English.
    `following` is whether the thread that watches the alias is alive. `problem` describes a problem that does not
    prevent searches: why the generation behind the alias is not followed, what is wrong with the key file, or which
    source folders are unavailable.
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
    """A problem in the format of OpenAI's API, whose clients only print the message.

    Attributes:
        message: detail and hint of the problem.
        type: type of the problem.
        param, code: always None, but expected by clients.
    """

    message: str
    type: str
    param: None = None
    code: None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error (RFC 9457); documents may have further members.

    Attributes:
        type: `PROBLEM_TYPE` and a stable name for programs; ``about:blank`` if the status suffices.
        title: the same for every problem of a type.
        status: the HTTP status.
        detail: what went wrong, in one clause.
        hint: what the client can do about it; None if nothing helps.
        request_id: id of the request in the service's log.
        error: the same problem for OpenAI's clients; only from `/v1/embeddings`.
    """

    type: str = "about:blank"
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    hint: Annotated[str | None, Field(description="What the client can do about it."), _IF_GIVEN] = None
    request_id: Annotated[str | None, _IF_GIVEN] = None
    error: Annotated[
        OpenAIError | None, Field(description="For OpenAI's clients; only from `/v1/embeddings`."), _IF_GIVEN
    ] = None


_adapter = functools.cache(TypeAdapter)


def adapter(kind: Any) -> TypeAdapter[Any]:
    """The (cached) pydantic adapter of a class."""
    return _adapter(kind)


def to_json(document: Any, indent: int | None = None) -> bytes:
    """A document as JSON, compact unless indented; fields of a request that have their default are omitted."""
    return adapter(type(document)).dump_json(
        document, indent=indent, by_alias=True, exclude_defaults=hasattr(document, "HINTS")
    )


def to_fields(query: Query) -> dict[str, Any]:
    """A query as the fields of a form or a query string; fields that have their default are omitted."""
    fields: dict[str, Any] = adapter(Query).dump_python(query, by_alias=True, exclude_defaults=True)
    return fields


def read_answer(kind: type[Document], content: bytes) -> Document:
    """Parse a JSON response; unknown fields are ignored.

    Raises:
        pydantic.ValidationError: the content is not a valid response of this kind.
    """
    document: Document = adapter(kind).validate_json(content, strict=True)
    return document


def read_json(kind: type[Document], body: bytes) -> Document:
    """Parse a request from a JSON body, without type coercion.

    Raises:
        InvalidRequest: the body is not a valid request; names the first invalid field.
    """
    return _read(kind, lambda: adapter(kind).validate_json(body, strict=True, by_alias=True, by_name=False))


def read_fields(kind: type[Document], fields: Mapping[str, Any]) -> Document:
    """Parse a request from the strings of a query string or a form.

    Raises:
        InvalidRequest: a field is unknown, or its value is invalid.
    """
    return _read(kind, lambda: adapter(kind).validate_python(dict(fields), by_alias=True, by_name=False))


def _read(kind: type[Document], validate: Callable[[], Any]) -> Document:
    try:
        document: Document = validate()
    except ValidationError as error:
        raise refusal(error, kind) from None
    return document
