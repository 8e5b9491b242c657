"""The requests of the HTTP API `/v1`, as frozen dataclasses; what they are answered with is in `sceneseek.api`.

    Query, QueryBatch   POST /v1/search
    ScoreRequest        POST /v1/score
    Rating              POST /v1/feedback

A `Query` is by a text, an indexed image, a picture that comes along or a vector; or by several such `Term`s with
weights. Unknown fields are refused. The module loads pydantic and nothing that searches.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Self, TypeAlias, TypeVar
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

Value = TypeVar("Value")

MAX_QUERIES = 32
MAX_IMAGES = 100
MAX_NAME_CHARACTERS = 200

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
