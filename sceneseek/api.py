"""The documents of the HTTP API `/v1`: requests and answers, as frozen dataclasses.

The pipeline takes and returns them, the service reads and writes them as JSON, the client does the reverse, and the
OpenAPI document is made from them. Requests refuse unknown fields. Answers ignore them, so that a client can talk to a
newer service. The module loads pydantic and nothing that searches.

    Query, QueryBatch   POST /v1/search     -> Answer, Answers
    ScoreRequest        POST /v1/score      -> Scores
    Rating              POST /v1/feedback   -> Feedback
                        GET .../details     -> ImageDetails
                        GET /v1/collections -> Collections
                        GET /readyz         -> Readiness
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias, TypeVar
from uuid import UUID

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ArgsKwargs, PydanticCustomError

from sceneseek.errors import InvalidRequest
from sceneseek.filters.conditions import Filter
from sceneseek.filters.document import filter_from_json
from sceneseek.filters.words import filter_from_words
from sceneseek.rating import HIGHEST, LOWEST
from sceneseek.request import (
    DEFAULT_K,
    DEFAULT_SHORTLIST,
    DEFAULT_TEXT_WEIGHT,
    MAX_K,
    MAX_QUERY_CHARACTERS,
    MAX_SHORTLIST,
    REFUSED,
    checked_query,
    refusal,
)

Document = TypeVar("Document")
Value = TypeVar("Value")

MAX_QUERIES = 32
MAX_IMAGES = 100
MAX_NAME_CHARACTERS = 200
PROBLEM_TYPE = "urn:sceneseek:problem:"
"""What the `type` of each of the service's own kinds of problem begins with."""

_REQUEST = ConfigDict(extra="forbid", validate_by_name=True, validate_by_alias=True)
# One of the two must be there and not null.
_SEARCHABLE: ConfigDict = {
    **_REQUEST,
    "json_schema_extra": {
        "anyOf": [{"required": [name], "properties": {name: {"type": "string"}}} for name in ("q", "image")]
    },
}


def _checked(check: Callable[[Any], Value]) -> Callable[[Any], Value]:
    """A validator of pydantic's from a function that raises `InvalidRequest`."""

    @functools.wraps(check)
    def validator(value: Any) -> Value:
        try:
            return check(value)
        except InvalidRequest as error:
            raise PydanticCustomError(REFUSED, "{what}", {"what": error.what, "hint": error.hint}) from None

    return validator


def _uuid(value: Any) -> Any:
    return str(_UUID.validate_python(value)) if isinstance(value, str | UUID) else value


def _whole(value: Any) -> Any:
    """JSON has one kind of number: 5.0 is as whole as 5."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


_UUID = TypeAdapter(UUID)
# What `checked_query` asks for, in the dialect that regular expressions share: no control characters but white space,
# and something that is no white space. Surrogates, which it refuses too, are in no text that is well-formed.
_CONTROL = r"\u0000-\u0008\u000e-\u001b\u007f-\u0084\u0086-\u009f"
_SPACE = r"\u0009-\u000d\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
TEXT_PATTERN = f"^[^{_CONTROL}]*[^{_CONTROL}{_SPACE}][^{_CONTROL}]*$"

Text: TypeAlias = Annotated[
    str,
    AfterValidator(_checked(checked_query)),
    Field(
        description="A scene in words.",
        examples=["a dog jumping over a log"],
        # Stated here, and checked by `checked_query`, which says by how much.
        json_schema_extra={"minLength": 1, "maxLength": MAX_QUERY_CHARACTERS, "pattern": TEXT_PATTERN},
    ),
]
ImageId: TypeAlias = Annotated[str, BeforeValidator(_uuid), Field(json_schema_extra={"format": "uuid"})]
Word: TypeAlias = Annotated[str, Field(examples=["year>=1990"], json_schema_extra={"pattern": r"^\s*\{|[=<>@]"})]
ShortText: TypeAlias = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_NAME_CHARACTERS,
        json_schema_extra={"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"},
    ),
]
# Beside a field's limits, after them: where it comes first, they are no part of the JSON Schema.
_WHOLE = BeforeValidator(_whole)
_Share: TypeAlias = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Q = Field(validation_alias="q", serialization_alias="q")
_Condition: TypeAlias = Annotated[dict[str, Any], WithJsonSchema({"$ref": "#/components/schemas/Condition"})]


@dataclass(frozen=True, config=_REQUEST)
class _Request:
    """A request: `HINTS` says by field what to do where it is refused, `EXAMPLE` what to send."""

    HINTS: ClassVar[Mapping[str, str]] = {}
    EXAMPLE: ClassVar[str] = ""

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_sentence(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Raise `InvalidRequest` where a request is made in Python; `read_json` does so for the whole of a body."""
        try:
            return handler(value)
        except ValidationError as error:
            if isinstance(value, ArgsKwargs):
                raise refusal(error, cls) from None
            raise


@dataclass(frozen=True, config=_SEARCHABLE)
class Query(_Request):
    """One search: by a text, by an indexed image, or by both; a picture may come beside it.

    Attributes:
        text: a scene in words, in Unicode's composed form; `q` in JSON.
        image: the id of an indexed image, which is no result itself.
        text_weight: the text's share, 0 to 1, where there is an image too.
        k: how many results, 1 to `MAX_K`.
        offset: how many results of the same query come before them, less than `MAX_SHORTLIST`, where every answer ends.
        shortlist: how many nearest neighbours are reranked, 1 to `MAX_SHORTLIST`; never fewer than k.
        min_score: results of a lower score are left out; only the candidates are looked through for others.
        filter: a condition as JSON has it, or conditions in short words that must all hold.
        keep_duplicates: whether near-duplicates of a better result are results of their own.
        explain: whether each result says how it came to its rank.

    Raises:
        InvalidRequest: a value is not of its kind or out of its range, a condition cannot be understood, or there is a
            `min_score` without a text.
    """

    HINTS: ClassVar[Mapping[str, str]] = {
        "q": "describe a scene in a few words, such as: a dog jumping over a log",
        "image": "name an image by the id that a result has",
        "text_weight": "give the text's share beside the image from 0 (the image alone) to 1",
        "k": f"ask for 1 to {MAX_K:,} results",
        "offset": f"skip 0 to {MAX_SHORTLIST - 1:,} results",
        "shortlist": f"have 1 to {MAX_SHORTLIST:,} nearest neighbours scored",
        "min_score": "scores are from 0 to 1",
        "filter": 'send a condition such as {"field": "year", "gte": 1990}',
        "keep_duplicates": "true shows near-duplicates of a better result too, false (the default) folds them into it",
        "explain": "true says of each result how rescoring moved it",
    }
    EXAMPLE: ClassVar[str] = 'send a JSON object such as {"q": "a dog jumping over a log", "k": 5}'

    text: Annotated[Text | None, _Q] = None
    image: Annotated[
        ImageId | None, Field(description="Search by this indexed image, alone or together with a text.")
    ] = None
    text_weight: Annotated[_Share, Field(description="The text's share beside an image.")] = DEFAULT_TEXT_WEIGHT
    k: Annotated[int, Field(ge=1, le=MAX_K, description="How many results."), _WHOLE] = DEFAULT_K
    offset: Annotated[
        int, Field(ge=0, lt=MAX_SHORTLIST, description="How many results of the same search come before them."), _WHOLE
    ] = 0
    shortlist: Annotated[
        int,
        Field(ge=1, le=MAX_SHORTLIST, description="How many nearest neighbours are scored; never fewer than k."),
        _WHOLE,
    ] = DEFAULT_SHORTLIST
    min_score: Annotated[
        _Share | None, Field(description="Leave out what of the shortlist has a lower score; needs a text.")
    ] = None
    filter: Annotated[
        _Condition | list[Word] | None,
        Field(
            description="A condition, or conditions in short words that must all hold.",
            examples=[{"field": "year", "gte": 1990}],
        ),
    ] = None
    keep_duplicates: Annotated[bool, Field(description="Show near-duplicates of a better result too.")] = False
    explain: Annotated[bool, Field(description="Say of each result how it came to its rank.")] = False

    def __post_init__(self) -> None:
        _checked(_check_consistency)(self)

    @functools.cached_property
    def where(self) -> Filter | None:
        """The filter as the store takes it."""
        if isinstance(self.filter, dict):
            return filter_from_json(self.filter)
        return filter_from_words(self.filter or ())

    def check(self, picture: bool = False) -> None:
        """Check that there is something to search by.

        Args:
            picture: whether a picture comes beside the query.

        Raises:
            InvalidRequest: there is neither a text nor an image, or there are two images.
        """
        if picture and self.image is not None:
            raise InvalidRequest("there are two images to search by", "send a file or name an id")
        if self.text is None and self.image is None and not picture:
            raise InvalidRequest("the field q is missing", self.HINTS["q"])


def _check_consistency(query: Query) -> None:
    if query.min_score is not None and query.text is None:
        raise InvalidRequest("min_score is given without a text", "scores are of texts: leave it out, or add a text")
    _ = query.where  # parsed once, so that a condition that cannot be understood is refused now


@dataclass(frozen=True, config=_REQUEST)
class QueryArguments(Query):
    """A search in a query string, or in a form beside an uploaded picture."""

    filter: Annotated[
        list[Word] | None,
        Field(description="Conditions in short words, such as `year>=1990`; may be repeated, all must hold."),
    ] = None


@dataclass(frozen=True, config=_REQUEST)
class QueryBatch(_Request):
    """Several searches, answered together and from the same generation."""

    HINTS: ClassVar[Mapping[str, str]] = {**Query.HINTS, "queries": f"send 1 to {MAX_QUERIES} searches"}
    EXAMPLE: ClassVar[str] = Query.EXAMPLE

    queries: Annotated[list[Query], Field(min_length=1, max_length=MAX_QUERIES)]


@dataclass(frozen=True, config=_REQUEST)
class ScoreRequest(_Request):
    """A text, and the ids of indexed images to score it for."""

    HINTS: ClassVar[Mapping[str, str]] = {
        "q": Query.HINTS["q"],
        "images": f"name 1 to {MAX_IMAGES} images by the ids that results have",
    }
    EXAMPLE: ClassVar[str] = 'send a JSON object such as {"q": "a dog jumping over a log", "images": ["ID"]}'

    text: Annotated[Text, _Q]
    images: Annotated[list[ImageId], Field(min_length=1, max_length=MAX_IMAGES)]


@dataclass(frozen=True, config=_REQUEST)
class ScoreForm(_Request):
    """A text, beside pictures to score it for."""

    HINTS: ClassVar[Mapping[str, str]] = {"q": Query.HINTS["q"]}
    EXAMPLE: ClassVar[str] = ScoreRequest.EXAMPLE

    text: Annotated[Text, _Q]


@dataclass(frozen=True, config=_REQUEST)
class Rating(_Request):
    """A rating of how well an image matches a text.

    Attributes:
        query: the text that was searched for.
        image: the id of the result.
        rating: 1 (does not match) to 4 (matches fully).
        rater: who rates; of one rater's ratings of a pair the last counts.
        key: tells this rating from others; one sent twice with the same key is stored once.
    """

    HINTS: ClassVar[Mapping[str, str]] = {
        "query": "say what was searched for",
        "image": "name the image by the id that its result has",
        "rating": "rate from 1 (does not match) to 4 (matches fully)",
        "rater": f"name who rates, in at most {MAX_NAME_CHARACTERS} characters",
        "key": f"give each rating a key of its own, in at most {MAX_NAME_CHARACTERS} characters",
    }
    EXAMPLE: ClassVar[str] = 'send a JSON object such as {"query": "a lighthouse", "image": "ID", "rating": 4}'

    query: Text
    image: ImageId
    rating: Annotated[
        int,
        Field(
            ge=LOWEST,
            le=HIGHEST,
            description="1 does not match, 2 shares elements, 3 matches but for details, 4 matches fully.",
        ),
        _WHOLE,
    ]
    rater: Annotated[
        ShortText | None, Field(description="Who rates: of one rater's ratings of a pair the last counts.")
    ] = None
    key: Annotated[ShortText | None, Field(description="Sent again with the same key, a rating is stored once.")] = None


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
        rank_before: its place among the nearest neighbours of the query, from 1, before reranking.
        rank_after: its place in the answer, from 1.
        text_similarity: joint-space cosine to the text alone; None without a text.
        image_similarity: the same to the image that was searched by; None without one.
    """

    rank_before: Annotated[_Rank, Field(description="Among the nearest neighbours, before rescoring.")]
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
    duplicates: Annotated[int, Field(ge=0, description="How many other images are near-duplicates of it.")]
    image: Annotated[str | None, Field(description="Address of the original on this host."), _IF_GIVEN] = None
    thumbnail: Annotated[str | None, Field(description="Address of a small JPEG."), _IF_GIVEN] = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Result(ImageDetails):
    """One image of an answer; it stands for its near-duplicates too, unless the query keeps them.

    Attributes:
        rank: its place in the answer, from 1.
        score: how well the text matches it, in [0, 1], to six decimals; None where there is no text.
        match: whether that is a match; None where the bundle names no threshold.
        similarity: joint-space cosine to what was searched by, to six decimals.
        explanation: where it was asked for.
    """

    rank: _Rank
    score: _Score
    match: _Match
    similarity: Annotated[_Cosine, Field(description="Cosine to what was searched by.")]
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
        collections: all of them.
    """

    live: str
    bundle: Annotated[str, Field(description="Fingerprint of the bundle that answers.")]
    pack: str
    building: Annotated[bool, Field(description="Whether a process is writing another generation now.")]
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
    """

    type: str = "about:blank"
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    hint: Annotated[str | None, Field(description="What to do about it."), _IF_GIVEN] = None
    request_id: Annotated[str | None, _IF_GIVEN] = None


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
