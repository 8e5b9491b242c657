"""The requests of the HTTP API `/v1`, as frozen dataclasses; the responses are in `sceneseek.api`.

    Query, QueryBatch   POST /v1/search
    ScoreRequest        POST /v1/score
    EmbeddingRequest    POST /v1/embeddings
    Rating              POST /v1/feedback
    ArchiveArguments    GET /v1/images/archive

A `Query` searches by a text, an indexed image, an uploaded picture or a vector, or by several of these as `Term`s with
weights. Unknown fields are rejected. The module imports pydantic but nothing of the search pipeline.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    WithJsonSchema,
)
from pydantic.dataclasses import dataclass

from sceneseek.errors import InvalidRequest, Unprocessable
from sceneseek.filters.conditions import Filter, field_path
from sceneseek.filters.document import filter_from_json
from sceneseek.filters.words import filter_from_words
from sceneseek.request import (
    DEFAULT_K,
    DEFAULT_SHORTLIST,
    DEFAULT_TEXT_WEIGHT,
    HIGHEST,
    LOWEST,
    MAX_K,
    MAX_SHORTLIST,
    ONE,
    SEVERAL,
)
from sceneseek.terms import (
    REQUEST,
    WHOLE,
    Base64,
    ImageId,
    Part,
    Request,
    Term,
    Terms,
    TermsInWords,
    Text,
    Vector,
    checked,
)

MAX_QUERIES = 32
MAX_IMAGES = 100
MAX_INPUTS = 1_024
MAX_NAME_CHARACTERS = 200

# At least one of these fields is required and must not be null.
_SEARCHABLE: ConfigDict = {
    **REQUEST,
    "json_schema_extra": {
        "anyOf": [
            {"required": [name], "properties": {name: {"not": {"type": "null"}}}}
            for name in ("q", "image", "vector", "terms")
        ]
    },
}


Word: TypeAlias = Annotated[str, Field(examples=["year>=1990"], json_schema_extra={"pattern": r"^\s*\{|[=<>@]"})]
FieldName: TypeAlias = Annotated[
    str,
    AfterValidator(checked(lambda name: (field_path(name.removeprefix("-")), name)[1])),
    Field(max_length=MAX_NAME_CHARACTERS),
]
ShortText: TypeAlias = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MAX_NAME_CHARACTERS,
        json_schema_extra={"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"},
    ),
]
_Share: TypeAlias = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Q = Field(validation_alias="q", serialization_alias="q")
_Condition: TypeAlias = Annotated[dict[str, Any], WithJsonSchema({"$ref": "#/components/schemas/Condition"})]


@dataclass(frozen=True, config=_SEARCHABLE)
class Query(Request):
    """A search by a text, an image, a vector or several terms; uploaded pictures are sent alongside.

    Attributes:
        text: description of a scene, normalized to Unicode NFC; `q` in JSON.
        image: id of an indexed image, which is left out of the results.
        vector: D numbers in the joint space, such as an embedding returned by the service, or their bytes (float32,
            little-endian) in base64; need not be normalized, but must not be 0.
        text_weight: weight of the text, 0 to 1; the image or vector has the rest. Ignored without one.
        terms: further texts, images, pictures and vectors, each with a weight.
        k: number of results, 1 to `MAX_K`.
        offset: number of results to skip, less than `MAX_SHORTLIST`, at which every answer ends.
        shortlist: number of nearest neighbours to rerank, 1 to `MAX_SHORTLIST`; at least k are reranked.
        min_score: leave out results with a lower score; the search does not extend beyond the shortlist.
        filter: a JSON condition, or a list of conditions in short form that must all hold.
        sort: metadata field to sort matching results by, with a leading ``-`` in descending order; images without
            the field come last. If not all parts are texts, all candidates are sorted.
        keep_duplicates: whether near-duplicates of a better result are returned as results of their own.
        explain: whether to explain the rank of each result.

    Raises:
        InvalidRequest: a value has the wrong type or is out of range, a condition cannot be parsed, or there is a
            `min_score` without a text.
    """

    HINTS: ClassVar[Mapping[str, str]] = {
        "q": "describe a scene in a few words, such as: a dog jumping over a log",
        "image": "give the id of a result",
        "vector": "send the numbers of an embedding returned by this service, or their bytes in base64",
        "terms": Term.EXAMPLE,
        "text_weight": "give the weight of the text, from 0 (the image alone) to 1",
        "k": f"ask for 1 to {MAX_K:,} results",
        "offset": f"skip 0 to {MAX_SHORTLIST - 1:,} results",
        "shortlist": f"rerank 1 to {MAX_SHORTLIST:,} nearest neighbours",
        "min_score": "scores are from 0 to 1",
        "filter": 'send a condition such as {"field": "year", "gte": 1990}',
        "sort": "name a metadata field, such as taken, or -taken for the newest first",
        "keep_duplicates": "true also returns near-duplicates of a better result, false (the default) omits them",
        "explain": "true explains the rank of each result",
    }
    EXAMPLE: ClassVar[str] = 'send a JSON object such as {"q": "a dog jumping over a log", "k": 5}'

    text: Annotated[Text | None, _Q] = None
    image: Annotated[
        ImageId | None, Field(description="Id of an indexed image to search by, alone or together with a text.")
    ] = None
    vector: Annotated[
        Vector | None, Field(description="Vector in the joint space to search by: numbers, or float32 in base64.")
    ] = None
    text_weight: Annotated[_Share, Field(description="Weight of the text; an image or a vector has the rest.")] = (
        DEFAULT_TEXT_WEIGHT
    )
    terms: Annotated[
        Terms | None,
        Field(
            description="Further texts, images and vectors to search by, each with a weight.",
            examples=[[{"text": "sunset", "weight": 0.5}, "-people"]],
        ),
    ] = None
    k: Annotated[int, Field(ge=1, le=MAX_K, description="Number of results."), WHOLE] = DEFAULT_K
    offset: Annotated[int, Field(ge=0, lt=MAX_SHORTLIST, description="Number of results to skip."), WHOLE] = 0
    shortlist: Annotated[
        int,
        Field(ge=1, le=MAX_SHORTLIST, description="Number of nearest neighbours to rerank; at least k are reranked."),
        WHOLE,
    ] = DEFAULT_SHORTLIST
    min_score: Annotated[
        _Share | None, Field(description="Leave out results of the shortlist with a lower score; needs a text.")
    ] = None
    filter: Annotated[
        _Condition | list[Word] | None,
        Field(
            description="A condition, or a list of conditions in short form that must all hold.",
            examples=[{"field": "year", "gte": 1990}],
        ),
    ] = None
    sort: Annotated[
        FieldName | None,
        Field(
            description="Metadata field to sort matching results by; a leading `-` sorts in descending order.",
            examples=["taken", "-taken"],
        ),
    ] = None
    keep_duplicates: Annotated[bool, Field(description="Also return near-duplicates of a better result.")] = False
    explain: Annotated[bool, Field(description="Explain the rank of each result.")] = False

    def __post_init__(self) -> None:
        checked(_check_consistency)(self)

    @functools.cached_property
    def where(self) -> Filter | None:
        """The parsed filter; None without one."""
        if isinstance(self.filter, dict):
            return filter_from_json(self.filter)
        return filter_from_words(self.filter or ())

    @functools.cached_property
    def images(self) -> tuple[str, ...]:
        """The ids of the indexed images to search by."""
        return tuple(image for image in (self.image, *(term.image for term in self.terms or ())) if image is not None)

    @property
    def words(self) -> str | None:
        """The scored texts: `text` and the text terms with their weights; None if there are none."""
        texts = [self.text, *(term.in_words() for term in self.terms or () if term.text is not None)]
        return ", ".join(filter(None, texts)) or None

    def parts(self, pictures: int = 0) -> tuple[Part, ...]:
        """The weighted parts of the query: those of the fields, then the terms.

        Args:
            pictures: number of pictures sent with the query; a picture that no term refers to counts as `image`.

        Raises:
            InvalidRequest: there is nothing to search by.
            Unprocessable: all weights are negative; several of image, picture and vector are given other than as
                terms; or a term refers to a picture that was not sent.
        """
        terms = [
            Part(term.weight, term.text, term.file if term.image is None else term.image, term.vector)
            for term in self.terms or ()
        ]
        named = {term.image for term in terms if isinstance(term.image, int)}
        if named - set(range(pictures)):
            raise Unprocessable(
                f"a term names picture {max(named)}, which was not sent",
                'pictures are numbered from 0: {"file": 0, "weight": 0.5}',
            )
        alike = [
            *([Part(1.0, image=self.image)] if self.image is not None else []),
            *(Part(1.0, image=number) for number in range(pictures) if number not in named),
            *([Part(1.0, vector=self.vector)] if self.vector is not None else []),
        ]
        if len(alike) > 1:
            raise Unprocessable("there are two images to search by", "send them as terms, each with a weight")
        text = [] if self.text is None else [Part(1.0, text=self.text)]
        if text and alike:
            text, alike = [replace(text[0], weight=self.text_weight)], [replace(alike[0], weight=1 - self.text_weight)]
        parts = (*text, *alike, *terms)
        if not parts:
            raise InvalidRequest("the field q is missing", self.HINTS["q"])
        if all(part.weight < 0 for part in parts):
            raise Unprocessable("all weights are negative", "add something to search for, with a positive weight")
        return parts

    def by_similarity(self, pictures: int = 0) -> bool:
        """Whether results are ordered by similarity rather than score: if not all parts are texts."""
        return any(part.text is None for part in self.parts(pictures))


def _check_consistency(query: Query) -> None:
    scored = query.text is not None or any(term.text and term.weight > 0 for term in query.terms or ())
    if query.min_score is not None and not scored:
        raise InvalidRequest("min_score is given without a text", "scores need a text: add one, or omit min_score")
    _ = query.where  # parsed and cached here, so that an invalid condition is rejected now


@dataclass(frozen=True, config=REQUEST)
class QueryArguments(Query):
    """A `Query` from a query string, or from a form with uploaded pictures."""

    vector: Annotated[
        Base64 | None,
        Field(description="Vector in the joint space to search by: float32, little-endian, in base64."),
    ] = None
    terms: Annotated[
        TermsInWords | None,
        Field(description="Further terms to search by: `sunset:0.5`, `-people`; ids, `file:0`, or JSON."),
    ] = None
    filter: Annotated[
        list[Word] | None,
        Field(description="Conditions in short form, such as `year>=1990`; may be repeated, all must hold."),
    ] = None


@dataclass(frozen=True, config=REQUEST)
class QueryBatch(Request):
    """Several queries, answered together from the same generation."""

    HINTS: ClassVar[Mapping[str, str]] = {**Query.HINTS, "queries": f"send 1 to {MAX_QUERIES} searches"}
    EXAMPLE: ClassVar[str] = Query.EXAMPLE

    queries: Annotated[list[Query], Field(min_length=1, max_length=MAX_QUERIES)]


@dataclass(frozen=True, config=REQUEST)
class ScoreRequest(Request):
    """A text, and the ids of indexed images to score against it."""

    HINTS: ClassVar[Mapping[str, str]] = {
        "q": Query.HINTS["q"],
        "images": f"give the ids of 1 to {MAX_IMAGES} results",
    }
    EXAMPLE: ClassVar[str] = 'send a JSON object such as {"q": "a dog jumping over a log", "images": ["ID"]}'

    text: Annotated[Text, _Q]
    images: Annotated[list[ImageId], Field(min_length=1, max_length=MAX_IMAGES)]


_Name: TypeAlias = Annotated[str, Field(max_length=MAX_NAME_CHARACTERS)]


@dataclass(frozen=True, config=REQUEST)
class EmbeddingForm(Request):
    """The options of an embedding request for pictures; see `EmbeddingRequest` for texts."""

    HINTS: ClassVar[Mapping[str, str]] = {
        "model": "give the name of the service's pack, or omit it",
        "encoding_format": "give float or base64",
        "dimensions": "omit it: vectors have the width of the joint space",
        "user": "give a short name, or omit it",
    }
    EXAMPLE: ClassVar[str] = 'send a JSON object such as {"input": ["a dog jumping over a log"], "model": "compact"}'

    model: Annotated[_Name | None, Field(description="The name of the service's pack.")] = None
    encoding_format: Annotated[
        Literal["float", "base64"], Field(description="Numbers, or float32, little-endian, in base64.")
    ] = "float"
    dimensions: Annotated[int | None, Field(ge=1, description="The width of the joint space."), WHOLE] = None
    user: Annotated[_Name | None, Field(description="Ignored.")] = None


# The type of the value selects the branch, so that an error in a list is not reported as that of a text.
_Texts: TypeAlias = Annotated[
    Annotated[Text, Tag(ONE)] | Annotated[list[Text], Field(min_length=1, max_length=MAX_INPUTS), Tag(SEVERAL)],
    Discriminator(lambda value: SEVERAL if isinstance(value, list) else ONE),
]


@dataclass(frozen=True, config=REQUEST, kw_only=True)
class EmbeddingRequest(EmbeddingForm):
    """Texts to embed, in the format of OpenAI's API: https://platform.openai.com/docs/api-reference/embeddings."""

    HINTS: ClassVar[Mapping[str, str]] = {
        "input": f"send a text, or a list of 1 to {MAX_INPUTS:,} texts; token ids are not supported",
        **EmbeddingForm.HINTS,
    }

    input: Annotated[_Texts, Field(description="A text or a list of texts.")]

    @property
    def texts(self) -> list[str]:
        """The texts to embed, always as a list."""
        return [self.input] if isinstance(self.input, str) else self.input


@dataclass(frozen=True, config=REQUEST)
class ArchiveArguments(Request):
    """The ids of images to download as one archive."""

    HINTS: ClassVar[Mapping[str, str]] = {"id": f"give the ids of 1 to {MAX_IMAGES} results"}
    EXAMPLE: ClassVar[str] = "ask for ?id=ID&id=ID"

    id: Annotated[list[ImageId], Field(min_length=1, max_length=MAX_IMAGES, description="May be repeated.")]


@dataclass(frozen=True, config=REQUEST)
class ScoreForm(Request):
    """A text to score uploaded pictures against."""

    HINTS: ClassVar[Mapping[str, str]] = {"q": Query.HINTS["q"]}
    EXAMPLE: ClassVar[str] = ScoreRequest.EXAMPLE

    text: Annotated[Text, _Q]


@dataclass(frozen=True, config=REQUEST)
class Rating(Request):
    """A rating of how well an image matches a text.

    Attributes:
        query: the text of the search.
        image: id of the result.
        rating: 1 (does not match) to 4 (matches fully).
        rater: name of the rater; only a rater's last rating of a pair counts.
        key: idempotency key: a rating sent again with the same key is stored once.
    """

    HINTS: ClassVar[Mapping[str, str]] = {
        "query": "give the text of the search",
        "image": "give the id of the result",
        "rating": "rate from 1 (does not match) to 4 (matches fully)",
        "rater": f"give a name of at most {MAX_NAME_CHARACTERS} characters",
        "key": f"give each rating a unique key of at most {MAX_NAME_CHARACTERS} characters",
    }
    EXAMPLE: ClassVar[str] = 'send a JSON object such as {"query": "a lighthouse", "image": "ID", "rating": 4}'

    query: Text
    image: ImageId
    rating: Annotated[
        int,
        Field(
            ge=LOWEST,
            le=HIGHEST,
            description="1: does not match, 2: shares elements, 3: matches except for details, 4: matches fully.",
        ),
        WHOLE,
    ]
    rater: Annotated[
        ShortText | None, Field(description="Name of the rater; only a rater's last rating of a pair counts.")
    ] = None
    key: Annotated[
        ShortText | None, Field(description="Idempotency key: a rating sent again with the same key is stored once.")
    ] = None
